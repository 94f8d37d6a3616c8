//! Conversations in the words of other protocols, so that their stock clients work unmodified.

use http::HeaderMap;
use serde_json::{Map, Value, json};
use tutor_core::message::Part;
use tutor_core::turn::InputMessage;
use tutor_core::{ChatRequest, Content, MessageId, Role, SessionId, ToolSpec};
use utoipa::ToSchema;

use crate::bounds::Bounds;
use crate::error::ApiError;
use crate::params::session_header;
use crate::validate::Checker;

pub(super) mod agui;
pub(super) mod anthropic;
pub(super) mod openai;

/// The model that stands for whatever the server answers by when nobody asks for a model.
pub(super) const OWN_MODEL: &str = "neuro-tutor";

/// What a chat completion cannot do without; the rest is in OpenAI's document.
#[derive(ToSchema)]
#[schema(as = CompletionRequest)]
#[expect(dead_code, reason = "documents a body that is read member by member")]
pub(crate) struct CompletionBody {
    model: String,
    /// What was said, oldest first.
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Value>,
}

/// What a message cannot do without; the rest is in Anthropic's document.
#[derive(ToSchema)]
#[schema(as = MessageRequest)]
#[expect(dead_code, reason = "documents a body that is read member by member")]
pub(crate) struct MessageBody {
    model: String,
    #[schema(minimum = 1)]
    max_tokens: u32,
    /// What was said, oldest first.
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Value>,
}

/// What a count cannot do without; the rest is in Anthropic's document.
#[derive(ToSchema)]
#[schema(as = CountRequest)]
#[expect(dead_code, reason = "documents a body that is read member by member")]
pub(crate) struct CountBody {
    /// What was said, oldest first.
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Value>,
}

/// What a run cannot do without; the rest is in AG-UI's document.
#[derive(ToSchema)]
#[schema(as = RunInput, rename_all = "camelCase")]
#[expect(dead_code, reason = "documents a body that is read member by member")]
pub(crate) struct RunBody {
    thread_id: String,
    run_id: String,
    /// What was said, oldest first.
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Value>,
}

/// Puts the members together that all protocols have in some form.
fn chat_request(
    messages: Vec<InputMessage>,
    model: Option<String>,
    session: Option<SessionId>,
) -> ChatRequest {
    let mut request = ChatRequest::default().detached();
    request.messages = with_joined_results(messages);
    request.preferences.model = model.filter(|model| model != OWN_MODEL);
    // These clients choose their ids themselves, and never create a conversation first.
    request.create_session = session.is_some();
    request.session_id = session;
    request
}

/// What decides the answer to these messages.
pub(super) fn said(messages: &[InputMessage]) -> Vec<(Option<&MessageId>, Role, &Content)> {
    let said = messages.iter();
    said.map(|m| (m.id.as_ref(), m.role, &m.content)).collect()
}

/// Refuses texts at which a reply is to end: none is looked for.
fn no_stops(checker: &mut Checker, object: &Map<String, Value>, name: &'static str) {
    checker.optional(object, name, |c, v| {
        let is_empty = v.as_str() == Some("") || v.as_array().is_some_and(Vec::is_empty);
        if !is_empty {
            let why = format!("a reply cannot be made to end at a text here: leave {name} out");
            c.fail_value(&why, v);
        }
        Some(())
    });
}

/// The conversation that a request names: by the header, or as `metadata.session_id`.
fn named_session(
    checker: &mut Checker,
    object: &Map<String, Value>,
    headers: &HeaderMap,
) -> Result<Option<SessionId>, ApiError> {
    let by_header = session_header(headers)?;
    let by_body = checker.optional(object, "metadata", |c, metadata| {
        let metadata = metadata.as_object()?;
        c.optional(metadata, "session_id", |c, id| c.parsed(id, str::parse))
    });
    Ok(by_header.or(by_body))
}

/// The content of a message: a text, or parts that `part` reads one by one.
pub(super) fn content(
    checker: &mut Checker,
    value: &Value,
    bounds: &Bounds,
    role: Role,
    part: impl Fn(&mut Checker, &Map<String, Value>) -> Option<Vec<Part>>,
) -> Option<Content> {
    let max = if role == Role::User {
        bounds.max_message_chars
    } else {
        usize::MAX
    };
    if value.is_string() {
        return checker.text(value, 0, max).map(Content::Text);
    }
    let mut parts = Vec::new();
    for (i, value) in checker.list(value)?.iter().enumerate() {
        if checker.is_full() {
            return None;
        }
        let read = checker.within(i, |c| c.model(value).and_then(|object| part(c, object)));
        parts.extend(read.unwrap_or_default());
    }
    let content = simplified(parts);
    let chars = content.text().chars().count();
    if chars > max {
        checker.fail_value(
            &format!("the text has more than {max} characters"),
            &Value::Null,
        );
        return None;
    }
    Some(content)
}

