//! How commands reach a running server that has the data for itself: by a Unix socket beside it.
//!
//! Who may open the data's files may use the socket: it is the owner's alone, and asks the system
//! who calls. Every command is one connection: a request, then frames both ways.

#[cfg(not(unix))]
mod absent;
pub mod accounts;
#[cfg(unix)]
mod client;
#[cfg(unix)]
mod frame;
#[cfg(unix)]
mod path;
pub mod report;
#[cfg(unix)]
mod server;

#[cfg(not(unix))]
pub use absent::{Client, Control, listen};
#[cfg(unix)]
pub use client::Client;
#[cfg(unix)]
pub use server::{Control, listen};

use serde::{Deserialize, Serialize};
use tutor_core::time::Timestamp;

use crate::people::Who;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Send an export.
    Export {
        /// Only what is theirs.
        owner: Option<Who>,
        /// Only sessions that changed then or later.
        since: Option<Timestamp>,
        /// Leave out what is damaged.
        skip_damaged: bool,
    },
    /// Import what follows.
    Import {
        /// `fail`, `keep` or `replace`.
        on_conflict: String,
        /// Everything becomes theirs.
        owner: Option<Who>,
    },
    /// Check everything.
    Verify,
    /// Send what was used.
    Usage {
        /// Only theirs.
        owner: Option<Who>,
        /// The first day.
        from: Option<String>,
        /// The last day.
        to: Option<String>,
    },
    /// Make a key that signs tokens.
    RotateKeys {
        /// The others verify no more.
        at_once: bool,
    },
    /// Do something with accounts.
    Accounts(accounts::Accounts),
    /// Remove all that is somebody's.
    Erase {
        /// Whose.
        owner: Who,
    },
}

/// What the server sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A part of an export.
    Data(Vec<u8>),
    /// How far it is.
    Progress(serde_json::Value),
    /// It is done; this is what was done.
    Done(serde_json::Value),
}

/// Why the server did not do it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A code of [`ErrorKind`](tutor_core::ErrorKind).
    pub code: String,
    /// A sentence, with its facts.
    pub message: String,
}

impl From<tutor_core::Error> for Refusal {
    fn from(error: tutor_core::Error) -> Self {
        Self {
            code: error.code().to_owned(),
            message: report::sentence(&error),
        }
    }
}
