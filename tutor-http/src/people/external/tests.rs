//! Tokens of other issuers: which are let in, and which never.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::prelude::BASE64_STANDARD;
use reqwest::Url;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://id.school.example";

/// A key made for these tests, in PKCS #1.
const RSA: &str = "\
    MIIEoQIBAAKCAQEAp+dTaaUvSa8QXyzGc9sjucJQszKcshRtAPYdk2l3v4tfHQWGBsqPGggpx5P6U9uhKlZv6hf89a\
    KpuxB5yD3N3ZsFsHemvHtwM2F6N9+e1DcSQAPyHuUOL/+CYT1d2vXhdaGN7otoWs5oZUodVg0bOFYMsV2XKHW7arNk\
    m+Csx6TRUAUf2lqpLcsgY8aPaROrJOFWQMAP2LfXCeOM3JonTD6RBgcIrpiOxGdkNN4g4dOX9KGijyGPuH0C5H6PgX\
    2wxFAfAwQMnpkckh9efziigSNrvSxXRJAu8flVAroCFP5tvxrMeYBMU496FlDpNcjShywCUpw6p3xVoH/V0NWRmwID\
    AQABAoIBABMFIW3WSIUQT8p4SALX0DQ6zul90kJaDf8N4kvQpsAMCbo/5e7fA1bvlcwF91WIi7lAEW1zSjSJOLD4LN\
    OCLM/tv7c91qWDVjJ72Fx7+IIRuv+FcugNCo5lY1+glAE52VB5/JoJMMkYmLrgqnIVCgBXvxhYgccTjyeHKt59lRUI\
    Z7Dlir68HchntzuLB8ycXXHGapLwB7rf9vlYusyY+COyDBA0hlCO/9KrN3Z3jPDZr4ifxJc1pf6kuxyUyYJrWVK8Ah\
    5gdsotY+/gXIWLhlj22fqzONwtLXk3CqSg8JWjduKTWpkrEq1V/7N5LvA8WK08gO+n0pjNBFyImwN/EAECgYEA1LaP\
    wiH6TYLd+FqSr+Z48/U3C61rZncdykMASl9pJqCi5c3SMHjE86ZaKKYN+uvwXpUCQXxttQfWLfGkm2WU4yIfxYnYdX\
    zISb0nsoSwYieURWJYIEGrNo7oxgwEAVZKMrBfSjmyTXgHRGCGyLy2DTp5ZQpdEd/6PxhVnCsWwykCgYEAyhJhp4D3\
    povXGZQouS1+yFqRCbOESzZNS+dzHeQ7366RMcM4e1hm5zKi88aSPNfdsZHagnzVDdo2ftWdDcqjbs2XWsU4GhNTpa\
    9NUDBS4DHufyD+kyuDiLff36oscZ8dutlp83j9CQzjWLGfAlrkHlk1b58d+mm6djPbEYGJKyMCgYACMNssMbNlRvrI\
    Sw6Ft0b5pEXr3d5kUMfCxIvlODRaDH+BBGysySGmLMly77rnIbT5FGnQiNqMacc/8+QxIYu2ByzymOfc1esuLz+QbC\
    Nw711slYW411RPHIuzNn54EQ50lTJ2DkAS4jCY+LGKsb7iRf7oFoI84+Ss77A6CouSeQKBgQCsszcI3J1Lltp4fvqr\
    AOoJO/YXT3iyey9mvuHQ2z4ctupamFlOechAsjM4my5il69eUqRov12rYCMRFWoL3nL9gPJpXoLLLldgFEnETfiWqb\
    YGquFIUHkzQMsyMhOX7ACRr7zwnCfOM1iedffLIHk0QtP7mQca/H+jBECnXokn9wJ/Lq/tfz06yjwiqnuO3izbbu2Z\
    7h/bWerqTkN9bvVQwGUd/JStuURJYd/53mhfxnKCxAJLBxvm4pHzN7jAGJrAuDEvs6gBDAZ6EaVBKy39+EKopcJJYL\
    NxP9L+KZfE5i0A48XHU2PuJj8YoHJw0ewUw27OcyFxTH6E3uE/4aI02A==";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs whatever it is given.
