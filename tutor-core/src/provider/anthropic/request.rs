//! The body of a Messages request.

use serde_json::{Map, Value, json};

use super::stream::PROTOCOL;
use crate::event::Notice;
use crate::message::Part;
use crate::provider::abilities::claude_takes_temperature;
use crate::provider::attachment::{Image, placeholder};
use crate::provider::prompt::{
    alternating, arguments_object, no_temperature, parts, replay, result_text, schema_in_words,
};
use crate::provider::schema::is_strict;
use crate::provider::{CompletionRequest, PromptMessage};
use crate::tool::ToolSpec;

/// What is sent as `max_tokens`, which is required, when the caller set none. Enough for a long
/// reply after some thinking, and no more than every current model can do.
pub(crate) const DEFAULT_MAX_TOKENS: u64 = 16_384;

/// The highest temperature that the API takes.
const MAX_TEMPERATURE: f64 = 1.0;

/// The body that asks for `request`, and what of it could not be asked for. `own` if Anthropic
/// itself is asked, which knows more than its imitators.
pub(crate) fn body(request: &CompletionRequest, own: bool) -> (Vec<u8>, Vec<Notice>) {
    let mut notices = Vec::new();
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(request.model));
    body.insert(
        "max_tokens".to_owned(),
        json!(request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS)),
    );
    let mut system = request.system.clone().unwrap_or_default();
    if let Some(output) = &request.output {
        if is_strict(&output.schema) && request.model.contains("claude-") {
            let format = json!({"type": "json_schema", "schema": output.schema});
            body.insert("output_config".to_owned(), json!({"format": format}));
        } else {
            system = [system, schema_in_words(output, &mut notices)].join("\n\n");
        }
    }
    if !system.trim().is_empty() {
        body.insert("system".to_owned(), json!(system.trim_start_matches('\n')));
    }
    body.insert("messages".to_owned(), messages(request, &mut notices));
    body.insert("stream".to_owned(), json!(true));
    if !request.tools.is_empty() {
        body.insert("tools".to_owned(), request.tools.iter().map(tool).collect());
    }
    // The next turn begins with the same words: they are read from the cache then.
    if own {
        body.insert("cache_control".to_owned(), json!({"type": "ephemeral"}));
    }
    if let Some(temperature) = request.temperature {
        if !claude_takes_temperature(&request.model) {
            notices.push(no_temperature());
        } else {
            if temperature > MAX_TEMPERATURE {
                notices.push(Notice::new(
                    "preference_ignored",
                    "the temperature was lowered to 1, the highest that this model takes",
                ));
            }
            body.insert(
                "temperature".to_owned(),
                json!(temperature.min(MAX_TEMPERATURE)),
            );
        }
    }
    (Value::Object(body).to_string().into_bytes(), notices)
}

fn tool(spec: &ToolSpec) -> Value {
    json!({"name": spec.name, "description": spec.description, "input_schema": spec.parameters})
}

/// The conversation: beginning with the learner, roles alternating, no empty block, and results of
/// tools before what else the learner says.
fn messages(request: &CompletionRequest, notices: &mut Vec<Notice>) -> Value {
    let text = |text: &str| json!({"type": "text", "text": text});
    let merged = alternating(request, text, |said| blocks(said, notices));
    merged
        .into_iter()
        .map(|(role, mut blocks)| {
            blocks.sort_by_key(|block| block["type"] != "tool_result");
            json!({"role": role.as_str(), "content": simplified(blocks)})
        })
        .collect()
}

/// A single text block is a string.
fn simplified(mut blocks: Vec<Value>) -> Value {
    match blocks.as_mut_slice() {
        [block] if block["type"] == "text" => block["text"].take(),
        _ => Value::Array(blocks),
    }
}

fn blocks(said: &PromptMessage, notices: &mut Vec<Notice>) -> Vec<Value> {
    let parts = parts(&said.content);
    let called = parts
        .iter()
        .any(|part| matches!(part, Part::ToolCall { .. }));
    // Thinking comes first, and only where tools were asked for.
    let thinking = replay(&parts, PROTOCOL).filter(|_| called);
    let thinking = thinking.and_then(Value::as_array).cloned();
    let blocks = parts.iter().filter_map(|part| block(part, notices));
    thinking
        .unwrap_or_default()
        .into_iter()
        .chain(blocks)
        .collect()
}

