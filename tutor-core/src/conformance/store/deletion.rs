//! Laws of deleting messages.

#![expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::conformance::sample::{
    at, begin, contents, end, exchange, ids, kind, line, message_id, message_query, new_turn,
    session_key, turn_key,
};
use crate::error::ErrorKind;
use crate::session::{Branch, MessageCut, MessageQuery, MessageRange, SessionPatch, Summary};
use crate::store::SessionStore;

fn cut(id: &str, with_branch: bool) -> MessageCut {
    MessageCut {
        message: message_id(id),
        with_branch,
        updated_at: at(9_000),
    }
}

async fn delete(store: &dyn SessionStore, id: &str, with_branch: bool) -> crate::Result<u64> {
    store
        .delete_message(&session_key("o", "s"), cut(id, with_branch))
        .await
}

async fn read(store: &dyn SessionStore, branch: Branch) -> Vec<String> {
    let query = message_query(session_key("o", "s"), branch, MessageRange::Latest, 200);
    let page = store.messages(query).await.unwrap();
    ids(&page).into_iter().map(str::to_owned).collect()
}

/// Head, count, time and summary follow; the conversation goes on from there.
pub async fn a_deleted_leaf_leaves_the_line_before_it(store: Arc<dyn SessionStore>) {
    line(&*store, "o", "s", 2).await;
    let key = session_key("o", "s");
    let summary = Summary {
        text: "short".to_owned(),
        through: message_id("r-s-1"),
        made_at: at(1),
    };
    let patch = SessionPatch {
        summary: Some(summary),
        ..SessionPatch::default()
    };
    store.update_session(&key, patch).await.unwrap();
    assert_eq!(delete(&*store, "r-s-1", false).await.unwrap(), 1);
    let session = store.session(&key).await.unwrap().unwrap();
    assert_eq!(session.head, Some(message_id("u-s-1")));
    assert_eq!((session.message_count, session.updated_at), (3, at(9_000)));
    assert_eq!(session.summary, None, "it told of what is gone");
    assert_eq!(
        read(&*store, Branch::Active).await,
        ["u-s-0", "r-s-0", "u-s-1"]
    );
    let gone = message_query(
        key.clone(),
        Branch::Leaf(message_id("r-s-1")),
        MessageRange::Latest,
        1,
    );
    assert_eq!(
        kind(store.messages(gone).await),
        ErrorKind::InvalidInput,
        "what is deleted cannot be read"
    );
    assert_eq!(delete(&*store, "u-s-1", false).await.unwrap(), 1);
    exchange(&*store, new_turn("o", "s", "next", Some("r-s-0"))).await;
    assert_eq!(
        read(&*store, Branch::Active).await,
        ["u-s-0", "r-s-0", "u-next", "r-next"]
    );
    let page = store.messages(MessageQuery::latest(key, 3)).await.unwrap();
    assert_eq!(ids(&page), ["r-s-0", "u-next", "r-next"]);
    assert_eq!(delete(&*store, "u-s-0", true).await.unwrap(), 4);
    assert!(read(&*store, Branch::All).await.is_empty());
    let mut first = new_turn("o", "s", "first", None);
    first.new_session = None;
    exchange(&*store, first).await;
    assert_eq!(read(&*store, Branch::All).await, ["u-first", "r-first"]);
}

