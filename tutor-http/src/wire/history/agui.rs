//! As AG-UI's snapshots have them. Each message has an id of its own: the first of those that a
//! stored one becomes has that one's, or, of what tools answered, the last.

use serde_json::{Value, json};
use tutor_core::message::Part;
use tutor_core::{Message, Role};

use super::openai::call;
use super::{Answer, Step, embedded, parts, steps, upload};

pub(crate) fn agui(messages: &[Message]) -> Vec<Value> {
    let mut shown = Vec::with_capacity(messages.len());
    for message in messages {
        let id = message.id.as_str();
        let id_of_result = |it: &Answer<'_>| format!("{id}-{}", it.call_id);
        for (n, step) in (1..).zip(steps(message.role, &parts(&message.content))) {
            let has_words = !step.said.is_empty() || step.results.is_empty();
            if message.role == Role::Assistant {
                if has_words && n == 1 {
                    shown.push(said(id, message.role, &step));
                } else if has_words {
                    shown.push(said(&format!("{id}-{n}"), message.role, &step));
                }
                shown.extend(step.results.iter().map(|it| result(&id_of_result(it), it)));
                continue;
            }
            let last = step.results.len();
            shown.extend((1..).zip(&step.results).map(|(n, it)| {
                if n == last && !has_words {
                    result(id, it)
                } else {
                    result(&id_of_result(it), it)
                }
            }));
            if has_words {
                shown.push(said(id, message.role, &step));
            }
        }
    }
    shown
}

fn result(id: &str, answer: &Answer<'_>) -> Value {
    let text = answer.text();
    let mut message = json!({"id": id, "role": "tool", "toolCallId": answer.call_id});
    if answer.is_error {
        message["error"] = json!(text);
    }
    message["content"] = json!(text);
    message
}

/// Absent members are left out, never null.
fn said(id: &str, role: Role, step: &Step<'_>) -> Value {
    let mut message = json!({"id": id, "role": role.as_str()});
    let calls: Vec<Value> = step.said.iter().filter_map(|part| call(part)).collect();
    let text = step.text();
    if role == Role::User && !step.is_text() {
        message["content"] = step.said.iter().filter_map(|it| part(it)).collect();
    } else if calls.is_empty() || !text.is_empty() {
        message["content"] = json!(text);
    }
    if !calls.is_empty() {
        message["toolCalls"] = Value::Array(calls);
    }
    message
}

fn part(part: &Part) -> Option<Value> {
    let (kind, url, name, media_type) = match part {
        Part::Text { text } => return Some(json!({"type": "text", "text": text})),
        Part::Image { url, media_type } => ("image", url.clone(), None, media_type.as_deref()),
        Part::File {
            file_id,
            name,
            media_type,
        } => {
            let media_type = media_type.as_deref();
            let is_image = media_type.is_some_and(|it| it.starts_with("image/"));
            let kind = if is_image { "image" } else { "document" };
            let url = match embedded(file_id) {
                Some(_) => file_id.clone(),
                None => upload(file_id),
            };
            (kind, url, name.as_deref(), media_type)
        }
        _ => return None,
    };
    let mut source = match embedded(&url) {
        Some((media_type, data)) => json!({"type": "data", "value": data, "mimeType": media_type}),
        None => json!({"type": "url", "value": url}),
    };
    if let (Value::Null, Some(media_type)) = (&source["mimeType"], media_type) {
        source["mimeType"] = json!(media_type);
    }
    let mut shown = json!({"type": kind, "source": source});
    if let Some(name) = name {
        shown["metadata"] = json!({"filename": name});
    }
    Some(shown)
}
