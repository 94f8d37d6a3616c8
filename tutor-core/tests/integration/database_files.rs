//! SQLite files that are damaged, in use, or not to be used.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tutor_core::conformance::records::put;
use tutor_core::conformance::sample::{
    exchange, line, message_query, new_turn, session_key, session_query, turn_key,
};
use tutor_core::session::{Branch, MessageRange, SessionPatch};
use tutor_core::store::{Existing, Expect, KeyRange, RecordStore, SqliteStore, verify};
use tutor_core::{Error, ErrorKind, SessionStore};

/// Sessions of the store that is damaged, and turns of each.
const SESSIONS: usize = 8;
const TURNS: usize = 8;

async fn open(file: &Path) -> Result<SqliteStore, Error> {
    let opening = SqliteStore::open(file);
    tokio::time::timeout(Duration::from_secs(30), opening)
        .await
        .expect("it hangs")
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", file.display()))
}

#[tokio::test]
async fn a_file_in_use_is_locked_and_names_its_path_and_process() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tutor.db");
    let store = open(&file).await.unwrap();
    let link = place.path().join("link.db");
    #[cfg(unix)]
    std::os::unix::fs::symlink(&file, &link).unwrap();
    #[cfg(not(unix))]
    fs::hard_link(&file, &link).unwrap();
    let (again, by_link) = tokio::join!(open(&file), open(&link));
    for error in [again.unwrap_err(), by_link.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::StoreLocked);
        let path = file.canonicalize().unwrap();
        assert_eq!(error.context_value("path"), path.to_str());
        let pid = std::process::id().to_string();
        assert_eq!(error.context_value("pid"), Some(pid.as_str()));
    }
    line(&store, "o", "s", 1).await;
    store.close().await.unwrap();
    open(&file).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn places_where_no_database_can_be_are_named() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "text").unwrap();
    let missing = place.path().join("missing").join("tutor.db");
    let config = [place.path().to_owned(), missing, PathBuf::from("/")];
    for path in config {
        let error = open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        assert_eq!(error.context_value("path"), path.to_str());
    }
    // Below a file, and where nobody may write.
    for path in [file.join("tutor.db"), PathBuf::from("/proc/tutor.db")] {
        let error = open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error:?}");
        let named = error.context_value("path").unwrap();
        assert!(named.starts_with(path.to_str().unwrap()), "{named}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"text");
    assert!(!place.path().join("missing").exists());
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_not_touched() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("notes.txt");
    let mut almost = b"SQLite format 3\0".to_vec();
    almost.extend([0xff; 5000]);
    for content in [b"my notes".to_vec(), b"S".to_vec(), vec![0; 5000], almost] {
        fs::write(&file, &content).unwrap();
        let error = open(&file).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataCorrupt, "{error:?}");
        assert_eq!(
            error.context_value("path"),
            file.canonicalize().unwrap().to_str()
        );
        assert!(error.message().contains("backup"), "{error:?}");
        assert!(fs::read(&file).unwrap() == content, "it was written to");
    }
}

#[tokio::test]
async fn a_file_that_was_emptied_is_refused_and_one_that_was_removed_is_made_anew() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tutor.db");
    // As whoever is killed before the first write leaves it.
    fs::write(&file, "").unwrap();
    let store = open(&file).await.unwrap();
    line(&store, "o", "s", 1).await;
    store.close().await.unwrap();
    fs::write(&file, "").unwrap();
    for _ in 0..2 {
        is_clear(&open(&file).await.unwrap_err(), &file, "emptied");
    }
    fs::remove_file(&file).unwrap();
    let store = open(&file).await.unwrap();
    assert!(
        store
            .session(&session_key("o", "s"))
            .await
            .unwrap()
            .is_none()
    );
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_log_without_its_database_is_refused_and_kept() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tutor.db");
    fs::write(beside(&file, "-wal"), [7; 5000]).unwrap();
    let error = open(&file).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataCorrupt);
    assert!(error.message().contains("log"), "{error}");
    assert_eq!(fs::read(beside(&file, "-wal")).unwrap(), [7; 5000]);
}

/// It says that the data is damaged, where, and what to do.
fn is_clear(error: &Error, file: &Path, damage: &str) {
    assert_eq!(error.kind(), ErrorKind::DataCorrupt, "{damage}: {error:?}");
    let path = file.canonicalize().unwrap();
    assert_eq!(error.context_value("path"), path.to_str(), "{damage}");
    let advice = ["backup", "newer version"];
    let advised = advice.iter().any(|what| error.message().contains(what));
    assert!(advised, "{damage}: {error:?}");
}

