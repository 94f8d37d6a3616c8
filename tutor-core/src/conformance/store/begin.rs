//! Laws of beginning a turn.

#![expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use crate::conformance::sample::{
    at, begin, contents, end, exchange, ids, kind, line, message_id, message_query, new_turn,
    object, owner, question, session, session_key, turn_key,
};
use crate::error::{Error, ErrorKind};
use crate::message::{MessageStatus, Role};
use crate::session::{Branch, MessageQuery, MessageRange, Session};
use crate::store::{BegunTurn, NewTurn, RunningTurn, SessionStore};
use crate::turn::TurnStatus;

/// Asserts that this begin is refused and that nothing is written by it.
async fn refused(store: &dyn SessionStore, new: NewTurn) -> Error {
    let owner_id = new.turn.owner.to_string();
    let before = contents(store, &[&owner_id]).await;
    let key = new.turn.idempotency_key.clone().unwrap_or_default();
    let taken = store.turn_by_key(&new.turn.owner, &key).await.unwrap();
    let turn = store.turn(&new.turn.key()).await.unwrap();

    let error = store.begin_turn(new.clone()).await.unwrap_err();

    assert_eq!(contents(store, &[&owner_id]).await, before, "{error}");
    assert_eq!(
        store.turn_by_key(&new.turn.owner, &key).await.unwrap(),
        taken,
        "{error}"
    );
    assert_eq!(store.turn(&new.turn.key()).await.unwrap(), turn, "{error}");
    error
}

/// One begin writes them all.
pub async fn begin_stores_session_messages_turn_and_head(store: Arc<dyn SessionStore>) {
    let new = new_turn("o", "s", "t", None);
    let turn = begin(&*store, new.clone()).await;
    let expected = Session {
        head: Some(message_id("u-t")),
        running_turn: Some(turn.id.clone()),
        message_count: 1,
        preferences: new.preferences,
        ..session("o", "s", 1_000)
    };
    assert_eq!(
        store.session(&expected.key()).await.unwrap(),
        Some(expected.clone())
    );
    let page = store
        .messages(MessageQuery::latest(expected.key(), 9))
        .await
        .unwrap();
    assert_eq!(page.items, new.messages);
    assert_eq!(store.turn(&turn.key()).await.unwrap().as_ref(), Some(&turn));
    assert_eq!(
        store
            .turn_by_key(&turn.owner, "k-t")
            .await
            .unwrap()
            .as_ref(),
        Some(&turn)
    );
    let running = store.running_turns().await.unwrap();
    assert_eq!(
        running,
        [RunningTurn {
            turn,
            partial: None
        }]
    );
}

/// What a turn does to a session that exists.
pub async fn begin_on_an_existing_session_moves_head_count_time_and_preferences(
    store: Arc<dyn SessionStore>,
) {
    store.create_session(session("o", "s", 5)).await.unwrap();
    let mut first = new_turn("o", "s", "t", None);
    first.new_session = None;
    first.preferences = object("model", "big");
    exchange(&*store, first).await;
    let mut second = new_turn("o", "s", "t2", Some("r-t"));
    second.turn.started_at = at(7_000);
    second.preferences = object("model", "small");
    begin(&*store, second).await;
    let expected = Session {
        head: Some(message_id("u-t2")),
        running_turn: Some(turn_key("o", "t2").id),
        message_count: 3,
        preferences: object("model", "small"),
        updated_at: at(7_000),
        ..session("o", "s", 5)
    };
    assert_eq!(
        store.session(&expected.key()).await.unwrap(),
        Some(expected)
    );
}

/// Another reply to a stored message is asked for.
pub async fn begin_without_messages_makes_the_answered_message_the_head(
    store: Arc<dyn SessionStore>,
) {
    line(&*store, "o", "s", 2).await;
    let mut again = new_turn("o", "s", "again", Some("r-s-1"));
    again.messages.clear();
    again.turn.user_message_id = message_id("u-s-0");
    let turn = begin(&*store, again).await;
    let key = session_key("o", "s");
    let now = store.session(&key).await.unwrap().unwrap();
    assert_eq!(
        (now.head, now.message_count),
        (Some(message_id("u-s-0")), 4)
    );
    store.finish_turn(&turn.key(), end(&turn)).await.unwrap();
    let page = store.messages(MessageQuery::latest(key, 9)).await.unwrap();
    assert_eq!(ids(&page), ["u-s-0", "r-again"]);
}

