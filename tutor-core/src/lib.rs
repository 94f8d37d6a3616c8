//! The tutoring engine that people embed: conversations with learners, durable and streamed from
//! any LLM.
//!
//! # Quick start
//!
//! ```
//! use tutor_core::{Event, Tutor};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> tutor_core::Result<()> {
//! # let data = tempfile::tempdir().unwrap();
//! # let data = data.path();
//! let tutor = Tutor::open(data).await?;
//!
//! let mut stream = tutor.stream("What is photosynthesis?").await?;
//! while let Some(event) = stream.next().await {
//!     if let Event::TextDelta { text } = &event.event {
//!         print!("{text}");
//!     }
//! }
//! # tutor.close().await
//! # }
//! ```
//!
//! This answers by the [`DemoProvider`](provider::DemoProvider), which needs no key. For a real
//! model enable the feature `provider-openai` or `provider-anthropic` and add the provider:
//!
//! ```
//! # #[cfg(feature = "provider-openai")]
//! # async fn f() -> tutor_core::Result<()> {
//! use tutor_core::provider::ProviderConfig;
//! use tutor_core::{ChatRequest, Tutor, store::SledStore};
//!
//! let openai = ProviderConfig::openai("the key").build()?;
//! let tutor = Tutor::builder().store(SledStore::open("data").await?).provider(openai).build().await?;
//!
//! let reply = tutor.chat("What is photosynthesis?").await?;
//! let more = ChatRequest::new("And in one sentence?").with_session(reply.session_id);
//! println!("{}", tutor.chat(more).await?.text());
//! # Ok(()) }
//! ```
//!
//! # What it promises
//!
//! A *turn* is one exchange: what the learner said, and the tutor's reply.
//!
//! 1. When [`Tutor::stream`] returns, the learner's words are durable.
//! 2. The provider is asked while they are being written; no event leaves before they are.
//! 3. Events are numbered 1, 2, 3 …; reading again from any number gives the same events, while
//!    the turn runs, after it has ended, and after a restart.
//! 4. Exactly one terminal event comes last. A provider that stops without saying so has failed.
//! 5. The terminal event leaves after the reply is durable.
//! 6. A session has one running turn at a time.
//! 7. A request with an idempotency key can be sent again: it gives the same turn.
//! 8. A turn that a crash left running is `interrupted` at the next start; its saved text is kept.
//! 9. Cancelling stops the upstream request and keeps the partial text.
//! 10. However a turn ended, the session stays usable, and the model sees well-formed history.
//!
//! # Plugging in
//!
//! A source of replies implements [`Provider`]; a place for data implements [`SessionStore`]. Both
//! traits are small and object-safe, and with the feature `conformance` their laws are library
//! code that a plug-in's tests can run.
//!
//! # Features
//!
//! * `store-sled` (default): [`store::SledStore`], the embedded store.
//! * `store-sqlite`: `store::SqliteStore`, a database file.
//! * `store-postgres`: `store::PostgresStore`, a database that several processes share.
//! * `provider-openai`: OpenAI Chat Completions, and every server that speaks it.
//! * `provider-responses`: OpenAI Responses.
//! * `provider-anthropic`: Anthropic Messages.
//! * `provider-gemini`: Google Gemini.
//! * `provider-ollama`: Ollama's own protocol.
//! * `bus-redis`: `bus::RedisBus`, what instances on one store tell each other about running turns.
//! * `files`: [`file::FileStore`], uploaded files, and [`file::FilePlace`].
//! * `tokenizer`: counts tokens as current OpenAI models do, instead of by estimate.
//! * `conformance`: the laws of stores and providers, for tests.
//!
//! A feature only adds modules and what they need; it changes no behavior and no default.

// What stores and protocols share is not all needed by each of them alone.
#![cfg_attr(
    not(all(
        feature = "store-sled",
        feature = "store-sqlite",
        feature = "provider-openai",
        feature = "provider-responses",
        feature = "provider-anthropic",
        feature = "provider-gemini",
        feature = "provider-ollama",
        feature = "conformance"
    )),
    allow(dead_code, unused_imports, reason = "other features use it")
)]

// In suggested reading order.
pub mod message;
pub mod session;
pub mod turn;
pub mod event;
pub mod tool;
pub mod file;
pub mod error;
pub mod id;
pub mod time;
pub mod limits;
pub mod usage;
pub mod tutor;
mod engine;
mod hidden;
mod recent;
pub mod trace;
pub mod store;
pub mod bus;
pub mod transfer;
pub mod items;
pub mod provider;
pub mod json;
pub mod replay;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub use async_trait::async_trait;

pub use bus::LiveBus;
pub use error::{Error, ErrorInfo, ErrorKind, Result, Retry};
pub use event::{Event, Notice, TurnEvent};
pub use id::{MessageId, OwnerId, SessionId, TurnId};
pub use limits::Limits;
pub use message::{Content, FinishReason, Message, MessageStatus, Role, Usage};
pub use provider::Provider;
pub use session::{Page, Session};
pub use store::{RecordStore, SessionStore};
pub use tool::{FnTool, OutputSchema, Tool, ToolCall, ToolSpec};
pub use turn::{ChatRequest, Preferences, Reply, Turn, TurnStatus};
pub use tutor::{Context, Messages, NewSession, TurnStream, Tutor, TutorBuilder};
