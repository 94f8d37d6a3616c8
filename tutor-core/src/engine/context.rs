//! What the model sees of a conversation: a pure function.

use std::collections::HashSet;

use super::tokens;
use crate::event::Notice;
use crate::id::MessageId;
use crate::limits::Limits;
use crate::message::{Audience, Content, Message, Part, Role};
use crate::provider::PromptMessage;
use crate::session::Summary;

/// What of a conversation a model is sent.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Context {
    /// The instructions, which are always sent whole.
    pub system: Option<String>,
    /// The conversation, oldest first: as many of its newest messages as the budget allows, and
    /// the newest one whatever its size. If older ones are left out and there is a summary of
    /// them, it comes first, as a message of the user.
    pub messages: Vec<PromptMessage>,
    /// About how many tokens all this is.
    pub tokens: usize,
    /// The newest message that was left out; `None` if everything is sent.
    pub left_out: Option<MessageId>,
    /// True if a summary stands for all that was left out.
    pub summarized: bool,
    /// What the user of the API is told about it.
    pub notices: Vec<Notice>,
}

/// What a model is sent whose window is not known, in tokens: nearly all have that much.
pub(super) const UNKNOWN_WINDOW: usize = 32_000;

/// The tokens that prompt may have: the model's window less room for the reply, and at most what
/// the limits allow.
pub(crate) fn budget(limits: &Limits, window: Option<u64>, max_tokens: Option<u64>) -> usize {
    let Some(window) = window.and_then(|window| usize::try_from(window).ok()) else {
        return limits.context_tokens.min(UNKNOWN_WINDOW);
    };
    let reply = max_tokens
        .and_then(|tokens| usize::try_from(tokens).ok())
        .unwrap_or_else(|| limits.reply_tokens.min(window / 4));
    limits.context_tokens.min(window.saturating_sub(reply))
}

/// Collects messages from the newest backwards until the budget is spent.
#[derive(Debug)]
pub(crate) struct Collector {
    system: Option<String>,
    summary: Option<Summary>,
    /// One for each stored message: a call and its result are never apart.
    newest_first: Vec<Group>,
    /// Messages with results of calls that an older one must have: newest first.
    held: Vec<Message>,
    /// What must be sent whatever it costs.
    fixed: usize,
    left: usize,
    left_out: Option<MessageId>,
    /// True if what the summary covers was reached.
    met_summary: bool,
}

#[derive(Debug)]
struct Group {
    id: MessageId,
    messages: Vec<PromptMessage>,
    tokens: usize,
}

impl Collector {
    /// A collector for `budget` tokens, of which `system`, `tools` (in tokens) and a summary take
    /// their share.
    pub(crate) fn new(
        budget: usize,
        system: Option<&str>,
        tools: usize,
        summary: Option<Summary>,
    ) -> Self {
        let fixed = system.map_or(0, tokens::count) + tools;
        // Room is kept for it from the start: whether it is needed shows at the end.
        let for_summary = summary.as_ref().map_or(0, summary_tokens);
        Self {
            system: system.map(str::to_owned),
            newest_first: Vec::new(),
            held: Vec::new(),
            fixed,
            left: budget.saturating_sub(fixed + for_summary),
            left_out: None,
            met_summary: false,
            summary,
        }
    }

    /// True if nothing older fits.
    pub(crate) fn is_full(&self) -> bool {
        self.left_out.is_some()
    }

    /// The newest message that does not fit.
    pub(crate) fn left_out(&self) -> Option<&MessageId> {
        self.left_out.as_ref()
    }

    /// The summary, if nothing that it covers was offered: then only the store knows whether it
    /// is one of this branch.
    pub(crate) fn unmet_summary(&self) -> Option<&Summary> {
        self.summary.as_ref().filter(|_| !self.met_summary)
    }

    /// Gives up the summary: it is of another branch.
    pub(crate) fn drop_summary(&mut self) {
        self.summary = None;
    }

    /// Offers the next older message. Its files are resolved.
    pub(crate) fn offer(&mut self, message: &Message) {
        if self.is_full() {
            return;
        }
        self.met_summary |= self
            .summary
            .as_ref()
            .is_some_and(|summary| summary.through == message.id);
        // Callers that run tools themselves send results as messages of their own.
        if message.role != Role::Assistant && has_results(message) {
            self.held.push(message.clone());
            return;
        }
        if message.role == Role::Assistant
            && let Some(newest) = self.held.first().map(|held| held.id.clone())
        {
            let messages = joined(message, &std::mem::take(&mut self.held));
            return self.add(&newest, messages);
        }
        self.settle();
        if !self.is_full() {
            self.add(&message.id, to_prompt(message));
        }
    }

