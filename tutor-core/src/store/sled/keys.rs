//! The keys of the one tree. Every id but the last part ends with a zero byte, which no id has, so
//! that none can forge the end of another and all sort like their bytes; numbers are big-endian,
//! so that bytes sort like numbers.
//!
//! All that belongs to a session, and is written with it, lies side by side: a turn then touches
//! few pages of the tree.

use crate::id::{MessageId, OwnerId, SessionId, TurnId};
use crate::session::SessionKey;
use crate::time::Timestamp;
use crate::turn::TurnKey;

/// The format of the store.
pub(super) const FORMAT: &[u8] = b"m\x06format";
/// How many groups of writes there were.
pub(super) const GROUPS: &[u8] = b"m\x06groups";
/// The version that the last written record got.
pub(super) const LAST_VERSION: &[u8] = b"m\x07version";
/// The start of all running turns.
pub(super) const RUNNING: &[u8] = &[RUNNING_TURN];

pub(super) const SESSION: u8 = b's';
pub(super) const LISTING: u8 = b'l';
pub(super) const TURN: u8 = b't';
pub(super) const RUNNING_TURN: u8 = b'r';
pub(super) const IDEMPOTENCY: u8 = b'i';
pub(super) const RECORD: u8 = b'd';
pub(super) const PIECE: u8 = b'p';

pub(super) const ITSELF: u8 = 0;
pub(super) const MESSAGE: u8 = 1;
pub(super) const POSITION: u8 = 2;
pub(super) const ENDED_TURN: u8 = 3;

/// The start of all that belongs to a session, except what has to be found without it.
pub(super) fn of_session(key: &SessionKey) -> Vec<u8> {
    let mut bytes = start(SESSION, &key.owner);
    part(&mut bytes, key.id.as_str());
    bytes
}

/// The start of all sessions of an owner.
pub(super) fn sessions(owner: &OwnerId) -> Vec<u8> {
    start(SESSION, owner)
}

pub(super) fn session(key: &SessionKey) -> Vec<u8> {
    with(of_session(key), ITSELF, b"")
}

/// The message that was stored as number `seq` of its session, from 0.
pub(super) fn message(key: &SessionKey, seq: u64) -> Vec<u8> {
    with(of_session(key), MESSAGE, &seq.to_be_bytes())
}

/// Where the message of this id is.
pub(super) fn position(key: &SessionKey, id: &MessageId) -> Vec<u8> {
    with(of_session(key), POSITION, id.as_str().as_bytes())
}

/// The start of a session's ended turns.
pub(super) fn ended_turns(key: &SessionKey) -> Vec<u8> {
    with(of_session(key), ENDED_TURN, b"")
}

pub(super) fn ended_turn(key: &SessionKey, id: &TurnId) -> Vec<u8> {
    with(of_session(key), ENDED_TURN, id.as_str().as_bytes())
}

/// The start of the list of an owner's sessions.
pub(super) fn listings(owner: &OwnerId) -> Vec<u8> {
    start(LISTING, owner)
}

/// The place of a session in its owner's list, in ascending order of time and id.
pub(super) fn listing(owner: &OwnerId, updated_at: Timestamp, id: &SessionId) -> Vec<u8> {
    let mut bytes = listings(owner);
    // With the sign bit flipped, signed numbers sort as unsigned ones.
    let time = updated_at.as_micros().cast_unsigned() ^ (1 << 63);
    bytes.extend_from_slice(&time.to_be_bytes());
    bytes.extend_from_slice(id.as_str().as_bytes());
    bytes
}

/// The session at a place of the list that [`listings`] begins.
pub(super) fn listed_session(owner: &OwnerId, key: &[u8]) -> Option<SessionId> {
    let id = key.get(listings(owner).len() + size_of::<u64>()..)?;
    SessionId::new(std::str::from_utf8(id).ok()?).ok()
}

/// The start of what leads to an owner's turns.
pub(super) fn turns(owner: &OwnerId) -> Vec<u8> {
    start(TURN, owner)
}