fn block(part: &Part, notices: &mut Vec<Notice>) -> Option<Value> {
    let text =
        |text: &str| (!text.trim().is_empty()).then(|| json!({"type": "text", "text": text}));
    match part {
        Part::Text { text: said } => text(said),
        Part::Image { url, media_type } => Some(image(url, media_type.as_deref())),
        Part::File { name, .. } => text(&placeholder(name.as_deref(), notices)),
        Part::ToolCall {
            call_id,
            name,
            arguments,
        } => Some(
            json!({"type": "tool_use", "id": call_id, "name": name, "input": arguments_object(arguments)}),
        ),
        Part::ToolResult {
            call_id,
            result,
            is_error,
            ..
        } => {
            let mut block = json!({"type": "tool_result", "tool_use_id": call_id});
            let said = result_text(result);
            if !said.is_empty() {
                block["content"] = json!(said);
            }
            if *is_error {
                block["is_error"] = json!(true);
            }
            Some(block)
        }
        Part::Replay { .. } => None,
    }
}

fn image(url: &str, media_type: Option<&str>) -> Value {
    let source = match Image::of(url, media_type) {
        Image::Embedded(media, data) => {
            json!({"type": "base64", "media_type": media, "data": data})
        }
        Image::Linked(_, url) => json!({"type": "url", "url": url}),
    };
    json!({"type": "image", "source": source})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Content, Role};
    use crate::provider::prompt::OPENING;
    use crate::tool::OutputSchema;

    fn sent(request: &CompletionRequest) -> (Value, Vec<Notice>) {
        let (body, notices) = body(request, false);
        (serde_json::from_slice(&body).unwrap(), notices)
    }

    fn conversation(said: &[(Role, &str)]) -> CompletionRequest {
        let mut request = CompletionRequest::new("claude-haiku-4-5", "");
        request.messages = said
            .iter()
            .map(|(role, text)| PromptMessage {
                role: *role,
                content: (*text).into(),
            })
            .collect();
        request
    }

    #[test]
    fn what_is_required_is_sent() {
        let mut request = conversation(&[(Role::User, "Why?")]);
        request.system = Some("Be brief.".to_owned());
        assert_eq!(
            sent(&request).0,
            json!({
                "model": "claude-haiku-4-5",
                "max_tokens": DEFAULT_MAX_TOKENS,
                "system": "Be brief.",
                "messages": [{"role": "user", "content": "Why?"}],
                "stream": true,
            })
        );
    }

    #[test]
    fn roles_alternate_and_no_block_is_empty() {
        use Role::{Assistant, User};
        let request = conversation(&[
            (Assistant, "Hello!"),
            (User, "a"),
            (User, " "),
            (User, "b"),
            (Assistant, ""),
            (User, "c"),
        ]);
        let text = |text: &str| json!({"type": "text", "text": text});
        assert_eq!(
            sent(&request).0["messages"],
            json!([
                {"role": "user", "content": OPENING},
                {"role": "assistant", "content": "Hello!"},
                {"role": "user", "content": [text("a"), text("b"), text("c")]},
            ])
        );
    }

    #[test]
    fn images_are_sent_by_url_or_embedded() {
        let image = |url: &str| Part::Image {
            url: url.to_owned(),
            media_type: None,
        };
        let parts = vec![
            image("https://x.example/i.png"),
            image("data:image/jpeg;base64,AAAA"),
        ];
        let request = CompletionRequest::new("claude-haiku-5-5", Content::Parts(parts));
        assert_eq!(
            sent(&request).0["messages"][0]["content"],
            json!([
                {"type": "image", "source": {"type": "url", "url": "https://x.example/i.png"}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"}},
            ])
        );
    }

    #[test]
    fn only_older_models_take_a_temperature() {
        for (model, takes) in [
            ("claude-haiku-4-5", true),
            ("claude-haiku-4-5-20251001", true),
            ("anthropic/claude-sonnet-4.5", true),
            ("us.anthropic.claude-opus-4-6-v1:0", true),
            ("claude-sonnet-4-20250514", true),
            ("claude-3-5-haiku-latest", true),
            ("deepseek-chat", true),
            ("claude-opus-4-7", false),
            ("claude-opus-4-8", false),
            ("claude-sonnet-5-5", false),
            ("claude-haiku-5-5", false),
            ("claude-sonnet-4-50", false),
            ("claude-new-thing", false),
        ] {
            let mut request = conversation(&[(Role::User, "Why?")]);
            request.model = model.to_owned();
            request.temperature = Some(0.5);
            let (body, notices) = sent(&request);
            assert_eq!(body.get("temperature").is_some(), takes, "{model}");
            assert_eq!(notices.is_empty(), takes, "{model}");
        }
    }

    #[test]
    fn a_temperature_above_the_range_is_lowered() {
        let mut request = conversation(&[(Role::User, "Why?")]);
        request.temperature = Some(1.5);
        let (body, notices) = sent(&request);
        assert_eq!(
            (body["temperature"].as_f64(), notices.len()),
            (Some(1.0), 1)
        );
    }

    #[test]
    fn calls_follow_their_thinking_and_results_come_first() {
        let thinking = json!([{"type": "thinking", "thinking": "hm", "signature": "s"}]);
        let mut request = conversation(&[(Role::User, "Plot it.")]);
        request.messages.push(PromptMessage {
            role: Role::Assistant,
            content: Content::Parts(vec![
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
                    arguments: json!("no json"),
                },
            ]),
        });
        request.messages.push(PromptMessage {
            role: Role::User,
            content: Content::Parts(vec![
                Part::Text {
                    text: "Go on.".to_owned(),
                },
                Part::ToolResult {
                    call_id: "c1".to_owned(),
                    name: "plot".to_owned(),
                    result: json!("no"),
                    is_error: true,
                },
            ]),
        });
        request.tools = vec![ToolSpec {
            name: "plot".to_owned(),
            description: "Plots.".to_owned(),
            parameters: json!({"type": "object"}),
        }];
        let (body, notices) = sent(&request);
        assert_eq!(
            body["messages"],
            json!([
                {"role": "user", "content": "Plot it."},
                {"role": "assistant", "content": [
                    thinking[0],
                    {"type": "text", "text": "Well."},
                    {"type": "tool_use", "id": "c1", "name": "plot", "input": {"input": "no json"}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "no", "is_error": true},
                    {"type": "text", "text": "Go on."},
                ]},
            ])
        );
        assert_eq!(
            body["tools"],
            json!([{"name": "plot", "description": "Plots.", "input_schema": {"type": "object"}}])
        );
        assert_eq!(notices, []);
    }

    #[test]
    fn a_schema_is_enforced_where_that_is_possible_and_told_elsewhere() {
        let closed = json!({"type": "object", "properties": {}, "additionalProperties": false});
        for (model, schema, enforced) in [
            ("claude-haiku-5-5", closed.clone(), true),
            ("claude-haiku-5-5", json!({"type": "object"}), false),
            ("deepseek-chat", closed, false),
        ] {
            let mut request = conversation(&[(Role::User, "Why?")]);
            request.model = model.to_owned();
            request.output = Some(OutputSchema {
                name: "x".to_owned(),
                schema: schema.clone(),
            });
            let (body, notices) = sent(&request);
            let format = &body["output_config"]["format"];
            assert_eq!(format["schema"] == schema, enforced, "{model}");
            assert_eq!(body["system"].is_string(), !enforced, "{model}");
            assert_eq!(notices.is_empty(), enforced, "{model}");
        }
    }

    #[test]
    fn only_anthropic_itself_is_asked_to_cache() {
        let request = conversation(&[(Role::User, "Why?")]);
        for own in [true, false] {
            let body: Value = serde_json::from_slice(&body(&request, own).0).unwrap();
            assert_eq!(body.get("cache_control").is_some(), own);
        }
    }
}
