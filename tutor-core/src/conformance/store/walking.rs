//! Laws of those readings that lead through everything.

#![expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]

use std::sync::Arc;

use crate::conformance::sample::{
    begin, end, exchange, kind, line, message_id, new_turn, owner, session, session_key,
};
use crate::error::ErrorKind;
use crate::id::{OwnerId, TurnId};
use crate::session::MAX_PAGE;
use crate::store::{SessionStore, StorageCheck, TurnEnd};
use crate::turn::TurnStatus;

/// Capital letters before small ones, and each owner once however many sessions it has.
pub async fn owners_are_listed_in_the_order_of_their_bytes_without_gap_or_repeat(
    store: Arc<dyn SessionStore>,
) {
    assert!(store.owners(None, 1).await.unwrap().is_empty());
    let sorted = ["A", "B", "a", "a-", "a.b", "ab", "b", "local", "~"];
    for name in ["b", "a.b", "ab", "A", "~", "a", "local", "B", "a-"] {
        for id in ["s1", "s2", "s3"] {
            store.create_session(session(name, id, 5)).await.unwrap();
        }
    }
    let texts = |owners: Vec<OwnerId>| owners.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(store.owners(None, 99).await.unwrap()), sorted);
    for size in 1..4 {
        let mut all = Vec::new();
        loop {
            let page = store.owners(all.last().cloned(), size).await.unwrap();
            all.extend(page.iter().cloned());
            if page.len() < size {
                break;
            }
        }
        assert_eq!(texts(all), sorted, "{size} at a time");
    }
    // Behind one that has nothing, and one whose last session goes.
    assert_eq!(
        texts(store.owners(Some(owner("a0")), 1).await.unwrap()),
        ["ab"]
    );
    for id in ["s1", "s2", "s3"] {
        store.delete_session(&session_key("B", id)).await.unwrap();
    }
    assert_eq!(texts(store.owners(None, 2).await.unwrap()), ["A", "a"]);
    for limit in [0, MAX_PAGE + 1] {
        assert_eq!(
            kind(store.owners(None, limit).await),
            ErrorKind::InvalidInput
        );
    }
}

/// Those without any message of their own too, the running one among the others, and only those of
/// the session.
pub async fn turns_of_a_session_are_listed_in_the_order_of_their_ids(store: Arc<dyn SessionStore>) {
    let key = session_key("o", "s");
    assert_eq!(kind(store.turns(&key, None, 9).await), ErrorKind::NotFound);
    line(&*store, "o", "other", 2).await;
    line(&*store, "p", "s", 1).await;
    let head = exchange(&*store, new_turn("o", "s", "m", None)).await;
    let head = exchange(&*store, new_turn("o", "s", "a", Some(&head))).await;
    // Asked for again, and failed without a word.
    let mut again = new_turn("o", "s", "z", Some(&head));
    again.messages.clear();
    again.turn.user_message_id = message_id("u-a");
    let turn = begin(&*store, again).await;
    let failed = TurnEnd {
        status: TurnStatus::Failed,
        reply: None,
        ..end(&turn)
    };
    store.finish_turn(&turn.key(), failed).await.unwrap();
    begin(&*store, new_turn("o", "s", "k", Some("u-a"))).await;

    let names = ["a", "k", "m", "z"];
    for size in 1..6 {
        let mut all: Vec<TurnId> = Vec::new();
        loop {
            let page = store.turns(&key, all.last().cloned(), size).await.unwrap();
            for turn in &page {
                let read = store.turn(&turn.key()).await.unwrap();
                assert_eq!(read.as_ref(), Some(turn));
                all.push(turn.id.clone());
            }
            if page.len() < size {
                break;
            }
        }
        let all: Vec<&str> = all.iter().map(TurnId::as_str).collect();
        assert_eq!(all, names, "{size} at a time");
    }
    for limit in [0, MAX_PAGE + 1] {
        assert_eq!(
            kind(store.turns(&key, None, limit).await),
            ErrorKind::InvalidInput
        );
    }
}

/// Whatever was done to it.
pub async fn a_store_finds_nothing_wrong_with_itself(store: Arc<dyn SessionStore>) {
    line(&*store, "o", "s", 5).await;
    line(&*store, "o", "gone", 3).await;
    store
        .create_session(session("p", "empty", 9))
        .await
        .unwrap();
    let running = begin(&*store, new_turn("p", "runs", "t", None)).await;
    let beside = new_turn("o", "s", "fork", Some("r-s-4"));
    begin(&*store, beside).await;
    assert!(
        store
            .delete_session(&session_key("o", "gone"))
            .await
            .unwrap()
    );
    let sound = |check: StorageCheck| {
        assert!(check.problems.is_empty(), "{:?}", check.problems.kept());
    };
    sound(store.check().await.unwrap());
    store
        .finish_turn(&running.key(), end(&running))
        .await
        .unwrap();
    sound(store.check().await.unwrap());
}
