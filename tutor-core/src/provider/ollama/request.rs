//! The body of an Ollama chat request.

use serde_json::{Map, Value, json};

use crate::event::Notice;
use crate::message::{Part, Role};
use crate::provider::attachment::{Image, placeholder, unseen_image};
use crate::provider::prompt::{arguments_object, parts, result_text};
use crate::provider::{CompletionRequest, PromptMessage};

/// The body that asks for `request`, and what of it could not be asked for.
pub(crate) fn body(request: &CompletionRequest) -> (Vec<u8>, Vec<Notice>) {
    let mut notices = Vec::new();
    let mut messages = Vec::new();
    if let Some(system) = &request.system {
        messages.push(json!({"role": "system", "content": system}));
    }
    for said in &request.messages {
        message(said, &mut messages, &mut notices);
    }
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(request.model));
    body.insert("messages".to_owned(), Value::Array(messages));
    body.insert("stream".to_owned(), json!(true));
    // A conversation that is too long is an error, and not silently cut.
    body.insert("truncate".to_owned(), json!(false));
    let mut options = Map::new();
    if let Some(limit) = request.max_tokens {
        options.insert("num_predict".to_owned(), json!(limit));
    }
    if let Some(temperature) = request.temperature {
        options.insert("temperature".to_owned(), json!(temperature));
    }
    if !options.is_empty() {
        body.insert("options".to_owned(), Value::Object(options));
    }
    if !request.tools.is_empty() {
        let tools: Value = request
            .tools
            .iter()
            .map(|tool| {
                json!({"type": "function", "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                }})
            })
            .collect();
        body.insert("tools".to_owned(), tools);
    }
    if let Some(output) = &request.output {
        body.insert("format".to_owned(), output.schema.clone());
    }
    (Value::Object(body).to_string().into_bytes(), notices)
}

/// Appends what a message is in this protocol; results of tools are messages of their own, before
/// what else the learner says.
fn message(said: &PromptMessage, messages: &mut Vec<Value>, notices: &mut Vec<Notice>) {
    let parts = parts(&said.content);
    let (mut text, mut images, mut calls) = (String::new(), Vec::new(), Vec::new());
    for part in parts.iter() {
        match part {
            Part::Text { text: more } => text.push_str(more),
            Part::Image { url, media_type } => match Image::of(url, media_type.as_deref()) {
                Image::Embedded(_, data) if said.role != Role::Assistant => {
                    images.push(json!(data));
                }
                _ => text.push_str(&unseen_image(
                    "an image was not sent: Ollama takes only images that are embedded as data: URLs",
                    notices,
                )),
            },
            Part::File { name, .. } => text.push_str(&placeholder(name.as_deref(), notices)),
            Part::ToolCall {
                call_id,
                name,
                arguments,
            } => calls.push(json!({
                "id": call_id,
                "function": {"name": name, "arguments": arguments_object(arguments)},
            })),
            Part::ToolResult {
                call_id,
                name,
                result,
                ..
            } => messages.push(json!({
                "role": "tool",
                "tool_name": name,
                "tool_call_id": call_id,
                "content": result_text(result),
            })),
            Part::Replay { .. } => {}
        }
    }
    if text.trim().is_empty() && images.is_empty() && calls.is_empty() {
        return;
    }
    let mut message = json!({"role": said.role.as_str(), "content": text});
    if !images.is_empty() {
        message["images"] = Value::Array(images);
    }
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    messages.push(message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Content;
    use crate::tool::{OutputSchema, ToolSpec};

    fn sent(request: &CompletionRequest) -> (Value, Vec<Notice>) {
        let (body, notices) = body(request);
        (serde_json::from_slice(&body).unwrap(), notices)
    }

    #[test]
    fn a_conversation_is_never_cut_silently() {
        let mut request = CompletionRequest::new("qwen3:4b", "Why?");
        request.system = Some("Be brief.".to_owned());
        assert_eq!(
            sent(&request).0,
            json!({
                "model": "qwen3:4b",
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
                "stream": true,
                "truncate": false,
            })
        );
    }

    #[test]
    fn everything_has_its_place() {
        let image = |url: &str| Part::Image {
            url: url.to_owned(),
            media_type: None,
        };
        let see = Part::Text {
            text: "see ".to_owned(),
        };
        let parts = vec![
            see,
            image("data:image/png;base64,AA"),
            image("https://x.example/i.png"),
        ];
        let mut request = CompletionRequest::new("m", Content::Parts(parts));
        request.messages.push(PromptMessage {
            role: Role::Assistant,
            content: Content::Parts(vec![Part::ToolCall {
                call_id: "c1".to_owned(),
                name: "plot".to_owned(),
                arguments: json!({"x": 1}),
            }]),
        });
        request.messages.push(PromptMessage {
            role: Role::User,
            content: Content::Parts(vec![Part::ToolResult {
                call_id: "c1".to_owned(),
                name: "plot".to_owned(),
                result: json!([1]),
                is_error: false,
            }]),
        });
        let schema = json!({"type": "object"});
        request.max_tokens = Some(7);
        request.temperature = Some(0.5);
        request.tools = vec![ToolSpec {
            name: "plot".to_owned(),
            description: String::new(),
            parameters: schema.clone(),
        }];
        request.output = Some(OutputSchema {
            name: "x".to_owned(),
            schema: schema.clone(),
        });
        let (body, notices) = sent(&request);
        assert_eq!(
            body["messages"],
            json!([
                {"role": "user", "content": "see [attached image]", "images": ["AA"]},
                {"role": "assistant", "content": "", "tool_calls": [
                    {"id": "c1", "function": {"name": "plot", "arguments": {"x": 1}}},
                ]},
                {"role": "tool", "tool_name": "plot", "tool_call_id": "c1", "content": "[1]"},
            ])
        );
        assert_eq!(
            body["options"],
            json!({"num_predict": 7, "temperature": 0.5})
        );
        assert_eq!(body["format"], schema);
        assert_eq!(body["tools"][0]["function"]["name"], "plot");
        assert_eq!(notices[0].code, "attachment_ignored");
    }
}
