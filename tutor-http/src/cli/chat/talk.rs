//! The other end of a conversation: the engine in this process, or a server.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tutor_core::session::{Cursor, Page};
use tutor_core::{
    ChatRequest, Content, Event, Message, MessageId, Messages, Result, Role, Session, SessionId,
    TurnId, Tutor,
};

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
    pub(super) what: What,
    pub(super) session: Option<SessionId>,
    pub(super) model: Option<String>,
    pub(super) provider: Option<String>,
}

/// What a reply is asked for.
#[derive(Clone)]
pub(super) enum What {
    /// To this.
    Words(String),
    /// To this, which is said in the place of a question of the conversation.
    Instead(MessageId, String),
    /// In the place of this reply.
    Again(MessageId),
}

/// A part of a list.
pub(super) struct Part<T> {
    pub(super) items: Vec<T>,
    /// Where the next part is; `None` behind the last one.
    pub(super) next: Option<String>,
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
    /// False if there are images or files, which are not shown.
    pub(super) is_text: bool,
}

impl<T> From<Page<T>> for Part<T> {
    fn from(page: Page<T>) -> Self {
        Self {
            items: page.items,
            next: page.next_cursor.map(|cursor| cursor.as_str().to_owned()),
        }
    }
}

/// A reply as it grows.
pub(super) type Replying = BoxStream<'static, Result<Event>>;

impl Talk {
    pub(super) async fn ask(&self, say: Say) -> Result<Replying> {
        let tutor = match self {
            Self::Here(tutor) => tutor,
            Self::There(remote) => return remote.ask(say).await,
        };
        let mut request = match say.what {
            What::Words(text) => ChatRequest::new(text),
            What::Instead(question, text) => {
                let mut request = ChatRequest::new(text);
                request.edit = Some(question);
                request
            }
            What::Again(reply) => {
                let mut request = ChatRequest::default();
                request.regenerate = Some(reply);
                request
            }
        };
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

    /// The latest conversations, or those from this place on.
    pub(super) async fn sessions(&self, limit: usize, from: Option<&str>) -> Result<Part<Brief>> {
        let tutor = match self {
            Self::Here(tutor) => tutor,
            Self::There(remote) => return remote.sessions(limit, from).await,
        };
        let page = tutor.sessions(limit, from.map(Cursor::from_text)).await?;
        let brief = |session: Session| Brief {
            id: session.id,
            title: session.title,
            messages: session.message_count,
        };
        Ok(page.map(brief).into())
    }

    /// The last messages of a conversation, or those before this place, oldest first.
    pub(super) async fn messages(
        &self,
        session: &SessionId,
        limit: usize,
        before: Option<&str>,
    ) -> Result<Part<Said>> {
        let tutor = match self {
            Self::Here(tutor) => tutor,
            Self::There(remote) => return remote.messages(session, limit, before).await,
        };
        let range = match before {
            Some(message) => Messages::before(message.parse()?, limit),
            None => Messages::latest(limit),
        };
        let said = |message: Message| Said {
            id: message.id,
            role: message.role,
            text: message.content.text(),
            is_text: matches!(message.content, Content::Text(_)),
        };
        Ok(tutor.messages(session, range).await?.map(said).into())
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