enum Signer {
    Ed(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Signer {
    fn ed() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    fn ec() -> Self {
        let (by, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(by, &random).unwrap();
        Self::Ec(EcdsaKeyPair::from_pkcs8(by, pkcs8.as_ref(), &random).unwrap())
    }

    fn rsa() -> Self {
        let text: String = RSA.split_whitespace().collect();
        let der = BASE64_STANDARD.decode(text).unwrap();
        Self::Rsa(Box::new(RsaKeyPair::from_der(&der).unwrap()))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed(_) => "EdDSA",
            Self::Ec(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    fn jwk(&self, name: &str) -> Value {
        let algorithm = self.algorithm();
        match self {
            Self::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "kid": name, "use": "sig",
                "x": b64(pair.public_key()), "alg": algorithm}),
            Self::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": name, "x": b64(x), "y": b64(y)})
            }
            Self::Rsa(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                let n = b64(public.n);
                json!({"kty": "RSA", "kid": name, "n": n, "e": "AQAB", "use": "sig", "alg": algorithm,
                    "key_ops": ["verify"]})
            }
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Ed(pair) => b64(pair.sign(message.as_bytes())),
            Self::Ec(pair) => b64(pair.sign(&random, message.as_bytes()).unwrap()),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    message.as_bytes(),
                    &mut signature,
                )
                .unwrap();
                b64(signature)
            }
        };
        format!("{message}.{signature}")
    }
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": ["other", "tutor"], "sub": "ada", "iat": NOW, "exp": NOW + 3600,
        "email": "ada@school.example"})
}

fn header(algorithm: &str, key: &str) -> Value {
    json!({"alg": algorithm, "typ": "JWT", "kid": key})
}

/// The issuer's keys behind HTTP, counting how often they are asked for.
struct School {
    url: Url,
    asked: Arc<AtomicUsize>,
    answer: Arc<std::sync::Mutex<String>>,
}

fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