/// A list of messages, each read by `message`, which leaves out what is no words of anybody.
pub(super) fn list(
    checker: &mut Checker,
    value: &Value,
    message: impl Fn(&mut Checker, &Value) -> Option<InputMessage>,
) -> Option<Vec<InputMessage>> {
    let mut messages = Vec::new();
    for (i, value) in checker.list(value)?.iter().enumerate() {
        if checker.is_full() {
            break;
        }
        messages.extend(checker.within(i, |c| message(c, value)));
    }
    Some(messages)
}

/// Messages with nothing but results of tools that follow each other are one: the answer to one
/// reply.
fn with_joined_results(messages: Vec<InputMessage>) -> Vec<InputMessage> {
    let has_only_results = |message: &InputMessage| match &message.content {
        Content::Parts(parts) => parts.iter().all(|p| matches!(p, Part::ToolResult { .. })),
        Content::Text(_) => false,
    };
    let mut joined: Vec<InputMessage> = Vec::with_capacity(messages.len());
    for message in messages {
        let (true, Some(before)) = (
            has_only_results(&message),
            joined.last_mut().filter(|before| has_only_results(before)),
        ) else {
            joined.push(message);
            continue;
        };
        if let (Content::Parts(parts), Content::Parts(more)) =
            (&mut before.content, message.content)
        {
            parts.extend(more);
            before.id = message.id.or(before.id.take());
        }
    }
    joined
}

/// A call as OpenAI's protocol has it; the arguments are a text.
fn function_call(value: &Value) -> Option<Part> {
    let text = |name: &str| Some(value["function"][name].as_str()?.to_owned());
    let arguments = text("arguments")?;
    Some(Part::ToolCall {
        call_id: value["id"].as_str()?.to_owned(),
        name: text("name")?,
        arguments: serde_json::from_str(&arguments).unwrap_or(Value::String(arguments)),
    })
}

/// A tool that the client runs: its name, what the model is told of it, and the JSON Schema of its
/// arguments under this name.
pub(super) fn client_tool(
    checker: &mut Checker,
    object: &Map<String, Value>,
    schema: &'static str,
) -> Option<ToolSpec> {
    let string = |c: &mut Checker, v: &Value| c.string(v).map(str::to_owned);
    let name = checker.required(object, "name", string)?;
    let described = checker.optional(object, "description", string);
    let parameters = checker.optional(object, schema, |c, v| c.dict(v).map(Value::Object));
    Some(ToolSpec::new(
        name,
        described.unwrap_or_default(),
        parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}})),
    ))
}

/// The tools that the client runs, each read by `tool`.
pub(super) fn client_tools(
    checker: &mut Checker,
    object: &Map<String, Value>,
    tool: impl Fn(&mut Checker, &Map<String, Value>) -> Option<ToolSpec>,
) -> Vec<ToolSpec> {
    let tools = checker.optional(object, "tools", |c, v| {
        let mut tools = Vec::new();
        for (i, value) in c.list(v)?.iter().enumerate() {
            if c.is_full() {
                break;
            }
            tools.extend(c.within(i, |c| c.model(value).and_then(|object| tool(c, object))));
        }
        Some(tools)
    });
    tools.unwrap_or_default()
}

/// Parts that are only text are a text.
pub(super) fn simplified(parts: Vec<Part>) -> Content {
    if parts.iter().all(|part| part.as_text().is_some()) {
        Content::Text(parts.iter().filter_map(Part::as_text).collect())
    } else {
        Content::Parts(parts)
    }
}

pub(super) fn text_part(checker: &mut Checker, object: &Map<String, Value>) -> Option<Vec<Part>> {
    let text = checker.required(object, "text", |c, v| c.string(v).map(str::to_owned))?;
    Some(vec![Part::Text { text }])
}

/// The `type` of a part.
pub(super) fn kind<'a>(checker: &mut Checker, object: &'a Map<String, Value>) -> Option<&'a str> {
    match object.get("type") {
        Some(value) => checker.within("type", |c| c.string(value)),
        None => checker.required(object, "type", |_, _| None),
    }
}

/// Notes a kind of part that is not understood.
pub(super) fn unknown_part(checker: &mut Checker, object: &Map<String, Value>, known: &str) {
    let input = object.get("type").cloned().unwrap_or_default();
    checker.within("type", |c| {
        c.fail_value(
            &format!("this kind of part is not supported; send {known}"),
            &input,
        );
    });
}

/// The file that a URL of this server names, whatever host it is called by.
pub(super) fn own_file(url: &str) -> Option<String> {
    let (before, id) = url.split_once("/api/files/")?;
    let is_id =
        |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_host =
        before.is_empty() || before.starts_with("http://") || before.starts_with("https://");
    (is_host && is_id(id)).then(|| id.to_owned())
}
