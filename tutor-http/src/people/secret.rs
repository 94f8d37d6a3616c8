//! What the server signs with. Made once for a store, so that all instances on it agree.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::Ed25519KeyPair;
use serde::{Deserialize, Serialize};
use tutor_core::store::Documents;
use tutor_core::time::Timestamp;
use tutor_core::{Error, ErrorKind, Result};

use super::{sign_in, token};

const KIND: &str = "secret";
/// Nobody's: no owner's id begins with a slash.
const KEY: &str = "/signing";

/// Keys that verify at a time.
const MAX_KEYS: usize = 16;

/// How much longer than its tokens a key verifies: other instances may sign with it for a moment.
const OVERLAP: Duration = Duration::from_secs(60);

/// Random bytes, as URL-safe text.
pub(super) fn random_text(bytes: usize) -> Result<String> {
    Ok(BASE64_URL_SAFE_NO_PAD.encode(random(bytes)?))
}

fn random(bytes: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    SystemRandom::new()
        .fill(&mut buffer)
        .map_err(|_| Error::internal("the system has no randomness"))?;
    Ok(buffer)
}

/// The keys of a store.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    /// Signing keys, the one that signs first; the others still verify.
    signing: Vec<SigningKey>,
    /// What refresh tokens are made from.
    refresh: String,
}

/// A key that signs access tokens.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SigningKey {
    /// How tokens name it.
    pub(super) id: String,
    /// PKCS #8, as URL-safe base64.
    pkcs8: String,
    /// When it was made; not known of those of earlier releases.
    #[serde(default)]
    pub(super) created_at: Option<Timestamp>,
    /// When it is gone; `None` for the one that signs.
    #[serde(default)]
    pub(super) until: Option<Timestamp>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    pub(super) fn generate(now: Timestamp) -> Result<Self> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| Error::internal("a signing key could not be made"))?;
        Ok(Self {
            id: random_text(6)?,
            pkcs8: BASE64_URL_SAFE_NO_PAD.encode(pkcs8),
            created_at: Some(now),
            until: None,
        })
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    pub(super) fn pkcs8(&self) -> Result<Vec<u8>> {
        BASE64_URL_SAFE_NO_PAD.decode(&self.pkcs8).map_err(|_| {
            Error::new(
                ErrorKind::DataCorrupt,
                "a stored signing key cannot be read",
            )
        })
    }
}

pub(super) struct Secrets {
    pub(super) signing: Vec<SigningKey>,
    pub(super) refresh: Vec<u8>,
}

/// A key, without what is secret of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyInfo {
    /// How tokens name it (`kid`).
    pub(crate) id: String,
    /// When it was made, if that is known.
    pub(crate) created_at: Option<Timestamp>,
    /// When it is gone; `None` for the one that signs.
    pub(crate) until: Option<Timestamp>,
}

impl From<&SigningKey> for KeyInfo {
    fn from(key: &SigningKey) -> Self {
        Self {
            id: key.id.clone(),
            created_at: key.created_at,
            until: key.until,
        }
    }
}

/// Makes a key that signs from now on. The others verify until their tokens have run out; or, if
/// all is to end `at_once`, not any more, and nor is any refresh token good: whoever could read the
/// keys could make both. Returns all keys, the new one first.
///
/// # Errors
/// `conflict` if so many keys verify already that there is no room for another one; errors of the
/// store.
pub(crate) async fn rotate(
    documents: &Documents,
    now: Timestamp,
    at_once: bool,
) -> Result<Vec<KeyInfo>> {
    let (new, refresh) = (SigningKey::generate(now)?, random_text(32)?);
    let until = now.saturating_add(token::LIFETIME).saturating_add(OVERLAP);
    let changed = documents.change(KIND, KEY, |stored: Option<Stored>| {
        let mut stored = stored.unwrap_or_else(|| Stored {
            signing: Vec::new(),
            refresh: refresh.clone(),
        });
        stored.signing.retain(|key| !at_once && !key.is_over(now));
        if at_once {
            stored.refresh.clone_from(&refresh);
        }
        if stored.signing.len() >= MAX_KEYS {
            return Err(Error::conflict(format!(
                "{MAX_KEYS} keys verify tokens already: wait until one is over, or end them at once"
            )));
        }
        for key in &mut stored.signing {
            key.until.get_or_insert(until);
        }
        stored.signing.insert(0, new.clone());
        Ok(Some(stored))
    });
    let stored = changed.await?.after;
    if at_once {
        sign_in::end_everybodys(documents).await?;
    }
    let keys = stored.iter().flat_map(|stored| &stored.signing);
    Ok(keys.map(KeyInfo::from).collect())
}

impl Secrets {
    /// The keys of the store, without those that are over, which are removed; makes them if there
    /// are none.
    pub(super) async fn load(documents: &Documents, now: Timestamp) -> Result<Self> {
        let mut stored = match documents.get::<Stored>(KIND, KEY).await? {
            Some((stored, _)) => stored,
            None => Self::create(documents, now).await?,
        };
        if stored.signing.iter().any(|key| key.is_over(now)) {
            let pruned = documents.update::<Stored>(KIND, KEY, |stored| {
                stored.signing.retain(|key| !key.is_over(now));
                Ok(())
            });
            stored = pruned.await?.unwrap_or(stored);
        }
        Ok(Self {
            signing: stored.signing,
            refresh: stored.refresh.into_bytes(),
        })
    }

    async fn create(documents: &Documents, now: Timestamp) -> Result<Stored> {
        let new = Stored {
            signing: vec![SigningKey::generate(now)?],
            refresh: random_text(32)?,
        };
        // Another instance may have been faster: then its keys count.
        let made = documents.change(KIND, KEY, |stored: Option<Stored>| {
            Ok(Some(stored.unwrap_or_else(|| new.clone())))
        });
        made.await?
            .after
            .ok_or_else(|| Error::internal("the keys were not made"))
    }
}
