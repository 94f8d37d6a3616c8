//! Two engines on one store, as two servers are: a turn that runs on one is followed and stopped on
//! the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tutor_core::bus::{LiveBus, MemoryBus};
use tutor_core::provider::ScriptedProvider;
use tutor_core::provider::scripted::{Step, text_script};
use tutor_core::store::MemoryStore;
use tutor_core::{
    ChatRequest, ErrorKind, Event, Limits, TurnEvent, TurnStatus, TurnStream, Tutor, TutorBuilder,
};

use crate::support::{Call, GateStore};

const PATIENCE: Duration = Duration::from_secs(20);

type Shared = GateStore<MemoryStore>;

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.checkpoint_interval = Duration::from_millis(20);
    limits
}

/// One of the instances on a store.
fn instance(store: &Shared, bus: &(impl LiveBus + Clone), script: Vec<Step>) -> TutorBuilder {
    Tutor::builder()
        .store(store.clone())
        .bus(bus.clone())
        .limits(limits())
        .provider(ScriptedProvider::new([script]))
}

fn store() -> Shared {
    GateStore::new(MemoryStore::new()).share()
}

/// A reply of many words, with a halt in the middle and one before the end.
fn halting(words: usize, halts: [&Arc<Notify>; 2]) -> Vec<Step> {
    let text: String = (0..words).map(|n| format!("word{n} ")).collect();
    let mut script = text_script(text.trim_end());
    script.insert(script.len() - 1, Step::Wait(Arc::clone(halts[1])));
    script.insert(script.len() / 2, Step::Wait(Arc::clone(halts[0])));
    script
}

async fn all(stream: TurnStream) -> Vec<TurnEvent> {
    timeout(PATIENCE, read(stream)).await.unwrap()
}

async fn read(mut stream: TurnStream) -> Vec<TurnEvent> {
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        events.push(TurnEvent::clone(&event));
    }
    events
}

/// Waits until this many words have come.
async fn words(stream: &mut TurnStream, count: usize) -> Vec<TurnEvent> {
    let mut events = Vec::new();
    while events.len() < count {
        let next = timeout(PATIENCE, stream.next()).await.unwrap();
        events.push(TurnEvent::clone(&next.unwrap()));
    }
    events
}

/// From every number, before and after each halt and after the end, the other instance tells the
/// very events that the running one tells.
async fn equals_the_original_at_every_cut(bus: impl LiveBus + Clone) {
    const WORDS: usize = 24;
    let (store, middle, last) = (store(), Arc::default(), Arc::default());
    let script = halting(WORDS, [&middle, &last]);
    let here = instance(&store, &bus, script).build().await.unwrap();
    let there = instance(&store, &bus, Vec::new()).build().await.unwrap();
    let stream = here.stream("hi").await.unwrap();
    let id = stream.turn_id().clone();
    let original = tokio::spawn(all(stream));
    let follow = |cut: u64| {
        let (there, id) = (there.clone(), id.clone());
        async move { (cut, there.events(&id, cut).await.unwrap()) }
    };
    let mut followers = Vec::new();
    for cut in 0..WORDS as u64 + 4 {
        let (cut, stream) = follow(cut).await;
        followers.push((cut, tokio::spawn(all(stream))));
    }
    middle.notify_one();
    for cut in 0..WORDS as u64 + 4 {
        let (cut, stream) = follow(cut).await;
        assert!(!stream.has_ended());
        followers.push((cut, tokio::spawn(all(stream))));
    }
    last.notify_one();
    let original = original.await.unwrap();
    assert_eq!(original.len(), WORDS + 2);
    for (cut, follower) in followers {
        let expected = &original[(cut as usize).min(original.len() - 1)..];
        assert_eq!(follower.await.unwrap(), expected, "behind {cut}");
    }
    for cut in 0..original.len() {
        let (_, stream) = follow(cut as u64).await;
        assert_eq!(all(stream).await, original[cut..], "behind {cut}, ended");
    }
    assert_eq!(there.bus_fallbacks(), 0, "the store was not needed");
    here.close().await.unwrap();
}

#[tokio::test]
async fn replay_then_follow_on_another_instance_equals_the_original_at_every_cut() {
    equals_the_original_at_every_cut(MemoryBus::new()).await;
}

