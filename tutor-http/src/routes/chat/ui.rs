//! What `useChat` of the AI SDK posts: its whole transcript, of which the last message counts.

use serde_json::{Map, Value};
use tutor_core::message::Part;
use tutor_core::session::{Branch, MessageRange};
use tutor_core::turn::{InputMessage, fingerprint};
use tutor_core::{
    ChatRequest, Content, Error, Message, MessageId, Messages, Preferences, Role, SessionId,
    ToolSpec, Tutor,
};

use super::super::compat::{client_tool, client_tools, list, own_file, said, simplified};
use super::request::preferences;
use crate::bounds::Bounds;
use crate::error::ApiError;
use crate::validate::Checker;

/// True if the body is one of `useChat`.
pub(super) fn is_ui(body: &Value) -> bool {
    let has_parts = |messages: &Vec<Value>| messages.iter().any(|m| m.get("parts").is_some());
    body.get("trigger").is_some()
        || body
            .get("messages")
            .and_then(Value::as_array)
            .is_some_and(has_parts)
        || (body.get("id").is_some() && body.get("message").is_some())
}

/// A body of `useChat`.
#[derive(Debug)]
pub(super) struct UiBody {
    session: SessionId,
    messages: Vec<InputMessage>,
    preferences: Preferences,
    regenerates: bool,
    /// The reply to write again; absent for the last one.
    message_id: Option<MessageId>,
    /// What the app runs itself.
    tools: Vec<ToolSpec>,
}

impl UiBody {
    /// Reads a body.
    ///
    /// # Errors
    /// The documented 422, with everything that is wrong.
    pub(super) fn read(
        body: &Value,
        named: Option<SessionId>,
        bounds: &Bounds,
    ) -> Result<Self, ApiError> {
        let mut checker = Checker::new("body");
        let read = checker.model(body).and_then(|object| {
            let c = &mut checker;
            let id = |c: &mut Checker, id: &Value| c.parsed(id, str::parse);
            // The app's own fields come beside the SDK's.
            let session = match named.or_else(|| c.optional(object, "session_id", id)) {
                Some(session) => Some(session),
                None => c.required(object, "id", id),
            };
            let messages = match object.get("message") {
                Some(one) => c
                    .within("message", |c| message(c, one, bounds))
                    .map(|m| vec![m]),
                None => c.required(object, "messages", |c, v| {
                    list(c, v, |c, v| message(c, v, bounds))
                }),
            };
            let tools = tools(c, object);
            let preferences = match object.get("preferences") {
                Some(value) => c.within("preferences", |c| preferences(c, value)),
                None => Some(Preferences::default()),
            };
            let trigger = c.optional(object, "trigger", |c, v| match v.as_str() {
                Some("submit-message" | "resume-stream") => Some(false),
                Some("regenerate-message") => Some(true),
                _ => {
                    c.fail_value("a trigger is submit-message or regenerate-message", v);
                    None
                }
            });
            let message_id = object.get("messageId").and_then(Value::as_str);
            Some(Self {
                session: session?,
                messages: answered(messages?),
                tools,
                preferences: preferences?,
                regenerates: trigger.unwrap_or(false),
                message_id: message_id.and_then(|id| id.parse().ok()),
            })
        });
        checker.finish(read)
    }

    /// What is asked, whatever is stored.
    pub(super) fn fingerprint(&self) -> u64 {
        fingerprint(&(
            &self.session,
            said(&self.messages),
            self.preferences.to_map(),
            self.regenerates,
            &self.message_id,
            &self.tools,
        ))
    }

    /// What the engine is asked for, given what is stored already.
    pub(super) async fn request(self, tutor: &Tutor) -> ChatRequest {
        let history = History {
            tutor,
            session: &self.session,
        };
        if self.regenerates
            && let Some(reply) = history.reply_to_replace(self.message_id.as_ref()).await
        {
            let mut request = ChatRequest::regenerate(self.session, reply).detached();
            request.client_tools = self.tools;
            request.preferences = self.preferences;
            request.streamed = true;
            return request;
        }
        let mut request = ChatRequest::default().detached();
        (request.edit, request.parent_id, request.messages) = history.place(self.messages).await;
        request.session_id = Some(self.session);
        request.client_tools = self.tools;
        request.create_session = true;
        request.preferences = self.preferences;
        request.streamed = true;
        request
    }
}

/// What `useChat` posts, for a host that has routes of its own: which message of the transcript is
/// new, edited or to be answered anew, and what the tools of the page gave.
///
/// Its tools and preferences are left aside: what a model may do is the host's to say.
#[derive(Debug)]
pub struct UiRequest(UiBody);

