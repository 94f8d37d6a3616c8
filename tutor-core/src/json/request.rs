//! What a caller asks, and what it gets back.

use serde::Deserialize;
use serde_json::{Value, json};

use super::fields::Fields;
use super::tool::tool;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{MessageId, SessionId};
use crate::message::{Content, Metadata, Role};
use crate::store::Durability;
use crate::turn::{ChatRequest, InputMessage, Preferences, Reply, Turn};
use crate::tutor::{Context, Tutor};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    id: Option<MessageId>,
    role: Role,
    content: Content,
}

const CONTENT: &str = "a text, or an array of parts such as {\"type\": \"text\", \"text\": …}";

/// A request from its members: `message` (a text or parts) or `messages` (each with `role` and
/// `content`, perhaps `id`), and optionally `session`, `model`, `provider`, `temperature`,
/// `max_tokens`, `preferences` (an object; the members beside it win), `idempotency_key`,
/// `timeout` (seconds), `parent`, `edit`, `regenerate`, `create_session`, `detached`, `streamed`,
/// `output` (`name` and `schema` of the JSON that the reply has to be), `client_tools` (each as
/// [`tool`](super::tool) reads it: the caller runs them).
///
/// What a tool of the caller answered is a part of the next `message`: `{"type": "tool_result",
/// "call_id": …, "result": …}`, with `is_error` true if it failed.
///
/// # Errors
/// `invalid_input` naming the member, as `field` in the context too.
pub fn chat_request(members: Metadata) -> Result<ChatRequest> {
    let mut fields = Fields::new("request", ErrorKind::InvalidInput, members);
    let message: Option<Content> = fields.parsed("message", CONTENT)?;
    let messages: Option<Vec<Input>> =
        fields.parsed("messages", "an array of objects with role and content")?;
    if message.is_some() && messages.is_some() {
        return Err(Error::invalid_input("send either message or messages"));
    }
    let preferences = fields.parsed::<Preferences>(
        "preferences",
        "an object in which model and provider are texts, temperature is a number and max_tokens a whole number",
    )?;
    let mut preferences = preferences.unwrap_or_default();
    if let Some(model) = fields.text("model")? {
        preferences.model = Some(model);
    }
    if let Some(provider) = fields.text("provider")? {
        preferences.provider = Some(provider);
    }
    if let Some(temperature) = fields.parsed("temperature", "a number from 0 to 2")? {
        preferences.temperature = Some(temperature);
    }
    if let Some(max_tokens) = fields.parsed("max_tokens", "a whole number from 1")? {
        preferences.max_tokens = Some(max_tokens);
    }
    let message_id = |text: Option<String>| text.map(MessageId::new).transpose();
    let output = fields.parsed(
        "output",
        "an object with name and schema, which is a JSON Schema",
    )?;
    let client_tools: Option<Vec<Metadata>> = fields.parsed(
        "client_tools",
        "an array of objects with name, description and parameters",
    )?;
    let client_tools = client_tools.unwrap_or_default().into_iter().map(tool);
    let request = ChatRequest {
        client_tools: client_tools.collect::<Result<_>>()?,
        session_id: fields.text("session")?.map(SessionId::new).transpose()?,
        messages: match (message, messages) {
            (Some(content), _) => vec![InputMessage::user(content)],
            (None, Some(messages)) => messages
                .into_iter()
                .map(|Input { id, role, content }| InputMessage { id, role, content })
                .collect(),
            (None, None) => Vec::new(),
        },
        preferences,
        parent_id: message_id(fields.text("parent")?)?,
        edit: message_id(fields.text("edit")?)?,
        regenerate: message_id(fields.text("regenerate")?)?,
        create_session: fields.flag("create_session")?,
        idempotency_key: fields.text("idempotency_key")?,
        timeout: fields.seconds("timeout")?,
        detached: fields.flag("detached")?,
        streamed: fields.flag("streamed")?,
        output,
        ..ChatRequest::default()
    };
    fields.end()?;
    Ok(request)
}

/// A reply: `message`, `session_id`, `turn_id`, `status`, `finish_reason`, `usage` (or `null`),
/// `warnings`, and `output`: what the reply is as JSON, if that was asked for, else `null`.
pub fn reply(reply: &Reply) -> Value {
    json!({
        "message": reply.message,
        "session_id": reply.session_id,
        "turn_id": reply.turn_id,
        "status": reply.status,
        "finish_reason": reply.finish_reason,
        "usage": reply.usage,
        "warnings": reply.warnings,
        "output": reply.output,
    })
}

/// What a model would be sent: `system` (or `null`), `messages` (each with `role` and `content`),
/// `tokens`, `left_out` (the id of the newest message that is not sent, or `null`), `summarized`,
/// and `notices`.
pub fn context(context: &Context) -> Value {
    json!({
        "system": context.system,
        "messages": context.messages,
        "tokens": context.tokens,
        "left_out": context.left_out,
        "summarized": context.summarized,
        "notices": context.notices,
    })
}

