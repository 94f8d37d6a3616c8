//! Turns: one exchange each. Begun once, ended once, and everything in between is events.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::prepare::digest;
use crate::error::{Error, ErrorInfo, Result};
use crate::event::Notice;
use crate::hidden::HiddenObject;
use crate::id::{MessageId, OwnerId, SessionId, TurnId};
use crate::message::{Content, FinishReason, Message, Metadata, Part, Role, Usage};
use crate::provider::context::Extensions;
use crate::time::Timestamp;
use crate::tool::{OutputSchema, SharedTool, Tool, ToolSpec};
use crate::trace::Trace;

/// One exchange: what the learner said, and the tutor's reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Unique per owner.
    pub id: TurnId,
    /// Whose it is.
    pub owner: OwnerId,
    /// The conversation it belongs to.
    pub session_id: SessionId,
    /// The learner's message that it answers.
    pub user_message_id: MessageId,
    /// The id that the reply has, or will have.
    pub reply_message_id: MessageId,
    /// How far it is.
    pub status: TurnStatus,
    /// The provider that was asked.
    pub provider: String,
    /// The model that was asked for.
    pub model: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; `None` while it runs.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// What the caller calls it, to retry safely.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// A digest of the request, to tell a retry from a mistake.
    #[serde(default)]
    pub fingerprint: u64,
    /// The engine instance that runs it.
    pub instance: String,
    /// Until when that instance is believed to be alive.
    pub lease_until: Timestamp,
    /// True if a reply is stored: always when it completed or was cancelled, else if anything had
    /// arrived.
    #[serde(default)]
    pub has_reply: bool,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
    /// Why the reply ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<FinishReason>,
    /// What it consumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// How its events can be told again from its messages.
    #[serde(default)]
    pub trace: Trace,
}

impl Turn {
    /// Its full name.
    pub fn key(&self) -> TurnKey {
        TurnKey {
            owner: self.owner.clone(),
            id: self.id.clone(),
        }
    }
}

/// The full name of a turn: no lookup without an owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TurnKey {
    /// Whose turn.
    pub owner: OwnerId,
    /// Which one.
    pub id: TurnId,
}

impl TurnKey {
    /// The turn `id` of `owner`.
    pub fn new(owner: OwnerId, id: TurnId) -> Self {
        Self { owner, id }
    }
}

/// How far a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnStatus {
    /// The reply is being written.
    Running,
    /// The reply is whole.
    Completed,
    /// Somebody stopped it; what had arrived is kept.
    Cancelled,
    /// The provider or a limit ended it; what had arrived is kept.
    Failed,
    /// A crash ended it; what had been saved is kept.
    Interrupted,
}

impl TurnStatus {
    /// The snake-case name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What a caller asks: a message to a new or an existing conversation.
///
/// ```
/// use tutor_core::ChatRequest;
/// let request = ChatRequest::new("What is photosynthesis?").with_temperature(0.7);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ChatRequest {
    /// The conversation to go on with; `None` starts a new one.
    pub session_id: Option<SessionId>,
    /// True if the conversation is started under its id when there is none.
    pub create_session: bool,
    /// What is said, oldest first; the last one is the learner's.
    ///
    /// In a new conversation earlier messages are kept as imported. In an existing one the stored
    /// history wins, and only the trailing learner messages are taken.
    pub messages: Vec<InputMessage>,
    /// True if `messages` are all of the conversation that the caller knows, so that a learner's
    /// message that was not answered is recognized when it comes again. Several messages always
    /// are.
    pub is_transcript: bool,
    /// Which provider and model, and how.
    pub preferences: Preferences,
    /// Answer from this message instead of the head.
    pub parent_id: Option<MessageId>,
    /// What is said replaces this learner's message on a branch beside it, from what it followed.
    /// The way to edit also the first message.
    pub edit: Option<MessageId>,
    /// Write another reply beside this one; `messages` stays empty.
    pub regenerate: Option<MessageId>,
    /// A name for this request: sent again, it gives the same turn. 1 to
    /// [`MAX_IDEMPOTENCY_KEY_BYTES`] visible ASCII characters.
    pub idempotency_key: Option<String>,
    /// A digest of what the caller was asked, which tells a retry from a mistake; `None` for one of
    /// the request. For callers whose requests depend on what is stored.
    pub fingerprint: Option<u64>,
    /// How long the whole turn may take; `None`, or more, for the engine's limit.
    pub timeout: Option<Duration>,
    /// True if the turn goes on when nobody listens to it any more; else dropping its stream
    /// cancels it.
    pub detached: bool,
    /// True if somebody watches the reply grow. Only a hint to providers that pace themselves.
    pub streamed: bool,
    /// The form that the reply must have: JSON under a schema. A reply that does not have it is
    /// asked for once more; then the turn fails with `provider_rejected`, whose reason is
    /// `invalid_output`.
    pub output: Option<OutputSchema>,
    /// Tools for this turn, besides those of the [`Tutor`](crate::Tutor).
    pub tools: Vec<SharedTool>,
    /// Tools that the caller runs itself. A reply that asks for one ends with `tool_calls`; the
    /// next request brings the results, as [`Part::ToolResult`](crate::message::Part::ToolResult)
    /// of a message with the role user, and the model goes on.
    pub client_tools: Vec<ToolSpec>,
    /// What a binding needs to carry to its own providers and stores.
    pub extensions: Extensions,
}

