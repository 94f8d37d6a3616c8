//! What owners use, and how much they may.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tutor_core::provider::ScriptedProvider;
use tutor_core::provider::scripted::Step;
use tutor_core::store::{KeyRange, MemoryStore, RecordStore};
use tutor_core::time::{Runtime, SystemRuntime, Timestamp};
use tutor_core::tutor::Rating;
use tutor_core::usage::{DayUsage, Payer, Quota, UsageQuery, report};
use tutor_core::{
    ChatRequest, ErrorKind, FinishReason, Limits, OwnerId, SessionId, TurnStatus, Tutor, Usage,
};

use super::{Delta, build, done, say, scripts, text};

fn costing(input: u64, output: u64) -> Vec<Step> {
    let usage = Usage {
        input_tokens: Some(input),
        output_tokens: Some(output),
        cost_usd: Some(0.5),
        ..Usage::default()
    };
    vec![
        text("Hi"),
        Step::Yield(Delta::Usage(usage)),
        done(FinishReason::Stop),
    ]
}

async fn today(tutor: &Tutor) -> DayUsage {
    let mut days = tutor.usage(None, None).await.unwrap();
    assert_eq!(days.len(), 1, "{days:?}");
    days.remove(0)
}

fn tokens(max: u64) -> Quota {
    let mut quota = Quota::default();
    quota.tokens_per_day = Some(max);
    quota
}

