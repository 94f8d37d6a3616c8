//! Traces: from the caller through the server to the provider, and all of it to a collector.

use tutor_core::conformance::upstream::{Act, Upstream, event_stream, json_response};

use crate::binary::Binary;
use crate::client::Request;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

// The collector answers while the server is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_to_the_provider_and_is_exported_without_words() {
    let taken = json_response(200, &serde_json::json!({}));
    let collector = Upstream::start([vec![Act::Send(taken)]]).await.unwrap();
    let chunk = serde_json::json!({"choices": [{"index": 0, "delta": {"content": "canary"}, "finish_reason": "stop"}]});
    let reply = event_stream(format!("data: {chunk}\n\ndata: [DONE]\n\n"));
    let provider = Upstream::start([vec![Act::Send(reply)]]).await.unwrap();
    let binary = Binary::new();
    let server = binary.serve_with(
        &["--data", "memory:"],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
            ("OPENAI_BASE_URL", &provider.url()),
            ("OPENAI_API_KEY", "sk-canary"),
        ],
    );
    let traced = Request::chat("canary words");
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let traced = traced.header("traceparent", &parent);
    traced.send(server.address).await.expect(200);
    // One that is none begins a trace of its own.
    let strange = Request::get("/api/sessions/canary").header("traceparent", "canary");
    strange.send(server.address).await.expect(404);
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));

    let asked = provider.requests();
    let chat = asked
        .iter()
        .find(|request| request.header("traceparent").is_some());
    let sent = chat.unwrap().header("traceparent").unwrap().to_owned();
    assert!(sent.starts_with(&format!("00-{TRACE}-")), "{sent}");
    assert!(sent != parent, "it belongs to the server's own span");

    let exported = collector.requests();
    assert!(
        exported
            .iter()
            .all(|request| request.target == "/v1/traces")
    );
    let spans: Vec<u8> = exported
        .iter()
        .flat_map(|request| request.body.clone())
        .collect();
    let id: Vec<u8> = (0..16)
        .map(|i| u8::from_str_radix(&TRACE[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    for part in [
        &id[..],
        b"neuro-tutor",
        b"POST /api/chat",
        b"GET /api/sessions/{session_id}",
        b"http.response.status_code",
        b"turn",
        b"gen_ai.provider.name",
    ] {
        let part_text = String::from_utf8_lossy(part);
        let text = String::from_utf8_lossy(&spans);
        assert!(contains(&spans, part), "{part_text} is not in {text}");
    }
    assert!(!contains(&spans, b"canary"));
}
