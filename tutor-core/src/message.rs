//! Messages: what the learner and the tutor said.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::hidden::Hidden;
use crate::id::{MessageId, SessionId, TurnId};
use crate::time::Timestamp;

/// Free-form data of a caller: a JSON object.
pub type Metadata = Map<String, Value>;

/// One message of a conversation. Immutable once stored.
///
/// Messages form a tree: each has a parent, and a session's head names the leaf of the active
/// branch. A plain conversation is a line.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Unique in the session.
    pub id: MessageId,
    /// The conversation it belongs to.
    pub session_id: SessionId,
    /// What it answers or follows; `None` for the first message of a conversation.
    #[serde(default)]
    pub parent_id: Option<MessageId>,
    /// The turn that wrote it.
    #[serde(default)]
    pub turn_id: Option<TurnId>,
    /// Whose words these are to the model.
    pub role: Role,
    /// What was said.
    pub content: Content,
    /// Whether the content is whole.
    #[serde(default)]
    pub status: MessageStatus,
    /// Who wrote it, which may differ from the role: a human teacher can answer as assistant.
    pub author: Author,
    /// Who may see it. Everyone by default.
    #[serde(default = "everyone", skip_serializing_if = "is_everyone")]
    pub visible_to: BTreeSet<Audience>,
    /// When it was stored.
    pub timestamp: Timestamp,
    /// The provider that made this reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model that made this reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What this reply cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Why this reply ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<FinishReason>,
    /// The caller's own data.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Metadata,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("parent_id", &self.parent_id)
            .field("turn_id", &self.turn_id)
            .field("role", &self.role)
            .field("content", &self.content)
            .field("status", &self.status)
            .field("timestamp", &self.timestamp)
            .finish_non_exhaustive()
    }
}

fn everyone() -> BTreeSet<Audience> {
    Audience::everyone()
}

fn is_everyone(audience: &BTreeSet<Audience>) -> bool {
    audience.len() == Audience::ALL.len()
}

/// Whose words a message is to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions that precede a conversation.
    System,
    /// The learner.
    User,
    /// The tutor.
    Assistant,
}

impl Role {
    /// `system`, `user` or `assistant`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// What was said: a text, or parts of several kinds.
///
/// In JSON a string, or an array of parts.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Only text.
    Text(String),
    /// Text, images and files, in order.
    Parts(Vec<Part>),
}

