//! `POST /api/chat` and what it leaves behind.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tutor_core::provider::ScriptedProvider;
use tutor_core::provider::scripted::{Step, text_script};
use tutor_core::provider::{Delta, Provider};
use tutor_http::Bounds;

use crate::client::Request;
use crate::server::{Server, builder};

/// A provider that says one word, and the rest when it is told to.
fn gated(gate: &Arc<Notify>) -> ScriptedProvider {
    let mut script = vec![
        Step::Yield(Delta::Text("first ".into())),
        Step::Wait(Arc::clone(gate)),
    ];
    script.extend(text_script("and last"));
    ScriptedProvider::new([script])
}

async fn messages(server: &Server, session: &Value, query: &str) -> Vec<Value> {
    let path = format!(
        "/api/sessions/{}/messages{query}",
        session.as_str().unwrap()
    );
    let page = Request::get(&path).send(server.address).await.expect(200);
    page["messages"].as_array().unwrap().clone()
}

fn texts(messages: &[Value]) -> Vec<&str> {
    messages
        .iter()
        .map(|m| m["content"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn the_three_examples_of_the_original_documentation_work_as_they_stand() {
    let server = Server::start().await;
    let health = b"GET / HTTP/1.1\r\nHost: localhost:8000\r\nConnection: close\r\n\r\n";
    let health = crate::client::send_raw(server.address, health)
        .await
        .unwrap();
    assert_eq!(
        (health.status, health.text().as_str()),
        (200, r#"{"status":"healthy"}"#)
    );

    let body = r#"{
    "messages": [
        {"role": "user", "content": "What is photosynthesis?"}
    ],
    "preferences": {
        "model": "gpt-4",
        "temperature": 0.7
    }
}"#;
    let chat = Request::new("POST", "/api/chat")
        .header("content-type", "application/json")
        .body(body);
    let chat = chat.send(server.address).await.expect(200);
    let reply = chat["reply_message"].as_object().unwrap();
    assert_eq!(reply["role"], "assistant");
    assert!(
        reply["content"]
            .as_str()
            .unwrap()
            .contains("photosynthesis")
    );
    assert!(reply["timestamp"].as_str().unwrap().ends_with('Z'));
    let mut names: Vec<_> = reply.keys().collect();
    names.sort();
    assert_eq!(names, ["content", "id", "role", "timestamp"]);
    // The demo provider stands in for gpt-4, and says so.
    assert_eq!(chat["warnings"][0]["code"], "demo_provider");

    let sessions = Request::get("/api/sessions")
        .send(server.address)
        .await
        .expect(200);
    assert_eq!(sessions["next_cursor"], Value::Null);
    let session = &sessions["sessions"][0];
    assert_eq!(session["id"], chat["session_id"]);
    assert_eq!(session["title"], "What is photosynthesis?");
    assert_eq!(session["message_count"], 2);
    let mut names: Vec<_> = session.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(
        names,
        ["created_at", "id", "message_count", "title", "updated_at"]
    );
}

#[tokio::test]
async fn a_front_end_that_always_posts_the_whole_transcript_works() {
    let provider = ScriptedProvider::reply("Indeed.");
    let server = Server::with_provider(provider.clone()).await;
    let first = Request::chat("One?").send(server.address).await.expect(200);
    let session = first["session_id"].clone();
    let transcript = json!({
        "messages": [
            {"role": "user", "content": "One? (edited behind the server's back)"},
            {"role": "assistant", "content": "Something else"},
            {"role": "user", "content": "Two?"},
        ],
        "session_id": session,
    });
    let second = Request::post("/api/chat", &transcript);
    assert_eq!(
        second.send(server.address).await.expect(200)["session_id"],
        session
    );
    let stored = messages(&server, &session, "").await;
    assert_eq!(texts(&stored), ["One?", "Indeed.", "Two?", "Indeed."]);
    let seen = provider.requests().pop().unwrap().messages;
    let seen: Vec<_> = seen.iter().map(|m| m.content.text()).collect();
    assert_eq!(seen, ["One?", "Indeed.", "Two?"]);
}

#[tokio::test]
async fn earlier_messages_of_a_new_conversation_are_kept_as_imported() {
    let server = Server::start().await;
    let body = json!({"messages": [
        {"role": "user", "content": "Before"},
        {"role": "assistant", "content": "Long ago", "timestamp": "2025-11-27T01:02:03.456789"},
        {"role": "user", "content": "Now"},
    ]});
    let chat = Request::post("/api/chat", &body)
        .send(server.address)
        .await
        .expect(200);
    let stored = messages(&server, &chat["session_id"], "").await;
    let status: Vec<_> = stored
        .iter()
        .map(|m| m["status"].as_str().unwrap())
        .collect();
    assert_eq!(status, ["imported", "imported", "complete", "complete"]);
}

#[tokio::test]
async fn the_session_can_be_named_by_a_header() {
    let server = Server::start().await;
    let first = Request::chat("One?").send(server.address).await.expect(200);
    let session = first["session_id"].as_str().unwrap();
    let named = Request::chat("Two?").header("X-Session-Id", session);
    assert_eq!(
        named.send(server.address).await.expect(200)["session_id"],
        session
    );

    let both = Request::chat_with("Three?", json!({"session_id": "another"}));
    let problem = both
        .header("X-Session-Id", session)
        .send(server.address)
        .await
        .expect(422);
    assert_eq!(problem["detail"][0]["loc"], json!(["body", "session_id"]));

    let unknown = Request::chat_with("Hello", json!({"session_id": "nobody-knows"}));
    let error = unknown.send(server.address).await.expect(404);
    assert_eq!(error["code"], "not_found");
    assert_eq!(error["session_id"], "nobody-knows");
}

#[tokio::test]
async fn a_message_can_be_edited_and_a_reply_written_again() {
    let server = Server::start().await;
    let first = Request::chat("One?").send(server.address).await.expect(200);
    let session = first["session_id"].clone();
    let reply = first["reply_message"]["id"].clone();
    let again = json!({"session_id": session, "regenerate": reply});
    let again = Request::post("/api/chat", &again)
        .send(server.address)
        .await
        .expect(200);
    assert_ne!(again["reply_message"]["id"], reply);

    let edited = json!({"session_id": session, "parent_id": reply});
    let edited = Request::chat_with("Two, from the first reply?", edited);
    edited.send(server.address).await.expect(200);

    let active = messages(&server, &session, "").await;
    assert_eq!(active.len(), 4);
    assert_eq!(active[1]["id"], reply);
    assert_eq!(active[2]["parent_id"], reply);
    assert_eq!(messages(&server, &session, "?branch=all").await.len(), 5);
    let other = again["reply_message"]["id"].as_str().unwrap();
    let branch = messages(&server, &session, &format!("?branch={other}")).await;
    assert_eq!(branch.len(), 2);
    assert_eq!(branch[1]["id"], again["reply_message"]["id"]);
}

#[tokio::test]
async fn the_same_key_gives_the_same_turn_and_asks_the_provider_once() {
    let provider = ScriptedProvider::reply("Once.");
    let server = Server::with_provider(provider.clone()).await;
    let request = Request::chat("Only once?").header("Idempotency-Key", "\"a-key\"");
    let first = request.send(server.address).await.expect(200);
    let second = request.send(server.address).await.expect(200);
    assert_eq!(first, second);
    assert_eq!(provider.requests().len(), 1);

    let bare = Request::chat("Only once?").header("Idempotency-Key", "a-key");
    assert_eq!(
        bare.send(server.address).await.expect(200)["turn_id"],
        first["turn_id"]
    );

    let again = request.send(server.address).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let other = Request::chat("Something else").header("Idempotency-Key", "a-key");
    let refused = other.send(server.address).await.expect(422);
    assert_eq!(
        refused["detail"][0]["loc"],
        json!(["header", "idempotency-key"])
    );
    for (path, wrong) in [("/v1/chat/completions", 400), ("/v1/messages", 400)] {
        let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Other"}]});
        let other = Request::post(path, &body).header("Idempotency-Key", "a-key");
        other.send(server.address).await.expect(wrong);
    }

    for bad in ["", "with space", &"x".repeat(256)] {
        let bad = Request::chat("Only once?").header("Idempotency-Key", bad);
        bad.send(server.address).await.expect(400);
    }
    assert_eq!(provider.requests().len(), 1);
}

#[tokio::test]
async fn a_request_that_is_still_being_answered_is_not_answered_twice_but_can_be_followed() {
    let gate = Arc::new(Notify::new());
    let provider = gated(&gate);
    let server = Server::with_provider(provider.clone()).await;
    let address = server.address;
    let request = Request::chat("Only once?").header("Idempotency-Key", "a-key");
    let first = {
        let request = request.clone();
        tokio::spawn(async move { request.send(address).await })
    };
    while provider.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    let busy = loop {
        // Until the key is stored, the request waits for that.
        let busy = request.send(address).await;
        if busy.status == 409 {
            break busy;
        }
    };
    assert_eq!(busy.header("retry-after"), Some("1"));
    let turn = busy.json()["turn_id"].as_str().unwrap().to_owned();
    let body = json!({"stream": true});
    let stream = Request::chat_with("Only once?", body).header("Idempotency-Key", "a-key");
    let mut stream = stream.open(address).await.unwrap();
    assert_eq!(stream.header("idempotency-replayed"), Some("true"));
    assert_eq!(stream.event().await.unwrap().get("turn_id"), &json!(turn));
    gate.notify_one();
    let events = stream.events().await;
    assert_eq!(events.last().unwrap().kind(), "turn.finished");
    let first = first.await.unwrap();
    assert_eq!(first.header("idempotency-replayed"), None);
    let again = request.send(address).await;
    assert_eq!(
        (again.expect(200), again.header("idempotency-replayed")),
        (first.expect(200), Some("true"))
    );
    assert_eq!(provider.requests().len(), 1);
}

#[tokio::test]
async fn use_chat_sends_a_request_again_by_its_key() {
    let provider = ScriptedProvider::reply("Once.");
    let server = Server::with_provider(provider.clone()).await;
    let body = json!({"id": "chat", "trigger": "submit-message", "messages": [
        {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}]});
    let request = Request::post("/api/chat", &body).header("Idempotency-Key", "k");
    let first = request.send(server.address).await;
    let again = request.send(server.address).await;
    assert_eq!((first.status, first.text()), (200, again.text()));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(provider.requests().len(), 1);
}

#[tokio::test]
async fn a_second_turn_of_a_session_is_refused_with_the_id_of_the_first() {
    let gate = Arc::new(Notify::new());
    let server = Server::with_provider(gated(&gate)).await;
    let stream = Request::chat_with("One?", json!({"stream": true}));
    let mut stream = stream.open(server.address).await.unwrap();
    let started = stream.event().await.unwrap();
    let second = json!({"session_id": started.get("session_id")});
    let refused = Request::chat_with("Two?", second)
        .send(server.address)
        .await
        .expect(409);
    assert_eq!(refused["code"], "conflict");
    assert_eq!(refused["turn_id"], *started.get("turn_id"));
    gate.notify_one();
    assert_eq!(
        stream.events().await.last().unwrap().kind(),
        "turn.finished"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_its_turn() {
    let gate = Arc::new(Notify::new());
    let provider = gated(&gate);
    let server = Server::with_provider(provider.clone()).await;
    let request = Request::chat("Are you there?");
    let waiting = request.open(server.address);
    // Nothing is answered before the reply is whole: give up once the provider is asked.
    tokio::select! {
        _ = waiting => panic!("answered before the provider was"),
        () = async { while provider.requests().is_empty() { tokio::task::yield_now().await } } => {}
    }
    gate.notify_one();
    let session = loop {
        let page = server.tutor.sessions(1, None).await.unwrap();
        match page.items.into_iter().next() {
            Some(session) if session.message_count == 2 => break session,
            _ => tokio::task::yield_now().await,
        }
    };
    let stored = messages(&server, &json!(session.id.as_str()), "").await;
    assert_eq!(texts(&stored), ["Are you there?", "first and last"]);
}

#[tokio::test]
async fn a_cancelled_turn_keeps_what_had_arrived() {
    let gate = Arc::new(Notify::new());
    let server = Server::with_provider(gated(&gate)).await;
    let stream = Request::chat_with("One?", json!({"stream": true}));
    let mut stream = stream.open(server.address).await.unwrap();
    let started = stream.event().await.unwrap();
    assert_eq!(stream.event().await.unwrap().kind(), "text.delta");
    let turn = started.get("turn_id").as_str().unwrap();
    let cancel = Request::new("POST", &format!("/api/turns/{turn}/cancel"));
    let cancelled = cancel.send(server.address).await.expect(200);
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(cancel.send(server.address).await.expect(200), cancelled);
    let events = stream.events().await;
    let last = events.last().unwrap();
    assert_eq!(last.kind(), "turn.finished");
    assert_eq!(last.get("status"), "cancelled");
    assert_eq!(last.get("message")["content"], "first ");
    assert_eq!(last.get("message")["status"], "partial");
    let read = Request::get(&format!("/api/turns/{turn}"));
    assert_eq!(read.send(server.address).await.expect(200), cancelled);
}

#[tokio::test]
async fn a_waiting_client_is_answered_when_somebody_cancels_its_turn() {
    let gate = Arc::new(Notify::new());
    let provider = gated(&gate);
    let server = Server::with_provider(provider.clone()).await;
    let address = server.address;
    let waiting = tokio::spawn(async move { Request::chat("One?").send(address).await });
    while provider.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    let page = loop {
        let page = server.tutor.sessions(1, None).await.unwrap();
        if !page.items.is_empty() {
            break page;
        }
        tokio::task::yield_now().await;
    };
    let turn = page.items[0].running_turn.clone().unwrap();
    server.tutor.cancel(&turn).await.unwrap();
    let reply = waiting.await.unwrap().expect(200);
    assert_eq!(
        (&reply["status"], &reply["finish_reason"]),
        (&json!("cancelled"), &json!("cancelled"))
    );
}

#[tokio::test]
async fn a_failed_turn_tells_its_session_and_the_session_stays_usable() {
    let mut failing = vec![Step::Yield(Delta::Text("half ".into()))];
    failing.push(Step::Fail(|| {
        tutor_core::Error::new(tutor_core::ErrorKind::RateLimited, "slow down")
            .retryable(Some(Duration::from_millis(2500)))
    }));
    let provider = ScriptedProvider::new([failing, text_script("whole")]);
    let server = Server::with_provider(provider).await;
    let response = Request::chat("One?").send(server.address).await;
    assert_eq!(response.header("retry-after"), Some("3"));
    let error = response.expect(429);
    assert_eq!(error["code"], "rate_limited");
    assert_eq!(
        error["request_id"],
        response.header("x-request-id").unwrap()
    );
    let turn = format!("/api/turns/{}", error["turn_id"].as_str().unwrap());
    let turn = Request::get(&turn).send(server.address).await.expect(200);
    assert_eq!(
        (&turn["status"], &turn["has_reply"]),
        (&json!("failed"), &json!(true))
    );
    let again = json!({"session_id": error["session_id"]});
    let again = Request::chat_with("And now?", again)
        .send(server.address)
        .await
        .expect(200);
    assert_eq!(again["reply_message"]["content"], "whole");
}

#[tokio::test]
async fn preferences_reach_the_provider_and_unknown_ones_are_kept_and_named() {
    let provider = ScriptedProvider::reply("Yes.");
    let server = Server::with_provider(provider.clone()).await;
    let preferences = json!({
        "temperature": 0.5, "max_tokens": 100.0, "model": null, "tone": {"kind": true}
    });
    let chat = Request::chat_with("Hello", json!({"preferences": preferences}));
    let chat = chat.send(server.address).await.expect(200);
    let warning = &chat["warnings"][0];
    assert_eq!(warning["code"], "preference_unknown");
    assert!(warning["message"].as_str().unwrap().contains("tone"));
    let asked = provider.requests().pop().unwrap();
    assert_eq!(
        (asked.temperature, asked.max_tokens),
        (Some(0.5), Some(100))
    );
    let session = format!("/api/sessions/{}", chat["session_id"].as_str().unwrap());
    let session = Request::get(&session)
        .send(server.address)
        .await
        .expect(200);
    assert_eq!(session["preferences"]["tone"], json!({"kind": true}));
}

#[tokio::test]
async fn an_unknown_model_is_an_error_that_names_the_known_ones() {
    let provider = tutor_core::provider::ScriptedProvider::reply("Yes.");
    let listed = Listed(provider);
    let server = Server::with(builder(listed), Bounds::default()).await;
    let chat = Request::chat_with("Hello", json!({"preferences": {"model": "gpt-17"}}));
    let error = chat.send(server.address).await.expect(422);
    let problem = &error["detail"][0];
    assert_eq!(problem["type"], "value_error");
    assert_eq!(problem["loc"][0], "body");
    assert!(
        problem["msg"].as_str().unwrap().contains("script"),
        "{error}"
    );
    assert_eq!(error["code"], "invalid_input");
}

/// A provider with a closed list of models.
#[derive(Debug)]
struct Listed(ScriptedProvider);

#[tutor_core::async_trait]
impl Provider for Listed {
    fn info(&self) -> tutor_core::provider::ProviderInfo {
        let models = vec!["script".to_owned()];
        let models = tutor_core::provider::ModelChoice::Listed(models);
        self.0.info().with_models(models)
    }

    async fn models(&self) -> tutor_core::Result<Vec<tutor_core::provider::ModelInfo>> {
        self.0.models().await
    }

    async fn stream(
        &self,
        request: tutor_core::provider::CompletionRequest,
    ) -> tutor_core::Result<tutor_core::provider::CompletionStream> {
        self.0.stream(request).await
    }
}