#[cfg(feature = "bus-redis")]
#[tokio::test]
async fn replay_then_follow_through_redis_equals_the_original_at_every_cut() {
    let bus = tutor_core::bus::RedisBus::new(crate::redis::shared()).unwrap();
    equals_the_original_at_every_cut(bus).await;
}

async fn is_cancelled_from_another_instance(bus: impl LiveBus + Clone) {
    let (store, never) = (store(), Arc::default());
    let here = instance(&store, &bus, halting(8, [&never, &never]));
    let here = here.build().await.unwrap();
    let there = instance(&store, &bus, Vec::new()).build().await.unwrap();
    let stream = here.stream("hi").await.unwrap();
    let id = stream.turn_id().clone();
    let following = there.events(&id, 0).await.unwrap();
    let turn = timeout(PATIENCE, there.cancel(&id)).await.unwrap().unwrap();
    assert_eq!(turn.status, TurnStatus::Cancelled);
    let (original, followed) = (all(stream).await, all(following).await);
    assert_eq!(original, followed);
    // Idempotent, on both.
    assert_eq!(there.cancel(&id).await.unwrap(), turn);
    assert_eq!(here.cancel(&id).await.unwrap().status, turn.status);
    // The session is free.
    let stream = here
        .stream(ChatRequest::new("again").with_session(turn.session_id))
        .await
        .unwrap();
    there.cancel(stream.turn_id()).await.unwrap();
    assert!(all(stream).await.last().unwrap().event.is_terminal());
}

#[tokio::test]
async fn a_turn_is_cancelled_from_another_instance() {
    is_cancelled_from_another_instance(MemoryBus::new()).await;
}

#[cfg(feature = "bus-redis")]
#[tokio::test]
async fn a_turn_is_cancelled_from_another_instance_through_redis() {
    let bus = tutor_core::bus::RedisBus::new(crate::redis::shared()).unwrap();
    is_cancelled_from_another_instance(bus).await;
}

#[tokio::test]
async fn a_request_that_is_sent_again_to_another_instance_follows_the_same_turn() {
    let (bus, store, middle, last) = (MemoryBus::new(), store(), Arc::default(), Arc::default());
    let here = instance(&store, &bus, halting(8, [&middle, &last]));
    let here = here.build().await.unwrap();
    let there = instance(&store, &bus, Vec::new()).build().await.unwrap();
    let request = || ChatRequest::new("hi").with_idempotency_key("k");
    let stream = here.stream(request().detached()).await.unwrap();
    let again = there.stream(request().detached()).await.unwrap();
    assert!(again.is_replay() && !again.has_ended());
    middle.notify_one();
    last.notify_one();
    let (original, followed) = tokio::join!(all(stream), all(again));
    assert_eq!(original, followed);
    // Whoever does not let it go on by itself stops it by going away.
    let stream = here.stream(ChatRequest::new("hi").with_idempotency_key("l"));
    let stream = stream.await.unwrap();
    let again = there.stream(ChatRequest::new("hi").with_idempotency_key("l"));
    drop(again.await.unwrap());
    let events = all(stream).await;
    let Event::TurnFinished { status, .. } = &events.last().unwrap().event else {
        panic!("it did not finish");
    };
    assert_eq!(*status, TurnStatus::Cancelled);
}

#[tokio::test]
async fn events_that_the_bus_lost_are_read_from_the_store() {
    let (bus, store, middle, last) = (MemoryBus::new(), store(), Arc::default(), Arc::default());
    let here = instance(&store, &bus, halting(20, [&middle, &last]));
    let here = here.build().await.unwrap();
    let there = instance(&store, &bus, Vec::new()).build().await.unwrap();
    let mut stream = here.stream("hi").await.unwrap();
    let id = stream.turn_id().clone();
    let mut original = words(&mut stream, 8).await;
    store.reached(Call::Checkpoint).await;
    while bus.kept() == 0 {
        tokio::task::yield_now().await;
    }
    bus.lose(6);
    let mut followed = there.events(&id, 0).await.unwrap();
    let mut heard = words(&mut followed, 8).await;
    assert!(there.bus_fallbacks() > 0);
    middle.notify_one();
    last.notify_one();
    original.extend(all(stream).await);
    heard.extend(all(followed).await);
    assert_eq!(heard, original);
}

