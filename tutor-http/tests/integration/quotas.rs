//! How much a caller may do and use, and what was used.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tutor_core::provider::scripted::{Step, text_script};
use tutor_core::provider::{Delta, DemoProvider, ScriptedProvider};
use tutor_core::store::{MemoryStore, Store};
use tutor_core::time::SystemRuntime;
use tutor_core::usage::Quota;
use tutor_core::{Tutor, TutorBuilder};
use tutor_http::people::{People, PeopleBounds, Role};
use tutor_http::{Allowances, Bounds, Share};

use crate::client::{PATIENCE, Request, Response};
use crate::people::{PASSWORD, Town, Visitor};
use crate::server::Server;

fn demo() -> TutorBuilder {
    Tutor::builder().provider(DemoProvider::new().with_delay(Duration::ZERO))
}

fn quota(set: impl FnOnce(&mut Quota)) -> Quota {
    let mut quota = Quota::default();
    set(&mut quota);
    quota
}

async fn town(builder: TutorBuilder, allowances: Allowances) -> Town {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let bounds = PeopleBounds {
        sign_ins_per_minute: 1000,
        registrations_per_hour: 1000,
        ..PeopleBounds::default()
    };
    let people = People::open(Arc::clone(&store), Arc::new(SystemRuntime), bounds).await;
    Town::allowing(builder, store, people.unwrap(), allowances).await
}

/// Checks that a refusal says which limit it is in the body and in the headers.
#[track_caller]
fn expect_refused(refused: &Response, limit: &str, quota: u64) -> Value {
    let body = refused.expect(429);
    assert_eq!(body["code"], "rate_limited");
    assert_eq!(
        (&body["limit"]["name"], &body["limit"]["quota"]),
        (&json!(limit), &json!(quota as f64))
    );
    let seconds = body["limit"]["reset_seconds"].as_u64().unwrap();
    assert!(seconds >= 1);
    let policy = refused.header("ratelimit-policy").unwrap();
    assert!(
        policy.starts_with(&format!("\"{limit}\";q={quota}")),
        "{policy}"
    );
    assert!(
        refused
            .header("ratelimit")
            .unwrap()
            .contains(&format!(";t={seconds}"))
    );
    assert!(refused.header("retry-after").is_some());
    assert!(body["detail"].as_str().unwrap().len() > 20);
    body
}

#[tokio::test]
async fn a_days_allowance_is_refused_in_words_and_headers_in_every_dialect() {
    let builder = demo().quota(quota(|q| q.turns_per_day = Some(1)));
    let server = Server::with(builder, Bounds::default()).await;
    Request::chat("one").send(server.address).await.expect(200);
    let refused = Request::chat("two").send(server.address).await;
    let body = expect_refused(&refused, "turns_per_day", 1);
    assert!(body["detail"].as_str().unwrap().contains("midnight"));
    assert!(
        refused
            .header("ratelimit-policy")
            .unwrap()
            .ends_with(";w=86400")
    );
    let body =
        json!({"model": "x", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]});
    let openai = Request::post("/v1/chat/completions", &body)
        .send(server.address)
        .await;
    assert_eq!(openai.expect(429)["error"]["type"], "rate_limit_error");
    assert!(openai.header("ratelimit").is_some());
    let anthropic = Request::post("/v1/messages", &body)
        .send(server.address)
        .await;
    assert_eq!(anthropic.expect(429)["error"]["type"], "rate_limit_error");
    // Reading costs nothing.
    Request::get("/api/sessions")
        .send(server.address)
        .await
        .expect(200);
}