impl UiRequest {
    /// Reads a body. `session` is the conversation, if not the one that the body names as `id`.
    ///
    /// # Errors
    /// `invalid_input`, with everything that is wrong.
    pub fn read(body: &Value, session: Option<SessionId>) -> Result<Self, Error> {
        let bounds = Bounds {
            // The engine has a bound of its own.
            max_message_chars: usize::MAX,
            ..Bounds::default()
        };
        match UiBody::read(body, session, &bounds) {
            Ok(body) => Ok(Self(body)),
            Err(error) => Err(Error::invalid_input(error.message().into_owned())),
        }
    }

    /// What the engine is asked for, given what is stored already: as `options` say, about what the
    /// body says.
    pub async fn request(self, tutor: &Tutor, options: ChatRequest) -> ChatRequest {
        let asked = self.0.request(tutor).await;
        let mut request = options;
        request.session_id = asked.session_id;
        request.create_session = asked.create_session;
        request.messages = asked.messages;
        request.parent_id = asked.parent_id;
        request.edit = asked.edit;
        request.regenerate = asked.regenerate;
        request
    }
}

/// What is stored of a conversation. The client never says which message it edited: that shows by
/// comparing ids.
struct History<'a> {
    tutor: &'a Tutor,
    session: &'a SessionId,
}

type Place = (Option<MessageId>, Option<MessageId>, Vec<InputMessage>);

impl History<'_> {
    async fn message(&self, id: &MessageId) -> Option<Message> {
        let query = Messages {
            limit: 1,
            branch: Branch::Leaf(id.clone()),
            range: MessageRange::Latest,
        };
        // Neither a conversation nor a message that is not there is an error here.
        let page = self.tutor.messages(self.session, query).await.ok()?;
        page.items.into_iter().next_back()
    }

    async fn head(&self) -> Option<Message> {
        let page = self
            .tutor
            .messages(self.session, Messages::latest(1))
            .await
            .ok()?;
        page.items.into_iter().next_back()
    }

    /// The reply that is to be written again: the named one, or the last one. `None` if the last
    /// message was not answered: then it is asked again.
    async fn reply_to_replace(&self, named: Option<&MessageId>) -> Option<MessageId> {
        let reply = match named {
            Some(id) => match self.message(id).await {
                Some(message) => Some(message),
                None => self.head().await,
            },
            None => self.head().await,
        };
        reply.filter(|m| m.role == Role::Assistant).map(|m| m.id)
    }

    /// Where the last message belongs: which message it edits, or which one it follows if not the
    /// head, and what is to be sent.
    async fn place(&self, mut messages: Vec<InputMessage>) -> Place {
        let Some(head) = self.head().await else {
            return (None, None, messages);
        };
        let Some(mut last) = messages.pop() else {
            return (None, None, messages);
        };
        if let Content::Parts(parts) = &mut last.content
            && last.role == Role::User
        {
            // The client repeats results of tools that the server ran, or heard of before.
            let waits = |call: &str| may_answer(&head.content, call);
            parts.retain(
                |part| !matches!(part, Part::ToolResult { call_id, .. } if !waits(call_id)),
            );
        }
        // Of the head the engine finds out by itself whether it is edited or only said again.
        if let Some(id) = &last.id
            && *id != head.id
            && let Some(stored) = self.message(id).await
        {
            let is_head = head.role == Role::User
                && head.parent_id == stored.parent_id
                && head.content.says_same(&last.content);
            if is_head {
                // As it was edited before, without an answer.
                last.id = Some(head.id);
                messages.push(last);
                return (None, None, messages);
            }
            // The same id with other words: the message is edited, and the new one needs an id.
            let edited = last.id.take();
            return (edited, None, vec![last]);
        }
        let before = messages.last().and_then(|m| m.id.clone());
        if let Some(before) = before
            && before != head.id
            && last.id.as_ref() != Some(&head.id)
            && let Some(Message {
                role: Role::Assistant,
                ..
            }) = self.message(&before).await
        {
            // The client went back in its history.
            return (None, Some(before), vec![last]);
        }
        messages.push(last);
        (None, None, messages)
    }
}

/// True if a result of this call can follow the head, or is what nobody answered in it: a reply has
/// asked for it and has no result, or it is all that was said.
fn may_answer(head: &Content, call: &str) -> bool {
    let Content::Parts(parts) = head else {
        return false;
    };
    let asks = |p: &Part| matches!(p, Part::ToolCall { call_id, .. } if call_id == call);
    let answers = |p: &Part| matches!(p, Part::ToolResult { call_id, .. } if call_id == call);
    parts.iter().any(asks) != parts.iter().any(answers)
}

/// The transcript with the results of its last reply, if it ends with one, as a message of their
/// own: they are what the learner's side says now.
fn answered(mut messages: Vec<InputMessage>) -> Vec<InputMessage> {
    let results = match messages.last_mut() {
        Some(InputMessage {
            role: Role::Assistant,
            content: Content::Parts(parts),
            ..
        }) => {
            let is_result = |part: &Part| matches!(part, Part::ToolResult { .. });
            let (results, said) = parts.drain(..).partition(is_result);
            *parts = said;
            results
        }
        _ => Vec::new(),
    };
    if !results.is_empty() {
        messages.push(InputMessage::user(Content::Parts(results)));
    }
    messages
}