impl Content {
    /// The text, without images and files; parts are joined by nothing.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => parts.iter().filter_map(Part::as_text).collect(),
        }
    }

    /// The size that counts against limits: bytes of text and of embedded data.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Parts(parts) => parts
                .iter()
                .map(|part| match part {
                    Part::Image { url, .. } => url.len(),
                    Part::File { file_id, .. } => file_id.len() + part.text_len(),
                    _ => part.text_len(),
                })
                .sum(),
        }
    }

    /// Bytes of everything but images and files.
    pub(crate) fn text_len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Parts(parts) => parts.iter().map(Part::text_len).sum(),
        }
    }

    /// How many images and files there are.
    pub(crate) fn attachments(&self) -> usize {
        match self {
            Self::Text(_) => 0,
            Self::Parts(parts) => {
                let attached =
                    |part: &&Part| matches!(part, Part::Image { .. } | Part::File { .. });
                parts.iter().filter(attached).count()
            }
        }
    }

    /// True if there is nothing to send: no image, no file, and only white space as text.
    pub fn is_blank(&self) -> bool {
        match self {
            Self::Text(text) => text.trim().is_empty(),
            Self::Parts(parts) => parts
                .iter()
                .all(|part| part.as_text().is_some_and(|text| text.trim().is_empty())),
        }
    }

    /// True if `other` says the same, however it is put: text may be in one part or several, a file
    /// be called an image, or otherwise, and what a tool answered be JSON or its text. For callers
    /// that send back what they were sent in the words of some protocol.
    pub fn says_same(&self, other: &Self) -> bool {
        self == other || self.pieces() == other.pieces()
    }

    /// What is said, without how it is put.
    fn pieces(&self) -> Vec<(Kind, Cow<'_, str>)> {
        let parts = match self {
            Self::Text(text) => return vec![(Kind::Text, Cow::Borrowed(text))],
            Self::Parts(parts) => parts,
        };
        let mut pieces: Vec<(Kind, Cow<'_, str>)> = Vec::with_capacity(parts.len());
        for part in parts {
            let piece = match part {
                Part::Text { text } => match pieces.last_mut() {
                    Some((Kind::Text, before)) => {
                        before.to_mut().push_str(text);
                        continue;
                    }
                    _ if text.is_empty() => continue,
                    _ => (Kind::Text, Cow::Borrowed(text.as_str())),
                },
                Part::Image { url: at, .. } | Part::File { file_id: at, .. } => {
                    (Kind::Attachment, Cow::Borrowed(at.as_str()))
                }
                Part::ToolCall { call_id, .. } => (Kind::Call, Cow::Borrowed(call_id.as_str())),
                Part::ToolResult {
                    call_id, result, ..
                } => {
                    pieces.push((Kind::Result, Cow::Borrowed(call_id)));
                    let told = match result {
                        Value::String(text) => match serde_json::from_str::<Value>(text) {
                            Ok(json) => json.to_string(),
                            Err(_) => text.clone(),
                        },
                        json => json.to_string(),
                    };
                    (Kind::Result, Cow::Owned(told))
                }
                Part::Replay { .. } => continue,
            };
            pieces.push(piece);
        }
        pieces
    }

    /// True if [`len`](Self::len) is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Of what kind a piece of a message is.
#[derive(PartialEq)]
enum Kind {
    Text,
    Attachment,
    Call,
    Result,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.debug_tuple("Text").field(&Hidden(text)).finish(),
            Self::Parts(parts) => f.debug_tuple("Parts").field(parts).finish(),
        }
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A piece of a message.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Part {
    /// Text.
    Text {
        /// Any Unicode text.
        text: String,
    },
    /// An image that the model can look at.
    Image {
        /// An `https:` or `data:` URL.
        url: String,
        /// Such as `image/png`; `None` if the URL tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        media_type: Option<String>,
    },
    /// A file.
    File {
        /// The id that the upload returned, or a `data:` URL.
        file_id: String,
        /// The name to show.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Such as `application/pdf`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        media_type: Option<String>,
    },
    /// A tool that the model asked for.
    ToolCall {
        /// Pairs the call with its result.
        call_id: String,
        /// The tool.
        name: String,
        /// A JSON object, or the raw text as a JSON string if the model wrote something else.
        arguments: Value,
    },
    /// What a tool answered.
    ToolResult {
        /// The call that is answered.
        call_id: String,
        /// The tool. Callers may leave it out: it is that of the call.
        #[serde(default)]
        name: String,
        /// The answer: a text as a JSON string, or any other JSON.
        result: Value,
        /// True if the tool failed and the answer says why.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
    /// What a provider wants to be sent again, unchanged, with the results of the tools that the
    /// same message asks for: signatures of its thinking, as a rule. Of no meaning to anybody else.
    Replay {
        /// The protocol that understands it.
        protocol: String,
        /// Opaque.
        data: Value,
    },
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { text } => f.debug_tuple("Text").field(&Hidden(text)).finish(),
            Self::Image { url, .. } => f.debug_tuple("Image").field(&Hidden(url)).finish(),
            Self::File { .. } => f.write_str("File"),
            Self::ToolCall { .. } => f.write_str("ToolCall"),
            Self::ToolResult { .. } => f.write_str("ToolResult"),
            Self::Replay { .. } => f.write_str("Replay"),
        }
    }
}

impl Part {
    /// Bytes of everything but the data of images and files.
    fn text_len(&self) -> usize {
        match self {
            Self::Text { text } => text.len(),
            Self::Image { .. } => 0,
            Self::File { name, .. } => name.as_deref().map_or(0, str::len),
            Self::ToolCall {
                name, arguments, ..
            } => name.len() + arguments.to_string().len(),
            Self::ToolResult { name, result, .. } => name.len() + result.to_string().len(),
            Self::Replay { data, .. } => data.to_string().len(),
        }
    }

    /// The text of a text part.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text { text } => Some(text),
            Self::Image { .. }
            | Self::File { .. }
            | Self::ToolCall { .. }
            | Self::ToolResult { .. }
            | Self::Replay { .. } => None,
        }
    }
}

