//! Laws of scanning records.

#![expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]

use std::sync::Arc;

use crate::conformance::records::{delete, put};
use crate::store::{Expect, KeyRange, RecordStore};

async fn keys(
    store: &dyn RecordStore,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Vec<String> {
    let range = KeyRange {
        prefix: prefix.to_owned(),
        after: after.map(str::to_owned),
    };
    let records = store.scan("k", range, limit).await.unwrap();
    records.into_iter().map(|record| record.key).collect()
}

/// Not of their characters in some language, and not of their lengths.
pub async fn a_scan_is_in_the_order_of_the_keys_bytes(store: Arc<dyn RecordStore>) {
    let mut all = [
        "b",
        "",
        "aa",
        "a",
        "B",
        "é",
        "z",
        "a\0",
        "\u{1F31E}",
        "\u{FFFD}",
        "10",
        "9",
    ];
    for key in all {
        store
            .commit(vec![put("k", key, b"", Expect::Absent)])
            .await
            .unwrap();
    }
    all.sort_unstable_by_key(|key| key.as_bytes());
    assert_eq!(keys(&*store, "", None, usize::MAX).await, all);
    assert_eq!(keys(&*store, "", None, 3).await, all[..3]);
    assert!(keys(&*store, "", None, 0).await.is_empty());
    store
        .commit(vec![delete("k", all[1], Expect::Any)])
        .await
        .unwrap();
    assert_eq!(keys(&*store, "", None, 2).await, [all[0], all[2]]);
}

/// Pages of a prefix meet without gap or repeat.
pub async fn a_scan_goes_on_behind_a_key_and_stays_in_its_prefix(store: Arc<dyn RecordStore>) {
    for key in ["a", "ab", "ab\0", "aba", "abz", "ac", "b"] {
        store
            .commit(vec![put("k", key, b"", Expect::Absent)])
            .await
            .unwrap();
    }
    assert_eq!(
        keys(&*store, "ab", None, 9).await,
        ["ab", "ab\0", "aba", "abz"]
    );
    assert_eq!(keys(&*store, "ab", Some("ab"), 2).await, ["ab\0", "aba"]);
    assert_eq!(keys(&*store, "ab", Some("aba"), 9).await, ["abz"]);
    assert!(keys(&*store, "ab", Some("abz"), 9).await.is_empty());
    // A start that is not stored, before the prefix, or behind it.
    assert_eq!(keys(&*store, "ab", Some("abb"), 9).await, ["abz"]);
    assert_eq!(keys(&*store, "ab", Some("a"), 1).await, ["ab"]);
    assert!(keys(&*store, "ab", Some("b"), 9).await.is_empty());
    assert!(keys(&*store, "nothing", None, 9).await.is_empty());
}

/// However kind and key are cut.
pub async fn kinds_do_not_mix(store: Arc<dyn RecordStore>) {
    let names = [
        ("k", "xy"),
        ("kx", "y"),
        ("kxy", ""),
        ("", "kxy"),
        ("k\0", "y"),
        ("k", "\0y"),
        ("l", "a"),
    ];
    for (kind, key) in names {
        let value = format!("{kind}/{key}");
        store
            .commit(vec![put(kind, key, value.as_bytes(), Expect::Absent)])
            .await
            .unwrap();
    }
    for (kind, key) in names {
        let record = store.get(kind, key).await.unwrap().unwrap();
        assert_eq!(record.value, format!("{kind}/{key}").as_bytes());
        let scanned = store.scan(kind, KeyRange::default(), 99).await.unwrap();
        assert_eq!(scanned.len(), if kind == "k" { 2 } else { 1 }, "{kind}");
    }
    store
        .commit(vec![delete("k", "xy", Expect::Any)])
        .await
        .unwrap();
    assert!(store.get("kx", "y").await.unwrap().is_some());
}

/// Each once, and none whose last record is gone.
pub async fn kinds_are_listed_in_the_order_of_their_bytes(store: Arc<dyn RecordStore>) {
    assert!(store.kinds().await.unwrap().is_empty());
    for kind in ["b", "aa", "B", "ä", "a"] {
        for key in ["x", "y"] {
            let write = put(kind, key, b"v", Expect::Absent);
            store.commit(vec![write]).await.unwrap();
        }
    }
    assert_eq!(store.kinds().await.unwrap(), ["B", "a", "aa", "b", "ä"]);
    let gone = ["x", "y"].map(|key| delete("aa", key, Expect::Any));
    store.commit(gone.into()).await.unwrap();
    assert_eq!(store.kinds().await.unwrap(), ["B", "a", "b", "ä"]);
}
