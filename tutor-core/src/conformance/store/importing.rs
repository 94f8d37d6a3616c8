//! Laws of sessions that are carried over from elsewhere.

#![expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]

use std::sync::Arc;

use crate::conformance::sample::{
    at, begin, contents, end, exchange, kind, line, message_id, new_turn, object, owner, question,
    reply, session, session_key, turn_key,
};
use crate::error::ErrorKind;
use crate::id::SessionId;
use crate::message::{Audience, Author, Content, MessageStatus, Part};
use crate::session::{MAX_PAGE, SessionPatch};
use crate::store::{
    Checkpoint, Existing, MemoryStore, SessionStore, StorageCheck, TurnEnd, WholeSession,
};
use crate::trace::Trace;
use crate::turn::TurnStatus;

/// A session with a fork, every kind of end, a running turn with half a reply, and whatever a
/// message can have.
pub async fn motley(owner_id: &str, id: &str) -> WholeSession {
    let store = MemoryStore::new();
    let name = |n: &str| format!("{id}-{n}");
    let head = exchange(&store, new_turn(owner_id, id, &name("0"), None)).await;
    for (n, status) in [
        ("1", TurnStatus::Cancelled),
        ("2", TurnStatus::Failed),
        ("3", TurnStatus::Interrupted),
    ] {
        let mut new = new_turn(owner_id, id, &name(n), Some(&head));
        let session = store.session(&session_key(owner_id, id)).await.unwrap();
        new.expected_head = session.unwrap().head;
        if n == "2" {
            new.turn.idempotency_key = None;
            new.messages[0].content = Content::Parts(vec![
                Part::Text {
                    text: "a\u{0}\u{2028}\"光".to_owned(),
                },
                Part::Image {
                    url: "https://pictures.example/x.png".to_owned(),
                    media_type: None,
                },
            ]);
            new.messages[0].visible_to = [Audience::Learner].into();
            new.messages[0].metadata = object(
                "k",
                serde_json::json!([0.1, 1e300, -0.5, {"z": 1, "a": null}]),
            );
        }
        let turn = begin(&store, new).await;
        let text = (status != TurnStatus::Failed).then(|| reply(&turn, "so far"));
        let ended = TurnEnd {
            status,
            reply: text.map(|text| crate::Message {
                status: MessageStatus::Partial,
                author: Author::Teacher,
                ..text
            }),
            error: Some(crate::Error::new(ErrorKind::RateLimited, "slow down").info()),
            ..end(&turn)
        };
        store.finish_turn(&turn.key(), ended).await.unwrap();
    }
    let mut new = new_turn(owner_id, id, &name("4"), Some(&head));
    let key = session_key(owner_id, id);
    new.expected_head = store.session(&key).await.unwrap().unwrap().head;
    let turn = begin(&store, new).await;
    let mut partial = reply(&turn, "half");
    partial.status = MessageStatus::Partial;
    let checkpoint = Checkpoint {
        partial: Some(partial),
        trace: Trace::default(),
        lease_until: at(9_000),
    };
    store
        .checkpoint_turn(&turn.key(), checkpoint)
        .await
        .unwrap();
    store
        .whole_session(&key)
        .await
        .unwrap()
        .map(sorted)
        .unwrap()
}

/// Turns come in any order.
fn sorted(mut whole: WholeSession) -> WholeSession {
    whole.turns.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    whole
}

async fn read(store: &dyn SessionStore, whole: &WholeSession) -> Option<WholeSession> {
    store
        .whole_session(&whole.session.key())
        .await
        .unwrap()
        .map(sorted)
}

async fn is_sound(store: &dyn SessionStore) {
    let check: StorageCheck = store.check().await.unwrap();
    assert!(check.problems.is_empty(), "{:?}", check.problems.kept());
}

/// Also those that are only empty, and none of the neighbors'.
pub async fn session_ids_are_listed_in_the_order_of_their_bytes_without_gap_or_repeat(
    store: Arc<dyn SessionStore>,
) {
    let sorted = ["A", "B", "a", "a-", "a.b", "ab", "b", "~"];
    for id in ["b", "a.b", "ab", "A", "~", "a", "B", "a-"] {
        line(&*store, "o", id, 1).await;
    }
    for (neighbor, id) in [("a", "x"), ("o-", "y"), ("oo", "z")] {
        store
            .create_session(session(neighbor, id, 5))
            .await
            .unwrap();
    }
    let texts = |ids: Vec<SessionId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let of = owner("o");
    assert_eq!(
        texts(store.session_ids(&of, None, 99).await.unwrap()),
        sorted
    );
    for size in 1..4 {
        let mut all = Vec::new();
        loop {
            let page = store
                .session_ids(&of, all.last().cloned(), size)
                .await
                .unwrap();
            all.extend(page.iter().cloned());
            if page.len() < size {
                break;
            }
        }
        assert_eq!(texts(all), sorted, "{size} at a time");
    }
    // A session that is used keeps its place.
    let patch = SessionPatch {
        updated_at: at(1_000_000),
        ..SessionPatch::default()
    };
    store
        .update_session(&session_key("o", "A"), patch)
        .await
        .unwrap();
    assert_eq!(
        texts(store.session_ids(&of, None, 2).await.unwrap()),
        ["A", "B"]
    );
    assert!(
        store
            .session_ids(&owner("nobody"), None, 9)
            .await
            .unwrap()
            .is_empty()
    );
    for limit in [0, MAX_PAGE + 1] {
        let refused = store.session_ids(&of, None, limit).await;
        assert_eq!(kind(refused), ErrorKind::InvalidInput);
    }
}

