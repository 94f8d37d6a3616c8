//! What `useChat` of the AI SDK posts: its whole transcript, of which the last message counts.

use serde_json::{Map, Value};
use tutor_core::message::Part;
use tutor_core::session::{Branch, MessageRange};
use tutor_core::turn::InputMessage;
use tutor_core::{
    ChatRequest, Content, Message, MessageId, Messages, Preferences, Role, SessionId, Tutor,
};

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
                None => c.required(object, "messages", |c, v| messages(c, v, bounds)),
            };
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
                messages: messages?,
                preferences: preferences?,
                regenerates: trigger.unwrap_or(false),
                message_id: message_id.and_then(|id| id.parse().ok()),
            })
        });
        checker.finish(read)
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
            request.preferences = self.preferences;
            request.streamed = true;
            return request;
        }
        let mut request = ChatRequest::default().detached();
        (request.edit, request.parent_id, request.messages) = history.place(self.messages).await;
        request.session_id = Some(self.session);
        request.create_session = true;
        request.preferences = self.preferences;
        request.streamed = true;
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
        if let Some(id) = &last.id
            && *id != head.id
            && self.message(id).await.is_some()
        {
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
            parts.extend(c.within(i, |c| part(c, value)));
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

/// Texts that follow each other are one.
fn simplified(parts: Vec<Part>) -> Content {
    if parts.iter().all(|part| part.as_text().is_some()) {
        Content::Text(parts.iter().filter_map(Part::as_text).collect())
    } else {
        Content::Parts(parts)
    }
}

/// A part that the tutor is to see; `None` for what is only the client's.
fn part(c: &mut Checker, value: &Value) -> Option<Part> {
    let object: &Map<String, Value> = c.model(value)?;
    let string = |c: &mut Checker, v: &Value| c.string(v).map(str::to_owned);
    match object.get("type").and_then(Value::as_str)? {
        "text" => c
            .required(object, "text", string)
            .map(|text| Part::Text { text }),
        "file" => {
            let url = c.required(object, "url", string)?;
            let media_type = c.required(object, "mediaType", string)?;
            if media_type != "image" && !media_type.starts_with("image/") {
                c.within("mediaType", |c| {
                    c.fail_value("only images can be sent here", &Value::from(media_type));
                });
                return None;
            }
            let exact = !media_type.ends_with('*') && media_type != "image";
            Some(Part::Image {
                url,
                media_type: exact.then_some(media_type),
            })
        }
        // Reasoning, steps, sources, data and tools of replies: the stored history has them.
        _ => None,
    }
}
