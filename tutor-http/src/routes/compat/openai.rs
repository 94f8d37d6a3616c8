//! OpenAI's Chat Completions and its list of models.

use axum::Json;
use axum::response::Response;
use http::HeaderMap;
use serde_json::{Map, Value, json};
use tutor_core::message::Part;
use tutor_core::turn::InputMessage;
use tutor_core::{ChatRequest, Content, Error, ErrorKind, OutputSchema, Role, ToolSpec};

use super::super::models::listed;
use super::super::{App, answer, following, to_the_end};
use super::{
    CompletionBody, OWN_MODEL, chat_request, client_tool, client_tools, content, function_call,
    kind, list, named_session, no_stops, text_part, unknown_part,
};
use crate::body::JsonBody;
use crate::bounds::Bounds;
use crate::encode::openai::{OpenAi, completion, unix_seconds};
use crate::error::ApiError;
use crate::openapi::OpenAiError;
use crate::params::{PathText, idempotency_key};
use crate::sse;
use crate::validate::Checker;

/// Chat Completions
///
/// As OpenAI's clients speak it, streamed or whole. The header `X-Session-Id` or
/// `metadata.session_id` names the conversation to go on with (it is created if there is none);
/// then the stored history counts. Without it the request is a conversation of its own.
///
/// `tools` are run by the client: a completion that asks for some ends with `tool_calls`, and the
/// next request brings their results.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "compatibility",
    operation_id = "create_chat_completion", request_body = CompletionBody,
    responses((status = 200, description = "The completion, or its chunks", content(
        (Value = "application/json"), (String = "text/event-stream"))),
        (status = 404, description = "There is no such message", body = OpenAiError),
        (status = 409, description = "A reply is being written in this conversation", body = OpenAiError),
        (status = 499, description = "The reply was stopped; what had arrived is in the conversation", body = OpenAiError),
        (status = 429, description = "The provider asks to wait", body = OpenAiError),
        (status = 502, description = "The provider refused", body = OpenAiError),
        (status = 504, description = "The reply took too long", body = OpenAiError)))]
pub(in crate::routes) async fn completions(
    App(state): App,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let created = unix_seconds(state.runtime.now());
    let asked = Asked::read(&body, &headers, &state.bounds)?;
    let (tutor, request) = (state.tutor.clone(), asked.request);
    if asked.streamed {
        let state = state.for_stream()?;
        let mut events = to_the_end(async move { tutor.stream(request).await }).await?;
        let first = sse::opening(&mut events).await?;
        let (session, is_replay) = (events.session_id().clone(), events.is_replay());
        let encoder = OpenAi::new(created, asked.include_usage);
        let response = sse::respond(&state, encoder, first, events);
        return Ok(following(response, &session, is_replay));
    }
    let answered = to_the_end(answer(tutor, request)).await?;
    Ok(answered.respond_whole(completion(&answered.reply, created)))
}

/// List models
#[utoipa::path(get, path = "/v1/models", tag = "compatibility", operation_id = "openai_models",
    responses((status = 200, description = "The models", body = Value)))]
pub(in crate::routes) async fn models(App(state): App) -> Json<Value> {
    let data: Vec<Value> = all_models(&state.tutor).await;
    Json(json!({"object": "list", "data": data}))
}

/// Read a model
#[utoipa::path(get, path = "/v1/models/{model}", tag = "compatibility",
    operation_id = "openai_model", params(("model" = String, Path)),
    responses((status = 200, description = "The model", body = Value),
        (status = 404, description = "There is none", body = OpenAiError)))]
pub(in crate::routes) async fn model(
    App(state): App,
    PathText(id): PathText,
) -> Result<Json<Value>, ApiError> {
    let models = all_models(&state.tutor).await;
    let found = models.into_iter().find(|model| model["id"] == id.as_str());
    match found {
        Some(model) => Ok(Json(model)),
        None => Err(Error::new(ErrorKind::NotFound, "no such model: see GET /v1/models").into()),
    }
}

/// The server's own model, and those of all providers. An id is what may be asked for.
async fn all_models(tutor: &tutor_core::Tutor) -> Vec<Value> {
    let model = |id: &str, owner: &str| json!({"id": id, "object": "model", "created": 0, "owned_by": owner});
    let mut all = vec![model(OWN_MODEL, "neuro-tutor")];
    for listed in listed(tutor).await.models {
        all.push(model(
            &format!("{}/{}", listed.provider, listed.id),
            &listed.provider,
        ));
    }
    all
}

struct Asked {
    request: ChatRequest,
    streamed: bool,
    include_usage: bool,
}

impl Asked {
    fn read(body: &Value, headers: &HeaderMap, bounds: &Bounds) -> Result<Self, ApiError> {
        let mut checker = Checker::new("body");
        let asked = match checker.model(body) {
            Some(object) => Self::of(&mut checker, object, headers, bounds)?,
            None => None,
        };
        checker.finish(asked)
    }

