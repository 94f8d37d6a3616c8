//! What of a completion has reached its caller, over several attempts.

use super::Delta;
use crate::event::Notice;

/// What has been passed on. Whoever makes a second attempt asks it whether that is still allowed.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    content: bool,
    notices: Vec<Notice>,
}

impl Delivered {
    /// True if the caller has seen a part of the reply: a second attempt would repeat or contradict
    /// it.
    pub(crate) fn has_content(&self) -> bool {
        self.content
    }

    /// Looks at what is about to be passed on. True for a notice that an earlier attempt gave
    /// already, which is not to be passed on again.
    pub(crate) fn is_repeated(&mut self, delta: &Delta) -> bool {
        match delta {
            Delta::Notice(notice) if self.notices.contains(notice) => return true,
            Delta::Notice(notice) => self.notices.push(notice.clone()),
            _ => self.content |= is_content(delta),
        }
        false
    }
}

/// True for a part of a reply.
pub(crate) fn is_content(delta: &Delta) -> bool {
    match delta {
        Delta::Text(text) | Delta::Reasoning(text) | Delta::Refusal(text) => !text.is_empty(),
        Delta::ToolCall { .. } => true,
        Delta::Usage(_)
        | Delta::Heartbeat
        | Delta::Accepted { .. }
        | Delta::Replay { .. }
        | Delta::Restart { .. }
        | Delta::AnsweredBy { .. }
        | Delta::Notice(_)
        | Delta::Finished { .. } => false,
    }
}
