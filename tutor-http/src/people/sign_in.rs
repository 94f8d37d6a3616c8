//! Sign-ins: one family of refresh tokens each, of which only the newest is good.
//!
//! A refresh token is `nr_` + account + `.` + family + `.` + number + `.` + a code over them, so
//! nothing of it has to be stored but the newest number.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};
use tutor_core::store::Expect;
use tutor_core::store::document::{Documents, put, remove};
use tutor_core::time::Timestamp;
use tutor_core::{Error, ErrorKind, Result};

use super::secret::Secrets;

/// A sign-in, by its account and family.
const SIGN_IN: &str = "sign-in";

/// How long a sign-in lasts, however often it is refreshed, and how long without being refreshed.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MAX_IDLE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Two requests that refresh at the same moment both get the same successor; later, an old token
/// is a stolen one.
const GRACE: Duration = Duration::from_secs(10);

/// What a person gets for signing in.
pub(crate) struct Tokens {
    /// A bearer token.
    pub(crate) access: String,
    /// How long it is good, in seconds.
    pub(crate) expires_in: u64,
    /// Good once, for the next tokens.
    pub(crate) refresh: String,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// A refreshed sign-in.
pub(super) struct Rotated {
    pub(super) account: String,
    pub(super) family: String,
    pub(super) token: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct SignIn {
    /// The number of the newest token.
    newest: u64,
    began_at: Timestamp,
    /// When the newest token was made.
    refreshed_at: Timestamp,
}

impl SignIn {
    fn is_over(&self, now: Timestamp) -> bool {
        now >= self.began_at.saturating_add(MAX_AGE)
            || now >= self.refreshed_at.saturating_add(MAX_IDLE)
    }
}

pub(super) struct SignIns {
    documents: Documents,
}

impl SignIns {
    pub(super) fn new(documents: Documents) -> Self {
        Self { documents }
    }

    /// What makes tokens, as it is in the store now: after a leak it is another one.
    async fn key(&self, now: Timestamp) -> Result<hmac::Key> {
        let secrets = Secrets::load(&self.documents, now).await?;
        Ok(hmac::Key::new(hmac::HMAC_SHA256, &secrets.refresh))
    }

    /// Begins a sign-in and returns its first refresh token.
    pub(super) async fn begin(
        &self,
        account: &str,
        family: &str,
        now: Timestamp,
    ) -> Result<String> {
        let sign_in = SignIn {
            newest: 1,
            began_at: now,
            refreshed_at: now,
        };
        let write = put(SIGN_IN, &key(account, family), &sign_in, Expect::Absent)?;
        self.documents.commit(vec![write]).await?;
        Ok(token(&self.key(now).await?, account, family, 1))
    }

    /// True if the sign-in belongs to the account and was not ended.
    pub(super) async fn is_alive(
        &self,
        account: &str,
        family: &str,
        now: Timestamp,
    ) -> Result<bool> {
        let key = key(account, family);
        let found = self.documents.get::<SignIn>(SIGN_IN, &key).await?;
        Ok(found.is_some_and(|(sign_in, _)| !sign_in.is_over(now)))
    }

    /// Exchanges a token for the next one.
    ///
    /// # Errors
    /// `unauthorized` for a token that is not the newest; then the sign-in is ended.
    pub(super) async fn rotate(&self, old: &str, now: Timestamp) -> Result<Rotated> {
        let code = self.key(now).await?;
        let (account, family, number) = read(&code, old).ok_or_else(refused)?;
        let mut is_stolen = false;
        let changed = self
            .documents
            .update::<SignIn>(SIGN_IN, &key(account, family), |sign_in| {
                if sign_in.is_over(now) {
                    return Err(refused());
                }
                let age = now.saturating_since(sign_in.refreshed_at);
                if number == sign_in.newest {
                    sign_in.newest += 1;
                    sign_in.refreshed_at = now;
                    Ok(())
                } else if number + 1 == sign_in.newest && age <= GRACE {
                    Ok(())
                } else {
                    is_stolen = true;
                    Err(refused())
                }
            })
            .await;
        if is_stolen {
            tracing::warn!("an old refresh token was used again: its sign-in was ended");
            self.end(account, family).await?;
        }
        let sign_in = changed?.ok_or_else(refused)?;
        Ok(Rotated {
            token: token(&code, account, family, sign_in.newest),
            account: account.to_owned(),
            family: family.to_owned(),
        })
    }

    /// Ends a sign-in.
    pub(super) async fn end(&self, account: &str, family: &str) -> Result<()> {
        let ended = remove(SIGN_IN, &key(account, family));
        self.documents.commit(vec![ended]).await
    }

