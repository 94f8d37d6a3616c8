//! The head of a token, before anything of it is believed.
//!
//! The library that checks signatures passes over what it does not know. Here everything that is
//! not known is seen, and refused: extensions that would have to be understood (`crit`, `b64`,
//! `zip`), and keys that the token brings itself or wants fetched (`jwk`, `jku`, `x5c`, `x5u`).

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// The longest token that is looked at, in bytes.
pub(super) const MAX_BYTES: usize = 4096;

/// The longest name of a key, in bytes.
const MAX_KEY_BYTES: usize = 256;

/// Fingerprints of a certificate, which some issuers send. They are not looked at.
const FINGERPRINTS: [&str; 2] = ["x5t", "x5t#S256"];

/// What a token says of itself.
#[derive(Debug)]
pub(super) struct Head<'a> {
    /// All of it.
    pub(super) token: &'a str,
    /// What it claims to be signed with (`alg`).
    pub(super) algorithm: String,
    /// The name of the key (`kid`).
    pub(super) key: String,
    /// What kind of token it claims to be (`typ`).
    pub(super) kind: Option<String>,
    /// True if there is a fingerprint as well.
    pub(super) has_more: bool,
}

impl<'a> Head<'a> {
    /// The head of a token; `None` for one that nobody should look at further.
    pub(super) fn read(token: &'a str) -> Option<Self> {
        if token.len() > MAX_BYTES || token.matches('.').count() != 2 {
            return None;
        }
        let header: Map<String, Value> = decode(token.split('.').next()?)?;
        let mut head = Self {
            token,
            algorithm: String::new(),
            key: String::new(),
            kind: None,
            has_more: false,
        };
        for (name, value) in header {
            let Value::String(value) = value else {
                return None;
            };
            match name.as_str() {
                "alg" => head.algorithm = value,
                "kid" => head.key = value,
                "typ" => head.kind = Some(value),
                name if FINGERPRINTS.contains(&name) => head.has_more = true,
                _ => return None,
            }
        }
        let is_named = (1..=MAX_KEY_BYTES).contains(&head.key.len());
        (is_named && !head.algorithm.is_empty()).then_some(head)
    }

    /// Who the token says that it is from (`iss`): to find out who has to confirm it.
    pub(super) fn claimed_issuer(&self) -> Option<String> {
        let claims: Map<String, Value> = decode(self.token.split('.').nth(1)?)?;
        match claims.get("iss")? {
            Value::String(issuer) => Some(issuer.clone()),
            _ => None,
        }
    }
}

fn decode(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
