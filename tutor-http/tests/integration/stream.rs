//! The native event stream: cut anywhere, resumed, replayed, and ended by a stopping server.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use tutor_core::provider::scripted::{Step, text_script};
use tutor_core::provider::{Delta, ScriptedProvider};
use tutor_http::Bounds;

use crate::client::{Open, Request, SentEvent};
use crate::server::{Server, builder};

fn streamed(text: &str) -> Request {
    Request::chat_with(text, json!({"stream": true}))
}

async fn open(request: &Request, server: &Server) -> Open {
    let open = request.open(server.address).await.unwrap();
    assert_eq!(open.status, 200);
    open
}

fn events_of(started: &SentEvent) -> String {
    format!(
        "/api/turns/{}/events",
        started.get("turn_id").as_str().unwrap()
    )
}

#[tokio::test]
async fn a_stream_has_the_headers_that_keep_proxies_from_holding_it_back() {
    let server = Server::start().await;
    for request in [
        streamed("Why?"),
        Request::chat("Why?").header("Accept", "text/event-stream"),
    ] {
        let stream = open(&request, &server).await;
        for (name, value) in [
            ("content-type", "text/event-stream; charset=utf-8"),
            ("cache-control", "no-cache, no-transform"),
            ("x-accel-buffering", "no"),
        ] {
            assert_eq!(stream.header(name), Some(value));
        }
        let events = stream.events().await;
        let ids: Vec<_> = events.iter().map(|event| event.id.unwrap()).collect();
        assert_eq!(ids, (1..=events.len() as u64).collect::<Vec<_>>());
        for event in &events {
            assert_eq!(event.kind(), event.get("type"));
            assert_eq!(event.id.unwrap(), *event.get("seq"));
        }
        assert_eq!(events.first().unwrap().kind(), "turn.started");
        assert_eq!(events.last().unwrap().kind(), "turn.finished");
        let terminals = events.iter().filter(|e| e.kind().starts_with("turn.f"));
        assert_eq!(terminals.count(), 1);
    }
    let refused = Request::chat_with("Why?", json!({"stream": false}));
    let whole = refused.header("Accept", "text/event-stream");
    whole.send(server.address).await.expect(200);
}

#[tokio::test]
async fn the_deltas_make_the_stored_reply() {
    let server = Server::start().await;
    let events = open(&streamed("Why?"), &server).await.events().await;
    let text: String = events
        .iter()
        .filter(|event| event.kind() == "text.delta")
        .map(|event| event.get("text").as_str().unwrap())
        .collect();
    assert_eq!(events.last().unwrap().get("message")["content"], text);
}

#[tokio::test]
async fn a_replay_from_every_place_is_the_rest_of_the_original() {
    let server = Server::start().await;
    let original = open(&streamed("Why?"), &server).await.events().await;
    let path = events_of(&original[0]);
    for cut in 0..original.len() {
        let by_query = Request::get(&format!("{path}?after={cut}"));
        assert_eq!(
            open(&by_query, &server).await.events().await,
            original[cut..]
        );
        // A browser repeats the query that it began with: the header is newer.
        let by_header = Request::get(&format!("{path}?after=0"));
        let by_header = by_header.header("Last-Event-ID", &cut.to_string());
        assert_eq!(
            open(&by_header, &server).await.events().await,
            original[cut..]
        );
    }
    for beyond in [original.len(), original.len() + 7] {
        let known = Request::get(&path).header("Last-Event-ID", &beyond.to_string());
        assert_eq!(known.send(server.address).await.status, 204);
    }
    let whole = Request::get(&path).header("Last-Event-ID", "");
    assert_eq!(open(&whole, &server).await.events().await, original);
}

#[tokio::test]
async fn a_client_that_was_cut_off_resumes_while_the_reply_is_written() {
    let gate = Arc::new(Notify::new());
    let mut script = vec![
        Step::Yield(Delta::Text("one ".into())),
        Step::Wait(Arc::clone(&gate)),
    ];
    script.extend(text_script("two three"));
    let server = Server::with_provider(ScriptedProvider::new([script])).await;
    let mut cut = open(&streamed("Why?"), &server).await;
    let mut seen = vec![cut.event().await.unwrap()];
    drop(cut);

    let resume = Request::get(&events_of(&seen[0])).header("Last-Event-ID", "1");
    let mut resumed = open(&resume, &server).await;
    seen.push(resumed.event().await.unwrap());
    assert_eq!(seen[1].get("text"), "one ");
    gate.notify_one();
    seen.extend(resumed.events().await);

    let all = open(&Request::get(&events_of(&seen[0])), &server).await;
    assert_eq!(all.events().await, seen);
    assert_eq!(
        seen.last().unwrap().get("message")["content"],
        "one two three"
    );
}

#[tokio::test]
async fn a_silent_stream_says_that_it_is_alive() {
    let gate = Arc::new(Notify::new());
    let script = [vec![Step::Wait(Arc::clone(&gate))], text_script("late")].concat();
    let mut bounds = Bounds::default();
    bounds.heartbeat = Duration::from_millis(20);
    let server = Server::with(builder(ScriptedProvider::new([script])), bounds).await;
    let mut stream = open(&streamed("Why?"), &server).await;
    assert_eq!(stream.event().await.unwrap().kind(), "turn.started");
    for _ in 0..3 {
        let beat = stream.event().await.unwrap();
        assert_eq!(beat.comment.as_deref(), Some("alive"));
        assert_eq!((beat.event, beat.id, beat.data), (None, None, None));
    }
    gate.notify_one();
    assert_eq!(
        stream.events().await.last().unwrap().kind(),
        "turn.finished"
    );
}

#[tokio::test]
async fn a_stopping_server_ends_streams_with_a_hint_and_without_a_terminal_event() {
    let gate = Arc::new(Notify::new());
    let script = [vec![Step::Wait(Arc::clone(&gate))], text_script("late")].concat();
    let server = Server::with_provider(ScriptedProvider::new([script])).await;
    let mut stream = open(&streamed("Why?"), &server).await;
    let started = stream.event().await.unwrap();
    server.stop();
    let hint = stream.event().await.unwrap();
    assert_eq!(hint.retry, Some(1000));
    assert!(hint.comment.unwrap().contains("Last-Event-ID"));
    assert_eq!(stream.event().await, None);

    // The turn itself goes on, and can be read by whoever has the data.
    gate.notify_one();
    let turn = started.get("turn_id").as_str().unwrap().parse().unwrap();
    let mut events = server.tutor.events(&turn, 1).await.unwrap();
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    assert!(last.unwrap().event.is_terminal());
    server.stopped().await;
}

#[tokio::test]
async fn a_turn_that_does_not_exist_cannot_be_followed() {
    let server = Server::start().await;
    let missing = Request::get("/api/turns/nobody/events")
        .send(server.address)
        .await;
    assert_eq!(missing.expect(404)["code"], "not_found");
    for query in ["?after=-1", "?after=x", "?after=1.5"] {
        let bad = Request::get(&format!("/api/turns/nobody/events{query}"));
        let bad = bad.send(server.address).await.expect(422);
        assert_eq!(
            bad["detail"][0]["loc"],
            json!(["query", "after"]),
            "{query}"
        );
    }
    let bad = Request::get("/api/turns/nobody/events").header("Last-Event-ID", "0.7");
    let bad = bad.send(server.address).await.expect(422);
    assert_eq!(bad["detail"][0]["loc"], json!(["header", "last-event-id"]));
}
