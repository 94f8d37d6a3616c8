//! Access tokens: short-lived, signed, and refused for anything that is not exactly as we make them.
//!
//! The library checks the signature. What it lets through is checked here: members of the header
//! that it ignores, keys that it does not look up, and times that it does not compare.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use tutor_core::time::Timestamp;
use tutor_core::{Error, ErrorKind, Result};

use super::account::Account;
use super::head::Head;
use super::secret::SigningKey;
use super::signature;

/// How long a token is good for.
pub(crate) const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How far the clocks of two instances may be apart, in seconds.
pub(super) const LEEWAY: i64 = 30;

const TYPE: &str = "at+jwt";
const ISSUER: &str = "neuro-tutor";
const AUDIENCE: &str = "neuro-tutor";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    iss: String,
    aud: String,
    /// The account.
    pub(super) sub: String,
    /// The sign-in that it belongs to.
    pub(super) sid: String,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
}

impl Claims {
    pub(super) fn new(account: &Account, family: &str, jti: String, now: Timestamp) -> Self {
        let now = seconds(now);
        Self {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: account.id.clone(),
            sid: family.to_owned(),
            jti,
            iat: now,
            nbf: now,
            exp: now + LIFETIME.as_secs().cast_signed(),
        }
    }

    fn is_valid_at(&self, now: i64) -> bool {
        let lifetime = self.exp.checked_sub(self.iat);
        self.iss == ISSUER
            && self.aud == AUDIENCE
            && !self.jti.is_empty()
            && self.exp > now
            && self.nbf <= now.saturating_add(LEEWAY)
            && self.iat <= now.saturating_add(LEEWAY)
            && lifetime.is_some_and(|lifetime| lifetime <= LIFETIME.as_secs().cast_signed())
    }
}

pub(super) fn seconds(time: Timestamp) -> i64 {
    time.as_micros().div_euclid(1_000_000)
}

/// Signs tokens by one key, and verifies those of all of them.
pub(super) struct Issuer {
    signing: (String, EncodingKey),
    verifying: HashMap<String, (DecodingKey, Option<Timestamp>)>,
    validation: Validation,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("keys", &self.verifying.len())
            .finish_non_exhaustive()
    }
}

impl Issuer {
    /// An issuer with these keys, of which the first one signs.
    pub(super) fn new(keys: Vec<SigningKey>) -> Result<Self> {
        signature::install();
        let mut verifying = HashMap::new();
        let mut signing = None;
        for key in keys {
            let pkcs8 = key.pkcs8()?;
            let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| {
                Error::new(
                    ErrorKind::DataCorrupt,
                    "a stored signing key cannot be read",
                )
            })?;
            let public = DecodingKey::from_ed_der(pair.public_key().as_ref());
            verifying.insert(key.id.clone(), (public, key.until));
            signing.get_or_insert((key.id, EncodingKey::from_ed_der(&pkcs8)));
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        // Compared below, by the engine's clock.
        validation.validate_exp = false;
        Ok(Self {
            signing: signing.ok_or_else(|| Error::internal("there is no key to sign with"))?,
            verifying,
            validation,
        })
    }

    pub(super) fn sign(&self, claims: &Claims) -> Result<String> {
        let (id, key) = &self.signing;
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(id.clone());
        jsonwebtoken::encode(&header, claims, key)
            .map_err(|_| Error::internal("a token could not be signed"))
    }

    /// True if a token with this head may be ours.
    pub(super) fn knows(&self, head: &Head<'_>) -> bool {
        self.verifying.contains_key(&*head.key)
    }

