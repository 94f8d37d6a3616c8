//! Exports and imports, between all stores.

use std::sync::Arc;

use proptest::prelude::*;
use tutor_core::conformance::records::put;
use tutor_core::conformance::sample::{
    at, begin, contents, end, exchange, line, new_turn, object, owner, session, session_key,
};
use tutor_core::conformance::store::importing::motley;
use tutor_core::conformance::{FaultyStore, faulty::When};
use tutor_core::store::{Existing, Expect, MemoryStore, RecordStore, SessionStore, Store, verify};
use tutor_core::transfer::{
    Counts, ExportOptions, Exporter, ImportOptions, Imported, Importer, OnConflict, Reader,
    erase_owner,
};
use tutor_core::{ErrorKind, OwnerId, Result};

async fn export(store: &Arc<dyn Store>, options: ExportOptions) -> Vec<u8> {
    let mut exporter = Exporter::new(Arc::clone(store), options);
    let mut all = Vec::new();
    while let Some(lines) = exporter.next().await.unwrap() {
        assert_eq!(lines.last(), Some(&b'\n'));
        all.extend(lines);
    }
    assert!(exporter.next().await.unwrap().is_none());
    all
}

async fn import(store: &Arc<dyn Store>, bytes: &[u8], options: ImportOptions) -> Result<Imported> {
    let mut importer = Importer::new(Arc::clone(store), options);
    for piece in bytes.chunks(1000) {
        importer.write(piece).await?;
    }
    importer.finish().await
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

/// Three owners with everything that there can be.
async fn fill(store: &Arc<dyn Store>) {
    line(store, "a", "long", 250).await;
    line(store, "b", "s", 1).await;
    store
        .create_session(session("b", "empty", 7))
        .await
        .unwrap();
    for (owner_id, id) in [("a", "motley"), ("c", "motley")] {
        let whole = motley(owner_id, id).await;
        store.import_session(whole, Existing::Refuse).await.unwrap();
    }
    let writes = vec![
        put("account", "a", b"{\"name\":\"A\"}", Expect::Absent),
        put("account", "a/key/1", &[0xff, 0, 1], Expect::Absent),
        put("account", "b", b"", Expect::Absent),
        put("account", "ab/other", b"x", Expect::Absent),
        put("upload", "a/file", &[7; 100_000], Expect::Absent),
        put("server", "instance", b"i1", Expect::Absent),
    ];
    store.commit(writes).await.unwrap();
}

/// Writes a word wherever an owner's words can be: in titles, messages, data, ids, keys and records.
async fn plant(store: &Arc<dyn Store>, canary: &str, sessions: usize) -> OwnerId {
    let erased = owner(&format!("owner-{canary}"));
    for n in 0..sessions {
        line(store, "other", &format!("kept-{n}"), 3).await;
        let mut whole = motley(erased.as_str(), &format!("{canary}-{n}")).await;
        whole.session.title = format!("title {canary}");
        whole.session.metadata = object("about", canary);
        whole.messages[0].content = format!("I am {canary}. ").repeat(9000).into();
        store.import_session(whole, Existing::Refuse).await.unwrap();
    }
    let key = format!("{erased}/note");
    let write = put("note", &key, canary.as_bytes(), Expect::Absent);
    store.commit(vec![write]).await.unwrap();
    erased
}

async fn a_copy_exports_the_same_bytes(from: Arc<dyn Store>, to: Arc<dyn Store>) {
    fill(&from).await;
    let bytes = export(&from, ExportOptions::default()).await;
    let imported = import(&to, &bytes, ImportOptions::default()).await.unwrap();
    let read = Counts {
        sessions: 5,
        messages: 518,
        turns: 261,
        records: 6,
    };
    assert_eq!((imported.read, imported.added), (read, 11));
    let again = export(&to, ExportOptions::default()).await;
    assert!(bytes == again, "the copy exports other bytes");
    let owners = ["a", "b", "c"];
    assert_eq!(contents(&from, &owners).await, contents(&to, &owners).await);
    let found = verify(&to, &mut |_| ()).await.unwrap();
    assert!(found.is_sound(), "{:?}", found.all_problems().next());
}

#[tokio::test]
async fn an_export_of_an_import_is_equal_from_memory_to_memory() {
    a_copy_exports_the_same_bytes(memory(), memory()).await;
}

#[cfg(feature = "store-sled")]
mod sled {
    use tutor_core::store::SledStore;

    use super::*;

    async fn open() -> (Arc<dyn Store>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let store = SledStore::open(directory.path()).await.unwrap();
        (Arc::new(store), directory)
    }

    fn files(directory: &std::path::Path, found: &mut Vec<u8>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            found.extend(entry.file_name().as_encoded_bytes());
            if entry.path().is_dir() {
                files(&entry.path(), found);
            } else {
                found.extend(std::fs::read(entry.path()).unwrap());
            }
        }
    }

    /// In titles, words, data, ids, keys and records.
    #[tokio::test]
    async fn after_compaction_the_files_hold_nothing_of_an_erased_owner() {
        let canary = "canary-7d1f";
        let (store, directory) = open().await;
        let erased = plant(&store, canary, 30).await;
        let done = erase_owner(&store, &erased, &mut |_| ()).await.unwrap();
        assert_eq!((done.sessions, done.records), (30, 1));
        let kept = export(&store, ExportOptions::default()).await;
        store.close().await.unwrap();
        drop(store);

        let count = || {
            let mut bytes = Vec::new();
            files(directory.path(), &mut bytes);
            bytes
                .windows(canary.len())
                .filter(|found| *found == canary.as_bytes())
                .count()
        };
        assert!(count() > 0, "the test would find nothing anyway");
        let compacted = SledStore::compact(directory.path(), |_| ()).await.unwrap();
        assert!(
            compacted.bytes_after < compacted.bytes_before,
            "{compacted:?}"
        );
        assert_eq!(count(), 0);
        let store: Arc<dyn Store> = Arc::new(SledStore::open(directory.path()).await.unwrap());
        assert!(kept == export(&store, ExportOptions::default()).await);
        let found = verify(&store, &mut |_| ()).await.unwrap();
        assert!(found.is_sound(), "{:?}", found.all_problems().next());
    }

    #[tokio::test]
    async fn a_store_in_use_is_not_compacted() {
        let (_store, directory) = open().await;
        let error = SledStore::compact(directory.path(), |_| ())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreLocked);
    }

    #[tokio::test]
    async fn an_export_of_an_import_is_equal_from_memory_to_sled() {
        let (store, _directory) = open().await;
        a_copy_exports_the_same_bytes(memory(), store).await;
    }

    #[tokio::test]
    async fn an_export_of_an_import_is_equal_from_sled_to_memory() {
        let (store, _directory) = open().await;
        a_copy_exports_the_same_bytes(store, memory()).await;
    }
}

