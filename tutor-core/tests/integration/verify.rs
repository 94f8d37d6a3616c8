//! Going through everything: on sound stores, and on one that lies.

use std::sync::Arc;

use tutor_core::conformance::records::put;
use tutor_core::conformance::sample::{begin, line, new_turn, session};
use tutor_core::store::{Expect, MemoryStore, Store, verify};
use tutor_core::{SessionStore, Tutor};

/// Three owners, a fork, a running turn, records.
async fn fill(store: &impl Store) {
    line(store, "a", "s", 150).await;
    line(store, "a", "t", 2).await;
    line(store, "b", "s", 1).await;
    store
        .create_session(session("c", "empty", 7))
        .await
        .unwrap();
    begin(store, new_turn("b", "s", "runs", Some("r-s-0"))).await;
    for key in ["x", "y", "z"] {
        let write = put("thing", key, &[7; 100_000], Expect::Absent);
        store.commit(vec![write]).await.unwrap();
    }
}

async fn a_sound_store_is_counted(store: impl Store) {
    fill(&store).await;
    let mut calls = 0;
    let found = verify(&store, &mut |_| calls += 1).await.unwrap();
    assert!(found.is_sound(), "{:?}", found.all_problems().next());
    let counts = [
        found.owners,
        found.sessions,
        found.messages,
        found.turns,
        found.running_turns,
        found.idempotency_keys,
        found.records,
        found.busy,
    ];
    assert_eq!(counts, [3, 4, 307, 154, 1, 154, 3, 0]);
    assert!(calls >= 5);
}

#[tokio::test]
async fn a_memory_store_is_counted() {
    a_sound_store_is_counted(MemoryStore::new()).await;
}

#[cfg(feature = "store-sled")]
#[tokio::test]
async fn a_sled_store_is_counted_entry_by_entry() {
    let directory = tempfile::tempdir().unwrap();
    let store = tutor_core::store::SledStore::open(directory.path())
        .await
        .unwrap();
    a_sound_store_is_counted(store.clone()).await;
    let check = store.check().await.unwrap();
    // 307 messages with their positions, 154 turns with their owners' index and keys, 4 sessions
    // with their places, 3 records of two pieces each, format, version and count of groups.
    assert_eq!(check.entries, 307 * 2 + 154 * 3 + 4 * 2 + 3 * 2 + 3);
    assert!(check.bytes > 300_000);
}

#[tokio::test]
async fn a_store_is_verified_while_turns_go_on() {
    let store = MemoryStore::new();
    let tutor = Tutor::builder().store(store.clone()).build().await.unwrap();
    let writing = {
        let tutor = tutor.clone();
        tokio::spawn(async move {
            for _ in 0..200 {
                tutor.chat("What is a cell?").await.unwrap();
            }
        })
    };
    while !writing.is_finished() {
        let found = verify(&store, &mut |_| {}).await.unwrap();
        assert!(found.is_sound(), "{:?}", found.all_problems().next());
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    assert_eq!(verify(&*store, &mut |_| {}).await.unwrap().sessions, 200);
}
