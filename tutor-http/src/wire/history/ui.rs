//! As the AI SDK keeps them: `UIMessage` objects. What tools answered is shown with their calls.

use std::collections::HashMap;

use serde_json::{Value, json};
use tutor_core::message::Part;
use tutor_core::{Message, Role};

use super::{Answer, UNKNOWN_TYPE, answer, embedded, parts, plain, upload};

/// `following` are messages behind these, which may have results of their calls.
pub(crate) fn ui(messages: &[Message], following: &[Message]) -> Vec<Value> {
    let contents: Vec<_> = messages
        .iter()
        .chain(following)
        .map(|message| parts(&message.content))
        .collect();
    let results: HashMap<&str, Answer<'_>> = contents
        .iter()
        .flat_map(|parts| parts.iter())
        .filter_map(answer)
        .map(|answer| (answer.call_id, answer))
        .collect();
    let mut shown = Vec::with_capacity(messages.len());
    for (message, parts) in messages.iter().zip(&contents) {
        let has_only_results = !parts.is_empty() && parts.iter().all(|p| answer(p).is_some());
        if message.role == Role::User && has_only_results {
            continue;
        }
        let parts: Vec<_> = parts.iter().filter_map(|it| part(it, &results)).collect();
        shown.push(
            json!({"id": message.id, "role": message.role.as_str(), "parts": parts,
            "metadata": {"createdAt": message.timestamp, "status": message.status}}),
        );
    }
    shown
}

fn part(part: &Part, results: &HashMap<&str, Answer<'_>>) -> Option<Value> {
    Some(match part {
        Part::Text { text } => json!({"type": "text", "text": text}),
        Part::Image { url, media_type } => {
            let media_type = media_type.as_deref().unwrap_or("image/*");
            json!({"type": "file", "mediaType": media_type, "url": url})
        }
        Part::File {
            file_id,
            name,
            media_type,
        } => {
            let data = embedded(file_id);
            let media_type = media_type
                .as_deref()
                .or(data.map(|(media_type, _)| media_type));
            let url = data.map_or_else(|| upload(file_id), |_| file_id.clone());
            let mut shown = json!({"type": "file",
                "mediaType": media_type.unwrap_or(UNKNOWN_TYPE), "url": url});
            if let Some(name) = name {
                shown["filename"] = json!(name);
            }
            shown
        }
        Part::ToolCall {
            call_id,
            name,
            arguments,
        } => {
            let mut shown = json!({"type": format!("tool-{name}"), "toolCallId": call_id,
                "state": "input-available", "input": arguments});
            match results.get(call_id.as_str()) {
                Some(answer) if answer.is_error => {
                    shown["state"] = json!("output-error");
                    shown["errorText"] = json!(plain(answer.result));
                }
                Some(answer) => {
                    shown["state"] = json!("output-available");
                    shown["output"] = answer.result.clone();
                }
                None => {}
            }
            shown
        }
        _ => return None,
    })
}
