//! The canonical events, as types that document themselves.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::message::{Message, Usage};

/// One event of a turn: its number, from 1 without gaps, and what happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TurnEvent {
    pub(crate) seq: u64,
    #[serde(flatten)]
    pub(crate) event: Event,
}

/// What happened in a turn. `turn.started` comes first; exactly one of `turn.finished` and
/// `turn.failed` comes last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type")]
pub(crate) enum Event {
    /// The turn is stored: the learner's words are safe.
    #[serde(rename = "turn.started")]
    TurnStarted {
        turn_id: String,
        session_id: String,
        user_message_id: String,
        reply_message_id: String,
        provider: String,
        model: String,
    },
    /// More of the reply.
    #[serde(rename = "text.delta")]
    TextDelta { text: String },
    /// More of the model's visible thinking.
    #[serde(rename = "reasoning.delta")]
    ReasoningDelta { text: String },
    /// The model asks for a tool.
    #[serde(rename = "tool.call")]
    ToolCall {
        call_id: String,
        name: String,
        arguments: Value,
    },
    /// What a tool answered.
    #[serde(rename = "tool.result")]
    ToolResult {
        call_id: String,
        result: Value,
        /// True if the tool failed and the result says why; else absent.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
    /// A retry or fallback replaces what was sent: drop all text, reasoning and calls so far.
    #[serde(rename = "attempt.restarted")]
    AttemptRestarted { attempt: u32, reason: String },
    /// Something that the user of the API should know.
    #[serde(rename = "notice")]
    Notice { code: String, message: String },
    /// Data of the tutoring layer.
    #[serde(rename = "data")]
    Data { name: String, value: Value },
    /// What the turn consumed.
    #[serde(rename = "usage")]
    Usage(Usage),
    /// The reply is stored.
    #[serde(rename = "turn.finished")]
    TurnFinished {
        message: Message,
        finish_reason: String,
        /// `completed` or `cancelled`.
        status: String,
    },
    /// The turn failed.
    #[serde(rename = "turn.failed")]
    TurnFailed {
        error: ErrorInfo,
        /// The stored partial reply; absent if nothing had arrived.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        partial: Option<Message>,
    },
}

/// Why a turn failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ErrorInfo {
    /// A stable snake-case word.
    pub(crate) code: String,
    /// A sentence for people.
    pub(crate) message: String,
    /// True if the same request may succeed later.
    pub(crate) retryable: bool,
    /// Milliseconds to wait before trying again; absent when nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) retry_after_ms: Option<u64>,
}

impl From<tutor_core::ErrorInfo> for ErrorInfo {
    fn from(error: tutor_core::ErrorInfo) -> Self {
        Self {
            code: error.code,
            message: error.message,
            retryable: error.retryable,
            retry_after_ms: error.retry_after_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Every field that an event can have. What the engine writes must be what is documented.
    #[test]
    fn the_documented_events_are_those_of_the_engine() {
        let message = json!({
            "id": "m2", "session_id": "s", "parent_id": "m1", "turn_id": "t", "role": "assistant",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image", "url": "https://a.example/b.png", "media_type": "image/png"},
                {"type": "file", "file_id": "f", "name": "n.pdf", "media_type": "application/pdf"},
                {"type": "tool_call", "call_id": "c", "name": "n", "arguments": {"x": 1}},
                {"type": "tool_result", "call_id": "c", "name": "n", "result": [1],
                 "is_error": true},
            ],
            "status": "partial", "author": "tutor", "visible_to": ["learner"],
            "timestamp": "2026-11-24T09:30:00.000000Z", "provider": "p", "model": "m",
            "usage": {
                "input_tokens": 1, "cached_input_tokens": 2, "cache_write_tokens": 3,
                "output_tokens": 4, "reasoning_tokens": 5, "cost_usd": 0.5,
            },
            "finish_reason": "stop", "metadata": {"k": 1},
        });
        let mut text = message.clone();
        text["content"] = "hi".into();
        let events = json!([
            {"type": "turn.started", "turn_id": "t", "session_id": "s", "user_message_id": "m1",
             "reply_message_id": "m2", "provider": "p", "model": "m"},
            {"type": "text.delta", "text": "a"},
            {"type": "reasoning.delta", "text": "a"},
            {"type": "tool.call", "call_id": "c", "name": "n", "arguments": {"x": 1}},
            {"type": "tool.result", "call_id": "c", "result": [1]},
            {"type": "tool.result", "call_id": "c", "result": "no", "is_error": true},
            {"type": "attempt.restarted", "attempt": 2, "reason": "retry"},
            {"type": "notice", "code": "c", "message": "m"},
            {"type": "data", "name": "n", "value": 1},
            {"type": "usage", "input_tokens": 1},
            {"type": "turn.finished", "message": message, "finish_reason": "stop",
             "status": "completed"},
            {"type": "turn.failed", "partial": text, "error":
             {"code": "timeout", "message": "m", "retryable": true, "retry_after_ms": 5}},
        ]);
        for (seq, event) in (1..).zip(events.as_array().unwrap()) {
            let mut event = event.clone();
            event["seq"] = json!(seq);
            let engine: tutor_core::TurnEvent = serde_json::from_value(event.clone()).unwrap();
            assert_eq!(serde_json::to_value(engine).unwrap(), event);
            let documented: TurnEvent = serde_json::from_value(event.clone()).unwrap();
            assert_eq!(serde_json::to_value(documented).unwrap(), event);
        }
    }
}