#[tokio::test]
async fn followers_read_the_store_while_the_bus_is_down_and_turns_run_on() {
    let (bus, store, middle, last) = (MemoryBus::new(), store(), Arc::default(), Arc::default());
    let here = instance(&store, &bus, halting(20, [&middle, &last]));
    let here = here.build().await.unwrap();
    let there = instance(&store, &bus, Vec::new()).build().await.unwrap();
    let mut stream = here.stream("hi").await.unwrap();
    let id = stream.turn_id().clone();
    let mut followed = there.events(&id, 0).await.unwrap();
    let mut original = words(&mut stream, 8).await;
    let mut heard = words(&mut followed, 8).await;
    bus.set_down(true);
    middle.notify_one();
    original.extend(words(&mut stream, 10).await);
    // What was saved comes while the turn runs.
    heard.extend(words(&mut followed, 10).await);
    // It can be stopped where it runs alone, and that is said at once.
    let refused = there.cancel(&id).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.is_retryable());
    // When it is back it is told all that it lost.
    bus.set_down(false);
    let late = there.events(&id, 3).await.unwrap();
    last.notify_one();
    original.extend(all(stream).await);
    heard.extend(all(followed).await);
    assert_eq!(heard, original);
    assert_eq!(all(late).await, original[3..]);
    assert!(here.bus_fallbacks() > 0 && there.bus_fallbacks() > 0);
}

#[tokio::test]
async fn a_turn_that_ends_while_the_bus_is_down_ends_for_its_followers() {
    let (bus, store, middle, last) = (MemoryBus::new(), store(), Arc::default(), Arc::default());
    let here = instance(&store, &bus, halting(20, [&middle, &last]));
    let here = here.build().await.unwrap();
    let there = instance(&store, &bus, Vec::new()).build().await.unwrap();
    let stream = here.stream("hi").await.unwrap();
    let followed = there.events(stream.turn_id(), 0).await.unwrap();
    let late = there.events(stream.turn_id(), 5).await.unwrap();
    bus.set_down(true);
    middle.notify_one();
    last.notify_one();
    let original = all(stream).await;
    assert_eq!(all(followed).await, original);
    assert_eq!(all(late).await, original[5..]);
    timeout(PATIENCE, here.close()).await.unwrap().unwrap();
}

#[tokio::test]
async fn without_a_bus_following_another_instance_is_refused_and_so_is_stopping() {
    let (store, never) = (store(), Arc::default());
    let script = halting(8, [&never, &never]);
    let lone = |script| {
        let provider = ScriptedProvider::new([script]);
        let builder = Tutor::builder().store(store.clone());
        builder.limits(limits()).provider(provider).build()
    };
    let (here, there) = (lone(script).await.unwrap(), lone(vec![]).await.unwrap());
    let stream = here.stream("hi").await.unwrap();
    let refusals = [
        there.events(stream.turn_id(), 0).await.unwrap_err(),
        there.cancel(stream.turn_id()).await.unwrap_err(),
    ];
    for refused in refusals {
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert!(refused.is_retryable());
    }
    // Its conversation can be deleted all the same.
    let session = stream.session_id().clone();
    assert!(there.delete_session(&session).await.unwrap());
}

#[tokio::test]
async fn a_turn_whose_instance_dies_ends_for_its_followers_with_what_was_saved() {
    let (bus, store, never) = (MemoryBus::new(), store(), Arc::default());
    let mut limits = limits();
    limits.lease = Duration::from_millis(600);
    let here = instance(&store, &bus, halting(20, [&never, &never]));
    let here = here.limits(limits.clone()).build().await.unwrap();
    let mut stream = here.stream("hi").await.unwrap();
    let id = stream.turn_id().clone();
    let mut original = words(&mut stream, 8).await;
    store.reached(Call::Checkpoint).await;
    // From now on it can write nothing.
    let survivor = store.take_over().share();
    let there = instance(&survivor, &bus, Vec::new()).limits(limits);
    let there = there.build().await.unwrap();
    let followed = there.events(&id, 2).await.unwrap();
    let heard = all(followed).await;
    let (terminal, before) = heard.split_last().unwrap();
    original.retain(|event| event.seq > 2);
    assert_eq!(before[..original.len()], original);
    let numbers: Vec<u64> = heard.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (3..3 + heard.len() as u64).collect::<Vec<_>>());
    let Event::TurnFailed { error, partial } = &terminal.event else {
        panic!("{terminal:?}");
    };
    assert_eq!(error.code, "interrupted");
    assert!(
        partial
            .as_ref()
            .unwrap()
            .content
            .text()
            .starts_with("word0")
    );
    assert_eq!(
        there.turn(&id).await.unwrap().status,
        TurnStatus::Interrupted
    );
}