/// A transcript comes with the first turn.
pub async fn begin_takes_imported_messages_in_order(store: Arc<dyn SessionStore>) {
    let mut new = new_turn("o", "s", "t", None);
    let mut imported = [question("s", "i1", None), question("s", "i2", Some("i1"))];
    imported[0].role = Role::System;
    imported[1].role = Role::Assistant;
    imported
        .iter_mut()
        .for_each(|message| message.status = MessageStatus::Imported);
    new.messages[0].parent_id = Some(message_id("i2"));
    new.messages.splice(0..0, imported);
    begin(&*store, new.clone()).await;
    for branch in [Branch::Active, Branch::All] {
        let query = message_query(session_key("o", "s"), branch, MessageRange::Latest, 9);
        assert_eq!(store.messages(query).await.unwrap().items, new.messages);
    }
    let now = store
        .session(&session_key("o", "s"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((now.head, now.message_count), (Some(message_id("u-t")), 3));
}

/// Check 1: a retry is told from its turn, before anything else is looked at.
pub async fn a_repeated_request_finds_its_turn_running_or_ended_and_writes_nothing(
    store: Arc<dyn SessionStore>,
) {
    let new = new_turn("o", "s", "t", None);
    let turn = begin(&*store, new.clone()).await;
    // A retry has ids of its own.
    let mut retry = new_turn("o", "s2", "t2", None);
    retry.turn.idempotency_key.clone_from(&turn.idempotency_key);
    for request in [new, retry] {
        let before = contents(&*store, &["o"]).await;
        let found = store.begin_turn(request.clone()).await.unwrap();
        assert_eq!(found, BegunTurn::Existing(Box::new(turn.clone())));
        assert_eq!(contents(&*store, &["o"]).await, before);
    }
    let ended = store.finish_turn(&turn.key(), end(&turn)).await.unwrap();
    let before = contents(&*store, &["o"]).await;
    let found = store
        .begin_turn(new_turn("o", "s", "t", None))
        .await
        .unwrap();
    assert_eq!(found, BegunTurn::Existing(Box::new(ended)));
    assert_eq!(contents(&*store, &["o"]).await, before);
}

/// Check 1: the same key, but not the same request.
pub async fn a_key_of_another_request_conflicts_and_writes_nothing(store: Arc<dyn SessionStore>) {
    let head = exchange(&*store, new_turn("o", "s", "t", None)).await;
    let mut other = new_turn("o", "s", "t2", Some(&head));
    other.turn.idempotency_key = Some("k-t".to_owned());
    other.turn.fingerprint = 1;
    assert_eq!(refused(&*store, other).await.kind(), ErrorKind::Conflict);
}

/// Check 2: the session is to be new.
pub async fn a_new_session_that_exists_conflicts_and_writes_nothing(store: Arc<dyn SessionStore>) {
    store.create_session(session("o", "s", 1)).await.unwrap();
    let error = refused(&*store, new_turn("o", "s", "t", None)).await;
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

/// Check 2: the session is to exist.
pub async fn a_session_that_is_missing_is_not_found_and_nothing_is_written(
    store: Arc<dyn SessionStore>,
) {
    let mut new = new_turn("o", "s", "t", None);
    new.new_session = None;
    assert_eq!(refused(&*store, new).await.kind(), ErrorKind::NotFound);
}

/// Check 3: one turn at a time.
pub async fn a_session_with_a_running_turn_conflicts_and_names_it(store: Arc<dyn SessionStore>) {
    begin(&*store, new_turn("o", "s", "t", None)).await;
    let error = refused(&*store, new_turn("o", "s", "t2", Some("u-t"))).await;
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.context_value("turn"), Some("t"));
}

/// Check 4: the session must be as it was when the turn was prepared.
pub async fn a_stale_head_conflicts_names_the_actual_one_and_writes_nothing(
    store: Arc<dyn SessionStore>,
) {
    store
        .create_session(session("o", "empty", 1))
        .await
        .unwrap();
    line(&*store, "o", "s", 2).await;
    let mut on_empty = new_turn("o", "empty", "t", Some("m"));
    on_empty.new_session = None;
    let error = refused(&*store, on_empty).await;
    assert_eq!(
        (error.kind(), error.context_value("head")),
        (ErrorKind::Conflict, Some("none"))
    );
    let mut without = new_turn("o", "s", "t", None);
    without.new_session = None;
    for stale in [new_turn("o", "s", "t", Some("r-s-0")), without] {
        let error = refused(&*store, stale).await;
        assert_eq!(
            (error.kind(), error.context_value("head")),
            (ErrorKind::Conflict, Some("r-s-1"))
        );
    }
}

/// Check 5: by a stored message, by one of the batch, or for the reply.
pub async fn a_message_id_that_is_taken_conflicts_and_writes_nothing(store: Arc<dyn SessionStore>) {
    line(&*store, "o", "s", 1).await;
    let fresh = || new_turn("o", "s", "t", Some("r-s-0"));

    let mut stored = fresh();
    stored
        .messages
        .insert(0, question("s", "u-s-0", Some("r-s-0")));
    let mut twice = fresh();
    twice
        .messages
        .insert(0, question("s", "u-t", Some("r-s-0")));
    let mut reply = fresh();
    reply.turn.reply_message_id = message_id("r-s-0");
    let mut own_reply = fresh();
    own_reply.turn.reply_message_id = message_id("u-t");
    for new in [stored, twice, reply, own_reply] {
        assert_eq!(refused(&*store, new).await.kind(), ErrorKind::Conflict);
    }
    // Ids are unique per session, not more.
    let mut elsewhere = new_turn("o", "s2", "t", None);
    elsewhere.messages[0].id = message_id("u-s-0");
    elsewhere.turn.user_message_id = message_id("u-s-0");
    begin(&*store, elsewhere).await;
}

/// Check 5: the tree has no loose ends.
pub async fn a_parent_outside_the_session_is_refused_and_nothing_is_written(
    store: Arc<dyn SessionStore>,
) {
    line(&*store, "o", "s", 1).await;
    line(&*store, "o", "other", 1).await;
    for parent in ["nobody", "u-other-0", "u-t", "later"] {
        let mut new = new_turn("o", "s", "t", Some("r-s-0"));
        new.messages[0].parent_id = Some(message_id(parent));
        assert_eq!(
            refused(&*store, new).await.kind(),
            ErrorKind::InvalidInput,
            "{parent}"
        );
    }
    let mut backwards = new_turn("o", "s", "t", Some("r-s-0"));
    backwards
        .messages
        .insert(0, question("s", "first", Some("u-t")));
    assert_eq!(
        refused(&*store, backwards).await.kind(),
        ErrorKind::InvalidInput
    );
}

/// Check 5: a turn answers a learner.
pub async fn an_answered_message_that_is_no_learners_is_refused_and_nothing_is_written(
    store: Arc<dyn SessionStore>,
) {
    line(&*store, "o", "s", 1).await;
    for answered in ["r-s-0", "nobody"] {
        let mut new = new_turn("o", "s", "t", Some("r-s-0"));
        new.messages.clear();
        new.turn.user_message_id = message_id(answered);
        assert_eq!(
            refused(&*store, new).await.kind(),
            ErrorKind::InvalidInput,
            "{answered}"
        );
    }
    let mut new = new_turn("o", "s", "t", Some("r-s-0"));
    new.messages[0].role = Role::Assistant;
    assert_eq!(refused(&*store, new).await.kind(), ErrorKind::InvalidInput);
}

/// Check 5: turn ids are unique per owner.
pub async fn a_turn_id_that_is_taken_conflicts_and_writes_nothing(store: Arc<dyn SessionStore>) {
    exchange(&*store, new_turn("o", "s", "t", None)).await;
    let mut new = new_turn("o", "s2", "t", None);
    new.turn.idempotency_key = None;
    assert_eq!(
        refused(&*store, new.clone()).await.kind(),
        ErrorKind::Conflict
    );
    new.turn.id = turn_key("o", "t2").id;
    begin(&*store, new).await;
}

/// A request that fails all checks from one on is refused by that one.
pub async fn the_checks_of_begin_are_made_in_order(store: Arc<dyn SessionStore>) {
    exchange(&*store, new_turn("o", "done", "first", None)).await;
    begin(&*store, new_turn("o", "busy", "t", None)).await;
    let hopeless = |session: &str| {
        let mut new = new_turn("o", session, "t", Some("stale"));
        new.turn.idempotency_key = None;
        new.messages[0].parent_id = Some(message_id("nobody"));
        new
    };
    // 1 before 2.
    let mut reused = hopeless("missing");
    reused.turn.idempotency_key = Some("k-first".to_owned());
    let mut different = reused.clone();
    different.turn.fingerprint = 1;
    assert!(matches!(
        store.begin_turn(reused).await.unwrap(),
        BegunTurn::Existing(_)
    ));
    assert_eq!(
        refused(&*store, different).await.kind(),
        ErrorKind::Conflict
    );
    // 2 before 3.
    assert_eq!(
        refused(&*store, hopeless("missing")).await.kind(),
        ErrorKind::NotFound
    );
    let mut exists = hopeless("busy");
    exists.new_session = Some(session("o", "busy", 1));
    let error = refused(&*store, exists).await;
    assert_eq!(
        (error.kind(), error.context_value("turn")),
        (ErrorKind::Conflict, None)
    );
    // 3 before 4.
    let error = refused(&*store, hopeless("busy")).await;
    assert_eq!(
        (error.context_value("turn"), error.context_value("head")),
        (Some("t"), None)
    );
    // 4 before 5.
    let error = refused(&*store, hopeless("done")).await;
    assert_eq!(
        (error.kind(), error.context_value("head")),
        (ErrorKind::Conflict, Some("r-first"))
    );
    // 5 at last.
    let mut new = hopeless("done");
    new.expected_head = Some(message_id("r-first"));
    assert_eq!(refused(&*store, new).await.kind(), ErrorKind::InvalidInput);
}

/// Whatever is stored.
pub async fn a_turn_that_contradicts_itself_is_refused(store: Arc<dyn SessionStore>) {
    let fresh = || new_turn("o", "s", "t", None);
    let mut ended = fresh();
    ended.turn.status = TurnStatus::Completed;
    let mut other_owner = fresh();
    other_owner.new_session = Some(session("o2", "s", 1));
    let mut other_session = fresh();
    other_session.new_session = Some(session("o", "s2", 1));
    let mut other_message = fresh();
    other_message.messages.insert(0, question("s2", "m", None));
    let mut other_last = fresh();
    other_last.messages.push(question("s", "m", Some("u-t")));
    for new in [ended, other_owner, other_session, other_message, other_last] {
        assert_eq!(refused(&*store, new).await.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(
        contents(&*store, &["o", "o2"]).await,
        contents(&*store, &[]).await
    );
}

/// Retries at the same time, each with ids of its own.
pub async fn of_concurrent_begins_with_one_key_exactly_one_is_new(store: Arc<dyn SessionStore>) {
    for round in 0..10 {
        let owner_id = format!("o{round}");
        let tasks: Vec<_> = (0..8)
            .map(|n| {
                let mut new = new_turn(&owner_id, &format!("s{n}"), &format!("t{n}"), None);
                new.turn.idempotency_key = Some("same".to_owned());
                let store = Arc::clone(&store);
                tokio::spawn(
                    async move { (new.turn.id.clone(), store.begin_turn(new).await.unwrap()) },
                )
            })
            .collect();
        let (mut winners, mut told) = (Vec::new(), Vec::new());
        for task in tasks {
            match task.await.unwrap() {
                (id, BegunTurn::New) => winners.push(id),
                (_, BegunTurn::Existing(turn)) => told.push(turn.id),
            }
        }
        assert_eq!((winners.len(), told.len()), (1, 7));
        assert!(told.iter().all(|id| *id == winners[0]));
        let stored = store.turn_by_key(&owner(&owner_id), "same").await.unwrap();
        assert_eq!(stored.unwrap().id, winners[0]);
    }
    assert_eq!(store.running_turns().await.unwrap().len(), 10);
}

/// Different requests at the same time.
pub async fn of_concurrent_begins_in_one_session_exactly_one_is_new(store: Arc<dyn SessionStore>) {
    line(&*store, "o", "s", 1).await;
    let mut head = "r-s-0".to_owned();
    for round in 0..10 {
        let tasks: Vec<_> = (0..8)
            .map(|n| {
                let new = new_turn("o", "s", &format!("t{round}-{n}"), Some(&head));
                let store = Arc::clone(&store);
                tokio::spawn(async move { (new.turn.clone(), store.begin_turn(new).await) })
            })
            .collect();
        let mut winners = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                (turn, Ok(begun)) => {
                    assert_eq!(begun, BegunTurn::New);
                    winners.push(turn);
                }
                (_, Err(error)) => assert_eq!(error.kind(), ErrorKind::Conflict),
            }
        }
        assert_eq!(winners.len(), 1);
        let ended = store
            .finish_turn(&winners[0].key(), end(&winners[0]))
            .await
            .unwrap();
        head = ended.reply_message_id.to_string();
    }
    let now = store
        .session(&session_key("o", "s"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((now.message_count, now.running_turn), (22, None));
}

/// Whenever a caller gives up, trying again with the same key gives one whole turn.
pub async fn a_dropped_begin_is_done_or_not_done(store: Arc<dyn SessionStore>) {
    for polls in 0..12 {
        let id = format!("s{polls}");
        let new = new_turn("o", &id, &format!("t{polls}"), None);
        {
            let mut begin = pin!(store.begin_turn(new.clone()));
            for _ in 0..polls {
                if std::future::poll_fn(|cx| Poll::Ready(begin.as_mut().poll(cx)))
                    .await
                    .is_ready()
                {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let begun = store.begin_turn(new.clone()).await.unwrap();
        assert!(matches!(begun, BegunTurn::New | BegunTurn::Existing(_)));
        let page = store
            .messages(MessageQuery::latest(session_key("o", &id), 9))
            .await
            .unwrap();
        assert_eq!(page.items, new.messages);
        let ended = store
            .finish_turn(&new.turn.key(), end(&new.turn))
            .await
            .unwrap();
        assert_eq!(ended.status, TurnStatus::Completed);
    }
    let key = session_key("o", "s0");
    assert_eq!(
        kind(store.create_session(session("o", "s0", 1)).await),
        ErrorKind::Conflict
    );
    assert_eq!(store.session(&key).await.unwrap().unwrap().message_count, 2);
}
