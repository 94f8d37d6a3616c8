//! Laws of reading and writing records.

#![expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]

use std::sync::Arc;

use crate::conformance::records::{delete, put};
use crate::conformance::sample::kind;
use crate::error::ErrorKind;
use crate::store::{Expect, KeyRange, MAX_RECORD_KEY_BYTES, Record, RecordStore, RecordWrite};

async fn version(store: &dyn RecordStore, key: &str) -> Option<u64> {
    Some(store.get("k", key).await.unwrap()?.version)
}

/// Under its kind and key only.
pub async fn a_record_is_read_back_until_it_is_deleted(store: Arc<dyn RecordStore>) {
    assert_eq!(store.get("k", "a").await.unwrap(), None);
    store.commit(vec![]).await.unwrap();
    store
        .commit(vec![put("k", "a", b"1", Expect::Any)])
        .await
        .unwrap();
    let record = store.get("k", "a").await.unwrap().unwrap();
    assert_eq!(
        (record.key.as_str(), record.value.as_slice()),
        ("a", b"1".as_slice())
    );
    assert!(record.version >= 1);
    store
        .commit(vec![put("k", "a", b"22", Expect::Any)])
        .await
        .unwrap();
    assert_eq!(store.get("k", "a").await.unwrap().unwrap().value, b"22");
    store
        .commit(vec![delete("k", "a", Expect::Any)])
        .await
        .unwrap();
    assert_eq!(store.get("k", "a").await.unwrap(), None);
    store
        .commit(vec![delete("k", "a", Expect::Any)])
        .await
        .unwrap();
}

/// A version names one state of a key, for ever.
pub async fn versions_grow_with_every_write_and_are_not_reused_after_a_deletion(
    store: Arc<dyn RecordStore>,
) {
    let mut last = 0;
    for round in 0..5 {
        for _ in 0..3 {
            store
                .commit(vec![put("k", "a", b"same", Expect::Any)])
                .await
                .unwrap();
            let now = version(&*store, "a").await.unwrap();
            assert!(now > last, "{now} follows {last} in round {round}");
            last = now;
        }
        store
            .commit(vec![delete("k", "a", Expect::Version(last))])
            .await
            .unwrap();
    }
}

/// All or nothing: one unmet expectation stops the commit, and is named.
pub async fn an_expectation_that_is_not_met_conflicts_and_nothing_is_written(
    store: Arc<dyn RecordStore>,
) {
    let fresh = || put("k", "fresh", b"x", Expect::Absent);
    store
        .commit(vec![put("k", "a", b"1", Expect::Absent)])
        .await
        .unwrap();
    let now = version(&*store, "a").await.unwrap();
    for unmet in [
        put("k", "a", b"2", Expect::Absent),
        put("k", "a", b"2", Expect::Version(now + 1)),
        put("k", "b", b"2", Expect::Version(now)),
        put("k", "b", b"2", Expect::Version(0)),
        delete("k", "a", Expect::Absent),
        delete("k", "b", Expect::Version(now)),
    ] {
        let error = store
            .commit(vec![fresh(), unmet.clone(), fresh()])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{unmet:?}");
        assert_eq!(error.context_value("kind"), Some("k"));
        assert_eq!(error.context_value("index"), Some("1"));
        assert_eq!(version(&*store, "a").await, Some(now));
        assert_eq!(version(&*store, "fresh").await, None);
    }
    let met = vec![
        put("k", "a", b"2", Expect::Version(now)),
        delete("k", "b", Expect::Absent),
        fresh(),
    ];
    store.commit(met).await.unwrap();
    assert_eq!(store.get("k", "a").await.unwrap().unwrap().value, b"2");
    assert!(version(&*store, "fresh").await.is_some());
    let stale = store
        .commit(vec![put("k", "a", b"3", Expect::Version(now))])
        .await;
    assert_eq!(kind(stale), ErrorKind::Conflict);
}

/// A later write of a key finds what an earlier one left.
pub async fn the_writes_of_a_commit_are_made_in_order(store: Arc<dyn RecordStore>) {
    store
        .commit(vec![
            put("k", "a", b"1", Expect::Absent),
            delete("k", "a", Expect::Any),
            put("k", "a", b"2", Expect::Absent),
            put("k", "b", b"3", Expect::Absent),
            delete("k", "b", Expect::Any),
        ])
        .await
        .unwrap();
    assert_eq!(store.get("k", "a").await.unwrap().unwrap().value, b"2");
    assert_eq!(store.get("k", "b").await.unwrap(), None);
    let twice = vec![
        put("k", "c", b"1", Expect::Absent),
        put("k", "c", b"2", Expect::Absent),
    ];
    let error = store.commit(twice).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.context_value("index")),
        (ErrorKind::Conflict, Some("1"))
    );
    assert_eq!(store.get("k", "c").await.unwrap(), None);
}

/// Any bytes, none too.
pub async fn values_of_any_size_and_content_are_kept(store: Arc<dyn RecordStore>) {
    let any = |size: usize| {
        (0..size)
            .map(|n| u8::try_from(n % 251).unwrap())
            .collect::<Vec<u8>>()
    };
    for size in [
        1_000_000, 0, 1, 65_535, 65_536, 65_537, 307_200, 200_000, 300,
    ] {
        let value = any(size);
        let write = RecordWrite {
            value: Some(value.clone()),
            ..put("k", "a", b"", Expect::Any)
        };
        store.commit(vec![write]).await.unwrap();
        assert!(
            store.get("k", "a").await.unwrap().unwrap().value == value,
            "{size} bytes"
        );
        let scanned = store.scan("k", KeyRange::default(), 9).await.unwrap();
        assert!(
            scanned.len() == 1 && scanned[0].value == value,
            "{size} bytes"
        );
    }
    for key in [
        "",
        "\0",
        "a\0b",
        "日本/\u{1F31E}",
        "ÿ",
        &"x".repeat(MAX_RECORD_KEY_BYTES),
    ] {
        store
            .commit(vec![put("k", key, key.as_bytes(), Expect::Absent)])
            .await
            .unwrap();
        let record: Record = store.get("k", key).await.unwrap().unwrap();
        assert_eq!(
            (record.key.as_str(), record.value.as_slice()),
            (key, key.as_bytes())
        );
    }
}

/// Kind or key.
pub async fn a_key_that_is_too_long_is_refused(store: Arc<dyn RecordStore>) {
    let long = "x".repeat(MAX_RECORD_KEY_BYTES + 1);
    for write in [
        put("k", &long, b"", Expect::Any),
        put(&long, "a", b"", Expect::Any),
    ] {
        let fine = put("k", "fine", b"", Expect::Any);
        assert_eq!(
            kind(store.commit(vec![fine, write]).await),
            ErrorKind::InvalidInput
        );
    }
    assert_eq!(store.get("k", "fine").await.unwrap(), None);
}

/// Counting by read, compare and write loses nothing.
pub async fn of_concurrent_writers_each_version_goes_to_one(store: Arc<dyn RecordStore>) {
    store
        .commit(vec![put("k", "n", b"0", Expect::Absent)])
        .await
        .unwrap();
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut done = 0;
                while done < 10 {
                    let record = store.get("k", "n").await.unwrap().unwrap();
                    let n: u64 = String::from_utf8(record.value).unwrap().parse().unwrap();
                    let next = (n + 1).to_string();
                    let write = put("k", "n", next.as_bytes(), Expect::Version(record.version));
                    match store.commit(vec![write]).await {
                        Ok(()) => done += 1,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.get("k", "n").await.unwrap().unwrap().value, b"40");
}
