//! Accounts, sign-ins and keys; and that nobody sees what is another's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tutor_core::provider::DemoProvider;
use tutor_core::store::{MemoryStore, Store};
use tutor_core::time::SystemRuntime;
use tutor_core::{Tutor, TutorBuilder};
use tutor_http::people::{People, PeopleBounds, Role};
use tutor_http::{Allowances, Bounds};

use crate::binary::Binary;
use crate::client::{PATIENCE, Request, Response};
use crate::server::Server;

pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) struct Town {
    pub(crate) server: Server,
    pub(crate) people: People,
}

impl Town {
    pub(crate) async fn new() -> Self {
        let bounds = PeopleBounds {
            sign_ins_per_minute: 1000,
            registrations_per_hour: 1000,
            ..PeopleBounds::default()
        };
        Self::with(bounds).await
    }

    async fn with(bounds: PeopleBounds) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let people = People::open(Arc::clone(&store), Arc::new(SystemRuntime), bounds).await;
        let people = people.unwrap();
        let demo = DemoProvider::new().with_delay(Duration::ZERO);
        let builder = Tutor::builder().provider(demo);
        Self::of(builder, store, people).await
    }

    /// A town whose tutor is this one, with its data here.
    pub(crate) async fn of(builder: TutorBuilder, store: Arc<dyn Store>, people: People) -> Self {
        Self::allowing(builder, store, people, Allowances::default()).await
    }

    pub(crate) async fn allowing(
        builder: TutorBuilder,
        store: Arc<dyn Store>,
        people: People,
        allowances: Allowances,
    ) -> Self {
        Self::bounded(builder, store, people, allowances, Bounds::default()).await
    }

    pub(crate) async fn bounded(
        builder: TutorBuilder,
        store: Arc<dyn Store>,
        people: People,
        allowances: Allowances,
        bounds: Bounds,
    ) -> Self {
        let builder = builder.data(Arc::clone(&store));
        let server = Server::for_people(builder, people.clone(), store, allowances, bounds).await;
        Self { server, people }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    pub(crate) async fn send(&self, request: Request) -> Response {
        request.send(self.address()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Response {
        self.send(Request::post(path, &body)).await
    }

    pub(crate) async fn register(&self, email: &str) -> Visitor<'_> {
        let body = json!({"email": email, "password": PASSWORD});
        let told = self.post("/api/auth/register", body).await.expect(201);
        Visitor::new(self, &told)
    }

    pub(crate) async fn sign_in(&self, email: &str, password: &str) -> Response {
        let body = json!({"email": email, "password": password});
        self.post("/api/auth/login", body).await
    }

    pub(crate) async fn refresh(&self, token: &str) -> Response {
        let body = json!({"refresh_token": token});
        self.post("/api/auth/refresh", body).await
    }
}

/// Somebody with a token.
pub(crate) struct Visitor<'a> {
    town: &'a Town,
    pub(crate) token: String,
    pub(crate) refresh: String,
    pub(crate) id: String,
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value}"))
        .to_owned()
}

impl<'a> Visitor<'a> {
    pub(crate) fn new(town: &'a Town, told: &Value) -> Self {
        Self {
            town,
            token: text(&told["access_token"]),
            refresh: text(&told["refresh_token"]),
            id: text(&told["user"]["id"]),
        }
    }

    /// The same person by a new API key.
    pub(crate) async fn key(&self, scopes: &[&str]) -> Visitor<'a> {
        let new = json!({"name": "key", "scopes": scopes});
        let made = self.send(Request::post("/api/keys", &new)).await;
        Visitor {
            token: text(&made.expect(201)["key"]),
            town: self.town,
            refresh: String::new(),
            id: self.id.clone(),
        }
    }

    pub(crate) fn signed(&self, request: Request) -> Request {
        request.header("Authorization", &format!("Bearer {}", self.token))
    }

    pub(crate) async fn send(&self, request: Request) -> Response {
        self.town.send(self.signed(request)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send(Request::get(path)).await
    }

    pub(crate) async fn chat(&self, text: &str) -> Value {
        self.send(Request::chat(text)).await.expect(200)
    }
}

