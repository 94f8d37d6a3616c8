//! The canonical stream grammar. The only definition: every face and every wire protocol is an
//! encoder of it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ErrorInfo;
use crate::hidden::Hidden;
use crate::id::{MessageId, SessionId, TurnId};
use crate::message::{FinishReason, Message, Usage};
use crate::turn::TurnStatus;

/// One event of a turn, with its number.
///
/// Numbers are 1, 2, 3 … without gaps. The first event is `turn.started`; exactly one terminal
/// (`turn.finished` or `turn.failed`) comes last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TurnEvent {
    /// The place in the turn, from 1.
    pub seq: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened in a turn. In JSON an object whose `type` is the tag.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum Event {
    /// The turn is stored: the learner's words are safe.
    #[serde(rename = "turn.started")]
    TurnStarted {
        /// The turn.
        turn_id: TurnId,
        /// Its conversation, also if it was just created.
        session_id: SessionId,
        /// The learner's message that is answered.
        user_message_id: MessageId,
        /// The id that the reply will have.
        reply_message_id: MessageId,
        /// The provider that is asked.
        provider: String,
        /// The model that is asked for.
        model: String,
    },
    /// More of the reply. Never empty.
    #[serde(rename = "text.delta")]
    TextDelta {
        /// What is new, not the text so far.
        text: String,
    },
    /// More of the model's visible thinking. Never empty.
    #[serde(rename = "reasoning.delta")]
    ReasoningDelta {
        /// What is new.
        text: String,
    },
    /// The model asks for a tool.
    #[serde(rename = "tool.call")]
    ToolCall {
        /// Pairs the call with its result.
        call_id: String,
        /// The tool.
        name: String,
        /// Its arguments: JSON, or the raw text if the model wrote something else.
        arguments: Value,
    },
    /// What a tool answered.
    #[serde(rename = "tool.result")]
    ToolResult {
        /// The call that is answered.
        call_id: String,
        /// The answer.
        result: Value,
        /// True if the tool failed and the answer says why.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
    /// A retry or fallback replaces what was sent: drop all text, reasoning and calls so far.
    #[serde(rename = "attempt.restarted")]
    AttemptRestarted {
        /// The number of the new attempt, from 2.
        attempt: u32,
        /// Why, as a stable snake-case word.
        reason: String,
    },
    /// Something that the user of the API should know.
    #[serde(rename = "notice")]
    Notice(Notice),
    /// Data of the tutoring layer.
    #[serde(rename = "data")]
    Data {
        /// What it is.
        name: String,
        /// Its value.
        value: Value,
    },
    /// What the turn consumed. At most once, before the terminal.
    #[serde(rename = "usage")]
    Usage(Usage),
    /// The reply is stored. Last.
    #[serde(rename = "turn.finished")]
    TurnFinished {
        /// The stored reply.
        message: Box<Message>,
        /// Why it ended.
        finish_reason: FinishReason,
        /// `completed` or `cancelled`.
        status: TurnStatus,
    },
    /// The turn failed. Last.
    #[serde(rename = "turn.failed")]
    TurnFailed {
        /// Why.
        error: ErrorInfo,
        /// The stored partial reply, if anything had arrived.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partial: Option<Box<Message>>,
    },
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct(self.kind());
        match self {
            Self::TurnStarted {
                turn_id,
                session_id,
                ..
            } => shown
                .field("turn_id", turn_id)
                .field("session_id", session_id),
            Self::TextDelta { text } | Self::ReasoningDelta { text } => {
                shown.field("text", &Hidden(text))
            }
            Self::ToolCall { call_id, .. } | Self::ToolResult { call_id, .. } => {
                shown.field("call_id", call_id)
            }
            Self::AttemptRestarted { attempt, reason } => {
                shown.field("attempt", attempt).field("reason", reason)
            }
            Self::Notice(notice) => shown.field("code", &notice.code),
            Self::Data { name, .. } => shown.field("name", name),
            Self::Usage(usage) => shown.field("usage", usage),
            Self::TurnFinished {
                message,
                finish_reason,
                status,
            } => shown
                .field("message", message)
                .field("finish_reason", finish_reason)
                .field("status", status),
            Self::TurnFailed { error, partial } => {
                shown.field("error", error).field("partial", partial)
            }
        };
        shown.finish_non_exhaustive()
    }
}

impl Event {
    /// The tag, such as `text.delta`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TurnStarted { .. } => "turn.started",
            Self::TextDelta { .. } => "text.delta",
            Self::ReasoningDelta { .. } => "reasoning.delta",
            Self::ToolCall { .. } => "tool.call",
            Self::ToolResult { .. } => "tool.result",
            Self::AttemptRestarted { .. } => "attempt.restarted",
            Self::Notice(_) => "notice",
            Self::Data { .. } => "data",
            Self::Usage(_) => "usage",
            Self::TurnFinished { .. } => "turn.finished",
            Self::TurnFailed { .. } => "turn.failed",
        }
    }

    /// True for the last event of a turn.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::TurnFinished { .. } | Self::TurnFailed { .. })
    }
}

/// Something that the user of the API should know; never an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// A stable snake-case word.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

impl Notice {
    /// A notice.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object_with_type_and_seq() {
        let event = TurnEvent {
            seq: 2,
            event: Event::TextDelta { text: "hi".into() },
        };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"seq": 2, "type": "text.delta", "text": "hi"})
        );
        assert_eq!(serde_json::from_value::<TurnEvent>(json).unwrap(), event);
    }

    #[test]
    fn the_tag_in_json_is_the_kind() {
        for event in [
            Event::ReasoningDelta { text: "x".into() },
            Event::Notice(Notice::new("demo_provider", "m")),
            Event::Usage(Usage {
                input_tokens: Some(1),
                ..Usage::default()
            }),
            Event::AttemptRestarted {
                attempt: 2,
                reason: "retry".into(),
            },
            Event::Data {
                name: "hint".into(),
                value: Value::from(1),
            },
        ] {
            assert_eq!(serde_json::to_value(&event).unwrap()["type"], event.kind());
        }
    }
}
