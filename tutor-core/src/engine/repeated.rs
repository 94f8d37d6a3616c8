//! What a caller says again: learners' messages that were stored and not answered, as a transcript
//! or a retry repeats them, and results of tools that the reply has.

use super::{Engine, results};
use crate::error::{Error, Result};
use crate::id::MessageId;
use crate::message::{Message, Role};
use crate::session::{Branch, MAX_PAGE, MessageQuery, MessageRange, Session};
use crate::turn::{ChatRequest, InputMessage};

impl Engine {
    /// Those of the learner's messages that are not stored yet, and what the first of them follows:
    /// `parent`, or what an unanswered message followed that is said in other words now.
    pub(super) async fn unsaid(
        &self,
        session: &Session,
        parent: Option<MessageId>,
        request: &ChatRequest,
        learner: &[InputMessage],
    ) -> Result<(Option<MessageId>, Vec<InputMessage>)> {
        let is_transcript = request.is_transcript || request.messages.len() > 1;
        let Some(leaf) = parent
            .clone()
            .filter(|_| is_transcript || learner.iter().any(|m| m.id.is_some()))
        else {
            return Ok((parent, learner.to_vec()));
        };
        let query = MessageQuery {
            session: session.key(),
            branch: Branch::Leaf(leaf),
            range: MessageRange::Latest,
            limit: learner.len().min(MAX_PAGE),
        };
        let line = self.store.messages(query).await?.items;
        let (parent, mut said) = rest(&line, learner, is_transcript);
        if is_transcript && let Some(reply) = line.last().filter(|m| m.role == Role::Assistant) {
            results::drop_answered(&reply.content, &mut said);
            if said.is_empty() {
                return Err(Error::invalid_input(
                    "the last message is what a tool answered in the reply that is stored: say \
                     something new",
                )
                .with_context("field", "messages"));
            }
        }
        Ok((parent, said))
    }
}

/// What of `learner` is not at the end of `line`, and what it follows.
fn rest(
    line: &[Message],
    learner: &[InputMessage],
    is_transcript: bool,
) -> (Option<MessageId>, Vec<InputMessage>) {
    let unanswered = line.iter().rev().take_while(|m| m.role == Role::User);
    let unanswered = &line[line.len() - unanswered.count()..];
    let is = |said: &InputMessage, stored: &Message| match &said.id {
        Some(id) if *id == stored.id => true,
        _ => is_transcript && said.content.says_same(&stored.content),
    };
    let last = |n: usize| &unanswered[unanswered.len() - n..];
    let repeated = (1..=unanswered.len().min(learner.len()))
        .rev()
        .find(|n| {
            last(*n)
                .iter()
                .zip(learner)
                .all(|(stored, said)| is(said, stored))
        })
        .unwrap_or(0);
    let mut pairs = last(repeated).iter().zip(learner);
    let Some(edited) = pairs.position(|(stored, said)| !said.content.says_same(&stored.content))
    else {
        let parent = line.last().map(|m| m.id.clone());
        return (parent, learner[repeated..].to_vec());
    };
    let mut said = learner[edited..].to_vec();
    // What is stored stays as it is: the new words are a message beside it.
    for message in &mut said[..repeated - edited] {
        message.id = None;
    }
    (last(repeated)[edited].parent_id.clone(), said)
}