    fn of(
        c: &mut Checker,
        object: &Map<String, Value>,
        headers: &HeaderMap,
        bounds: &Bounds,
    ) -> Result<Option<Self>, ApiError> {
        let model = c.required(object, "model", |c, v| c.string(v).map(str::to_owned));
        let messages = c.required(object, "messages", |c, v| {
            list(c, v, |c, v| message(c, v, bounds))
        });
        let session = named_session(c, object, headers)?;
        let mut request = chat_request(messages.unwrap_or_default(), model, session);
        let preferences = &mut request.preferences;
        preferences.temperature = c.optional(object, "temperature", |c, v| c.number(v, 0.0, 2.0));
        let newer = c.optional(object, "max_completion_tokens", |c, v| c.integer(v, 1));
        let older = c.optional(object, "max_tokens", |c, v| c.integer(v, 1));
        preferences.max_tokens = newer.or(older);
        c.optional(object, "n", |c, v| {
            if v.as_u64() != Some(1) {
                c.fail_value("only one choice is made: leave n out", v);
            }
            Some(())
        });
        no_stops(c, object, "stop");
        request.is_transcript = true;
        request.client_tools = tools(c, object);
        request.output = c.optional(object, "response_format", output).flatten();
        request.idempotency_key = idempotency_key(headers)?;
        let streamed = c
            .optional(object, "stream", Checker::boolean)
            .unwrap_or(false);
        request.streamed = streamed;
        let include_usage = c.optional(object, "stream_options", |c, v| {
            let options = c.dict(v)?;
            c.optional(&options, "include_usage", Checker::boolean)
        });
        Ok(Some(Self {
            request,
            streamed,
            include_usage: include_usage.unwrap_or(false),
        }))
    }
}

/// The tools of the client, unless it wants none to be called this time.
fn tools(c: &mut Checker, object: &Map<String, Value>) -> Vec<ToolSpec> {
    let tools = client_tools(c, object, |c, object| match kind(c, object)? {
        "function" => c.required(object, "function", |c, v| {
            c.model(v)
                .and_then(|function| client_tool(c, function, "parameters"))
        }),
        other => {
            let input = Value::from(other);
            c.within("type", |c| {
                c.fail_value("only tools of the type function are supported", &input);
            });
            None
        }
    });
    let choice = c.optional(object, "tool_choice", |c, v| match v.as_str() {
        Some("none") => Some(false),
        Some("auto") => Some(true),
        _ => {
            c.fail_value(
                "a model cannot be made to call a tool here: tool_choice is auto or none",
                v,
            );
            None
        }
    });
    if choice == Some(false) {
        Vec::new()
    } else {
        tools
    }
}

/// The form that the reply must have; none for a free one.
fn output(c: &mut Checker, value: &Value) -> Option<Option<OutputSchema>> {
    let format = c.model(value)?;
    let string = |c: &mut Checker, v: &Value| c.string(v).map(str::to_owned);
    match kind(c, format)? {
        "text" => Some(None),
        "json_object" => Some(Some(OutputSchema::new("object", json!({"type": "object"})))),
        "json_schema" => c.required(format, "json_schema", |c, v| {
            let described = c.model(v)?;
            let name = c.required(described, "name", string)?;
            let schema = c.required(described, "schema", |c, v| c.dict(v).map(Value::Object))?;
            Some(Some(OutputSchema::new(name, schema)))
        }),
        _ => {
            let input = format.get("type").cloned().unwrap_or_default();
            c.within("type", |c| {
                c.fail_value("a format is text, json_object or json_schema", &input);
            });
            None
        }
    }
}

fn message(c: &mut Checker, value: &Value, bounds: &Bounds) -> Option<InputMessage> {
    let object = c.model(value)?;
    let role = c.required(object, "role", |c, v| match v.as_str() {
        Some("system" | "developer") => Some(Role::System),
        Some("user" | "tool" | "function") => Some(Role::User),
        Some("assistant") => Some(Role::Assistant),
        _ => {
            c.fail_value("a role is system, developer, user, assistant or tool", v);
            None
        }
    })?;
    let said = object.get("content").filter(|content| !content.is_null());
    let mut parts = match said.map(|v| c.within("content", |c| content(c, v, bounds, role, part))) {
        Some(Some(Content::Text(text))) if text.is_empty() => Vec::new(),
        Some(Some(Content::Text(text))) => vec![Part::Text { text }],
        Some(Some(Content::Parts(parts))) => parts,
        Some(None) => return None,
        None => Vec::new(),
    };
    if let Some(id) = object.get("tool_call_id").and_then(Value::as_str) {
        let result = Value::String(super::simplified(std::mem::take(&mut parts)).text());
        parts = vec![Part::ToolResult {
            call_id: id.to_owned(),
            name: String::new(),
            result,
            is_error: false,
        }];
    }
    let calls = object.get("tool_calls").and_then(Value::as_array);
    parts.extend(calls.into_iter().flatten().filter_map(function_call));
    Some(InputMessage {
        id: None,
        role,
        content: super::simplified(parts),
    })
}

fn part(c: &mut Checker, object: &Map<String, Value>) -> Option<Vec<Part>> {
    match kind(c, object)? {
        "text" => text_part(c, object),
        "refusal" => {
            let text = c.required(object, "refusal", |c, v| c.string(v).map(str::to_owned))?;
            Some(vec![Part::Text { text }])
        }
        "image_url" => {
            let url = c.required(object, "image_url", |c, v| {
                let image = c.dict(v)?;
                c.required(&image, "url", |c, v| c.string(v).map(str::to_owned))
            })?;
            Some(vec![Part::Image {
                url,
                media_type: None,
            }])
        }
        "file" => c.required(object, "file", |c, v| {
            let file = c.dict(v)?;
            let string = |c: &mut Checker, v: &Value| c.string(v).map(str::to_owned);
            let data = c.optional(&file, "file_data", string);
            let file_id = match data {
                Some(data) => data,
                None => c.required(&file, "file_id", string)?,
            };
            Some(vec![Part::File {
                file_id,
                name: c.optional(&file, "filename", string),
                media_type: None,
            }])
        }),
        _ => {
            unknown_part(c, object, "text, image_url or file");
            None
        }
    }
}
