//! AG-UI: a run is a turn, a thread a conversation.

use axum::response::Response;
use http::HeaderMap;
use serde_json::{Map, Value};
use tutor_core::message::Part;
use tutor_core::turn::{InputMessage, fingerprint};
use tutor_core::{ChatRequest, Content, MessageId, Role, SessionId, ToolSpec};

use super::super::chat::answered_before;
use super::super::{App, following, to_the_end};
use super::{
    RunBody, chat_request, client_tool, client_tools, content, function_call, kind, list, own_file,
    said, text_part, unknown_part,
};
use crate::body::JsonBody;
use crate::bounds::Bounds;
use crate::encode::agui::AgUi;
use crate::error::ApiError;
use crate::params::idempotency_key;
use crate::sse;
use crate::validate::Checker;

mod thread;

use thread::Place;

/// Run
///
/// Answers the last message of `messages` in the thread, which is created if there is none. With
/// nothing to answer, the run only brings the thread's messages.
///
/// `tools` are run by the client: a run that asks for some ends with their calls, and the next one
/// brings the results.
#[utoipa::path(post, path = "/agui", tag = "compatibility", operation_id = "agui_run",
    request_body = RunBody,
    responses((status = 200, description = "AG-UI's events", body = String,
            content_type = "text/event-stream"),
        (status = 404, description = "There is no such message", body = crate::openapi::ErrorBody),
        (status = 409, description = "A reply is being written in this thread", body = crate::openapi::ErrorBody),
        (status = 429, description = "The provider asks to wait", body = crate::openapi::ErrorBody),
        (status = 502, description = "The provider refused", body = crate::openapi::ErrorBody),
        (status = 504, description = "The reply took too long", body = crate::openapi::ErrorBody)))]
pub(in crate::routes) async fn run(
    App(state): App,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let mut run = Run::read(&body, &state.bounds)?;
    let encoder = AgUi::new(run.thread.to_string(), run.id.clone());
    let state = state.for_stream()?;
    let key = idempotency_key(&headers)?;
    let asked = run.fingerprint();
    if let Some(turn) = answered_before(&state.tutor, key.as_deref(), asked).await? {
        let events = state.tutor.events(&turn, 0).await?;
        let session = events.session_id().clone();
        return Ok(following(
            sse::respond(&state, encoder, None, events),
            &session,
            true,
        ));
    }
    let place = match run.messages.last() {
        Some(last) if last.role == Role::User => {
            thread::place(&state.tutor, &run.thread, last).await
        }
        _ => Place::Known,
    };
    let edit = match place {
        Place::Known => return thread::snapshot(&state, &run.thread, &encoder).await,
        Place::New => None,
        Place::Unanswered(id) => {
            run.name_last(Some(id));
            None
        }
        Place::Edited(id) => {
            run.messages.drain(..run.messages.len().saturating_sub(1));
            run.name_last(None);
            Some(id)
        }
    };
    let mut request = chat_request(run.messages, None, Some(run.thread));
    request.edit = edit;
    request.client_tools = run.tools;
    request.idempotency_key = key;
    request.fingerprint = Some(asked);
    request.streamed = true;
    forget_known_ids(&mut request);
    let tutor = state.tutor.clone();
    let events = to_the_end(async move { tutor.stream(request).await }).await?;
    let (session, is_replay) = (events.session_id().clone(), events.is_replay());
    let response = sse::respond(&state, encoder, None, events);
    Ok(following(response, &session, is_replay))
}

/// Ids of history are not needed: the stored one counts.
fn forget_known_ids(request: &mut ChatRequest) {
    let last = request.messages.len().saturating_sub(1);
    request.messages[..last]
        .iter_mut()
        .for_each(|m| m.id = None);
}

struct Run {
    thread: SessionId,
    id: String,
    messages: Vec<InputMessage>,
    tools: Vec<ToolSpec>,
}

impl Run {
    fn read(body: &Value, bounds: &Bounds) -> Result<Self, ApiError> {
        let mut checker = Checker::new("body");
        let run = checker.model(body).and_then(|object| {
            let c = &mut checker;
            let thread = c.required(object, "threadId", |c, v| c.parsed(v, str::parse));
            let id = c.required(object, "runId", |c, v| c.text(v, 1, 128));
            let messages = c.required(object, "messages", |c, v| {
                list(c, v, |c, v| message(c, v, bounds))
            });
            let tools = client_tools(c, object, |c, tool| client_tool(c, tool, "parameters"));
            Some(Self {
                thread: thread?,
                id: id?,
                messages: messages?,
                tools,
            })
        });
        checker.finish(run)
    }

    /// What is asked. A run that is tried again may have an id of its own.
    fn fingerprint(&self) -> u64 {
        fingerprint(&(&self.thread, said(&self.messages), &self.tools))
    }

    fn name_last(&mut self, id: Option<MessageId>) {
        if let Some(last) = self.messages.last_mut() {
            last.id = id;
        }
    }
}

