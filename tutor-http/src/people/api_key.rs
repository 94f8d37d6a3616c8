//! API keys: for programs. Shown once; of the secret only a digest is kept.

use std::fmt;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tutor_core::store::document::{Documents, nobodys, put, remove};
use tutor_core::store::{Expect, KeyRange};
use tutor_core::time::Timestamp;
use tutor_core::{Error, Result};

use super::principal::{Scope, unauthorized};
use super::secret::random_text;

/// From its id to a key.
const KEY: &str = "api-key";
/// From owner and key to nothing: which keys a person has.
const OF_OWNER: &str = "api-key-of";

const PREFIX: &str = "nt_";
const ID_BYTES: usize = 9;
const SECRET_BYTES: usize = 32;

/// The most keys that a person may have.
const MAX_KEYS: usize = 100;

/// How exactly it is known when a key was used last.
const USE_RESOLUTION: Duration = Duration::from_secs(60);

/// A key, without its secret.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ApiKey {
    pub(crate) id: String,
    pub(crate) owner: String,
    pub(crate) name: String,
    pub(crate) scopes: Vec<Scope>,
    digest: Vec<u8>,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) last_used_at: Option<Timestamp>,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("id", &self.id)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

impl ApiKey {
    /// What of the key may be shown.
    pub(crate) fn prefix(&self) -> String {
        format!("{PREFIX}{}", self.id)
    }
}

/// A key to make.
#[derive(Debug)]
pub(crate) struct NewApiKey {
    pub(crate) name: String,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) expires_at: Option<Timestamp>,
}

/// True if the token looks like a key of ours.
pub(super) fn is_key(token: &str) -> bool {
    token.starts_with(PREFIX)
}

fn digest_of(secret: &str) -> Vec<u8> {
    digest(&SHA256, secret.as_bytes()).as_ref().to_vec()
}

#[derive(Debug)]
pub(crate) struct ApiKeys(Documents);

impl ApiKeys {
    pub(super) fn new(documents: Documents) -> Self {
        Self(documents)
    }

    /// Makes a key, and returns it with its text, which is never seen again.
    pub(crate) async fn create(
        &self,
        owner: &str,
        new: NewApiKey,
        now: Timestamp,
    ) -> Result<(ApiKey, String)> {
        let prefix = index(owner, "");
        if self.0.keys(OF_OWNER, &prefix).await?.len() >= MAX_KEYS {
            return Err(Error::conflict(format!(
                "there are {MAX_KEYS} keys already: delete one first"
            )));
        }
        let (id, secret) = (random_text(ID_BYTES)?, random_text(SECRET_BYTES)?);
        let key = ApiKey {
            digest: digest_of(&secret),
            owner: owner.to_owned(),
            name: new.name,
            scopes: new.scopes,
            created_at: now,
            expires_at: new.expires_at,
            last_used_at: None,
            id,
        };
        let writes = vec![
            put(KEY, &nobodys(&key.id), &key, Expect::Absent)?,
            put(OF_OWNER, &index(owner, &key.id), &(), Expect::Any)?,
        ];
        self.0.commit(writes).await?;
        let text = format!("{}.{secret}", key.prefix());
        Ok((key, text))
    }

