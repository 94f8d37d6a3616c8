//! A Redis server for tests: the one that the environment names, or one of our own.

use std::sync::OnceLock;

use crate::services::{self, Service};

/// A server of one's own that keeps nothing. Blocks.
pub(crate) fn start() -> Service {
    Service::start("redis.py")
}

/// The URL of the server that tests share.
pub(crate) fn shared() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    services::shared("TUTOR_TEST_REDIS", &URL, start)
}