impl School {
    async fn open(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = Arc::new(std::sync::Mutex::new(
            ok(&json!({"keys": keys}).to_string()),
        ));
        let (counter, told) = (Arc::clone(&asked), Arc::clone(&answer));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let answer = told.lock().unwrap().clone();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self {
            url: format!("http://{address}/keys").parse().unwrap(),
            asked,
            answer,
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn trusted(&self) -> ExternalIssuer {
        self.trusted_with(|_| ())
    }

    fn trusted_with(&self, change: impl FnOnce(&mut IssuerConfig)) -> ExternalIssuer {
        let keys = KeySource::Url(self.url.clone());
        let mut config = IssuerConfig::new("school", ISSUER, "tutor", keys);
        change(&mut config);
        ExternalIssuer::new(config).unwrap()
    }
}

async fn verified(issuer: &ExternalIssuer, token: &str) -> Option<Vouched> {
    let head = Head::read(token)?;
    assert!(issuer.is_called(&head.claimed_issuer().unwrap_or_else(|| ISSUER.to_owned())));
    let now = Timestamp::from_micros(NOW * 1_000_000);
    issuer.verify(&head, now).await
}

#[tokio::test]
async fn tokens_of_every_usual_kind_of_key_are_verified_and_their_people_have_owners_of_their_own()
{
    let signers = [Signer::ed(), Signer::ec(), Signer::rsa()];
    let keys: Vec<_> = signers.iter().map(|s| s.jwk(s.algorithm())).collect();
    let school = School::open(&keys).await;
    let issuer = school.trusted();
    let mut owners = Vec::new();
    for signer in &signers {
        let name = signer.algorithm();
        let token = signer.sign(&header(name, name), &claims());
        let vouched = verified(&issuer, &token)
            .await
            .unwrap_or_else(|| panic!("{name}"));
        assert_eq!(vouched.email.as_deref(), Some("ada@school.example"));
        assert_eq!(
            (vouched.issuer.as_str(), vouched.role),
            ("school", Role::User)
        );
        owners.push(vouched.owner);
    }
    owners.dedup();
    assert_eq!(owners.len(), 1, "one person, whatever signed");
    assert!(tutor_core::OwnerId::new(&owners[0]).is_ok());
    assert!(
        uuid_like(&owners[0]).is_none(),
        "no account of this server has such an id"
    );
    assert_ne!(owner(ISSUER, "ada"), owner(ISSUER, "bob"));
    assert_ne!(owner("https://a", "ada"), owner("https://b", "ada"));
    assert_eq!(school.asked(), 1);
}

fn uuid_like(text: &str) -> Option<&str> {
    (text.len() == 36 && !text.starts_with(OWNER_PREFIX)).then_some(text)
}

#[tokio::test]
async fn a_token_is_refused_for_anything_that_is_not_as_it_has_to_be() {
    let (ed, rsa) = (Signer::ed(), Signer::rsa());
    let school = School::open(&[ed.jwk("ed"), rsa.jwk("rsa")]).await;
    let issuer = school.trusted();
    let good = ed.sign(&header("EdDSA", "ed"), &claims());
    assert!(verified(&issuer, &good).await.is_some());
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("jku", json!("https://evil.example")),
        ("jwk", ed.jwk("ed")),
        ("x5u", json!("https://evil.example")),
        ("x5c", json!([])),
        ("typ", json!("logout+jwt")),
        ("typ", json!(1)),
        ("alg", json!("none")),
        ("alg", json!("HS256")),
        ("alg", json!("RS256")),
        ("kid", json!("rsa")),
        ("kid", json!("")),
        ("kid", json!("../../etc/passwd")),
    ] {
        let mut header = header("EdDSA", "ed");
        header[name] = value;
        let token = ed.sign(&header, &claims());
        assert!(verified(&issuer, &token).await.is_none(), "{header}");
    }
    let fingerprint = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "ed", "x5t": "abc"});
    let token = ed.sign(&fingerprint, &claims());
    assert!(verified(&issuer, &token).await.is_some());
    for (name, values) in [
        (
            "aud",
            vec![json!("other"), json!(["other"]), json!(1), json!([])],
        ),
        (
            "exp",
            vec![
                json!(NOW),
                json!("1900000000"),
                json!(1.9e9),
                json!(i64::MAX),
                Value::Null,
            ],
        ),
        ("exp", vec![json!(NOW + 24 * 3600 + 1)]),
        (
            "iat",
            vec![json!(NOW + 31), json!("x"), json!(i64::MIN), Value::Null],
        ),
        ("nbf", vec![json!(NOW + 31), json!("x")]),
        (
            "sub",
            vec![
                json!(1),
                json!(""),
                json!("a\nb"),
                json!("x".repeat(300)),
                Value::Null,
            ],
        ),
    ] {
        for value in values {
            let mut claims = claims();
            claims[name] = value;
            let token = ed.sign(&header("EdDSA", "ed"), &claims);
            assert!(verified(&issuer, &token).await.is_none(), "{claims}");
        }
    }
    let (message, _) = good.rsplit_once('.').unwrap();
    assert!(verified(&issuer, &format!("{message}.")).await.is_none());
    assert!(verified(&issuer, &good[..good.len() - 2]).await.is_none());
}

#[tokio::test]
async fn a_public_key_is_never_taken_for_a_shared_secret_nor_for_another_kind_of_key() {
    let (ed, ec) = (Signer::ed(), Signer::ec());
    let shared =
        json!({"kty": "oct", "kid": "oct", "k": b64("a secret of both sides, long enough")});
    let mut encrypting = ed.jwk("enc");
    encrypting["use"] = json!("enc");
    let mut other = ed.jwk("other");
    other["alg"] = json!("ES256");
    let school = School::open(&[ed.jwk("ed"), ec.jwk("ec"), shared, encrypting, other]).await;
    let issuer = school.trusted_with(|config| {
        config.algorithms = signature::ALGORITHMS.to_vec();
    });
    for (algorithm, key) in [
        ("EdDSA", "ec"),
        ("ES384", "ec"),
        ("EdDSA", "oct"),
        ("EdDSA", "enc"),
        ("EdDSA", "other"),
    ] {
        let token = ed.sign(&header(algorithm, key), &claims());
        assert!(
            verified(&issuer, &token).await.is_none(),
            "{algorithm} {key}"
        );
    }
    assert!(algorithm("HS256").is_none() && algorithm("none").is_none());
    let only_rsa = school.trusted_with(|config| config.algorithms = vec![Algorithm::RS256]);
    let token = ed.sign(&header("EdDSA", "ed"), &claims());
    assert!(verified(&only_rsa, &token).await.is_none());
}