    /// Takes what waited for an older message that did not come.
    pub(crate) fn settle(&mut self) {
        for held in std::mem::take(&mut self.held) {
            if !self.is_full() {
                self.add(&held.id, to_prompt(&held));
            }
        }
    }

    fn add(&mut self, id: &MessageId, messages: Vec<PromptMessage>) {
        if messages.is_empty() {
            return;
        }
        let tokens: usize = messages.iter().map(tokens::of_message).sum();
        // The newest message is the question itself: it always goes.
        if tokens > self.left && !self.newest_first.is_empty() {
            self.left_out = Some(id.clone());
            return;
        }
        self.left = self.left.saturating_sub(tokens);
        self.newest_first.push(Group {
            id: id.clone(),
            messages,
            tokens,
        });
    }

    /// The result. A truncated conversation does not begin with an answer to nothing.
    pub(crate) fn finish(mut self) -> Context {
        self.settle();
        while self.is_full()
            && self.newest_first.len() > 1
            && self
                .newest_first
                .last()
                .and_then(|group| group.messages.first())
                .is_some_and(|first| first.role == Role::Assistant)
        {
            self.left_out = self.newest_first.pop().map(|group| group.id);
        }
        let mut tokens = self.fixed;
        let mut messages = Vec::new();
        let mut notices = Vec::new();
        let mut summarized = false;
        if let Some(left_out) = &self.left_out {
            if let Some(summary) = &self.summary {
                // It reaches at least as far as what is missing?
                summarized = self.met_summary || summary.through == *left_out;
                tokens += summary_tokens(summary);
                messages.push(summary_prompt(summary));
            }
            notices.push(if summarized {
                Notice::new(
                    "history_summarized",
                    "the conversation is longer than the model is sent: a summary stands for its oldest messages",
                )
            } else {
                Notice::new(
                    "history_truncated",
                    "the conversation is longer than the model is sent: its oldest messages were left out",
                )
            });
        }
        for group in self.newest_first.into_iter().rev() {
            tokens += group.tokens;
            messages.extend(group.messages);
        }
        Context {
            system: self.system,
            messages,
            tokens,
            left_out: self.left_out,
            summarized,
            notices,
        }
    }
}

fn summary_tokens(summary: &Summary) -> usize {
    tokens::of_message(&summary_prompt(summary))
}

/// With the rank of a user: it repeats what one said.
fn summary_prompt(summary: &Summary) -> PromptMessage {
    PromptMessage {
        role: Role::User,
        content: Content::Text(format!(
            "[Summary of the earlier conversation, which is not repeated here]\n{}",
            summary.text
        )),
    }
}

