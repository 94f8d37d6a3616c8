//! What requests of several protocols have in common.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{CompletionRequest, PromptMessage};
use crate::event::Notice;
use crate::message::{Content, Part, Role};
#[cfg(any(
    feature = "provider-openai",
    feature = "provider-anthropic",
    feature = "provider-gemini"
))]
use crate::tool::OutputSchema;

/// What stands before a conversation that the tutor began, where the first message must be the
/// learner's.
#[cfg(any(feature = "provider-anthropic", feature = "provider-gemini"))]
pub(crate) const OPENING: &str = "(The conversation begins.)";

/// The conversation with neighbors of one role merged, without empty messages, and beginning with
/// the learner. `pieces` are what a message consists of in the protocol, `text` is such a piece.
#[cfg(any(feature = "provider-anthropic", feature = "provider-gemini"))]
pub(crate) fn alternating(
    request: &CompletionRequest,
    text: impl Fn(&str) -> Value,
    mut pieces: impl FnMut(&PromptMessage) -> Vec<Value>,
) -> Vec<(Role, Vec<Value>)> {
    let mut merged: Vec<(Role, Vec<Value>)> = Vec::new();
    for said in &request.messages {
        let pieces = pieces(said);
        if pieces.is_empty() {
            continue;
        }
        match merged.last_mut() {
            Some((role, before)) if *role == said.role => before.extend(pieces),
            _ => merged.push((said.role, pieces)),
        }
    }
    if merged
        .first()
        .is_some_and(|(role, _)| *role == Role::Assistant)
    {
        merged.insert(0, (Role::User, vec![text(OPENING)]));
    }
    merged
}

/// The parts of a message; a text is one part.
pub(crate) fn parts(content: &Content) -> Cow<'_, [Part]> {
    match content {
        Content::Parts(parts) => Cow::Borrowed(parts),
        Content::Text(text) => Cow::Owned(vec![Part::Text { text: text.clone() }]),
    }
}

/// What this protocol wanted to see again with the results of the calls in a message.
pub(crate) fn replay<'a>(parts: &'a [Part], protocol: &str) -> Option<&'a Value> {
    parts.iter().find_map(|part| match part {
        Part::Replay {
            protocol: whose,
            data,
        } if whose == protocol => Some(data),
        _ => None,
    })
}

/// The result of a tool as a text.
pub(crate) fn result_text(result: &Value) -> String {
    match result {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The arguments of a call as JSON text; what the model wrote, if that was something else.
#[cfg(any(feature = "provider-openai", feature = "provider-responses"))]
pub(crate) fn arguments_text(arguments: &Value) -> String {
    match arguments {
        Value::String(text) => text.clone(),
        Value::Null => "{}".to_owned(),
        other => other.to_string(),
    }
}

/// The arguments of a call as an object. Others stand in it under the name `input`.
#[cfg(any(
    feature = "provider-anthropic",
    feature = "provider-gemini",
    feature = "provider-ollama"
))]
pub(crate) fn arguments_object(arguments: &Value) -> Value {
    match arguments {
        Value::Object(_) => arguments.clone(),
        Value::Null => Value::Object(Map::new()),
        other => object("input", other),
    }
}

/// The result of a tool as an object. Others stand in it under the name `result` or `error`.
#[cfg(feature = "provider-gemini")]
pub(crate) fn result_object(result: &Value, is_error: bool) -> Value {
    match result {
        Value::Object(_) if !is_error => result.clone(),
        other => object(if is_error { "error" } else { "result" }, other),
    }
}

fn object(name: &str, value: &Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value.clone())]))
}

/// What a model is told that cannot be held to a schema; adds the notice that it was.
#[cfg(any(
    feature = "provider-openai",
    feature = "provider-anthropic",
    feature = "provider-gemini"
))]
pub(crate) fn schema_in_words(output: &OutputSchema, notices: &mut Vec<Notice>) -> String {
    notices.push(Notice::new(
        "schema_not_enforced",
        "the model cannot be held to this JSON Schema here: it was told to keep to it",
    ));
    format!(
        "Answer with JSON that is valid under this JSON Schema and nothing else: {}",
        output.schema
    )
}

/// That the temperature was not sent.
pub(crate) fn no_temperature() -> Notice {
    Notice::new(
        "preference_ignored",
        "the temperature was not sent: this model does not take one",
    )
}
