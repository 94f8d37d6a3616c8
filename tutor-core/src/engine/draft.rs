//! The reply of a running turn, as far as it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::hub::LiveTurn;
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
/// A turn whose model calls tools has several completions; the draft is all of them.
pub(super) struct Draft {
    turn: Turn,
    /// The provider and the model that are asked, whoever answers.
    wanted: (String, String),
    catalog: Arc<Catalog>,
    /// The text, and calls and results, of all completions, in order. Neighboring texts are one
    /// part.
    parts: Vec<Part>,
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

impl Draft {
    /// Nothing yet.
    pub(super) fn new(turn: &Turn, catalog: Arc<Catalog>, asked: Instant) -> Self {
        Self {
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
                    // Some models send nothing for a tool without parameters.
                    Err(_) if arguments.trim().is_empty() => serde_json::json!({}),
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
            Delta::Restart { reason } => self.restart(live, reason),
            // The reply tells who wrote it; `turn.started` told who was asked.
            Delta::AnsweredBy { provider, model } => {
                self.turn.provider = provider;
                self.turn.model = model;
            }
            Delta::Notice(notice) => self.publish(live, Event::Notice(notice)),
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
    pub(super) fn restart(&mut self, live: &LiveTurn, reason: String) {
        let kept = self.parts[..self.mark].to_vec();
        self.attempt += 1;
        let attempt = self.attempt;
        self.publish(live, Event::AttemptRestarted { attempt, reason });
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
                    self.parts.push(replay);
                    continue;
                }
                Part::Image { .. } | Part::File { .. } => continue,
            };
            self.publish(live, event);
        }
        self.mark = self.parts.len();
    }

    /// Keeps what the provider wants back with the results of the calls of this completion: before
    /// the calls, in place of what it wanted before.
    fn set_replay(&mut self, replay: Part) {
        let mut said = self.parts.split_off(self.mark);
        said.retain(|part| !matches!(part, Part::Replay { .. }));
        let is_call = |part: &Part| matches!(part, Part::ToolCall { .. });
        let at = said.iter().position(is_call).unwrap_or(said.len());
        said.insert(at, replay);
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
        let received = || super::tokens::count(&text(&self.parts)) as u64;
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
            let answers =
                |part: &Part| matches!(part, Part::ToolResult { call_id, .. } if call_id == id);
            said.iter().any(answers)
        };
        said.iter()
            .filter_map(|part| match part {
                Part::ToolCall {
                    call_id,
                    name,
                    arguments,
                } if !is_answered(call_id) => {
                    Some((call_id.clone(), name.clone(), arguments.clone()))
                }
                _ => None,
            })
            .collect()
    }

    /// The text of the current completion.
    pub(super) fn current_text(&self) -> String {
        text(&self.parts[self.mark..])
    }

    /// What the model has said and was answered so far, as it is told again.
    pub(super) fn prompt(&self) -> Vec<PromptMessage> {
        super::context::reply_prompt(&self.parts)
    }

    /// Publishes an event and keeps what it says.
    pub(super) fn publish(&mut self, live: &LiveTurn, event: Event) {
        self.trace.record(&event, || text(&self.parts));
        if self.first_token.is_none()
            && matches!(
                event,
                Event::TextDelta { .. } | Event::ReasoningDelta { .. } | Event::ToolCall { .. }
            )
        {
            self.first_token = Some(self.asked.elapsed());
        }
        let bytes = match &event {
            Event::TextDelta { text } => {
                self.text_len += text.len();
                match self.parts.get_mut(self.mark..).and_then(<[_]>::last_mut) {
                    Some(Part::Text { text: before }) => before.push_str(text),
                    _ => self.parts.push(Part::Text { text: text.clone() }),
                }
                text.len()
            }
            Event::ReasoningDelta { text } => text.len(),
            Event::ToolCall {
                call_id,
                name,
                arguments,
            } => {
                self.parts.push(Part::ToolCall {
                    call_id: call_id.clone(),
                    name: name.clone(),
                    arguments: arguments.clone(),
                });
                name.len() + arguments.to_string().len()
            }
            Event::ToolResult {
                call_id,
                result,
                is_error,
            } => {
                self.parts.push(Part::ToolResult {
                    call_id: call_id.clone(),
                    name: self.called(call_id),
                    result: result.clone(),
                    is_error: *is_error,
                });
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
        live.publish(event, bytes);
    }

    /// The tool that was called last under this id.
    fn called(&self, id: &str) -> String {
        let calls = self.parts.iter().rev();
        let name = calls.filter_map(|part| match part {
            Part::ToolCall { call_id, name, .. } if call_id == id => Some(name.clone()),
            _ => None,
        });
        name.take(1).collect()
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
        let has_said = |part: &Part| !matches!(part, Part::Replay { .. });
        self.parts
            .iter()
            .any(has_said)
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
            .all(|part| part.as_text().is_some() || matches!(part, Part::Replay { .. }));
        let content = if is_text {
            Content::Text(text(&self.parts))
        } else {
            Content::Parts(self.parts.clone())
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

/// The text among these parts.
fn text(parts: &[Part]) -> String {
    parts.iter().filter_map(Part::as_text).collect()
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
