//! Conversations in the words of other protocols, so that their stock clients work unmodified.

use std::collections::BTreeMap;

use http::HeaderMap;
use serde_json::{Map, Value};
use tutor_core::message::Part;
use tutor_core::turn::InputMessage;
use tutor_core::{ChatRequest, Content, Role, SessionId};
use utoipa::ToSchema;

use crate::bounds::Bounds;
use crate::error::ApiError;
use crate::params::session_header;
use crate::validate::Checker;

pub(super) mod agui;
pub(super) mod anthropic;
pub(super) mod openai;

/// The model that stands for whatever the server answers by when nobody asks for a model.
pub(super) const OWN_MODEL: &str = "neuro-tutor";

/// A body that is described by its own protocol's documents.
#[derive(ToSchema)]
#[schema(value_type = Object)]
#[expect(dead_code, reason = "documents a body that is read member by member")]
pub(crate) struct ForeignBody(BTreeMap<String, Value>);

/// Puts the members together that all protocols have in some form.
fn chat_request(
    messages: Vec<InputMessage>,
    model: Option<String>,
    session: Option<SessionId>,
) -> ChatRequest {
    let mut request = ChatRequest::default().detached();
    request.messages = messages;
    request.preferences.model = model.filter(|model| model != OWN_MODEL);
    // These clients choose their ids themselves, and never create a conversation first.
    request.create_session = session.is_some();
    request.session_id = session;
    request
}

/// The conversation that a request names: by the header, or as `metadata.session_id`.
fn named_session(
    checker: &mut Checker,
    object: &Map<String, Value>,
    headers: &HeaderMap,
) -> Result<Option<SessionId>, ApiError> {
    let by_header = session_header(headers)?;
    let by_body = checker.optional(object, "metadata", |c, metadata| {
        let metadata = metadata.as_object()?;
        c.optional(metadata, "session_id", |c, id| c.parsed(id, str::parse))
    });
    Ok(by_header.or(by_body))
}

/// The content of a message: a text, or parts that `part` reads one by one.
fn content(
    checker: &mut Checker,
    value: &Value,
    bounds: &Bounds,
    role: Role,
    part: impl Fn(&mut Checker, &Map<String, Value>) -> Option<Vec<Part>>,
) -> Option<Content> {
    let max = if role == Role::User {
        bounds.max_message_chars
    } else {
        usize::MAX
    };
    if value.is_string() {
        return checker.text(value, 0, max).map(Content::Text);
    }
    let mut parts = Vec::new();
    for (i, value) in checker.list(value)?.iter().enumerate() {
        if checker.is_full() {
            return None;
        }
        let read = checker.within(i, |c| c.model(value).and_then(|object| part(c, object)));
        parts.extend(read.unwrap_or_default());
    }
    let content = simplified(parts);
    let chars = content.text().chars().count();
    if chars > max {
        checker.fail_value(
            &format!("the text has more than {max} characters"),
            &Value::Null,
        );
        return None;
    }
    Some(content)
}

/// Parts that are only text are a text.
fn simplified(parts: Vec<Part>) -> Content {
    if parts.iter().all(|part| part.as_text().is_some()) {
        Content::Text(parts.iter().filter_map(Part::as_text).collect())
    } else {
        Content::Parts(parts)
    }
}

fn text_part(checker: &mut Checker, object: &Map<String, Value>) -> Option<Vec<Part>> {
    let text = checker.required(object, "text", |c, v| c.string(v).map(str::to_owned))?;
    Some(vec![Part::Text { text }])
}

/// The `type` of a part.
fn kind<'a>(checker: &mut Checker, object: &'a Map<String, Value>) -> Option<&'a str> {
    match object.get("type") {
        Some(value) => checker.within("type", |c| c.string(value)),
        None => checker.required(object, "type", |_, _| None),
    }
}

/// Notes a kind of part that is not understood.
fn unknown_part(checker: &mut Checker, object: &Map<String, Value>, known: &str) {
    let input = object.get("type").cloned().unwrap_or_default();
    checker.within("type", |c| {
        c.fail_value(
            &format!("this kind of part is not supported; send {known}"),
            &input,
        );
    });
}
