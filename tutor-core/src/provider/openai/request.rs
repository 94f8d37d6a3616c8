//! The body of a Chat Completions request.

use serde_json::{Map, Value, json};

use super::stream::PROTOCOL;
use crate::event::Notice;
use crate::message::{Part, Role};
use crate::provider::abilities::is_reasoning_model;
use crate::provider::attachment::{placeholder, unseen_image};
use crate::provider::dialect::{Dialect, Traits};
use crate::provider::prompt::{
    arguments_text, no_temperature, parts, replay, result_text, schema_in_words,
};
use crate::provider::schema::is_strict;
use crate::provider::{CompletionRequest, PromptMessage};
use crate::tool::ToolSpec;

/// The body that asks for `request`, and what of it could not be asked for.
pub(crate) fn body(request: &CompletionRequest, dialect: Dialect) -> (Vec<u8>, Vec<Notice>) {
    let traits = dialect.traits();
    let reasons = is_reasoning_model(&request.model);
    let mut notices = Vec::new();
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(request.model));
    let messages = messages(request, &traits, reasons, &mut notices);
    body.insert("messages".to_owned(), Value::Array(messages));
    body.insert("stream".to_owned(), json!(true));
    if traits.ask_usage {
        let mut options = json!({"include_usage": true});
        if traits.obfuscates {
            options["include_obfuscation"] = json!(false);
        }
        body.insert("stream_options".to_owned(), options);
    }
    if let Some(limit) = request.max_tokens {
        let name = if reasons || traits.completion_limit {
            "max_completion_tokens"
        } else {
            "max_tokens"
        };
        body.insert(name.to_owned(), json!(limit));
    }
    match request.temperature {
        Some(_) if reasons => notices.push(no_temperature()),
        Some(temperature) => {
            body.insert("temperature".to_owned(), json!(temperature));
        }
        None => {}
    }
    if !request.tools.is_empty() && traits.tools {
        let tools = request.tools.iter().map(|spec| tool(spec, &traits));
        body.insert("tools".to_owned(), tools.collect());
    } else if !request.tools.is_empty() {
        notices.push(Notice::new(
            "tools_ignored",
            "the tools were not sent: this server takes none",
        ));
    }
    if let Some(output) = &request.output {
        let format = if traits.schemas {
            json!({"type": "json_schema", "json_schema": {
                "name": output.name,
                "schema": output.schema,
                "strict": is_strict(&output.schema),
            }})
        } else {
            json!({"type": "json_object"})
        };
        body.insert("response_format".to_owned(), format);
    }
    (Value::Object(body).to_string().into_bytes(), notices)
}

fn tool(spec: &ToolSpec, traits: &Traits) -> Value {
    let mut function = json!({
        "name": spec.name,
        "description": spec.description,
        "parameters": spec.parameters,
    });
    if traits.strict_tools && is_strict(&spec.parameters) {
        function["strict"] = json!(true);
    }
    json!({"type": "function", "function": function})
}

/// The instructions and the conversation.
fn messages(
    request: &CompletionRequest,
    traits: &Traits,
    reasons: bool,
    notices: &mut Vec<Notice>,
) -> Vec<Value> {
    let mut messages = Vec::new();
    let told = request.output.as_ref().filter(|_| !traits.schemas);
    let told = told.map(|output| schema_in_words(output, notices));
    let system: Vec<String> = request.system.iter().cloned().chain(told).collect();
    if !system.is_empty() {
        let role = if reasons && traits.developer {
            "developer"
        } else {
            "system"
        };
        messages.push(json!({"role": role, "content": system.join("\n\n")}));
    }
    for said in &request.messages {
        for message in message(said, traits, notices) {
            if traits.alternates && merge(&mut messages, &message) {
                continue;
            }
            messages.push(message);
        }
    }
    messages
}

/// Appends a text to that of the last message, if it has the same role.
fn merge(messages: &mut [Value], message: &Value) -> bool {
    let Some(last) = messages.last_mut() else {
        return false;
    };
    match (last["content"].as_str(), message["content"].as_str()) {
        (Some(before), Some(text)) if last["role"] == message["role"] => {
            last["content"] = json!(format!("{before}\n\n{text}"));
            true
        }
        _ => false,
    }
}

