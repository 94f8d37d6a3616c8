//! The body of a Chat Completions request.

use serde_json::{Map, Value, json};

use crate::event::Notice;
use crate::message::{Content, Part, Role};
use crate::provider::attachment::placeholder;
use crate::provider::{CompletionRequest, PromptMessage};

/// What a server understands of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// OpenAI itself, or its models on Azure.
    OpenAi,
    /// A server that imitates it: it may refuse fields that are newer than itself.
    Compatible,
}

impl Dialect {
    pub(crate) fn of_host(host: &str) -> Self {
        let own = host == "api.openai.com"
            || host.ends_with(".api.openai.com")
            || host.ends_with(".openai.azure.com");
        if own { Self::OpenAi } else { Self::Compatible }
    }
}

/// The body that asks for `request`, and what of it could not be asked for.
pub(crate) fn body(request: &CompletionRequest, dialect: Dialect) -> (Vec<u8>, Vec<Notice>) {
    let reasons = is_reasoning_model(&request.model);
    let mut notices = Vec::new();
    let mut messages = Vec::new();
    if let Some(system) = &request.system {
        let role = if reasons && dialect == Dialect::OpenAi {
            "developer"
        } else {
            "system"
        };
        messages.push(json!({"role": role, "content": system}));
    }
    messages.extend(
        request
            .messages
            .iter()
            .filter_map(|said| message(said, &mut notices)),
    );
    let mut stream_options = json!({"include_usage": true});
    if dialect == Dialect::OpenAi {
        stream_options["include_obfuscation"] = json!(false);
    }
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(request.model));
    body.insert("messages".to_owned(), Value::Array(messages));
    body.insert("stream".to_owned(), json!(true));
    body.insert("stream_options".to_owned(), stream_options);
    if let Some(limit) = request.max_tokens {
        let name = if reasons || dialect == Dialect::OpenAi {
            "max_completion_tokens"
        } else {
            "max_tokens"
        };
        body.insert(name.to_owned(), json!(limit));
    }
    match request.temperature {
        Some(_) if reasons => notices.push(Notice::new(
            "preference_ignored",
            "the temperature was not sent: this model does not take one",
        )),
        Some(temperature) => {
            body.insert("temperature".to_owned(), json!(temperature));
        }
        None => {}
    }
    (Value::Object(body).to_string().into_bytes(), notices)
}

/// True for OpenAI's models that reason: they refuse sampling parameters and `max_tokens`, and take
/// instructions as `developer`.
///
/// A name may carry its vendor, as in `openai/gpt-6-luna`.
pub(crate) fn is_reasoning_model(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let numbered = |prefix: &str, first: char| {
        let rest = name.strip_prefix(prefix).unwrap_or_default();
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let version = &rest[..digits];
        // Compared by length first: gpt-10 comes after gpt-5.
        digits > 1 || version.chars().next().is_some_and(|digit| digit >= first)
    };
    numbered("gpt-", '5') || numbered("o", '1')
}

/// A message; `None` if nothing of it can be sent.
fn message(said: &PromptMessage, notices: &mut Vec<Notice>) -> Option<Value> {
    if said.content.is_blank() {
        return None;
    }
    let content = match &said.content {
        Content::Text(text) => json!(text),
        // Some servers know only strings.
        Content::Parts(parts)
            if !parts
                .iter()
                .any(|part| matches!(part, Part::Image { .. } | Part::File { .. })) =>
        {
            json!(said.content.text())
        }
        Content::Parts(parts) if said.role == Role::User => Value::Array(
            parts
                .iter()
                .filter_map(|part| content_part(part, notices))
                .collect(),
        ),
        Content::Parts(_) => json!(said.content.text()),
    };
    let blank = content.as_str().is_some_and(|text| text.trim().is_empty());
    (!blank).then(|| json!({"role": said.role.as_str(), "content": content}))
}

fn content_part(part: &Part, notices: &mut Vec<Notice>) -> Option<Value> {
    match part {
        Part::Text { text } if text.is_empty() => None,
        Part::Text { text } => Some(json!({"type": "text", "text": text})),
        Part::Image { url, .. } => Some(json!({"type": "image_url", "image_url": {"url": url}})),
        Part::File { name, .. } => {
            Some(json!({"type": "text", "text": placeholder(name.as_deref(), notices)}))
        }
        Part::ToolCall { .. } | Part::ToolResult { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn reasoning_models_are_known_by_name() {
        for model in [
            "gpt-6-luna",
            "gpt-6.1-sol",
            "gpt-5",
            "gpt-5-mini",
            "gpt-10",
            "o3",
            "o4-mini",
            "o1-2024-12-17",
            "openai/gpt-6-luna",
        ] {
            assert!(is_reasoning_model(model), "{model}");
        }
        for model in [
            "gpt-4o",
            "gpt-4.1-mini",
            "gpt-3.5-turbo",
            "gpt-oss-20b",
            "omni",
            "mistral-small",
            "claude-haiku-5-5",
            "o",
            "",
        ] {
            assert!(!is_reasoning_model(model), "{model}");
        }
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
        assert_eq!(Dialect::of_host("api.openai.com"), Dialect::OpenAi);
        assert_eq!(Dialect::of_host("school.openai.azure.com"), Dialect::OpenAi);
        assert_eq!(Dialect::of_host("notapi.openai.com"), Dialect::Compatible);
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
        let call = Part::ToolCall {
            call_id: "c".to_owned(),
            name: "t".to_owned(),
            arguments: json!({}),
        };
        request.messages.push(PromptMessage {
            role: Role::Assistant,
            content: Content::Parts(vec![call]),
        });
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
}
