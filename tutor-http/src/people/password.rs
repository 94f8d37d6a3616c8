//! Passwords: what may be one, and how they are kept.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tutor_core::{Error, ErrorKind, Result};

/// The shortest and the longest password, in characters and in bytes.
const MIN_CHARS: usize = 8;
const MAX_BYTES: usize = 1024;

/// OWASP's recommendation for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// How long somebody waits for a turn at hashing before the server says that it is busy.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// The passwords that are tried first, of at least [`MIN_CHARS`] characters.
const COMMON: &str = include_str!("common_passwords.txt");

/// Refuses what is no good password. No rules of composition: they make passwords worse.
///
/// # Errors
/// `invalid_input`, saying why.
pub(super) fn check(password: &str) -> Result<()> {
    let why = if password.chars().count() < MIN_CHARS {
        "a password has at least 8 characters"
    } else if password.len() > MAX_BYTES {
        "a password has at most 1024 bytes"
    } else if is_common(password) {
        "this password is one of the first that are tried: choose another one"
    } else {
        return Ok(());
    };
    Err(Error::invalid_input(why).with_context("field", "password"))
}

fn is_common(password: &str) -> bool {
    let password = password.to_lowercase();
    COMMON.lines().any(|common| common == password)
}

/// Hashes passwords, off the async threads and only a few at a time: each takes much memory.
#[derive(Debug)]
pub(super) struct Passwords {
    gate: Arc<Semaphore>,
    /// The hash of nobody's password: an unknown account takes as long as a known one.
    dummy: Arc<str>,
}

impl Passwords {
    pub(super) fn new() -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            gate: Arc::new(Semaphore::new(cores)),
            dummy: hash("nobody has this password")?.into(),
        })
    }

    /// What is kept instead of a password.
    pub(super) async fn hash(&self, password: &str) -> Result<String> {
        let password = password.to_owned();
        self.off_thread(move || hash(&password)).await
    }

    /// True if the password is the one of the hash; false, after the same time, if there is none.
    pub(super) async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool> {
        // Longer ones are nobody's, and cost nothing.
        let password: String = if password.len() > MAX_BYTES {
            String::new()
        } else {
            password.to_owned()
        };
        let is_known = hash.is_some();
        let hash: Arc<str> = hash.map_or_else(|| Arc::clone(&self.dummy), Arc::from);
        let matches = self.off_thread(move || verify(&password, &hash)).await?;
        Ok(matches && is_known)
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = tokio::time::timeout(MAX_WAIT, Arc::clone(&self.gate).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(Error::new(
                ErrorKind::Overloaded,
                "too many people sign in at the same time: try again in a moment",
            ));
        };
        let work = move || {
            let _permit: OwnedSemaphorePermit = permit;
            work()
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| Error::internal("hashing a password panicked"))?
    }
}

fn argon2() -> Result<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|_| Error::internal("the parameters of argon2 are wrong"))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(password: &str) -> Result<String> {
    let hash: PasswordHash = argon2()?
        .hash_password(password.as_bytes())
        .map_err(|_| Error::internal("a password could not be hashed"))?;
    Ok(hash.to_string())
}

fn verify(password: &str, hash: &str) -> Result<bool> {
    let hash = PasswordHash::new(hash)
        .map_err(|_| Error::new(ErrorKind::DataCorrupt, "a stored password cannot be read"))?;
    Ok(argon2()?
        .verify_password(password.as_bytes(), &hash)
        .is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_and_commonness_are_all_that_matters() {
        for good in ["correct horse", "ünïcödé!", "        x", &"x y".repeat(300)] {
            assert!(check(good).is_ok(), "{good:?}");
        }
        for bad in [
            "short",
            "password",
            "PASSWORD",
            "12345678",
            &"x".repeat(1025),
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_password_is_known_again_and_kept_by_argon2id() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash("correct horse").await.unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert!(
            passwords
                .verify("correct horse", Some(&hash))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify("correct Horse", Some(&hash))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify("nobody has this password", None)
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify(&"x".repeat(2000), Some(&hash))
                .await
                .unwrap()
        );
    }
}
