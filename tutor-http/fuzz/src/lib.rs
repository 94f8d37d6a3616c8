//! What reads requests, as functions of bytes that panic when a law is broken. The fuzz targets
//! call them, and so does the server's test run with random bytes and with what was found before.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use clap::Parser;
use futures_util::stream;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower_service::Service;
use tutor_core::file::FileStore;
use tutor_core::provider::{
    CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo,
};
use tutor_core::store::{MemoryStore, RecordStore, Store};
use tutor_core::time::SystemRuntime;
use tutor_core::{FinishReason, Tutor};
use tutor_http::config::{Args, Settings, Vars};
use tutor_http::people::{People, PeopleBounds};
use tutor_http::{AppState, router};

/// Inputs after which the server is made anew, so that what it keeps does not add up.
const ROUNDS: usize = 2000;

const PASSWORD: &str = "correct horse battery";

/// A provider that answers with what it is given.
#[derive(Clone, Debug, Default)]
struct Echo(Arc<Mutex<Vec<String>>>);

impl Echo {
    fn say(&self, pieces: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pieces;
    }
}

#[tutor_core::async_trait]
impl Provider for Echo {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new("echo", "echo")
    }

    async fn models(&self) -> tutor_core::Result<Vec<ModelInfo>> {
        Ok(Vec::new())
    }

    async fn stream(&self, _: CompletionRequest) -> tutor_core::Result<CompletionStream> {
        let pieces = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let reason = FinishReason::Stop;
        let deltas = pieces.into_iter().map(Delta::Text);
        let deltas = deltas.chain([Delta::Finished { reason }]).map(Ok);
        Ok(Box::pin(stream::iter(deltas)))
    }
}

/// A server without a socket.
struct World {
    runtime: Runtime,
    open: Router,
    guarded: Router,
    echo: Echo,
    /// A person's access token, refresh token, API key, and the ticket of a turn of theirs.
    access: String,
    refresh: String,
    key: String,
    ticket: String,
    turn: String,
    rounds: usize,
}

/// What came back.
struct Answer {
    status: StatusCode,
    kind: String,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&self.body)),
        }
    }

    /// Refused or done, but not broken, and in a form that its reader understands.
    #[track_caller]
    fn check(&self) {
        let text = String::from_utf8_lossy(&self.body);
        assert_ne!(self.status, StatusCode::INTERNAL_SERVER_ERROR, "{text}");
        if self.status.is_client_error() || self.status.is_server_error() {
            let told = self.json();
            let told = told.get("detail").or(told.get("error"));
            assert!(told.is_some(), "{text}");
            assert!(text.len() < 100_000, "{}", text.len());
        }
        if self.kind.starts_with("application/json") && !self.body.is_empty() {
            self.json();
        }
    }
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("threads");
        let echo = Echo::default();
        echo.say(vec!["Yes.".to_owned()]);
        let (open, guarded) = runtime.block_on(async {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
            let records: Arc<dyn RecordStore> = Arc::new(Arc::clone(&store));
            let bounds = PeopleBounds::default();
            let people = People::open(Arc::clone(&store), Arc::new(SystemRuntime), bounds);
            let people = people.await.expect("people");
            (
                router(state(&echo, Arc::new(MemoryStore::new())).await),
                router(
                    state(&echo, store)
                        .await
                        .with_people(people)
                        .with_records(records),
                ),
            )
        });
        let mut world = Self {
            runtime,
            open,
            guarded,
            echo,
            access: String::new(),
            refresh: String::new(),
            key: String::new(),
            ticket: String::new(),
            turn: String::new(),
            rounds: 0,
        };
        world.sign_in();
        world
    }

    fn sign_in(&mut self) {
        let account = json!({"email": "ada@example.org", "password": PASSWORD});
        let post = |path: &str, body: Value, token: &str| {
            let mut request = request(Method::POST, path, body.to_string()).expect("a request");
            if let Ok(value) = HeaderValue::from_str(&format!("Bearer {token}")) {
                request.headers_mut().insert("authorization", value);
            }
            self.ask(&self.guarded, request).json()
        };
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let told = post("/api/auth/register", account, "");
        let access = text(&told["access_token"]);
        let refresh = text(&told["refresh_token"]);
        let key = text(&post("/api/keys", json!({"name": "k"}), &access)["key"]);
        let chat = json!({"messages": [{"role": "user", "content": "Hi"}]});
        let turn = text(&post("/api/chat", chat, &access)["turn_id"]);
        let ticket = post(&format!("/api/turns/{turn}/ticket"), json!({}), &access);
        let ticket = text(&ticket["ticket"]);
        (self.access, self.refresh, self.key) = (access, refresh, key);
        (self.turn, self.ticket) = (turn, ticket);
    }

    fn ask(&self, router: &Router, request: Request<Body>) -> Answer {
        self.runtime.block_on(async {
            let response = match router.clone().call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let status = response.status();
            let kind = response.headers().get("content-type");
            let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            let kind = kind.to_owned();
            let body = response.into_body().collect().await;
            let body = body.expect("a body without errors").to_bytes().to_vec();
            Answer { status, kind, body }
        })
    }
}