#[tokio::test]
async fn roles_come_from_the_configured_claim_or_from_nowhere() {
    let ed = Signer::ed();
    let school = School::open(&[ed.jwk("ed")]).await;
    let mut with = claims();
    with["realm_access"] = json!({"roles": ["teacher", "tutor-admin"]});
    with["role"] = json!("admin");
    let token = ed.sign(&header("EdDSA", "ed"), &with);
    let role = async |admin: Option<(&str, &str)>| {
        let issuer = school.trusted_with(|config| {
            config.admin = admin.map(|(claim, role)| (claim.to_owned(), role.to_owned()));
        });
        verified(&issuer, &token).await.unwrap().role
    };
    assert_eq!(role(None).await, Role::User);
    assert_eq!(
        role(Some(("realm_access.roles", "tutor-admin"))).await,
        Role::Admin
    );
    assert_eq!(role(Some(("role", "admin"))).await, Role::Admin);
    assert_eq!(
        role(Some(("realm_access.roles", "admin"))).await,
        Role::User
    );
    assert_eq!(role(Some(("missing.claim", "admin"))).await, Role::User);
}

#[tokio::test]
async fn unknown_keys_ask_the_issuer_once_and_not_for_every_token() {
    let (ed, new) = (Signer::ed(), Signer::ed());
    let school = School::open(&[ed.jwk("ed")]).await;
    let issuer = school.trusted();
    issuer.prepare().await;
    assert_eq!(school.asked(), 1);
    let unknown: Vec<_> = (0..50)
        .map(|n| new.sign(&header("EdDSA", &format!("new{n}")), &claims()))
        .collect();
    let all = unknown.iter().map(|token| verified(&issuer, token));
    assert!(
        futures_util::future::join_all(all)
            .await
            .iter()
            .all(Option::is_none)
    );
    assert_eq!(school.asked(), 1, "it was asked a moment ago");
    let token = ed.sign(&header("EdDSA", "ed"), &claims());
    assert!(verified(&issuer, &token).await.is_some());
}

#[tokio::test]
async fn a_key_that_is_new_is_found_and_one_that_is_gone_is_forgotten() {
    let (old, new) = (Signer::ed(), Signer::ed());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    std::fs::write(&path, json!({"keys": [old.jwk("old")]}).to_string()).unwrap();
    let keys = KeySource::File(path.clone());
    let issuer = ExternalIssuer::new(IssuerConfig::new("school", ISSUER, "tutor", keys)).unwrap();
    let of_old = old.sign(&header("EdDSA", "old"), &claims());
    let of_new = new.sign(&header("EdDSA", "new"), &claims());
    assert!(verified(&issuer, &of_old).await.is_some());
    std::fs::write(&path, json!({"keys": [new.jwk("new")]}).to_string()).unwrap();
    assert!(
        verified(&issuer, &of_new).await.is_none(),
        "it was read a moment ago"
    );
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    assert!(verified(&issuer, &of_new).await.is_some());
    assert!(verified(&issuer, &of_old).await.is_none());
}

#[tokio::test]
async fn an_issuer_that_sends_something_else_vouches_for_nobody() {
    let ed = Signer::ed();
    let token = ed.sign(&header("EdDSA", "ed"), &claims());
    let elsewhere = School::open(&[ed.jwk("ed")]).await;
    for answer in [
        ok("not json"),
        ok("{}"),
        ok("{\"keys\": []}"),
        ok(&" ".repeat(300 << 10)),
        "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".to_owned(),
        format!(
            "HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
            elsewhere.url
        ),
        String::new(),
    ] {
        let school = School::open(&[]).await;
        school.answer.lock().unwrap().clone_from(&answer);
        assert!(
            verified(&school.trusted(), &token).await.is_none(),
            "{answer:.60}"
        );
    }
    assert_eq!(elsewhere.asked(), 0, "redirects are not followed");
}