/// Ids, times, order, branches, ends, traces, keys, and the half reply of what runs.
pub async fn an_imported_session_is_read_back_exactly_as_it_was(store: Arc<dyn SessionStore>) {
    let long = MemoryStore::new();
    line(&long, "o", "long", 150).await;
    let long = long.whole_session(&session_key("o", "long")).await.unwrap();
    let long = long.map(sorted).unwrap();
    let mut empty = motley("o", "empty").await;
    (empty.messages, empty.turns, empty.partial) = (vec![], vec![], None);
    empty.session = session("o", "empty", 77);
    for whole in [motley("o", "s").await, motley("p", "s").await, long, empty] {
        store
            .import_session(whole.clone(), Existing::Refuse)
            .await
            .unwrap();
        assert_eq!(read(&*store, &whole).await, Some(whole.clone()));
        for turn in &whole.turns {
            assert_eq!(store.turn(&turn.key()).await.unwrap().as_ref(), Some(turn));
            if let Some(key) = &turn.idempotency_key {
                let found = store.turn_by_key(&turn.owner, key).await.unwrap();
                assert_eq!(found.as_ref(), Some(turn));
            }
        }
    }
    assert_eq!(store.running_turns().await.unwrap().len(), 2);
    is_sound(&*store).await;
}

/// Whatever goes on meanwhile, and with the last checkpoint of what runs.
pub async fn a_whole_session_is_read_as_it_was_at_one_moment(store: Arc<dyn SessionStore>) {
    let key = session_key("o", "s");
    assert_eq!(store.whole_session(&key).await.unwrap(), None);
    line(&*store, "o", "other", 2).await;
    line(&*store, "o", "s", 20).await;
    let going_on = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut head = "r-s-19".to_owned();
            for n in 20..60 {
                head = exchange(&*store, new_turn("o", "s", &format!("s-{n}"), Some(&head))).await;
            }
        })
    };
    while !going_on.is_finished() {
        let whole = store.whole_session(&key).await.unwrap().unwrap();
        whole.check().unwrap();
        tokio::task::yield_now().await;
    }
    going_on.await.unwrap();
    let whole = store.whole_session(&key).await.unwrap().unwrap();
    assert_eq!((whole.messages.len(), whole.turns.len()), (120, 60));
}

/// Its running turn ends, its keys are taken, its history grows, and it is deleted whole.
pub async fn an_imported_session_goes_on_like_any_other(store: Arc<dyn SessionStore>) {
    let whole = motley("o", "s").await;
    store
        .import_session(whole.clone(), Existing::Refuse)
        .await
        .unwrap();
    let running = whole.running().unwrap();
    store
        .finish_turn(&running.key(), end(running))
        .await
        .unwrap();
    let again = new_turn("o", "s", "s-0", Some("r-s-4"));
    let again = store.begin_turn(again).await.unwrap();
    assert!(matches!(again, crate::store::BegunTurn::Existing(_)));
    exchange(&*store, new_turn("o", "s", "next", Some("r-s-4"))).await;
    let grown = read(&*store, &whole).await.unwrap();
    assert_eq!(grown.messages.len(), whole.messages.len() + 3);
    assert_eq!(grown.messages[..whole.messages.len()], whole.messages);
    grown.check().unwrap();
    is_sound(&*store).await;
    assert!(store.delete_session(&session_key("o", "s")).await.unwrap());
    assert_eq!(store.turn(&turn_key("o", "s-0")).await.unwrap(), None);
    assert_eq!(store.turn_by_key(&owner("o"), "k-s-1").await.unwrap(), None);
    is_sound(&*store).await;
}