/// A digest for [`ChatRequest::fingerprint`], the same in every release.
pub fn fingerprint(asked: &impl Serialize) -> u64 {
    digest(&serde_json::to_vec(asked).unwrap_or_default())
}

/// The longest idempotency key, in bytes.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

impl ChatRequest {
    /// A learner's message to a new conversation.
    pub fn new(content: impl Into<Content>) -> Self {
        Self {
            messages: vec![InputMessage::user(content)],
            ..Self::default()
        }
    }

    /// Goes on with this conversation.
    #[must_use]
    pub fn with_session(mut self, session: SessionId) -> Self {
        self.session_id = Some(session);
        self
    }

    /// Goes on with this conversation, or starts it under this id.
    #[must_use]
    pub fn with_session_or_new(mut self, session: SessionId) -> Self {
        self.create_session = true;
        self.with_session(session)
    }

    /// Asks for this model: a name, or `provider/name`.
    #[must_use]
    pub fn with_model(mut self, model: impl Into<String>) -> Self {
        self.preferences.model = Some(model.into());
        self
    }

    /// Sets the sampling temperature.
    #[must_use]
    pub fn with_temperature(mut self, temperature: f64) -> Self {
        self.preferences.temperature = Some(temperature);
        self
    }

    /// Names the request, so that it can be sent again safely.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Bounds the whole turn.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Answers from this message instead of the head.
    #[must_use]
    pub fn with_parent(mut self, parent: MessageId) -> Self {
        self.parent_id = Some(parent);
        self
    }

    /// Says this instead of an earlier message of the learner, on a branch beside it.
    pub fn edit(session: SessionId, message: MessageId, content: impl Into<Content>) -> Self {
        Self {
            edit: Some(message),
            ..Self::new(content).with_session(session)
        }
    }

    /// Asks for another reply beside this one.
    pub fn regenerate(session: SessionId, reply: MessageId) -> Self {
        Self {
            session_id: Some(session),
            regenerate: Some(reply),
            ..Self::default()
        }
    }

    /// Asks for a reply that is JSON of this form.
    #[must_use]
    pub fn with_output(mut self, output: OutputSchema) -> Self {
        self.output = Some(output);
        self
    }

    /// Adds a tool for this turn.
    #[must_use]
    pub fn with_tool(mut self, tool: impl Tool) -> Self {
        self.tools.push(Arc::new(tool));
        self
    }

    /// Adds a tool that the caller runs itself: see [`client_tools`](Self::client_tools).
    #[must_use]
    pub fn with_client_tool(mut self, tool: ToolSpec) -> Self {
        self.client_tools.push(tool);
        self
    }

    /// Says that the messages are all of the conversation that the caller knows.
    #[must_use]
    pub fn transcript(mut self) -> Self {
        self.is_transcript = true;
        self
    }

    /// Lets the turn go on when nobody listens to it any more.
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Replaces the preferences.
    #[must_use]
    pub fn with_preferences(mut self, preferences: Preferences) -> Self {
        self.preferences = preferences;
        self
    }
}

