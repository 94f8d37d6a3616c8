//! What is seen: replies on standard output, everything else on standard error.

use std::io::{self, IsTerminal, Write, stderr, stdout};

use tutor_core::{Error, Role};

use crate::cli::failure::Failure;
use crate::control::report::sentence;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// The terminal, or whatever there is in its place.
#[derive(Debug)]
pub(super) struct Screen {
    /// True where a style is seen as one.
    is_styled: bool,
    /// True behind a reply that has not ended its line.
    in_line: bool,
    in_thought: bool,
    /// Why standard output could not be written, from then on.
    lost: Option<io::Error>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let has_no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            is_styled: stdout().is_terminal() && stderr().is_terminal() && !has_no_color,
            in_line: false,
            in_thought: false,
            lost: None,
        }
    }

    /// Whether all that was printed has been written.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn written(&self) -> Result<(), Failure> {
        match &self.lost {
            Some(error) => Err(Failure::of_output(error)),
            None => Ok(()),
        }
    }

    /// More of a reply.
    pub(super) fn reply(&mut self, text: &str) {
        self.end_thought();
        self.print(text);
    }

    /// More of what the model thinks, which is not part of its reply.
    pub(super) fn thought(&mut self, text: &str) {
        self.in_thought = true;
        let text = printable(text);
        let _ = match self.is_styled {
            true => write!(stderr(), "{DIM}{text}{PLAIN}"),
            false => write!(stderr(), "{text}"),
        };
    }

    fn end_thought(&mut self) {
        if std::mem::take(&mut self.in_thought) {
            let _ = writeln!(stderr());
        }
    }

    /// A reply is over.
    pub(super) fn end_reply(&mut self) {
        self.end_thought();
        if self.in_line {
            self.print("\n");
        }
    }

    /// Text on standard output.
    pub(super) fn print(&mut self, text: &str) {
        let text = printable(text);
        if let Some(last) = text.chars().last() {
            self.in_line = last != '\n';
        }
        self.write(&text);
    }

    fn write(&mut self, text: &str) {
        let mut out = stdout();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if let Err(error) = written {
            self.lost = self.lost.take().or(Some(error));
        }
    }

    /// What somebody said before.
    pub(super) fn said(&mut self, role: Role, text: &str) {
        let text = printable(text);
        match (role, self.is_styled) {
            (Role::User, true) => {
                self.write(&format!("{BOLD}> {text}{PLAIN}\n"));
                self.in_line = false;
            }
            (Role::User, false) => self.print(&format!("> {text}\n")),
            _ => self.print(&format!("{text}\n")),
        }
    }

    /// Something that the person should know.
    pub(super) fn note(&mut self, text: &str) {
        let text = printable(text);
        let _ = match self.is_styled {
            true => writeln!(stderr(), "{DIM}{text}{PLAIN}"),
            false => writeln!(stderr(), "{text}"),
        };
    }

    /// What went wrong.
    pub(super) fn error(&mut self, error: &Error) {
        self.note(&format!("error: {}", sentence(error)));
    }
}

/// Without what would move the cursor, change the title or answer the terminal's questions: a
/// model's words are not trusted with that.
fn printable(text: &str) -> String {
    let is_harmless = |c: &char| matches!(c, '\n' | '\t') || !c.is_control();
    text.chars().filter(is_harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_cannot_command_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\x07\u{9b}c\r\n\té🙂"), "a[2Jbc\n\té🙂");
    }
}
