//! Anthropic's Messages.

use axum::Json;
use axum::response::Response;
use http::HeaderMap;
use serde_json::{Map, Value, json};
use tutor_core::message::Part;
use tutor_core::turn::InputMessage;
use tutor_core::{ChatRequest, Content, Role, ToolSpec};

use super::super::{App, answer, following, to_the_end};
use super::{
    CountBody, MessageBody, chat_request, client_tool, client_tools, content, kind, list,
    named_session, no_stops, text_part, unknown_part,
};
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
///
/// `tools` are run by the client: a message that asks for some ends with `tool_use`, and the next
/// request brings their results.
#[utoipa::path(post, path = "/v1/messages", tag = "compatibility",
    operation_id = "create_message", request_body = MessageBody,
    responses((status = 200, description = "The message, or its events", content(
        (Value = "application/json"), (String = "text/event-stream"))),
        (status = 404, description = "There is no such message", body = AnthropicError),
        (status = 409, description = "A reply is being written in this conversation", body = AnthropicError),
        (status = 499, description = "The reply was stopped; what had arrived is in the conversation", body = AnthropicError),
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
        let state = state.for_stream()?;
        let mut events = to_the_end(async move { tutor.stream(request).await }).await?;
        let first = sse::opening(&mut events).await?;
        let (session, is_replay) = (events.session_id().clone(), events.is_replay());
        let response = sse::respond(&state, Anthropic::default(), first, events);
        return Ok(following(response, &session, is_replay));
    }
    let answered = to_the_end(answer(tutor, request)).await?;
    Ok(answered.respond_whole(whole(&answered.reply)))
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
        list(c, v, |c, v| message(c, v, bounds))
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
    no_stops(c, object, "stop_sequences");
    request.is_transcript = true;
    request.client_tools = tools(c, object);
    request.idempotency_key = idempotency_key(headers)?;
    request.streamed = c
        .optional(object, "stream", Checker::boolean)
        .unwrap_or(false);
    Ok(request)
}

/// The tools of the client, unless it wants none to be called this time.
fn tools(c: &mut Checker, object: &Map<String, Value>) -> Vec<ToolSpec> {
    let tools = client_tools(c, object, |c, object| match object.get("type") {
        None => client_tool(c, object, "input_schema"),
        Some(kind) if kind == "custom" => client_tool(c, object, "input_schema"),
        Some(kind) => {
            c.within("type", |c| {
                c.fail_value(
                    "only tools that the client runs are supported: the type custom",
                    kind,
                );
            });
            None
        }
    });
    let choice = c.optional(object, "tool_choice", |c, v| {
        match v.get("type").and_then(Value::as_str) {
            Some("none") => Some(false),
            Some("auto") => Some(true),
            _ => {
                c.fail_value("a model cannot be made to call a tool here: the type of tool_choice is auto or none", v);
                None
            }
        }
    });
    if choice == Some(false) {
        Vec::new()
    } else {
        tools
    }
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
            result: plain(object.get("content")),
            is_error: object
                .get("is_error")
                .is_some_and(|e| *e == Value::Bool(true)),
        }]),
        "document" => c.required(object, "source", |c, source| document(c, source, object)),
        _ => {
            unknown_part(c, object, "text, image or document");
            None
        }
    }
}

/// What a tool answered: texts are one text, anything else is as it is.
fn plain(content: Option<&Value>) -> Value {
    let text = |block: &Value| match block.get("type").and_then(Value::as_str) {
        Some("text") => Some(block.get("text")?.as_str()?.to_owned()),
        _ => None,
    };
    match content {
        None => Value::String(String::new()),
        Some(Value::Array(blocks)) => match blocks.iter().map(text).collect::<Option<String>>() {
            Some(text) => Value::String(text),
            None => Value::Array(blocks.clone()),
        },
        Some(other) => other.clone(),
    }
}

fn document(c: &mut Checker, source: &Value, whole: &Map<String, Value>) -> Option<Vec<Part>> {
    let source = c.dict(source)?;
    let string = |c: &mut Checker, v: &Value| c.string(v).map(str::to_owned);
    let media_type = c.optional(&source, "media_type", string);
    let kind = source.get("type").and_then(Value::as_str);
    let file_id = match kind {
        Some("file") => c.required(&source, "file_id", string)?,
        Some("base64") => {
            let data = c.required(&source, "data", string)?;
            let media_type = media_type.as_deref().unwrap_or("application/pdf");
            format!("data:{media_type};base64,{data}")
        }
        Some("text") => {
            let text = c.required(&source, "data", string)?;
            return Some(vec![Part::Text { text }]);
        }
        _ => {
            let input = source.get("type").cloned().unwrap_or_default();
            c.within("type", |c| {
                c.fail_value("a source is file, base64 or text", &input);
            });
            return None;
        }
    };
    Some(vec![Part::File {
        media_type: media_type.filter(|_| kind != Some("file")),
        file_id,
        name: whole
            .get("title")
            .and_then(Value::as_str)
            .map(str::to_owned),
    }])
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
    operation_id = "count_message_tokens", request_body = CountBody,
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