    /// The key of this text.
    ///
    /// # Errors
    /// `unauthorized`, whatever is wrong.
    pub(super) async fn verify(&self, text: &str, now: Timestamp) -> Result<ApiKey> {
        let parts = text
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('.'));
        let (id, secret) = parts.ok_or_else(unauthorized)?;
        if id.len() > 2 * ID_BYTES {
            return Err(unauthorized());
        }
        let found = self.0.get::<ApiKey>(KEY, &nobodys(id)).await?;
        let (key, _) = found.ok_or_else(unauthorized)?;
        let is_right = constant_time_eq(&digest_of(secret), &key.digest);
        if !is_right || key.expires_at.is_some_and(|end| end <= now) {
            return Err(unauthorized());
        }
        let is_stale = key
            .last_used_at
            .is_none_or(|last| now.saturating_since(last) >= USE_RESOLUTION);
        if is_stale {
            let id = nobodys(id);
            let used = self.0.update::<ApiKey>(KEY, &id, |key| {
                key.last_used_at = Some(now);
                Ok(())
            });
            if let Err(error) = used.await {
                tracing::warn!(%error, "the use of an API key could not be noted");
            }
        }
        Ok(key)
    }

    /// The key of this id, if it has not expired.
    pub(super) async fn by_id(&self, id: &str, now: Timestamp) -> Result<Option<ApiKey>> {
        let found = self.0.get::<ApiKey>(KEY, &nobodys(id)).await?;
        let key = found.map(|(key, _)| key);
        Ok(key.filter(|key| key.expires_at.is_none_or(|end| now < end)))
    }

    /// The keys of a person.
    pub(crate) async fn list(&self, owner: &str) -> Result<Vec<ApiKey>> {
        let prefix = index(owner, "");
        let range = KeyRange {
            prefix: prefix.clone(),
            after: None,
        };
        let mut keys = Vec::new();
        for (index, ()) in self.0.scan::<()>(OF_OWNER, range, MAX_KEYS).await? {
            let id = index.strip_prefix(&prefix).unwrap_or_default();
            keys.extend(
                self.0
                    .get::<ApiKey>(KEY, &nobodys(id))
                    .await?
                    .map(|(key, _)| key),
            );
        }
        Ok(keys)
    }

    /// Deletes a key of a person; false if they have none of this id.
    pub(crate) async fn delete(&self, owner: &str, id: &str) -> Result<bool> {
        let index = index(owner, id);
        if self.0.get::<()>(OF_OWNER, &index).await?.is_none() {
            return Ok(false);
        }
        self.0
            .commit(vec![remove(KEY, &nobodys(id)), remove(OF_OWNER, &index)])
            .await?;
        Ok(true)
    }

    pub(super) async fn delete_all(&self, owner: &str) -> Result<()> {
        for key in self.list(owner).await? {
            self.delete(owner, &key.id).await?;
        }
        Ok(())
    }
}

fn index(owner: &str, id: &str) -> String {
    format!("{owner}/{id}")
}

/// Compares digests without telling by the time where they differ.
fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tutor_core::store::MemoryStore;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(0);

    fn keys() -> ApiKeys {
        ApiKeys::new(Documents::new(Arc::new(MemoryStore::new())))
    }

    fn new() -> NewApiKey {
        NewApiKey {
            name: "script".into(),
            scopes: vec![Scope::Read],
            expires_at: Some(NOW.saturating_add(Duration::from_secs(60))),
        }
    }

    #[tokio::test]
    async fn a_key_is_known_by_its_whole_text_until_it_expires_or_is_deleted() {
        let keys = keys();
        let (key, text) = keys.create("a", new(), NOW).await.unwrap();
        assert_eq!(keys.verify(&text, NOW).await.unwrap().owner, "a");
        for bad in [
            key.prefix(),
            format!("{}.", key.prefix()),
            format!("{}.wrong", key.prefix()),
            format!("{text}x"),
            text.replacen(&key.id, "other", 1),
            "nt_".to_owned(),
        ] {
            assert!(keys.verify(&bad, NOW).await.is_err(), "{bad}");
        }
        let later = NOW.saturating_add(Duration::from_secs(60));
        assert!(keys.verify(&text, later).await.is_err());
        assert!(!keys.delete("b", &key.id).await.unwrap());
        assert!(keys.delete("a", &key.id).await.unwrap());
        assert!(keys.verify(&text, NOW).await.is_err());
    }

    #[tokio::test]
    async fn a_person_sees_their_own_keys_and_when_they_were_used() {
        let keys = keys();
        let (key, text) = keys.create("a", new(), NOW).await.unwrap();
        keys.create("ab", new(), NOW).await.unwrap();
        keys.verify(&text, NOW).await.unwrap();
        let listed = keys.list("a").await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(
            (&listed[0].id, listed[0].last_used_at),
            (&key.id, Some(NOW))
        );
    }
}
