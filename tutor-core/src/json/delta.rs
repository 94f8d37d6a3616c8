//! What a provider in another language is asked, and what it yields.

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::event::Notice;
use crate::message::{FinishReason, Usage};
use crate::provider::{CompletionRequest, Delta, Fault};

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum Yielded {
    #[serde(rename = "text.delta")]
    Text { text: String },
    #[serde(rename = "reasoning.delta")]
    Reasoning { text: String },
    #[serde(rename = "refusal.delta")]
    Refusal { text: String },
    #[serde(rename = "tool.call")]
    ToolCall {
        call_id: String,
        name: String,
        #[serde(default)]
        arguments: Value,
    },
    #[serde(rename = "usage")]
    Usage {
        #[serde(flatten)]
        usage: Usage,
    },
    #[serde(rename = "heartbeat")]
    Heartbeat {},
    #[serde(rename = "attempt.restarted")]
    Restart { reason: String },
    #[serde(rename = "notice")]
    Notice { code: String, message: String },
    #[serde(rename = "accepted")]
    Accepted { request_id: String },
    #[serde(rename = "answered_by")]
    AnsweredBy { provider: String, model: String },
    #[serde(rename = "replay")]
    Replay { protocol: String, data: Value },
    #[serde(rename = "finished")]
    Finished {
        #[serde(default = "stop")]
        reason: FinishReason,
    },
}

fn stop() -> FinishReason {
    FinishReason::Stop
}

/// A step of a completion. Its `type` is one of
///
/// * `text.delta`, `reasoning.delta`, `refusal.delta`, with `text`;
/// * `tool.call`, with `call_id`, `name`, and `arguments` as an object or as the text that the
///   model wrote;
/// * `usage`, with the members of [`Usage`];
/// * `notice`, with `code` and `message`; `attempt.restarted`, with `reason`; `heartbeat`;
/// * `accepted`, with `request_id`, the other side's name for the exchange; `answered_by`, with
///   `provider` and `model`, if it is another one than was asked;
/// * `replay`, with `protocol` and `data`: what is to be sent back with the results of the calls,
///   as a part of the message that has them, to a provider that knows this `protocol`;
/// * `finished`, with `reason` (`stop` if absent).
///
/// # Errors
/// `provider_unavailable` with the reason `malformed` for anything else.
pub fn delta(value: Value) -> Result<Delta> {
    let yielded = serde_json::from_value(value).map_err(|_| {
        Error::new(
            ErrorKind::ProviderUnavailable,
            "the provider yielded something that is no delta: yield texts, or objects whose type is \
             text.delta, reasoning.delta, refusal.delta, tool.call, usage, notice, accepted, \
             answered_by, replay, attempt.restarted, heartbeat or finished, with the documented \
             members",
        )
        .with_context("reason", Fault::Malformed.as_str())
    })?;
    Ok(match yielded {
        Yielded::Text { text } => Delta::Text(text),
        Yielded::Reasoning { text } => Delta::Reasoning(text),
        Yielded::Refusal { text } => Delta::Refusal(text),
        Yielded::ToolCall {
            call_id,
            name,
            arguments,
        } => Delta::ToolCall {
            id: call_id,
            name,
            arguments: match arguments {
                Value::Null => "{}".to_owned(),
                Value::String(text) => text,
                arguments => arguments.to_string(),
            },
        },
        Yielded::Usage { usage } => Delta::Usage(usage),
        Yielded::Heartbeat {} => Delta::Heartbeat,
        Yielded::Restart { reason } => Delta::Restart { reason },
        Yielded::Notice { code, message } => Delta::Notice(Notice { code, message }),
        Yielded::Accepted { request_id } => Delta::Accepted { request_id },
        Yielded::AnsweredBy { provider, model } => Delta::AnsweredBy { provider, model },
        Yielded::Replay { protocol, data } => Delta::Replay {
            protocol: protocol.into(),
            data,
        },
        Yielded::Finished { reason } => Delta::Finished { reason },
    })
}

/// What a provider is asked: `model`, `system`, `messages` (each with `role` and `content`),
/// `temperature`, `max_tokens`, `tools`, `output`, `streamed`, `owner`, and `timeout`, the seconds
/// that are left.
pub fn completion_request(request: &CompletionRequest) -> Value {
    let timeout = request
        .context
        .deadline
        .map(|deadline| deadline.saturating_duration_since(Instant::now()));
    json!({
        "model": request.model,
        "system": request.system,
        "messages": request.messages,
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "tools": request.tools,
        "output": request.output,
        "streamed": request.streamed,
        "owner": request.context.owner,
        "timeout": timeout.map(|timeout| timeout.as_secs_f64()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_becomes_its_delta() {
        let usage = Usage {
            input_tokens: Some(3),
            ..Usage::default()
        };
        let table = [
            (
                json!({"type": "text.delta", "text": "a"}),
                Delta::Text("a".into()),
            ),
            (
                json!({"type": "reasoning.delta", "text": "a"}),
                Delta::Reasoning("a".into()),
            ),
            (
                json!({"type": "refusal.delta", "text": "a"}),
                Delta::Refusal("a".into()),
            ),
            (
                json!({"type": "tool.call", "call_id": "c", "name": "n", "arguments": {"x": 1}}),
                Delta::ToolCall {
                    id: "c".into(),
                    name: "n".into(),
                    arguments: r#"{"x":1}"#.into(),
                },
            ),
            (
                json!({"type": "tool.call", "call_id": "c", "name": "n", "arguments": "{\"x\":"}),
                Delta::ToolCall {
                    id: "c".into(),
                    name: "n".into(),
                    arguments: "{\"x\":".into(),
                },
            ),
            (
                json!({"type": "usage", "input_tokens": 3}),
                Delta::Usage(usage),
            ),
            (json!({"type": "heartbeat"}), Delta::Heartbeat),
            (
                json!({"type": "attempt.restarted", "reason": "r"}),
                Delta::Restart { reason: "r".into() },
            ),
            (
                json!({"type": "notice", "code": "c", "message": "m"}),
                Delta::Notice(Notice {
                    code: "c".into(),
                    message: "m".into(),
                }),
            ),
            (
                json!({"type": "accepted", "request_id": "r"}),
                Delta::Accepted {
                    request_id: "r".into(),
                },
            ),
            (
                json!({"type": "answered_by", "provider": "p", "model": "m"}),
                Delta::AnsweredBy {
                    provider: "p".into(),
                    model: "m".into(),
                },
            ),
            (
                json!({"type": "replay", "protocol": "mine", "data": [1]}),
                Delta::Replay {
                    protocol: "mine".into(),
                    data: json!([1]),
                },
            ),
            (
                json!({"type": "finished"}),
                Delta::Finished {
                    reason: FinishReason::Stop,
                },
            ),
            (
                json!({"type": "finished", "reason": "length"}),
                Delta::Finished {
                    reason: FinishReason::Length,
                },
            ),
        ];
        for (value, expected) in table {
            assert_eq!(delta(value.clone()).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn garbage_is_refused_without_being_quoted() {
        for value in [
            json!("canary"),
            json!(5),
            json!({"type": "canary"}),
            json!({"type": "text.delta"}),
            json!({"type": "text.delta", "text": "x", "canary": 1}),
            json!({"type": "finished", "reason": "canary"}),
            json!({"text": "canary"}),
        ] {
            let error = delta(value).unwrap_err();
            assert_eq!(error.code(), "provider_unavailable");
            assert!(!format!("{error:?}").contains("canary"));
        }
    }
}
