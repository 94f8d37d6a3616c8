//! Laws of sessions and their lists.

#![expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]

use std::sync::Arc;

use crate::conformance::sample::{
    at, begin, contents, end, exchange, ids, kind, line, message_id, message_query, new_turn,
    object, session, session_key, session_query, turn_key,
};
use crate::error::ErrorKind;
use crate::session::{
    Branch, Cursor, MAX_PAGE, MessageQuery, MessageRange, Session, SessionPatch, Summary,
};
use crate::store::{BegunTurn, SessionStore};

/// The ids of an owner's sessions as listed, read in pages of this size.
async fn list(store: &dyn SessionStore, owner: &str, limit: usize) -> Vec<String> {
    let mut query = session_query(owner, limit);
    let mut found = Vec::new();
    loop {
        let page = store.sessions(query.clone()).await.unwrap();
        assert!(page.items.len() <= limit);
        assert!(page.next_cursor.is_none() || page.items.len() == limit);
        found.extend(page.items.into_iter().map(|session| session.id.to_string()));
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            return found;
        }
    }
}

/// What is stored is what was given; head, count and running turn are the store's business.
pub async fn a_created_session_is_read_back_empty(store: Arc<dyn SessionStore>) {
    let given = session("o", "s", 5);
    let forged = Session {
        message_count: 3,
        head: Some(crate::conformance::sample::message_id("m")),
        running_turn: Some(turn_key("o", "t").id),
        ..given.clone()
    };
    store.create_session(forged).await.unwrap();
    assert_eq!(
        store.session(&given.key()).await.unwrap(),
        Some(given.clone())
    );
    let page = store.sessions(session_query("o", 10)).await.unwrap();
    assert_eq!((page.items, page.next_cursor), (vec![given], None));
}

/// A session is created once.
pub async fn creating_a_session_twice_conflicts_and_changes_nothing(store: Arc<dyn SessionStore>) {
    let first = session("o", "s", 5);
    store.create_session(first.clone()).await.unwrap();
    let second = Session {
        title: "other".to_owned(),
        ..session("o", "s", 9)
    };
    assert_eq!(
        kind(store.create_session(second).await),
        ErrorKind::Conflict
    );
    assert_eq!(store.session(&first.key()).await.unwrap(), Some(first));
}

/// The order of a list is total.
pub async fn sessions_are_listed_newest_first_and_of_equal_times_the_greater_id_first(
    store: Arc<dyn SessionStore>,
) {
    for (id, time) in [
        ("b", 5),
        ("a", 5),
        ("ab", 5),
        ("z", 1),
        ("c", 1 << 40),
        ("d", 256),
        ("e", 255),
    ] {
        store.create_session(session("o", id, time)).await.unwrap();
    }
    assert_eq!(
        list(&*store, "o", 200).await,
        ["c", "d", "e", "b", "ab", "a", "z"]
    );
}

/// Whatever the size of the pages, all sessions come once and in order.
pub async fn pages_of_sessions_meet_without_gap_or_repeat(store: Arc<dyn SessionStore>) {
    for n in 0..12 {
        store
            .create_session(session("o", &format!("s{n}"), n / 3))
            .await
            .unwrap();
    }
    let whole = list(&*store, "o", MAX_PAGE).await;
    assert_eq!(whole.len(), 12);
    for limit in [1, 2, 3, 4, 5, 11, 12, 13] {
        assert_eq!(list(&*store, "o", limit).await, whole, "pages of {limit}");
    }
}

/// A session that moves to the front while somebody pages is not seen again; the others all are.
pub async fn paging_goes_on_where_it_was_when_sessions_move_come_and_go(
    store: Arc<dyn SessionStore>,
) {
    for n in 0..8 {
        store
            .create_session(session("o", &format!("s{n}"), n))
            .await
            .unwrap();
    }
    let mut query = session_query("o", 3);
    let page = store.sessions(query.clone()).await.unwrap();
    let seen: Vec<&str> = page
        .items
        .iter()
        .map(|session| session.id.as_str())
        .collect();
    assert_eq!(seen, ["s7", "s6", "s5"]);
    query.cursor = page.next_cursor;

    store.delete_session(&session_key("o", "s5")).await.unwrap();
    store
        .create_session(session("o", "new", 100))
        .await
        .unwrap();
    for (id, time) in [("s7", 50), ("s3", 51)] {
        let patch = SessionPatch {
            updated_at: at(time),
            ..SessionPatch::default()
        };
        store
            .update_session(&session_key("o", id), patch)
            .await
            .unwrap();
    }
    let rest = store.sessions(query).await.unwrap();
    let rest: Vec<&str> = rest
        .items
        .iter()
        .map(|session| session.id.as_str())
        .collect();
    assert_eq!(rest, ["s4", "s2", "s1"]);
    assert_eq!(
        list(&*store, "o", 2).await,
        ["new", "s3", "s7", "s6", "s4", "s2", "s1", "s0"]
    );
}

