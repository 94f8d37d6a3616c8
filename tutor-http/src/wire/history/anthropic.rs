//! As a Messages request has them: instructions are the learner's words there.

use serde_json::{Value, json};
use tutor_core::message::Part;
use tutor_core::{Message, Role};

use super::{Answer, embedded, parts, steps};

pub(crate) fn anthropic(messages: &[Message]) -> Vec<Value> {
    let mut shown = Vec::with_capacity(messages.len());
    let mut push = |role: &str, blocks: Vec<Value>| {
        if !blocks.is_empty() {
            shown.push(json!({"role": role, "content": blocks}));
        }
    };
    for message in messages {
        for step in steps(message.role, &parts(&message.content)) {
            let said = step.said.iter().filter_map(|part| block(part));
            let results = step.results.iter().map(result);
            if message.role == Role::Assistant {
                push("assistant", said.collect());
                push("user", results.collect());
            } else {
                push("user", results.chain(said).collect());
            }
        }
    }
    shown
}

fn result(answer: &Answer<'_>) -> Value {
    let mut block = json!({"type": "tool_result", "tool_use_id": answer.call_id,
        "content": answer.text()});
    if answer.is_error {
        block["is_error"] = json!(true);
    }
    block
}

/// A block; `None` for a text of nothing, which that protocol refuses.
fn block(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text { text } if !text.is_empty() => json!({"type": "text", "text": text}),
        Part::Image { url, .. } => {
            let source = data(url).unwrap_or_else(|| json!({"type": "url", "url": url}));
            json!({"type": "image", "source": source})
        }
        Part::File { file_id, name, .. } => {
            let source =
                data(file_id).unwrap_or_else(|| json!({"type": "file", "file_id": file_id}));
            let mut block = json!({"type": "document", "source": source});
            if let Some(name) = name {
                block["title"] = json!(name);
            }
            block
        }
        Part::ToolCall {
            call_id,
            name,
            arguments,
        } => json!({"type": "tool_use", "id": call_id, "name": name, "input": arguments}),
        _ => return None,
    })
}

fn data(url: &str) -> Option<Value> {
    let (media_type, data) = embedded(url)?;
    Some(json!({"type": "base64", "media_type": media_type, "data": data}))
}