/// Nothing is left without what it follows.
pub async fn a_message_that_others_follow_is_kept_unless_its_branch_is_cut(
    store: Arc<dyn SessionStore>,
) {
    line(&*store, "o", "s", 2).await;
    let mut edited = new_turn("o", "s", "edit", Some("r-s-1"));
    edited.messages[0].parent_id = Some(message_id("r-s-0"));
    exchange(&*store, edited).await;
    let before = contents(&*store, &["o"]).await;
    let refused = delete(&*store, "u-s-1", false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(refused.context_value("follower"), Some("r-s-1"));
    assert_eq!(contents(&*store, &["o"]).await, before);

    assert_eq!(delete(&*store, "u-s-1", true).await.unwrap(), 2);
    let left = ["u-s-0", "r-s-0", "u-edit", "r-edit"];
    assert_eq!(read(&*store, Branch::All).await, left);
    assert_eq!(read(&*store, Branch::Active).await, left);
}

/// A key that is free again begins a new turn.
pub async fn what_is_deleted_takes_its_turns_and_their_keys_along(store: Arc<dyn SessionStore>) {
    line(&*store, "o", "s", 2).await;
    let mut again = new_turn("o", "s", "again", Some("r-s-1"));
    again.messages = vec![];
    again.turn.user_message_id = message_id("u-s-1");
    let turn = begin(&*store, again).await;
    let mut failed = end(&turn);
    failed.reply = None;
    store.finish_turn(&turn.key(), failed).await.unwrap();

    assert_eq!(delete(&*store, "u-s-1", true).await.unwrap(), 2);
    let owner = session_key("o", "s").owner;
    for (name, kept) in [("s-0", true), ("s-1", false), ("again", false)] {
        let turn = store.turn(&turn_key("o", name)).await.unwrap();
        assert_eq!(turn.is_some(), kept, "{name}");
        let key = format!("k-{name}");
        let by_key = store.turn_by_key(&owner, &key);
        assert_eq!(by_key.await.unwrap().is_some(), kept, "{name}");
    }
    exchange(&*store, new_turn("o", "s", "s-1", Some("r-s-0"))).await;
}

/// A reply that is being written needs what it answers.
pub async fn no_message_is_deleted_while_a_turn_runs(store: Arc<dyn SessionStore>) {
    line(&*store, "o", "s", 1).await;
    let running = begin(&*store, new_turn("o", "s", "b", Some("r-s-0"))).await;
    let before = contents(&*store, &["o"]).await;
    for id in ["u-b", "u-s-0"] {
        let refused = delete(&*store, id, true).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert_eq!(refused.context_value("turn"), Some("b"));
    }
    assert_eq!(contents(&*store, &["o"]).await, before);
    store
        .finish_turn(&running.key(), end(&running))
        .await
        .unwrap();
    assert_eq!(delete(&*store, "u-b", true).await.unwrap(), 2);
}

/// Neither in an absent session, nor another session's, nor another owner's, nor twice.
pub async fn a_message_that_is_not_there_is_not_found(store: Arc<dyn SessionStore>) {
    assert_eq!(
        kind(delete(&*store, "u-s-0", true).await),
        ErrorKind::NotFound
    );
    line(&*store, "o", "s", 1).await;
    line(&*store, "o", "other", 1).await;
    line(&*store, "p", "s", 1).await;
    for id in ["nowhere", "u-other-0"] {
        assert_eq!(kind(delete(&*store, id, true).await), ErrorKind::NotFound);
    }
    assert_eq!(delete(&*store, "u-s-0", true).await.unwrap(), 2);
    assert_eq!(
        kind(delete(&*store, "u-s-0", true).await),
        ErrorKind::NotFound
    );
    let neighbors = contents(&*store, &["p"]).await;
    assert_ne!(neighbors, contents(&*store, &["q"]).await);
}

/// Trees of many shapes, and every message of them deleted, against a list of what must be left.
pub async fn whatever_is_deleted_the_rest_reads_on_and_grows_on(store: Arc<dyn SessionStore>) {
    let key = session_key("o", "s");
    exchange(&*store, new_turn("o", "s", "0", None)).await;
    let mut parents: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut order = vec!["u-0".to_owned(), "r-0".to_owned()];
    parents.insert("u-0".to_owned(), None);
    parents.insert("r-0".to_owned(), Some("u-0".to_owned()));
    let mut dice = 7_u64;
    let mut roll = move |below: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(dice >> 33).unwrap_or(0) % below
    };
    for n in 1..60 {
        let session = store.session(&key).await.unwrap().unwrap();
        let head = session.head.as_ref().map(ToString::to_string);
        let replies: Vec<String> = order
            .iter()
            .filter(|id| id.starts_with("r-"))
            .cloned()
            .collect();
        let parent = match replies.len() {
            0 => None,
            some => Some(replies[roll(some)].clone()),
        };
        let name = n.to_string();
        let mut new = new_turn("o", "s", &name, head.as_deref());
        new.new_session = None;
        new.messages[0].parent_id = parent.as_deref().map(message_id);
        exchange(&*store, new).await;
        for (id, parent) in [
            (format!("u-{n}"), parent),
            (format!("r-{n}"), Some(format!("u-{n}"))),
        ] {
            parents.insert(id.clone(), parent);
            order.push(id);
        }
        if roll(3) == 0 {
            let victim = order[roll(order.len())].clone();
            let mut gone = vec![victim.clone()];
            for id in &order {
                if parents[id]
                    .as_ref()
                    .is_some_and(|parent| gone.contains(parent))
                {
                    gone.push(id.clone());
                }
            }
            let deleted = delete(&*store, &victim, true).await.unwrap();
            assert_eq!(deleted, gone.len() as u64);
            order.retain(|id| !gone.contains(id));
        }
        assert_eq!(read(&*store, Branch::All).await, order, "after turn {n}");
        let session = store.session(&key).await.unwrap().unwrap();
        assert_eq!(session.message_count, order.len() as u64);
        assert_eq!(session.head.is_none(), order.is_empty());
        let problems = store.check().await.unwrap().problems;
        assert_eq!(problems.count(), 0, "after turn {n}: {problems:?}");
        let mut expected = Vec::new();
        let mut next = session.head.map(|head| head.to_string());
        while let Some(id) = next {
            next = parents[&id].clone();
            expected.insert(0, id);
        }
        assert_eq!(
            read(&*store, Branch::Active).await,
            expected,
            "after turn {n}"
        );
        if let Some(first) = order.first() {
            let range = MessageRange::After(message_id(first));
            let query = message_query(key.clone(), Branch::All, range, 3);
            let page = store.messages(query).await.unwrap();
            assert_eq!(ids(&page), order[1..order.len().min(4)]);
            assert_eq!(page.next_cursor.is_some(), order.len() > 4);
            let query = message_query(key.clone(), Branch::All, MessageRange::Latest, 3);
            let page = store.messages(query).await.unwrap();
            assert_eq!(ids(&page), order[order.len().saturating_sub(3)..]);
            assert_eq!(page.next_cursor.is_some(), order.len() > 3);
        }
    }
}
