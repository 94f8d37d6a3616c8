//! Wire protocols: pure functions from an event and a small state to bytes. One file per protocol.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde_json::Value;
use tutor_core::{Error, Event, TurnEvent};

pub(crate) mod agui;
pub(crate) mod anthropic;
pub(crate) mod native;
pub(crate) mod openai;
pub(crate) mod text;
pub(crate) mod ui;

/// One protocol's view of one turn's events.
pub(crate) trait Encoder: Send + 'static {
    /// What the stream is, as `Content-Type`.
    const CONTENT_TYPE: &'static str = "text/event-stream; charset=utf-8";

    /// Headers of its own.
    const HEADERS: &'static [(&'static str, &'static str)] = &[];

    /// Tells that the stream is alive; empty if the protocol has no way to say so.
    const HEARTBEAT: &'static [u8] = b": alive\n\n";

    /// Appends what `event` is in this protocol: nothing if there is no word for it.
    fn event(&mut self, event: &TurnEvent, out: &mut BytesMut) -> Flow;

    /// Appends what ends the stream of a turn that goes on without it.
    fn detach(&mut self, out: &mut BytesMut) -> Flow;

    /// Appends what ends the stream of somebody who may read no more, for this reason: what a reply
    /// that failed ends with, since it must not look whole.
    fn turn_away(&mut self, why: &Error, out: &mut BytesMut) -> Flow {
        let event = Event::TurnFailed {
            error: why.info(),
            partial: None,
        };
        self.event(&TurnEvent { seq: 0, event }, out)
    }
}

/// What follows an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// More of the stream.
    On,
    /// Nothing: the stream is whole.
    End,
    /// Nothing, and the stream is not whole: the connection breaks off, because the protocol
    /// cannot say it in any other way.
    Abort,
}

/// Appends one server-sent event without a name.
fn data(out: &mut BytesMut, value: &impl Serialize) {
    out.put_slice(b"data: ");
    put_json(out, value);
    out.put_slice(b"\n\n");
}

/// Appends one server-sent event whose name is the `type` of its data.
fn named(out: &mut BytesMut, value: &Value) {
    out.put_slice(b"event: ");
    out.put_slice(value["type"].as_str().unwrap_or("message").as_bytes());
    out.put_slice(b"\n");
    data(out, value);
}

/// JSON has no line breaks of its own, and values always serialize.
fn put_json(out: &mut BytesMut, value: &impl Serialize) {
    serde_json::to_writer(out.writer(), value).unwrap_or_default();
}

/// What marks the end of a stream in OpenAI's protocol, and in those that follow it.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// The sentence for a client whose stream ends before its turn.
const DETACHED: &str = "the server is stopping; the reply goes on and will be in the conversation";

/// The sentence for a client that cannot be told to drop what it has.
const RESTARTED: &str =
    "the provider failed in the middle of the reply, which is being written anew: ask again";

/// The sentence for a client whose protocol has no word for a reply that was stopped.
pub(crate) const STOPPED: &str =
    "the reply was stopped; what had arrived of it is in the conversation";

impl Flow {
    pub(crate) fn is_over(self) -> bool {
        self != Self::On
    }
}

/// A heartbeat as bytes.
pub(crate) fn heartbeat<E: Encoder>() -> Bytes {
    Bytes::from_static(E::HEARTBEAT)
}

/// A tool call that the server has not answered (yet).
#[derive(Clone, Debug)]
struct PendingCall {
    call_id: String,
    name: String,
    arguments: Value,
}

impl PendingCall {
    /// The arguments as a text of JSON.
    fn arguments_text(&self) -> String {
        match &self.arguments {
            Value::String(raw) => raw.clone(),
            object => object.to_string(),
        }
    }
}

#[cfg(test)]
mod testing;
