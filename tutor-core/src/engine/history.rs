//! Reading as much of a conversation as a model is sent.

use super::context::{self, Collector, Context};
use super::tools::Toolbox;
use super::{Engine, tokens};
use crate::error::{Error, ErrorKind, Result};
use crate::file;
use crate::id::{MessageId, OwnerId};
use crate::message::{Content, Message, Part};
use crate::provider::Provider as _;
use crate::provider::router::Route;
use crate::session::{Branch, MAX_PAGE, MessageQuery, MessageRange, Session, SessionKey};
use crate::turn::Preferences;

/// Messages that are read at a time while the context is filled.
const CONTEXT_PAGE: usize = 50;

/// What a turn builds on.
pub(super) struct Past<'a> {
    pub(super) session: &'a Session,
    /// The newest stored message that is sent; `None` if there is none.
    pub(super) leaf: Option<&'a MessageId>,
}

impl Engine {
    /// The tokens that a prompt may have.
    pub(super) fn budget(&self, route: &Route, max_tokens: Option<u64>) -> usize {
        let known = || self.catalog.find(&route.model)?.context_window;
        let window = route.provider.info().context_window.or_else(known);
        context::budget(&self.limits, window, max_tokens)
    }

    /// What a model would be sent of a conversation as it is.
    pub(crate) async fn context_of(
        &self,
        key: &SessionKey,
        tokens: Option<usize>,
    ) -> Result<Context> {
        let session = self
            .store
            .session(key)
            .await?
            .ok_or_else(|| Error::not_found("session", &key.id))?;
        let preferences: Preferences =
            serde_json::from_value(session.preferences.clone().into()).unwrap_or_default();
        let budget = match tokens {
            Some(tokens) => tokens,
            None => self.budget(&self.router().route(&preferences)?, preferences.max_tokens),
        };
        let past = Past {
            session: &session,
            leaf: session.head.as_ref(),
        };
        self.context(past, &[], budget, &self.tools).await
    }

    /// What the model sees: the new messages, and as much before them as fits.
    pub(super) async fn context(
        &self,
        past: Past<'_>,
        messages: &[Message],
        budget: usize,
        tools: &Toolbox,
    ) -> Result<Context> {
        let Past { session, leaf } = past;
        let tool_tokens = tools
            .specs()
            .iter()
            .map(|spec| {
                tokens::count(&spec.name)
                    + tokens::count(&spec.description)
                    + tokens::of_json(&spec.parameters)
            })
            .sum();
        let summary = session.summary.clone().filter(|_| self.summarizes);
        let mut collector =
            Collector::new(budget, self.system_prompt.as_deref(), tool_tokens, summary);
        for message in messages.iter().rev() {
            // What is not there is refused before anything is stored.
            let resolved = self.with_files(&session.owner, message.clone()).await?;
            collector.offer(&resolved);
        }
        let Some(leaf) = leaf else {
            return Ok(collector.finish());
        };
        let mut range = MessageRange::Latest;
        while !collector.is_full() {
            let query = MessageQuery {
                session: session.key(),
                branch: Branch::Leaf(leaf.clone()),
                range,
                limit: CONTEXT_PAGE.min(MAX_PAGE),
            };
            let page = self.store.messages(query).await?;
            let first = page.items.first().map(|message| message.id.clone());
            for message in page.items.into_iter().rev() {
                if collector.is_full() {
                    break;
                }
                let message = match self.with_files(&session.owner, message.clone()).await {
                    Ok(resolved) => resolved,
                    // A file that was deleted since: its name has to do.
                    Err(error) if error.kind() == ErrorKind::InvalidInput => message,
                    Err(error) => return Err(error),
                };
                collector.offer(&message);
                // Counting tokens must not keep a worker to itself.
                tokio::task::coop::consume_budget().await;
            }
            match (page.next_cursor, first) {
                (Some(_), Some(first)) => range = MessageRange::Before(first),
                _ => break,
            }
        }
        collector.settle();
        if let (Some(left_out), Some(summary)) = (collector.left_out(), collector.unmet_summary())
            && !self.is_behind(session, left_out, &summary.through).await?
        {
            collector.drop_summary();
        }
        Ok(collector.finish())
    }

    /// True if `earlier` is `later` or on the way from it to the first message.
    async fn is_behind(
        &self,
        session: &Session,
        later: &MessageId,
        earlier: &MessageId,
    ) -> Result<bool> {
        if later == earlier {
            return Ok(true);
        }
        let query = MessageQuery {
            session: session.key(),
            branch: Branch::Leaf(later.clone()),
            range: MessageRange::After(earlier.clone()),
            limit: 1,
        };
        match self.store.messages(query).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The message with the content of its files in place of their ids.
    async fn with_files(&self, owner: &OwnerId, mut message: Message) -> Result<Message> {
        if let Content::Parts(parts) = &mut message.content {
            for part in parts {
                if matches!(part, Part::File { .. }) {
                    *part = file::resolve(self.files.as_ref(), owner, part).await?;
                }
            }
        }
        Ok(message)
    }
}
