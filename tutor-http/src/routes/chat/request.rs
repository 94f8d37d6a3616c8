//! What a client asks for: the body of `POST /api/chat`, and its headers.

use std::collections::BTreeMap;

use http::HeaderMap;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tutor_core::message::Part;
use tutor_core::turn::InputMessage;
use tutor_core::{ChatRequest, Content, Preferences, Role};
use utoipa::ToSchema;

use crate::bounds::Bounds;
use crate::error::ApiError;
use crate::params::{idempotency_key, session_header, wants_events};
use crate::routes::compat::{content, kind, text_part, unknown_part};
use crate::validate::Checker;

/// A message to the tutor.
#[derive(ToSchema)]
#[schema(as = ChatRequest)]
#[expect(dead_code, reason = "documents what `Asked::read` reads")]
pub(crate) struct ChatRequestBody {
    /// What is said, oldest first; the last one is the learner's. Required, except with
    /// `regenerate`.
    messages: Vec<ChatMessage>,
    /// How to answer: an open object. Known are `model` (a name, or `provider/name`), `provider`,
    /// `temperature` (0 to 2) and `max_tokens`; others are stored with the conversation and named
    /// in `warnings`.
    #[schema(default = json!({}))]
    preferences: Option<BTreeMap<String, Value>>,
    /// The conversation to go on with; absent to start one.
    session_id: Option<String>,
    /// True for server-sent events.
    stream: Option<bool>,
    /// Answer from this message instead of the last one.
    parent_id: Option<String>,
    /// Say this instead of an earlier message of the learner, on a branch beside it.
    edit: Option<String>,
    /// Write another reply beside this one; `messages` stays empty.
    regenerate: Option<String>,
}

/// What somebody said.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `message` reads")]
pub(crate) struct ChatMessage {
    #[schema(inline)]
    role: ChatRole,
    #[schema(inline)]
    content: ChatContent,
    /// Ignored: the server's clock counts.
    #[schema(format = DateTime)]
    timestamp: Option<String>,
}

/// A text, or text, images and files in order.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "documents what `message` reads")]
pub(crate) enum ChatContent {
    Text(String),
    Parts(Vec<ChatPart>),
}

/// A piece of a message.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(dead_code, reason = "documents what `part` reads")]
pub(crate) enum ChatPart {
    Text {
        text: String,
    },
    Image {
        /// An `https:` or `data:` URL.
        url: String,
    },
    File {
        /// The `id` of an upload, or a `data:` URL.
        file_id: String,
        /// The name to show.
        name: Option<String>,
    },
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "documents what `role` reads")]
pub(crate) enum ChatRole {
    User,
    Assistant,
    System,
}

/// What the engine is asked for, and whether the client wants to see the reply grow.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: ChatRequest,
    pub(super) streamed: bool,
}

impl Asked {
    /// Reads a request.
    ///
    /// # Errors
    /// The documented 422, with everything that is wrong.
    pub(super) fn read(
        body: &Value,
        headers: &HeaderMap,
        bounds: &Bounds,
    ) -> Result<Self, ApiError> {
        let named = session_header(headers)?;
        let mut checker = Checker::new("body");
        let asked = checker.model(body).map(|object| {
            let c = &mut checker;
            let mut request = ChatRequest::default().detached();
            let regenerates = object.get("regenerate").is_some_and(|id| !id.is_null());
            if !regenerates || object.contains_key("messages") {
                let read = |c: &mut Checker, value: &Value| messages(c, value, regenerates, bounds);
                request.messages = c.required(object, "messages", read).unwrap_or_default();
            }
            // Absent is fine, null is not: as the original had it.
            if let Some(value) = object.get("preferences") {
                let read = c.within("preferences", |c| preferences(c, value));
                request.preferences = read.unwrap_or_default();
            }
            request.session_id = c.optional(object, "session_id", |c, id| {
                let id = c.parsed(id, str::parse)?;
                if named.as_ref().is_some_and(|named| *named != id) {
                    let input = Value::from(id.as_str());
                    c.fail_value("the header x-session-id names another session", &input);
                }
                Some(id)
            });
            let stream = c.optional(object, "stream", Checker::boolean);
            let id = |c: &mut Checker, id: &Value| c.parsed(id, str::parse);
            request.parent_id = c.optional(object, "parent_id", id);
            request.edit = c.optional(object, "edit", id);
            request.regenerate = c.optional(object, "regenerate", id);
            request.streamed = stream.unwrap_or_else(|| wants_events(headers));
            request
        });
        let mut request = checker.finish(asked)?;
        request.session_id = request.session_id.or(named);
        request.idempotency_key = idempotency_key(headers)?;
        let streamed = request.streamed;
        Ok(Self { request, streamed })
    }
}

