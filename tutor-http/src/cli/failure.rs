//! How a command ends when it cannot do what it should: one line, and an exit code.

use std::io::{self, Write};

use crate::control::report::sentence;
use tutor_core::{Error, ErrorKind};

pub(super) const DONE: u8 = 0;
pub(super) const FAILED: u8 = 1;
/// Also what clap ends with when it does not understand the command line.
pub(super) const WRONG_CONFIGURATION: u8 = 2;
pub(super) const DATA_NOT_USABLE: u8 = 3;
pub(super) const ADDRESS_NOT_USABLE: u8 = 4;
pub(super) const INPUT_REFUSED: u8 = 5;
pub(super) const INTERRUPTED: u8 = 130;

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0 done, 1 failed, 2 wrong command line or configuration, 3 data not usable (locked, damaged,
  not reachable), 4 address not usable, 5 input refused (damaged, cut off, or in conflict with what
  is there), 130 interrupted";

/// Why a command ends without having done what it should, on one line.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    message: Option<String>,
}

impl Failure {
    pub(super) fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: Some(message.into()),
        }
    }

    /// Whoever read the output has seen enough: nothing to say.
    pub(super) fn of_output(error: &io::Error) -> Self {
        let message = match error.kind() {
            io::ErrorKind::BrokenPipe => None,
            _ => Some(format!("standard output cannot be written: {error}")),
        };
        Self {
            code: FAILED,
            message,
        }
    }

    /// The exit code, and what there is to say.
    pub(super) fn into_parts(self) -> (u8, String) {
        (self.code, self.message.unwrap_or_default())
    }

    /// Says it on standard error.
    pub(super) fn report(&self) -> u8 {
        if let Some(message) = &self.message {
            // Where nobody listens the exit code still tells.
            let _ = writeln!(io::stderr(), "neuro-tutor: {message}");
        }
        self.code
    }
}

impl Failure {
    /// What went wrong in the engine, there or in another process.
    pub(super) fn of_kind(kind: ErrorKind, message: String) -> Self {
        let code = match kind {
            ErrorKind::Config => WRONG_CONFIGURATION,
            ErrorKind::StoreLocked | ErrorKind::StoreUnavailable | ErrorKind::DataCorrupt => {
                DATA_NOT_USABLE
            }
            ErrorKind::InvalidInput | ErrorKind::Conflict | ErrorKind::TooLarge => INPUT_REFUSED,
            _ => FAILED,
        };
        Self::new(code, message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::of_kind(error.kind(), sentence(&error))
    }
}
