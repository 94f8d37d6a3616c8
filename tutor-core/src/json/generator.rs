//! What the end of a generator in another language means.

use serde_json::Value;

use super::delta;
use crate::error::Result;
use crate::message::FinishReason;
use crate::provider::Delta;

/// Reads what a generator yields, up to its end: there the end of the iteration is a terminal,
/// where on a wire the end of a file is none.
#[derive(Debug, Default)]
pub struct Generator {
    has_content: bool,
    finished: bool,
}

impl Generator {
    /// What was yielded: a text, or what [`delta`] reads; `None` if the reply was complete before,
    /// and this is ignored.
    ///
    /// # Errors
    /// Those of [`delta`]. Whatever comes after one is ignored.
    pub fn read(&mut self, value: Value) -> Result<Option<Delta>> {
        if self.finished {
            return Ok(None);
        }
        let read = match value {
            Value::String(text) => Delta::Text(text),
            value => delta(value).inspect_err(|_| self.finished = true)?,
        };
        match &read {
            Delta::Text(_) | Delta::Refusal(_) | Delta::ToolCall { .. } => self.has_content = true,
            Delta::Restart { .. } => self.has_content = false,
            Delta::Finished { .. } => self.finished = true,
            // Everything else is no content.
            _ => {}
        }
        Ok(Some(read))
    }

    /// What the end of the iteration adds: that the reply is complete, if there is one and nobody
    /// has said so. Without content nothing is added, and the engine calls the reply interrupted.
    pub fn end(&mut self) -> Option<Delta> {
        let owed = self.has_content && !self.finished;
        self.finished = true;
        owed.then_some(Delta::Finished {
            reason: FinishReason::Stop,
        })
    }

    /// True if nothing more is read.
    pub fn is_finished(&self) -> bool {
        self.finished
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stop() -> Option<Delta> {
        Some(Delta::Finished {
            reason: FinishReason::Stop,
        })
    }

    #[test]
    fn the_end_of_the_iteration_completes_a_reply() {
        let mut generator = Generator::default();
        let read = generator.read(json!("hi")).unwrap();
        assert_eq!(read, Some(Delta::Text("hi".into())));
        assert_eq!(generator.end(), stop());
        assert_eq!(generator.end(), None);
        assert_eq!(generator.read(json!("more")).unwrap(), None);
    }

    #[test]
    fn the_end_completes_no_reply_that_never_came() {
        let mut generator = Generator::default();
        generator.read(json!({"type": "heartbeat"})).unwrap();
        assert_eq!(generator.end(), None);

        let mut generator = Generator::default();
        generator.read(json!("hi")).unwrap();
        let restart = json!({"type": "attempt.restarted", "reason": "retry"});
        generator.read(restart).unwrap();
        assert_eq!(generator.end(), None);
    }

    #[test]
    fn whoever_says_that_the_reply_is_complete_has_the_last_word() {
        let mut generator = Generator::default();
        assert_eq!(generator.read(json!({"type": "finished"})).unwrap(), stop());
        assert!(generator.is_finished());
        assert_eq!(generator.read(json!(5)).unwrap(), None);
        assert_eq!(generator.end(), None);
    }

    #[test]
    fn nothing_follows_what_is_no_delta() {
        let mut generator = Generator::default();
        generator.read(json!("hi")).unwrap();
        generator.read(json!(5)).unwrap_err();
        assert_eq!(generator.read(json!("more")).unwrap(), None);
        assert_eq!(generator.end(), None);
    }
}