/// How a tutor is: `store` and `location`, for people; `durability` (`none`, `process` or `power`:
/// what an acknowledged write survives); `live_turns`, and `recovered_turns`, which a crash had left
/// running, both over all owners.
pub fn status(tutor: &Tutor) -> Value {
    let info = tutor.store_info();
    let durability = match info.durability {
        Durability::None => "none",
        Durability::Process => "process",
        Durability::Power => "power",
    };
    json!({
        "store": info.name,
        "location": info.location,
        "durability": durability,
        "live_turns": tutor.live_turns(),
        "recovered_turns": tutor.recovered_turns(),
    })
}

/// A turn, without what only stores and recovery need.
pub fn turn(turn: &Turn) -> Value {
    json!({
        "id": turn.id,
        "owner": turn.owner,
        "session_id": turn.session_id,
        "user_message_id": turn.user_message_id,
        "reply_message_id": turn.reply_message_id,
        "status": turn.status,
        "provider": turn.provider,
        "model": turn.model,
        "started_at": turn.started_at,
        "ended_at": turn.ended_at,
        "idempotency_key": turn.idempotency_key,
        "has_reply": turn.has_reply,
        "error": turn.error,
        "finish_reason": turn.finish_reason,
        "usage": turn.usage,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::provider::PromptMessage;

    fn parse(value: Value) -> Result<ChatRequest> {
        chat_request(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn every_member_of_a_request_arrives() {
        let request = parse(json!({
            "message": "hi", "session": "s", "model": "m", "temperature": 1, "max_tokens": 5,
            "preferences": {"model": "other", "tone": "kind"}, "idempotency_key": "k",
            "timeout": 1.5, "parent": "p", "detached": true, "streamed": null,
        }))
        .unwrap();
        assert_eq!(request.messages, [InputMessage::user("hi")]);
        assert_eq!(request.session_id.unwrap().as_str(), "s");
        assert_eq!(request.preferences.model.as_deref(), Some("m"));
        assert_eq!(request.preferences.other["tone"], "kind");
        assert_eq!(request.preferences.temperature, Some(1.0));
        assert_eq!(request.preferences.max_tokens, Some(5));
        assert_eq!(request.idempotency_key.as_deref(), Some("k"));
        assert_eq!(request.timeout, Some(Duration::from_millis(1500)));
        assert_eq!(request.parent_id.unwrap().as_str(), "p");
        assert!(request.detached && !request.streamed);
    }

    #[test]
    fn tools_of_the_caller_are_described_and_their_results_need_no_name() {
        let request = parse(json!({
            "client_tools": [{"name": "show", "parameters": {"type": "object"}}],
            "message": [{"type": "tool_result", "call_id": "c", "result": 4}],
        }))
        .unwrap();
        assert_eq!(request.client_tools[0].name, "show");
        let result = InputMessage::tool_result("c", json!(4), false);
        assert_eq!(request.messages, [result]);
        for (wrong, field) in [(json!("canary"), "client_tools"), (json!([{}]), "name")] {
            let error = parse(json!({"message": "hi", "client_tools": wrong})).unwrap_err();
            assert_eq!(error.context_value("field"), Some(field));
        }
    }

    #[tokio::test]
    async fn a_status_says_where_the_data_is_and_what_runs() {
        let tutor = Tutor::builder().build().await.unwrap();
        let told = status(&tutor);
        assert_eq!(told["durability"], "none");
        assert_eq!(
            (&told["live_turns"], &told["recovered_turns"]),
            (&json!(0), &json!(0))
        );
    }

    #[test]
    fn a_context_says_what_would_be_sent() {
        let known = Context {
            system: Some("Be kind.".into()),
            messages: vec![PromptMessage {
                role: Role::User,
                content: "hi".into(),
            }],
            tokens: 7,
            ..Context::default()
        };
        let expected = json!({
            "system": "Be kind.", "messages": [{"role": "user", "content": "hi"}], "tokens": 7,
            "left_out": null, "summarized": false, "notices": [],
        });
        assert_eq!(context(&known), expected);
    }

    #[test]
    fn a_wrong_member_is_named_and_not_quoted() {
        for (field, value) in [
            ("message", json!(5)),
            ("messages", json!([{"role": "canary", "content": "x"}])),
            ("temperature", json!("canary")),
            ("max_tokens", json!(-1)),
            ("preferences", json!({"model": 7})),
            ("timeout", json!(-1)),
            ("session", json!(["canary"])),
            ("no_such", json!("canary")),
        ] {
            let error = parse(json!({field: value})).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.context_value("field"), Some(field));
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
        let both = json!({"message": "a", "messages": []});
        assert!(parse(both).is_err());
    }
}