#[tokio::test]
async fn a_turn_of_an_instance_that_shuts_down_ends_for_its_followers() {
    let (bus, store, never) = (MemoryBus::new(), store(), Arc::default());
    let here = instance(&store, &bus, halting(8, [&never, &never]));
    let here = here.build().await.unwrap();
    // It closes the store that both have, and so the other one has a store of its own to read.
    let there = instance(&store, &bus, Vec::new()).build().await.unwrap();
    let stream = here.stream("hi").await.unwrap();
    let followed = there.events(stream.turn_id(), 0).await.unwrap();
    let closing = tokio::spawn(async move { here.close_within(Duration::ZERO).await });
    let (original, followed) = (all(stream).await, all(followed).await);
    assert_eq!(followed, original);
    let Event::TurnFailed { error, .. } = &followed.last().unwrap().event else {
        panic!("it did not fail");
    };
    assert_eq!(error.code, "interrupted");
    timeout(PATIENCE, closing).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn deleting_a_session_stops_its_turn_elsewhere_and_nothing_is_left_on_the_bus() {
    let (bus, store, never) = (MemoryBus::new(), store(), Arc::default());
    let here = instance(&store, &bus, halting(8, [&never, &never]));
    let here = here.build().await.unwrap();
    let there = instance(&store, &bus, Vec::new()).build().await.unwrap();
    let stream = here.stream("hi").await.unwrap();
    let (session, turn) = (stream.session_id().clone(), stream.turn_id().clone());
    let mut followed = there.events(&turn, 0).await.unwrap();
    words(&mut followed, 3).await;
    assert!(there.delete_session(&session).await.unwrap());
    assert!(all(stream).await.last().unwrap().event.is_terminal());
    assert!(all(followed).await.last().unwrap().event.is_terminal());
    assert_eq!(bus.kept(), 0);
    // Stopping everything of somebody reaches the other instance, too.
    let stream = here.stream("hi").await.unwrap();
    there.cancel_all().await;
    assert!(all(stream).await.last().unwrap().event.is_terminal());
    assert_eq!(bus.kept(), 0);
}

#[tokio::test]
async fn an_owners_turns_are_counted_over_all_instances_and_here_alone_without_the_bus() {
    let (bus, store, never) = (MemoryBus::new(), store(), Arc::default());
    let mut limits = limits();
    limits.max_live_turns_per_owner = 2;
    let start = || {
        let script = halting(8, [&never, &never]);
        let builder = instance(&store, &bus, script);
        builder.limits(limits.clone()).build()
    };
    let (here, there) = (start().await.unwrap(), start().await.unwrap());
    let first = here.stream("one").await.unwrap();
    let second = there.stream("two").await.unwrap();
    for tutor in [&here, &there] {
        let refused = tutor.stream("three").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::RateLimited);
        assert_eq!(refused.context_value("limit"), Some("live_turns"));
    }
    // A turn that ended makes room, wherever it ran.
    here.cancel(first.turn_id()).await.unwrap();
    drop(first);
    let third = loop {
        match there.stream("three").await {
            Ok(stream) => break stream,
            Err(error) => assert_eq!(error.kind(), ErrorKind::RateLimited),
        }
        tokio::task::yield_now().await;
    };
    there.stream("four").await.unwrap_err();
    bus.set_down(true);
    // Each instance counts its own: it is not open.
    there.stream("five").await.unwrap_err();
    let fifth = here.stream("five").await.unwrap();
    let sixth = here.stream("six").await.unwrap();
    here.stream("seven").await.unwrap_err();
    drop((second, third, fifth, sixth));
}
