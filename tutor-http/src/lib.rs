//! The Neuro Tutor server: conversations of [`tutor_core`] behind HTTP.
//!
//! [`router`] is the whole API as an [`axum::Router`], to mount in a server of your own; [`serve`]
//! is the server: it guards connections, and stops without losing anything.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use tutor_http::{AppState, serve};
//!
//! let tutor = tutor_core::Tutor::open("./neuro-tutor-data").await?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
//! let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
//! serve(listener, AppState::new(tutor), stop).await;
//! # Ok(()) }
//! ```
// In suggested reading order.
mod allowance;
mod bounds;
pub mod cli;
pub mod config;
pub mod control;
pub mod logs;
pub mod traces;
pub mod metrics;
mod outbound;
mod paced;
mod probe;
mod shared;
pub mod people;
mod state;

mod serve;
mod tls;

mod edge;
mod routes;

mod body;
mod params;
mod syntax;
mod validate;
mod watched;

mod encode;
mod error;
mod openapi;
mod sse;
mod usage;
mod wire;

pub use allowance::{Allowances, Share};
pub use bounds::Bounds;
pub use edge::{Origins, TrustedProxies};
pub use encode::ui::UiMessageChunks;
pub use routes::{UiRequest, openapi, router};
pub use serve::handle::Server;
pub use serve::{Served, bind, serve, serve_as};
pub use shared::{RedisUrl, Shared};
pub use state::AppState;
pub use tls::{Tls, TlsFiles};
