//! What breaks inside costs one request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tutor_core::Tutor;
use tutor_core::conformance::FaultyStore;
use tutor_core::provider::DemoProvider;
use tutor_core::store::{MemoryStore, Store};
use tutor_core::time::SystemRuntime;
use tutor_http::Allowances;
use tutor_http::people::{People, PeopleBounds, Role};

use crate::client::{PATIENCE, Request, Response};
use crate::people::{PASSWORD, Town, Visitor};
use crate::strangers::Belongings;

/// What needs nothing of the store even from somebody who has signed in.
const NEEDS_NO_STORE: [&str; 4] = ["root", "alive", "openapi", "docs"];

/// What ends the caller's own sign-in.
const ENDS_SIGN_IN: [&str; 5] = [
    "delete_account",
    "logout",
    "change_password",
    "refresh",
    "update_user",
];

/// Gives the body that makes an operation do something, if it needs one.
fn body(operation: &str, email: &str, caller: &Visitor<'_>, of: &Belongings) -> Option<Value> {
    match operation {
        "register" => Some(json!({"email": format!("x{email}"), "password": PASSWORD})),
        "login" => Some(json!({"email": email, "password": PASSWORD})),
        "refresh" => Some(json!({"refresh_token": caller.refresh})),
        "change_password" => {
            Some(json!({"current_password": PASSWORD, "new_password": "another good one"}))
        }
        "delete_account" => Some(json!({"password": PASSWORD})),
        "create_session" => Some(json!({"title": "New"})),
        "create_key" => Some(json!({"name": "k"})),
        _ => of.bodies(operation).into_iter().next(),
    }
}

/// Answers whose head is sent before all is read: they are cut short, which their readers see.
const STREAMED: &[&str] = &["export"];

#[tokio::test]
async fn a_panic_at_any_access_of_any_route_is_a_500_and_leaves_nothing_held() {
    let faulty = FaultyStore::new(MemoryStore::new());
    let store: Arc<dyn Store> = Arc::new(faulty.clone());
    let bounds = PeopleBounds {
        sign_ins_per_minute: 10_000,
        registrations_per_hour: 10_000,
        ..PeopleBounds::default()
    };
    let people = People::open(Arc::clone(&store), Arc::new(SystemRuntime), bounds);
    let people = people.await.unwrap();
    let demo = DemoProvider::new().with_delay(Duration::ZERO);
    let town = Town::allowing(
        Tutor::builder().provider(demo),
        store,
        people,
        Allowances::default(),
    )
    .await;
    let document = serde_json::to_value(tutor_http::openapi()).unwrap();
    let mut panics = BTreeMap::<String, u32>::new();
    let mut number = 0;
    let mut email = String::from("p0@example.org");
    let mut caller = newcomer(&town, &email).await;
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            let count = panics.entry(name.to_owned()).or_default();
            let mut nth = 0;
            loop {
                nth += 1;
                // Whoever asked before may have signed out, and nobody may have many keys.
                if nth % 50 == 1 || ENDS_SIGN_IN.contains(&name) {
                    number += 1;
                    email = format!("p{number}@example.org");
                    caller = newcomer(&town, &email).await;
                }
                let hers = Belongings::of(&caller).await;
                let request = Request::new(&method.to_uppercase(), &hers.path(template));
                let request = caller.signed(request);
                let request = match body(name, &email, &caller, &hers) {
                    Some(body) => request.json(&body),
                    None if name == "upload_file" => {
                        caller.signed(crate::files::form("a.txt", b"text"))
                    }
                    None => request,
                };
                faulty.panic_in(nth);
                let answer = tokio::time::timeout(PATIENCE, request.try_send(town.address())).await;
                let Ok(answer) = answer else {
                    panic!("{name}: no answer after a panic at access {nth}");
                };
                let answer = match answer {
                    Ok(answer) => answer,
                    Err(error) => {
                        assert!(STREAMED.contains(&name), "{name} {nth}: {error}");
                        assert!(faulty.has_failed());
                        faulty.panic_in(0);
                        *count += 1;
                        continue;
                    }
                };
                let happened = faulty.has_failed();
                faulty.panic_in(0);
                if happened {
                    contained(name, nth, &answer);
                    *count += u32::from(answer.status == 500);
                } else if answer.status == 503 {
                    // Other tests hash passwords, too: it did not come so far.
                    nth -= 1;
                } else {
                    assert_ne!(answer.status, 500, "{name}: {}", answer.text());
                    break;
                }
            }
        }
    }
    let untouched: Vec<_> = panics.iter().filter(|(_, count)| **count == 0).collect();
    for (name, _) in untouched {
        let is_known = NEEDS_NO_STORE.iter().any(|known| name.contains(known));
        assert!(is_known, "{name} was never told to panic");
    }
    let tried: u32 = panics.values().sum();
    assert!(tried > 100, "{tried}");

    // Everything that a request holds was given back, and the server works.
    let ada = newcomer(&town, "ada@example.org").await;
    ada.chat("Are you there?").await;
    let waiting = async {
        loop {
            let root = town.sign_in("root@example.org", PASSWORD).await;
            let root = Visitor::new(&town, &root.expect(200));
            let counts = crate::metrics::samples(&root.get("/metrics").await.text());
            let now = |name: &str| counts[&format!("neuro_tutor_{name}")];
            if now("live_turns") == 0.0 && now("streams") == 0.0 && now("receiving_bytes") == 0.0 {
                assert!(now("handler_panics_total") >= 1.0);
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    town.people
        .add("root@example.org", PASSWORD, Role::Admin)
        .await
        .unwrap();
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

/// Somebody new, with every right.
async fn newcomer<'a>(town: &'a Town, email: &str) -> Visitor<'a> {
    town.people.add(email, PASSWORD, Role::Admin).await.unwrap();
    let signed_in = town.sign_in(email, PASSWORD).await;
    Visitor::new(town, &signed_in.expect(200))
}

/// The panic is told as our own mistake, or happened where the answer did not need it.
#[track_caller]
fn contained(name: &str, nth: usize, answer: &Response) {
    let text = answer.text();
    assert!(!text.contains("told to panic"), "{name} {nth}: {text}");
    if answer.status >= 500 {
        assert_eq!(answer.status, 500, "{name} {nth}: {text}");
        let body = answer.json();
        let told = body.get("code").or(body["error"].get("type"));
        assert!(told.is_some(), "{name} {nth}: {text}");
        assert!(answer.header("x-request-id").is_some());
    }
}