    /// Ends all sign-ins of an account, but for one.
    pub(super) async fn end_all(&self, account: &str, except: Option<&str>) -> Result<()> {
        let prefix = key(account, "");
        for key in self.documents.keys(SIGN_IN, &prefix).await? {
            let family = key.strip_prefix(&prefix).unwrap_or_default();
            if Some(family) != except {
                self.end(account, family).await?;
            }
        }
        Ok(())
    }
}

/// Ends all sign-ins: who has one has to give a password again.
pub(super) async fn end_everybodys(documents: &Documents) -> Result<()> {
    for key in documents.keys(SIGN_IN, "").await? {
        documents.commit(vec![remove(SIGN_IN, &key)]).await?;
    }
    Ok(())
}

fn token(code: &hmac::Key, account: &str, family: &str, number: u64) -> String {
    let signed = format!("{account}.{family}.{number}");
    let code = hmac::sign(code, signed.as_bytes());
    format!("nr_{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(code))
}

/// The account, the family and the number of a token that we made.
fn read<'a>(key: &hmac::Key, token: &'a str) -> Option<(&'a str, &'a str, u64)> {
    let (signed, code) = token.strip_prefix("nr_")?.rsplit_once('.')?;
    let code = BASE64_URL_SAFE_NO_PAD.decode(code).ok()?;
    hmac::verify(key, signed.as_bytes(), &code).ok()?;
    let (rest, number) = signed.rsplit_once('.')?;
    let (account, family) = rest.rsplit_once('.')?;
    Some((account, family, number.parse().ok()?))
}

fn key(account: &str, family: &str) -> String {
    format!("{account}/{family}")
}

/// The one answer to every token that is no good.
pub(super) fn refused() -> Error {
    Error::new(
        ErrorKind::Unauthorized,
        "this refresh token is not valid any more: sign in again",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tutor_core::store::MemoryStore;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(0);

    fn sign_ins() -> SignIns {
        let documents = Documents::new(Arc::new(MemoryStore::new()));
        SignIns::new(documents)
    }

    fn after(wait: Duration) -> Timestamp {
        NOW.saturating_add(wait)
    }

    #[tokio::test]
    async fn a_token_is_good_once_and_its_reuse_ends_the_sign_in() {
        let sign_ins = sign_ins();
        let first = sign_ins.begin("a", "f", NOW).await.unwrap();
        let second = sign_ins.rotate(&first, NOW).await.unwrap();
        assert_eq!(
            (second.account.as_str(), second.family.as_str()),
            ("a", "f")
        );
        let later = after(GRACE + Duration::from_secs(1));
        let third = sign_ins.rotate(&second.token, later).await.unwrap();
        assert!(sign_ins.is_alive("a", "f", later).await.unwrap());
        assert!(sign_ins.rotate(&first, later).await.is_err());
        assert!(!sign_ins.is_alive("a", "f", later).await.unwrap());
        assert!(sign_ins.rotate(&third.token, later).await.is_err());
    }

    #[tokio::test]
    async fn two_refreshes_at_the_same_moment_have_one_successor() {
        let sign_ins = sign_ins();
        let first = sign_ins.begin("a", "f", NOW).await.unwrap();
        let (one, two) = tokio::join!(sign_ins.rotate(&first, NOW), sign_ins.rotate(&first, NOW));
        let (one, two) = (one.unwrap().token, two.unwrap().token);
        assert_eq!(one, two);
        assert!(sign_ins.rotate(&one, NOW).await.is_ok());
    }

    #[tokio::test]
    async fn a_sign_in_ends_by_age_and_by_idleness() {
        let sign_ins = sign_ins();
        let token = sign_ins.begin("a", "f", NOW).await.unwrap();
        assert!(sign_ins.rotate(&token, after(MAX_IDLE)).await.is_err());
        let mut token = sign_ins.begin("a", "g", NOW).await.unwrap();
        for day in 1..30 {
            let now = after(Duration::from_secs(day * 24 * 60 * 60));
            token = sign_ins.rotate(&token, now).await.unwrap().token;
        }
        assert!(sign_ins.rotate(&token, after(MAX_AGE)).await.is_err());
    }

    #[tokio::test]
    async fn what_we_did_not_make_is_refused() {
        let sign_ins = sign_ins();
        let token = sign_ins.begin("a", "f", NOW).await.unwrap();
        for bad in [
            "",
            "nr_",
            "nr_a.f.1.x",
            "f.1",
            &token.replace(".1.", ".2."),
            &format!("{token}A"),
        ] {
            assert!(sign_ins.rotate(bad, NOW).await.is_err(), "{bad}");
        }
        assert!(sign_ins.rotate(&token, NOW).await.is_ok());
    }

    #[tokio::test]
    async fn all_sign_ins_of_an_account_end_but_the_one_that_asks() {
        let sign_ins = sign_ins();
        for (account, family) in [("a", "f"), ("a", "g"), ("ab", "h")] {
            sign_ins.begin(account, family, NOW).await.unwrap();
        }
        sign_ins.end_all("a", Some("g")).await.unwrap();
        assert!(!sign_ins.is_alive("a", "f", NOW).await.unwrap());
        assert!(sign_ins.is_alive("a", "g", NOW).await.unwrap());
        assert!(sign_ins.is_alive("ab", "h", NOW).await.unwrap());
        assert!(!sign_ins.is_alive("a", "h", NOW).await.unwrap());
    }
}