/// Nothing of the old one is left, not its turns nor their keys.
pub async fn an_existing_session_is_kept_or_replaced_with_all_that_is_in_it(
    store: Arc<dyn SessionStore>,
) {
    line(&*store, "o", "s", 3).await;
    line(&*store, "o", "t", 1).await;
    let before = contents(&*store, &["o"]).await;
    let whole = motley("o", "s").await;
    let refused = store.import_session(whole.clone(), Existing::Refuse).await;
    assert_eq!(kind(refused), ErrorKind::Conflict);
    assert_eq!(contents(&*store, &["o"]).await, before);

    let mut other = motley("o", "other").await;
    other.session.id = whole.session.id.clone();
    for message in other.messages.iter_mut().chain(&mut other.partial) {
        message.session_id = whole.session.id.clone();
    }
    for turn in &mut other.turns {
        turn.session_id = whole.session.id.clone();
    }
    store
        .import_session(other.clone(), Existing::Replace)
        .await
        .unwrap();
    assert_eq!(read(&*store, &other).await, Some(other));
    assert_eq!(store.turn(&turn_key("o", "s-2")).await.unwrap(), None);
    assert_eq!(store.turn_by_key(&owner("o"), "k-s-2").await.unwrap(), None);
    assert!(store.turn(&turn_key("o", "t-0")).await.unwrap().is_some());
    is_sound(&*store).await;
}

/// Whoever runs it would not know where its reply goes.
pub async fn a_session_with_a_running_turn_is_not_replaced(store: Arc<dyn SessionStore>) {
    let turn = begin(&*store, new_turn("o", "s", "t", None)).await;
    let before = contents(&*store, &["o"]).await;
    let whole = motley("o", "s").await;
    let error = store
        .import_session(whole, Existing::Replace)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.context_value("turn"), Some("t"));
    assert_eq!(contents(&*store, &["o"]).await, before);
    store.finish_turn(&turn.key(), end(&turn)).await.unwrap();
}

/// Ids of turns and keys are the owner's, not the session's.
pub async fn a_turn_or_a_key_of_another_session_conflicts_and_nothing_is_written(
    store: Arc<dyn SessionStore>,
) {
    line(&*store, "o", "taken", 2).await;
    let before = contents(&*store, &["o"]).await;
    let mut same_turn = motley("o", "s").await;
    same_turn.turns[1].id = turn_key("o", "taken-1").id;
    let mut same_key = motley("o", "s").await;
    same_key.turns[1].idempotency_key = Some("k-taken-1".to_owned());
    for whole in [same_turn, same_key] {
        for existing in [Existing::Refuse, Existing::Replace] {
            let error = store
                .import_session(whole.clone(), existing)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert_eq!(error.context_value("turn"), Some("taken-1"));
            assert_eq!(contents(&*store, &["o"]).await, before);
        }
        // Another owner's are no obstacle.
        let mut theirs = whole.clone();
        theirs.session.owner = owner("p");
        theirs
            .turns
            .iter_mut()
            .for_each(|turn| turn.owner = owner("p"));
        store
            .import_session(theirs, Existing::Refuse)
            .await
            .unwrap();
        store
            .finish_turn(&turn_key("p", "s-4"), end(&whole.turns[4]))
            .await
            .unwrap();
        assert!(store.delete_session(&session_key("p", "s")).await.unwrap());
    }
}

/// Each contradiction by itself.
pub async fn a_session_that_contradicts_itself_is_refused_and_nothing_is_written(
    store: Arc<dyn SessionStore>,
) {
    let changes: [fn(&mut WholeSession); 18] = [
        |whole| whole.session.message_count += 1,
        |whole| whole.session.head = Some(message_id("elsewhere")),
        |whole| whole.session.head = None,
        |whole| whole.session.running_turn = None,
        |whole| whole.session.running_turn = Some(turn_key("o", "elsewhere").id),
        |whole| whole.messages[2].session_id = SessionId::new("t").unwrap(),
        |whole| whole.messages[2].parent_id = Some(message_id("elsewhere")),
        |whole| whole.messages[3].id = whole.messages[0].id.clone(),
        |whole| whole.messages.reverse(),
        |whole| whole.turns[0].owner = owner("p"),
        |whole| whole.turns[0].session_id = SessionId::new("t").unwrap(),
        |whole| whole.turns[0].has_reply = false,
        |whole| whole.turns[0].user_message_id = whole.turns[0].reply_message_id.clone(),
        |whole| whole.turns[0].ended_at = None,
        |whole| whole.turns[0].idempotency_key = Some("with space".to_owned()),
        |whole| whole.turns[1].id = whole.turns[0].id.clone(),
        |whole| whole.turns[1].idempotency_key = whole.turns[0].idempotency_key.clone(),
        |whole| whole.partial = Some(question("s", "elsewhere", None)),
    ];
    let sound = motley("o", "s").await;
    for (n, change) in changes.into_iter().enumerate() {
        let mut whole = sound.clone();
        change(&mut whole);
        let refused = store.import_session(whole, Existing::Replace).await;
        assert_eq!(kind(refused), ErrorKind::InvalidInput, "change {n}");
        assert_eq!(read(&*store, &sound).await, None);
    }
    store
        .import_session(sound, Existing::Replace)
        .await
        .unwrap();
}