/// The file opens with what is left, or says what is wrong; so does each read.
async fn is_honest(file: &Path, damage: &str) -> &'static str {
    let store = match open(file).await {
        Ok(store) => store,
        Err(error) => {
            is_clear(&error, file, damage);
            return "refused";
        }
    };
    let (mut lost, mut silently) = (false, false);
    for n in 0..SESSIONS {
        let key = session_key("o", &format!("s{n}"));
        let query = message_query(key, Branch::All, MessageRange::Latest, 100);
        match store.messages(query).await {
            Ok(page) => {
                for message in &page.items {
                    let id = message.id.as_str();
                    let expected = match id.strip_prefix("u-") {
                        Some(_) => format!("question {id}"),
                        None => "an answer".to_owned(),
                    };
                    assert_eq!(message.content.text(), expected, "{damage}");
                }
                silently |= page.items.len() < 2 * TURNS;
            }
            Err(error) => {
                if error.kind() == ErrorKind::NotFound {
                    silently = true;
                } else {
                    is_clear(&error, file, damage);
                }
                lost = true;
            }
        }
    }
    let sound = match verify(&store, &mut |_| {}).await {
        Ok(found) => found.is_sound(),
        Err(error) => {
            is_clear(&error, file, damage);
            false
        }
    };
    // Of a log, nobody can tell whether what is cut off was ever there.
    assert!(
        !(silently && sound) || damage.starts_with("log"),
        "{damage}: acknowledged turns are missing, and nobody says so"
    );
    lost |= silently;
    // Whether or not it can be closed, the next one finds no lock.
    store.close().await.ok();
    match (lost, sound) {
        (true, _) => "lost",
        (false, true) => "whole",
        (false, false) => "noticed",
    }
}

/// Where these bytes are in a file.
fn find(bytes: &[u8], text: &str) -> usize {
    let text = text.as_bytes();
    let at = bytes.windows(text.len()).position(|w| w == text);
    at.unwrap()
}

/// A bit changes in what the rows hold. Each is named, and hides nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_which_a_bit_changed_is_named_and_its_neighbors_stay_readable() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tutor.db");
    let store = open(&file).await.unwrap();
    line(&store, "o", "s", 1).await;
    line(&store, "o", "t", 3).await;
    for name in ["a", "b"] {
        let page = put("book", name, format!("page {name}").as_bytes(), Expect::Any);
        store.commit(vec![page]).await.unwrap();
    }
    let (s, t) = (session_key("o", "s"), session_key("o", "t"));
    let title = "a title of its own";
    let patch = SessionPatch {
        title: Some(title.to_owned()),
        ..SessionPatch::default()
    };
    store.update_session(&t, patch).await.unwrap();
    let whole = store.whole_session(&t).await.unwrap().unwrap();
    store.close().await.unwrap();
    let sound = fs::read(&file).unwrap();

    let turn = "\"idempotency_key\":\"k-t-1\"";
    for (text, record) in [
        ("question u-t-1", "messages o t 2"),
        (title, "chat_sessions o t"),
        (turn, "tutor_turns o t-1"),
        ("page a", "tutor_records book a"),
    ] {
        let mut damaged = sound.clone();
        damaged[find(&sound, text) + 3] ^= 1;
        fs::write(&file, &damaged).unwrap();
        let store = open(&file).await.unwrap();
        let last = |key, limit| message_query(key, Branch::All, MessageRange::Latest, limit);
        let error = match record.split(' ').next().unwrap() {
            "messages" => store.messages(last(t.clone(), 9)).await.err(),
            "chat_sessions" => store.session(&t).await.err(),
            "tutor_turns" => store.turn(&turn_key("o", "t-1")).await.err(),
            _ => store.get("book", "a").await.err(),
        };
        let error = error.expect(text);
        is_clear(&error, &file, text);
        assert_eq!(error.context_value("record"), Some(record), "{text}");
        let found = verify(&store, &mut |_| {}).await.unwrap();
        let named = |problem: &Error| problem.context_value("record") == Some(record);
        assert!(found.storage.problems.kept().iter().any(named), "{text}");

        let listed = store.sessions(session_query("o", 9)).await.unwrap().items;
        assert_eq!(listed.len(), 2, "{text}");
        assert_eq!(
            store
                .messages(last(s.clone(), 9))
                .await
                .unwrap()
                .items
                .len(),
            2
        );
        assert_eq!(
            store
                .messages(last(t.clone(), 2))
                .await
                .unwrap()
                .items
                .len(),
            2
        );
        assert_eq!(
            store.get("book", "b").await.unwrap().unwrap().value,
            b"page b"
        );
        store.running_turns().await.unwrap();
        // Its backup replaces it.
        if !record.starts_with("tutor_records") {
            store
                .import_session(whole.clone(), Existing::Replace)
                .await
                .unwrap();
            assert!(verify(&store, &mut |_| {}).await.unwrap().is_sound());
        } else {
            let all = store
                .scan("book", KeyRange::default(), 9)
                .await
                .unwrap_err();
            assert_eq!(all.context_value("key"), Some("a"));
        }
        store.close().await.unwrap();
    }
}