#[tokio::test]
async fn turns_tokens_money_and_thumbs_are_counted_by_owner_and_day() {
    let store = MemoryStore::default();
    let provider = scripts(vec![
        costing(10, 5),
        vec![text("half"), Step::End],
        say("not told"),
        costing(1, 1),
    ]);
    let tutor = build(Tutor::builder().data(store.clone()), &provider).await;
    let reply = tutor.chat("one").await.unwrap();
    tutor.chat("two").await.unwrap_err();
    tutor.chat("three").await.unwrap();
    let up = |rating| Some((rating, None));
    let (session, message) = (&reply.session_id, &reply.message.id);
    tutor
        .rate(session, message, up(Rating::Down))
        .await
        .unwrap();
    tutor.rate(session, message, up(Rating::Up)).await.unwrap();
    tutor.count_upload(7).await.unwrap();
    let other = tutor.for_owner(OwnerId::new("other").unwrap());
    other.chat("hi").await.unwrap();

    let day = today(&tutor).await;
    assert_eq!(
        (day.turns, day.failed_turns, day.cancelled_turns),
        (3, 1, 0)
    );
    assert!(
        day.input_tokens > 10 && day.output_tokens > 5,
        "estimates, too: {day:?}"
    );
    assert_eq!(day.cost_usd, 0.5);
    assert!(day.first_token_ms.is_some());
    assert_eq!(
        (day.thumbs_up, day.thumbs_down, day.upload_bytes),
        (1, 0, 7)
    );
    assert_eq!(today(&other).await.turns, 1);

    let mut query = UsageQuery {
        limit: 1,
        ..UsageQuery::default()
    };
    let first = report(&store, &query).await.unwrap();
    assert_eq!(first[0].owner, *tutor.owner());
    query.after = Some((first[0].owner.clone(), first[0].day.clone()));
    assert_eq!(
        report(&store, &query).await.unwrap()[0].owner,
        *other.owner()
    );
    query.after = None;
    query.to = Some("2020-01-01".to_owned());
    assert!(report(&store, &query).await.unwrap().is_empty());
    query.to = Some("yesterday".to_owned());
    assert_eq!(
        report(&store, &query).await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[tokio::test]
async fn what_was_used_is_written_when_the_tutor_closes() {
    let store = MemoryStore::default();
    let tutor = build(
        Tutor::builder().data(store.clone()),
        &scripts(vec![costing(1, 1)]),
    )
    .await;
    tutor.chat("one").await.unwrap();
    tutor.close().await.unwrap();
    let again = MemoryStore::clone(&store);
    let query = UsageQuery {
        limit: 9,
        ..UsageQuery::default()
    };
    // A closed memory store still shows what it has to those who share it, or says that it is closed.
    match report(&again, &query).await {
        Ok(days) => assert_eq!(days[0].turns, 1),
        Err(error) => assert_eq!(error.kind(), ErrorKind::StoreUnavailable),
    }
}

#[tokio::test]
async fn turns_that_begin_at_once_never_reserve_more_than_the_quota() {
    let gate = Arc::new(Notify::new());
    let waiting = || {
        vec![
            Step::Wait(Arc::clone(&gate)),
            text("x"),
            done(FinishReason::Stop),
        ]
    };
    let provider = scripts((0..40).map(|_| waiting()).collect());
    let store = MemoryStore::default();
    // Two instances on the same accounts.
    let mut limits = Limits::default();
    limits.reply_tokens = 50;
    let builder = || {
        Tutor::builder()
            .data(store.clone())
            .limits(limits.clone())
            .quota(tokens(1000))
    };
    let (a, b) = (
        build(builder(), &provider).await,
        build(builder(), &provider).await,
    );
    let begun = (0..40).map(|n| {
        let tutor = if n % 2 == 0 { a.clone() } else { b.clone() };
        tokio::spawn(async move { tutor.stream(ChatRequest::new("hi").detached()).await })
    });
    let mut streams = Vec::new();
    for begun in begun.collect::<Vec<_>>() {
        match begun.await.unwrap() {
            Ok(stream) => streams.push(stream),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::RateLimited, "{error}");
                assert_eq!(error.context_value("limit"), Some("tokens_per_day"));
                assert!(error.retry_after().is_some());
            }
        }
    }
    let reserved: u64 = provider
        .requests()
        .iter()
        .map(|request| request.max_tokens.unwrap_or(50))
        .sum();
    assert!(
        !streams.is_empty() && streams.len() < 40 && reserved <= 1000,
        "{}",
        streams.len()
    );
    let begun = streams.len() as u64;
    for _ in 0..40 {
        gate.notify_one();
        tokio::task::yield_now().await;
    }
    for stream in streams {
        while !stream.has_ended() {
            gate.notify_one();
            tokio::task::yield_now().await;
        }
    }
    a.flush_usage().await.unwrap();
    b.flush_usage().await.unwrap();
    let day = today(&a).await;
    assert_eq!(day.turns, begun);
    // What was reserved and not used is free again.
    a.chat("more").await.unwrap();
}

/// A clock that is put forward.
#[derive(Clone, Debug, Default)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

impl Runtime for Clock {
    fn now(&self) -> Timestamp {
        let later = self.0.load(Ordering::SeqCst);
        Timestamp::from_micros(SystemRuntime.now().as_micros() + later)
    }

    fn new_id(&self) -> String {
        SystemRuntime.new_id()
    }
}

fn paying(kind: &'static str, quota: Quota) -> Payer {
    Payer::new(kind, "p").with_quota(quota)
}

#[tokio::test]
async fn a_turn_is_charged_to_all_who_pay_or_to_none() {
    let provider = scripts((0..5).map(|_| costing(10, 10)).collect());
    let tutor = build(Tutor::builder().quota(tokens(1000)), &provider).await;
    let mut once = Quota::default();
    once.turns_per_day = Some(1);
    let (rich, poor) = (paying("key", tokens(60)), paying("address", once));
    let both = tutor.charged_to([rich.clone(), poor.clone()]);
    both.chat("one").await.unwrap();
    // The reply is bound by the one who has the least.
    assert!(provider.requests()[0].max_tokens.unwrap() < 60);
    let refused = both.chat("two").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::RateLimited);
    assert_eq!(
        refused.context_value("limit"),
        Some("address_turns_per_day")
    );
    assert!(refused.message().contains("for this address"), "{refused}");
    assert!(refused.retry_after().is_some());

    // Nothing is left of it where there was room.
    let alone = tutor.charged_to([rich]);
    alone.chat("three").await.unwrap();
    let held = provider.requests()[1].max_tokens.unwrap();
    assert!(
        (25..40).contains(&held),
        "60 less 20, less the question: {held}"
    );
    assert_eq!(today(&tutor).await.turns, 2);
    let other = tutor.for_owner(OwnerId::new("other").unwrap());
    let refused = other.charged_to([poor]).chat("four").await.unwrap_err();
    assert_eq!(refused.context_value("quota"), Some("1"), "whoever asks");
    tutor.chat("five").await.unwrap();
}