#[tokio::test]
async fn a_person_registers_signs_in_and_has_conversations() {
    let town = Town::new().await;
    let ada = town.register("Ada@Example.org").await;
    let me = ada.get("/api/auth/me").await.expect(200);
    assert_eq!(
        (&me["email"], &me["role"]),
        (&json!("ada@example.org"), &json!("user"))
    );
    ada.chat("hello").await;
    let sessions = ada.get("/api/sessions").await.expect(200);
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1);
    let again = town.sign_in(" ADA@example.org", PASSWORD).await.expect(200);
    let again = Visitor::new(&town, &again);
    assert_eq!(again.get("/api/sessions").await.expect(200), sessions);
    let taken = json!({"email": "ada@example.org", "password": PASSWORD});
    town.post("/api/auth/register", taken).await.expect(409);
}

#[tokio::test]
async fn who_is_not_known_is_answered_the_same_everywhere() {
    let town = Town::new().await;
    let bodies = [
        "",
        "Basic x",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer a.b.c",
        "Bearer ' OR 1=1--",
        "Bearer nt_x.y.z",
    ];
    let mut told = Vec::new();
    for authorization in bodies {
        let mut request = Request::get("/api/sessions");
        if !authorization.is_empty() {
            request = request.header("Authorization", authorization);
        }
        let response = town.send(request).await;
        assert_eq!(response.header("www-authenticate"), Some("Bearer"));
        let mut body = response.expect(401);
        body["request_id"] = Value::Null;
        told.push(body);
    }
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
    for public in ["/", "/healthz", "/docs", "/openapi.json"] {
        assert_eq!(
            town.send(Request::get(public)).await.status,
            200,
            "{public}"
        );
    }
    let twice = Request::get("/api/sessions").header("Authorization", "Bearer a");
    town.send(twice.header("Authorization", "Bearer a"))
        .await
        .expect(401);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_account_are_answered_alike() {
    let town = Town::new().await;
    town.register("ada@example.org").await;
    let mut wrong = town
        .sign_in("ada@example.org", "not the password")
        .await
        .expect(401);
    let mut unknown = town
        .sign_in("bob@example.org", "not the password")
        .await
        .expect(401);
    let mut nonsense = town.sign_in("nobody", "x").await.expect(401);
    for body in [&mut wrong, &mut unknown, &mut nonsense] {
        body["request_id"] = Value::Null;
    }
    assert!(wrong == unknown && unknown == nonsense);
}

#[tokio::test]
async fn signing_out_is_dead_at_once_and_reuse_of_a_refresh_token_ends_the_sign_in() {
    let town = Town::new().await;
    let ada = town.register("ada@example.org").await;
    ada.send(Request::new("POST", "/api/auth/logout"))
        .await
        .expect_empty(204);
    ada.get("/api/auth/me").await.expect(401);
    town.refresh(&ada.refresh).await.expect(401);

    let first = town.sign_in("ada@example.org", PASSWORD).await.expect(200);
    let second = town
        .refresh(&text(&first["refresh_token"]))
        .await
        .expect(200);
    let third = town
        .refresh(&text(&second["refresh_token"]))
        .await
        .expect(200);
    let visitor = Visitor::new(&town, &third);
    visitor.get("/api/auth/me").await.expect(200);
    town.refresh(&text(&first["refresh_token"]))
        .await
        .expect(401);
    visitor.get("/api/auth/me").await.expect(401);
    town.refresh(&visitor.refresh).await.expect(401);
}

#[tokio::test]
async fn a_new_password_ends_the_other_sign_ins() {
    let town = Town::new().await;
    let here = town.register("ada@example.org").await;
    let there = town.sign_in("ada@example.org", PASSWORD).await.expect(200);
    let there = Visitor::new(&town, &there);
    let change = |current: &str, new: &str| {
        Request::post(
            "/api/auth/password",
            &json!({"current_password": current, "new_password": new}),
        )
    };
    here.send(change("wrong", "another good one"))
        .await
        .expect(403);
    here.send(change(PASSWORD, "12345678")).await.expect(422);
    here.send(change(PASSWORD, "another good one"))
        .await
        .expect_empty(204);
    here.get("/api/auth/me").await.expect(200);
    there.get("/api/auth/me").await.expect(401);
    town.sign_in("ada@example.org", PASSWORD).await.expect(401);
    town.sign_in("ada@example.org", "another good one")
        .await
        .expect(200);
}

#[tokio::test]
async fn an_api_key_may_do_what_its_scopes_say_and_no_more() {
    let town = Town::new().await;
    let ada = town.register("ada@example.org").await;
    ada.chat("hello").await;
    let new = json!({"name": "script", "scopes": ["read"], "expires_in_days": 1});
    let made = ada.send(Request::post("/api/keys", &new)).await.expect(201);
    let key = Visitor {
        town: &town,
        token: text(&made["key"]),
        refresh: String::new(),
        id: ada.id.clone(),
    };
    let sessions = key.get("/api/sessions").await.expect(200);
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(
        key.send(Request::chat("x")).await.expect(403)["code"],
        "forbidden"
    );
    key.get("/api/keys").await.expect(403);
    key.send(Request::post("/api/keys", &new)).await.expect(403);
    let ticket = Request::new("POST", "/api/turns/any/ticket");
    key.send(ticket).await.expect(403);
    let by_other_name = Request::get("/api/sessions").header("x-api-key", &key.token);
    town.send(by_other_name).await.expect(401);

    let listed = ada.get("/api/keys").await.expect(200);
    assert_eq!(listed["keys"][0]["prefix"], made["prefix"]);
    assert!(listed["keys"][0].get("key").is_none());
    assert!(listed["keys"][0]["last_used_at"].is_string());
    let path = format!("/api/keys/{}", text(&made["id"]));
    let bob = town.register("bob@example.org").await;
    bob.send(Request::new("DELETE", &path)).await.expect(404);
    ada.send(Request::new("DELETE", &path))
        .await
        .expect_empty(204);
    key.get("/api/sessions").await.expect(401);
    let writing = ada.key(&["write"]).await;
    writing.get("/api/auth/me").await.expect(403);
}

#[tokio::test]
async fn administrators_see_and_disable_accounts_and_others_see_no_such_place() {
    let town = Town::new().await;
    let ada = town.register("ada@example.org").await;
    ada.get("/api/admin/users").await.expect(404);
    town.people
        .add("root@example.org", PASSWORD, Role::Admin)
        .await
        .unwrap();
    let root = town.sign_in("root@example.org", PASSWORD).await.expect(200);
    let root = Visitor::new(&town, &root);
    let users = root.get("/api/admin/users?limit=1").await.expect(200);
    assert_eq!(users["users"].as_array().unwrap().len(), 1);
    let cursor = text(&users["next_cursor"]);
    let rest = root
        .get(&format!("/api/admin/users?cursor={cursor}"))
        .await
        .expect(200);
    assert_eq!(rest["users"].as_array().unwrap().len(), 1);

    let path = format!("/api/admin/users/{}", ada.id);
    let change = |disabled: bool| {
        let json = json!({"disabled": disabled});
        Request::new("PATCH", &path).json(&json)
    };
    ada.send(change(true)).await.expect(404);
    root.send(change(true)).await.expect(200);
    ada.get("/api/auth/me").await.expect(401);
    town.sign_in("ada@example.org", PASSWORD).await.expect(401);
    root.send(change(false)).await.expect(200);
    town.sign_in("ada@example.org", PASSWORD).await.expect(200);
}

#[tokio::test]
async fn a_deleted_account_leaves_nothing() {
    let town = Town::new().await;
    let ada = town.register("ada@example.org").await;
    ada.chat("hello").await;
    let delete = |password: &str| {
        Request::new("DELETE", "/api/auth/me").json(&json!({"password": password}))
    };
    ada.send(delete("wrong")).await.expect(403);
    ada.send(delete(PASSWORD)).await.expect_empty(204);
    ada.get("/api/sessions").await.expect(401);
    town.sign_in("ada@example.org", PASSWORD).await.expect(401);
    let again = town.register("ada@example.org").await;
    assert_ne!(again.id, ada.id);
    let sessions = again.get("/api/sessions").await.expect(200);
    assert_eq!(sessions["sessions"], json!([]));
}

#[tokio::test]
async fn registration_can_be_closed_and_is_limited_by_address() {
    let closed = Town::with(PeopleBounds {
        open_registration: false,
        ..PeopleBounds::default()
    })
    .await;
    let ada = json!({"email": "ada@example.org", "password": PASSWORD});
    closed.post("/api/auth/register", ada).await.expect(403);

    let limited = Town::with(PeopleBounds {
        registrations_per_hour: 2,
        ..PeopleBounds::default()
    })
    .await;
    for n in 0..2 {
        limited.register(&format!("p{n}@example.org")).await;
    }
    let third = json!({"email": "p3@example.org", "password": PASSWORD});
    let refused = limited.post("/api/auth/register", third).await;
    assert!(refused.header("retry-after").is_some());
    refused.expect(429);
    let bad = json!({"email": "nobody", "password": "short"});
    limited.post("/api/auth/register", bad).await.expect(422);
}

#[tokio::test]
async fn after_some_wrong_passwords_an_account_has_to_wait() {
    let town = Town::new().await;
    town.register("ada@example.org").await;
    for _ in 0..5 {
        town.sign_in("ada@example.org", "wrong password")
            .await
            .expect(401);
    }
    let refused = town.sign_in("ada@example.org", PASSWORD).await;
    assert!(refused.header("retry-after").is_some());
    refused.expect(429);
    town.register("bob@example.org").await;
    town.sign_in("bob@example.org", PASSWORD).await.expect(200);
}

#[tokio::test]
async fn whoever_guesses_passwords_locks_nobody_else_out() {
    let binary = Binary::new();
    let args = ["--data", "memory:", "--auth", "required"];
    let server = binary.serve_with(&args, &[("TRUSTED_PROXIES", "127.0.0.0/8")]);
    let post = async |path: &str, from: &str, password: &str| {
        let body = json!({"email": "ada@example.org", "password": password});
        let request = Request::post(path, &body).header("X-Forwarded-For", from);
        request.send(server.address).await.status
    };
    let (eve, ada) = ("203.0.113.7", "203.0.113.8");
    assert_eq!(post("/api/auth/register", ada, PASSWORD).await, 201);
    for _ in 0..5 {
        assert_eq!(post("/api/auth/login", eve, "a wrong password").await, 401);
    }
    assert_eq!(post("/api/auth/login", eve, PASSWORD).await, 429);
    assert_eq!(post("/api/auth/login", ada, PASSWORD).await, 200);
}

#[tokio::test]
async fn requests_are_counted_of_those_too_whom_nobody_asks_who_they_are() {
    let binary = Binary::new();
    let args = ["--data", "memory:"];
    let server = binary.serve_with(&args, &[("REQUESTS_PER_MINUTE", "2")]);
    for path in ["/api/sessions", "/api/admin/usage", "/api/sessions"] {
        let answer = Request::get(path).send(server.address).await;
        match path {
            "/api/admin/usage" => answer.expect(200),
            _ if answer.status == 200 => continue,
            _ => answer.expect(429),
        };
    }
    let last = Request::get("/api/sessions").send(server.address).await;
    assert_eq!(last.expect(429)["limit"]["name"], "requests_per_minute");

    let args = ["--data", "memory:", "--auth", "required"];
    let server = binary.serve_with(&args, &[("ADDRESS_REQUESTS_PER_MINUTE", "2")]);
    let refresh = Request::post("/api/auth/refresh", &json!({"refresh_token": "x"}));
    for status in [401, 401, 429] {
        refresh.send(server.address).await.expect(status);
    }
}

#[tokio::test]
async fn a_server_without_accounts_says_so() {
    let server = Server::start().await;
    let body = json!({"email": "ada@example.org", "password": PASSWORD});
    let answer = Request::post("/api/auth/login", &body)
        .send(server.address)
        .await;
    assert!(text(&answer.expect(404)["detail"]).contains("--auth required"));
}

/// Walks every described route with the ids of somebody else.
#[tokio::test]
async fn another_ones_ids_are_like_ids_of_nothing_on_every_route() {
    let town = Town::new().await;
    let ada = town.register("ada@example.org").await;
    let eve = town.register("eve@example.org").await;
    let canary = "canary-7f3a";
    let mut chat = ada.chat(canary).await;
    let key = ada
        .send(Request::post("/api/keys", &json!({"name": "k"})))
        .await
        .expect(201);
    let message = text(&chat["reply_message"]["id"]);
    let ids = [
        ("session_id", text(&chat["session_id"].take())),
        ("turn_id", text(&chat["turn_id"].take())),
        ("message_id", message),
        ("key_id", text(&key["id"])),
        ("user_id", ada.id.clone()),
    ];
    let fill = |path: &str, own: bool| {
        ids.iter().fold(path.to_owned(), |path, (name, id)| {
            let id = if own { id.as_str() } else { "00000000-nothing" };
            path.replace(&format!("{{{name}}}"), id)
        })
    };
    let described = serde_json::to_value(tutor_http::openapi()).unwrap();
    let mut checked = 0;
    for (path, item) in described["paths"].as_object().unwrap() {
        if path.starts_with("/api/auth/") {
            // About the caller alone; and they sign out.
            continue;
        }
        let names_something = ids
            .iter()
            .any(|(name, _)| path.contains(&format!("{{{name}}}")));
        for method in item.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let body = json!({"title": "x", "disabled": true});
            let send = |own: bool| {
                let request = Request::new(&method, &fill(path, own));
                eve.send(if method == "GET" {
                    request
                } else {
                    request.json(&body)
                })
            };
            let (theirs, nothing) = (send(true).await, send(false).await);
            assert!(!theirs.text().contains(canary), "{method} {path}");
            if names_something {
                assert_eq!(theirs.status, nothing.status, "{method} {path}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 10, "{checked}");
    // By the bodies that name somebody else's conversation.
    let session = ids[0].1.as_str();
    for request in [
        Request::chat_with("x", json!({"session_id": session})),
        Request::chat("x").header("X-Session-Id", session),
    ] {
        eve.send(request).await.expect(404);
    }
    let history = ada
        .get(&format!("/api/sessions/{session}/messages"))
        .await
        .expect(200);
    assert_eq!(history["messages"].as_array().unwrap().len(), 2);
    ada.get("/api/auth/me").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_are_made_listed_and_disabled_while_the_server_has_the_data() {
    let binary = Binary::new();
    let args = [
        "--data",
        "d",
        "--auth",
        "required",
        "--registration",
        "closed",
    ];
    let (server, log) = binary.serve_logged(&args, &[]);
    let at = server.address;
    let run = |args: &[&str], input: &str| {
        let args = [&["users"], args, &["--data", "d"]].concat();
        tokio::task::block_in_place(|| binary.run_with(&args, input.as_bytes()))
    };
    let password = "canary passphrase";
    let made = run(&["add", "canary@example.org", "--admin"], password).text();
    let again = run(&["add", "canary@example.org"], password);
    assert_ne!(again.code, 0);
    let body = json!({"email": "canary@example.org", "password": password});
    let login = Request::post("/api/auth/login", &body);
    let told = login.send(at).await.expect(200);
    let bearer = format!("Bearer {}", told["access_token"].as_str().unwrap());
    let users = Request::get("/api/admin/users").header("authorization", &bearer);
    users.send(at).await.expect(200);
    let line = format!("{}\tcanary@example.org\tadmin\tenabled\n", made.trim_end());
    assert_eq!(run(&["list"], "").text(), line);
    run(&["disable", "canary@example.org"], "").ok();
    let dead = async { while users.send(at).await.status != 401 {} };
    tokio::time::timeout(PATIENCE, dead).await.unwrap();
    login.send(at).await.expect(401);
    run(&["enable", made.trim_end()], "").ok();
    login.send(at).await.expect(200);
    let nobody = run(&["disable", "nobody@example.org"], "");
    assert!(nobody.err.contains("no account"), "{}", nobody.err);
    drop(server);
    let said: Vec<_> = log.iter().collect();
    assert!(
        said.iter()
            .any(|line| line.contains("add an administrator"))
    );
    assert_eq!(said.iter().find(|line| line.contains("canary")), None);
}
