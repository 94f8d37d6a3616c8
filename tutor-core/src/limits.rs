//! The engine's bounds: each with a name, a unit, a default, and what happens when it is reached.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// How much the engine takes on. Every bound protects those already served: it ends in a clear
/// error to the newcomer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Turns running at a time, over all owners. One more is refused with `overloaded`.
    pub max_live_turns: usize,
    /// Turns of one owner running at a time. One more is refused with `rate_limited`.
    pub max_live_turns_per_owner: usize,
    /// Messages in one request. More are `too_large`.
    pub max_request_messages: usize,
    /// Bytes of text in all messages of a request. More are `too_large`.
    pub max_request_bytes: usize,
    /// Bytes of one image or file that is sent in a message. More are `too_large`.
    pub max_attachment_bytes: usize,
    /// Images and files in all messages of a request. More are `too_large`.
    pub max_attachments: usize,
    /// Bytes of a request's preferences, or of a session's metadata, as JSON. More are
    /// `too_large`.
    pub max_object_bytes: usize,
    /// Bytes of a reply: text, reasoning, tool calls and their results. A longer one ends the turn with
    /// `too_large`; what had arrived is kept.
    pub max_reply_bytes: usize,
    /// Events of a turn. More end it with `too_large`; what had arrived is kept.
    pub max_events: usize,
    /// How long a turn may take. Longer ends it with `timeout`; what had arrived is kept.
    pub turn_timeout: Duration,
    /// How often the partial reply of a running turn is saved.
    pub checkpoint_interval: Duration,
    /// How long a running turn is believed to be alive without a sign of life from its instance.
    pub lease: Duration,
    /// How long the events of an ended turn stay in memory. Later replays read the store.
    pub replay_retention: Duration,
    /// Bytes of all ended turns in memory, with their events; the oldest go first.
    pub replay_bytes: usize,
    /// Tokens that a model is sent at most, by estimate, also if its window is larger; 32,000 if its
    /// window is not known. Older messages are left out.
    pub context_tokens: usize,
    /// Tokens of a model's window that are kept free for the reply (but at most a quarter of it),
    /// unless the request says how long the reply may be.
    pub reply_tokens: usize,
    /// Tokens that a summary of a conversation's beginning may have.
    pub summary_tokens: usize,
    /// How often in a turn a model may call tools and go on. Once more ends it with `too_large`;
    /// what had arrived is kept.
    pub max_tool_rounds: usize,
    /// Tools that a model may call at a time. It is told that further calls were not made.
    pub max_tool_calls: usize,
    /// How long a tool may take. The model is told that a slower one did not answer.
    pub tool_timeout: Duration,
    /// Bytes of a tool's result as JSON. The model is told that a longer one was too long.
    pub max_tool_result_bytes: usize,
    /// How long closing waits for running turns. Later ones end as interrupted.
    pub close_grace: Duration,
}

/// The longest duration that a limit may have: a year.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Limits {
    /// Refuses limits under which nothing could run.
    pub(crate) fn check(&self) -> Result<()> {
        let durations = [
            ("turn_timeout", self.turn_timeout),
            ("checkpoint_interval", self.checkpoint_interval),
            ("lease", self.lease),
            ("replay_retention", self.replay_retention),
            ("close_grace", self.close_grace),
            ("tool_timeout", self.tool_timeout),
        ];
        for (name, duration) in durations {
            let may_be_zero = matches!(name, "replay_retention" | "close_grace");
            if duration > MAX_DURATION || (duration.is_zero() && !may_be_zero) {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!("the limit {name} is more than zero and at most a year"),
                )
                .with_context("field", name));
            }
        }
        let counts = [
            ("max_live_turns", self.max_live_turns),
            ("max_live_turns_per_owner", self.max_live_turns_per_owner),
            ("max_request_messages", self.max_request_messages),
            ("max_request_bytes", self.max_request_bytes),
            ("max_reply_bytes", self.max_reply_bytes),
            ("max_events", self.max_events),
            ("summary_tokens", self.summary_tokens),
            ("max_tool_calls", self.max_tool_calls),
            ("max_tool_result_bytes", self.max_tool_result_bytes),
        ];
        match counts.into_iter().find(|(_, count)| *count == 0) {
            Some((name, _)) => Err(Error::new(
                ErrorKind::Config,
                format!("the limit {name} is not zero"),
            )
            .with_context("field", name)),
            None => Ok(()),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_live_turns: 1024,
            max_live_turns_per_owner: 1024,
            max_request_messages: 1000,
            max_request_bytes: 1 << 20,
            max_attachment_bytes: 8 << 20,
            max_attachments: 16,
            max_object_bytes: 16 << 10,
            max_reply_bytes: 4 << 20,
            max_events: 200_000,
            turn_timeout: Duration::from_secs(600),
            checkpoint_interval: Duration::from_secs(1),
            lease: Duration::from_secs(30),
            replay_retention: Duration::from_secs(300),
            replay_bytes: 64 << 20,
            context_tokens: 1_000_000,
            reply_tokens: 4096,
            summary_tokens: 512,
            max_tool_rounds: 8,
            max_tool_calls: 16,
            tool_timeout: Duration::from_secs(30),
            max_tool_result_bytes: 64 << 10,
            close_grace: Duration::from_secs(10),
        }
    }
}
