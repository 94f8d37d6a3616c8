//! The server's bounds: each with a name, a unit, a default, and what happens when it is reached.

use std::time::Duration;

/// How much the server takes on. The engine has [bounds of its own](tutor_core::Limits).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// Open connections. One more is answered `503` and closed.
    pub max_connections: usize,
    /// Bytes of a request's head. More are answered `431`.
    pub max_header_bytes: usize,
    /// Header fields of a request. More are answered `431`.
    pub max_headers: usize,
    /// How long the head of a request may take, and how long a connection may idle, over both
    /// versions of HTTP. Then it is closed.
    pub header_timeout: Duration,
    /// Bytes of a request's body. More are answered `413`.
    pub max_body_bytes: usize,
    /// Bytes of an import's body. More are answered `413`.
    pub max_import_bytes: usize,
    /// How long the body of a request may take, or a piece of an import or upload. Then it is
    /// answered `408`.
    pub body_timeout: Duration,
    /// How long a whole upload may take. Then it is answered `408`.
    pub upload_timeout: Duration,
    /// Bytes of all bodies that are being received. More are answered `503`.
    pub body_budget_bytes: usize,
    /// How long a client may leave an answer unread. Then its connection is closed.
    pub write_stall: Duration,
    /// How long a stopping server waits for open connections. Then they are closed.
    pub drain_grace: Duration,
    /// How often a silent event stream says that it is alive.
    pub heartbeat: Duration,
    /// How long an event stream goes on without asking again whether its reader may still see it:
    /// the store knows it, whatever instance turned them away.
    pub recheck: Duration,
    /// Characters of one message of a learner. More are answered `422`.
    pub max_message_chars: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_header_bytes: 32 << 10,
            max_headers: 100,
            header_timeout: Duration::from_secs(10),
            max_body_bytes: 2 << 20,
            max_import_bytes: 32 << 20,
            body_timeout: Duration::from_secs(15),
            upload_timeout: Duration::from_secs(600),
            body_budget_bytes: 64 << 20,
            write_stall: Duration::from_secs(30),
            drain_grace: Duration::from_secs(10),
            heartbeat: Duration::from_secs(15),
            recheck: Duration::from_secs(4),
            max_message_chars: 20_000,
        }
    }
}
