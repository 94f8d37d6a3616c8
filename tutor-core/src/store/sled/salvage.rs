//! What can still be done with a session of which some record is damaged: its place in the list
//! tells that it is there, and it can be deleted. Keys say what rows cannot.

use std::collections::HashSet;

use super::draft::{Draft, Rows};
use super::keys;
use super::rows::{Compact, TurnRow};
use super::subject::Subject;
use super::tails::Effect;
use crate::error::Result;
use crate::id::{SessionId, TurnId};
use crate::session::{Session, SessionKey};
use crate::store::{RunningTurn, rules};
use crate::time::Timestamp;
use crate::turn::TurnKey;

/// A session whose row is damaged, as its `place` in the list knows it.
pub(super) fn listed(key: SessionKey, place: &[u8]) -> Session {
    let updated_at = match Subject::of(place) {
        Some(Subject::Listing(_, time, _)) => time,
        _ => Timestamp::default(),
    };
    rules::damaged_session(key, updated_at)
}

/// Deletes a session without asking its own row. Reads all that leads to turns of its owner.
///
/// An idempotency key of which neither its turn nor its own row can be read stays taken.
pub(super) fn delete_session(draft: &mut Draft<'_>, key: &SessionKey) -> Result<()> {
    let owner = &key.owner;
    let mut turns = HashSet::new();
    let mut taken = HashSet::new();
    for (name, value) in draft.scan(&keys::ended_turns(key))? {
        if let Some(Subject::EndedTurn(_, id)) = Subject::of(&name) {
            turns.insert(id);
        }
        let row = draft.decode::<TurnRow>(&name, &value);
        taken.extend(
            row.ok()
                .and_then(|row| RunningTurn::from(row).turn.idempotency_key),
        );
    }
    for (name, value) in draft.scan(&keys::running_turns(owner))? {
        let row = draft.decode::<TurnRow>(&name, &value);
        if let Ok(running) = row.map(RunningTurn::from)
            && running.turn.session_id == key.id
        {
            turns.insert(running.turn.id);
            taken.extend(running.turn.idempotency_key);
        }
    }
    for (name, value) in draft.scan(&keys::turns(owner))? {
        let led = draft.decode::<Compact<SessionId>>(&name, &value);
        if led.is_ok_and(|Compact(id)| id == key.id)
            && let Some(Subject::Turn(turn)) = Subject::of(&name)
        {
            turns.insert(turn.id);
        }
    }
    for (name, value) in draft.scan(&keys::idempotency_keys(owner))? {
        let led = draft.decode::<Compact<TurnId>>(&name, &value);
        if led.is_ok_and(|Compact(id)| turns.contains(&id)) {
            draft.remove_unread(&name)?;
        }
    }
    for text in taken {
        draft.remove_unread(&keys::idempotency(owner, &text))?;
    }
    for id in turns {
        let turn = TurnKey::new(owner.clone(), id);
        draft.remove_unread(&keys::turn(&turn))?;
        draft.remove_unread(&keys::running_turn(&turn))?;
    }
    for place in draft.scan(&keys::listings(owner))?.into_keys() {
        if matches!(Subject::of(&place), Some(Subject::Listing(_, _, id)) if id == key.id) {
            draft.remove(&place)?;
        }
    }
    draft.remove_all(&keys::of_session(key))?;
    draft.note(Effect::Deleted(key.clone()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use ::sled::IVec;

    use super::*;
    use crate::Tutor;
    use crate::conformance::records::put;
    use crate::conformance::sample::{
        begin, exchange, line, message_query, new_turn, owner, session_key, session_query,
    };
    use crate::error::{Error, ErrorKind};
    use crate::session::{Branch, MessageRange};
    use crate::store::{
        Existing, Expect, RecordStore, SessionStore, SledStore, WholeSession, verify,
    };

    async fn empty() -> (SledStore, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let options = SledStore::options().durability(crate::store::Durability::Process);
        (options.open(directory.path()).await.unwrap(), directory)
    }

    /// A session with ended turns, one of which is long, and one that runs.
    async fn fill(store: &SledStore) {
        line(store, "o", "s", 2).await;
        let mut long = new_turn("o", "s", "long", Some("r-s-1"));
        long.messages[0].content = "word ".repeat(60_000).into();
        exchange(store, long).await;
        begin(store, new_turn("o", "s", "runs", Some("r-long"))).await;
    }

    /// Everything that belongs to the session, as the tree has it.
    async fn entries(store: &SledStore) -> Vec<(Vec<u8>, IVec)> {
        let of = |key: &[u8]| match Subject::of(key).unwrap() {
            Subject::Session(key)
            | Subject::Message(key, _)
            | Subject::Position(key, _)
            | Subject::EndedTurn(key, _) => key.id.as_str() == "s",
            Subject::Listing(_, _, id) => id.as_str() == "s",
            Subject::Turn(key) | Subject::RunningTurn(key) => {
                key.owner.as_str() == "o" && !key.id.as_str().starts_with("t-")
            }
            Subject::Idempotency(owner, key) => owner.as_str() == "o" && !key.starts_with("k-t-"),
            Subject::Piece(..) => true,
            _ => false,
        };
        let all = move |tree: &::sled::Tree| {
            let entries = tree.iter().map(|entry| entry.unwrap());
            let ours = entries.filter(|(key, _)| of(key));
            Ok(ours.map(|(key, value)| (key.to_vec(), value)).collect())
        };
        store.read(all).await.unwrap()
    }

    async fn put_raw(store: &SledStore, key: &[u8], value: impl Into<IVec>) {
        let (key, value) = (key.to_vec(), value.into());
        store
            .read(move |tree| {
                tree.insert(key, value).unwrap();
                Ok(())
            })
            .await
            .unwrap();
        // What is in memory is not damaged.
        store.shared.forget();
    }

    /// The value with one bit wrong: in its header, in the middle, at its end.
    fn damages(value: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        [0, 3, value.len() / 2, value.len() - 1]
            .into_iter()
            .map(|at| {
                let mut damaged = value.to_vec();
                damaged[at] ^= 1;
                damaged
            })
    }

    /// Reads what lies under a key by its name.
    async fn read(store: &SledStore, key: &[u8]) -> Option<Error> {
        let query = |session: SessionKey, range| message_query(session, Branch::All, range, 100);
        match Subject::of(key).unwrap() {
            Subject::Session(key) => store.session(&key).await.err(),
            Subject::Message(session, _) => store
                .messages(query(session, MessageRange::Latest))
                .await
                .err(),
            Subject::Position(session, id) => store
                .messages(query(session, MessageRange::Before(id)))
                .await
                .err(),
            Subject::EndedTurn(session, id) => {
                store.turn(&TurnKey::new(session.owner, id)).await.err()
            }
            Subject::Turn(key) | Subject::RunningTurn(key) => store.turn(&key).await.err(),
            Subject::Idempotency(owner, key) => store.turn_by_key(&owner, &key).await.err(),
            Subject::Record(kind, key) => store.get(&kind, &key).await.err(),
            other => panic!("{other:?} is not read by a name"),
        }
    }

    /// What nothing happened to, of the same owner and of another.
    async fn neighbors(store: &SledStore) -> [Option<WholeSession>; 2] {
        let one = store.whole_session(&session_key("o", "t")).await;
        let other = store.whole_session(&session_key("other", "u")).await;
        [one.unwrap(), other.unwrap()]
    }

    async fn fill_neighbors(store: &SledStore) {
        line(store, "o", "t", 2).await;
        line(store, "other", "u", 2).await;
    }

    #[tokio::test]
    async fn a_damaged_record_is_named_and_its_neighbors_stay_readable() {
        let (store, _directory) = empty().await;
        fill(&store).await;
        fill_neighbors(&store).await;
        for name in ["a", "b"] {
            let page = put("book", name, b"written", Expect::Any);
            store.commit(vec![page]).await.unwrap();
        }
        let before = neighbors(&store).await;
        let mut all = entries(&store).await;
        all.retain(|(_, value)| !value.is_empty());
        let record = keys::record("book", "a");
        let name = record.clone();
        let value = store
            .read(move |tree| Ok(tree.get(name).unwrap().unwrap()))
            .await;
        all.push((record, value.unwrap()));
        for (key, value) in all {
            let whole = match Subject::of(&key).unwrap() {
                Subject::Piece(whole, _) => whole,
                _ => key.clone(),
            };
            let name = whole.escape_ascii().to_string();
            for damaged in damages(&value) {
                put_raw(&store, &key, damaged).await;
                let error = read(&store, &whole).await.expect(&name);
                assert_eq!(error.kind(), ErrorKind::DataCorrupt, "{name}");
                assert_eq!(error.context_value("record"), Some(name.as_str()));

                let found = verify(&store, &mut |_| {}).await.unwrap();
                let named = |problem: &Error| problem.context_value("record") == Some(&*name);
                assert!(found.all_problems().any(named), "{name}");

                assert!(neighbors(&store).await == before, "{name}");
                let listed = store.sessions(session_query("o", 10)).await.unwrap();
                assert_eq!(listed.items.len(), 2, "{name}");
                store.running_turns().await.unwrap();
                assert!(store.get("book", "b").await.unwrap().is_some());
            }
            put_raw(&store, &key, value).await;
        }
        assert!(verify(&store, &mut |_| {}).await.unwrap().is_sound());
        let last = message_query(session_key("o", "s"), Branch::All, MessageRange::Latest, 1);
        assert_eq!(store.messages(last).await.unwrap().items.len(), 1);
    }

    #[tokio::test]
    async fn a_damaged_session_is_replaced_by_its_backup() {
        let (store, _directory) = empty().await;
        fill_neighbors(&store).await;
        let before = neighbors(&store).await;
        let name = keys::session(&session_key("o", "t"));
        let row = name.clone();
        let value = store.read(move |tree| Ok(tree.get(row).unwrap().unwrap()));
        let value = value.await.unwrap();
        for damaged in damages(&value) {
            put_raw(&store, &name, damaged).await;
            let whole = before[0].clone().unwrap();
            let refused = store.import_session(whole.clone(), Existing::Refuse).await;
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::DataCorrupt);
            store
                .import_session(whole, Existing::Replace)
                .await
                .unwrap();
            assert!(neighbors(&store).await == before);
            assert!(verify(&store, &mut |_| {}).await.unwrap().is_sound());
        }
    }

    #[tokio::test]
    async fn a_session_is_deleted_whatever_of_it_is_damaged() {
        let (store, _directory) = empty().await;
        let tutor = Tutor::builder().store(store.clone());
        let tutor = tutor.build().await.unwrap().for_owner(owner("o"));
        let mut by_tutor = false;
        fill_neighbors(&store).await;
        let before = neighbors(&store).await;
        fill(&store).await;
        let all = entries(&store).await;
        for (key, value) in all.iter().filter(|(_, value)| !value.is_empty()) {
            for damaged in damages(value) {
                put_raw(&store, key, damaged).await;
                let name = key.escape_ascii();
                // Every other time as a learner does it: the turn that runs is stopped first.
                by_tutor = !by_tutor;
                let session = session_key("o", "s");
                let deleted = if by_tutor {
                    tutor.delete_session(&session.id).await
                } else {
                    store.delete_session(&session).await
                };
                assert!(deleted.unwrap(), "{name}");
                let left = entries(&store).await;
                assert!(left.is_empty(), "{name} leaves {left:?}");
                let found = verify(&store, &mut |_| {}).await.unwrap();
                assert!(
                    found.is_sound(),
                    "{name}: {:?}",
                    found.all_problems().next()
                );
                assert!(neighbors(&store).await == before, "{name}");
                for (key, value) in &all {
                    put_raw(&store, key, value).await;
                }
            }
        }
    }
}