/// Garbage is no cursor.
pub async fn a_cursor_that_no_list_returned_is_refused(store: Arc<dyn SessionStore>) {
    store.create_session(session("o", "s", 1)).await.unwrap();
    for text in ["", "s", "-", "zz.s", "1.", "1.a b", "../../x"] {
        let mut query = session_query("o", 1);
        query.cursor = Some(Cursor::from_text(text));
        assert_eq!(
            kind(store.sessions(query).await),
            ErrorKind::InvalidInput,
            "{text:?}"
        );
    }
}

/// A page has 1 to [`MAX_PAGE`] sessions.
pub async fn a_list_limit_out_of_range_is_refused(store: Arc<dyn SessionStore>) {
    for limit in [0, MAX_PAGE + 1, usize::MAX] {
        assert_eq!(
            kind(store.sessions(session_query("o", limit)).await),
            ErrorKind::InvalidInput
        );
    }
    assert!(store.sessions(session_query("o", MAX_PAGE)).await.is_ok());
}

/// What a patch does not name stays.
pub async fn an_update_changes_what_it_names_and_moves_the_session_up(
    store: Arc<dyn SessionStore>,
) {
    line(&*store, "o", "s", 1).await;
    store
        .create_session(session("o", "newer", 9_000))
        .await
        .unwrap();
    let key = session_key("o", "s");
    let before = store.session(&key).await.unwrap().unwrap();

    let patch = SessionPatch {
        title: Some("neu ☀".to_owned()),
        updated_at: at(10_000),
        ..SessionPatch::default()
    };
    let expected = Session {
        title: "neu ☀".to_owned(),
        own_title: true,
        updated_at: at(10_000),
        ..before
    };
    assert_eq!(store.update_session(&key, patch).await.unwrap(), expected);
    assert_eq!(store.session(&key).await.unwrap(), Some(expected.clone()));
    assert_eq!(list(&*store, "o", 9).await, ["s", "newer"]);

    let patch = SessionPatch {
        metadata: Some(object("x", 1)),
        updated_at: at(10_001),
        ..SessionPatch::default()
    };
    let expected = Session {
        metadata: object("x", 1),
        updated_at: at(10_001),
        ..expected
    };
    assert_eq!(store.update_session(&key, patch).await.unwrap(), expected);
    assert_eq!(store.session(&key).await.unwrap(), Some(expected));
}

/// A title that the engine made gives way to the caller's, and never takes its place.
pub async fn a_title_of_the_callers_own_is_never_replaced(store: Arc<dyn SessionStore>) {
    let made = |title: &str| SessionPatch {
        made_title: Some(title.to_owned()),
        ..SessionPatch::default()
    };
    let key = session_key("o", "s");
    store.create_session(session("o", "s", 1)).await.unwrap();
    let updated = store.update_session(&key, made("made")).await.unwrap();
    assert_eq!((updated.title.as_str(), updated.own_title), ("made", false));
    let mut new = new_turn("o", "s", "a", None);
    (new.new_session, new.made_title) = (None, Some("begun".to_owned()));
    let turn = begin(&*store, new).await;
    let begun = store.session(&key).await.unwrap().unwrap();
    assert_eq!((begun.title.as_str(), begun.own_title), ("begun", false));

    let own = SessionPatch {
        title: Some("own".to_owned()),
        ..SessionPatch::default()
    };
    store.update_session(&key, own).await.unwrap();
    store.update_session(&key, made("other")).await.unwrap();
    store.finish_turn(&turn.key(), end(&turn)).await.unwrap();
    let mut new = new_turn("o", "s", "b", Some("r-a"));
    new.made_title = Some("other".to_owned());
    begin(&*store, new).await;
    let kept = store.session(&key).await.unwrap().unwrap();
    assert_eq!((kept.title.as_str(), kept.own_title), ("own", true));
}

/// The active branch is the one that leads to the head; any message can be it.
pub async fn an_update_switches_the_head_to_a_message_of_the_session_only(
    store: Arc<dyn SessionStore>,
) {
    let key = session_key("o", "s");
    line(&*store, "o", "s", 2).await;
    exchange(&*store, new_turn("o", "other", "x", None)).await;
    let to = |id: &str| SessionPatch {
        head: Some(message_id(id)),
        ..SessionPatch::default()
    };
    let before = contents(&*store, &["o"]).await;
    for outside in ["u-x", "nowhere"] {
        let refused = store.update_session(&key, to(outside)).await;
        assert_eq!(kind(refused), ErrorKind::InvalidInput);
    }
    assert_eq!(contents(&*store, &["o"]).await, before);
    let updated = store.update_session(&key, to("r-s-0")).await.unwrap();
    assert_eq!(updated.head, Some(message_id("r-s-0")));
    let page = store.messages(MessageQuery::latest(key, 9)).await.unwrap();
    assert_eq!(ids(&page), ["u-s-0", "r-s-0"]);
}

/// A summary is kept with the session, whatever its text.
pub async fn a_summary_is_read_back_as_it_was_stored(store: Arc<dyn SessionStore>) {
    let key = session_key("o", "s");
    line(&*store, "o", "s", 1).await;
    let summary = Summary {
        text: "Größe \u{0} \u{1F31E}".repeat(1000),
        through: message_id("u-s-0"),
        made_at: at(77),
    };
    let patch = SessionPatch {
        summary: Some(summary.clone()),
        ..SessionPatch::default()
    };
    store.update_session(&key, patch).await.unwrap();
    exchange(&*store, new_turn("o", "s", "next", Some("r-s-0"))).await;
    let stored = store.session(&key).await.unwrap().unwrap();
    assert_eq!(stored.summary, Some(summary));
}

