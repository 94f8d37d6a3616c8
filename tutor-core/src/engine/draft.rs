//! The reply of a running turn, as far as it is.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::live::LiveTurn;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::limits::Limits;
use crate::message::{
    Audience, Author, Content, FinishReason, Message, MessageStatus, Metadata, Part, Role, Usage,
};
use crate::provider::{Catalog, Delta, PromptMessage};
use crate::time::Timestamp;
use crate::trace::Trace;
use crate::turn::Turn;

/// Where a reply's metadata has the provider's own name for the exchange.
const REQUEST_ID: &str = "provider_request_id";

/// What has arrived, and how it was streamed.
///
/// A turn whose model calls tools has several completions; the draft is all of them. It has no text
/// of its own: that is in the log of the turn, and is put together when it is to be stored.
pub(super) struct Draft {
    live: Arc<LiveTurn>,
    turn: Turn,
    /// The provider and the model that are asked, whoever answers.
    wanted: (String, String),
    catalog: Arc<Catalog>,
    /// What all completions said, asked for and were answered, in order.
    parts: Vec<Said>,
    /// Bytes of the text among the parts.
    text_len: usize,
    /// Where the current completion begins among the parts.
    mark: usize,
    request_id: Option<String>,
    pub(super) trace: Trace,
    /// What the earlier completions consumed.
    spent: Option<Usage>,
    /// What the current one consumed so far.
    usage: Option<Usage>,
    attempt: u32,
    events: usize,
    /// Bytes of everything that arrived, also of what a restart made void.
    bytes: usize,
    dirty: bool,
    /// When the provider was asked.
    asked: Instant,
    first_token: Option<Duration>,
}

/// A part of the reply.
#[derive(Clone)]
enum Said {
    /// The text of the `text.delta`s among these events of the log. Neighbors are one part.
    Text(Range<usize>),
    /// Anything else.
    Other(Part),
}

