//! The reply's text as it grows, and nothing else.

use bytes::{BufMut, BytesMut};
use tutor_core::{Event, TurnEvent, TurnStatus};

use super::{Encoder, Flow};

/// Raw text. It has no way to tell of a failure but to break off.
#[derive(Debug, Default)]
pub(crate) struct Text {
    sent: bool,
}

impl Encoder for Text {
    const CONTENT_TYPE: &'static str = "text/plain; charset=utf-8";
    const HEARTBEAT: &'static [u8] = b"";

    fn event(&mut self, event: &TurnEvent, out: &mut BytesMut) -> Flow {
        match &event.event {
            Event::TextDelta { text } => {
                self.sent = true;
                out.put_slice(text.as_bytes());
                Flow::On
            }
            Event::AttemptRestarted { .. } if self.sent => Flow::Abort,
            Event::TurnFinished {
                status: TurnStatus::Cancelled,
                ..
            }
            | Event::TurnFailed { .. } => Flow::Abort,
            Event::TurnFinished { .. } => Flow::End,
            _ => Flow::On,
        }
    }

    fn detach(&mut self, _: &mut BytesMut) -> Flow {
        Flow::Abort
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::testing::{cancelled, failed, finished, run, started, text};

    #[test]
    fn only_the_text_is_sent() {
        let (out, flow) = run(
            &mut Text::default(),
            &[
                started(),
                text("Photo"),
                text("synthesis"),
                finished("Photosynthesis"),
            ],
        );
        assert_eq!((out.as_str(), flow), ("Photosynthesis", Flow::End));
    }

    #[test]
    fn a_reply_that_is_not_whole_breaks_off() {
        for end in [failed(), cancelled()] {
            let (out, flow) = run(&mut Text::default(), &[started(), text("Photo"), end]);
            assert_eq!((out.as_str(), flow), ("Photo", Flow::Abort));
        }
    }
}
