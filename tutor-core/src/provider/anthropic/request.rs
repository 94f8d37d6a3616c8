//! The body of a Messages request.

use serde_json::{Map, Value, json};

use crate::event::Notice;
use crate::message::{Content, Part, Role};
use crate::provider::CompletionRequest;
use crate::provider::attachment::placeholder;

/// What is sent as `max_tokens`, which is required, when the caller set none. Enough for a long
/// reply after some thinking, and no more than every current model can do.
pub(crate) const DEFAULT_MAX_TOKENS: u64 = 16_384;

/// The highest temperature that the API takes.
const MAX_TEMPERATURE: f64 = 1.0;

/// What stands before a conversation that the tutor began: the first message must be the learner's.
const OPENING: &str = "(The conversation begins.)";

/// The body that asks for `request`, and what of it could not be asked for.
pub(crate) fn body(request: &CompletionRequest) -> (Vec<u8>, Vec<Notice>) {
    let mut notices = Vec::new();
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(request.model));
    body.insert(
        "max_tokens".to_owned(),
        json!(request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS)),
    );
    if let Some(system) = request
        .system
        .as_ref()
        .filter(|system| !system.trim().is_empty())
    {
        body.insert("system".to_owned(), json!(system));
    }
    body.insert("messages".to_owned(), messages(request, &mut notices));
    body.insert("stream".to_owned(), json!(true));
    if let Some(temperature) = request.temperature {
        if !takes_temperature(&request.model) {
            notices.push(Notice::new(
                "preference_ignored",
                "the temperature was not sent: this model does not take one",
            ));
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

/// True for models that take sampling parameters: Claude up to 4.6, and those of other makers.
///
/// An unknown Claude is a newer one. A name may carry its vendor, and dots for dashes, as in
/// `anthropic/claude-sonnet-4.5`.
fn takes_temperature(model: &str) -> bool {
    let Some(at) = model.find("claude-") else {
        return true;
    };
    let name = model[at..].replace('.', "-");
    let is = |family: &str| {
        // A date may follow, but not another part of the version: claude-opus-4 is not claude-opus-4-8.
        name.strip_prefix(family)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '@']) || is_suffix(rest))
    };
    let fours = [
        "claude-haiku-4-5",
        "claude-sonnet-4-5",
        "claude-opus-4-5",
        "claude-sonnet-4-6",
        "claude-opus-4-6",
    ];
    let older = ["claude-opus-4-1", "claude-opus-4", "claude-sonnet-4"];
    name.starts_with("claude-3-")
        || name.starts_with("claude-2")
        || fours.iter().chain(&older).any(|family| is(family))
}

/// True for what may follow a version: a date such as `-20251001`, or a word such as `-latest`.
fn is_suffix(rest: &str) -> bool {
    rest.strip_prefix('-').is_some_and(|rest| {
        let part = rest.split(['-', ':', '@']).next().unwrap_or_default();
        part.len() == 8 || !part.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// The conversation: beginning with the learner, roles alternating, no empty block.
fn messages(request: &CompletionRequest, notices: &mut Vec<Notice>) -> Value {
    let mut merged: Vec<(Role, Vec<Value>)> = Vec::new();
    for said in &request.messages {
        let blocks = blocks(&said.content, notices);
        if blocks.is_empty() {
            continue;
        }
        match merged.last_mut() {
            Some((role, before)) if *role == said.role => before.extend(blocks),
            _ => merged.push((said.role, blocks)),
        }
    }
    if merged
        .first()
        .is_some_and(|(role, _)| *role == Role::Assistant)
    {
        merged.insert(
            0,
            (Role::User, vec![json!({"type": "text", "text": OPENING})]),
        );
    }
    let message = |(role, blocks): (Role, Vec<Value>)| json!({"role": role.as_str(), "content": simplified(blocks)});
    Value::Array(merged.into_iter().map(message).collect())
}

/// A single text block is a string.
fn simplified(mut blocks: Vec<Value>) -> Value {
    match blocks.as_mut_slice() {
        [block] if block["type"] == "text" => block["text"].take(),
        _ => Value::Array(blocks),
    }
}

fn blocks(content: &Content, notices: &mut Vec<Notice>) -> Vec<Value> {
    let text =
        |text: &str| (!text.trim().is_empty()).then(|| json!({"type": "text", "text": text}));
    match content {
        Content::Text(said) => text(said).into_iter().collect(),
        Content::Parts(parts) => parts
            .iter()
            .filter_map(|part| match part {
                Part::Text { text: said } => text(said),
                Part::Image { url, media_type } => Some(image(url, media_type.as_deref())),
                Part::File { name, .. } => text(&placeholder(name.as_deref(), notices)),
                Part::ToolCall { .. } | Part::ToolResult { .. } => None,
            })
            .collect(),
    }
}

fn image(url: &str, media_type: Option<&str>) -> Value {
    let embedded = url
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(";base64,"));
    let source = match embedded {
        Some((declared, data)) => {
            let declared = Some(declared).filter(|declared| !declared.is_empty());
            json!({"type": "base64", "media_type": media_type.or(declared).unwrap_or("image/png"), "data": data})
        }
        None => json!({"type": "url", "url": url}),
    };
    json!({"type": "image", "source": source})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::PromptMessage;

    fn sent(request: &CompletionRequest) -> (Value, Vec<Notice>) {
        let (body, notices) = body(request);
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
}