impl Draft {
    /// Nothing yet of what `live` will tell.
    pub(super) fn new(
        live: Arc<LiveTurn>,
        turn: &Turn,
        catalog: Arc<Catalog>,
        asked: Instant,
    ) -> Self {
        Self {
            live,
            turn: turn.clone(),
            wanted: (turn.provider.clone(), turn.model.clone()),
            catalog,
            parts: Vec::new(),
            text_len: 0,
            mark: 0,
            request_id: None,
            trace: Trace::default(),
            spent: None,
            usage: None,
            attempt: 1,
            events: 0,
            bytes: 0,
            dirty: false,
            asked,
            first_token: None,
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

    /// Bytes of the reply's text.
    pub(super) fn text_len(&self) -> usize {
        self.text_len
    }

    /// Takes a step of the provider; the reason if it was the last one.
    pub(super) fn take(&mut self, delta: Delta) -> Option<FinishReason> {
        match delta {
            Delta::Text(text) | Delta::Refusal(text) => {
                if !text.is_empty() {
                    self.publish(Event::TextDelta { text });
                }
            }
            Delta::Reasoning(text) => {
                if !text.is_empty() {
                    self.publish(Event::ReasoningDelta { text });
                }
            }
            Delta::ToolCall {
                id,
                name,
                arguments,
            } => {
                let arguments = match serde_json::from_str(&arguments) {
                    Ok(value @ serde_json::Value::Object(_)) => value,
                    // Some models send nothing for a tool without parameters.
                    Err(_) if arguments.trim().is_empty() => serde_json::json!({}),
                    Ok(_) | Err(_) => serde_json::Value::String(arguments),
                };
                self.publish(Event::ToolCall {
                    call_id: id,
                    name,
                    arguments,
                });
            }
            Delta::Restart { reason } => self.restart(reason),
            // The reply tells who wrote it; `turn.started` told who was asked.
            Delta::AnsweredBy { provider, model } => {
                self.turn.provider = provider;
                self.turn.model = model;
            }
            Delta::Notice(notice) => self.publish(Event::Notice(notice)),
            Delta::Usage(mut usage) => {
                let cost = || self.catalog.cost(&self.turn.model, &usage);
                usage.cost_usd = usage.cost_usd.or_else(cost);
                // Its only use is the price.
                usage.cache_write_long_tokens = None;
                self.usage = Some(usage);
            }
            Delta::Heartbeat => {}
            Delta::Accepted { request_id } => self.request_id = Some(request_id),
            Delta::Replay { protocol, data } => {
                self.bytes += data.to_string().len();
                let replay = Part::Replay {
                    protocol: protocol.into_owned(),
                    data,
                };
                self.set_replay(replay);
            }
            Delta::Finished { reason } => return Some(reason),
        }
        None
    }

    /// Makes what the current completion said void. The event makes everything void, so what
    /// earlier completions said and tools answered is told again behind it.
    pub(super) fn restart(&mut self, reason: String) {
        let kept = self.written(&self.parts[..self.mark]);
        self.attempt += 1;
        let attempt = self.attempt;
        self.publish(Event::AttemptRestarted { attempt, reason });
        for part in kept {
            let event = match part {
                Part::Text { text } => Event::TextDelta { text },
                Part::ToolCall {
                    call_id,
                    name,
                    arguments,
                } => Event::ToolCall {
                    call_id,
                    name,
                    arguments,
                },
                Part::ToolResult {
                    call_id,
                    result,
                    is_error,
                    ..
                } => Event::ToolResult {
                    call_id,
                    result,
                    is_error,
                },
                // No event tells of it.
                replay @ Part::Replay { .. } => {
                    self.parts.push(Said::Other(replay));
                    continue;
                }
                Part::Image { .. } | Part::File { .. } => continue,
            };
            self.publish(event);
        }
        self.mark = self.parts.len();
    }

    /// Keeps what the provider wants back with the results of the calls of this completion: before
    /// the calls, in place of what it wanted before.
    fn set_replay(&mut self, replay: Part) {
        let mut said = self.parts.split_off(self.mark);
        said.retain(|part| !part.is_replay());
        let is_call = |part: &Said| matches!(part, Said::Other(Part::ToolCall { .. }));
        let at = said.iter().position(is_call).unwrap_or(said.len());
        said.insert(at, Said::Other(replay));
        self.parts.append(&mut said);
    }

    /// Begins another completion behind this one, which is kept.
    pub(super) fn next_completion(&mut self) {
        self.mark = self.parts.len();
        self.spent = self.usage();
        self.usage = None;
        // Whoever answered instead need not answer again.
        (self.turn.provider, self.turn.model) = self.wanted.clone();
    }

    /// What all completions consumed.
    pub(super) fn usage(&self) -> Option<Usage> {
        match (self.spent, self.usage) {
            (Some(spent), Some(usage)) => Some(sum(spent, usage)),
            (spent, usage) => spent.or(usage),
        }
    }

    /// What all completions consumed, for an account: by estimate where no provider said, given
    /// about how many tokens the first one was sent.
    pub(super) fn spent(&self, input_tokens: u64) -> Usage {
        let mut usage = self.usage().unwrap_or_default();
        let received = || super::tokens::count(&text(&self.live, &self.parts)) as u64;
        usage.input_tokens = usage.input_tokens.or(Some(input_tokens));
        usage.output_tokens = usage.output_tokens.or_else(|| Some(received()));
        let cost = || self.catalog.cost(&self.turn.model, &usage);
        usage.cost_usd = usage.cost_usd.or_else(cost);
        usage
    }

    /// How long the first word took.
    pub(super) fn first_token(&self) -> Option<Duration> {
        self.first_token
    }

    /// The calls of the current completion that have no result yet, as `(id, name, arguments)`.
    pub(super) fn open_calls(&self) -> Vec<(String, String, serde_json::Value)> {
        let said = &self.parts[self.mark..];
        let is_answered = |id: &str| {
            let answers = |part: &Said| matches!(part, Said::Other(Part::ToolResult { call_id, .. }) if call_id == id);
            said.iter().any(answers)
        };
        said.iter()
            .filter_map(|part| match part {
                Said::Other(Part::ToolCall {
                    call_id,
                    name,
                    arguments,
                }) if !is_answered(call_id) => {
                    Some((call_id.clone(), name.clone(), arguments.clone()))
                }
                _ => None,
            })
            .collect()
    }

    /// The text of the current completion.
    pub(super) fn current_text(&self) -> String {
        text(&self.live, &self.parts[self.mark..])
    }

    /// What the model has said and was answered so far, as it is told again.
    pub(super) fn prompt(&self) -> Vec<PromptMessage> {
        super::context::reply_prompt(&self.written(&self.parts))
    }

    /// Publishes an event and keeps what it says.
    pub(super) fn publish(&mut self, event: Event) {
        self.trace.record(&event, || text(&self.live, &self.parts));
        if self.first_token.is_none()
            && matches!(
                event,
                Event::TextDelta { .. } | Event::ReasoningDelta { .. } | Event::ToolCall { .. }
            )
        {
            self.first_token = Some(self.asked.elapsed());
        }
        let mut is_text = false;
        let bytes = match &event {
            Event::TextDelta { text } => {
                is_text = true;
                self.text_len += text.len();
                text.len()
            }
            Event::ReasoningDelta { text } => text.len(),
            Event::ToolCall {
                call_id,
                name,
                arguments,
            } => {
                self.parts.push(Said::Other(Part::ToolCall {
                    call_id: call_id.clone(),
                    name: name.clone(),
                    arguments: arguments.clone(),
                }));
                name.len() + arguments.to_string().len()
            }
            Event::ToolResult {
                call_id,
                result,
                is_error,
            } => {
                self.parts.push(Said::Other(Part::ToolResult {
                    call_id: call_id.clone(),
                    name: self.called(call_id),
                    result: result.clone(),
                    is_error: *is_error,
                }));
                result.to_string().len()
            }
            Event::AttemptRestarted { .. } => {
                self.text_len = 0;
                self.parts.clear();
                self.mark = 0;
                0
            }
            _ => 0,
        };
        self.events += 1;
        self.bytes += bytes;
        self.dirty = true;
        let at = self.live.publish(event, bytes);
        if is_text {
            match self.parts.get_mut(self.mark..).and_then(<[_]>::last_mut) {
                Some(Said::Text(events)) => events.end = at + 1,
                _ => self.parts.push(Said::Text(at..at + 1)),
            }
        }
    }

    /// The tool that was called last under this id.
    fn called(&self, id: &str) -> String {
        let calls = self.parts.iter().rev();
        let name = calls.filter_map(|part| match part {
            Said::Other(Part::ToolCall { call_id, name, .. }) if call_id == id => {
                Some(name.clone())
            }
            _ => None,
        });
        name.take(1).collect()
    }

    /// These parts with their texts.
    fn written(&self, parts: &[Said]) -> Vec<Part> {
        let write = |part: &Said| match part {
            Said::Text(events) => Part::Text {
                text: self.live.text(events.clone()),
            },
            Said::Other(part) => part.clone(),
        };
        parts.iter().map(write).collect()
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
        self.parts
            .iter()
            .any(|part| !part.is_replay())
            .then(|| self.whole(status, finish_reason, timestamp))
    }

    /// The reply as a message, also if it is empty.
    pub(super) fn whole(
        &self,
        status: MessageStatus,
        finish_reason: Option<FinishReason>,
        timestamp: Timestamp,
    ) -> Message {
        let is_text = self
            .parts
            .iter()
            .all(|part| matches!(part, Said::Text(_)) || part.is_replay());
        let content = if is_text {
            Content::Text(text(&self.live, &self.parts))
        } else {
            Content::Parts(self.written(&self.parts))
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
            usage: self.usage(),
            finish_reason,
            metadata,
        }
    }
}

impl Said {
    fn is_replay(&self) -> bool {
        matches!(self, Self::Other(Part::Replay { .. }))
    }
}

/// The text among these parts.
fn text(live: &LiveTurn, parts: &[Said]) -> String {
    let mut texts = parts.iter().filter_map(|part| match part {
        Said::Text(events) => Some(live.text(events.clone())),
        Said::Other(_) => None,
    });
    // Nearly always there is one, which is as large as it has to be.
    let first = texts.next().unwrap_or_default();
    texts.fold(first, |before, next| before + &next)
}

/// What two completions consumed. A figure that one of them does not tell counts as nothing.
fn sum(a: Usage, b: Usage) -> Usage {
    fn add<T: std::ops::Add<Output = T>>(a: Option<T>, b: Option<T>) -> Option<T> {
        match (a, b) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        }
    }
    Usage {
        input_tokens: add(a.input_tokens, b.input_tokens),
        cached_input_tokens: add(a.cached_input_tokens, b.cached_input_tokens),
        cache_write_tokens: add(a.cache_write_tokens, b.cache_write_tokens),
        cache_write_long_tokens: None,
        output_tokens: add(a.output_tokens, b.output_tokens),
        reasoning_tokens: add(a.reasoning_tokens, b.reasoning_tokens),
        cost_usd: add(a.cost_usd, b.cost_usd),
    }
}

fn too_large(what: &str, max: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the reply has more than {max} {what}"),
    )
}
