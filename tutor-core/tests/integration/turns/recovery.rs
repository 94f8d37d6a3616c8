//! What a crash left.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tutor_core::conformance::sample::{begin, new_turn, owner, session_key};
use tutor_core::provider::scripted::Step;
use tutor_core::store::MemoryStore;
use tutor_core::{ChatRequest, Limits, SessionStore, TurnStatus, Tutor};

use super::{build, say, scripts, text};
use crate::support::{Call, GateStore};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_turns_that_a_crash_left_running_are_each_ended_once() {
    const TURNS: usize = 3000;
    let store = MemoryStore::new();
    for n in 0..TURNS {
        let new = new_turn(
            &format!("o{}", n % 7),
            &format!("s{n}"),
            &format!("t{n}"),
            None,
        );
        begin(&store, new).await;
    }
    let provider = scripts(vec![say("ok")]);
    let start = || build(Tutor::builder().store(store.clone()), &provider);
    // Two that start at the same time share the work.
    let (a, b) = tokio::join!(start(), start());
    assert_eq!(a.recovered_turns() + b.recovered_turns(), TURNS);
    assert!(store.running_turns().await.unwrap().is_empty());
    assert_eq!(start().await.recovered_turns(), 0, "each is reported once");
    for n in [0, 1, TURNS - 1] {
        let tutor = a.for_owner(owner(&format!("o{}", n % 7)));
        let turn = tutor.turn(&format!("t{n}").parse().unwrap()).await.unwrap();
        assert_eq!(turn.status, TurnStatus::Interrupted);
        let key = session_key("o", &format!("s{n}"));
        let request = ChatRequest::new("again").with_session(key.id);
        tutor.chat(request).await.unwrap();
    }
}

#[tokio::test]
async fn a_turn_of_an_instance_that_is_gone_is_ended_by_one_of_the_others_once() {
    let store = GateStore::new(MemoryStore::default()).share();
    let mut limits = Limits::default();
    limits.lease = Duration::from_millis(400);
    limits.checkpoint_interval = Duration::from_millis(20);
    let never = Arc::new(Notify::new());
    let provider = scripts(vec![vec![text("saved"), Step::Wait(never)]]);
    let builder = || Tutor::builder().limits(limits.clone());
    let gone = build(builder().store(store.clone()), &provider).await;
    let stream = gone.stream("hi").await.unwrap();
    let turn = stream.turn_id().clone();
    store.reached(Call::Checkpoint).await;
    let survivors = store.take_over().share();
    let ok = scripts(vec![say("ok")]);
    let a = build(builder().store(survivors.clone()), &ok).await;
    let b = build(builder().store(survivors), &ok).await;
    assert_eq!(
        (a.recovered_turns(), b.recovered_turns()),
        (0, 0),
        "it may be alive"
    );
    while a.recovered_turns() + b.recovered_turns() == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(a.turn(&turn).await.unwrap().status, TurnStatus::Interrupted);
    tokio::time::sleep(limits.lease).await;
    assert_eq!(a.recovered_turns() + b.recovered_turns(), 1);
    a.close().await.unwrap();
}