/// The start of an owner's running turns.
pub(super) fn running_turns(owner: &OwnerId) -> Vec<u8> {
    start(RUNNING_TURN, owner)
}

/// The start of the idempotency keys that turns of an owner have taken.
pub(super) fn idempotency_keys(owner: &OwnerId) -> Vec<u8> {
    start(IDEMPOTENCY, owner)
}

/// The session of a turn.
pub(super) fn turn(key: &TurnKey) -> Vec<u8> {
    last(start(TURN, &key.owner), key.id.as_str())
}

pub(super) fn running_turn(key: &TurnKey) -> Vec<u8> {
    last(start(RUNNING_TURN, &key.owner), key.id.as_str())
}

/// The turn that has taken an idempotency key.
pub(super) fn idempotency(owner: &OwnerId, key: &str) -> Vec<u8> {
    last(start(IDEMPOTENCY, owner), key)
}

/// The start of all records of a kind.
pub(super) fn records(kind: &str) -> Vec<u8> {
    let mut bytes = vec![RECORD];
    // A kind may hold any character.
    bytes.extend_from_slice(&(kind.len() as u64).to_be_bytes());
    last(bytes, kind)
}

/// The start of all records, and that of all lists.
pub(super) const RECORDS: &[u8] = &[RECORD];
pub(super) const LISTINGS: &[u8] = &[LISTING];

/// The first key behind all those that begin with `prefix`.
pub(super) fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut bytes = prefix.to_vec();
    while let Some(last) = bytes.pop() {
        if last < u8::MAX {
            bytes.push(last + 1);
            return bytes;
        }
    }
    vec![u8::MAX; 2]
}

pub(super) fn record(kind: &str, key: &str) -> Vec<u8> {
    last(records(kind), key)
}

/// Piece `n` of a large value, from 1.
pub(super) fn piece(key: &[u8], n: u16) -> Vec<u8> {
    let mut bytes = pieces(key);
    bytes.extend_from_slice(&n.to_be_bytes());
    bytes
}

/// The start of all pieces of values whose keys begin like this.
pub(super) fn pieces(prefix: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(prefix.len() + 3);
    bytes.push(PIECE);
    bytes.extend_from_slice(prefix);
    bytes
}

fn start(subject: u8, owner: &OwnerId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(160);
    bytes.push(subject);
    part(&mut bytes, owner.as_str());
    bytes
}

/// Adds an id, which has no zero byte.
fn part(bytes: &mut Vec<u8>, id: &str) {
    bytes.extend_from_slice(id.as_bytes());
    bytes.push(0);
}

