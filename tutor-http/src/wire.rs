//! What the server sends, as types that document themselves. Times are RFC 3339 in UTC with `Z`;
//! ids are opaque, URL-safe strings.

use serde::Serialize;
use serde_json::{Map, Value};
use tutor_core::Notice;
use utoipa::ToSchema;

pub(crate) mod event;
pub(crate) mod history;
pub(crate) mod message;

pub(crate) use message::{Message, Usage};

/// The server is alive.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// Always `healthy`.
    pub(crate) status: &'static str,
}

/// Whether the server takes work.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready`, or why not: `draining`, `store_unavailable`.
    pub(crate) status: &'static str,
    /// What instances share through Redis: `ready`, or `unavailable`, and then each counts for itself
    /// and follows the others through the store. Absent where nothing is shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redis: Option<&'static str>,
    /// The providers, the default one first.
    pub(crate) providers: Vec<ProviderHealth>,
}

/// How a provider is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProviderHealth {
    /// How requests name it.
    pub(crate) name: String,
    /// `breaker` with its `state` (`closed`, `open`, `half_open`), `load` (requests that run and
    /// wait, and how many may), `keys` with the `state` of each (`usable`, `refused`, `resting`);
    /// what nothing watches over is absent.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub(crate) health: serde_json::Value,
}

/// A whole reply.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatResponse {
    /// What the tutor says.
    pub(crate) reply_message: ReplyMessage,
    /// The conversation, also if it was just created: send it with the next message.
    pub(crate) session_id: String,
    /// The exchange.
    pub(crate) turn_id: String,
    /// `completed`, or `cancelled` if somebody stopped it.
    pub(crate) status: String,
    /// Why the reply ended.
    pub(crate) finish_reason: String,
    /// Who answered.
    pub(crate) provider: Option<String>,
    /// The model that answered.
    pub(crate) model: Option<String>,
    /// What it consumed, if the provider said.
    pub(crate) usage: Option<Usage>,
    /// What the caller should know about this reply.
    pub(crate) warnings: Vec<Warning>,
}

/// A reply as the first version of this API has it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplyMessage {
    pub(crate) id: String,
    /// Always `assistant`.
    pub(crate) role: String,
    pub(crate) content: String,
    #[schema(format = DateTime)]
    pub(crate) timestamp: String,
}

impl From<tutor_core::Reply> for ChatResponse {
    fn from(reply: tutor_core::Reply) -> Self {
        let message = &reply.message;
        Self {
            reply_message: ReplyMessage {
                id: message.id.to_string(),
                role: message.role.as_str().to_owned(),
                content: message.content.text(),
                timestamp: message.timestamp.to_string(),
            },
            session_id: reply.session_id.to_string(),
            turn_id: reply.turn_id.to_string(),
            status: reply.status.as_str().to_owned(),
            finish_reason: reply.finish_reason.as_str().to_owned(),
            provider: message.provider.clone(),
            model: message.model.clone(),
            usage: reply.usage.map(Usage::from),
            warnings: reply.warnings.into_iter().map(Warning::from).collect(),
        }
    }
}

/// Something that the user of the API should know; never an error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Warning {
    /// A stable snake-case word.
    pub(crate) code: String,
    /// A sentence for people.
    pub(crate) message: String,
}

impl From<Notice> for Warning {
    fn from(notice: Notice) -> Self {
        Self {
            code: notice.code,
            message: notice.message,
        }
    }
}

/// Conversations, the latest used first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionList {
    pub(crate) sessions: Vec<SessionSummary>,
    /// Send it as `cursor` to read on; null if there is nothing more.
    pub(crate) next_cursor: Option<String>,
}

/// A conversation in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionSummary {
    pub(crate) id: String,
    pub(crate) title: String,
    #[schema(format = DateTime)]
    pub(crate) created_at: String,
    /// When a turn of it last began or ended, or it was changed.
    #[schema(format = DateTime)]
    pub(crate) updated_at: String,
    /// Messages on all branches.
    pub(crate) message_count: u64,
}

