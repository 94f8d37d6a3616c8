//! What the server signs with. Made once for a store, so that all instances on it agree.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::Ed25519KeyPair;
use serde::{Deserialize, Serialize};
use tutor_core::store::Expect;
use tutor_core::store::document::{Documents, put};
use tutor_core::{Error, ErrorKind, Result};

const KIND: &str = "secret";
const KEY: &str = "signing";

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
#[derive(Serialize, Deserialize)]
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
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    pub(super) fn generate() -> Result<Self> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| Error::internal("a signing key could not be made"))?;
        Ok(Self {
            id: random_text(6)?,
            pkcs8: BASE64_URL_SAFE_NO_PAD.encode(pkcs8),
        })
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

impl Secrets {
    /// The keys of the store; makes them if there are none.
    pub(super) async fn load(documents: &Documents) -> Result<Self> {
        let stored = match documents.get::<Stored>(KIND, KEY).await? {
            Some((stored, _)) => stored,
            None => Self::create(documents).await?,
        };
        Ok(Self {
            signing: stored.signing,
            refresh: stored.refresh.into_bytes(),
        })
    }

    async fn create(documents: &Documents) -> Result<Stored> {
        let new = Stored {
            signing: vec![SigningKey::generate()?],
            refresh: random_text(32)?,
        };
        match documents
            .commit(vec![put(KIND, KEY, &new, Expect::Absent)?])
            .await
        {
            Ok(()) => Ok(new),
            // Another instance was faster: its keys count.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                let stored = documents.get(KIND, KEY).await?;
                stored.map(|(stored, _)| stored).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }
}
