//! What a key of the tree stands for: the way back from [`keys`], for those who walk over all.

use super::keys;
use crate::id::{MessageId, OwnerId, SessionId, TurnId};
use crate::session::SessionKey;
use crate::time::Timestamp;
use crate::turn::TurnKey;

/// What lies under a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Subject {
    Format,
    LastVersion,
    Groups,
    Session(SessionKey),
    Message(SessionKey, u64),
    Position(SessionKey, MessageId),
    EndedTurn(SessionKey, TurnId),
    Listing(OwnerId, Timestamp, SessionId),
    Turn(TurnKey),
    RunningTurn(TurnKey),
    Idempotency(OwnerId, String),
    Record(String, String),
    /// A piece of what lies under another key.
    Piece(Vec<u8>, u16),
}

impl Subject {
    /// `None` if no key looks like this.
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        let subject = Self::guess(key)?;
        // What is not written in the one way is not ours.
        (subject.key() == key).then_some(subject)
    }

    fn guess(key: &[u8]) -> Option<Self> {
        match key {
            keys::FORMAT => return Some(Self::Format),
            keys::LAST_VERSION => return Some(Self::LastVersion),
            keys::GROUPS => return Some(Self::Groups),
            _ => {}
        }
        let (kind, rest) = key.split_first()?;
        match *kind {
            keys::SESSION => of_session(rest),
            keys::LISTING => {
                let (owner, rest) = owner(rest)?;
                let (time, id) = rest.split_first_chunk()?;
                let micros = (u64::from_be_bytes(*time) ^ (1 << 63)).cast_signed();
                let id = SessionId::new(text(id)?).ok()?;
                Some(Self::Listing(owner, Timestamp::from_micros(micros), id))
            }
            keys::TURN => turn_key(rest).map(Self::Turn),
            keys::RUNNING_TURN => turn_key(rest).map(Self::RunningTurn),
            keys::IDEMPOTENCY => {
                let (owner, key) = owner(rest)?;
                Some(Self::Idempotency(owner, text(key)?.to_owned()))
            }
            keys::RECORD => {
                let (size, rest) = rest.split_first_chunk()?;
                let (kind, key) =
                    rest.split_at_checked(usize::try_from(u64::from_be_bytes(*size)).ok()?)?;
                Some(Self::Record(text(kind)?.to_owned(), text(key)?.to_owned()))
            }
            keys::PIECE => {
                let (base, n) = rest.split_last_chunk()?;
                Some(Self::Piece(base.to_vec(), u16::from_be_bytes(*n)))
            }
            _ => None,
        }
    }

    /// The key.
    pub(super) fn key(&self) -> Vec<u8> {
        match self {
            Self::Format => keys::FORMAT.to_vec(),
            Self::LastVersion => keys::LAST_VERSION.to_vec(),
            Self::Groups => keys::GROUPS.to_vec(),
            Self::Session(key) => keys::session(key),
            Self::Message(key, seq) => keys::message(key, *seq),
            Self::Position(key, id) => keys::position(key, id),
            Self::EndedTurn(key, id) => keys::ended_turn(key, id),
            Self::Listing(owner, time, id) => keys::listing(owner, *time, id),
            Self::Turn(key) => keys::turn(key),
            Self::RunningTurn(key) => keys::running_turn(key),
            Self::Idempotency(owner, key) => keys::idempotency(owner, key),
            Self::Record(kind, key) => keys::record(kind, key),
            Self::Piece(base, n) => keys::piece(base, *n),
        }
    }
}

fn of_session(rest: &[u8]) -> Option<Subject> {
    let (owner, rest) = owner(rest)?;
    let (id, rest) = cut(rest)?;
    let key = SessionKey::new(owner, SessionId::new(id).ok()?);
    let (part, rest) = rest.split_first()?;
    match *part {
        keys::ITSELF => Some(Subject::Session(key)),
        keys::MESSAGE => Some(Subject::Message(
            key,
            u64::from_be_bytes(rest.try_into().ok()?),
        )),
        keys::POSITION => Some(Subject::Position(key, MessageId::new(text(rest)?).ok()?)),
        keys::ENDED_TURN => Some(Subject::EndedTurn(key, TurnId::new(text(rest)?).ok()?)),
        _ => None,
    }
}

fn turn_key(rest: &[u8]) -> Option<TurnKey> {
    let (owner, id) = owner(rest)?;
    Some(TurnKey::new(owner, TurnId::new(text(id)?).ok()?))
}

fn owner(bytes: &[u8]) -> Option<(OwnerId, &[u8])> {
    let (id, rest) = cut(bytes)?;
    Some((OwnerId::new(id).ok()?, rest))
}

/// The text before the first zero byte, and what follows it.
fn cut(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((text(&bytes[..end])?, &bytes[end + 1..]))
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
