//! The JSON in which other languages talk to the engine: what the Python and the Node package pass
//! in and get back, and what providers, tools and stores written there are asked and answer.
//!
//! One definition for both. Names are in snake case, durations are seconds; a binding renames and
//! rescales if its language wants that. Members that are absent and members that are `null` are
//! the same. Errors name the member and what it has to be, and never quote its value.

mod delta;
mod document;
mod error;
mod fields;
mod foreign;
mod generator;
mod listing;
mod nearest;
mod request;
mod settings;
mod tool;
mod transfer;
mod usage;

pub use delta::{completion_request, delta};
pub use error::{error, raised};
pub(crate) use fields::Fields;
pub use fields::unknown_member;
pub use foreign::{Foreign, ForeignStore, OPTIONAL_METHODS, RECORD_METHODS, SESSION_METHODS};
pub use generator::Generator;
pub use listing::{DEFAULT_SESSIONS, messages, new_session, session_changes, sessions};
pub use nearest::nearest;
pub use request::{chat_request, context, reply, status, turn};
#[cfg(feature = "files")]
pub use settings::file_place;
pub use settings::{limits, provider, provider_info, tutor};
pub use tool::{tool, tool_call};
pub use transfer::{export_options, import_options};
pub use usage::{opinion, quota, usage_range};
