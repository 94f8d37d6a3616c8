//! Laws of running turns and their ends.

#![expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]

use std::sync::Arc;

use crate::conformance::faulty::{FaultyStore, When};
use crate::conformance::sample::{
    at, begin, contents, end, ids, kind, message_id, message_query, new_turn, reply, session,
    session_key, turn_key,
};
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Notice};
use crate::message::{FinishReason, Message, MessageStatus, Usage};
use crate::session::{Branch, MessageQuery, MessageRange, Session};
use crate::store::{BegunTurn, Checkpoint, NewTurn, RunningTurn, SessionStore, TurnEnd};
use crate::trace::Trace;
use crate::turn::{Turn, TurnKey, TurnStatus};

fn partial(turn: &Turn, text: &str) -> Message {
    Message {
        status: MessageStatus::Partial,
        usage: None,
        finish_reason: None,
        ..reply(turn, text)
    }
}

fn trace(text: &str) -> Trace {
    let mut trace = Trace::default();
    trace.record(
        &Event::TextDelta {
            text: text.to_owned(),
        },
        String::new,
    );
    trace.record(
        &Event::Notice(Notice::new("demo_provider", "a demo answers")),
        || text.to_owned(),
    );
    trace.record(
        &Event::ToolCall {
            call_id: "c".to_owned(),
            name: "plot".to_owned(),
            arguments: serde_json::json!({"f": "x²", "range": [-1.5, 2], "none": null}),
        },
        || text.to_owned(),
    );
    trace
}

/// Asserts that this end is refused and that nothing is written by it.
async fn refused(store: &dyn SessionStore, key: &TurnKey, end: TurnEnd) -> Error {
    let before = contents(store, &["o"]).await;
    let error = store.finish_turn(key, end).await.unwrap_err();
    assert_eq!(contents(store, &["o"]).await, before);
    error
}

/// The reply follows the message that it answers.
pub async fn finish_stores_the_reply_as_head_and_frees_the_session(store: Arc<dyn SessionStore>) {
    let turn = begin(&*store, new_turn("o", "s", "t", None)).await;
    let the_end = TurnEnd {
        trace: trace("an answer"),
        ..end(&turn)
    };
    let expected = Turn {
        status: TurnStatus::Completed,
        ended_at: Some(at(2_000)),
        has_reply: true,
        finish_reason: Some(FinishReason::Stop),
        usage: the_end.usage,
        trace: the_end.trace.clone(),
        ..turn.clone()
    };
    assert_eq!(
        store
            .finish_turn(&turn.key(), the_end.clone())
            .await
            .unwrap(),
        expected
    );
    assert_eq!(
        store.turn(&turn.key()).await.unwrap().as_ref(),
        Some(&expected)
    );
    assert_eq!(
        store.turn_by_key(&turn.owner, "k-t").await.unwrap(),
        Some(expected)
    );
    assert!(store.running_turns().await.unwrap().is_empty());

    let now = store
        .session(&session_key("o", "s"))
        .await
        .unwrap()
        .unwrap();
    let expected = Session {
        head: Some(message_id("r-t")),
        running_turn: None,
        message_count: 2,
        updated_at: at(2_000),
        preferences: now.preferences.clone(),
        ..session("o", "s", 1_000)
    };
    assert_eq!(now, expected);
    let page = store
        .messages(MessageQuery::latest(now.key(), 9))
        .await
        .unwrap();
    assert_eq!(ids(&page), ["u-t", "r-t"]);
    assert_eq!(page.items.last(), the_end.reply.as_ref());
    begin(&*store, new_turn("o", "s", "t2", Some("r-t"))).await;
}

