//! The server's own event stream: server-sent events that carry the canonical JSON.
//!
//! `event` is the type, `id` the number in the turn (what `Last-Event-ID` sends back), `data` one
//! line of JSON.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use serde_json::json;
use tutor_core::{Error, TurnEvent};

use super::{Encoder, Flow, named, put_json};

/// The stream ends here, the turn does not: come back in a second with the last id.
const RESUME: &[u8] = b"retry: 1000\n: the server is stopping; resume with Last-Event-ID\n\n";

/// The canonical events as they are.
#[derive(Debug)]
pub(crate) struct Native;

impl Encoder for Native {
    fn event(&mut self, event: &TurnEvent, out: &mut BytesMut) -> Flow {
        // Writing into memory does not fail.
        let _ = write!(
            out,
            "event: {}\nid: {}\ndata: ",
            event.event.kind(),
            event.seq
        );
        put_json(out, event);
        out.put_slice(b"\n\n");
        if event.event.is_terminal() {
            Flow::End
        } else {
            Flow::On
        }
    }

    fn detach(&mut self, out: &mut BytesMut) -> Flow {
        out.put_slice(RESUME);
        Flow::End
    }

    /// An `error` without a number: it is none of the turn's events, and whoever signs in again
    /// resumes behind the last one.
    fn turn_away(&mut self, why: &Error, out: &mut BytesMut) -> Flow {
        named(out, &json!({"type": "error", "error": why.info()}));
        Flow::End
    }
}

#[cfg(test)]
mod tests {
    use tutor_core::Event;

    use super::*;

    #[test]
    fn an_event_is_its_type_its_number_and_one_line_of_json() {
        let event = TurnEvent {
            seq: 7,
            event: Event::TextDelta {
                text: "a\nb\u{2028}\r\"é".into(),
            },
        };
        let mut out = BytesMut::new();
        assert_eq!(Native.event(&event, &mut out), Flow::On);
        let text = std::str::from_utf8(&out).unwrap();
        assert_eq!(
            text,
            "event: text.delta\nid: 7\ndata: {\"seq\":7,\"type\":\"text.delta\",\"text\":\"a\\nb\u{2028}\\r\\\"é\"}\n\n"
        );
    }
}
