//! People of an external issuer, and the rotation of the server's own keys, through the binary.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tutor_core::time::{Runtime, SystemRuntime};

use crate::binary::{Binary, Serving, line_with};
use crate::client::{PATIENCE, Request, Response};
use crate::people::PASSWORD;

const ISSUER: &str = "https://id.school.example";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The school's key.
struct School(Ed25519KeyPair);

impl School {
    fn new() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    fn jwks(&self) -> String {
        let x = b64(self.0.public_key());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": x}]}).to_string()
    }

    fn token(&self, subject: &str, more: &Value) -> String {
        let now = SystemRuntime.now().as_micros() / 1_000_000;
        let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": "k1"});
        let mut claims = json!({"iss": ISSUER, "aud": "tutor", "sub": subject,
            "iat": now, "exp": now + 600});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = b64(self.0.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

async fn send(server: &Serving, token: &str, request: Request) -> Response {
    let request = request.header("Authorization", &format!("Bearer {token}"));
    request.send(server.address).await
}

#[tokio::test]
async fn people_of_an_issuer_have_their_own_and_only_theirs() {
    let (binary, school) = (Binary::new(), School::new());
    std::fs::write(binary.path("school.json"), school.jwks()).unwrap();
    let config = format!(
        "auth = 'required'\n[issuers.school]\nissuer = '{ISSUER}'\naudience = 'tutor'\n\
         jwks_file = 'school.json'\nrole_claim = 'groups'\nadmin_role = 'staff'\n"
    );
    std::fs::write(binary.path("neuro-tutor.toml"), config).unwrap();
    let server = binary.serve(&["--data", "d"]);
    let ada = school.token("ada", &json!({"email": "ada@example.org"}));
    let bob = school.token("bob", &json!({}));
    // An account of this server with the same address is somebody else.
    let body = json!({"email": "ada@example.org", "password": PASSWORD});
    let local = Request::post("/api/auth/register", &body)
        .send(server.address)
        .await
        .expect(201);
    let me = send(&server, &ada, Request::get("/api/auth/me"))
        .await
        .expect(200);
    assert_eq!(
        (&me["issuer"], &me["role"]),
        (&json!("school"), &json!("user"))
    );
    assert_ne!(me["id"], local["user"]["id"]);
    let chat = send(&server, &ada, Request::chat("What is light?"))
        .await
        .expect(200);
    let session = format!("/api/sessions/{}", chat["session_id"].as_str().unwrap());
    send(&server, &ada, Request::get(&session))
        .await
        .expect(200);
    send(&server, &bob, Request::get(&session))
        .await
        .expect(404);
    let of_local = local["access_token"].as_str().unwrap();
    send(&server, of_local, Request::get(&session))
        .await
        .expect(404);

    // What only the issuer can do, and what works as for everybody.
    for (path, body) in [
        ("/api/auth/logout", json!({})),
        (
            "/api/auth/password",
            json!({"current_password": "x", "new_password": PASSWORD}),
        ),
    ] {
        let refused = send(&server, &ada, Request::post(path, &body))
            .await
            .expect(403);
        assert!(
            refused["detail"].as_str().unwrap().contains("there"),
            "{refused}"
        );
    }
    let key = Request::post("/api/keys", &json!({"name": "k"}));
    let key = send(&server, &ada, key).await.expect(201)["key"]
        .as_str()
        .unwrap()
        .to_owned();
    send(&server, &key, Request::get(&session))
        .await
        .expect(200);
    let turn = chat["turn_id"].as_str().unwrap();
    let ticket = Request::new("POST", &format!("/api/turns/{turn}/ticket"));
    let ticket = send(&server, &ada, ticket).await.json();
    let ticket = ticket["ticket"].as_str().unwrap();
    let events = Request::get(&format!("/api/turns/{turn}/events?ticket={ticket}"));
    assert_eq!(events.send(server.address).await.status, 200);

    // Roles are the issuer's to say, by the configured claim.
    send(&server, &ada, Request::get("/api/admin/users"))
        .await
        .expect(404);
    let staff = school.token("carol", &json!({"groups": ["staff"]}));
    let users = send(&server, &staff, Request::get("/api/admin/users"))
        .await
        .expect(200);
    assert_eq!(users["users"].as_array().unwrap().len(), 4);
    let path = format!("/api/admin/users/{}", me["id"].as_str().unwrap());
    let disable = Request::new("PATCH", &path).json(&json!({"disabled": true}));
    send(&server, &staff, disable).await.expect(200);
    for token in [&ada, &key] {
        send(&server, token, Request::get("/api/auth/me"))
            .await
            .expect(401);
    }
    let enable = Request::new("PATCH", &path).json(&json!({"disabled": false}));
    send(&server, &staff, enable).await.expect(200);

    let delete = Request::new("DELETE", "/api/auth/me").json(&json!({}));
    send(&server, &ada, delete).await.expect_empty(204);
    let sessions = send(&server, &ada, Request::get("/api/sessions"))
        .await
        .expect(200);
    assert_eq!(sessions["sessions"], json!([]), "a newcomer");
    send(&server, &key, Request::get("/api/auth/me"))
        .await
        .expect(401);
    // The account of this server with her address is untouched.
    Request::post("/api/auth/login", &body)
        .send(server.address)
        .await
        .expect(200);
    for bad in [
        school.token("ada", &json!({"aud": "other"})),
        school.token("ada", &json!({"iss": "https://other.example"})),
        school.token("ada", &json!({"exp": 1})),
        School::new().token("ada", &json!({})),
    ] {
        send(&server, &bad, Request::get("/api/auth/me"))
            .await
            .expect(401);
    }
}

#[test]
fn an_issuer_without_sign_in_or_with_a_mistake_is_refused_when_the_server_starts() {
    let binary = Binary::new();
    let table = "[issuers.school]\nissuer = 'https://a'\naudience = 'b'\n";
    for (config, expected) in [
        (format!("{table}jwks_file = 'k'"), "auth"),
        (format!("auth = 'required'\n{table}"), "jwks_url"),
        (
            format!("auth = 'required'\n{table}jwks_url = 'http://a/k'"),
            "https",
        ),
    ] {
        std::fs::write(binary.path("neuro-tutor.toml"), config).unwrap();
        let said = binary.run(&["config"]).refused(2);
        assert!(said.contains(expected), "{said}");
    }
    let fine = format!("auth = 'required'\n{table}jwks_file = 'k'\nalgorithms = ['ES256']");
    std::fs::write(binary.path("neuro-tutor.toml"), fine).unwrap();
    let shown = binary.run(&["config"]).text();
    assert!(
        shown.contains("[issuers.school]") && shown.contains("[\"ES256\"]"),
        "{shown}"
    );
}

fn key_of(token: &str) -> String {
    let header = BASE64_URL_SAFE_NO_PAD
        .decode(token.split('.').next().unwrap())
        .unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_while_the_server_runs_and_nobody_notices_but_after_a_leak() {
    let binary = Binary::new();
    let server = binary.serve(&["--data", "d", "--auth", "required"]);
    let body = json!({"email": "ada@example.org", "password": PASSWORD});
    let first = Request::post("/api/auth/register", &body)
        .send(server.address)
        .await
        .expect(201);
    let refresh = |token: &Value| {
        let body = json!({"refresh_token": token["refresh_token"]});
        Request::post("/api/auth/refresh", &body)
    };
    let signed_in = refresh(&first).send(server.address).await.expect(200);
    let first = first["access_token"].as_str().unwrap();
    let rotate = |more: &'static [&'static str]| {
        let args = [&["keys", "rotate", "--data", "d"], more].concat();
        tokio::task::block_in_place(|| binary.run(&args).text())
    };
    let printed = rotate(&[]);
    assert_eq!(printed.lines().count(), 2, "{printed}");
    assert!(
        printed.lines().nth(1).unwrap().contains(&key_of(first)),
        "{printed}"
    );
    let second = Request::post("/api/auth/login", &body)
        .send(server.address)
        .await
        .expect(200);
    let second = second["access_token"].as_str().unwrap();
    assert!(
        printed.starts_with(&key_of(second)),
        "the new key signs at once"
    );
    for token in [first, second] {
        send(&server, token, Request::get("/api/auth/me"))
            .await
            .expect(200);
    }
    let signed_in = refresh(&signed_in).send(server.address).await.expect(200);
    let printed = rotate(&["--at-once"]);
    // Who has a leaked key could have made it.
    refresh(&signed_in).send(server.address).await.expect(401);
    assert_eq!(printed.lines().count(), 1, "{printed}");
    let third = Request::post("/api/auth/login", &body)
        .send(server.address)
        .await
        .expect(200);
    let signed_in = third.clone();
    let third = third["access_token"].as_str().unwrap();
    let until = Instant::now() + PATIENCE;
    for old in [first, second] {
        while send(&server, old, Request::get("/api/auth/me"))
            .await
            .status
            != 401
        {
            assert!(Instant::now() < until, "the old key is still good");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    send(&server, third, Request::get("/api/auth/me"))
        .await
        .expect(200);
    refresh(&signed_in).send(server.address).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_trusted_proxy_the_client_is_whom_it_names_and_else_the_proxy() {
    let binary = Binary::new();
    let limit = ("ADDRESS_REQUESTS_PER_MINUTE", "2");
    let trusting = [limit, ("TRUSTED_PROXIES", "127.0.0.0/8")];
    let args = ["--data", "memory:", "--log-format", "json"];
    let (server, log) = binary.serve_logged(&args, &trusting);
    let ask = async |server: &Serving, claimed: &str| {
        let request = Request::get("/api/sessions").header("X-Forwarded-For", claimed);
        request.send(server.address).await.status
    };
    for _ in 0..2 {
        assert_eq!(ask(&server, "203.0.113.7").await, 200);
    }
    // What the client wrote itself stands further left.
    assert_eq!(ask(&server, "198.51.100.1, 203.0.113.7").await, 429);
    assert_eq!(ask(&server, "203.0.113.8").await, 200);
    let line = line_with(&log, "/api/sessions");
    let entry: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(entry["client"], "203.0.113.7");

    let server = binary.serve_with(&args[..2], &[limit]);
    for (claimed, status) in [
        ("203.0.113.7", 200),
        ("203.0.113.8", 200),
        ("203.0.113.9", 429),
    ] {
        assert_eq!(
            ask(&server, claimed).await,
            status,
            "an untrusted claim counts for nothing"
        );
    }
}
