//! A message as it is sent: the same JSON as in the canonical events.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tutor_core::tutor::Rating;
use utoipa::ToSchema;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) session_id: String,
    /// What it answers or follows; null for the first message of a conversation.
    pub(crate) parent_id: Option<String>,
    /// The turn that wrote it.
    pub(crate) turn_id: Option<String>,
    /// `system`, `user` or `assistant`.
    pub(crate) role: String,
    /// A string when it is only text, else an array of parts.
    pub(crate) content: Content,
    /// `complete`, `partial` (cancelled or cut off) or `imported`.
    pub(crate) status: String,
    /// Who wrote it: `learner`, `tutor` or `teacher`.
    pub(crate) author: String,
    /// Who may see it, if not everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) visible_to: Option<Vec<String>>,
    #[schema(format = DateTime)]
    pub(crate) timestamp: String,
    /// The provider that made this reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) provider: Option<String>,
    /// The model that made this reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) model: Option<String>,
    /// What this reply consumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) usage: Option<Usage>,
    /// Why this reply ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) finish_reason: Option<String>,
    /// The caller's own data.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) metadata: Map<String, Value>,
    /// What its learner thinks of it. Only in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) feedback: Option<Feedback>,
}

/// What somebody thinks of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Feedback {
    pub(crate) message_id: String,
    pub(crate) session_id: String,
    #[schema(value_type = Thumb)]
    pub(crate) rating: Rating,
    pub(crate) comment: Option<String>,
    #[schema(format = DateTime)]
    pub(crate) updated_at: String,
}

/// Whether a message helped.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "documents the engine's `Rating`")]
pub(crate) enum Thumb {
    Up,
    Down,
}

impl From<tutor_core::tutor::Feedback> for Feedback {
    fn from(feedback: tutor_core::tutor::Feedback) -> Self {
        Self {
            message_id: feedback.message_id.into(),
            session_id: feedback.session_id.into(),
            rating: feedback.rating,
            comment: feedback.comment,
            updated_at: feedback.updated_at.to_string(),
        }
    }
}

/// What was said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Part {
    /// Text.
    Text { text: String },
    /// An image that the model can look at.
    Image {
        url: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        media_type: Option<String>,
    },
    /// A reference to an uploaded file.
    File {
        file_id: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        media_type: Option<String>,
    },
    /// A tool that the model asked for.
    ToolCall {
        call_id: String,
        name: String,
        arguments: Value,
    },
    /// What a tool answered.
    ToolResult {
        call_id: String,
        name: String,
        result: Value,
        /// True if the tool failed and the result says why; else absent.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

/// What a reply consumed. A figure is absent when the provider did not say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Usage {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) input_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) cached_input_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) cache_write_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) output_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) reasoning_tokens: Option<u64>,
    /// Absent when the price is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) cost_usd: Option<f64>,
}

impl From<tutor_core::Usage> for Usage {
    fn from(usage: tutor_core::Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            cached_input_tokens: usage.cached_input_tokens,
            cache_write_tokens: usage.cache_write_tokens,
            output_tokens: usage.output_tokens,
            reasoning_tokens: usage.reasoning_tokens,
            cost_usd: usage.cost_usd,
        }
    }
}
