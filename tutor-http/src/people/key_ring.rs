//! The keys that sign and verify our tokens, as they are in the store now: another instance, or a
//! command, may have made a new one.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tutor_core::store::Documents;
use tutor_core::time::Timestamp;
use tutor_core::{ErrorKind, Result};

use super::head::Head;
use super::secret::Secrets;
use super::token::{Claims, Issuer};

/// How long keys are used without looking whether they are still good.
const MAX_AGE: Duration = Duration::from_secs(5);

/// How often it is looked whether there is a key that is not known, however many tokens name one.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct KeyRing {
    documents: Documents,
    held: Mutex<Held>,
    /// One looks at a time; who waits for it uses what it found.
    reading: tokio::sync::Mutex<()>,
}

struct Held {
    issuer: Arc<Issuer>,
    read_at: Instant,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").finish_non_exhaustive()
    }
}

impl KeyRing {
    pub(super) fn new(documents: Documents, secrets: Secrets) -> Result<Self> {
        let issuer = Arc::new(Issuer::new(secrets.signing)?);
        Ok(Self {
            documents,
            held: Mutex::new(Held {
                issuer,
                read_at: Instant::now(),
            }),
            reading: tokio::sync::Mutex::new(()),
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest key signs, also a moment after it was made elsewhere.
    pub(super) async fn sign(&self, claims: &Claims, now: Timestamp) -> Result<String> {
        self.read(now).await?.sign(claims)
    }

    /// What a token says; `None` for every token that we would not have made.
    pub(super) async fn verify(&self, head: &Head<'_>, now: Timestamp) -> Option<Claims> {
        let mut issuer = self.not_older_than(MAX_AGE, now).await;
        if !issuer.knows(head) {
            issuer = self.not_older_than(PAUSE, now).await;
        }
        issuer.verify(head, now)
    }

    async fn not_older_than(&self, age: Duration, now: Timestamp) -> Arc<Issuer> {
        let young = || {
            let held = self.held();
            (held.read_at.elapsed() < age).then(|| Arc::clone(&held.issuer))
        };
        if let Some(issuer) = young() {
            return issuer;
        }
        let _reading = self.reading.lock().await;
        if let Some(issuer) = young() {
            return issuer;
        }
        match self.read(now).await {
            Ok(issuer) => issuer,
            Err(error) => {
                if error.kind() != ErrorKind::StoreUnavailable {
                    tracing::warn!(%error, "the keys of tokens cannot be read: those before stay");
                }
                let mut held = self.held();
                held.read_at = Instant::now();
                Arc::clone(&held.issuer)
            }
        }
    }

    async fn read(&self, now: Timestamp) -> Result<Arc<Issuer>> {
        let secrets = Secrets::load(&self.documents, now).await?;
        let issuer = Arc::new(Issuer::new(secrets.signing)?);
        let mut held = self.held();
        held.issuer = Arc::clone(&issuer);
        held.read_at = Instant::now();
        Ok(issuer)
    }
}

#[cfg(test)]
mod tests {
    use tutor_core::store::MemoryStore;

    use super::*;
    use crate::people::account::{Account, Role};
    use crate::people::secret::{self, KeyInfo};

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn after(seconds: u64) -> Timestamp {
        NOW.saturating_add(Duration::from_secs(seconds))
    }

    /// What one instance on a store has in memory.
    async fn ring(documents: &Documents) -> KeyRing {
        let secrets = Secrets::load(documents, NOW).await.unwrap();
        KeyRing::new(documents.clone(), secrets).unwrap()
    }

    fn documents() -> Documents {
        Documents::new(Arc::new(MemoryStore::new()))
    }

    async fn token(ring: &KeyRing, now: Timestamp) -> String {
        let email = "ada@example.org".to_owned();
        let ada = Account::new("a1".into(), email, String::new(), Role::User, now);
        let claims = Claims::new(&ada, "f1", "j1".into(), now);
        ring.sign(&claims, now).await.unwrap()
    }

    async fn is_good(ring: &KeyRing, token: &str, now: Timestamp) -> bool {
        ring.verify(&Head::read(token).unwrap(), now)
            .await
            .is_some()
    }

    fn key_of(token: &str) -> String {
        Head::read(token).unwrap().key
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_key_signs_at_once_and_the_old_one_verifies_until_its_tokens_are_over() {
        let documents = documents();
        let (here, there) = (ring(&documents).await, ring(&documents).await);
        let old = token(&here, NOW).await;
        let keys = secret::rotate(&documents, NOW, false).await.unwrap();
        let new = token(&here, NOW).await;
        assert_eq!(key_of(&new), keys[0].id);
        assert_ne!(key_of(&new), key_of(&old));
        // Neither was told of it.
        tokio::time::advance(PAUSE).await;
        for ring in [&here, &there] {
            assert!(is_good(ring, &old, after(14 * 60)).await);
            assert!(is_good(ring, &new, after(1)).await);
        }
        tokio::time::advance(MAX_AGE).await;
        let late = after(17 * 60);
        assert!(
            !is_good(&there, &token(&here, NOW).await, late).await,
            "it has expired"
        );
        let left: Vec<KeyInfo> = secret::rotate(&documents, late, false).await.unwrap();
        assert!(
            left.iter().all(|key| key.id != key_of(&old)),
            "the old key is gone"
        );
        assert_eq!(left.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_leak_other_instances_refuse_the_old_keys_within_seconds() {
        let documents = documents();
        let (here, there) = (ring(&documents).await, ring(&documents).await);
        let old = token(&there, NOW).await;
        assert!(is_good(&here, &old, NOW).await);
        let keys = secret::rotate(&documents, NOW, true).await.unwrap();
        assert_eq!(keys.len(), 1);
        tokio::time::advance(MAX_AGE).await;
        assert!(!is_good(&here, &old, NOW).await);
        assert!(is_good(&here, &token(&there, NOW).await, NOW).await);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_removed_once_they_are_over_and_never_pile_up() {
        let documents = documents();
        ring(&documents).await;
        let mut rotated = Ok(Vec::new());
        for _ in 0..20 {
            rotated = secret::rotate(&documents, NOW, false).await;
        }
        assert_eq!(rotated.unwrap_err().kind(), ErrorKind::Conflict);
        let left = Secrets::load(&documents, after(17 * 60)).await.unwrap();
        assert_eq!(left.signing.len(), 1);
        secret::rotate(&documents, after(17 * 60), false)
            .await
            .unwrap();
    }
}