#[cfg(all(
    feature = "store-sled",
    feature = "store-sqlite",
    feature = "store-postgres"
))]
mod databases {
    use tutor_core::store::{Location, SledStore, SqliteStore};

    use super::*;

    async fn sled() -> (Arc<dyn Store>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let store = SledStore::open(directory.path()).await.unwrap();
        (Arc::new(store), directory)
    }

    async fn sqlite() -> (Arc<dyn Store>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path().join("tutor.db")).await;
        (Arc::new(store.unwrap()), directory)
    }

    async fn postgres() -> Arc<dyn Store> {
        let location: Location = crate::postgres::empty().await.parse().unwrap();
        location.open().await.unwrap()
    }

    #[tokio::test]
    async fn an_export_of_an_import_is_equal_from_memory_through_all_stores_to_memory() {
        let ((sled, _a), (sqlite, _b), postgres) = (sled().await, sqlite().await, postgres().await);
        let first = memory();
        fill(&first).await;
        let bytes = export(&first, ExportOptions::default()).await;
        let owners = ["a", "b", "c"];
        let said = contents(&first, &owners).await;
        let mut before = bytes.clone();
        for store in [sled, sqlite, postgres, memory()] {
            let name = store.info().name;
            import(&store, &before, ImportOptions::default())
                .await
                .unwrap();
            before = export(&store, ExportOptions::default()).await;
            assert!(before == bytes, "{name} exports other bytes");
            assert_eq!(contents(&store, &owners).await, said, "{name}");
        }
    }

    #[tokio::test]
    async fn an_export_of_an_import_is_equal_from_sqlite_to_postgresql() {
        let (store, _directory) = sqlite().await;
        a_copy_exports_the_same_bytes(store, postgres().await).await;
    }

    #[tokio::test]
    async fn an_export_of_an_import_is_equal_from_postgresql_to_sled() {
        let (store, _directory) = sled().await;
        a_copy_exports_the_same_bytes(postgres().await, store).await;
    }

    /// In titles, words, data, ids, keys and records; without any compaction.
    #[tokio::test]
    async fn a_closed_sqlite_file_holds_nothing_of_an_erased_owner() {
        let canary = "canary-7d1f";
        let (store, directory) = sqlite().await;
        let erased = plant(&store, canary, 20).await;
        let count = || {
            let mut bytes = Vec::new();
            for entry in std::fs::read_dir(directory.path()).unwrap() {
                bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
            }
            let found = bytes.windows(canary.len());
            found.filter(|part| *part == canary.as_bytes()).count()
        };
        assert!(count() > 0, "the test would find nothing anyway");
        let done = erase_owner(&store, &erased, &mut |_| ()).await.unwrap();
        assert_eq!((done.sessions, done.records), (20, 1));
        let kept = export(&store, ExportOptions::default()).await;
        store.close().await.unwrap();
        drop(store);
        assert_eq!(count(), 0);
        let again = SqliteStore::open(directory.path().join("tutor.db")).await;
        let again: Arc<dyn Store> = Arc::new(again.unwrap());
        assert!(kept == export(&again, ExportOptions::default()).await);
    }

    /// How often a word is in the files of a server, but for its log of writes.
    fn count_in_server(directory: &std::path::Path, canary: &str) -> usize {
        let mut found = 0;
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("pg_wal") {
                    found += count_in_server(&path, canary);
                }
            } else if let Ok(bytes) = std::fs::read(&path) {
                let parts = bytes.windows(canary.len());
                found += parts.filter(|part| *part == canary.as_bytes()).count();
            }
        }
        found
    }

    /// A server keeps what was deleted until its tables are written anew. Its statistics quote, too.
    #[tokio::test(flavor = "multi_thread")]
    async fn after_a_full_vacuum_postgresql_holds_nothing_of_an_erased_owner() {
        use sqlx::{Connection, PgConnection, Row};
        let canary = "canary-7d1f";
        let server = tokio::task::spawn_blocking(crate::postgres::start);
        let server = server.await.unwrap();
        let location: Location = server.url.parse().unwrap();
        let store = location.open().await.unwrap();
        let erased = plant(&store, canary, 10).await;
        let mut connection = PgConnection::connect(&server.url).await.unwrap();
        for sql in ["ANALYZE", "CHECKPOINT"] {
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        }
        let directory = sqlx::query("SHOW data_directory");
        let directory = directory.fetch_one(&mut connection).await.unwrap();
        let directory = std::path::PathBuf::from(directory.get::<String, _>(0));
        let before = count_in_server(&directory, canary);
        assert!(before > 10, "the test would find nothing anyway");
        let done = erase_owner(&store, &erased, &mut |_| ()).await.unwrap();
        assert_eq!((done.sessions, done.records), (10, 1));
        for sql in ["VACUUM (FULL, ANALYZE)", "VACUUM (FULL)", "CHECKPOINT"] {
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        }
        assert_eq!(count_in_server(&directory, canary), 0);
        let found = verify(&store, &mut |_| ()).await.unwrap();
        assert!(found.is_sound(), "{:?}", found.all_problems().next());
        assert_eq!(found.sessions, 10);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn an_export_of_one_owner_has_all_that_is_theirs_and_nothing_else() {
    let store = memory();
    fill(&store).await;
    let options = ExportOptions {
        owner: Some(owner("a")),
        ..ExportOptions::default()
    };
    let text = String::from_utf8(export(&store, options).await).unwrap();
    assert_eq!(text.matches("\"session\":{\"id\"").count(), 2);
    assert_eq!(text.matches("\"record\":{").count(), 3);
    assert!(!text.contains("\"owner\":\"c\"") && !text.contains("ab/other"));
    let nobody = ExportOptions {
        owner: Some(owner("nobody")),
        ..ExportOptions::default()
    };
    assert_eq!(
        export(&store, nobody)
            .await
            .iter()
            .filter(|b| **b == b'\n')
            .count(),
        2
    );
}

#[tokio::test]
async fn an_export_since_a_time_has_the_sessions_that_changed_then_or_later() {
    let store = memory();
    for (id, time) in [("old", 10), ("then", 20), ("later", 30)] {
        store.create_session(session("o", id, time)).await.unwrap();
    }
    let options = ExportOptions {
        since: Some(at(20)),
        ..ExportOptions::default()
    };
    let bytes = export(&store, options).await;
    let mut reader = Reader::new();
    reader.push(&bytes).unwrap();
    reader.finish().unwrap();
    assert_eq!(
        (reader.counts().sessions, reader.since()),
        (2, Some(at(20)))
    );
}

#[tokio::test]
async fn importing_again_changes_nothing() {
    let (from, to) = (memory(), memory());
    fill(&from).await;
    let bytes = export(&from, ExportOptions::default()).await;
    import(&to, &bytes, ImportOptions::default()).await.unwrap();
    let again = import(&to, &bytes, ImportOptions::default()).await.unwrap();
    assert_eq!((again.added, again.unchanged), (0, 11));
    assert!(bytes == export(&to, ExportOptions::default()).await);
}

#[tokio::test]
async fn what_is_there_and_differs_is_refused_kept_or_replaced() {
    let (from, to) = (memory(), memory());
    line(&from, "o", "s", 2).await;
    line(&from, "o", "t", 1).await;
    line(&to, "o", "s", 1).await;
    from.commit(vec![put("k", "o/1", b"new", Expect::Absent)])
        .await
        .unwrap();
    to.commit(vec![put("k", "o/1", b"old", Expect::Absent)])
        .await
        .unwrap();
    let bytes = export(&from, ExportOptions::default()).await;
    let before = export(&to, ExportOptions::default()).await;

    let error = import(&to, &bytes, ImportOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        (error.context_value("line"), error.context_value("session")),
        (Some("2"), Some("s"))
    );
    let told = |on_conflict| ImportOptions {
        on_conflict,
        ..ImportOptions::default()
    };
    let kept = import(&to, &bytes, told(OnConflict::Keep)).await.unwrap();
    assert_eq!(kept.kept, 2);
    let now = export(&to, ExportOptions::default()).await;
    assert!(now.len() > before.len() && now != bytes);
    let replaced = import(&to, &bytes, told(OnConflict::Replace))
        .await
        .unwrap();
    assert_eq!((replaced.replaced, replaced.unchanged), (2, 1));
    assert!(bytes == export(&to, ExportOptions::default()).await);
}

#[tokio::test]
async fn everything_can_become_one_owners() {
    let (from, to) = (memory(), memory());
    line(&from, "a", "s", 2).await;
    line(&from, "b", "t", 2).await;
    from.commit(vec![put("k", "a/1", b"x", Expect::Absent)])
        .await
        .unwrap();
    let bytes = export(&from, ExportOptions::default()).await;
    let options = ImportOptions {
        owner: Some(owner("me")),
        ..ImportOptions::default()
    };
    let imported = import(&to, &bytes, options).await.unwrap();
    assert_eq!((imported.added, imported.left_out), (2, 1));
    assert_eq!(to.owners(None, 9).await.unwrap(), [owner("me")]);
    assert!(
        to.turn_by_key(&owner("me"), "k-t-1")
            .await
            .unwrap()
            .is_some()
    );
    assert!(to.kinds().await.unwrap().is_empty());
}

/// At every line, and in the middle of it.
#[tokio::test]
async fn a_truncated_export_is_refused_by_line_and_no_session_is_half_there() {
    let from = memory();
    line(&from, "o", "a", 2).await;
    line(&from, "o", "b", 2).await;
    let bytes = export(&from, ExportOptions::default()).await;
    let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
    for (n, end) in ends.iter().enumerate() {
        for cut in [end - 3, *end, end + 1] {
            if cut == bytes.len() {
                continue;
            }
            let to = memory();
            let error = import(&to, &bytes[..cut], ImportOptions::default())
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let line = n + 1 + usize::from(cut > *end);
            assert_eq!(
                error.context_value("line"),
                Some(&*line.to_string()),
                "cut at {cut}"
            );
            // What is there is whole, and the rest can be had by importing again.
            let found = verify(&to, &mut |_| ()).await.unwrap();
            assert!(found.is_sound() && found.messages.is_multiple_of(4));
            import(&to, &bytes, ImportOptions::default()).await.unwrap();
            assert!(bytes == export(&to, ExportOptions::default()).await);
        }
    }
}

#[tokio::test]
async fn a_missing_doubled_or_moved_line_is_found() {
    let from = memory();
    line(&from, "o", "a", 2).await;
    line(&from, "o", "b", 1).await;
    from.commit(vec![put("k", "o/1", b"x", Expect::Absent)])
        .await
        .unwrap();
    let bytes = export(&from, ExportOptions::default()).await;
    let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    for n in 0..lines.len() {
        let mut missing = lines.clone();
        missing.remove(n);
        let mut doubled = lines.clone();
        doubled.insert(n, lines[n]);
        let mut moved = lines.clone();
        moved.swap(n, (n + 1) % lines.len());
        for changed in [missing, doubled, moved] {
            let to = memory();
            let result = import(&to, &changed.concat(), ImportOptions::default()).await;
            let error = result.unwrap_err();
            assert!(error.context_value("line").is_some(), "{error}");
            let found = verify(&to, &mut |_| ()).await.unwrap();
            assert!(found.is_sound(), "line {n}");
        }
    }
}

/// A failure at any write, before or after it was made: importing again does the rest.
#[tokio::test]
async fn an_interrupted_import_is_finished_by_importing_again() {
    let from = memory();
    fill(&from).await;
    let bytes = export(&from, ExportOptions::default()).await;
    for when in [When::Before, When::After] {
        for nth in 1..=11 {
            let to = FaultyStore::new(MemoryStore::new());
            to.fail_write(nth, when);
            let to: Arc<dyn Store> = Arc::new(to);
            let error = import(&to, &bytes, ImportOptions::default())
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
            import(&to, &bytes, ImportOptions::default()).await.unwrap();
            assert!(bytes == export(&to, ExportOptions::default()).await);
        }
    }
}

/// Turns begin and end all the while; each session of the export is as it was at one moment, and
/// has at least what was there before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_while_turns_go_on_is_whole() {
    let store = memory();
    for id in ["a", "b", "c", "d"] {
        line(&store, "o", id, 30).await;
    }
    let going_on = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for n in 0.. {
                for id in ["d", "b", "a", "c"] {
                    let key = session_key("o", id);
                    let head = store.session(&key).await.unwrap().unwrap().head.unwrap();
                    let new = new_turn("o", id, &format!("{id}-more-{n}"), Some(head.as_str()));
                    let turn = begin(&store, new).await;
                    tokio::task::yield_now().await;
                    store.finish_turn(&turn.key(), end(&turn)).await.unwrap();
                    tokio::time::sleep(std::time::Duration::from_micros(500)).await;
                }
            }
        })
    };
    for _ in 0..20 {
        let bytes = export(&store, ExportOptions::default()).await;
        let to = memory();
        let imported = import(&to, &bytes, ImportOptions::default()).await.unwrap();
        assert!(imported.read.sessions == 4 && imported.read.messages >= 240);
        let found = verify(&to, &mut |_| ()).await.unwrap();
        assert!(found.is_sound(), "{:?}", found.all_problems().next());
    }
    going_on.abort();
}