/// The file in the fixtures was written by a program of schema 2, whose rows had no checksums.
#[tokio::test]
async fn a_file_of_schema_2_is_migrated_and_its_rows_are_protected_from_then_on() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tutor.db");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sqlite-schema-2.db");
    fs::copy(fixture, &file).unwrap();
    let store = open(&file).await.unwrap();
    let found = verify(&store, &mut |_| {}).await.unwrap();
    assert!(found.is_sound(), "{:?}", found.all_problems().next());
    assert_eq!((found.sessions, found.messages, found.turns), (3, 13, 7));
    assert_eq!((found.running_turns, found.records), (1, 2));
    exchange(&store, new_turn("o", "s", "new", Some("r-s-4"))).await;
    store.close().await.unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let at = find(&bytes, "question u-s-3");
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    let store = open(&file).await.unwrap();
    let query = message_query(session_key("o", "s"), Branch::All, MessageRange::Latest, 99);
    let error = store.messages(query).await.unwrap_err();
    is_clear(&error, &file, "migrated");
    assert_eq!(error.context_value("record"), Some("messages o s 6"));
    store.close().await.unwrap();
}

/// People repair things with SQL, too.
#[tokio::test]
async fn a_row_changed_by_hand_is_taken_if_its_checksum_is_taken_away() {
    use sqlx::{Connection, SqliteConnection};
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tutor.db");
    let store = open(&file).await.unwrap();
    line(&store, "o", "s", 1).await;
    store.close().await.unwrap();
    for (with, taken) in [("", false), (", checksum = NULL", true)] {
        let url = format!("sqlite://{}", file.display());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        let sql = format!("UPDATE chat_sessions SET title = 'by hand'{with}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        let store = open(&file).await.unwrap();
        let read = store.session(&session_key("o", "s")).await;
        match taken {
            true => assert_eq!(read.unwrap().unwrap().title, "by hand"),
            false => is_clear(&read.unwrap_err(), &file, "by hand"),
        }
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_opens_or_says_what_is_wrong_and_never_panics_or_hangs() {
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("source.db");
    let store = open(&source).await.unwrap();
    for n in 0..SESSIONS {
        line(&store, "o", &format!("s{n}"), TURNS).await;
    }
    let mut large = new_turn("o", "large", "large", None);
    large.messages[0].content = "word ".repeat(10_000).into();
    exchange(&store, large).await;
    // As a process that was killed leaves it, and as one that ended.
    let log = fs::read(beside(&source, "-wal")).unwrap();
    let early = fs::read(&source).unwrap();
    store.close().await.unwrap();
    let whole = fs::read(&source).unwrap();
    assert!(log.len() > 100_000 && whole.len() > 100_000);

    let mut damages = Vec::new();
    for part in 0..16 {
        for (name, file, log) in [
            ("file", &whole, None),
            ("file under its log", &early, Some(&log)),
        ] {
            if file.is_empty() {
                continue;
            }
            let at = file.len() * part / 16 + 11 * part;
            damages.push((
                format!("{name} cut to {at}"),
                file[..at].to_vec(),
                log.cloned(),
            ));
            for more in [0, 1500] {
                let at = (at + more) % file.len();
                let mut flipped = file.clone();
                flipped[at] ^= 1 << (part % 8);
                damages.push((format!("{name} flipped at {at}"), flipped, log.cloned()));
            }
        }
        let at = log.len() * part / 16 + 13 * part;
        damages.push((
            format!("log cut to {at}"),
            early.clone(),
            Some(log[..at].to_vec()),
        ));
        let mut flipped = log.clone();
        flipped[at] ^= 1 << (part % 8);
        damages.push((format!("log flipped at {at}"), early.clone(), Some(flipped)));
    }
    let mut outcomes = std::collections::BTreeMap::<&str, usize>::new();
    for (n, (what, file, log)) in damages.into_iter().enumerate() {
        let path = place.path().join(format!("{n}.db"));
        fs::write(&path, file).unwrap();
        fs::copy(beside(&source, "-lock"), beside(&path, "-lock")).unwrap();
        if let Some(log) = log {
            fs::write(beside(&path, "-wal"), log).unwrap();
        }
        let judged = tokio::time::timeout(Duration::from_secs(60), is_honest(&path, &what));
        *outcomes.entry(judged.await.expect("it hangs")).or_default() += 1;
    }
    // The damage was real, and not all of it was fatal.
    for outcome in ["refused", "lost", "noticed", "whole"] {
        assert!(outcomes.contains_key(outcome), "{outcomes:?}");
    }
}
