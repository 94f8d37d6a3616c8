//! What the model sees of a conversation: a pure function.

use crate::message::{Audience, Content, Message, Part, Role};
use crate::provider::PromptMessage;

/// The tokens that a message costs besides its text.
const MESSAGE_OVERHEAD: usize = 4;

/// About how many tokens `text` is: a quarter of its bytes. Too high for most scripts and code,
/// which errs on the safe side, and constant in memory.
pub(crate) fn estimate_tokens(text: &str) -> usize {
    text.len().div_ceil(4)
}

/// What of a conversation a model is sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Context {
    /// Oldest first; never empty if the newest message can be sent at all.
    pub(crate) messages: Vec<PromptMessage>,
    /// True if older messages were left out.
    pub(crate) truncated: bool,
}

/// Collects messages from the newest backwards until the budget is spent.
#[derive(Debug)]
pub(crate) struct Collector {
    newest_first: Vec<PromptMessage>,
    left: usize,
    full: bool,
}

impl Collector {
    /// A collector for `budget` tokens, of which `system` takes its share.
    pub(crate) fn new(budget: usize, system: Option<&str>) -> Self {
        let left = budget.saturating_sub(system.map_or(0, estimate_tokens));
        Self {
            newest_first: Vec::new(),
            left,
            full: false,
        }
    }

    /// True if nothing older fits.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Offers the next older message.
    pub(crate) fn offer(&mut self, message: &Message) {
        if self.full {
            return;
        }
        let Some(prompt) = to_prompt(message) else {
            return;
        };
        let cost = cost(&prompt.content);
        // The newest message is the question itself: it always goes.
        if cost > self.left && !self.newest_first.is_empty() {
            self.full = true;
            return;
        }
        self.left = self.left.saturating_sub(cost);
        self.newest_first.push(prompt);
    }

    /// The result. A truncated conversation does not begin with an answer to nothing.
    pub(crate) fn finish(mut self) -> Context {
        if self.full {
            while self.newest_first.len() > 1
                && self
                    .newest_first
                    .last()
                    .is_some_and(|m| m.role == Role::Assistant)
            {
                self.newest_first.pop();
            }
        }
        self.newest_first.reverse();
        Context {
            messages: self.newest_first,
            truncated: self.full,
        }
    }
}

fn cost(content: &Content) -> usize {
    content.len().div_ceil(4) + MESSAGE_OVERHEAD
}

/// The message as the model sees it; `None` if it must or need not see it.
fn to_prompt(message: &Message) -> Option<PromptMessage> {
    if !message.visible_to.contains(&Audience::Model) {
        return None;
    }
    let content = match &message.content {
        Content::Text(text) => Content::Text(text.clone()),
        // A call without its result is not well-formed history for any provider.
        Content::Parts(parts) => Content::Parts(
            parts
                .iter()
                .filter(|part| {
                    !matches!(
                        part,
                        Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Replay { .. }
                    )
                })
                .cloned()
                .collect(),
        ),
    };
    if content.is_blank() {
        return None;
    }
    let role = match message.role {
        Role::Assistant => Role::Assistant,
        // A caller's system message is what a user said: instructions are the operator's alone.
        Role::User | Role::System => Role::User,
    };
    Some(PromptMessage { role, content })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::message;

    fn fit(messages: &[Message], budget: usize) -> Context {
        let mut collector = Collector::new(budget, None);
        messages.iter().rev().for_each(|m| collector.offer(m));
        collector.finish()
    }

    fn texts(context: &Context) -> Vec<String> {
        context.messages.iter().map(|m| m.content.text()).collect()
    }

    #[test]
    fn all_messages_are_sent_in_order_while_they_fit() {
        let history = [
            message(Role::User, "a"),
            message(Role::Assistant, "b"),
            message(Role::User, "c"),
        ];
        let context = fit(&history, 1000);
        assert_eq!(texts(&context), ["a", "b", "c"]);
        assert!(!context.truncated);
    }

    #[test]
    fn the_oldest_are_left_out_and_the_rest_begins_with_the_learner() {
        let long = "x".repeat(400);
        let history = [
            message(Role::User, &long),
            message(Role::Assistant, "b"),
            message(Role::User, "c"),
        ];
        let context = fit(&history, 50);
        assert_eq!(texts(&context), ["c"]);
        assert!(context.truncated);
    }

    #[test]
    fn the_newest_message_is_sent_whatever_its_size() {
        let context = fit(&[message(Role::User, &"x".repeat(4000))], 10);
        assert_eq!(context.messages.len(), 1);
    }

    #[test]
    fn blank_hidden_and_half_tool_messages_are_not_sent() {
        let mut hidden = message(Role::Assistant, "teacher only");
        hidden.visible_to.remove(&Audience::Model);
        let mut call = message(Role::Assistant, "");
        call.content = Content::Parts(vec![Part::ToolCall {
            call_id: "1".into(),
            name: "f".into(),
            arguments: serde_json::Value::Null,
        }]);
        let history = [
            message(Role::User, "a"),
            hidden,
            message(Role::Assistant, ""),
            call,
            message(Role::User, "b"),
        ];
        assert_eq!(texts(&fit(&history, 1000)), ["a", "b"]);
    }

    #[test]
    fn a_callers_system_message_has_the_rank_of_a_user() {
        let context = fit(
            &[message(Role::System, "obey"), message(Role::User, "hi")],
            1000,
        );
        assert_eq!(context.messages[0].role, Role::User);
    }
}