fn last(mut bytes: Vec<u8>, text: &str) -> Vec<u8> {
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn with(mut bytes: Vec<u8>, subject: u8, rest: &[u8]) -> Vec<u8> {
    bytes.push(subject);
    bytes.extend_from_slice(rest);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::subject::Subject;
    use super::*;

    prop_compose! {
        /// Few letters, among them the bytes of lengths and subjects that ids may contain.
        fn id()(text in "[a1-3s+]{1,5}") -> String { text }
    }

    prop_compose! {
        fn name()(owner in id(), session in id(), rest in id(), seq in 0..3u64) -> Name {
            Name {
                session: SessionKey::new(OwnerId::new(owner).unwrap(), SessionId::new(session).unwrap()),
                rest,
                seq,
            }
        }
    }

    #[derive(Clone, Debug, PartialEq)]
    struct Name {
        session: SessionKey,
        rest: String,
        seq: u64,
    }

    /// Every key that a name can have, each with what it stands for.
    fn all(name: &Name) -> Vec<(String, Vec<u8>)> {
        let Name {
            session: key,
            rest,
            seq,
        } = name;
        let owner = &key.owner;
        let turn_key = TurnKey::new(owner.clone(), TurnId::new(rest).unwrap());
        let time = Timestamp::from_micros(i64::try_from(*seq).unwrap() - 1);
        let mut keys = vec![
            (format!("session {key:?}"), session(key)),
            (format!("message {key:?} {seq}"), message(key, *seq)),
            (
                format!("position {key:?} {rest}"),
                position(key, &MessageId::new(rest).unwrap()),
            ),
            (
                format!("ended {key:?} {rest}"),
                ended_turn(key, &turn_key.id),
            ),
            (
                format!("listing {key:?} {time:?}"),
                listing(owner, time, &key.id),
            ),
            (format!("turn {turn_key:?}"), turn(&turn_key)),
            (format!("running {turn_key:?}"), running_turn(&turn_key)),
            (
                format!("idempotency {owner:?} {rest}"),
                idempotency(owner, rest),
            ),
            (
                format!("record {} {rest}", key.id),
                record(key.id.as_str(), rest),
            ),
            ("format".to_owned(), FORMAT.to_vec()),
            ("version".to_owned(), LAST_VERSION.to_vec()),
            ("groups".to_owned(), GROUPS.to_vec()),
        ];
        for n in [1, 0x6161] {
            let pieces: Vec<_> = keys
                .iter()
                .filter(|(what, _)| !what.starts_with("piece"))
                .map(|(what, key)| (format!("piece {n} of {what}"), piece(key, n)))
                .collect();
            keys.extend(pieces);
        }
        keys
    }

    proptest! {
        #[test]
        fn different_things_have_different_keys(a in name(), b in name()) {
            for (what, key) in all(&a) {
                for (other, other_key) in all(&b) {
                    prop_assert_eq!(what == other, key == other_key, "{} and {}", what, other);
                }
            }
        }

        #[test]
        fn a_key_tells_what_it_stands_for(name in name()) {
            for (what, key) in all(&name) {
                let subject = Subject::of(&key);
                prop_assert_eq!(subject.as_ref().map(Subject::key), Some(key), "{}", what);
            }
        }

        #[test]
        fn any_bytes_are_a_key_or_none(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(subject) = Subject::of(&bytes) {
                prop_assert_eq!(subject.key(), bytes);
            }
        }

        #[test]
        fn what_is_behind_a_prefix_is_behind_all_of_it(
            prefix in prop::collection::vec(any::<u8>(), 1..5), rest in prop::collection::vec(any::<u8>(), 0..5),
        ) {
            prop_assume!(prefix.iter().any(|byte| *byte < u8::MAX));
            let end = behind(&prefix);
            prop_assert!([&*prefix, &*rest].concat() < end && !end.starts_with(&prefix));
        }

        #[test]
        fn no_session_and_no_owner_begins_like_another(a in name(), b in name()) {
            let inside = |key: &[u8], prefix: &[u8]| key.starts_with(prefix);
            prop_assert_eq!(inside(&session(&a.session), &of_session(&b.session)), a.session == b.session);
            prop_assert_eq!(inside(&ended_turns(&a.session), &of_session(&b.session)), a.session == b.session);
            let place = listing(&a.session.owner, Timestamp::default(), &a.session.id);
            prop_assert_eq!(inside(&place, &listings(&b.session.owner)), a.session.owner == b.session.owner);
            let record = record(&a.rest, a.session.id.as_str());
            prop_assert_eq!(inside(&record, &records(&b.rest)), a.rest == b.rest);
        }

        #[test]
        fn a_list_sorts_by_time_then_id(
            a in (any::<i64>(), id()), b in (any::<i64>(), id()),
        ) {
            let owner = OwnerId::default();
            let place = |(micros, id): &(i64, String)| {
                listing(&owner, Timestamp::from_micros(*micros), &SessionId::new(id).unwrap())
            };
            prop_assert_eq!(place(&a).cmp(&place(&b)), a.cmp(&b));
            let listed = listed_session(&owner, &place(&a)).unwrap();
            prop_assert_eq!(listed.as_str(), a.1);
        }

        #[test]
        fn messages_sort_by_number(a in any::<u64>(), b in any::<u64>()) {
            let key = SessionKey::new(OwnerId::default(), SessionId::new("s").unwrap());
            prop_assert_eq!(message(&key, a).cmp(&message(&key, b)), a.cmp(&b));
        }
    }
}
