//! How the events of an ended turn are told again from what is stored: after a restart a replay
//! gives the very events that were streamed.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::{Event, TurnEvent};
use crate::message::{FinishReason, Message};
use crate::turn::{Turn, TurnStatus};

/// The most events that a trace remembers one by one: as many as a turn has, unless its limits say
/// more. The rest of the text is told as one delta.
pub const MAX_TRACE_ITEMS: usize = 200_000;

/// The shape of a turn's events between the first and the terminal one.
///
/// Text that is in the stored reply is not repeated, only how it was cut.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Trace(Vec<Item>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Item {
    /// A `text.delta` of this many bytes of the stored reply.
    Text(u32),
    /// Any other event, as it was.
    Other(Box<Event>),
}

impl Trace {
    /// Notes an event that was published. `text_so_far` gives the reply before this event.
    pub fn record(&mut self, event: &Event, text_so_far: impl FnOnce() -> String) {
        if self.0.len() >= MAX_TRACE_ITEMS {
            return;
        }
        match event {
            // The ends of a turn are told from its record.
            Event::TurnStarted { .. } | Event::TurnFinished { .. } | Event::TurnFailed { .. } => {}
            Event::TextDelta { text } => match u32::try_from(text.len()) {
                Ok(bytes) => self.0.push(Item::Text(bytes)),
                Err(_) => self.0.push(Item::Other(Box::new(event.clone()))),
            },
            Event::AttemptRestarted { .. } => {
                self.spell_out(&text_so_far());
                self.0.push(Item::Other(Box::new(event.clone())));
            }
            other => self.0.push(Item::Other(Box::new(other.clone()))),
        }
    }

    /// The text so far will not be in the stored reply: keep it here.
    fn spell_out(&mut self, text_so_far: &str) {
        let mut rest = text_so_far;
        for item in &mut self.0 {
            if let Item::Text(bytes) = *item {
                let (text, tail) = cut(rest, bytes);
                rest = tail;
                *item = Item::Other(Box::new(Event::TextDelta {
                    text: text.to_owned(),
                }));
            }
        }
    }

    /// The number of the last event that it tells one by one.
    pub(crate) fn last(&self) -> u64 {
        self.0.len() as u64 + 1
    }

    /// The events of a running turn that are saved, from the first, as far as they are numbered as
    /// they were when they happened.
    pub(crate) fn replay_saved(turn: &Turn, partial: Option<&Message>) -> Vec<TurnEvent> {
        let mut events = Self::replay(turn, partial);
        // Text behind a full trace is told as one event, which stands for many.
        events.truncate(turn.trace.0.len() + 1);
        events
    }

    /// All events of `turn`, whose stored reply is `reply`.
    ///
    /// A turn that is still running has no terminal event here.
    pub fn replay(turn: &Turn, reply: Option<&Message>) -> Vec<TurnEvent> {
        let text = reply
            .map(|message| message.content.text())
            .unwrap_or_default();
        let mut rest = text.as_str();
        let mut events = vec![started(turn)];
        for item in &turn.trace.0 {
            match item {
                Item::Text(bytes) => {
                    let (text, tail) = cut(rest, *bytes);
                    rest = tail;
                    if !text.is_empty() {
                        events.push(Event::TextDelta {
                            text: text.to_owned(),
                        });
                    }
                }
                Item::Other(event) => events.push(Event::clone(event)),
            }
        }
        if !rest.is_empty() {
            events.push(Event::TextDelta {
                text: rest.to_owned(),
            });
        }
        events.extend(terminal(turn, reply.cloned()));
        events
            .into_iter()
            .zip(1..)
            .map(|(event, seq)| TurnEvent { seq, event })
            .collect()
    }
}

/// The first event of `turn`.
pub(crate) fn started(turn: &Turn) -> Event {
    Event::TurnStarted {
        turn_id: turn.id.clone(),
        session_id: turn.session_id.clone(),
        user_message_id: turn.user_message_id.clone(),
        reply_message_id: turn.reply_message_id.clone(),
        provider: turn.provider.clone(),
        model: turn.model.clone(),
    }
}

/// The last event of `turn`; `None` while it runs.
pub(crate) fn terminal(turn: &Turn, reply: Option<Message>) -> Option<Event> {
    let failed = |partial: Option<Message>| {
        let error = turn
            .error
            .clone()
            .unwrap_or_else(|| Error::internal("the reason was not stored").info());
        Event::TurnFailed {
            error,
            partial: partial.map(Box::new),
        }
    };
    Some(match (turn.status, reply) {
        (TurnStatus::Running, _) => return None,
        (TurnStatus::Completed | TurnStatus::Cancelled, Some(message)) => Event::TurnFinished {
            message: Box::new(message),
            finish_reason: turn.finish_reason.unwrap_or(FinishReason::Other),
            status: turn.status,
        },
        (_, reply) => failed(reply),
    })
}

/// The first `bytes` bytes of `text` and the rest; never inside a character.
fn cut(text: &str, bytes: u32) -> (&str, &str) {
    let mut at = usize::try_from(bytes).unwrap_or(usize::MAX).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text.split_at(at)
}
