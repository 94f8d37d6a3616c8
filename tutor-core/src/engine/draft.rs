//! The reply of a running turn, as far as it is.

use super::hub::LiveTurn;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::limits::Limits;
use crate::message::{
    Audience, Author, Content, FinishReason, Message, MessageStatus, Metadata, Part, Role, Usage,
};
use crate::provider::Delta;
use crate::time::Timestamp;
use crate::trace::Trace;
use crate::turn::Turn;

/// Where a reply's metadata has the provider's own name for the exchange.
const REQUEST_ID: &str = "provider_request_id";

/// What has arrived, and how it was streamed.
pub(super) struct Draft {
    turn: Turn,
    pub(super) text: String,
    calls: Vec<Part>,
    /// What the provider wants back with the results of its calls.
    replay: Option<Part>,
    request_id: Option<String>,
    pub(super) trace: Trace,
    pub(super) usage: Option<Usage>,
    attempt: u32,
    events: usize,
    /// Bytes of everything that arrived, also of what a restart made void.
    bytes: usize,
    dirty: bool,
}

impl Draft {
    /// Nothing yet.
    pub(super) fn new(turn: &Turn) -> Self {
        Self {
            turn: turn.clone(),
            text: String::new(),
            calls: Vec::new(),
            replay: None,
            request_id: None,
            trace: Trace::default(),
            usage: None,
            attempt: 1,
            events: 0,
            bytes: 0,
            dirty: false,
        }
    }

    /// True if something has arrived since the last [`saved`](Self::saved).
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Notes that what there is is being saved.
    pub(super) fn saved(&mut self) {
        self.dirty = false;
    }

    /// Takes a step of the provider; the reason if it was the last one.
    pub(super) fn take(&mut self, live: &LiveTurn, delta: Delta) -> Option<FinishReason> {
        match delta {
            Delta::Text(text) | Delta::Refusal(text) => {
                if !text.is_empty() {
                    self.publish(live, Event::TextDelta { text });
                }
            }
            Delta::Reasoning(text) => {
                if !text.is_empty() {
                    self.publish(live, Event::ReasoningDelta { text });
                }
            }
            Delta::ToolCall {
                id,
                name,
                arguments,
            } => {
                let arguments = match serde_json::from_str(&arguments) {
                    Ok(value @ serde_json::Value::Object(_)) => value,
                    Ok(_) | Err(_) => serde_json::Value::String(arguments),
                };
                self.publish(
                    live,
                    Event::ToolCall {
                        call_id: id,
                        name,
                        arguments,
                    },
                );
            }
            Delta::Restart { reason } => {
                self.attempt += 1;
                let attempt = self.attempt;
                self.publish(live, Event::AttemptRestarted { attempt, reason });
            }
            // The reply tells who wrote it; `turn.started` told who was asked.
            Delta::AnsweredBy { provider, model } => {
                self.turn.provider = provider;
                self.turn.model = model;
            }
            Delta::Notice(notice) => self.publish(live, Event::Notice(notice)),
            Delta::Usage(usage) => self.usage = Some(usage),
            Delta::Heartbeat => {}
            Delta::Accepted { request_id } => self.request_id = Some(request_id),
            Delta::Replay { protocol, data } => {
                self.bytes += data.to_string().len();
                self.replay = Some(Part::Replay {
                    protocol: protocol.to_owned(),
                    data,
                });
            }
            Delta::Finished { reason } => return Some(reason),
        }
        None
    }

    /// Publishes an event and keeps what it says.
    pub(super) fn publish(&mut self, live: &LiveTurn, event: Event) {
        self.trace.record(&event, &self.text);
        let bytes = match &event {
            Event::TextDelta { text } => {
                self.text.push_str(text);
                text.len()
            }
            Event::ReasoningDelta { text } => text.len(),
            Event::ToolCall {
                call_id,
                name,
                arguments,
            } => {
                self.calls.push(Part::ToolCall {
                    call_id: call_id.clone(),
                    name: name.clone(),
                    arguments: arguments.clone(),
                });
                name.len() + arguments.to_string().len()
            }
            Event::AttemptRestarted { .. } => {
                self.text.clear();
                self.calls.clear();
                self.replay = None;
                0
            }
            _ => 0,
        };
        self.events += 1;
        self.bytes += bytes;
        self.dirty = true;
        live.publish(event, bytes);
    }

    /// Refuses a reply that has grown beyond its limits.
    pub(super) fn check(&self, limits: &Limits) -> Result<()> {
        if self.bytes > limits.max_reply_bytes {
            return Err(too_large("bytes", limits.max_reply_bytes));
        }
        if self.events > limits.max_events {
            return Err(too_large("events", limits.max_events));
        }
        Ok(())
    }

    /// The reply as a message; `None` if nothing has arrived.
    pub(super) fn message(
        &self,
        status: MessageStatus,
        finish_reason: Option<FinishReason>,
        timestamp: Timestamp,
    ) -> Option<Message> {
        let is_empty = self.text.is_empty() && self.calls.is_empty();
        (!is_empty).then(|| self.whole(status, finish_reason, timestamp))
    }

    /// The reply as a message, also if it is empty.
    pub(super) fn whole(
        &self,
        status: MessageStatus,
        finish_reason: Option<FinishReason>,
        timestamp: Timestamp,
    ) -> Message {
        let text = (!self.text.is_empty()).then(|| Part::Text {
            text: self.text.clone(),
        });
        let content = if self.calls.is_empty() {
            Content::Text(self.text.clone())
        } else {
            let said = text.into_iter().chain(self.replay.clone());
            Content::Parts(said.chain(self.calls.iter().cloned()).collect())
        };
        let mut metadata = Metadata::new();
        if let Some(id) = &self.request_id {
            metadata.insert(REQUEST_ID.to_owned(), id.clone().into());
        }
        Message {
            id: self.turn.reply_message_id.clone(),
            session_id: self.turn.session_id.clone(),
            parent_id: Some(self.turn.user_message_id.clone()),
            turn_id: Some(self.turn.id.clone()),
            role: Role::Assistant,
            content,
            status,
            author: Author::Tutor,
            visible_to: Audience::everyone(),
            timestamp,
            provider: Some(self.turn.provider.clone()),
            model: Some(self.turn.model.clone()),
            usage: self.usage,
            finish_reason,
            metadata,
        }
    }
}

fn too_large(what: &str, max: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the reply has more than {max} {what}"),
    )
}
