//! The native part of the Python package `neuro_tutor`: translation between Python and
//! `tutor_core`, and nothing else. What users see is in `python/neuro_tutor`.
//!
//! **Invariant: no thread that Rust made ever attaches to Python.** Such a thread only pushes work
//! into an [`inbox`], and a thread of Python's does it. So no executor thread waits for the GIL,
//! and an interpreter that exits has nothing of ours to tear down.

mod call;
mod cli;
mod client;
mod failure;
mod files;
mod host;
mod inbox;
mod law;
mod objects;
mod open;
mod plugin;
mod provider;
mod runtime;
mod server;
mod store;
mod stream;
mod tool;
mod transfer;

/// The native part of the package.
#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::call::Call;
    #[pymodule_export]
    use crate::cli::cli;
    #[pymodule_export]
    use crate::client::{Client, attachment};
    #[pymodule_export]
    use crate::failure::{Failure, error_codes};
    #[pymodule_export]
    use crate::files::{Files, Incoming};
    #[pymodule_export]
    use crate::inbox::{Inbox, wait_for_inboxes};
    #[pymodule_export]
    use crate::law::{check_law, laws};
    #[pymodule_export]
    use crate::open::open;
    #[pymodule_export]
    use crate::plugin::{Answer, Canceller};
    #[pymodule_export]
    use crate::provider::Sender;
    #[pymodule_export]
    use crate::runtime::{exiting, forked};
    #[pymodule_export]
    use crate::server::Server;
    #[pymodule_export]
    use crate::stream::Stream;
    #[pymodule_export]
    use crate::transfer::{Export, Import};

    /// The version of the package.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