fn messages(
    checker: &mut Checker,
    value: &Value,
    may_be_empty: bool,
    bounds: &Bounds,
) -> Option<Vec<InputMessage>> {
    let list = checker.list(value)?;
    if list.is_empty() && !may_be_empty {
        let ctx = json!({"field_type": "List", "min_length": 1, "actual_length": 0});
        let msg = "List should have at least 1 item after validation, not 0";
        checker.fail_with("too_short", msg, value, ctx);
    }
    let mut messages = Vec::with_capacity(list.len());
    for (i, value) in list.iter().enumerate() {
        if checker.is_full() {
            break;
        }
        messages.extend(checker.within(i, |c| message(c, value, bounds)));
    }
    Some(messages)
}

fn message(checker: &mut Checker, value: &Value, bounds: &Bounds) -> Option<InputMessage> {
    let object = checker.model(value)?;
    let role = checker.required(object, "role", role);
    // A tutor's reply in a transcript is as long as it is; only the body's size bounds it.
    let max = if role == Some(Role::Assistant) {
        usize::MAX
    } else {
        bounds.max_message_chars
    };
    let content = checker.required(object, "content", |c, value| match value {
        Value::Array(parts) if parts.iter().any(|part| part.get("type").is_some()) => {
            content(c, value, bounds, role.unwrap_or(Role::User), part)
        }
        _ => c.text(value, 1, max).map(Content::from),
    });
    checker.optional(object, "timestamp", timestamp);
    Some(InputMessage {
        id: None,
        role: role?,
        content: content?,
    })
}

fn part(c: &mut Checker, object: &Map<String, Value>) -> Option<Vec<Part>> {
    let string = |c: &mut Checker, v: &Value| c.string(v).map(str::to_owned);
    match kind(c, object)? {
        "text" => text_part(c, object),
        "image" => Some(vec![Part::Image {
            url: c.required(object, "url", string)?,
            media_type: c.optional(object, "media_type", string),
        }]),
        "file" => Some(vec![Part::File {
            file_id: c.required(object, "file_id", string)?,
            name: c.optional(object, "name", string),
            media_type: c.optional(object, "media_type", string),
        }]),
        _ => {
            unknown_part(c, object, "text, image or file");
            None
        }
    }
}

fn role(checker: &mut Checker, value: &Value) -> Option<Role> {
    const EXPECTED: &str = "'user', 'assistant' or 'system'";
    match value.as_str() {
        Some("user") => Some(Role::User),
        Some("assistant") => Some(Role::Assistant),
        Some("system") => Some(Role::System),
        _ => {
            let msg = format!("Input should be {EXPECTED}");
            checker.fail_with("literal_error", msg, value, json!({"expected": EXPECTED}));
            None
        }
    }
}

/// Checks a time, which has no effect. Times without a zone, which the original itself sent, are
/// fine, and so are numbers.
fn timestamp(checker: &mut Checker, value: &Value) -> Option<()> {
    let text = match value {
        Value::Number(_) => return Some(()),
        Value::String(text) => text,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            checker.fail("datetime_type", "Input should be a valid datetime", value);
            return None;
        }
    };
    let text = text.trim();
    let is_time = |text: &str| text.parse::<tutor_core::time::Timestamp>().is_ok();
    let is_fine = is_time(text)
        || is_time(&format!("{text}Z"))
        || is_time(&format!("{text}T00:00:00Z"))
        || text.parse::<f64>().is_ok_and(f64::is_finite);
    if is_fine {
        return Some(());
    }
    let why = if text.len() < "2026-11-24".len() {
        "input is too short"
    } else {
        "invalid character in date or time"
    };
    let msg = format!("Input should be a valid datetime or date, {why}");
    checker.fail_with(
        "datetime_from_date_parsing",
        msg,
        value,
        json!({"error": why}),
    );
    None
}

/// The known members, checked; the others as they are.
pub(super) fn preferences(checker: &mut Checker, value: &Value) -> Option<Preferences> {
    let mut other: Map<String, Value> = checker.dict(value)?;
    let mut preferences = Preferences::default();
    let c = checker;
    let name = |c: &mut Checker, value: &Value| c.string(value).map(str::to_owned);
    preferences.model = c.optional(&other, "model", name);
    preferences.provider = c.optional(&other, "provider", name);
    preferences.temperature = c.optional(&other, "temperature", |c, v| c.number(v, 0.0, 2.0));
    preferences.max_tokens = c.optional(&other, "max_tokens", |c, v| c.integer(v, 1));
    for known in ["model", "provider", "temperature", "max_tokens"] {
        other.remove(known);
    }
    preferences.other = other;
    Some(preferences)
}