async fn state(echo: &Echo, store: Arc<dyn Store>) -> AppState {
    let files = FileStore::in_memory(Arc::new(Arc::clone(&store)));
    let builder = Tutor::builder().provider(echo.clone()).data(store);
    let tutor = builder.files(files.clone()).build().await.expect("a tutor");
    AppState::new(tutor).with_files(files)
}

/// With a server of this thread's own.
fn with<T>(run: impl FnOnce(&World) -> T) -> T {
    thread_local! {
        static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    }
    WORLD.with_borrow_mut(|world| {
        if world.as_ref().is_some_and(|world| world.rounds >= ROUNDS) {
            *world = None;
        }
        let world = world.get_or_insert_with(World::new);
        world.rounds += 1;
        run(world)
    })
}

fn request(method: Method, path: &str, body: impl Into<Body>) -> Option<Request<Body>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(body.into())
        .ok()
}

/// The first byte chooses, the rest is what is chosen for.
fn choose<'a, T>(from: &[T], data: &'a [u8]) -> Option<(T, &'a [u8])>
where
    T: Copy,
{
    let (first, rest) = data.split_first()?;
    Some((from[usize::from(*first) % from.len()], rest))
}

/// A body of JSON, for one of the routes that read one.
pub fn json(data: &[u8]) {
    const ROUTES: [(&str, &str); 12] = [
        ("POST", "/api/chat"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/messages"),
        ("POST", "/agui"),
        ("POST", "/api/sessions"),
        ("POST", "/v1/messages/count_tokens"),
        ("PATCH", "/api/sessions/s"),
        ("POST", "/api/messages/m/feedback"),
        ("POST", "/api/import"),
        ("POST", "/api/auth/register"),
        ("POST", "/api/keys"),
        ("POST", "/api/auth/refresh"),
    ];
    let Some(((method, path), body)) = choose(&ROUTES, data) else {
        return;
    };
    with(|world| {
        let Some(mut request) = request(method.parse().expect("a method"), path, body.to_vec())
        else {
            return;
        };
        if path == "/api/import" {
            let kind = HeaderValue::from_static("application/x-ndjson");
            request.headers_mut().insert("content-type", kind);
        }
        world.ask(&world.open, request).check();
    });
}

/// A query and headers, a line each, for one of the routes that read them.
pub fn query(data: &[u8]) {
    const PATHS: [&str; 14] = [
        "/api/sessions?",
        "/api/sessions/s/messages?",
        "/api/sessions/s/context?",
        "/api/sessions/s/export?",
        "/api/turns/t/events?",
        "/api/files?",
        "/api/files/f?",
        "/api/export?",
        "/api/chat/s/stream?",
        "/v1/models/",
        "/api/sessions/",
        "/api/turns/",
        "/docs/assets/",
        "/",
    ];
    const HEADERS: [&str; 8] = [
        "last-event-id",
        "x-session-id",
        "idempotency-key",
        "range",
        "if-none-match",
        "accept",
        "x-request-id",
        "traceparent",
    ];
    let Some((path, rest)) = choose(&PATHS, data) else {
        return;
    };
    let mut lines = rest.split(|byte| *byte == b'\n');
    let query = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let Some(mut request) = request(Method::GET, &format!("{path}{query}"), Body::empty()) else {
        return;
    };
    for (name, value) in HEADERS.into_iter().zip(lines) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            request
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
    }
    with(|world| world.ask(&world.open, request).check());
}

/// Something that is no token of ours: made up, or one of ours that was changed.
pub fn token(data: &[u8]) {
    with(|world| {
        let ours = [&world.access, &world.refresh, &world.key, &world.ticket];
        let Some((valid, rest)) = choose(&ours, data) else {
            return;
        };
        let Some((is_changed, rest)) = choose(&[true, false], rest) else {
            return;
        };
        let mut text = Vec::new();
        if is_changed {
            text.extend_from_slice(valid.as_bytes());
            for change in rest.chunks_exact(2) {
                let at = usize::from(change[0]) % text.len();
                text[at] ^= change[1];
            }
        } else {
            text.extend_from_slice(rest);
        }
        if ours.iter().any(|ours| ours.as_bytes() == text) {
            return;
        }
        let header = HeaderValue::from_bytes(&[b"Bearer ", &text[..]].concat());
        if let (Ok(header), Some(mut request)) =
            (header, request(Method::GET, "/api/sessions", Body::empty()))
        {
            request.headers_mut().insert("authorization", header);
            let answer = world.ask(&world.guarded, request);
            answer.check();
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        }
        let path = format!("/api/turns/{}/events?ticket=", world.turn);
        let text = String::from_utf8_lossy(&text).into_owned();
        if let Some(request) = request(Method::GET, &format!("{path}{text}"), Body::empty()) {
            let answer = world.ask(&world.guarded, request);
            answer.check();
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        }
        let body = json!({"refresh_token": text}).to_string();
        let request = request(Method::POST, "/api/auth/refresh", body).expect("a request");
        let answer = world.ask(&world.guarded, request);
        answer.check();
        assert!(answer.status.is_client_error(), "{}", answer.status);
    });
}

/// A form that brings a file.
pub fn form(data: &[u8]) {
    with(|world| {
        let mut request = request(Method::POST, "/api/files", data.to_vec()).expect("a request");
        let kind = HeaderValue::from_static("multipart/form-data; boundary=b");
        request.headers_mut().insert("content-type", kind);
        let answer = world.ask(&world.open, request);
        answer.check();
        if answer.status == StatusCode::CREATED {
            let kept = answer.json();
            let path = format!("/api/files/{}", kept["id"].as_str().expect("an id"));
            let read = self::request(Method::GET, &path, Body::empty()).expect("a request");
            let read = world.ask(&world.open, read);
            assert_eq!(read.status, StatusCode::OK);
            assert_eq!(kept["bytes"], read.body.len());
            let is_there = data.windows(read.body.len()).any(|part| part == read.body);
            assert!(is_there, "a file that nobody sent");
        }
    });
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

/// The text of a configuration file.
pub fn config(data: &[u8]) {
    // These name files of this machine: what is in them is another question.
    for reads in ["_file", "tls_", "model_catalog", "files"] {
        if data
            .windows(reads.len())
            .any(|part| part == reads.as_bytes())
        {
            return;
        }
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("neuro-tutor.toml");
    std::fs::write(&path, data).expect("a file");
    let read = Vars::load(directory.path(), Some(path.as_path()));
    let read = read.and_then(|vars| {
        let line = Line::parse_from(["neuro-tutor"]);
        Settings::new(line.args, &vars)
    });
    if let Err(error) = read {
        let told = error.to_string();
        assert!(told.lines().count() == 1 && told.len() < 1000, "{told}");
    }
}

/// What a model writes, in pieces that a zero byte ends, as the events of every protocol.
pub fn events(data: &[u8]) {
    let pieces = data.split(|byte| *byte == 0);
    let pieces: Vec<String> = pieces
        .map(|piece| String::from_utf8_lossy(piece).into_owned())
        .filter(|piece| !piece.is_empty())
        .collect();
    let whole = pieces.concat();
    if whole.is_empty() || whole.len() > 100_000 {
        return;
    }
    with(|world| {
        world.echo.say(pieces);
        let said = json!([{"role": "user", "content": "Hi"}]);
        let parts = json!([{"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}]);
        for (path, body) in [
            ("/api/chat", json!({"messages": said, "stream": true})),
            (
                "/v1/chat/completions",
                json!({"model": "echo", "messages": said, "stream": true}),
            ),
            (
                "/v1/messages",
                json!({"model": "echo", "max_tokens": 9, "messages": said, "stream": true}),
            ),
            (
                "/api/chat",
                json!({"id": format!("c{}", world.rounds), "trigger": "submit-message",
                    "messages": parts}),
            ),
            (
                "/agui",
                json!({"threadId": format!("t{}", world.rounds), "runId": "r",
                    "messages": [{"id": "m", "role": "user", "content": "Hi"}]}),
            ),
        ] {
            let request = request(Method::POST, path, body.to_string()).expect("a request");
            let answer = world.ask(&world.open, request);
            let text = String::from_utf8(answer.body).expect("UTF-8");
            assert_eq!(answer.status, StatusCode::OK, "{path}: {text}");
            assert_eq!(read(&text), whole, "{path}: {text}");
        }
        world.echo.say(vec!["Yes.".to_owned()]);
    });
}

/// The words of a stream's deltas, whatever its protocol.
fn read(stream: &str) -> String {
    let mut words = String::new();
    for block in stream.split_terminator("\n\n") {
        let mut data = None;
        for line in block.split('\n') {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            let is_field = matches!(name, "event" | "id" | "retry" | "data" | "");
            assert!(is_field && !line.contains('\r'), "{line:?}");
            if name == "data" {
                assert!(data.replace(value).is_none(), "one line of data an event");
            }
        }
        let Some(data) = data.filter(|data| *data != "[DONE]") else {
            continue;
        };
        let event: Value = serde_json::from_str(data).expect("JSON");
        let kind = event["type"].as_str().unwrap_or_default();
        let delta = match kind {
            "" => &event["choices"][0]["delta"]["content"],
            "text.delta" => &event["text"],
            "text-delta" | "TEXT_MESSAGE_CONTENT" => &event["delta"],
            "content_block_delta" => &event["delta"]["text"],
            _ => continue,
        };
        words.push_str(delta.as_str().unwrap_or_default());
    }
    words
}
