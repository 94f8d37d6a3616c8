//! As a Chat Completions request has them.

use serde_json::{Map, Value, json};
use tutor_core::message::Part;
use tutor_core::{Message, Role};

use super::{Step, arguments_text, embedded, parts, steps};

pub(crate) fn openai(messages: &[Message]) -> Vec<Value> {
    let mut shown = Vec::with_capacity(messages.len());
    for message in messages {
        for step in steps(message.role, &parts(&message.content)) {
            let results = step.results.iter().map(
                |it| json!({"role": "tool", "tool_call_id": it.call_id, "content": it.text()}),
            );
            let results: Vec<_> = results.collect();
            let said = if step.said.is_empty() && !results.is_empty() {
                None
            } else {
                Some(said(message.role, &step))
            };
            if message.role == Role::Assistant {
                shown.extend(said);
                shown.extend(results);
            } else {
                shown.extend(results);
                shown.extend(said);
            }
        }
    }
    shown
}

fn said(role: Role, step: &Step<'_>) -> Value {
    let calls: Vec<Value> = step.said.iter().filter_map(|part| call(part)).collect();
    let is_text = step.said.len() == calls.len() + texts(step);
    let content = match step.text() {
        _ if !is_text => Value::Array(step.said.iter().filter_map(|it| part(it)).collect()),
        text if text.is_empty() && !calls.is_empty() => Value::Null,
        text => Value::String(text),
    };
    let mut message = json!({"role": role.as_str(), "content": content});
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    message
}

fn texts(step: &Step<'_>) -> usize {
    step.said
        .iter()
        .filter(|part| part.as_text().is_some())
        .count()
}

/// A call; the arguments are a text. AG-UI has the same.
pub(super) fn call(part: &Part) -> Option<Value> {
    match part {
        Part::ToolCall {
            call_id,
            name,
            arguments,
        } => Some(json!({"id": call_id, "type": "function",
            "function": {"name": name, "arguments": arguments_text(arguments)}})),
        _ => None,
    }
}

fn part(part: &Part) -> Option<Value> {
    match part {
        Part::Text { text } => Some(json!({"type": "text", "text": text})),
        Part::Image { url, .. } => Some(json!({"type": "image_url", "image_url": {"url": url}})),
        Part::File { file_id, name, .. } => {
            let member = if embedded(file_id).is_some() {
                "file_data"
            } else {
                "file_id"
            };
            let mut file = Map::new();
            file.insert(member.to_owned(), json!(file_id));
            if let Some(name) = name {
                file.insert("filename".to_owned(), json!(name));
            }
            Some(json!({"type": "file", "file": file}))
        }
        _ => None,
    }
}