impl From<&tutor_core::Session> for SessionSummary {
    fn from(session: &tutor_core::Session) -> Self {
        Self {
            id: session.id.to_string(),
            title: session.title.clone(),
            created_at: session.created_at.to_string(),
            updated_at: session.updated_at.to_string(),
            message_count: session.message_count,
        }
    }
}

/// A conversation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Session {
    #[serde(flatten)]
    pub(crate) summary: SessionSummary,
    /// The last message of the active branch; null while there is none.
    pub(crate) head_id: Option<String>,
    /// The turn that is running; null if none is.
    pub(crate) running_turn_id: Option<String>,
    /// The preferences of its latest request, known and unknown.
    pub(crate) preferences: Map<String, Value>,
    /// The caller's own data.
    pub(crate) metadata: Map<String, Value>,
}

impl From<tutor_core::Session> for Session {
    fn from(session: tutor_core::Session) -> Self {
        Self {
            summary: SessionSummary::from(&session),
            head_id: session.head.map(String::from),
            running_turn_id: session.running_turn.map(String::from),
            preferences: session.preferences,
            metadata: session.metadata,
        }
    }
}

/// Messages in the order of the conversation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageList {
    #[schema(value_type = Vec<Message>)]
    pub(crate) messages: Vec<Rated>,
    /// Send it as `before` (or `after`, when reading forwards) to read on; null if there is
    /// nothing more.
    pub(crate) next_cursor: Option<String>,
}

/// A message, and what is thought of it.
#[derive(Debug, Serialize)]
pub(crate) struct Rated {
    #[serde(flatten)]
    pub(crate) message: tutor_core::Message,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) feedback: Option<message::Feedback>,
}

/// One exchange.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Turn {
    pub(crate) id: String,
    pub(crate) session_id: String,
    /// The learner's message that it answers.
    pub(crate) user_message_id: String,
    /// The id that the reply has, or will have.
    pub(crate) reply_message_id: String,
    /// `running`, `completed`, `cancelled`, `failed` or `interrupted`.
    pub(crate) status: String,
    pub(crate) provider: String,
    pub(crate) model: String,
    #[schema(format = DateTime)]
    pub(crate) started_at: String,
    /// Null while it runs.
    #[schema(format = DateTime)]
    pub(crate) ended_at: Option<String>,
    /// True if a reply, perhaps a partial one, is stored.
    pub(crate) has_reply: bool,
    /// Why the reply ended.
    pub(crate) finish_reason: Option<String>,
    /// Why it failed.
    pub(crate) error: Option<event::ErrorInfo>,
    /// What it consumed.
    pub(crate) usage: Option<Usage>,
}

impl From<tutor_core::Turn> for Turn {
    fn from(turn: tutor_core::Turn) -> Self {
        Self {
            id: turn.id.to_string(),
            session_id: turn.session_id.to_string(),
            user_message_id: turn.user_message_id.to_string(),
            reply_message_id: turn.reply_message_id.to_string(),
            status: turn.status.as_str().to_owned(),
            provider: turn.provider,
            model: turn.model,
            started_at: turn.started_at.to_string(),
            ended_at: turn.ended_at.map(|time| time.to_string()),
            has_reply: turn.has_reply,
            finish_reason: turn.finish_reason.map(|reason| reason.as_str().to_owned()),
            error: turn.error.map(event::ErrorInfo::from),
            usage: turn.usage.map(Usage::from),
        }
    }
}

/// What can be asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// The default model first.
    pub(crate) models: Vec<Model>,
    /// Always null: there is one page.
    pub(crate) next_cursor: Option<String>,
    /// Providers whose list could not be read; their default model is listed all the same.
    pub(crate) warnings: Vec<Warning>,
}

/// A model that can be asked for, as `preferences.model`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Model {
    pub(crate) id: String,
    /// Who answers.
    pub(crate) provider: String,
    /// The most tokens of prompt and reply together; null if unknown.
    pub(crate) context_window: Option<u64>,
    /// True if it answers requests that name no model.
    pub(crate) default: bool,
}
