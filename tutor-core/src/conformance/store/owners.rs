//! Laws of isolation: the owner is part of every key.

#![expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]

use std::sync::Arc;

use crate::conformance::sample::{
    at, begin, contents, end, ids, kind, line, message_query, new_turn, owner, session,
    session_key, session_query, turn_key,
};
use crate::error::ErrorKind;
use crate::session::{Branch, MessageQuery, MessageRange, SessionPatch};
use crate::store::{Checkpoint, SessionStore};
use crate::trace::Trace;

/// Another owner's data is like absent data, for every method.
pub async fn owners_do_not_see_each_others_data(store: Arc<dyn SessionStore>) {
    line(&*store, "victim", "s", 1).await;
    let running = begin(&*store, new_turn("victim", "s", "t", Some("r-s-0"))).await;
    let before = contents(&*store, &["victim"]).await;

    let key = session_key("thief", "s");
    assert_eq!(store.session(&key).await.unwrap(), None);
    assert!(
        store
            .sessions(session_query("thief", 9))
            .await
            .unwrap()
            .items
            .is_empty()
    );
    let patch = SessionPatch {
        title: Some("mine".to_owned()),
        ..SessionPatch::default()
    };
    assert_eq!(
        kind(store.update_session(&key, patch).await),
        ErrorKind::NotFound
    );
    assert!(!store.delete_session(&key).await.unwrap());
    let messages = store.messages(MessageQuery::latest(key, 9)).await;
    assert_eq!(kind(messages), ErrorKind::NotFound);

    let turn = turn_key("thief", "t");
    assert_eq!(store.turn(&turn).await.unwrap(), None);
    assert_eq!(store.turn_by_key(&turn.owner, "k-t").await.unwrap(), None);
    let checkpoint = Checkpoint {
        partial: None,
        trace: Trace::default(),
        lease_until: at(9),
    };
    assert_eq!(
        kind(store.checkpoint_turn(&turn, checkpoint).await),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(store.finish_turn(&turn, end(&running)).await),
        ErrorKind::NotFound
    );
    let intruder = new_turn("thief", "s", "t2", Some("u-t"));
    assert_eq!(kind(store.begin_turn(intruder).await), ErrorKind::NotFound);
    assert_eq!(contents(&*store, &["victim", "thief"]).await, before);
}

/// Wherever the line between owner, session and message is drawn, names stay apart.
pub async fn ids_cannot_forge_the_prefix_of_another_owner_or_session(store: Arc<dyn SessionStore>) {
    let names = [
        ("a", "a"),
        ("a", "aa"),
        ("aa", "a"),
        ("aa", "aa"),
        ("a", "a.a"),
        ("a.a", "a"),
        ("a", "a:a"),
        ("a:a", "a"),
        ("a", "a+"),
        ("a+", "a"),
        ("a", "1"),
        ("a1", "1"),
        ("a", "11"),
        ("A", "a"),
    ];
    for (owner, id) in names {
        line(&*store, owner, id, 1).await;
    }
    let long = "x".repeat(128);
    line(&*store, &long, &long[..100], 1).await;
    line(&*store, &long[..127], &long[..100], 1).await;
    for (owner_id, id) in names
        .into_iter()
        .chain([(&*long, &long[..100]), (&long[..127], &long[..100])])
    {
        let query = message_query(
            session_key(owner_id, id),
            Branch::All,
            MessageRange::Latest,
            9,
        );
        let page = store.messages(query).await.unwrap();
        assert_eq!(
            ids(&page),
            [format!("u-{id}-0"), format!("r-{id}-0")],
            "{owner_id} {id}"
        );
        let mut expected: Vec<&str> = names
            .iter()
            .filter(|(o, _)| *o == owner_id)
            .map(|(_, s)| *s)
            .collect();
        if expected.is_empty() {
            expected.push(id);
        }
        expected.sort_unstable_by(|a, b| b.cmp(a));
        let page = store.sessions(session_query(owner_id, 50)).await.unwrap();
        let listed: Vec<&str> = page
            .items
            .iter()
            .map(|session| session.id.as_str())
            .collect();
        assert_eq!(listed, expected, "sessions of {owner_id}");
    }
}

/// Ids and idempotency keys are unique per owner, not more.
pub async fn owners_can_use_the_same_ids_and_keys(store: Arc<dyn SessionStore>) {
    for name in ["a", "b"] {
        begin(&*store, new_turn(name, "s", "t", None)).await;
    }
    store.create_session(session("c", "s", 1)).await.unwrap();
    for name in ["a", "b"] {
        let turn = store
            .turn_by_key(&owner(name), "k-t")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(turn.owner, owner(name));
        store.finish_turn(&turn.key(), end(&turn)).await.unwrap();
    }
    assert_eq!(store.turn_by_key(&owner("c"), "k-t").await.unwrap(), None);
}
