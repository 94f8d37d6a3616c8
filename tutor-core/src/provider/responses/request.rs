//! The body of a Responses request.

use serde_json::{Map, Value, json};

use super::stream::PROTOCOL;
use crate::event::Notice;
use crate::message::{Part, Role};
use crate::provider::abilities::is_reasoning_model;
use crate::provider::attachment::placeholder;
use crate::provider::prompt::{arguments_text, no_temperature, parts, replay, result_text};
use crate::provider::schema::is_strict;
use crate::provider::{CompletionRequest, PromptMessage};
use crate::tool::ToolSpec;

/// The lowest limit of a reply that the API takes.
const MIN_OUTPUT_TOKENS: u64 = 16;

/// The body that asks for `request`, and what of it could not be asked for. `own` if OpenAI itself
/// is asked, which knows more than its imitators.
pub(crate) fn body(request: &CompletionRequest, own: bool) -> (Vec<u8>, Vec<Notice>) {
    let reasons = is_reasoning_model(&request.model);
    let mut notices = Vec::new();
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(request.model));
    if let Some(system) = &request.system {
        body.insert("instructions".to_owned(), json!(system));
    }
    let input = request
        .messages
        .iter()
        .flat_map(|said| items(said, &mut notices));
    body.insert("input".to_owned(), input.collect());
    body.insert("stream".to_owned(), json!(true));
    // What learners say is not kept by the provider.
    body.insert("store".to_owned(), json!(false));
    if own {
        let options = json!({"include_obfuscation": false});
        body.insert("stream_options".to_owned(), options);
        if reasons && !request.tools.is_empty() {
            // What is not stored must come back with the results of tools.
            body.insert("include".to_owned(), json!(["reasoning.encrypted_content"]));
        }
    }
    if let Some(limit) = request.max_tokens {
        let limit = limit.max(MIN_OUTPUT_TOKENS);
        body.insert("max_output_tokens".to_owned(), json!(limit));
    }
    match request.temperature {
        Some(_) if reasons => notices.push(no_temperature()),
        Some(temperature) => {
            body.insert("temperature".to_owned(), json!(temperature));
        }
        None => {}
    }
    if !request.tools.is_empty() {
        body.insert("tools".to_owned(), request.tools.iter().map(tool).collect());
    }
    if let Some(output) = &request.output {
        let format = json!({
            "type": "json_schema",
            "name": output.name,
            "schema": output.schema,
            "strict": is_strict(&output.schema),
        });
        body.insert("text".to_owned(), json!({"format": format}));
    }
    (Value::Object(body).to_string().into_bytes(), notices)
}

fn tool(spec: &ToolSpec) -> Value {
    json!({
        "type": "function",
        "name": spec.name,
        "description": spec.description,
        "parameters": spec.parameters,
        // True where it is missing, and a schema that cannot be enforced is refused then.
        "strict": is_strict(&spec.parameters),
    })
}

/// What a message is in this protocol: results of tools, thinking and calls are items of their own.
fn items(said: &PromptMessage, notices: &mut Vec<Notice>) -> Vec<Value> {
    let parts = parts(&said.content);
    let mut items: Vec<Value> = parts.iter().filter_map(result).collect();
    let calls: Vec<Value> = parts.iter().filter_map(call).collect();
    if let Some(thinking) = replay(&parts, PROTOCOL).filter(|_| !calls.is_empty()) {
        items.extend(thinking.as_array().cloned().unwrap_or_default());
    }
    let content: Vec<Value> = parts
        .iter()
        .filter_map(|part| content(part, said.role, notices))
        .collect();
    if !content.is_empty() {
        items.push(json!({"role": said.role.as_str(), "content": content}));
    }
    items.extend(calls);
    items
}

fn result(part: &Part) -> Option<Value> {
    let Part::ToolResult {
        call_id, result, ..
    } = part
    else {
        return None;
    };
    let output = result_text(result);
    Some(json!({"type": "function_call_output", "call_id": call_id, "output": output}))
}