/// The message as the model sees it; nothing if it must or need not see it.
fn to_prompt(message: &Message) -> Vec<PromptMessage> {
    if !message.visible_to.contains(&Audience::Model) {
        return Vec::new();
    }
    let content = match (&message.role, &message.content) {
        (Role::Assistant, Content::Parts(parts)) => return reply_prompt(parts),
        (_, Content::Text(text)) => Content::Text(text.clone()),
        (_, Content::Parts(parts)) => Content::Parts(
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
        return Vec::new();
    }
    let role = match message.role {
        Role::Assistant => Role::Assistant,
        // A caller's system message is what a user said: instructions are the operator's alone.
        Role::User | Role::System => Role::User,
    };
    vec![PromptMessage { role, content }]
}

fn has_results(message: &Message) -> bool {
    let is_result = |part: &Part| matches!(part, Part::ToolResult { .. });
    matches!(&message.content, Content::Parts(parts) if parts.iter().any(is_result))
}

/// A reply, and the messages behind it (newest first) that have the results of its calls.
fn joined(reply: &Message, held: &[Message]) -> Vec<PromptMessage> {
    let hidden = |message: &Message| !message.visible_to.contains(&Audience::Model);
    if hidden(reply) || held.iter().any(hidden) {
        return held.iter().rev().flat_map(to_prompt).collect();
    }
    let mut parts = match &reply.content {
        Content::Text(text) => vec![Part::Text { text: text.clone() }],
        Content::Parts(parts) => parts.clone(),
    };
    for message in held.iter().rev() {
        if let Content::Parts(more) = &message.content {
            let results = more.iter().filter_map(|part| named(part, &parts));
            let results: Vec<Part> = results.collect();
            parts.extend(results);
        }
    }
    let said = held.iter().rev().flat_map(to_prompt);
    reply_prompt(&parts).into_iter().chain(said).collect()
}

/// A result with the name of its tool, which not every caller repeats; `None` for other parts.
fn named(part: &Part, calls: &[Part]) -> Option<Part> {
    let mut result = part.clone();
    let Part::ToolResult { call_id, name, .. } = &mut result else {
        return None;
    };
    if name.is_empty() {
        let tool = calls.iter().find_map(|part| match part {
            Part::ToolCall {
                call_id: id, name, ..
            } if id == call_id => Some(name),
            _ => None,
        });
        name.extend(tool.cloned());
    }
    Some(result)
}

/// A reply in which tools were called, as the model sees it: what it said and asked for, then what
/// it was answered, and so on. A call without a result, or the reverse, is not well-formed for any
/// provider and left out.
pub(super) fn reply_prompt(parts: &[Part]) -> Vec<PromptMessage> {
    let mut prompt = Vec::new();
    let mut rest = parts;
    while !rest.is_empty() {
        let is_result = |part: &Part| matches!(part, Part::ToolResult { .. });
        let said = rest.iter().position(is_result).unwrap_or(rest.len());
        let (said, behind) = rest.split_at(said);
        let answered = behind
            .iter()
            .position(|part| !is_result(part))
            .unwrap_or(behind.len());
        let (answered, behind) = behind.split_at(answered);
        rest = behind;
        let calls: HashSet<&str> = said.iter().filter_map(call_id).collect();
        let results: HashSet<&str> = answered.iter().filter_map(call_id).collect();
        let paired = |part: &&Part| match part {
            // Of use only with the results of its calls.
            Part::Replay { .. } => !calls.is_disjoint(&results),
            part => call_id(part).is_none_or(|id| calls.contains(id) && results.contains(id)),
        };
        for (role, parts) in [(Role::Assistant, said), (Role::User, answered)] {
            let kept: Vec<Part> = parts.iter().filter(paired).cloned().collect();
            let content = match &kept[..] {
                [Part::Text { text }] => Content::Text(text.clone()),
                _ => Content::Parts(kept),
            };
            if !content.is_blank() {
                prompt.push(PromptMessage { role, content });
            }
        }
    }
    prompt
}

fn call_id(part: &Part) -> Option<&str> {
    match part {
        Part::ToolCall { call_id, .. } | Part::ToolResult { call_id, .. } => Some(call_id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::testing::message;
    use crate::time::Timestamp;

    /// Messages that are called 0, 1, 2 …
    fn numbered(history: Vec<Message>) -> Vec<Message> {
        let named = history.into_iter().enumerate();
        named
            .map(|(n, message)| Message {
                id: MessageId::new(n.to_string()).unwrap(),
                ..message
            })
            .collect()
    }

    fn fit_with(messages: &[Message], budget: usize, summary: Option<Summary>) -> Context {
        let mut collector = Collector::new(budget, None, 0, summary);
        messages.iter().rev().for_each(|m| collector.offer(m));
        collector.finish()
    }

    fn fit(messages: &[Message], budget: usize) -> Context {
        fit_with(messages, budget, None)
    }

    fn texts(context: &Context) -> Vec<String> {
        context.messages.iter().map(|m| m.content.text()).collect()
    }

    fn codes(context: &Context) -> Vec<&str> {
        context.notices.iter().map(|n| n.code.as_str()).collect()
    }

    fn call(id: &str) -> Part {
        Part::ToolCall {
            call_id: id.into(),
            name: "f".into(),
            arguments: json!({"x": 1}),
        }
    }

    fn result(id: &str) -> Part {
        Part::ToolResult {
            call_id: id.into(),
            name: "f".into(),
            result: json!(2),
            is_error: false,
        }
    }

    fn text(text: &str) -> Part {
        Part::Text { text: text.into() }
    }

    fn reply(parts: Vec<Part>) -> Message {
        Message {
            content: Content::Parts(parts),
            ..message(Role::Assistant, "")
        }
    }

    /// What is sent of a history: by budget, the numbers of the messages.
    #[test]
    fn the_newest_messages_that_fit_are_sent_whole_and_in_order() {
        let long = "many words ".repeat(40);
        let history = numbered(vec![
            message(Role::User, &long),
            message(Role::Assistant, "b"),
            message(Role::User, "c"),
            message(Role::Assistant, &long),
            message(Role::User, "e"),
        ]);
        let table: [(usize, &[&str], Option<&str>); 5] = [
            (10_000, &["0", "1", "2", "3", "4"], None),
            // The question alone, whatever the budget; never an answer to nothing.
            (0, &["4"], Some("3")),
            (20, &["4"], Some("3")),
            (140, &["2", "3", "4"], Some("1")),
            (10_000, &["0", "1", "2", "3", "4"], None),
        ];
        for (budget, expected, left_out) in table {
            let context = fit(&history, budget);
            let expected: Vec<String> = expected
                .iter()
                .map(|id| history[id.parse::<usize>().unwrap()].content.text())
                .collect();
            assert_eq!(texts(&context), expected, "{budget}");
            assert_eq!(context.left_out.as_ref().map(MessageId::as_str), left_out);
            let notices: &[&str] = if left_out.is_some() {
                &["history_truncated"]
            } else {
                &[]
            };
            assert_eq!(codes(&context), notices);
            assert!(
                context.tokens <= budget.max(10),
                "{} of {budget}",
                context.tokens
            );
        }
    }

    #[test]
    fn the_budget_is_the_window_less_the_reply_and_at_most_the_limit() {
        let limits = Limits {
            context_tokens: 10_000,
            reply_tokens: 1000,
            ..Limits::default()
        };
        for (window, max_tokens, expected) in [
            (None, None, 10_000),
            (None, Some(9_000), 10_000),
            (Some(200_000), None, 10_000),
            (Some(8_000), None, 7_000),
            (Some(8_000), Some(3_000), 5_000),
            (Some(2_000), None, 1_500),
            (Some(2_000), Some(5_000), 0),
            (Some(u64::MAX), Some(1), 10_000),
        ] {
            assert_eq!(budget(&limits, window, max_tokens), expected, "{window:?}");
        }
    }

    #[test]
    fn the_system_prompt_and_the_tools_are_pinned_and_take_their_share() {
        let history = numbered(vec![
            message(Role::User, "one two three four five"),
            message(Role::Assistant, "b"),
            message(Role::User, "c"),
        ]);
        let system = "be kind ".repeat(20);
        for (budget, tools, sent) in [(200, 0, 3), (50, 0, 1), (200, 170, 1)] {
            let mut collector = Collector::new(budget, Some(&system), tools, None);
            history.iter().rev().for_each(|m| collector.offer(m));
            let context = collector.finish();
            assert_eq!(context.system.as_deref(), Some(system.as_str()));
            assert_eq!(context.messages.len(), sent, "{budget} {tools}");
        }
    }

    #[test]
    fn images_and_files_are_counted() {
        let picture = Message {
            content: Content::Parts(vec![
                text("look"),
                Part::Image {
                    url: "https://a.example/b.png".into(),
                    media_type: None,
                },
            ]),
            ..message(Role::User, "")
        };
        let history = numbered(vec![
            message(Role::User, "a"),
            message(Role::Assistant, "b"),
            picture,
        ]);
        assert_eq!(fit(&history, tokens::IMAGE_TOKENS).messages.len(), 1);
        assert_eq!(fit(&history, tokens::IMAGE_TOKENS + 50).messages.len(), 3);
        let file = Part::File {
            file_id: "f".repeat(1000),
            name: Some("n".into()),
            media_type: None,
        };
        let named = Message {
            content: Content::Parts(vec![file]),
            ..message(Role::User, "")
        };
        assert!(fit(&[named], 1000).tokens < 50, "its id is not sent");
    }

    #[test]
    fn a_call_is_never_parted_from_its_result() {
        let history = numbered(vec![
            message(Role::User, "a"),
            reply(vec![
                text("let me see"),
                call("1"),
                call("2"),
                result("1"),
                result("2"),
                call("1"),
                result("1"),
                text("it is 2"),
            ]),
            message(Role::User, "b"),
        ]);
        let whole = fit(&history, 10_000);
        let shape: Vec<(Role, usize)> = whole
            .messages
            .iter()
            .map(|m| match &m.content {
                Content::Text(_) => (m.role, 1),
                Content::Parts(parts) => (m.role, parts.len()),
            })
            .collect();
        assert_eq!(
            shape,
            [
                (Role::User, 1),
                (Role::Assistant, 3),
                (Role::User, 2),
                (Role::Assistant, 1),
                (Role::User, 1),
                (Role::Assistant, 1),
                (Role::User, 1),
            ]
        );
        for budget in 0..whole.tokens {
            let context = fit(&history, budget);
            let ids = |role| -> Vec<String> {
                let of_role = context.messages.iter().filter(|m| m.role == role);
                of_role
                    .filter_map(|m| match &m.content {
                        Content::Parts(parts) => Some(parts.iter().filter_map(call_id)),
                        Content::Text(_) => None,
                    })
                    .flatten()
                    .map(str::to_owned)
                    .collect()
            };
            assert_eq!(ids(Role::Assistant), ids(Role::User), "{budget}");
            assert_eq!(texts(&context).last().unwrap(), "b");
        }
    }

    #[test]
    fn results_that_a_caller_sends_follow_their_calls_or_are_not_sent() {
        let results = |parts: Vec<Part>| Message {
            content: Content::Parts(parts),
            ..message(Role::User, "")
        };
        let history = numbered(vec![
            message(Role::User, "a"),
            reply(vec![call("1"), call("2")]),
            results(vec![result("1")]),
            results(vec![result("2"), text("there")]),
            message(Role::Assistant, "thanks"),
            results(vec![result("9"), text("b")]),
        ]);
        let whole = fit(&history, 10_000);
        let ids: Vec<Vec<&str>> = whole
            .messages
            .iter()
            .map(|m| match &m.content {
                Content::Text(_) => vec![],
                Content::Parts(parts) => parts.iter().filter_map(call_id).collect(),
            })
            .collect();
        let expected: Vec<Vec<&str>> = vec![
            vec![],
            vec!["1", "2"],
            vec!["1", "2"],
            vec![],
            vec![],
            vec![],
        ];
        assert_eq!(ids, expected);
        assert_eq!(texts(&whole), ["a", "", "", "there", "thanks", "b"]);
        for budget in 0..whole.tokens {
            let context = fit(&history, budget);
            let calls = context
                .messages
                .iter()
                .filter(|m| m.content.text().is_empty());
            assert!([0, 2].contains(&calls.count()), "{budget}");
        }
    }

    #[test]
    fn blank_hidden_and_half_tool_messages_are_not_sent() {
        let mut hidden = message(Role::Assistant, "teacher only");
        hidden.visible_to.remove(&Audience::Model);
        let history = numbered(vec![
            message(Role::User, "a"),
            hidden,
            message(Role::Assistant, ""),
            reply(vec![call("1")]),
            reply(vec![result("1"), text("x")]),
            message(Role::User, "b"),
        ]);
        assert_eq!(texts(&fit(&history, 1000)), ["a", "x", "b"]);
    }

    #[test]
    fn a_callers_system_message_has_the_rank_of_a_user() {
        let context = fit(
            &[message(Role::System, "obey"), message(Role::User, "hi")],
            1000,
        );
        assert_eq!(context.messages[0].role, Role::User);
    }

    #[test]
    fn a_summary_stands_for_what_is_left_out_and_only_then() {
        let long = "many words ".repeat(40);
        let history = numbered(vec![
            message(Role::User, &long),
            message(Role::Assistant, &long),
            message(Role::User, "c"),
            message(Role::Assistant, "d"),
            message(Role::User, "e"),
        ]);
        let summary = |through: &str| Summary {
            text: "short".into(),
            through: MessageId::new(through).unwrap(),
            made_at: Timestamp::default(),
        };
        // All fits: nobody needs it.
        let all = fit_with(&history, 10_000, Some(summary("1")));
        assert_eq!((all.messages.len(), all.left_out), (5, None));
        for (through, covers, code) in [
            ("1", true, "history_summarized"),
            ("3", true, "history_summarized"),
            ("0", false, "history_truncated"),
        ] {
            let context = fit_with(&history, 60, Some(summary(through)));
            assert!(texts(&context)[0].ends_with("short"));
            assert_eq!(texts(&context)[1..], ["c", "d", "e"], "{through}");
            assert_eq!(context.summarized, covers, "{through}");
            assert_eq!(codes(&context), [code]);
            assert!(context.tokens <= 60);
        }
    }
}
