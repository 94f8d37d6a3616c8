//! A flush that ends, whatever the disk does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::unavailable;
use crate::error::Result;

/// How long a flush is waited for before it is woken.
pub(super) const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// Flushes a store that is being opened or closed.
///
/// sled 0.34 forgets to wake a flush that waits for a write of one of its background threads which
/// has failed. Another flush meets the error, and wakes all. The writer, which flushes all the time,
/// has a thread for that; here it is made for the occasion.
pub(super) fn flush(db: &::sled::Db) -> Result<()> {
    thread::scope(|scope| {
        let (ended, end) = channel::<()>();
        scope.spawn(move || {
            while end.recv_timeout(FLUSH_PATIENCE) == Err(RecvTimeoutError::Timeout) {
                // Whoever waits is told the same.
                let _ = catch_unwind(AssertUnwindSafe(|| db.flush()));
            }
        });
        let flushed = catch_unwind(AssertUnwindSafe(|| db.flush()));
        drop(ended);
        match flushed {
            Ok(flushed) => flushed.map(drop).map_err(unavailable),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