/// A turn that fails at once leaves the learner's message.
pub async fn finish_without_a_reply_keeps_the_head_and_frees_the_session(
    store: Arc<dyn SessionStore>,
) {
    let turn = begin(&*store, new_turn("o", "s", "t", None)).await;
    let failed = TurnEnd {
        status: TurnStatus::Failed,
        reply: None,
        ..end(&turn)
    };
    let ended = store.finish_turn(&turn.key(), failed).await.unwrap();
    assert!(!ended.has_reply);
    let now = store
        .session(&session_key("o", "s"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (now.head, now.running_turn, now.message_count),
        (Some(message_id("u-t")), None, 1)
    );
    begin(&*store, new_turn("o", "s", "t2", Some("u-t"))).await;
}

/// Status, error, reason and usage.
pub async fn every_end_is_kept_with_the_turn(store: Arc<dyn SessionStore>) {
    let error = Error::new(ErrorKind::RateLimited, "slow down")
        .retryable(Some(std::time::Duration::from_millis(250)))
        .info();
    let usage = Usage {
        input_tokens: Some(0),
        cached_input_tokens: Some(1),
        cache_write_tokens: Some(2),
        output_tokens: Some(u64::MAX),
        reasoning_tokens: Some(3),
        cost_usd: Some(0.1),
        ..Usage::default()
    };
    let mut head: Option<String> = None;
    let ends = [
        (
            TurnStatus::Completed,
            None,
            Some(FinishReason::Length),
            Some(usage),
        ),
        (
            TurnStatus::Cancelled,
            None,
            Some(FinishReason::Cancelled),
            None,
        ),
        (
            TurnStatus::Failed,
            Some(error.clone()),
            None,
            Some(Usage::default()),
        ),
        (
            TurnStatus::Interrupted,
            Some(error),
            Some(FinishReason::Other),
            None,
        ),
    ];
    for (n, (status, error, finish_reason, usage)) in ends.into_iter().enumerate() {
        let turn = begin(
            &*store,
            new_turn("o", "s", &format!("t{n}"), head.as_deref()),
        )
        .await;
        let the_end = TurnEnd {
            status,
            error,
            finish_reason,
            usage,
            ..end(&turn)
        };
        let mut expected = turn.clone();
        the_end.apply_to(&mut expected);
        assert_eq!(
            store.finish_turn(&turn.key(), the_end).await.unwrap(),
            expected
        );
        assert_eq!(store.turn(&turn.key()).await.unwrap(), Some(expected));
        head = Some(format!("r-t{n}"));
    }
}

/// A second end changes nothing.
pub async fn a_turn_ends_once(store: Arc<dyn SessionStore>) {
    let turn = begin(&*store, new_turn("o", "s", "t", None)).await;
    store.finish_turn(&turn.key(), end(&turn)).await.unwrap();
    let again = TurnEnd {
        status: TurnStatus::Failed,
        reply: None,
        ..end(&turn)
    };
    assert_eq!(
        refused(&*store, &turn.key(), again).await.kind(),
        ErrorKind::Conflict
    );
    assert_eq!(
        refused(&*store, &turn.key(), end(&turn)).await.kind(),
        ErrorKind::Conflict
    );
}

/// An end and its rivals, such as a recovery.
pub async fn of_concurrent_ends_exactly_one_is_stored(store: Arc<dyn SessionStore>) {
    for round in 0..10 {
        let name = format!("t{round}");
        let turn = begin(&*store, new_turn("o", &format!("s{round}"), &name, None)).await;
        let tasks: Vec<_> = (0..6)
            .map(|n| {
                let (store, turn) = (Arc::clone(&store), turn.clone());
                let the_end = TurnEnd {
                    reply: Some(reply(&turn, &format!("answer {n}"))),
                    ..end(&turn)
                };
                tokio::spawn(async move {
                    let result = store.finish_turn(&turn.key(), the_end.clone()).await;
                    (the_end.reply, result)
                })
            })
            .collect();
        let mut stored = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                (reply, Ok(_)) => stored.extend(reply),
                (_, Err(error)) => assert_eq!(error.kind(), ErrorKind::Conflict),
            }
        }
        let query = MessageQuery::latest(session_key("o", &format!("s{round}")), 9);
        let page = store.messages(query).await.unwrap();
        assert_eq!(stored.len(), 1);
        assert_eq!(page.items[1..], stored);
    }
}

/// There is nothing to end.
pub async fn finish_of_an_absent_turn_is_not_found(store: Arc<dyn SessionStore>) {
    let turn = begin(&*store, new_turn("o", "s", "t", None)).await;
    for key in [turn_key("o", "u"), turn_key("o2", "t")] {
        assert_eq!(
            refused(&*store, &key, end(&turn)).await.kind(),
            ErrorKind::NotFound
        );
    }
}

