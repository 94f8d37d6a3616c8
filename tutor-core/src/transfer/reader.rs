//! Reading an export: bytes in, sessions and records out. Does no input or output itself.

use std::collections::VecDeque;

use super::Counts;
use super::line::{FORMAT, Line, MAX_LINE_BYTES, VERSION};
use crate::error::{Error, ErrorKind, Result};
use crate::id::OwnerId;
use crate::message::Message;
use crate::store::WholeSession;
use crate::time::Timestamp;

/// One thing of an export, whole and checked.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Item {
    /// A session with everything in it.
    Session(Box<WholeSession>),
    /// A small document.
    Record {
        /// The kind of record.
        kind: String,
        /// The key in that kind.
        key: String,
        /// Its bytes.
        value: Vec<u8>,
    },
}

/// Reads an export that comes in pieces.
///
/// Refuses what is damaged, truncated, of a newer version or contradicts itself, naming the line.
/// What it gave before was whole. Memory is bounded by the longest session.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// Up to where the buffer holds no end of a line.
    searched: usize,
    line: u64,
    state: State,
    checksums: bool,
    /// That of the line before.
    checksum: u32,
    owner: Option<OwnerId>,
    since: Option<Timestamp>,
    counts: Counts,
    items: VecDeque<(Item, u64)>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Start,
    Between,
    /// In a session that began at a line and is still without that many messages and turns.
    Session(Box<Half>),
    End,
}

#[derive(Debug)]
struct Half {
    whole: WholeSession,
    line: u64,
    turns: u64,
}

impl Reader {
    /// A reader at the start of an export.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more bytes. What became whole by them is [`pop`](Self::pop).
    ///
    /// # Errors
    /// `invalid_input`, whose context has the `line`; `too_large` for a line of more than
    /// [`MAX_LINE_BYTES`]. Then nothing more can be read.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(length) = self.buffer[self.searched..]
            .iter()
            .position(|b| *b == b'\n')
        {
            let end = self.searched + length;
            self.searched = end + 1;
            self.line += 1;
            let text = self.buffer[start..end].to_vec();
            start = end + 1;
            self.take(&text)
                .map_err(|error| error.with_context("line", self.line))?;
        }
        self.buffer.drain(..start);
        self.searched = self.buffer.len();
        if self.buffer.len() > MAX_LINE_BYTES {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("a line of an export has at most {MAX_LINE_BYTES} bytes"),
            )
            .with_context("line", self.line + 1));
        }
        Ok(())
    }

    /// The next session or record, and the line on which it began.
    pub fn pop(&mut self) -> Option<(Item, u64)> {
        self.items.pop_front()
    }

    /// Whose data the export says it is; everybody's if `None`.
    pub fn owner(&self) -> Option<&OwnerId> {
        self.owner.as_ref()
    }

    /// Since when sessions must have changed to be in the export.
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// What has been read so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Says that there are no more bytes.
    ///
    /// # Errors
    /// `invalid_input` if this is not the end of the export.
    pub fn finish(&self) -> Result<()> {
        if matches!(self.state, State::End) && self.buffer.is_empty() {
            return Ok(());
        }
        let what = match self.state {
            State::Start if self.buffer.is_empty() => "the export is empty",
            _ => "the export is cut off: take a whole copy of it",
        };
        Err(Error::invalid_input(what).with_context("line", self.line + 1))
    }

    fn take(&mut self, text: &[u8]) -> Result<()> {
        let (line, checksum) = Line::read(text, self.checksum)?;
        let has_checksum = checksum.is_some();
        self.checksum = checksum.unwrap_or_default();
        let state = std::mem::take(&mut self.state);
        if !matches!(state, State::Start) && has_checksum != self.checksums {
            return Err(Error::invalid_input(
                "all lines of an export have a checksum, or none",
            ));
        }
        self.state = match (state, line) {
            (State::Start, Line::Header(header)) => {
                if header.format != FORMAT {
                    return Err(Error::invalid_input("this is not an export"));
                }
                if header.version > VERSION {
                    return Err(Error::invalid_input(
                        "the export was written by a newer version of this program: use that one",
                    )
                    .with_context("version", header.version));
                }
                self.checksums = has_checksum;
                self.owner = header.owner;
                self.since = header.since;
                State::Between
            }
            (State::Start, _) => {
                return Err(Error::invalid_input(
                    "this is not an export, or its first line is missing",
                ));
            }
            (State::Between, Line::Session(line)) => {
                let half = Half {
                    whole: WholeSession {
                        session: line.session,
                        messages: Vec::new(),
                        turns: Vec::new(),
                        partial: None,
                    },
                    line: self.line,
                    turns: line.turn_count,
                };
                self.settle(Box::new(half))?
            }
            (State::Session(half), Line::Message(message)) => self.message(half, *message)?,
            (State::Session(mut half), Line::Turn(line)) if half.has_all_messages() => {
                half.whole.turns.push(line.turn);
                if line.partial.is_some() {
                    half.whole.partial = line.partial;
                }
                self.settle(half)?
            }
            (State::Between, Line::Record(record)) => {
                let (kind, key) = (record.kind.clone(), record.key.clone());
                let value = record.value().ok_or_else(|| {
                    Error::invalid_input("a record has either a text or bytes in base 64")
                })?;
                self.counts.records += 1;
                let item = Item::Record { kind, key, value };
                self.items.push_back((item, self.line));
                State::Between
            }
            (State::Between, Line::End(counts)) => {
                if counts != self.counts {
                    return Err(Error::invalid_input(
                        "the export counts other things than it has: lines are missing",
                    ));
                }
                State::End
            }
            (State::Session(half), _) => {
                return Err(Error::invalid_input(
                    "the lines before this one are missing: the session has not all that it counts",
                )
                .with_context("session_line", half.line));
            }
            (State::End, _) => {
                return Err(Error::invalid_input("there are lines behind the end"));
            }
            (State::Between, _) => {
                return Err(Error::invalid_input("this line does not belong here"));
            }
        };
        Ok(())
    }

    fn message(&mut self, mut half: Box<Half>, message: Message) -> Result<State> {
        if half.has_all_messages() {
            return Err(Error::invalid_input(
                "the session has more messages than it counts",
            ));
        }
        half.whole.messages.push(message);
        self.settle(half)
    }

    /// Gives the session out if it is whole.
    fn settle(&mut self, half: Box<Half>) -> Result<State> {
        if !half.has_all_messages() || (half.whole.turns.len() as u64) < half.turns {
            return Ok(State::Session(half));
        }
        half.whole.check()?;
        self.counts.sessions += 1;
        self.counts.messages += half.whole.messages.len() as u64;
        self.counts.turns += half.whole.turns.len() as u64;
        let item = Item::Session(Box::new(half.whole));
        self.items.push_back((item, half.line));
        Ok(State::Between)
    }
}

impl Half {
    fn has_all_messages(&self) -> bool {
        self.whole.messages.len() as u64 >= self.whole.session.message_count
    }
}