/// The tools that the app runs: a list, or an object of them by their names.
fn tools(c: &mut Checker, object: &Map<String, Value>) -> Vec<ToolSpec> {
    let schema = |tool: &Map<String, Value>| match tool.contains_key("inputSchema") {
        true => "inputSchema",
        false => "parameters",
    };
    let Some(Value::Object(named)) = object.get("tools") else {
        return client_tools(c, object, |c, tool| client_tool(c, tool, schema(tool)));
    };
    let read = |c: &mut Checker| {
        let tools = named.iter().filter_map(|(name, tool)| {
            c.within(name.clone(), |c| {
                let mut tool = c.dict(tool)?;
                tool.insert("name".to_owned(), Value::from(name.as_str()));
                client_tool(c, &tool, schema(&tool))
            })
        });
        tools.collect()
    };
    c.within("tools", read)
}

fn message(c: &mut Checker, value: &Value, bounds: &Bounds) -> Option<InputMessage> {
    let object = c.model(value)?;
    let role = c.required(object, "role", |c, v| match v.as_str() {
        Some("user") => Some(Role::User),
        Some("assistant") => Some(Role::Assistant),
        Some("system") => Some(Role::System),
        _ => {
            c.fail_value("a role is user, assistant or system", v);
            None
        }
    })?;
    let parts = c.required(object, "parts", |c, v| {
        let mut parts = Vec::new();
        for (i, value) in c.list(v)?.iter().enumerate() {
            if c.is_full() {
                break;
            }
            parts.extend(c.within(i, |c| part(c, value)).into_iter().flatten());
        }
        Some(parts)
    })?;
    let content = simplified(parts);
    if role == Role::User && content.text().chars().count() > bounds.max_message_chars {
        let max = bounds.max_message_chars;
        c.fail_value(
            &format!("the text has more than {max} characters"),
            &Value::Null,
        );
    }
    let id = object.get("id").and_then(Value::as_str);
    Some(InputMessage {
        id: id.and_then(|id| id.parse().ok()),
        role,
        content,
    })
}

/// What the tutor is to see of a part: nothing of what is only the client's, and of a tool the
/// call and the result.
fn part(c: &mut Checker, value: &Value) -> Option<Vec<Part>> {
    let object: &Map<String, Value> = c.model(value)?;
    let string = |c: &mut Checker, v: &Value| c.string(v).map(str::to_owned);
    match object.get("type").and_then(Value::as_str)? {
        "text" => c
            .required(object, "text", string)
            .map(|text| vec![Part::Text { text }]),
        "dynamic-tool" => {
            let name = c.required(object, "toolName", string)?;
            tool_part(c, object, &name)
        }
        kind if kind.starts_with("tool-") => tool_part(c, object, &kind["tool-".len()..]),
        "file" => {
            let url = c.required(object, "url", string)?;
            let media_type = c.required(object, "mediaType", string)?;
            let name = c.optional(object, "filename", string);
            let is_image = media_type == "image" || media_type.starts_with("image/");
            let file = own_file(&url);
            if file.is_some() || (!is_image && url.starts_with("data:")) {
                return Some(vec![Part::File {
                    media_type: (file.is_none()).then_some(media_type),
                    file_id: file.unwrap_or(url),
                    name,
                }]);
            }
            if !is_image {
                c.within("url", |c| {
                    let why = "only images can be elsewhere: upload the file, or send its data";
                    c.fail_value(why, &Value::from(url));
                });
                return None;
            }
            let exact = !media_type.ends_with('*') && media_type != "image";
            Some(vec![Part::Image {
                url,
                media_type: exact.then_some(media_type),
            }])
        }
        // Reasoning, steps, sources and data of replies: the stored history has them.
        _ => None,
    }
}

/// The call of a tool, and its result if it is there.
fn tool_part(c: &mut Checker, object: &Map<String, Value>, name: &str) -> Option<Vec<Part>> {
    let string = |c: &mut Checker, v: &Value| c.string(v).map(str::to_owned);
    let call_id = c.required(object, "toolCallId", string)?;
    let result = |result: Value, is_error| Part::ToolResult {
        call_id: call_id.clone(),
        name: name.to_owned(),
        result,
        is_error,
    };
    let result = match object.get("state").and_then(Value::as_str) {
        Some("output-available") => Some(result(
            object.get("output").cloned().unwrap_or_default(),
            false,
        )),
        Some("output-error") => Some(result(
            object.get("errorText").cloned().unwrap_or_default(),
            true,
        )),
        // Still being written.
        Some("input-streaming") => return None,
        _ => None,
    };
    let call = Part::ToolCall {
        call_id: call_id.clone(),
        name: name.to_owned(),
        arguments: object.get("input").cloned().unwrap_or_default(),
    };
    Some([Some(call), result].into_iter().flatten().collect())
}
