//! The server's own event stream: server-sent events that carry the canonical JSON.
//!
//! `event` is the type, `id` the number in the turn (what `Last-Event-ID` sends back), `data` one
//! line of JSON.

use bytes::{BufMut, Bytes, BytesMut};
use tutor_core::TurnEvent;

/// Tells that the stream is alive. Clients ignore it.
pub(crate) const HEARTBEAT: Bytes = Bytes::from_static(b": alive\n\n");

/// The stream ends here, the turn does not: come back in a second with the last id.
pub(crate) const RESUME: Bytes =
    Bytes::from_static(b"retry: 1000\n: the server is stopping; resume with Last-Event-ID\n\n");

/// Appends one event.
pub(crate) fn encode(event: &TurnEvent, out: &mut BytesMut) {
    out.put_slice(b"event: ");
    out.put_slice(event.event.kind().as_bytes());
    out.put_slice(b"\nid: ");
    out.put_slice(event.seq.to_string().as_bytes());
    out.put_slice(b"\ndata: ");
    // Events always serialize. JSON has no line breaks of its own.
    out.put_slice(&serde_json::to_vec(event).unwrap_or_default());
    out.put_slice(b"\n\n");
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
        encode(&event, &mut out);
        let text = std::str::from_utf8(&out).unwrap();
        assert_eq!(
            text,
            "event: text.delta\nid: 7\ndata: {\"seq\":7,\"type\":\"text.delta\",\"text\":\"a\\nb\u{2028}\\r\\\"é\"}\n\n"
        );
    }
}
