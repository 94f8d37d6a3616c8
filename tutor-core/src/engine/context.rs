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
mod tests;