#[tokio::test]
async fn erasing_an_owner_leaves_nothing_of_theirs_and_all_of_the_others() {
    let (store, others) = (memory(), memory());
    fill(&store).await;
    let all = export(&store, ExportOptions::default()).await;
    import(&others, &all, ImportOptions::default())
        .await
        .unwrap();
    let erased = erase_owner(&store, &owner("a"), &mut |_| ()).await.unwrap();
    assert_eq!((erased.sessions, erased.records), (2, 3));
    let theirs = ExportOptions {
        owner: Some(owner("a")),
        ..ExportOptions::default()
    };
    let empty = memory();
    assert!(export(&store, theirs.clone()).await == export(&empty, theirs).await);
    for other in ["b", "c", "ab"] {
        let options = ExportOptions {
            owner: Some(owner(other)),
            ..ExportOptions::default()
        };
        assert!(export(&store, options.clone()).await == export(&others, options).await);
    }
    let found = verify(&store, &mut |_| ()).await.unwrap();
    assert!(found.is_sound() && found.owners == 2);
    let again = erase_owner(&store, &owner("a"), &mut |_| ()).await.unwrap();
    assert_eq!((again.sessions, again.records), (0, 0));
}

/// Whatever is hidden, what is left fits together, and is all that may be seen.
#[tokio::test]
async fn what_a_learner_may_not_see_is_left_out_and_the_rest_fits_together() {
    use tutor_core::message::Audience;
    let whole = motley("o", "s").await;
    for hidden in 0..1_u32 << whole.messages.len() {
        let mut changed = whole.clone();
        for (n, message) in changed.messages.iter_mut().enumerate() {
            message.visible_to = match hidden & (1 << n) {
                0 => Audience::everyone(),
                _ => [Audience::Teacher].into(),
            };
        }
        changed.check().unwrap();
        let seen = changed.clone().seen_by(Audience::Learner);
        seen.check().unwrap();
        assert_eq!(seen.messages.len() as u32, 8 - hidden.count_ones());
        assert_eq!(hidden == 0, seen == changed);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Exchange(u8, u8),
    Fork(u8, u8),
    Rename(u8, u8, String),
    Delete(u8, u8),
    Record(u8, Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..3_u8, 0..3_u8);
    prop_oneof![
        5 => place().prop_map(|(o, s)| Step::Exchange(o, s)),
        2 => place().prop_map(|(o, s)| Step::Fork(o, s)),
        1 => (place(), ".{1,8}").prop_map(|((o, s), title)| Step::Rename(o, s, title)),
        1 => place().prop_map(|(o, s)| Step::Delete(o, s)),
        1 => (0..3_u8, prop::collection::vec(any::<u8>(), 0..9)).prop_map(|(o, v)| Step::Record(o, v)),
    ]
}

async fn perform(store: &Arc<dyn Store>, n: usize, step: Step) {
    let names = |o: u8, s: u8| (format!("o{o}"), format!("s{s}"));
    match step {
        Step::Exchange(o, s) | Step::Fork(o, s) => {
            let (o, s) = names(o, s);
            let found = store.session(&session_key(&o, &s)).await.unwrap();
            let head = found.and_then(|session| session.head);
            let mut new = new_turn(
                &o,
                &s,
                &format!("{s}-{n}"),
                head.as_ref().map(|id| id.as_str()),
            );
            if matches!(step, Step::Fork(..)) {
                new.messages[0].parent_id = None;
            }
            new.messages[0].metadata = object("x", 0.1 * n as f64);
            exchange(store, new).await;
        }
        Step::Rename(o, s, title) => {
            let (o, s) = names(o, s);
            let patch = tutor_core::session::SessionPatch {
                title: Some(title),
                updated_at: at(i64::try_from(n).unwrap() + 5_000),
                ..Default::default()
            };
            // There may be none.
            let _ = store.update_session(&session_key(&o, &s), patch).await;
        }
        Step::Delete(o, s) => {
            let (o, s) = names(o, s);
            store.delete_session(&session_key(&o, &s)).await.unwrap();
        }
        Step::Record(o, value) => {
            let write = put("k", &format!("o{o}/{n}"), &value, Expect::Any);
            store.commit(vec![write]).await.unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_done_an_export_of_an_import_is_equal(
        steps in prop::collection::vec(step(), 0..40), cut in any::<prop::sample::Index>(), flip in 1..=255_u8,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (from, to) = (memory(), memory());
            for (n, step) in steps.into_iter().enumerate() {
                perform(&from, n, step).await;
            }
            let bytes = export(&from, ExportOptions::default()).await;
            // First a damaged copy: refused, and nothing of it hinders the sound one.
            let mut damaged = bytes.clone();
            let at = cut.index(bytes.len());
            damaged[at] ^= flip;
            let refused = import(&to, &damaged, ImportOptions::default()).await;
            assert!(refused.is_err(), "byte {at} changed by {flip}");
            import(&to, &bytes, ImportOptions::default()).await.unwrap();
            assert!(bytes == export(&to, ExportOptions::default()).await);
        });
    }
}
