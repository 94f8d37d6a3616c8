//! What the server counts, and what it logs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tutor_core::provider::scripted::Step;
use tutor_core::provider::{Delta, DemoProvider, ScriptedProvider};
use tutor_core::store::MemoryStore;
use tutor_core::{Error, ErrorKind, FinishReason, Tutor, Usage};
use tutor_http::metrics::{MeteredProvider, MeteredStore, Metrics};
use tutor_http::{AppState, Bounds, Served, serve_as};

use crate::binary::{Binary, line_with};
use crate::client::Request;
use crate::server::Server;

/// The samples of a text, by their names with labels.
pub(crate) fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

async fn scrape(server: &Server) -> BTreeMap<String, f64> {
    let response = Request::get("/metrics").send(server.address).await;
    assert_eq!(response.status, 200);
    let kind = response.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    samples(&response.text())
}

#[track_caller]
fn value(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    match samples.get(name) {
        Some(value) => *value,
        None => panic!("no {name} in {:?}", samples.keys()),
    }
}

#[tokio::test]
async fn requests_are_counted_by_their_routes_and_never_by_their_paths() {
    let server = Server::start().await;
    let session = Request::chat("Hello")
        .send(server.address)
        .await
        .expect(200);
    let id = session["session_id"].as_str().unwrap();
    for path in [
        &format!("/api/sessions/{id}"),
        "/api/sessions/nobody",
        "/canary/path",
        "/canary/two",
    ] {
        Request::get(path).send(server.address).await;
    }
    Request::new("CANARY", "/api/sessions")
        .send(server.address)
        .await;
    let text = Request::get("/metrics").send(server.address).await.text();
    for hidden in [id, "nobody", "canary", "CANARY", "Hello"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    let samples = samples(&text);
    for (labels, count) in [
        (r#"method="POST",route="/api/chat",status="200""#, 1.0),
        (
            r#"method="GET",route="/api/sessions/{session_id}",status="200""#,
            1.0,
        ),
        (
            r#"method="GET",route="/api/sessions/{session_id}",status="404""#,
            1.0,
        ),
        (r#"method="GET",route="none",status="404""#, 2.0),
        (r#"method="OTHER",route="/api/sessions",status="405""#, 1.0),
    ] {
        let name = format!("neuro_tutor_http_requests_total{{{labels}}}");
        assert!(value(&samples, &name) == count, "{name}");
    }
    let name = r#"neuro_tutor_http_request_seconds_count{route="/api/chat"}"#;
    assert!(value(&samples, name) == 1.0);
}

#[tokio::test]
async fn streams_turns_and_connections_are_counted_while_they_last() {
    let slow = DemoProvider::new().with_delay(Duration::from_millis(50));
    let server = Server::with_provider(slow).await;
    let stream = Request::chat_with("Hello", json!({"stream": true}));
    let mut stream = stream.open(server.address).await.unwrap();
    stream.event().await.unwrap();
    let during = scrape(&server).await;
    assert!(value(&during, "neuro_tutor_streams") == 1.0);
    assert!(value(&during, "neuro_tutor_live_turns") == 1.0);
    // The stream's, and the one that asks.
    assert!(value(&during, "neuro_tutor_connections") == 2.0);
    stream.events().await;
    loop {
        let after = scrape(&server).await;
        let of = |name| value(&after, name);
        if of("neuro_tutor_streams") == 0.0 && of("neuro_tutor_connections") == 1.0 {
            assert!(of("neuro_tutor_live_turns") == 0.0);
            break;
        }
    }
}

#[tokio::test]
async fn providers_and_the_store_are_counted_where_they_are_metered() {
    let metrics = Metrics::default();
    let demo = DemoProvider::new().with_delay(Duration::ZERO);
    let refuse = || Error::new(ErrorKind::ProviderAuth, "canary");
    let usage = Usage {
        input_tokens: Some(7),
        output_tokens: Some(5),
        ..Usage::default()
    };
    let reply = vec![
        Step::Yield(Delta::Text("canary".to_owned())),
        Step::Yield(Delta::Usage(usage)),
        Step::Yield(Delta::Finished {
            reason: FinishReason::Stop,
        }),
    ];
    let broken = ScriptedProvider::new([vec![Step::Fail(refuse)], reply]);
    let store = MeteredStore::new(std::sync::Arc::new(MemoryStore::default()), metrics.clone());
    let tutor = Tutor::builder()
        .store(store)
        .provider(MeteredProvider::new(demo, metrics.clone()))
        .provider(MeteredProvider::new(broken, metrics.clone()))
        .build()
        .await
        .unwrap();
    let listener = tutor_http::bind("127.0.0.1", 0).await.unwrap();
    let address = listener.local_addr().unwrap();
    let state = AppState::new(tutor)
        .with_metrics(metrics)
        .hide_metrics(true);
    let watched = tutor_http::bind("127.0.0.1", 0).await.unwrap();
    let watched_at = watched.local_addr().unwrap();
    let operations = tokio::sync::watch::channel(Served::operations(state.clone())).1;
    tokio::spawn(serve_as(watched, operations, std::future::pending()));
    tokio::spawn(tutor_http::serve(listener, state, std::future::pending()));

    Request::chat("Hello").send(address).await.expect(200);
    let asked = Request::chat_with("Hello", json!({"preferences": {"provider": "scripted"}}));
    asked.send(address).await.expect(502);
    asked.send(address).await.expect(200);

    // Told at their own address alone, which has nothing else.
    Request::get("/metrics").send(address).await.expect(404);
    Request::get("/healthz").send(watched_at).await.expect(200);
    Request::get("/readyz").send(watched_at).await.expect(200);
    Request::get("/api/sessions")
        .send(watched_at)
        .await
        .expect(404);
    let text = Request::get("/metrics").send(watched_at).await.text();
    assert!(!text.contains("canary"), "{text}");
    let samples = samples(&text);
    for (name, count) in [
        (
            r#"neuro_tutor_completions_total{provider="demo",outcome="completed"}"#,
            1.0,
        ),
        (
            r#"neuro_tutor_completions_total{provider="scripted",outcome="provider_auth"}"#,
            1.0,
        ),
        (
            r#"neuro_tutor_first_token_seconds_count{provider="demo"}"#,
            1.0,
        ),
        (
            r#"neuro_tutor_store_write_seconds_count{operation="begin_turn"}"#,
            3.0,
        ),
        (
            r#"neuro_tutor_store_write_seconds_count{operation="finish_turn"}"#,
            3.0,
        ),
        ("neuro_tutor_store_writes_waiting", 0.0),
    ] {
        assert!(value(&samples, name) == count, "{name}: {text}");
    }
    for (kind, count) in [("input", 7.0), ("output", 5.0)] {
        let name = format!(r#"neuro_tutor_tokens_total{{provider="scripted",kind="{kind}"}}"#);
        assert!(value(&samples, &name) == count, "{name}: {text}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_counted() {
    let mut bounds = Bounds::default();
    bounds.max_connections = 1;
    let server = Server::with_bounds(bounds).await;
    let keep = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    // The first connection may not be counted yet: the second one is then the one that waits.
    while Request::get("/").send(server.address).await.status != 503 {
        tokio::task::yield_now().await;
    }
    drop(keep);
    let samples = loop {
        let response = Request::get("/metrics").send(server.address).await;
        if response.status == 200 {
            break samples(&response.text());
        }
        tokio::task::yield_now().await;
    };
    assert!(value(&samples, "neuro_tutor_connections_refused_total") >= 1.0);
}

#[tokio::test]
async fn the_binary_tells_of_its_store_and_itself_and_logs_json_without_words_or_keys() {
    let binary = Binary::new();
    let (server, log) = binary.serve_logged(
        &[
            "--metrics-listen",
            "127.0.0.1:0",
            "--log-format",
            "json",
            "--log-level",
            "trace",
        ],
        &[
            ("OPENAI_API_KEY", "sk-canary"),
            ("OPENAI_BASE_URL", "http://127.0.0.1:9/canary"),
            ("DEFAULT_PROVIDER", "openai"),
        ],
    );
    Request::chat("canary words")
        .header("x-request-id", "a-request-of-mine")
        .header("authorization", "Bearer canary")
        .header("cookie", "canary=1")
        .send(server.address)
        .await;
    Request::get("/api/sessions/canary?q=canary")
        .send(server.address)
        .await;
    Request::get("/canary").send(server.address).await;
    let watched = server.watched.unwrap();
    let text = Request::get("/metrics").send(watched).await.text();
    let samples = samples(&text);
    for name in [
        "neuro_tutor_uptime_seconds",
        "neuro_tutor_store_bytes",
        "neuro_tutor_store_groups",
        "neuro_tutor_store_group_writes",
        "neuro_tutor_resident_bytes",
        "neuro_tutor_open_files",
    ] {
        assert!(value(&samples, name) > 0.0, "{name}");
    }
    assert!(text.contains("neuro_tutor_build_info{version="), "{text}");
    assert!(
        text.contains(r#"neuro_tutor_provider_breaker{provider="openai",state="closed"}"#),
        "{text}"
    );
    let line = line_with(&log, "\"route\":\"/api/chat\"");
    let entry: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(entry["method"], "POST");
    assert_eq!(entry["route"], "/api/chat");
    assert_eq!(entry["request_id"], "a-request-of-mine");
    assert_eq!(entry["level"], "INFO");
    assert!(entry["status"].is_u64() && entry["ms"].is_u64(), "{line}");
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    let rest: Vec<String> = log.iter().collect();
    for line in rest.iter().chain([&line, &text]) {
        assert!(!line.contains("canary"), "{line}");
    }
    for line in &rest {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert!(entry["timestamp"].is_string(), "{line}");
    }
}
