//! Who somebody is shows by one header alone, and what they were told stays true for as long as it
//! may.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Notify;
use tutor_core::Tutor;
use tutor_core::provider::scripted::Step;
use tutor_core::provider::{Delta, ScriptedProvider};
use tutor_core::store::{MemoryStore, Store};
use tutor_core::time::SystemRuntime;
use tutor_http::people::{People, PeopleBounds, Role};
use tutor_http::{Allowances, Bounds};

use crate::client::{PATIENCE, Request, send_raw};
use crate::people::{PASSWORD, Town, Visitor};

#[tokio::test]
async fn a_token_counts_in_its_header_and_nowhere_else() {
    let town = Town::new().await;
    let ada = town.register("ada@example.org").await;
    let token = ada.token.as_str();
    for request in [
        Request::get(&format!("/api/sessions?access_token={token}&token={token}")),
        Request::get("/api/sessions")
            .header("cookie", &format!("token={token}; access_token={token}")),
        Request::get("/api/sessions").header("x-api-key", token),
        Request::get("/api/sessions").header("proxy-authorization", &format!("Bearer {token}")),
        Request::get("/api/sessions").header("x-forwarded-user", "ada@example.org"),
        Request::post("/api/chat", &json!({"access_token": token})),
        Request::get(&format!("/api/sessions?ticket={token}")),
        // A refresh token is none for anything else, nor the other way around.
        Request::get("/api/sessions").header("authorization", &format!("Bearer {}", ada.refresh)),
        Request::post("/api/auth/refresh", &json!({"refresh_token": token})),
        // Somebody else's word in front, or between.
        Request::get("/api/sessions").header("authorization", &format!("Basic Bearer {token}")),
        Request::get("/api/sessions")
            .header("authorization", &format!("Bearer {token}, Bearer {token}")),
        Request::get("/api/sessions")
            .header("authorization", &format!("Bearer {}", "x".repeat(8192))),
        Request::get("/api/sessions").header("authorization", &format!("Bearer {token}\u{e9}")),
    ] {
        let refused = town.send(request.clone()).await;
        assert_eq!(refused.status, 401, "{request:?}");
        assert!(!refused.text().contains(token));
    }
    let raw = [
        &b"GET /api/sessions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer \xff\xfe\r\n\r\n"[..],
    ];
    for bytes in raw {
        send_raw(town.address(), bytes).await.unwrap().expect(401);
    }
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let request = Request::get("/api/sessions");
        let request = request.header("authorization", &format!("{scheme} {token}"));
        town.send(request).await.expect(200);
    }
}

#[tokio::test]
async fn an_unknown_account_costs_as_much_time_as_a_wrong_password() {
    let town = Town::new().await;
    let mut known = Vec::new();
    let mut unknown = Vec::new();
    for number in 0..12 {
        // An account waits after some failures: each is tried once.
        town.people
            .add(&format!("p{number}@example.org"), PASSWORD, Role::User)
            .await
            .unwrap();
        for (name, times) in [("p", &mut known), ("nobody", &mut unknown)] {
            let began = Instant::now();
            let email = format!("{name}{number}@example.org");
            town.sign_in(&email, "not the password").await.expect(401);
            times.push(began.elapsed());
        }
    }
    known.sort_unstable();
    unknown.sort_unstable();
    let (known, unknown) = (known[6], unknown[6]);
    // Without hashing it would be a hundredth.
    assert!(
        unknown * 2 > known && known * 2 > unknown,
        "{known:?} {unknown:?}"
    );
}

#[tokio::test]
async fn what_only_the_server_decides_cannot_be_sent_along() {
    let town = Town::new().await;
    let power = json!({"role": "admin", "is_admin": true, "owner": "root", "owner_id": "root",
        "user_id": "root", "disabled": false, "created_at": "2000-01-01T00:00:00Z", "scopes": ["admin"]});
    let with = |body: serde_json::Value| {
        let (mut body, power) = (body, power.clone());
        body.as_object_mut()
            .unwrap()
            .extend(power.as_object().unwrap().clone());
        body
    };
    let account = json!({"email": "ada@example.org", "password": PASSWORD});
    // Refused with every name of what is too much, or taken without it.
    let refused = town
        .post("/api/auth/register", with(account))
        .await
        .expect(422);
    assert_eq!(refused["detail"].as_array().unwrap().len(), 8, "{refused}");
    let ada = town.register("ada@example.org").await;
    let me = ada.get("/api/auth/me").await.expect(200);
    assert_eq!(me["role"], "user");
    let session = Request::post("/api/sessions", &with(json!({"title": "Mine"})));
    ada.send(session).await.expect(422);
    let said = json!({"messages": [{"role": "user", "content": "Hi"}]});
    let chat = ada
        .send(Request::post("/api/chat", &with(said)))
        .await
        .expect(200);
    let path = format!("/api/sessions/{}", chat["session_id"].as_str().unwrap());
    let session = ada.get(&path).await.expect(200);
    assert!(!session.to_string().contains("root"), "{session}");
    assert!(session["created_at"].as_str().unwrap() > "2025");
    ada.get("/api/admin/users").await.expect(404);
    let rename = Request::new("PATCH", &path).json(&with(json!({"title": "x"})));
    ada.send(rename).await.expect(422);
}