fn call(part: &Part) -> Option<Value> {
    let Part::ToolCall {
        call_id,
        name,
        arguments,
    } = part
    else {
        return None;
    };
    let arguments = arguments_text(arguments);
    Some(json!({"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}))
}

fn content(part: &Part, role: Role, notices: &mut Vec<Notice>) -> Option<Value> {
    let text = |text: &str| {
        let kind = match role {
            Role::Assistant => "output_text",
            Role::User | Role::System => "input_text",
        };
        (!text.trim().is_empty()).then(|| json!({"type": kind, "text": text}))
    };
    match part {
        Part::Text { text: said } => text(said),
        Part::Image { url, .. } if role != Role::Assistant => {
            Some(json!({"type": "input_image", "image_url": url}))
        }
        Part::File { name, .. } => text(&placeholder(name.as_deref(), notices)),
        Part::Image { .. }
        | Part::ToolCall { .. }
        | Part::ToolResult { .. }
        | Part::Replay { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Content;
    use crate::tool::OutputSchema;

    fn sent(request: &CompletionRequest, own: bool) -> (Value, Vec<Notice>) {
        let (body, notices) = body(request, own);
        (serde_json::from_slice(&body).unwrap(), notices)
    }

    #[test]
    fn nothing_is_stored_and_nothing_is_sent_that_was_not_set() {
        let mut request = CompletionRequest::new("gpt-6-luna", "Why?");
        request.system = Some("Be brief.".to_owned());
        request.max_tokens = Some(7);
        request.temperature = Some(0.5);
        let (body, notices) = sent(&request, false);
        assert_eq!(
            body,
            json!({
                "model": "gpt-6-luna",
                "instructions": "Be brief.",
                "input": [{"role": "user", "content": [{"type": "input_text", "text": "Why?"}]}],
                "stream": true,
                "store": false,
                "max_output_tokens": 16,
            })
        );
        assert_eq!(notices[0].code, "preference_ignored");
        let (body, _) = sent(&request, true);
        assert_eq!(
            body["stream_options"],
            json!({"include_obfuscation": false})
        );
        assert_eq!(body.get("include"), None);
    }

    #[test]
    fn calls_thinking_results_images_and_schemas_are_sent() {
        let thinking =
            json!([{"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "E"}]);
        let image = Part::Image {
            url: "https://x.example/i.png".to_owned(),
            media_type: None,
        };
        let mut request = CompletionRequest::new("gpt-6-luna", Content::Parts(vec![image]));
        let schema = json!({"type": "object", "properties": {"x": {"type": "number"}}});
        for (role, parts) in [
            (
                Role::Assistant,
                vec![
                    Part::Text {
                        text: "Well.".to_owned(),
                    },
                    Part::Replay {
                        protocol: PROTOCOL.to_owned(),
                        data: thinking.clone(),
                    },
                    Part::ToolCall {
                        call_id: "c1".to_owned(),
                        name: "plot".to_owned(),
                        arguments: json!({"x": 1}),
                    },
                ],
            ),
            (
                Role::User,
                vec![Part::ToolResult {
                    call_id: "c1".to_owned(),
                    name: "plot".to_owned(),
                    result: json!("done"),
                    is_error: false,
                }],
            ),
        ] {
            request.messages.push(PromptMessage {
                role,
                content: Content::Parts(parts),
            });
        }
        request.tools = vec![ToolSpec {
            name: "plot".to_owned(),
            description: "Plots.".to_owned(),
            parameters: schema.clone(),
        }];
        request.output = Some(OutputSchema {
            name: "grade".to_owned(),
            schema: schema.clone(),
        });
        let (body, _) = sent(&request, true);
        assert_eq!(
            body["input"],
            json!([
                {"role": "user", "content": [{"type": "input_image", "image_url": "https://x.example/i.png"}]},
                thinking[0],
                {"role": "assistant", "content": [{"type": "output_text", "text": "Well."}]},
                {"type": "function_call", "call_id": "c1", "name": "plot", "arguments": "{\"x\":1}"},
                {"type": "function_call_output", "call_id": "c1", "output": "done"},
            ])
        );
        assert_eq!(
            body["tools"],
            json!([{"type": "function", "name": "plot", "description": "Plots.", "parameters": schema, "strict": false}])
        );
        assert_eq!(
            body["text"]["format"],
            json!({"type": "json_schema", "name": "grade", "schema": schema, "strict": false})
        );
        assert_eq!(body["include"], json!(["reasoning.encrypted_content"]));
    }
}
