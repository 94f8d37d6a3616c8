//! The terminal as it was before: reading a line changes how it works.

#[cfg(unix)]
use std::io::{IsTerminal, Write, stdin, stdout};

/// Ends what a terminal was asked for while a line was being read: to mark what is pasted.
#[cfg(unix)]
const NO_MARKS: &[u8] = b"\x1b[?2004l\n";

/// How the terminal works; nothing where there is none.
#[cfg(unix)]
pub(super) struct Terminal(Option<rustix::termios::Termios>);

#[cfg(unix)]
impl Terminal {
    pub(super) fn as_it_is() -> Self {
        Self(rustix::termios::tcgetattr(stdin()).ok())
    }

    /// Has it work like that again, if it does not.
    pub(super) fn put_back(&self) {
        use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
        let (Some(before), Ok(now)) = (&self.0, tcgetattr(stdin())) else {
            return;
        };
        if now.local_modes == before.local_modes {
            return;
        }
        // A terminal that went away needs nothing.
        let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        if stdout().is_terminal() {
            let _ = stdout().write_all(NO_MARKS);
        }
    }
}

#[cfg(not(unix))]
pub(super) struct Terminal;

#[cfg(not(unix))]
impl Terminal {
    pub(super) fn as_it_is() -> Self {
        Self
    }

    pub(super) fn put_back(&self) {}
}