#[tokio::test]
async fn a_password_is_taken_exactly_as_it_is() {
    let town = Town::new().await;
    for (number, password) in [
        "eightch8".to_owned(),
        "p".repeat(63) + "q",
        "é".repeat(512),
        "x".repeat(1024),
        " leading and trailing ".to_owned(),
        "Pässwörter sind 👩‍🏫".to_owned(),
        "with\0zero\u{7f}".to_owned(),
        "e\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let email = format!("p{number}@example.org");
        let account = json!({"email": email, "password": password});
        town.post("/api/auth/register", account).await.expect(201);
        town.sign_in(&email, &password).await.expect(200);
        let mut shorter = password.clone();
        shorter.pop();
        for other in [
            shorter,
            format!("{password} "),
            password.trim().to_owned() + "\0",
            password.to_uppercase() + "x",
        ] {
            town.sign_in(&email, &other).await.expect(401);
        }
    }
    for bad in [
        String::new(),
        "seven77".to_owned(),
        "x".repeat(1025),
        "é".repeat(513),
        "12345678".to_owned(),
        "Password1".to_owned(),
        "QWERTYUIOP".to_owned(),
    ] {
        let account = json!({"email": "bad@example.org", "password": bad});
        let refused = town.post("/api/auth/register", account).await.expect(422);
        let told = refused["detail"].to_string();
        assert!(told.contains("password"), "{told}");
        // A password is not sent back, whatever is wrong with it.
        assert!(bad.len() < 4 || !told.contains(&bad), "{told}");
    }
}

/// How many people follow a reply when all of them are sent away.
const CROWD: usize = 200;

#[tokio::test]
async fn whoever_may_no_longer_read_is_cut_off_in_the_middle_of_a_stream() {
    let never = Arc::new(Notify::new());
    let hangs = || {
        vec![
            Step::Yield(Delta::Text("x".into())),
            Step::Wait(Arc::clone(&never)),
        ]
    };
    let provider = ScriptedProvider::new((0..CROWD).map(|_| hangs()));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let people = PeopleBounds {
        sign_ins_per_minute: 1000,
        ..PeopleBounds::default()
    };
    let people = People::open(Arc::clone(&store), Arc::new(SystemRuntime), people);
    let mut bounds = Bounds::default();
    bounds.heartbeat = Duration::from_millis(50);
    bounds.recheck = Duration::from_millis(100);
    let mut limits = tutor_core::Limits::default();
    limits.max_live_turns = CROWD;
    let builder = Tutor::builder().provider(provider).limits(limits);
    let people = people.await.unwrap();
    let town = Town::bounded(builder, store, people, Allowances::default(), bounds).await;
    let ada = town.register("ada@example.org").await;
    let again = town.sign_in("ada@example.org", PASSWORD).await.expect(200);
    let elsewhere = Visitor::new(&town, &again);
    let mut streams = Vec::new();
    for _ in 0..CROWD {
        let request = ada.signed(Request::chat_with("Hi", json!({"stream": true})));
        let mut stream = request.open(town.address()).await.unwrap();
        while stream.event().await.unwrap().kind() != "text.delta" {}
        streams.push(stream);
    }
    // One sign-in ends, and every stream that it opened.
    ada.send(Request::new("POST", "/api/auth/logout"))
        .await
        .expect_empty(204);
    let ended = async {
        for stream in streams {
            let rest = stream.events().await;
            // Not a word more, and no end that would tell that the reply is whole.
            let last = rest.last().map(|event| event.kind().to_owned());
            assert_eq!(last.as_deref(), Some("error"), "{rest:?}");
            let of_turn = |kind: &str| kind.starts_with("turn.");
            assert!(!rest.iter().any(|event| of_turn(event.kind())), "{rest:?}");
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    // It was the reader that was sent away, and not the owner of the reply.
    let sessions = elsewhere.get("/api/sessions?limit=200").await.expect(200);
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), CROWD);
    // Whose account is disabled, to that person nothing is said any more.
    let root = town.people.add("root@example.org", PASSWORD, Role::Admin);
    root.await.unwrap();
    let root = town.sign_in("root@example.org", PASSWORD).await.expect(200);
    let path = format!("/api/admin/users/{}", ada.id);
    let disable = Request::new("PATCH", &path).json(&json!({"disabled": true}));
    assert_eq!(town.server.tutor.live_turns(), CROWD);
    Visitor::new(&town, &root).send(disable).await.expect(200);
    assert_eq!(town.server.tutor.live_turns(), 0);
}