/// Whether the content of a message is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageStatus {
    /// As it was meant.
    #[default]
    Complete,
    /// A reply that was cancelled or cut off; the content is what had arrived.
    Partial,
    /// Taken over from a caller's transcript, not written here.
    Imported,
}

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// The learner.
    Learner,
    /// The tutor: a model.
    Tutor,
    /// A human teacher.
    Teacher,
}

/// Who may see a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// The learner.
    Learner,
    /// A human teacher.
    Teacher,
    /// The model: the message is part of what it is sent.
    Model,
}

impl Audience {
    /// Every audience.
    pub const ALL: &'static [Self] = &[Self::Learner, Self::Teacher, Self::Model];

    /// The set of all audiences.
    pub fn everyone() -> BTreeSet<Self> {
        Self::ALL.iter().copied().collect()
    }
}

/// Why a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishReason {
    /// The model was done.
    Stop,
    /// The reply reached a token limit.
    Length,
    /// The model wants tools to be called.
    ToolCalls,
    /// The provider withheld the rest.
    ContentFilter,
    /// The model declined to answer.
    Refusal,
    /// The model paused; asking again with the same history goes on.
    Pause,
    /// The turn was cancelled.
    Cancelled,
    /// Something else.
    Other,
}

impl FinishReason {
    /// The snake-case name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Refusal => "refusal",
            Self::Pause => "pause",
            Self::Cancelled => "cancelled",
            Self::Other => "other",
        }
    }
}

/// What a reply consumed. Every figure is absent when the provider did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens sent, including those read from and written to a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Of `input_tokens`, those read from the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_tokens: Option<u64>,
    /// Of `input_tokens`, those written to the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
    /// Of `cache_write_tokens`, those that stay there for hours instead of minutes. Their price is
    /// another one; no event and no message tells of them.
    #[serde(skip)]
    pub cache_write_long_tokens: Option<u64>,
    /// Tokens received, including reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Of `output_tokens`, those spent on reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    /// US dollars; absent when the price is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

impl Usage {
    /// True if nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn content_is_a_string_or_an_array_of_parts_in_json() {
        let text = Content::from("hi");
        assert_eq!(serde_json::to_string(&text).unwrap(), r#""hi""#);
        let parts = Content::Parts(vec![Part::Text { text: "hi".into() }]);
        let json = r#"[{"type":"text","text":"hi"}]"#;
        assert_eq!(serde_json::to_string(&parts).unwrap(), json);
        assert_eq!(serde_json::from_str::<Content>(json).unwrap(), parts);
        assert_eq!(parts.text(), "hi");
    }

    #[test]
    fn the_same_is_said_in_the_words_of_every_protocol_and_nothing_else_is() {
        let content = |json| serde_json::from_value::<Content>(json).unwrap();
        let same = [
            (
                json!("ab"),
                json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
            ),
            (
                json!([{"type": "file", "file_id": "f1", "name": "n", "media_type": "image/png"}]),
                json!([{"type": "image", "url": "f1"}, {"type": "text", "text": ""}]),
            ),
            (
                json!([{"type": "tool_result", "call_id": "c", "name": "n", "result": {"a": 1}}]),
                json!([{"type": "tool_result", "call_id": "c", "result": "{\"a\": 1}"}]),
            ),
        ];
        for (a, b) in same {
            assert!(content(a.clone()).says_same(&content(b.clone())), "{a} {b}");
        }
        let text = |text| json!({"type": "text", "text": text});
        let image = json!({"type": "image", "url": "data:1"});
        let other = [
            (json!("a"), json!("A")),
            (json!("a"), json!([text("a"), image])),
            (json!([image, text("a")]), json!([text("a"), image])),
            (json!([image]), json!([{"type": "image", "url": "data:2"}])),
            (
                json!([{"type": "tool_result", "call_id": "c", "result": 1}]),
                json!([{"type": "tool_result", "call_id": "c", "result": 2}]),
            ),
        ];
        for (a, b) in other {
            assert!(
                !content(a.clone()).says_same(&content(b.clone())),
                "{a} {b}"
            );
        }
    }

    #[test]
    fn usage_tells_unknown_from_zero() {
        let usage = Usage {
            input_tokens: Some(0),
            ..Usage::default()
        };
        assert_eq!(
            serde_json::to_string(&usage).unwrap(),
            r#"{"input_tokens":0}"#
        );
        assert!(!usage.is_empty());
    }
}