/// A clock that goes back does not reorder the list.
pub async fn an_update_never_moves_the_time_back(store: Arc<dyn SessionStore>) {
    store.create_session(session("o", "s", 500)).await.unwrap();
    let patch = SessionPatch {
        title: Some("t".to_owned()),
        updated_at: at(3),
        ..SessionPatch::default()
    };
    let updated = store
        .update_session(&session_key("o", "s"), patch)
        .await
        .unwrap();
    assert_eq!((updated.title.as_str(), updated.updated_at), ("t", at(500)));
    assert_eq!(list(&*store, "o", 9).await, ["s"]);
}

/// There is nothing to change.
pub async fn an_update_of_an_absent_session_is_not_found(store: Arc<dyn SessionStore>) {
    let patch = SessionPatch::default();
    let result = store.update_session(&session_key("o", "s"), patch).await;
    assert_eq!(kind(result), ErrorKind::NotFound);
    assert_eq!(store.session(&session_key("o", "s")).await.unwrap(), None);
}

/// Not the session, its messages, its turns (running ones too) or their idempotency keys.
pub async fn a_deleted_session_leaves_nothing(store: Arc<dyn SessionStore>) {
    let key = session_key("o", "s");
    let head = exchange(&*store, new_turn("o", "s", "ended", None)).await;
    let running = begin(&*store, new_turn("o", "s", "running", Some(&head))).await;

    assert!(store.delete_session(&key).await.unwrap());
    assert_eq!(store.session(&key).await.unwrap(), None);
    assert!(list(&*store, "o", 9).await.is_empty());
    let messages = store.messages(MessageQuery::latest(key.clone(), 9)).await;
    assert_eq!(kind(messages), ErrorKind::NotFound);
    for name in ["ended", "running"] {
        assert_eq!(store.turn(&turn_key("o", name)).await.unwrap(), None);
        assert_eq!(
            store
                .turn_by_key(&key.owner, &format!("k-{name}"))
                .await
                .unwrap(),
            None
        );
    }
    assert!(store.running_turns().await.unwrap().is_empty());
    let late = store.finish_turn(&running.key(), end(&running)).await;
    assert_eq!(kind(late), ErrorKind::NotFound);
    let again = store
        .begin_turn(new_turn("o", "other", "ended", None))
        .await
        .unwrap();
    assert_eq!(again, BegunTurn::New, "the key and the turn's id are free");
}

/// Also neighbors whose names begin alike.
pub async fn deleting_a_session_leaves_its_neighbors_alone(store: Arc<dyn SessionStore>) {
    for (owner, id) in [("a", "b"), ("a", "bb"), ("a", "c"), ("ab", "b"), ("b", "b")] {
        line(&*store, owner, id, 2).await;
    }
    store.create_session(session("a", "ba", 5)).await.unwrap();
    line(&*store, "a", "gone", 2).await;
    let owners = ["a", "ab", "b"];
    assert!(
        store
            .delete_session(&session_key("a", "gone"))
            .await
            .unwrap()
    );
    let before = contents(&*store, &owners).await;
    assert!(store.delete_session(&session_key("a", "ba")).await.unwrap());
    store.create_session(session("a", "ba", 5)).await.unwrap();
    assert_eq!(contents(&*store, &owners).await, before);
    assert_eq!(list(&*store, "a", 9).await, ["c", "bb", "b", "ba"]);
    assert!(
        store
            .turn_by_key(&session_key("a", "b").owner, "k-b-1")
            .await
            .unwrap()
            .is_some()
    );
}

/// Deleting is idempotent, and says whether it did anything.
pub async fn deleting_an_absent_session_is_false(store: Arc<dyn SessionStore>) {
    let key = session_key("o", "s");
    assert!(!store.delete_session(&key).await.unwrap());
    store.create_session(session("o", "s", 1)).await.unwrap();
    assert!(
        !store
            .delete_session(&session_key("other", "s"))
            .await
            .unwrap()
    );
    assert!(store.delete_session(&key).await.unwrap());
    assert!(!store.delete_session(&key).await.unwrap());
}

/// Nothing of the old session shines through.
pub async fn a_deleted_session_can_be_created_anew_and_is_empty(store: Arc<dyn SessionStore>) {
    let key = session_key("o", "s");
    line(&*store, "o", "s", 2).await;
    store.delete_session(&key).await.unwrap();
    let anew = session("o", "s", 7);
    store.create_session(anew.clone()).await.unwrap();
    assert_eq!(store.session(&key).await.unwrap(), Some(anew));
    let query = message_query(key, Branch::All, MessageRange::Latest, 9);
    assert!(store.messages(query).await.unwrap().items.is_empty());
    assert_eq!(list(&*store, "o", 9).await, ["s"]);
}
