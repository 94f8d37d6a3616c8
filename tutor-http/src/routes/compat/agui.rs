//! AG-UI: a run is a turn, a thread a conversation.

use axum::body::Body;
use axum::response::Response;
use bytes::BytesMut;
use http::HeaderMap;
use serde_json::{Map, Value, json};
use tutor_core::message::Part;
use tutor_core::turn::InputMessage;
use tutor_core::{ChatRequest, MessageId, Messages, Role, SessionId};

use super::super::{App, to_the_end};
use super::{ForeignBody, chat_request, content, kind, text_part, unknown_part};
use crate::body::JsonBody;
use crate::bounds::Bounds;
use crate::encode::agui::AgUi;
use crate::error::ApiError;
use crate::sse;
use crate::validate::Checker;
use crate::wire::history;

/// Run
///
/// Answers the last message of `messages` in the thread, which is created if there is none. With
/// nothing to answer, the run only brings the thread's messages.
#[utoipa::path(post, path = "/agui", tag = "compatibility", operation_id = "agui_run",
    request_body = ForeignBody,
    responses((status = 200, description = "AG-UI's events", body = String,
            content_type = "text/event-stream"),
        (status = 404, description = "There is no such message", body = crate::openapi::ErrorBody),
        (status = 409, description = "A reply is being written in this thread", body = crate::openapi::ErrorBody),
        (status = 429, description = "The provider asks to wait", body = crate::openapi::ErrorBody),
        (status = 502, description = "The provider refused", body = crate::openapi::ErrorBody),
        (status = 504, description = "The reply took too long", body = crate::openapi::ErrorBody)))]
pub(in crate::routes) async fn run(
    App(state): App,
    _: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let run = Run::read(&body, &state.bounds)?;
    let encoder = AgUi::new(run.thread.to_string(), run.id);
    let asks = run.messages.last().is_some_and(|m| m.role == Role::User);
    let is_said = match run.messages.last().and_then(|m| m.id.as_ref()) {
        Some(id) if asks => is_answered(&state.tutor, &run.thread, id).await,
        _ => false,
    };
    if !asks || is_said {
        return snapshot(&state, &run.thread, &encoder).await;
    }
    let mut request = chat_request(run.messages, None, Some(run.thread));
    request.streamed = true;
    forget_known_ids(&mut request);
    let tutor = state.tutor.clone();
    let events = to_the_end(async move { tutor.stream(request).await }).await?;
    Ok(sse::respond(&state, encoder, None, events))
}

/// True if the message is stored and something follows it.
async fn is_answered(tutor: &tutor_core::Tutor, thread: &SessionId, id: &MessageId) -> bool {
    let after = tutor.messages(thread, Messages::after(id.clone(), 1)).await;
    after.is_ok_and(|page| !page.items.is_empty())
}

/// Ids of history are not needed: the stored one counts.
fn forget_known_ids(request: &mut ChatRequest) {
    let last = request.messages.len().saturating_sub(1);
    request.messages[..last]
        .iter_mut()
        .for_each(|m| m.id = None);
}

/// The thread as it is, without asking anybody.
async fn snapshot(
    state: &crate::state::AppState,
    thread: &SessionId,
    encoder: &AgUi,
) -> Result<Response, ApiError> {
    let messages = match state.tutor.messages(thread, Messages::default()).await {
        Ok(page) => page.items,
        Err(error) if error.kind() == tutor_core::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let mut out = BytesMut::new();
    encoder.begin(&mut out);
    encoder.snapshot(&history::agui(&messages), &mut out);
    encoder.end(&mut out);
    Ok(sse::stream_response::<AgUi>(Body::from(out.freeze())))
}

struct Run {
    thread: SessionId,
    id: String,
    messages: Vec<InputMessage>,
}

impl Run {
    fn read(body: &Value, bounds: &Bounds) -> Result<Self, ApiError> {
        let mut checker = Checker::new("body");
        let run = checker.model(body).and_then(|object| {
            let c = &mut checker;
            let thread = c.required(object, "threadId", |c, v| c.parsed(v, str::parse));
            let id = c.required(object, "runId", |c, v| c.text(v, 1, 128));
            let messages = c.required(object, "messages", |c, v| messages(c, v, bounds));
            Some(Self {
                thread: thread?,
                id: id?,
                messages: messages?,
            })
        });
        checker.finish(run)
    }
}

fn messages(c: &mut Checker, value: &Value, bounds: &Bounds) -> Option<Vec<InputMessage>> {
    let mut messages = Vec::new();
    for (i, value) in c.list(value)?.iter().enumerate() {
        if c.is_full() {
            break;
        }
        messages.extend(c.within(i, |c| message(c, value, bounds)));
    }
    Some(messages)
}

/// A message; `None` for those that are no words of anybody.
fn message(c: &mut Checker, value: &Value, bounds: &Bounds) -> Option<InputMessage> {
    let object = c.model(value)?;
    let role = match object.get("role").and_then(Value::as_str) {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system" | "developer") => Role::System,
        Some("tool" | "activity" | "reasoning") => return None,
        _ => {
            let input = object.get("role").cloned().unwrap_or_default();
            c.within("role", |c| {
                c.fail_value("a role is user, assistant, system or developer", &input);
            });
            return None;
        }
    };
    let said = object.get("content").filter(|content| !content.is_null())?;
    let content = c.within("content", |c| content(c, said, bounds, role, part))?;
    let id = object.get("id").and_then(Value::as_str);
    Some(InputMessage {
        id: id.and_then(|id| id.parse().ok()),
        role,
        content,
    })
}

fn part(c: &mut Checker, object: &Map<String, Value>) -> Option<Vec<Part>> {
    let string = |c: &mut Checker, v: &Value| c.string(v).map(str::to_owned);
    match kind(c, object)? {
        "text" => text_part(c, object),
        "image" => c.required(object, "source", |c, source| {
            let source = c.dict(source)?;
            let value = c.required(&source, "value", string)?;
            let media_type = c.optional(&source, "mimeType", string);
            let is_data = source.get("type") == Some(&json!("data"));
            let url = if is_data {
                let media_type = media_type.as_deref().unwrap_or("image/png");
                format!("data:{media_type};base64,{value}")
            } else {
                value
            };
            Some(vec![Part::Image { url, media_type }])
        }),
        _ => {
            unknown_part(c, object, "text or image");
            None
        }
    }
}
