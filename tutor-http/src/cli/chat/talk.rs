//! The other end of a conversation: the engine in this process, or a server.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tutor_core::{ChatRequest, Event, MessageId, Messages, Result, Role, SessionId, TurnId, Tutor};

use super::remote::Remote;

/// Who is talked to.
#[derive(Debug)]
pub(super) enum Talk {
    /// The engine in this process.
    Here(Tutor),
    /// A server.
    There(Remote),
}

/// Something to say.
pub(super) struct Say {
    pub(super) text: String,
    /// A reply to write again; then there is no text.
    pub(super) regenerate: Option<MessageId>,
    pub(super) session: Option<SessionId>,
    pub(super) model: Option<String>,
    pub(super) provider: Option<String>,
}

/// A conversation in a list.
pub(super) struct Brief {
    pub(super) id: SessionId,
    pub(super) title: String,
    pub(super) messages: u64,
}

/// A message that was said.
pub(super) struct Said {
    pub(super) id: MessageId,
    pub(super) role: Role,
    pub(super) text: String,
}

/// A reply as it grows.
pub(super) type Replying = BoxStream<'static, Result<Event>>;

impl Talk {
    pub(super) async fn ask(&self, say: Say) -> Result<Replying> {
        let tutor = match self {
            Self::Here(tutor) => tutor,
            Self::There(remote) => return remote.ask(say).await,
        };
        let mut request = match say.regenerate {
            Some(_) => ChatRequest::default(),
            None => ChatRequest::new(say.text),
        };
        request.regenerate = say.regenerate;
        request.session_id = say.session;
        request.preferences.model = say.model;
        request.preferences.provider = say.provider;
        request.streamed = true;
        let events = tutor.stream(request).await?;
        let events = stream::unfold(events, |mut events| async move {
            let event = events.next().await?;
            Some((Ok(event.event.clone()), events))
        });
        Ok(events.boxed())
    }

    pub(super) async fn cancel(&self, turn: &TurnId) -> Result<()> {
        match self {
            Self::Here(tutor) => tutor.cancel(turn).await.map(drop),
            Self::There(remote) => remote.cancel(turn).await,
        }
    }

    /// The latest conversations.
    pub(super) async fn sessions(&self, limit: usize) -> Result<Vec<Brief>> {
        let tutor = match self {
            Self::Here(tutor) => tutor,
            Self::There(remote) => return remote.sessions(limit).await,
        };
        let page = tutor.sessions(limit, None).await?;
        let briefs = page.items.into_iter().map(|session| Brief {
            id: session.id,
            title: session.title,
            messages: session.message_count,
        });
        Ok(briefs.collect())
    }

    /// The last messages of a conversation, oldest first.
    pub(super) async fn messages(&self, session: &SessionId, limit: usize) -> Result<Vec<Said>> {
        let tutor = match self {
            Self::Here(tutor) => tutor,
            Self::There(remote) => return remote.messages(session, limit).await,
        };
        let page = tutor.messages(session, Messages::latest(limit)).await?;
        let said = page.items.into_iter().map(|message| Said {
            id: message.id,
            role: message.role,
            text: message.content.text(),
        });
        Ok(said.collect())
    }

    pub(super) async fn rename(&self, session: &SessionId, title: String) -> Result<()> {
        match self {
            Self::Here(tutor) => {
                let renamed = tutor.update_session(session, Some(title), None);
                renamed.await.map(drop)
            }
            Self::There(remote) => remote.rename(session, &title).await,
        }
    }

    pub(super) async fn close(&self) -> Result<()> {
        match self {
            Self::Here(tutor) => tutor.close().await,
            Self::There(_) => Ok(()),
        }
    }
}