    /// What a token with this head says; `None` for every token that we would not have made.
    pub(super) fn verify(&self, head: &Head<'_>, now: Timestamp) -> Option<Claims> {
        if head.has_more || head.kind.as_deref() != Some(TYPE) || head.algorithm != "EdDSA" {
            return None;
        }
        let (key, until) = self.verifying.get(&*head.key)?;
        if until.is_some_and(|until| until <= now) {
            return None;
        }
        let claims = jsonwebtoken::decode::<Claims>(head.token, key, &self.validation).ok()?;
        Some(claims.claims).filter(|claims| claims.is_valid_at(seconds(now)))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    impl Issuer {
        fn verified(&self, token: &str, now: Timestamp) -> Option<Claims> {
            self.verify(&Head::read(token)?, now)
        }
    }

    fn key() -> SigningKey {
        SigningKey::generate(at(NOW)).unwrap()
    }

    fn issuer() -> (Issuer, SigningKey) {
        let key = key();
        (Issuer::new(vec![key.clone()]).unwrap(), key)
    }

    fn claims() -> Value {
        json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "a1", "sid": "f1", "jti": "j1",
            "iat": NOW, "nbf": NOW, "exp": NOW + 900})
    }

    /// Signs whatever it is given.
    fn forge(key: &SigningKey, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let pair = Ed25519KeyPair::from_pkcs8(&key.pkcs8().unwrap()).unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn header(key: &SigningKey) -> Value {
        json!({"alg": "EdDSA", "typ": TYPE, "kid": key.id})
    }

    #[test]
    fn our_own_token_is_good_until_it_expires() {
        let (issuer, key) = issuer();
        let token = forge(&key, &header(&key), &claims());
        assert_eq!(issuer.verified(&token, at(NOW)).unwrap().sub, "a1");
        assert!(issuer.verified(&token, at(NOW + 899)).is_some());
        assert!(issuer.verified(&token, at(NOW + 900)).is_none());
    }

    #[test]
    fn a_header_with_anything_else_in_it_is_refused() {
        let (issuer, key) = issuer();
        for (name, value) in [
            ("crit", json!(["zzz"])),
            ("b64", json!(false)),
            ("zip", json!("DEF")),
            ("jku", json!("https://evil.example")),
            ("jwk", json!({})),
            ("x5u", json!("https://evil.example")),
            ("x5c", json!([])),
            ("cty", json!("JWT")),
        ] {
            let mut header = header(&key);
            header[name] = value;
            let token = forge(&key, &header, &claims());
            assert!(issuer.verified(&token, at(NOW)).is_none(), "{name}");
        }
        for (name, values) in [
            (
                "alg",
                vec![
                    json!("none"),
                    json!("nOnE"),
                    json!(""),
                    json!("HS256"),
                    json!("RS256"),
                ],
            ),
            ("typ", vec![json!("JWT"), Value::Null, json!("at+JWT")]),
            (
                "kid",
                vec![
                    json!("other"),
                    json!("../../dev/null"),
                    json!("' UNION"),
                    json!("k".repeat(3000)),
                    json!(1),
                ],
            ),
        ] {
            for value in values {
                let mut header = header(&key);
                header[name] = value;
                let token = forge(&key, &header, &claims());
                assert!(issuer.verified(&token, at(NOW)).is_none(), "{header}");
            }
        }
    }

    #[test]
    fn claims_that_we_do_not_make_are_refused() {
        let (issuer, key) = issuer();
        let bad = [
            (
                "exp",
                vec![
                    json!(NOW - 1),
                    json!("1800000900"),
                    json!(NOW as f64 + 900.5),
                    json!(1_000_000_000_000_000_000_i64),
                    Value::Null,
                    json!(NOW + 901),
                ],
            ),
            ("nbf", vec![json!(NOW + 500), Value::Null]),
            ("iat", vec![json!(NOW + 500), json!("x")]),
            ("iss", vec![json!("other"), Value::Null]),
            ("aud", vec![json!("other"), json!(["a", "b"]), Value::Null]),
            ("sub", vec![json!(1), Value::Null]),
            ("jti", vec![json!(""), Value::Null]),
            ("sid", vec![Value::Null]),
        ];
        for (name, values) in bad {
            for value in values {
                let mut claims = claims();
                claims[name] = value;
                let token = forge(&key, &header(&key), &claims);
                assert!(issuer.verified(&token, at(NOW)).is_none(), "{claims}");
            }
        }
    }

    #[test]
    fn a_signature_that_is_not_exactly_right_is_refused() {
        let (issuer, key) = issuer();
        let token = forge(&key, &header(&key), &claims());
        let (message, signature) = token.rsplit_once('.').unwrap();
        let raw = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        for at_byte in 0..raw.len() {
            let mut flipped = raw.clone();
            flipped[at_byte] ^= 1;
            let flipped = BASE64_URL_SAFE_NO_PAD.encode(flipped);
            assert!(
                issuer
                    .verified(&format!("{message}.{flipped}"), at(NOW))
                    .is_none()
            );
        }
        for bad in [
            format!("{message}."),
            message.to_owned(),
            format!("{token}="),
            format!("{token}.x"),
            format!("{token} "),
            String::new(),
            "...".to_owned(),
            "x".repeat(8192),
        ] {
            assert!(issuer.verified(&bad, at(NOW)).is_none());
        }
    }

    #[test]
    fn a_key_that_no_longer_signs_still_verifies_until_it_is_over() {
        let (mut old, new) = (key(), key());
        old.until = Some(at(NOW + 100));
        let issuer = Issuer::new(vec![new.clone(), old.clone()]).unwrap();
        let token = forge(&old, &header(&old), &claims());
        assert!(issuer.verified(&token, at(NOW)).is_some());
        assert!(issuer.verified(&token, at(NOW + 100)).is_none());
        let without = Issuer::new(vec![new]).unwrap();
        assert!(without.verified(&token, at(NOW)).is_none());
    }
}
