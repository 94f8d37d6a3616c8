//! Carrying conversations from one store to another, as lines of JSON.
//!
//! An export says of every session all that its store knows: importing it anywhere else and
//! exporting it again gives the same bytes. Each line is one thing, and has a checksum:
//!
//! ```text
//! {"crc32":"…","header":{"format":"neuro-tutor-export","version":1}}
//! {"crc32":"…","session":{…,"message_count":2,…,"turn_count":1}}
//! {"crc32":"…","message":{…}}            as many as the session counts, as they were stored
//! {"crc32":"…","message":{…}}
//! {"crc32":"…","turn":{…}}               as many as the session counts, by id
//! {"crc32":"…","record":{"kind":…,"key":…,"text":…}}
//! {"crc32":"…","end":{"sessions":1,"messages":2,"turns":1,"records":1}}
//! ```
//!
//! Owners, their sessions, and records come in the order of their bytes. The checksum is the
//! CRC-32, in eight hexadecimal digits, of the line as it would be without it: `{"record":…}`; of a
//! message or turn, that of all lines of its session up to it. A file made by hand may leave it
//! out, on its first line and then on all.
//!
//! ```
//! # async fn run() -> tutor_core::Result<()> {
//! use std::sync::Arc;
//! use tutor_core::store::MemoryStore;
//! use tutor_core::transfer::{ExportOptions, Exporter, ImportOptions, Importer};
//!
//! let (here, there) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
//! let mut export = Exporter::new(here, ExportOptions::default());
//! let mut import = Importer::new(there, ImportOptions::default());
//! while let Some(lines) = export.next().await? {
//!     import.write(&lines).await?;
//! }
//! println!("{} sessions", import.finish().await?.read.sessions);
//! # Ok(()) }
//! ```

mod erase;
mod export;
mod import;
mod line;
mod reader;

pub use erase::{Erased, erase_owner};
pub use export::{ExportOptions, Exporter};
pub use import::{ImportOptions, Imported, Importer, OnConflict};
pub use line::{MAX_LINE_BYTES, VERSION};
pub use reader::{Item, Reader};

use serde::{Deserialize, Serialize};

/// How much was carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Sessions.
    pub sessions: u64,
    /// Messages on all branches.
    pub messages: u64,
    /// Turns.
    pub turns: u64,
    /// Small documents.
    pub records: u64,
}