/// Recovery takes over only a turn that is as dead as it thinks.
pub async fn finish_with_another_lease_conflicts_and_writes_nothing(store: Arc<dyn SessionStore>) {
    let turn = begin(&*store, new_turn("o", "s", "t", None)).await;
    let with_lease = |lease| TurnEnd {
        expected_lease: Some(lease),
        ..end(&turn)
    };
    let renewed = Checkpoint {
        partial: None,
        trace: Trace::default(),
        lease_until: at(6_000),
    };
    store.checkpoint_turn(&turn.key(), renewed).await.unwrap();
    for lease in [turn.lease_until, at(6_001)] {
        let error = refused(&*store, &turn.key(), with_lease(lease)).await;
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    store
        .finish_turn(&turn.key(), with_lease(at(6_000)))
        .await
        .unwrap();
}

/// An end that goes on, and a reply of somebody else.
pub async fn an_end_that_does_not_fit_its_turn_is_refused_and_nothing_is_written(
    store: Arc<dyn SessionStore>,
) {
    let turn = begin(&*store, new_turn("o", "s", "t", None)).await;
    let with = |change: fn(&mut Message)| {
        let mut message = reply(&turn, "x");
        change(&mut message);
        TurnEnd {
            reply: Some(message),
            ..end(&turn)
        }
    };
    for wrong in [
        TurnEnd {
            status: TurnStatus::Running,
            ..end(&turn)
        },
        with(|message| message.id = message_id("other")),
        with(|message| message.session_id = session_key("o", "s2").id),
        with(|message| message.parent_id = None),
    ] {
        let error = refused(&*store, &turn.key(), wrong).await;
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

/// Nobody but recovery sees it.
pub async fn a_checkpoint_renews_the_lease_and_keeps_the_partial_reply_out_of_the_session(
    store: Arc<dyn SessionStore>,
) {
    let mut turn = begin(&*store, new_turn("o", "s", "t", None)).await;
    let key = session_key("o", "s");
    let before = store.session(&key).await.unwrap();
    for (text, lease) in [("an", 6_000), ("an ans", 7_000)] {
        let checkpoint = Checkpoint {
            partial: Some(partial(&turn, text)),
            trace: trace(text),
            lease_until: at(lease),
        };
        store
            .checkpoint_turn(&turn.key(), checkpoint.clone())
            .await
            .unwrap();
        turn.trace = checkpoint.trace;
        turn.lease_until = at(lease);
        let expected = RunningTurn {
            turn: turn.clone(),
            partial: checkpoint.partial,
        };
        assert_eq!(store.running_turns().await.unwrap(), [expected]);
        assert_eq!(store.turn(&turn.key()).await.unwrap(), Some(turn.clone()));
        assert_eq!(
            store.turn_by_key(&turn.owner, "k-t").await.unwrap(),
            Some(turn.clone())
        );
        assert_eq!(store.session(&key).await.unwrap(), before);
        let query = message_query(key.clone(), Branch::All, MessageRange::Latest, 9);
        assert_eq!(ids(&store.messages(query).await.unwrap()), ["u-t"]);
    }
    let other = Checkpoint {
        partial: Some(Message {
            id: message_id("other"),
            ..partial(&turn, "x")
        }),
        trace: Trace::default(),
        lease_until: at(9_000),
    };
    assert_eq!(
        kind(store.checkpoint_turn(&turn.key(), other).await),
        ErrorKind::InvalidInput
    );
    assert_eq!(store.turn(&turn.key()).await.unwrap(), Some(turn.clone()));
    let ended = store.finish_turn(&turn.key(), end(&turn)).await.unwrap();
    assert_eq!(ended.trace, Trace::default());
}

/// A sign of life, nothing more.
pub async fn a_checkpoint_without_a_reply_renews_the_lease_only(store: Arc<dyn SessionStore>) {
    let turn = begin(&*store, new_turn("o", "s", "t", None)).await;
    let checkpoint = |partial, trace, lease| Checkpoint {
        partial,
        trace,
        lease_until: at(lease),
    };
    let first = checkpoint(Some(partial(&turn, "so far")), trace("so far"), 6_000);
    store
        .checkpoint_turn(&turn.key(), first.clone())
        .await
        .unwrap();
    let second = checkpoint(None, Trace::default(), 8_000);
    store.checkpoint_turn(&turn.key(), second).await.unwrap();
    let expected = RunningTurn {
        turn: Turn {
            trace: first.trace,
            lease_until: at(8_000),
            ..turn
        },
        partial: first.partial,
    };
    assert_eq!(store.running_turns().await.unwrap(), [expected]);
}

/// There is nothing to save.
pub async fn a_checkpoint_of_an_absent_or_ended_turn_is_refused(store: Arc<dyn SessionStore>) {
    let checkpoint = || Checkpoint {
        partial: None,
        trace: Trace::default(),
        lease_until: at(9_000),
    };
    let absent = store
        .checkpoint_turn(&turn_key("o", "t"), checkpoint())
        .await;
    assert_eq!(kind(absent), ErrorKind::NotFound);
    let turn = begin(&*store, new_turn("o", "s", "t", None)).await;
    let ended = store.finish_turn(&turn.key(), end(&turn)).await.unwrap();
    let late = store.checkpoint_turn(&turn.key(), checkpoint()).await;
    assert_eq!(kind(late), ErrorKind::Conflict);
    assert_eq!(store.turn(&turn.key()).await.unwrap(), Some(ended));
    assert!(store.running_turns().await.unwrap().is_empty());
}

/// For recovery, which belongs to nobody.
pub async fn running_turns_are_those_of_all_owners_with_their_checkpoints(
    store: Arc<dyn SessionStore>,
) {
    let mut expected = Vec::new();
    for owner in ["a", "ab", "b"] {
        for n in 0..3 {
            let name = format!("t{n}");
            let mut turn = begin(&*store, new_turn(owner, &format!("s{n}"), &name, None)).await;
            if n == 1 {
                store.finish_turn(&turn.key(), end(&turn)).await.unwrap();
                continue;
            }
            let partial = (n == 2).then(|| partial(&turn, owner));
            if partial.is_some() {
                turn.lease_until = at(8_000);
                turn.trace = trace(owner);
                let checkpoint = Checkpoint {
                    partial: partial.clone(),
                    trace: turn.trace.clone(),
                    lease_until: turn.lease_until,
                };
                store
                    .checkpoint_turn(&turn.key(), checkpoint)
                    .await
                    .unwrap();
            }
            expected.push(RunningTurn { turn, partial });
        }
    }
    let mut running = store.running_turns().await.unwrap();
    running.sort_by_key(|running| running.turn.key());
    assert_eq!(running, expected);
}

/// The n-th write fails, before or after it was made; a caller who tries again ends where one
/// who never saw a failure does.
pub async fn whoever_tries_again_after_a_failed_write_gets_there(store: Arc<dyn SessionStore>) {
    exchange_stubbornly(&FaultyStore::new(Arc::clone(&store)), "o").await;
    let smooth = contents(&*store, &["o"]).await;
    for when in [When::Before, When::After] {
        for n in 1.. {
            let faulty = FaultyStore::new(Arc::clone(&store));
            faulty.fail_write(n, when);
            exchange_stubbornly(&faulty, "o").await;
            assert_eq!(contents(&*store, &["o"]).await, smooth, "write {n} failed");
            if !faulty.has_failed() {
                assert_eq!(n, 6, "the conversation has five writes");
                break;
            }
        }
    }
}

/// Two turns after a deletion of what was there, each write repeated until it succeeds.
async fn exchange_stubbornly(store: &dyn SessionStore, owner: &str) {
    if let Err(error) = store.delete_session(&session_key(owner, "s")).await {
        assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
        store
            .delete_session(&session_key(owner, "s"))
            .await
            .unwrap();
    }
    for new in [
        new_turn(owner, "s", "t1", None),
        new_turn(owner, "s", "t2", Some("r-t1")),
    ] {
        let turn = begin_stubbornly(store, new).await;
        if let Err(error) = store.finish_turn(&turn.key(), end(&turn)).await {
            assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
            match store.finish_turn(&turn.key(), end(&turn)).await {
                Ok(ended) => assert_eq!(ended.status, TurnStatus::Completed),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
            }
        }
    }
}

async fn begin_stubbornly(store: &dyn SessionStore, new: NewTurn) -> Turn {
    let turn = new.turn.clone();
    if let Err(error) = store.begin_turn(new.clone()).await {
        assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
        match store.begin_turn(new).await.unwrap() {
            BegunTurn::New => {}
            BegunTurn::Existing(existing) => assert_eq!(*existing, turn),
        }
    }
    turn
}