#[tokio::test]
async fn uploads_count_by_the_day_and_what_is_refused_does_not() {
    let builder = demo().quota(quota(|q| q.upload_bytes_per_day = Some(8)));
    let server = Server::with(builder, Bounds::default()).await;
    let put = async |name: &str, text: &str| {
        let form = crate::files::form(name, text.as_bytes());
        form.send(server.address).await
    };
    put("a.png", "no image").await.expect(422);
    put("a.txt", "12345").await.expect(201);
    expect_refused(&put("b.txt", "1234").await, "upload_bytes_per_day", 8);
    let list = Request::get("/api/files")
        .send(server.address)
        .await
        .expect(200);
    assert_eq!(list["files"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn keys_and_addresses_have_days_of_their_own() {
    let allowances = Allowances {
        key: Share {
            quota: quota(|q| q.turns_per_day = Some(1)),
            ..Share::default()
        },
        address: Share {
            quota: quota(|q| {
                q.turns_per_day = Some(3);
                q.upload_bytes_per_day = Some(4);
            }),
            ..Share::default()
        },
        ..Allowances::default()
    };
    let town = town(demo(), allowances).await;
    let ada = town.register("ada@example.org").await;
    let bob = town.register("bob@example.org").await;
    let keys = [
        ada.key(&["read", "write"]).await,
        ada.key(&["read", "write"]).await,
    ];
    let ask = async |with: &Visitor<'_>| with.send(Request::chat("Why?")).await;
    ask(&keys[0]).await.expect(200);
    expect_refused(&ask(&keys[0]).await, "key_turns_per_day", 1);
    // Another key has its own, and so has the person.
    ask(&keys[1]).await.expect(200);
    ask(&ada).await.expect(200);
    let refused = expect_refused(&ask(&ada).await, "address_turns_per_day", 3);
    assert!(
        refused["detail"]
            .as_str()
            .unwrap()
            .contains("for this address")
    );
    // Whoever else comes from there.
    expect_refused(&ask(&bob).await, "address_turns_per_day", 3);
    let upload = async |text: &str| bob.send(crate::files::form("a.txt", text.as_bytes())).await;
    upload("1234").await.expect(201);
    expect_refused(&upload("5").await, "address_upload_bytes_per_day", 4);
}

#[tokio::test]
async fn one_address_has_so_many_replies_at_a_time_where_nobody_signs_in() {
    let gate = Arc::new(Notify::new());
    let mut waiting = text_script("One.");
    waiting.insert(0, Step::Wait(Arc::clone(&gate)));
    let provider = ScriptedProvider::new([waiting, text_script("Three.")]);
    let allowances = Allowances {
        address: Share {
            live_turns: Some(1),
            ..Share::default()
        },
        ..Allowances::default()
    };
    let server = Server::allowing(Tutor::builder().provider(provider), allowances).await;
    let first = Request::chat_with("one", json!({"stream": true}));
    let mut first = first.open(server.address).await.unwrap();
    assert_eq!(first.event().await.unwrap().kind(), "turn.started");
    let refused = Request::chat("two").send(server.address).await;
    expect_refused(&refused, "address_live_turns", 1);
    gate.notify_one();
    while first.event().await.is_some() {}
    Request::chat("three")
        .send(server.address)
        .await
        .expect(200);
}

#[tokio::test]
async fn requests_are_counted_by_person_key_and_address() {
    let allowances = Allowances {
        requests_per_minute: Some(3),
        ..Allowances::default()
    };
    let town = town(demo(), allowances).await;
    let ada = town.register("ada@example.org").await;
    let bob = town.register("bob@example.org").await;
    for _ in 0..3 {
        ada.get("/api/sessions").await.expect(200);
    }
    expect_refused(&ada.get("/api/sessions").await, "requests_per_minute", 3);
    bob.get("/api/sessions").await.expect(200);

    let allowances = Allowances {
        address_requests_per_minute: Some(2),
        ..Allowances::default()
    };
    let town = self::town(demo(), allowances).await;
    let stranger = async || Request::get("/api/sessions").send(town.address()).await;
    stranger().await.expect(401);
    stranger().await.expect(401);
    expect_refused(&stranger().await, "address_requests_per_minute", 2);
    // Whether the server is alive may be asked at any time.
    Request::get("/healthz")
        .send(town.address())
        .await
        .expect(200);
}

#[tokio::test]
async fn a_person_follows_so_many_replies_at_a_time_and_closing_one_makes_room() {
    let never = Arc::new(Notify::new());
    let hangs = || {
        vec![
            Step::Yield(Delta::Text("x".into())),
            Step::Wait(Arc::clone(&never)),
        ]
    };
    let provider = ScriptedProvider::new((0..9).map(|_| hangs()));
    let allowances = Allowances {
        streams_per_person: Some(3),
        ..Allowances::default()
    };
    let town = town(Tutor::builder().provider(provider), allowances).await;
    let ada = town.register("ada@example.org").await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let request = ada.signed(Request::chat_with("hi", json!({"stream": true})));
        let mut stream = request.open(town.address()).await.unwrap();
        stream.event().await.unwrap();
        open.push(stream);
    }
    let more = ada.signed(Request::chat_with("hi", json!({"stream": true})));
    expect_refused(&more.send(town.address()).await, "streams", 3);
    // Nothing was begun.
    let sessions = ada.get("/api/sessions").await.expect(200);
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 3);
    let bob = town.register("bob@example.org").await;
    let theirs = bob.signed(Request::chat_with("hi", json!({"stream": true})));
    assert_eq!(theirs.open(town.address()).await.unwrap().status, 200);
    open.pop();
    let waiting = async {
        while more.open(town.address()).await.unwrap().status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

#[tokio::test]
async fn a_ticket_follows_one_turn_once() {
    let provider = ScriptedProvider::new([text_script("One."), text_script("Two.")]);
    let town = town(Tutor::builder().provider(provider), Allowances::default()).await;
    let ada = town.register("ada@example.org").await;
    let (one, two) = (ada.chat("1").await, ada.chat("2").await);
    let turn = |chat: &Value| chat["turn_id"].as_str().unwrap().to_owned();
    let ask = async |by: &Visitor<'_>, turn: &str| {
        let path = format!("/api/turns/{turn}/ticket");
        by.send(Request::new("POST", &path)).await
    };
    let ticket = async || {
        let ticket = ask(&ada, &turn(&one)).await.expect(201);
        ticket["ticket"].as_str().unwrap().to_owned()
    };
    let follow = async |turn: &str, ticket: &str| {
        let path = format!("/api/turns/{turn}/events?ticket={ticket}");
        Request::get(&path).send(town.address()).await
    };
    let first = ticket().await;
    let events = follow(&turn(&one), &first).await;
    assert_eq!(events.status, 200);
    assert!(events.text().contains("One."));
    follow(&turn(&one), &first).await.expect(401);
    // One for another turn, or tried on another turn, is spent.
    let second = ticket().await;
    follow(&turn(&two), &second).await.expect(401);
    follow(&turn(&one), &second).await.expect(401);
    for odd in ["", "x", "x.y", &format!("{}.x", ada.id), &"x".repeat(300)] {
        follow(&turn(&one), odd).await.expect(401);
    }
    let bob = town.register("bob@example.org").await;
    ask(&bob, &turn(&one)).await.expect(404);
    // A sign-out ends what was asked for before.
    let third = ticket().await;
    ada.send(Request::new("POST", "/api/auth/logout"))
        .await
        .expect_empty(204);
    follow(&turn(&one), &third).await.expect(401);
}

#[tokio::test]
async fn administrators_see_what_people_used() {
    let town = town(demo(), Allowances::default()).await;
    let ada = town.register("ada@example.org").await;
    ada.chat("one").await;
    ada.chat("two").await;
    ada.get("/api/admin/usage").await.expect(404);
    town.people
        .add("root@example.org", PASSWORD, Role::Admin)
        .await
        .unwrap();
    let signed_in = town.sign_in("root@example.org", PASSWORD).await.expect(200);
    let root = Visitor::new(&town, &signed_in);
    let all = root.get("/api/admin/usage").await.expect(200);
    let [day] = &all["usage"].as_array().unwrap()[..] else {
        panic!("{all}");
    };
    assert_eq!((&day["owner"], &day["turns"]), (&json!(ada.id), &json!(2)));
    assert!(day["output_tokens"].as_u64().unwrap() > 0 && day["first_token_ms"].is_u64());
    let table = root.get("/api/admin/usage?format=csv").await;
    assert_eq!(
        table.header("content-type"),
        Some("text/csv; charset=utf-8")
    );
    let text = table.text();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("owner,day,turns,"), "{text}");
    assert!(
        lines[1].starts_with(&format!("{},", ada.id)) && lines.len() == 2,
        "{text}"
    );
    let path = format!("/api/admin/usage?owner={}&to=2020-01-01", ada.id);
    assert_eq!(root.get(&path).await.expect(200)["usage"], json!([]));
    let page = root.get("/api/admin/usage?limit=1").await.expect(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let next = root
        .get(&format!("/api/admin/usage?cursor={cursor}"))
        .await
        .expect(200);
    assert_eq!(next["usage"], json!([]));
    for bad in [
        "from=today",
        "format=xml",
        "cursor=x",
        "limit=0",
        "owner=a%20b",
    ] {
        root.get(&format!("/api/admin/usage?{bad}"))
            .await
            .expect(422);
    }
}
