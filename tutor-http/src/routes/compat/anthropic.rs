//! Anthropic's Messages.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use serde_json::{Map, Value, json};
use tutor_core::message::Part;
use tutor_core::turn::InputMessage;
use tutor_core::{ChatRequest, Content, Role};

use super::super::{App, name_session, to_the_end};
use super::{ForeignBody, chat_request, content, kind, named_session, text_part, unknown_part};
use crate::body::JsonBody;
use crate::bounds::Bounds;
use crate::encode::anthropic::{Anthropic, message as whole};
use crate::error::ApiError;
use crate::openapi::AnthropicError;
use crate::params::idempotency_key;
use crate::sse;
use crate::validate::Checker;

/// Messages
///
/// As Anthropic's clients speak it, streamed or whole. The header `X-Session-Id` or
/// `metadata.session_id` names the conversation to go on with (it is created if there is none);
/// then the stored history counts. Without it the request is a conversation of its own.
#[utoipa::path(post, path = "/v1/messages", tag = "compatibility",
    operation_id = "create_message", request_body = ForeignBody,
    responses((status = 200, description = "The message, or its events", content(
        (Value = "application/json"), (String = "text/event-stream"))),
        (status = 404, description = "There is no such message", body = AnthropicError),
        (status = 409, description = "A reply is being written in this conversation", body = AnthropicError),
        (status = 429, description = "The provider asks to wait", body = AnthropicError),
        (status = 502, description = "The provider refused", body = AnthropicError),
        (status = 504, description = "The reply took too long", body = AnthropicError)))]
pub(in crate::routes) async fn messages(
    App(state): App,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let request = read(&body, &headers, &state.bounds)?;
    let tutor = state.tutor.clone();
    if request.streamed {
        let mut events = to_the_end(async move { tutor.stream(request).await }).await?;
        let first = sse::opening(&mut events).await?;
        let session = events.session_id().clone();
        let mut response = sse::respond(&state, Anthropic::default(), first, events);
        name_session(&mut response, &session);
        return Ok(response);
    }
    let reply = to_the_end(async move { tutor.chat(request).await }).await?;
    let mut response = Json(whole(&reply)).into_response();
    name_session(&mut response, &reply.session_id);
    Ok(response)
}

fn read(body: &Value, headers: &HeaderMap, bounds: &Bounds) -> Result<ChatRequest, ApiError> {
    let mut checker = Checker::new("body");
    let request = match checker.model(body) {
        Some(object) => Some(request(&mut checker, object, headers, bounds)?),
        None => None,
    };
    checker.finish(request)
}

fn request(
    c: &mut Checker,
    object: &Map<String, Value>,
    headers: &HeaderMap,
    bounds: &Bounds,
) -> Result<ChatRequest, ApiError> {
    let model = c.required(object, "model", |c, v| c.string(v).map(str::to_owned));
    let system = c.optional(object, "system", |c, v| {
        content(c, v, bounds, Role::System, part)
    });
    let said = c.required(object, "messages", |c, v| {
        let mut messages = Vec::new();
        for (i, value) in c.list(v)?.iter().enumerate() {
            if c.is_full() {
                break;
            }
            messages.extend(c.within(i, |c| message(c, value, bounds)));
        }
        Some(messages)
    });
    let system = system
        .filter(|system| !system.is_blank())
        .map(|content| InputMessage {
            id: None,
            role: Role::System,
            content,
        });
    let messages = system.into_iter().chain(said.unwrap_or_default()).collect();
    let session = named_session(c, object, headers)?;
    let mut request = chat_request(messages, model, session);
    request.preferences.max_tokens = c.required(object, "max_tokens", |c, v| c.integer(v, 1));
    request.preferences.temperature =
        c.optional(object, "temperature", |c, v| c.number(v, 0.0, 1.0));
    request.idempotency_key = idempotency_key(headers)?;
    request.streamed = c
        .optional(object, "stream", Checker::boolean)
        .unwrap_or(false);
    Ok(request)
}

fn message(c: &mut Checker, value: &Value, bounds: &Bounds) -> Option<InputMessage> {
    let object = c.model(value)?;
    let role = c.required(object, "role", |c, v| match v.as_str() {
        Some("user") => Some(Role::User),
        Some("assistant") => Some(Role::Assistant),
        _ => {
            c.fail_value("a role is user or assistant", v);
            None
        }
    })?;
    let content = c.required(object, "content", |c, v| content(c, v, bounds, role, part))?;
    Some(InputMessage {
        id: None,
        role,
        content,
    })
}

fn part(c: &mut Checker, object: &Map<String, Value>) -> Option<Vec<Part>> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    match kind(c, object)? {
        "text" => text_part(c, object),
        // The model's own thinking is not for it to see again.
        "thinking" | "redacted_thinking" => Some(Vec::new()),
        "image" => c.required(object, "source", image).map(|image| vec![image]),
        "tool_use" => Some(vec![Part::ToolCall {
            call_id: text(object.get("id")),
            name: text(object.get("name")),
            arguments: object.get("input").cloned().unwrap_or(json!({})),
        }]),
        "tool_result" => Some(vec![Part::ToolResult {
            call_id: text(object.get("tool_use_id")),
            name: String::new(),
            result: object.get("content").cloned().unwrap_or_default(),
            is_error: object
                .get("is_error")
                .is_some_and(|e| *e == Value::Bool(true)),
        }]),
        _ => {
            unknown_part(c, object, "text or image");
            None
        }
    }
}

fn image(c: &mut Checker, source: &Value) -> Option<Part> {
    let source = c.dict(source)?;
    let string = |c: &mut Checker, v: &Value| c.string(v).map(str::to_owned);
    match source.get("type").and_then(Value::as_str) {
        Some("url") => Some(Part::Image {
            url: c.required(&source, "url", string)?,
            media_type: None,
        }),
        Some("base64") => {
            let media_type = c.required(&source, "media_type", string)?;
            let data = c.required(&source, "data", string)?;
            Some(Part::Image {
                url: format!("data:{media_type};base64,{data}"),
                media_type: Some(media_type),
            })
        }
        _ => {
            let input = source.get("type").cloned().unwrap_or_default();
            c.within("type", |c| {
                c.fail_value("a source is url or base64", &input)
            });
            None
        }
    }
}

/// A rough count: a quarter of the bytes.
const BYTES_PER_TOKEN: usize = 4;

/// Count tokens
///
/// About how many tokens a request has: an estimate, as no model is asked.
#[utoipa::path(post, path = "/v1/messages/count_tokens", tag = "compatibility",
    operation_id = "count_message_tokens", request_body = ForeignBody,
    responses((status = 200, description = "The estimate", body = Value)))]
pub(in crate::routes) async fn count_tokens(
    App(state): App,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let mut checker = Checker::new("body");
    let bytes = checker.model(&body).and_then(|object| {
        let c = &mut checker;
        let size = |content: &Content| content.len();
        let system = c.optional(object, "system", |c, v| {
            content(c, v, &state.bounds, Role::System, part).map(|content| size(&content))
        });
        let said = c.required(object, "messages", |c, v| {
            let mut bytes = 0;
            for (i, value) in c.list(v)?.iter().enumerate() {
                bytes += c
                    .within(i, |c| message(c, value, &state.bounds))?
                    .content
                    .len();
            }
            Some(bytes)
        })?;
        Some(said + system.unwrap_or(0))
    });
    let bytes = checker.finish(bytes)?;
    Ok(Json(
        json!({"input_tokens": bytes.div_ceil(BYTES_PER_TOKEN)}),
    ))
}
