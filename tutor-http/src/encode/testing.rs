//! What the tests of encoders share: events, and a reader of what comes out.

use bytes::BytesMut;
use serde_json::{Value, json};
use tutor_core::{Error, ErrorKind, Event, FinishReason, Notice, TurnEvent, Usage};

use super::{Encoder, Flow};

fn event(event: Event) -> TurnEvent {
    TurnEvent { seq: 1, event }
}

fn parsed(json: Value) -> TurnEvent {
    serde_json::from_value(json).unwrap()
}

pub(super) fn started() -> TurnEvent {
    parsed(
        json!({"seq": 1, "type": "turn.started", "turn_id": "t1", "session_id": "s1",
        "user_message_id": "u1", "reply_message_id": "r1", "provider": "p1", "model": "m1"}),
    )
}

pub(super) fn text(text: &str) -> TurnEvent {
    event(Event::TextDelta { text: text.into() })
}

pub(super) fn thought(text: &str) -> TurnEvent {
    event(Event::ReasoningDelta { text: text.into() })
}

pub(super) fn call(id: &str) -> TurnEvent {
    event(Event::ToolCall {
        call_id: id.into(),
        name: "double".into(),
        arguments: json!({"a": 2}),
    })
}

pub(super) fn result(id: &str) -> TurnEvent {
    parsed(json!({"seq": 1, "type": "tool.result", "call_id": id, "result": 4}))
}

pub(super) fn restarted() -> TurnEvent {
    event(Event::AttemptRestarted {
        attempt: 2,
        reason: "fallback".into(),
    })
}

pub(super) fn notice() -> TurnEvent {
    event(Event::Notice(Notice::new("history_truncated", "left out")))
}

pub(super) fn used() -> TurnEvent {
    event(Event::Usage(Usage {
        input_tokens: Some(12),
        output_tokens: Some(5),
        ..Usage::default()
    }))
}

fn finish(text: &str, reason: FinishReason, status: &str) -> TurnEvent {
    parsed(
        json!({"seq": 1, "type": "turn.finished", "finish_reason": reason.as_str(),
        "status": status, "message": {"id": "r1", "session_id": "s1", "role": "assistant",
            "content": text, "author": "tutor", "timestamp": "2026-01-01T00:00:00Z"}}),
    )
}

pub(super) fn finished(text: &str) -> TurnEvent {
    finish(text, FinishReason::Stop, "completed")
}

pub(super) fn ended(reason: FinishReason) -> TurnEvent {
    finish("", reason, "completed")
}

pub(super) fn cancelled() -> TurnEvent {
    finish("", FinishReason::Cancelled, "cancelled")
}

pub(super) fn failed() -> TurnEvent {
    let error = Error::new(ErrorKind::ProviderUnavailable, "the provider is overloaded");
    event(Event::TurnFailed {
        error: error.info(),
        partial: None,
    })
}

/// What the events become, and what follows the last one.
pub(super) fn run(encoder: &mut impl Encoder, events: &[TurnEvent]) -> (String, Flow) {
    let mut out = BytesMut::new();
    let mut flow = Flow::On;
    for event in events {
        assert_eq!(flow, Flow::On, "nothing follows the end");
        flow = encoder.event(event, &mut out);
    }
    (String::from_utf8(out.to_vec()).unwrap(), flow)
}

/// The JSON of all `data:` lines.
pub(super) fn frames(out: &str) -> Vec<Value> {
    assert!(!out.contains('\r'), "AG-UI's parser breaks on it");
    let lines = out.lines().filter_map(|line| line.strip_prefix("data: "));
    let frames = lines.filter(|data| *data != "[DONE]");
    frames
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}