#[tokio::test]
async fn uploads_are_charged_to_all_who_pay_or_to_none() {
    let tutor = build(Tutor::builder(), &scripts(vec![])).await;
    let bytes = |max| {
        let mut quota = Quota::default();
        quota.upload_bytes_per_day = Some(max);
        quota
    };
    let key = paying("key", bytes(10));
    let both = tutor.charged_to([key.clone(), paying("address", bytes(4))]);
    both.count_upload(4).await.unwrap();
    let refused = both.count_upload(1).await.unwrap_err();
    let limit = refused.context_value("limit");
    assert_eq!(limit, Some("address_upload_bytes_per_day"));
    let key = tutor.charged_to([key]);
    key.count_upload(6).await.unwrap();
    key.count_upload(1).await.unwrap_err();
    assert_eq!(today(&tutor).await.upload_bytes, 10);
}

#[tokio::test]
async fn what_a_payer_used_is_kept_until_the_day_after_the_next() {
    let store = MemoryStore::default();
    let clock = Clock::default();
    let builder = Tutor::builder().data(store.clone()).runtime(clock.clone());
    let provider = scripts((0..9).map(|_| costing(1, 1)).collect());
    let tutor = build(builder, &provider)
        .await
        .charged_to([paying("key", tokens(1000))]);
    let mut kept = Vec::new();
    for _ in 0..4 {
        tutor.chat("hi").await.unwrap();
        tutor.flush_usage().await.unwrap();
        let records = store.scan("payer", KeyRange::default(), 9).await.unwrap();
        kept.push(records.len());
        clock.advance(24 * 60 * 60);
    }
    assert_eq!(kept, [1, 2, 2, 2]);
    // They are nobody's: neither exported nor erased with an owner.
    assert!(
        store.scan("payer", KeyRange::default(), 9).await.unwrap()[0]
            .key
            .starts_with('/')
    );
}

#[tokio::test]
async fn a_payer_is_charged_for_a_turn_that_a_crash_cut_off_when_its_reservation_is_over() {
    let store = MemoryStore::default();
    let clock = Clock::default();
    let payer = || paying("key", tokens(100));
    let builder = || {
        Tutor::builder()
            .data(store.clone())
            .runtime(clock.clone())
            .limits(Limits::default())
    };
    let gate = Arc::new(Notify::new());
    let provider = scripts(vec![vec![Step::Wait(gate)], costing(30, 30), costing(1, 1)]);
    let crashed = build(builder(), &provider).await.charged_to([payer()]);
    let lost = crashed
        .stream(ChatRequest::new("hi").detached())
        .await
        .unwrap();
    let tutor = build(builder(), &provider).await.charged_to([payer()]);
    let refused = tutor.chat("while it is held").await.unwrap_err();
    assert_eq!(refused.context_value("limit"), Some("key_tokens_per_day"));
    assert!(!lost.has_ended());
    clock.advance(3600);
    // Whoever needs the turn finds that nobody runs it any more.
    let ended = tutor.cancel(lost.turn_id()).await.unwrap();
    assert_eq!(ended.status, TurnStatus::Interrupted);
    tutor.chat("free again").await.unwrap();
}

