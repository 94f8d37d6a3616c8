//! A server that stops loses nothing: what was streamed is there after it has started again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::binary::Binary;
use crate::client::{Request, SentEvent};

/// Replies that are being written when the signal comes.
const STREAMS: usize = 40;

#[tokio::test]
async fn every_live_stream_ends_at_once_with_a_place_to_resume_from() {
    let binary = Binary::new();
    let args = ["--data", "d", "--drain-seconds", "1"];
    let server = binary.serve_with(&args, &[("DEMO_DELAY_MS", "200")]);
    let mut readers = Vec::new();
    for _ in 0..STREAMS {
        let stream = Request::chat_with("What is light?", json!({"stream": true}));
        let mut stream = stream.open(server.address).await.unwrap();
        // Each is live: its first words have been read.
        let mut seen = Vec::new();
        while seen.last().map(SentEvent::kind) != Some("text.delta") {
            seen.push(stream.event().await.unwrap());
        }
        readers.push(tokio::spawn(async move {
            seen.extend(stream.events().await);
            (seen, Instant::now())
        }));
    }
    let told = Instant::now();
    server.signal("TERM");
    let mut kept: Vec<Vec<SentEvent>> = Vec::new();
    for reader in readers {
        let (seen, ended) = reader.await.unwrap();
        assert!(ended - told < Duration::from_secs(5), "{:?}", ended - told);
        kept.push(seen);
    }
    assert_eq!(server.ended(), Some(0));

    let server = binary.serve(&args);
    for seen in kept {
        let turn = seen[0].get("turn_id").as_str().unwrap();
        let all = Request::get(&format!("/api/turns/{turn}/events"));
        let all = all.open(server.address).await.unwrap().events().await;
        let last = all.last().unwrap();
        assert!(
            matches!(last.kind(), "turn.finished" | "turn.failed"),
            "{last:?}"
        );
        // What was seen, but for the hint to come back, is how the whole begins.
        let texts = |events: &[SentEvent]| -> String {
            let deltas = events.iter().filter(|event| event.kind() == "text.delta");
            deltas
                .filter_map(|delta| delta.get("text").as_str())
                .collect()
        };
        assert!(texts(&all).starts_with(&texts(&seen)));
        let numbers: Vec<u64> = all.iter().filter_map(|event| event.id).collect();
        let expected: Vec<u64> = (1..).take(all.len()).collect();
        assert_eq!(numbers, expected);
        let session = seen[0].get("session_id").as_str().unwrap();
        let messages = Request::get(&format!("/api/sessions/{session}/messages"));
        let messages = messages.send(server.address).await.expect(200);
        let roles: Vec<&Value> = messages["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| &m["role"])
            .collect();
        assert_eq!(roles, ["user", "assistant"]);
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let binary = Binary::new();
    let args = ["--data", "memory:", "--drain-seconds", "60"];
    let (server, log) = binary.serve_logged(&args, &[("DEMO_DELAY_MS", "1000")]);
    let stream = Request::chat_with("What is light?", json!({"stream": true}));
    let mut stream = stream.open(server.address).await.unwrap();
    stream.event().await.unwrap();
    server.signal("TERM");
    crate::binary::line_with(&log, "stopping");
    server.signal("TERM");
    assert_eq!(server.ended(), Some(130));
}