/// What a message is in this protocol: none, if nothing of it can be sent; results of tools are
/// messages of their own, before what else the learner says.
fn message(said: &PromptMessage, traits: &Traits, notices: &mut Vec<Notice>) -> Vec<Value> {
    let parts = parts(&said.content);
    let mut messages: Vec<Value> = parts
        .iter()
        .filter_map(|part| result(part, traits))
        .collect();
    let text: String = parts.iter().filter_map(Part::as_text).collect();
    if said.role == Role::Assistant {
        let calls: Vec<Value> = parts
            .iter()
            .filter_map(|part| call(part, replay(&parts, PROTOCOL), traits))
            .collect();
        let blank = text.trim().is_empty();
        if blank && calls.is_empty() {
            return messages;
        }
        let content = if blank { Value::Null } else { json!(text) };
        let mut message = json!({"role": said.role.as_str(), "content": content});
        if !calls.is_empty() {
            message["tool_calls"] = Value::Array(calls);
            let thinking = replay(&parts, PROTOCOL).and_then(|data| data.get(traits.thinking));
            if let Some(thinking) = thinking {
                message[traits.thinking] = thinking.clone();
            }
        }
        messages.push(message);
        return messages;
    }
    let attached = |part: &Part| matches!(part, Part::Image { .. } | Part::File { .. });
    // Some servers know only strings.
    let content = if !parts.iter().any(attached) {
        json!(text)
    } else if traits.images {
        parts
            .iter()
            .filter_map(|part| content_part(part, notices))
            .collect()
    } else {
        let texts: Vec<String> = parts
            .iter()
            .filter_map(|part| as_text(part, notices))
            .collect();
        json!(texts.join("\n"))
    };
    let blank = content.as_str().is_some_and(|text| text.trim().is_empty());
    if !blank {
        messages.push(json!({"role": said.role.as_str(), "content": content}));
    }
    messages
}

fn call(part: &Part, replay: Option<&Value>, traits: &Traits) -> Option<Value> {
    let Part::ToolCall {
        call_id,
        name,
        arguments,
    } = part
    else {
        return None;
    };
    let function = json!({"name": name, "arguments": arguments_text(arguments)});
    let mut call = json!({"id": id(call_id, traits), "type": "function", "function": function});
    let signature = replay.and_then(|data| data["extra_content"].get(call_id));
    if let Some(signature) = signature.filter(|_| traits.signatures) {
        call["extra_content"] = signature.clone();
    }
    Some(call)
}

fn result(part: &Part, traits: &Traits) -> Option<Value> {
    let Part::ToolResult {
        call_id, result, ..
    } = part
    else {
        return None;
    };
    Some(
        json!({"role": "tool", "tool_call_id": id(call_id, traits), "content": result_text(result)}),
    )
}

/// The id of a call as this server takes it. Always the same for the same id.
fn id(id: &str, traits: &Traits) -> String {
    const LENGTH: usize = 9;
    let fits = id.len() == LENGTH && id.bytes().all(|b| b.is_ascii_alphanumeric());
    if fits || !traits.short_ids {
        return id.to_owned();
    }
    // FNV-1a: short, and the same in every process.
    let mut hash = id.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    let digit = |_| {
        let digit = u32::try_from(hash % 36).unwrap_or_default();
        hash /= 36;
        char::from_digit(digit, 36).unwrap_or('0')
    };
    (0..LENGTH).map(digit).collect()
}

fn content_part(part: &Part, notices: &mut Vec<Notice>) -> Option<Value> {
    match part {
        Part::Text { text } if text.is_empty() => None,
        Part::Text { text } => Some(json!({"type": "text", "text": text})),
        Part::Image { url, .. } => Some(json!({"type": "image_url", "image_url": {"url": url}})),
        Part::File { name, .. } => {
            Some(json!({"type": "text", "text": placeholder(name.as_deref(), notices)}))
        }
        Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Replay { .. } => None,
    }
}

