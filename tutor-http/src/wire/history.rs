//! Stored messages in the words of other protocols, for clients that restore a conversation.

use std::collections::HashMap;

use serde_json::{Value, json};
use tutor_core::message::Part;
use tutor_core::{Content, Message, Role};

/// As the AI SDK keeps them: `UIMessage` objects. What tools answered is shown with their calls.
pub(crate) fn ui(messages: &[Message]) -> Vec<Value> {
    let results: HashMap<&str, (&Value, bool)> = messages
        .iter()
        .flat_map(|message| parts(&message.content))
        .filter_map(result)
        .collect();
    let message = |message: &Message| {
        let mut shown: Vec<Value> = Vec::new();
        match &message.content {
            Content::Text(text) => shown.push(json!({"type": "text", "text": text})),
            Content::Parts(all) => {
                shown.extend(all.iter().filter_map(|part| ui_part(part, &results)));
            }
        }
        json!({"id": message.id, "role": message.role.as_str(), "parts": shown,
            "metadata": {"createdAt": message.timestamp, "status": message.status}})
    };
    let said = messages.iter().filter(|message| !is_results(message));
    said.map(message).collect()
}

fn parts(content: &Content) -> &[Part] {
    match content {
        Content::Text(_) => &[],
        Content::Parts(parts) => parts,
    }
}

fn result(part: &Part) -> Option<(&str, (&Value, bool))> {
    match part {
        Part::ToolResult {
            call_id,
            result,
            is_error,
            ..
        } => Some((call_id, (result, *is_error))),
        _ => None,
    }
}

/// True if the message is nothing but what tools answered that the client ran.
fn is_results(message: &Message) -> bool {
    let parts = parts(&message.content);
    message.role == Role::User && !parts.is_empty() && parts.iter().all(|p| result(p).is_some())
}

fn ui_part(part: &Part, results: &HashMap<&str, (&Value, bool)>) -> Option<Value> {
    Some(match part {
        Part::Text { text } => json!({"type": "text", "text": text}),
        Part::Image { url, media_type } => {
            let media_type = media_type.as_deref().unwrap_or("image/*");
            json!({"type": "file", "mediaType": media_type, "url": url})
        }
        Part::ToolCall {
            call_id,
            name,
            arguments,
        } => {
            let mut shown = json!({"type": format!("tool-{name}"), "toolCallId": call_id,
                "state": "input-available", "input": arguments});
            match results.get(call_id.as_str()) {
                Some((result, true)) => {
                    shown["state"] = json!("output-error");
                    shown["errorText"] = json!(plain(result));
                }
                Some((result, false)) => {
                    shown["state"] = json!("output-available");
                    shown["output"] = Value::clone(result);
                }
                None => {}
            }
            shown
        }
        _ => return None,
    })
}

/// As a Chat Completions request would have them.
pub(crate) fn openai(messages: &[Message]) -> Vec<Value> {
    let said = messages.iter().filter(|message| !is_results(message));
    let message = |message: &Message| {
        let content = match &message.content {
            Content::Parts(parts) if parts.iter().any(|p| matches!(p, Part::Image { .. })) => {
                Value::Array(parts.iter().filter_map(openai_part).collect())
            }
            content => json!(content.text()),
        };
        json!({"role": message.role.as_str(), "content": content})
    };
    said.map(message).collect()
}

fn openai_part(part: &Part) -> Option<Value> {
    match part {
        Part::Text { text } => Some(json!({"type": "text", "text": text})),
        Part::Image { url, .. } => Some(json!({"type": "image_url", "image_url": {"url": url}})),
        _ => None,
    }
}

/// As a Messages request would have them: instructions are the learner's words there.
pub(crate) fn anthropic(messages: &[Message]) -> Vec<Value> {
    let message = |message: &Message| {
        let role = match message.role {
            Role::Assistant => "assistant",
            Role::User | Role::System => "user",
        };
        let text = message.content.text();
        json!({"role": role, "content": [{"type": "text", "text": text}]})
    };
    let said = messages
        .iter()
        .filter(|message| !message.content.text().is_empty());
    said.map(message).collect()
}

/// As AG-UI's snapshots have them.
pub(crate) fn agui(messages: &[Message]) -> Vec<Value> {
    let message = |message: &Message| json!({"id": message.id, "role": message.role.as_str(), "content": message.content.text()});
    let said = messages.iter().filter(|message| !is_results(message));
    said.map(message).collect()
}

/// A text as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