impl From<&str> for ChatRequest {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for ChatRequest {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

/// A message as a caller sends it.
#[derive(Clone, Debug, PartialEq)]
pub struct InputMessage {
    /// Its id if the caller has one already; else the engine makes one.
    pub id: Option<MessageId>,
    /// Whose words.
    pub role: Role,
    /// What is said.
    pub content: Content,
}

impl InputMessage {
    /// A learner's message.
    pub fn user(content: impl Into<Content>) -> Self {
        Self {
            id: None,
            role: Role::User,
            content: content.into(),
        }
    }

    /// What a tool answered that the caller ran: see
    /// [`ChatRequest::client_tools`](ChatRequest::client_tools). A failure's `result` says why.
    pub fn tool_result(call_id: impl Into<String>, result: Value, is_error: bool) -> Self {
        Self::user(Content::Parts(vec![Part::ToolResult {
            call_id: call_id.into(),
            // That of the call.
            name: String::new(),
            result,
            is_error,
        }]))
    }
}

/// How a reply is to be made: an open object with a few known members.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Preferences {
    /// A model's name, or `provider/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A configured provider's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The sampling temperature, 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The most tokens the reply may have, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Members that this version does not know: stored, echoed, named in a notice.
    #[serde(flatten)]
    pub other: Metadata,
}

impl fmt::Debug for Preferences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preferences")
            .field("temperature", &self.temperature)
            .field("max_tokens", &self.max_tokens)
            .field("other", &HiddenObject(&self.other))
            .finish_non_exhaustive()
    }
}

impl Preferences {
    /// All members, known and unknown, as they were sent.
    pub fn to_map(&self) -> Metadata {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(map)) => map,
            // Strings, numbers and JSON values always serialize to an object.
            Ok(_) | Err(_) => Metadata::new(),
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// `invalid_input` naming the member and its range.
    pub fn validate(&self) -> Result<()> {
        if let Some(t) = self.temperature
            && !(0.0..=2.0).contains(&t)
        {
            return Err(Error::invalid_input("temperature is a number from 0 to 2")
                .with_context("field", "preferences.temperature"));
        }
        if self.max_tokens == Some(0) {
            return Err(Error::invalid_input("max_tokens is at least 1")
                .with_context("field", "preferences.max_tokens"));
        }
        Ok(())
    }
}

/// A whole reply: a turn's events, folded.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Reply {
    /// The stored message.
    pub message: Message,
    /// The conversation, also if it was just created.
    pub session_id: SessionId,
    /// The turn.
    pub turn_id: TurnId,
    /// `Completed` or `Cancelled`.
    pub status: TurnStatus,
    /// Why the reply ended.
    pub finish_reason: FinishReason,
    /// What it consumed, if the provider said.
    pub usage: Option<Usage>,
    /// What the caller should know about this reply.
    pub warnings: Vec<Notice>,
    /// What the reply is as JSON, if the request asked for that and the turn completed.
    pub output: Option<serde_json::Value>,
}

impl Reply {
    /// The reply as a value of the caller's own type, if the request asked for JSON.
    ///
    /// # Errors
    /// `invalid_input` if no JSON was asked for, or the type and the schema do not agree.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        let output = self.output.clone().ok_or_else(|| {
            Error::invalid_input("the request asked for no output, or the turn did not complete")
        })?;
        serde_json::from_value(output).map_err(|_| {
            Error::invalid_input("the output does not fit the type that it is read as")
        })
    }

    /// The reply's text.
    pub fn text(&self) -> String {
        self.message.content.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_keep_what_they_do_not_know() {
        let json = r#"{"model":"gpt-4","temperature":0.7,"tone":"kind"}"#;
        let preferences: Preferences = serde_json::from_str(json).unwrap();
        assert_eq!(preferences.other["tone"], "kind");
        assert_eq!(
            serde_json::to_value(preferences.to_map()).unwrap(),
            serde_json::from_str::<serde_json::Value>(json).unwrap()
        );
    }

    #[test]
    fn preferences_out_of_range_are_refused() {
        for json in [
            r#"{"temperature":-0.1}"#,
            r#"{"temperature":2.5}"#,
            r#"{"max_tokens":0}"#,
        ] {
            let preferences: Preferences = serde_json::from_str(json).unwrap();
            assert!(preferences.validate().is_err(), "{json}");
        }
    }
}