/// A part where a message is nothing but text.
fn as_text(part: &Part, notices: &mut Vec<Notice>) -> Option<String> {
    match part {
        Part::Text { text } => Some(text.clone()),
        Part::Image { .. } => Some(unseen_image(
            "an image was not sent: this server takes only text",
            notices,
        )),
        Part::File { name, .. } => Some(placeholder(name.as_deref(), notices)),
        Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Replay { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Content;
    use crate::tool::OutputSchema;

    fn sent(request: &CompletionRequest, dialect: Dialect) -> (Value, Vec<Notice>) {
        let (body, notices) = body(request, dialect);
        (serde_json::from_slice(&body).unwrap(), notices)
    }

    fn request(model: &str) -> CompletionRequest {
        let mut request = CompletionRequest::new(model, "Why?");
        request.system = Some("Be brief.".to_owned());
        request.max_tokens = Some(7);
        request.temperature = Some(0.5);
        request
    }

    #[test]
    fn a_reasoning_model_of_openai_is_asked_in_its_own_words() {
        let (body, notices) = sent(&request("gpt-6-luna"), Dialect::OpenAi);
        assert_eq!(
            body,
            json!({
                "model": "gpt-6-luna",
                "messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
                "stream": true,
                "stream_options": {"include_usage": true, "include_obfuscation": false},
                "max_completion_tokens": 7,
            })
        );
        assert_eq!(
            notices
                .iter()
                .map(|notice| notice.code.as_str())
                .collect::<Vec<_>>(),
            ["preference_ignored"]
        );
    }

    #[test]
    fn a_compatible_server_is_asked_in_the_oldest_words() {
        let (body, notices) = sent(&request("qwen3"), Dialect::Compatible);
        assert_eq!(
            body,
            json!({
                "model": "qwen3",
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
                "stream": true,
                "stream_options": {"include_usage": true},
                "max_tokens": 7,
                "temperature": 0.5,
            })
        );
        assert_eq!(notices, []);
    }

    #[test]
    fn nothing_is_sent_that_the_caller_did_not_set() {
        let (body, _) = sent(&CompletionRequest::new("gpt-4o", "Why?"), Dialect::OpenAi);
        let keys: Vec<_> = body
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(keys, ["messages", "model", "stream", "stream_options"]);
    }

    #[test]
    fn text_parts_are_one_string_and_images_are_parts() {
        let text = |text: &str| Part::Text {
            text: text.to_owned(),
        };
        let mut request = CompletionRequest::new("m", Content::Parts(vec![text("a"), text("b")]));
        let image = Part::Image {
            url: "https://x.example/i.png".to_owned(),
            media_type: None,
        };
        let file = Part::File {
            file_id: "f1".to_owned(),
            name: Some("notes.pdf".to_owned()),
            media_type: None,
        };
        request.messages.push(PromptMessage {
            role: Role::User,
            content: Content::Parts(vec![text("see"), image, file]),
        });
        let (body, notices) = sent(&request, Dialect::Compatible);
        assert_eq!(
            body["messages"],
            json!([
                {"role": "user", "content": "ab"},
                {"role": "user", "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "https://x.example/i.png"}},
                    {"type": "text", "text": "[attached file: notes.pdf]"},
                ]},
            ])
        );
        assert_eq!(notices[0].code, "attachment_ignored");
    }

    fn tool_turn() -> CompletionRequest {
        let mut request = CompletionRequest::new("m", "Plot it.");
        let call = Part::ToolCall {
            call_id: "c1".to_owned(),
            name: "plot".to_owned(),
            arguments: json!({"x": 1}),
        };
        let replay = Part::Replay {
            protocol: PROTOCOL.to_owned(),
            data: json!({"reasoning_content": "hm", "reasoning_details": [{"text": "hm"}], "extra_content": {"c1": {"s": 1}}}),
        };
        let result = Part::ToolResult {
            call_id: "c1".to_owned(),
            name: "plot".to_owned(),
            result: json!({"ok": true}),
            is_error: false,
        };
        let go_on = Part::Text {
            text: "Go on.".to_owned(),
        };
        for (role, parts) in [
            (Role::Assistant, vec![replay, call]),
            (Role::User, vec![go_on, result]),
        ] {
            request.messages.push(PromptMessage {
                role,
                content: Content::Parts(parts),
            });
        }
        let closed = json!({"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"], "additionalProperties": false});
        request.tools = vec![ToolSpec {
            name: "plot".to_owned(),
            description: "Plots.".to_owned(),
            parameters: closed.clone(),
        }];
        request.output = Some(OutputSchema {
            name: "grade".to_owned(),
            schema: closed,
        });
        request
    }

    #[test]
    fn tools_calls_and_results_are_sent_in_order() {
        let (body, notices) = sent(&tool_turn(), Dialect::Compatible);
        let schema = tool_turn().tools[0].parameters.clone();
        let call = json!({"id": "c1", "type": "function", "function": {"name": "plot", "arguments": "{\"x\":1}"}});
        assert_eq!(
            body["messages"],
            json!([
                {"role": "user", "content": "Plot it."},
                {"role": "assistant", "content": null, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": "{\"ok\":true}"},
                {"role": "user", "content": "Go on."},
            ])
        );
        let function = json!({"name": "plot", "description": "Plots.", "parameters": schema});
        assert_eq!(
            body["tools"],
            json!([{"type": "function", "function": function}])
        );
        assert_eq!(
            body["response_format"],
            json!({"type": "json_schema", "json_schema": {"name": "grade", "schema": schema, "strict": true}})
        );
        assert_eq!(notices, []);
        let (body, _) = sent(&tool_turn(), Dialect::OpenAi);
        assert_eq!(body["tools"][0]["function"]["strict"], true);
    }

    #[test]
    fn thinking_goes_back_only_to_servers_that_want_it() {
        for (dialect, field) in [
            (Dialect::DeepSeek, "reasoning_content"),
            (Dialect::OpenRouter, "reasoning_details"),
        ] {
            let (body, _) = sent(&tool_turn(), dialect);
            let turn = body["messages"].as_array().unwrap();
            let turn = turn.iter().find(|it| it["role"] == "assistant").unwrap();
            let keys: Vec<_> = turn.as_object().unwrap().keys().cloned().collect();
            assert_eq!(keys, ["content", field, "role", "tool_calls"], "{dialect}");
        }
        let (body, _) = sent(&tool_turn(), Dialect::Gemini);
        let call = &body["messages"][1]["tool_calls"][0];
        assert_eq!(call["extra_content"], json!({"s": 1}));
    }

    #[test]
    fn what_a_server_lacks_is_left_out_and_said() {
        let codes = |notices: Vec<Notice>| -> Vec<String> {
            notices.into_iter().map(|notice| notice.code).collect()
        };
        let (body, notices) = sent(&tool_turn(), Dialect::DeepSeek);
        assert_eq!(body["response_format"], json!({"type": "json_object"}));
        assert!(
            body["messages"][0]["content"]
                .as_str()
                .unwrap()
                .contains("JSON Schema")
        );
        assert_eq!(codes(notices), ["schema_not_enforced"]);
        let (body, notices) = sent(&tool_turn(), Dialect::Perplexity);
        assert_eq!(
            (body.get("tools"), body.get("stream_options")),
            (None, None)
        );
        assert_eq!(codes(notices), ["tools_ignored"]);
        let (body, _) = sent(&tool_turn(), Dialect::Mistral);
        let id = body["messages"][1]["tool_calls"][0]["id"].as_str().unwrap();
        assert!(
            id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric()),
            "{id}"
        );
        assert_eq!(body["messages"][2]["tool_call_id"], id);
    }

    #[test]
    fn a_server_that_knows_only_strings_is_sent_strings() {
        let image = Part::Image {
            url: "data:image/png;base64,AA".to_owned(),
            media_type: None,
        };
        let see = Part::Text {
            text: "see".to_owned(),
        };
        let mut request = CompletionRequest::new("m", Content::Parts(vec![see, image]));
        request.messages.push(PromptMessage {
            role: Role::User,
            content: "more".into(),
        });
        let (body, notices) = sent(&request, Dialect::DeepSeek);
        assert_eq!(body["messages"][0]["content"], "see\n[attached image]");
        assert_eq!(notices[0].code, "attachment_ignored");
        request.messages.remove(0);
        request.messages.push(request.messages[0].clone());
        let (body, _) = sent(&request, Dialect::Perplexity);
        assert_eq!(
            body["messages"],
            json!([{"role": "user", "content": "more\n\nmore"}])
        );
    }
}