/// A message; `None` for those that are no words of anybody.
fn message(c: &mut Checker, value: &Value, bounds: &Bounds) -> Option<InputMessage> {
    let object = c.model(value)?;
    let role = match object.get("role").and_then(Value::as_str) {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system" | "developer") => Role::System,
        Some("tool") => return result(c, object),
        Some("activity" | "reasoning") => return None,
        _ => {
            let input = object.get("role").cloned().unwrap_or_default();
            c.within("role", |c| {
                c.fail_value("a role is user, assistant, system or developer", &input);
            });
            return None;
        }
    };
    let said = object.get("content").filter(|content| !content.is_null());
    let said = match said {
        Some(said) => Some(c.within("content", |c| content(c, said, bounds, role, part))?),
        None => None,
    };
    let calls = object.get("toolCalls").and_then(Value::as_array);
    let calls: Vec<Part> = calls
        .into_iter()
        .flatten()
        .filter_map(function_call)
        .collect();
    let content = match (said, calls.is_empty()) {
        (said, true) => said?,
        (Some(Content::Parts(parts)), false) => Content::Parts([parts, calls].concat()),
        (Some(Content::Text(text)), false) if !text.is_empty() => {
            Content::Parts([vec![Part::Text { text }], calls].concat())
        }
        (_, false) => Content::Parts(calls),
    };
    Some(InputMessage {
        id: id_of(object),
        role,
        content,
    })
}

/// What a tool of the client's answered.
fn result(c: &mut Checker, object: &Map<String, Value>) -> Option<InputMessage> {
    let string = |c: &mut Checker, v: &Value| c.string(v).map(str::to_owned);
    let call = c.required(object, "toolCallId", string)?;
    let content = c.required(object, "content", string)?;
    let error = c.optional(object, "error", string);
    let is_error = error.is_some();
    let told = error.filter(|_| content.is_empty()).unwrap_or(content);
    Some(InputMessage {
        id: id_of(object),
        ..InputMessage::tool_result(call, told.into(), is_error)
    })
}

fn id_of(object: &Map<String, Value>) -> Option<MessageId> {
    object.get("id").and_then(Value::as_str)?.parse().ok()
}

fn part(c: &mut Checker, object: &Map<String, Value>) -> Option<Vec<Part>> {
    let string = |c: &mut Checker, v: &Value| c.string(v).map(str::to_owned);
    match kind(c, object)? {
        "text" => text_part(c, object),
        "image" => c.required(object, "source", |c, v| {
            let (url, media_type) = source(c, v)?;
            Some(vec![match own_file(&url) {
                Some(file_id) => file(file_id, object, None),
                None => Part::Image { url, media_type },
            }])
        }),
        "document" => c.required(object, "source", |c, v| {
            let (url, media_type) = source(c, v)?;
            attached(c, url, object, media_type)
        }),
        // What media were before they had a kind each.
        "binary" => {
            let media_type = c.required(object, "mimeType", string)?;
            let data = c.optional(object, "data", string);
            let url = c.optional(object, "url", string);
            let url = match (data, url) {
                (Some(data), _) => format!("data:{media_type};base64,{data}"),
                (None, Some(url)) => url,
                (None, None) => {
                    return Some(vec![file(c.required(object, "id", string)?, object, None)]);
                }
            };
            if media_type.starts_with("image/") && own_file(&url).is_none() {
                let media_type = Some(media_type);
                return Some(vec![Part::Image { url, media_type }]);
            }
            attached(c, url, object, Some(media_type))
        }
        _ => {
            unknown_part(c, object, "text, image or document");
            None
        }
    }
}

/// The URL of a medium, and its type.
fn source(c: &mut Checker, source: &Value) -> Option<(String, Option<String>)> {
    let string = |c: &mut Checker, v: &Value| c.string(v).map(str::to_owned);
    let source = c.dict(source)?;
    let value = c.required(&source, "value", string)?;
    let media_type = c.optional(&source, "mimeType", string);
    let url = match source.get("type").and_then(Value::as_str) {
        Some("data") => {
            let media_type = media_type.as_deref().unwrap_or("image/png");
            format!("data:{media_type};base64,{value}")
        }
        _ => value,
    };
    Some((url, media_type))
}

/// A file that is sent, or was uploaded.
fn attached(
    c: &mut Checker,
    url: String,
    object: &Map<String, Value>,
    media_type: Option<String>,
) -> Option<Vec<Part>> {
    match own_file(&url) {
        Some(id) => Some(vec![file(id, object, None)]),
        None if url.starts_with("data:") => Some(vec![file(url, object, media_type)]),
        None => {
            let why = "only images can be elsewhere: upload the file, or send its data";
            c.fail_value(why, &Value::from(url));
            None
        }
    }
}

fn file(file_id: String, object: &Map<String, Value>, media_type: Option<String>) -> Part {
    let named = object
        .get("filename")
        .or_else(|| object.get("metadata")?.get("filename"));
    Part::File {
        file_id,
        name: named.and_then(Value::as_str).map(str::to_owned),
        media_type,
    }
}
