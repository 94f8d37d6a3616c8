//! The tutoring engine that people embed.
// In suggested reading order.
pub mod message;
pub mod session;
pub mod turn;
pub mod event;
pub mod error;
pub mod id;
pub mod time;
pub mod trace;
pub mod store;
pub mod provider;

pub use async_trait::async_trait;

pub use error::{Error, ErrorInfo, ErrorKind, Result, Retry};
pub use event::{Event, Notice, TurnEvent};
pub use id::{MessageId, OwnerId, SessionId, TurnId};
pub use message::{Content, FinishReason, Message, MessageStatus, Role, Usage};
pub use provider::Provider;
pub use session::{Page, Session};
pub use store::{RecordStore, SessionStore};
pub use turn::{ChatRequest, Preferences, Reply, Turn, TurnStatus};
