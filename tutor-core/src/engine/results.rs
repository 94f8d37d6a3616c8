//! Results of tools that the caller runs: they come with the next request, and must answer a call.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::message::{Content, Part, Role};
use crate::turn::InputMessage;

/// True if a message brings results.
pub(super) fn any(messages: &[InputMessage]) -> bool {
    messages
        .iter()
        .any(|message| results(&message.content).next().is_some())
}

/// Refuses results of calls that `reply` does not wait for.
///
/// # Errors
/// `invalid_input`.
pub(super) fn check(reply: Option<(Role, &Content)>, said: &[InputMessage]) -> Result<()> {
    let open = match reply {
        Some((Role::Assistant, content)) => open_calls(content),
        _ => HashSet::new(),
    };
    let mut all = said.iter().flat_map(|message| results(&message.content));
    if all.all(|call| open.contains(call)) {
        return Ok(());
    }
    Err(Error::invalid_input(
        "a tool's result answers no call that waits for one: send the results of the calls with \
         which the last reply ended",
    )
    .with_context("field", "messages"))
}

/// Leaves results out that the reply has already: whoever posts a transcript repeats them.
pub(super) fn drop_answered(reply: &Content, said: &mut Vec<InputMessage>) {
    let answered: HashSet<&str> = results(reply).collect();
    said.retain_mut(|message| {
        let Content::Parts(parts) = &mut message.content else {
            return true;
        };
        let all = parts.len();
        parts.retain(|part| !matches!(part, Part::ToolResult { call_id, .. } if answered.contains(call_id.as_str())));
        parts.len() == all || !parts.is_empty()
    });
}

/// The calls of a reply that have no result in it.
fn open_calls(content: &Content) -> HashSet<&str> {
    let answered: HashSet<&str> = results(content).collect();
    parts(content)
        .filter_map(|part| match part {
            Part::ToolCall { call_id, .. } => Some(call_id.as_str()),
            _ => None,
        })
        .filter(|call| !answered.contains(call))
        .collect()
}

fn results(content: &Content) -> impl Iterator<Item = &str> {
    parts(content).filter_map(|part| match part {
        Part::ToolResult { call_id, .. } => Some(call_id.as_str()),
        _ => None,
    })
}

fn parts(content: &Content) -> impl Iterator<Item = &Part> {
    let parts: &[Part] = match content {
        Content::Text(_) => &[],
        Content::Parts(parts) => parts,
    };
    parts.iter()
}