#[tokio::test]
async fn a_reply_may_be_as_long_as_what_is_left_and_a_refused_turn_stores_nothing() {
    let provider = ScriptedProvider::new(vec![costing(40, 55), costing(1, 1)]);
    let tutor = build(Tutor::builder().quota(tokens(100)), &provider).await;
    let reply = tutor.chat("hi").await.unwrap();
    assert!(provider.requests()[0].max_tokens.unwrap() < 100);
    let more = ChatRequest::new("more").with_session(reply.session_id.clone());
    let error = tutor.chat(more).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(error.context_value("remaining"), Some("5"));
    let session = tutor.session(&reply.session_id).await.unwrap();
    assert_eq!((session.message_count, session.running_turn), (2, None));
    assert_eq!(provider.requests().len(), 1);
    let other = tutor.for_owner(OwnerId::new("other").unwrap());
    other.chat("hi").await.unwrap();
}

#[tokio::test]
async fn what_a_crash_left_reserved_is_settled_once() {
    let store = MemoryStore::default();
    let never = Arc::new(Notify::new());
    let usage = Usage {
        input_tokens: Some(60),
        ..Usage::default()
    };
    let hangs = vec![
        text("x"),
        Step::Yield(Delta::Usage(usage)),
        Step::Wait(never),
    ];
    let mut limits = Limits::default();
    limits.checkpoint_interval = Duration::from_millis(5);
    limits.turn_timeout = Duration::from_millis(50);
    limits.lease = Duration::from_millis(10);
    limits.reply_tokens = 50;
    let builder = || {
        Tutor::builder()
            .data(store.clone())
            .limits(limits.clone())
            .quota(tokens(100))
    };
    let crashed = build(builder(), &scripts(vec![hangs])).await;
    // Its task is aborted like everything of a process that is killed.
    let stream = crashed
        .stream(ChatRequest::new("hi").detached())
        .await
        .unwrap();
    let full = build(builder(), &scripts(vec![say("ok")])).await;
    assert_eq!(
        full.recovered_turns(),
        1,
        "an exclusive store is ours alone"
    );
    let day = today(&full).await;
    assert_eq!((day.turns, day.failed_turns), (1, 1));
    full.chat("again").await.unwrap();
    drop(stream);
}

#[tokio::test]
async fn uploads_and_turns_have_quotas() {
    let mut quota = Quota::default();
    quota.upload_bytes_per_day = Some(10);
    quota.turns_per_day = Some(1);
    let tutor = build(
        Tutor::builder().quota(quota),
        &scripts(vec![say("a"), say("b")]),
    )
    .await;
    tutor.count_upload(8).await.unwrap();
    let error = tutor.count_upload(3).await.unwrap_err();
    assert_eq!(error.context_value("remaining"), Some("2"));
    tutor.count_upload(2).await.unwrap();
    tutor.chat("one").await.unwrap();
    let error = tutor.chat("two").await.unwrap_err();
    assert_eq!(error.context_value("limit"), Some("turns_per_day"));
    assert!(error.message().contains("midnight"), "{error}");
}

#[tokio::test]
async fn a_turn_for_which_there_is_no_room_is_refused_before_anything_is_read_for_it() {
    let gate = Arc::new(Notify::new());
    let held = vec![
        Step::Wait(Arc::clone(&gate)),
        text("Hi"),
        done(FinishReason::Stop),
    ];
    let mut limits = Limits::default();
    limits.max_live_turns = 1;
    let tutor = build(
        Tutor::builder().data(MemoryStore::default()).limits(limits),
        &scripts(vec![held]),
    )
    .await;
    let first = tutor.stream("one").await.unwrap();
    // That there is no such session is not even looked up.
    let nowhere = SessionId::new("nowhere").unwrap();
    let request = ChatRequest::new("two").with_session(nowhere);
    let refused = tutor.chat(request.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    gate.notify_one();
    first.reply().await.unwrap();
    let unknown = tutor.chat(request).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
}
