//! What a crash left.

use tutor_core::conformance::sample::{begin, new_turn, owner, session_key};
use tutor_core::store::MemoryStore;
use tutor_core::{ChatRequest, SessionStore, TurnStatus, Tutor};

use super::{build, say, scripts};

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
