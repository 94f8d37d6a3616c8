//! Recorded traffic of providers through the whole path: a request to the server, the engine, the
//! provider on a real socket, and the store.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tutor_core::conformance::upstream::{Act, Upstream, event_stream};
use tutor_core::provider::{
    AnthropicProvider, ApiKey, OpenAiProvider, ProviderConfig, ProviderKind,
};
use tutor_http::Bounds;

use crate::client::{Request, SentEvent};
use crate::server::{Server, builder};

const KEY: &str = "sk-live-SECRET-1234567890abcdef";

/// The core's recorded traffic.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tutor-core/tests/fixtures/providers")
}

fn fixtures() -> Vec<Value> {
    let index = std::fs::read(root().join("expected.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let all = index["fixtures"].as_array().unwrap().iter();
    let known = ["openai_chat", "anthropic"];
    let wanted = all.filter(|it| known.contains(&it["protocol"].as_str().unwrap()));
    wanted.cloned().collect()
}

/// A server whose only provider is answered by these bytes, without retries.
async fn server(protocol: &str, upstream: &Upstream) -> Server {
    let kind = match protocol {
        "anthropic" => ProviderKind::Anthropic,
        _ => ProviderKind::OpenAi,
    };
    let mut config = ProviderConfig::new(kind).with_base_url(upstream.url());
    config.key = Some(ApiKey::new(KEY));
    let builder = match kind {
        ProviderKind::Anthropic => builder(AnthropicProvider::new(&config).unwrap()),
        _ => builder(OpenAiProvider::new(&config).unwrap()),
    };
    Server::with(builder, Bounds::default()).await
}

/// What a client has in the end of the events of one kind: what came before a restart is void.
fn joined(events: &[SentEvent], kind: &str) -> String {
    let begin = events.iter().rposition(|e| e.kind() == "attempt.restarted");
    let rest = &events[begin.map_or(0, |at| at + 1)..];
    let wanted = rest.iter().filter(|event| event.kind() == kind);
    wanted.map(|e| e.get("text").as_str().unwrap()).collect()
}

/// The text of a stored message.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        parts => {
            let parts = parts.as_array().into_iter().flatten();
            parts.filter_map(|part| part["text"].as_str()).collect()
        }
    }
}

async fn replay(fixture: &Value) {
    let file = fixture["file"].as_str().unwrap();
    let expect = &fixture["expect"];
    let bytes = std::fs::read(root().join(file)).unwrap();
    let bytes = match fixture["kind"].as_str() {
        Some("http_response") => bytes,
        _ => event_stream(&bytes),
    };
    let upstream = Upstream::start([vec![Act::Send(bytes)]]).await.unwrap();
    let server = server(fixture["protocol"].as_str().unwrap(), &upstream).await;
    let request = Request::chat_with("Why?", json!({"stream": true}));
    let events = request.open(server.address).await.unwrap().events().await;

    let word = |name: &str| expect[name].as_str().unwrap_or_default();
    let said = format!("{}{}", word("text"), word("refusal"));
    assert_eq!(joined(&events, "text.delta"), said, "{file}");
    assert_eq!(
        joined(&events, "reasoning.delta"),
        word("reasoning"),
        "{file}"
    );
    let session = events[0].get("session_id").as_str().unwrap();
    let messages = Request::get(&format!("/api/sessions/{session}/messages"));
    let messages = messages.send(server.address).await.expect(200);
    let messages = messages["messages"].as_array().unwrap();
    assert_eq!(messages[0]["content"], "Why?", "{file}");
    let reply = messages.get(1).map(|reply| text_of(&reply["content"]));

    let last = events.last().unwrap();
    if expect["outcome"] == "error" {
        assert_eq!(last.kind(), "turn.failed", "{file}");
        assert_eq!(
            last.get("error")["retryable"],
            expect["error"]["retryable"],
            "{file}"
        );
        // What had arrived is kept.
        assert_eq!(reply.unwrap_or_default(), said, "{file}");
    } else {
        assert_eq!(last.kind(), "turn.finished", "{file}");
        assert_eq!(
            last.get("finish_reason"),
            expect["finish"].as_str().unwrap(),
            "{file}"
        );
        assert_eq!(reply.as_deref(), Some(said.as_str()), "{file}");
    }
    let all = format!("{events:?}");
    assert!(!all.contains("SECRET"), "{file} tells the key");
    let path = format!(
        "/api/turns/{}/events",
        events[0].get("turn_id").as_str().unwrap()
    );
    let again = Request::get(&path).open(server.address).await.unwrap();
    assert_eq!(again.events().await, events, "{file}");
}

#[tokio::test]
async fn every_recorded_answer_arrives_at_the_client_and_in_the_store() {
    let fixtures = fixtures();
    assert!(fixtures.len() > 50, "{}", fixtures.len());
    for fixture in &fixtures {
        replay(fixture).await;
    }
}
