//! Replies of a form.

use serde::Deserialize;
use serde_json::json;
use tutor_core::store::MemoryStore;
use tutor_core::{
    ChatRequest, ErrorKind, FinishReason, MessageStatus, Messages, OutputSchema, Tutor,
};

use super::{all, build, done, kinds, say, scripts, shown, text};

fn form() -> OutputSchema {
    let schema = json!({
        "type": "object",
        "properties": {"question": {"type": "string"}, "points": {"type": "integer"}},
        "required": ["question", "points"],
    });
    OutputSchema::new("quiz", schema)
}

const GOOD: &str = r#"{"question":"Why is the sky blue?","points":3}"#;

#[derive(Debug, Deserialize, PartialEq)]
struct Quiz {
    question: String,
    points: u32,
}

#[tokio::test]
async fn a_valid_reply_is_a_value() {
    let provider = scripts(vec![say(GOOD)]);
    let tutor = build(Tutor::builder(), &provider).await;
    let reply = tutor
        .chat(ChatRequest::new("a quiz").with_output(form()))
        .await
        .unwrap();
    assert_eq!(reply.output.as_ref().unwrap()["points"], 3);
    let quiz: Quiz = reply.parse().unwrap();
    assert_eq!(quiz.question, "Why is the sky blue?");
    assert_eq!(provider.requests()[0].output, Some(form()));
    // The same request again gives the same value.
    let keyed = ChatRequest::new("more")
        .with_output(form())
        .with_idempotency_key("k");
    let first = tutor.chat(keyed.clone()).await.unwrap();
    assert_eq!(tutor.chat(keyed).await.unwrap().output, first.output);
    let plain = tutor.chat("just talk").await.unwrap();
    assert_eq!(plain.output, None);
    assert_eq!(
        plain.parse::<Quiz>().unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[tokio::test]
async fn an_invalid_reply_is_repaired_once_and_only_the_valid_one_is_stored() {
    let provider = scripts(vec![say("it is three points"), say(GOOD)]);
    let store = MemoryStore::default();
    let tutor = build(Tutor::builder().store(store.clone()), &provider).await;
    let request = ChatRequest::new("a quiz").with_output(form());
    let stream = tutor.stream(request).await.unwrap();
    let (turn, session) = (stream.turn_id().clone(), stream.session_id().clone());
    let events = all(stream).await;
    assert_eq!(shown(&events), GOOD);
    assert_eq!(
        kinds(&events)
            .iter()
            .filter(|kind| **kind == "attempt.restarted")
            .count(),
        1
    );
    let second = &provider.requests()[1];
    let told = second.messages.last().unwrap().content.text();
    assert!(told.contains("not JSON"), "{told}");
    assert_eq!(second.messages[1].content.text(), "it is three points");
    let page = tutor.messages(&session, Messages::default()).await.unwrap();
    assert_eq!(page.items.len(), 2);
    assert_eq!(page.items[1].content.text(), GOOD);
    let again = build(Tutor::builder().store(store), &provider).await;
    assert_eq!(all(again.events(&turn, 0).await.unwrap()).await, events);
}

#[tokio::test]
async fn a_reply_that_cannot_be_repaired_fails_clearly_and_is_kept() {
    let provider = scripts(vec![say("no"), say(r#"{"question": 1}"#), say("unasked")]);
    let tutor = build(Tutor::builder(), &provider).await;
    let mut stream = tutor
        .stream(ChatRequest::new("a quiz").with_output(form()))
        .await
        .unwrap();
    let session = stream.session_id().clone();
    let error = stream.read_reply().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ProviderRejected);
    assert_eq!(error.context_value("reason"), Some("invalid_output"));
    assert!(error.is_retryable());
    assert_eq!(provider.requests().len(), 2);
    let page = tutor.messages(&session, Messages::latest(1)).await.unwrap();
    assert_eq!(page.items[0].status, MessageStatus::Partial);
    assert_eq!(page.items[0].content.text(), r#"{"question": 1}"#);
}

#[tokio::test]
async fn who_declines_is_not_asked_to_repair() {
    let provider = scripts(vec![vec![
        text("I would rather not."),
        done(FinishReason::Refusal),
    ]]);
    let tutor = build(Tutor::builder(), &provider).await;
    let reply = tutor
        .chat(ChatRequest::new("a quiz").with_output(form()))
        .await
        .unwrap();
    assert_eq!(
        (reply.output, reply.finish_reason),
        (None, FinishReason::Refusal)
    );
    assert_eq!(provider.requests().len(), 1);
}

#[tokio::test]
async fn what_is_no_schema_is_refused_before_anything_is_stored_or_asked() {
    let provider = scripts(vec![say("x")]);
    let tutor = build(Tutor::builder(), &provider).await;
    let output = OutputSchema::new("x", json!({"type": "nothing"}));
    let refused = tutor.chat(ChatRequest::new("hi").with_output(output)).await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.context_value("field"), Some("output"));
    assert!(provider.requests().is_empty());
    assert!(tutor.sessions(1, None).await.unwrap().items.is_empty());
}
