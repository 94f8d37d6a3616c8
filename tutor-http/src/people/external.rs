//! People whose sign-ins are made elsewhere: tokens of external issuers, such as a school's.
//!
//! Whoever an issuer vouches for gets an owner of their own, made from the issuer and their name
//! there: it never is that of an account of this server, or of somebody of another issuer.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation};
use ring::digest::{Context, SHA256};
use serde_json::{Map, Value};
use tutor_core::Result;
use tutor_core::time::Timestamp;

use super::account::Role;
use super::head::Head;
use super::jwks::{KeySet, KeySource};
use super::signature;
use super::token::{LEEWAY, seconds};

/// How the ids of their owners begin. Those of accounts are UUIDs.
const OWNER_PREFIX: &str = "ext-";

/// What their tokens may call themselves (`typ`), in lower case.
const KINDS: [&str; 3] = ["at+jwt", "application/at+jwt", "jwt"];

/// The longest name of somebody at their issuer, and the longest address, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// An issuer that is trusted to say who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuerConfig {
    /// What it is called here.
    pub name: String,
    /// What it calls itself (`iss`).
    pub issuer: String,
    /// What its tokens must be for (`aud`): one of these.
    pub audience: Vec<String>,
    /// Where its public keys are.
    pub keys: KeySource,
    /// What it signs with. Never anything with a shared secret.
    pub algorithms: Vec<Algorithm>,
    /// The claim that says who somebody is.
    pub subject: String,
    /// The claim with somebody's roles, and the role that makes an administrator here; `None` if
    /// nobody of this issuer is one. A dot leads into a claim: `realm_access.roles`.
    pub admin: Option<(String, String)>,
    /// The longest that a token may be good for.
    pub max_lifetime: Duration,
}

impl IssuerConfig {
    /// An issuer with the usual settings.
    pub fn new(
        name: impl Into<String>,
        issuer: impl Into<String>,
        audience: impl Into<String>,
        keys: KeySource,
    ) -> Self {
        Self {
            name: name.into(),
            issuer: issuer.into(),
            audience: vec![audience.into()],
            keys,
            algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
            subject: "sub".to_owned(),
            admin: None,
            max_lifetime: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// The algorithm of this name, if an external issuer may use it.
pub(crate) fn algorithm(name: &str) -> Option<Algorithm> {
    let found: Algorithm = name.parse().ok()?;
    signature::ALGORITHMS.contains(&found).then_some(found)
}

/// The names of all algorithms that an external issuer may use.
pub(crate) fn algorithms() -> String {
    let names = signature::ALGORITHMS.map(|algorithm| format!("{algorithm:?}"));
    names.join(", ")
}

/// Somebody for whom an issuer vouches.
pub(super) struct Vouched {
    /// Their owner here.
    pub(super) owner: String,
    /// What the issuer is called here.
    pub(super) issuer: String,
    /// Their address, if the issuer says it.
    pub(super) email: Option<String>,
    pub(super) role: Role,
}

/// An issuer and its keys.
pub(super) struct ExternalIssuer {
    config: IssuerConfig,
    keys: KeySet,
}

impl fmt::Debug for ExternalIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalIssuer")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl ExternalIssuer {
    pub(super) fn new(config: IssuerConfig) -> Result<Self> {
        signature::install();
        Ok(Self {
            keys: KeySet::new(config.keys.clone())?,
            config,
        })
    }

    /// Asks for its keys already, so that the first token need not wait.
    pub(super) async fn prepare(&self) {
        self.keys.read_again().await;
    }

    pub(super) fn is_called(&self, issuer: &str) -> bool {
        self.config.issuer == issuer
    }

    /// Who sends a token with this head; `None` unless all of it is as it has to be.
    pub(super) async fn verify(&self, head: &Head<'_>, now: Timestamp) -> Option<Vouched> {
        let kind = head.kind.as_deref()?.to_ascii_lowercase();
        let algorithm = algorithm(&head.algorithm)?;
        if !KINDS.contains(&kind.as_str()) || !self.config.algorithms.contains(&algorithm) {
            return None;
        }
        let key = self.keys.key(&head.key).await?;
        if !key.fits(algorithm, &head.algorithm) {
            return None;
        }
        let mut validation = Validation::new(algorithm);
        // All of it is compared below, by the engine's clock.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let token =
            jsonwebtoken::decode::<Map<String, Value>>(head.token, &key.key, &validation).ok()?;
        self.accept(&token.claims, seconds(now))
    }

    fn accept(&self, claims: &Map<String, Value>, now: i64) -> Option<Vouched> {
        let config = &self.config;
        let whole = |name: &str| claims.get(name).and_then(Value::as_i64);
        let (issued, expires) = (whole("iat")?, whole("exp")?);
        let begins = match claims.get("nbf") {
            Some(begins) => begins.as_i64()?,
            None => issued,
        };
        let lifetime = expires.checked_sub(issued)?;
        let max_lifetime = i64::try_from(config.max_lifetime.as_secs()).ok()?;
        let latest = now.saturating_add(LEEWAY);
        if expires <= now || begins > latest || issued > latest || lifetime > max_lifetime {
            return None;
        }
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if text("iss") != Some(&config.issuer) || !is_for(claims.get("aud")?, &config.audience) {
            return None;
        }
        let is_name = |text: &&str| {
            (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.contains(char::is_control)
        };
        let subject = text(&config.subject).filter(is_name)?;
        let is_admin = config
            .admin
            .as_ref()
            .is_some_and(|(claim, role)| has_role(claims, claim, role));
        Some(Vouched {
            owner: owner(&config.issuer, subject),
            issuer: config.name.clone(),
            email: text("email").filter(is_name).map(str::to_owned),
            role: if is_admin { Role::Admin } else { Role::User },
        })
    }
}

/// The owner of somebody of an issuer.
fn owner(issuer: &str, subject: &str) -> String {
    let mut digest = Context::new(&SHA256);
    // No URL has this character: no two pairs are written alike.
    for part in [issuer, "\0", subject] {
        digest.update(part.as_bytes());
    }
    format!(
        "{OWNER_PREFIX}{}",
        BASE64_URL_SAFE_NO_PAD.encode(digest.finish())
    )
}

/// True if a token is for one of these.
fn is_for(audience: &Value, ours: &[String]) -> bool {
    let is_ours = |text: &Value| {
        text.as_str()
            .is_some_and(|text| ours.iter().any(|o| o == text))
    };
    match audience {
        Value::Array(list) => list.iter().any(is_ours),
        one => is_ours(one),
    }
}

/// True if the claim is this role, or a list with it.
fn has_role(claims: &Map<String, Value>, path: &str, role: &str) -> bool {
    // Some names have dots themselves.
    let claim = claims.get(path).or_else(|| {
        let mut parts = path.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    });
    match claim {
        Some(Value::Array(list)) => list.iter().any(|item| item == role),
        Some(one) => one == role,
        None => false,
    }
}

#[cfg(test)]
mod tests;
