//! The tutoring engine that people embed.
// In suggested reading order.
mod engine;
pub mod error;
pub mod event;
pub mod id;
pub mod limits;
pub mod message;
pub mod provider;
pub mod session;
pub mod store;
pub mod time;
pub mod trace;
pub mod turn;
pub mod tutor;

pub use async_trait::async_trait;

pub use error::{Error, ErrorInfo, ErrorKind, Result, Retry};
pub use event::{Event, Notice, TurnEvent};
pub use id::{MessageId, OwnerId, SessionId, TurnId};
pub use limits::Limits;
pub use message::{Content, FinishReason, Message, MessageStatus, Role, Usage};
pub use provider::Provider;
pub use session::{Page, Session};
pub use store::{RecordStore, SessionStore};
pub use turn::{ChatRequest, Preferences, Reply, Turn, TurnStatus};
pub use tutor::{Messages, NewSession, TurnStream, Tutor, TutorBuilder};
