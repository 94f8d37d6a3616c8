//! Files that are not as they were left: damaged, of another time, in use, or not to be used.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tutor_core::conformance::sample::{at, exchange, line, message_query, new_turn, session_key};
use tutor_core::session::{Branch, MessageRange, SessionPatch};
use tutor_core::store::{SledStore, verify};
use tutor_core::{Error, ErrorKind, SessionStore};

/// Sessions of the store that is damaged, and turns of each.
const SESSIONS: usize = 12;
const TURNS: usize = 10;
/// Places at which each file is damaged.
const PARTS: usize = 24;

async fn open(directory: &Path) -> Result<SledStore, Error> {
    let options = SledStore::options().lock_wait(Duration::ZERO);
    options.open(directory).await
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// A store with messages of all sizes, closed; opened twice, so that it has a snapshot.
async fn filled(directory: &Path) {
    let store = open(directory).await.unwrap();
    for n in 0..SESSIONS {
        line(&store, "o", &format!("s{n}"), TURNS).await;
    }
    let mut large = new_turn("o", "large", "large", None);
    large.messages[0].content = "word ".repeat(60_000).into();
    exchange(&store, large).await;
    store.close().await.unwrap();
    open(directory).await.unwrap().close().await.unwrap();
}

/// The part of sled's file that holds something.
fn used(file: &Path) -> usize {
    let bytes = fs::read(file).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0)
}

fn flip(file: &Path, at: usize, bit: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1 << bit;
    fs::write(file, bytes).unwrap();
}

fn truncate(file: &Path, size: u64) {
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(size).unwrap();
}

/// The store opens with what is left, or says what is wrong and what to do. What is left and
/// readable is as it was written.
async fn is_honest(directory: &Path, damage: &str) -> &'static str {
    let store = match open(directory).await {
        Ok(store) => store,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::DataCorrupt, "{damage}: {error:?}");
            let path = error.context_value("path").unwrap();
            assert!(path.starts_with(directory.to_str().unwrap()), "{damage}");
            assert!(error.message().contains("backup"), "{damage}: {error:?}");
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
                    let text = message.content.text();
                    let id = message.id.as_str();
                    let expected = match id.strip_prefix("u-") {
                        Some(_) => format!("question {id}"),
                        None => "an answer".to_owned(),
                    };
                    assert_eq!(text, expected, "{damage}");
                }
                silently |= page.items.len() < 2 * TURNS;
            }
            Err(error) => {
                let kinds = [
                    ErrorKind::DataCorrupt,
                    ErrorKind::NotFound,
                    // sled panicked.
                    ErrorKind::StoreUnavailable,
                ];
                assert!(kinds.contains(&error.kind()), "{damage}: {error:?}");
                lost = true;
            }
        }
    }
    let found = verify(&store, &mut |_| {}).await;
    let sound = found.is_ok_and(|found| found.is_sound());
    assert!(
        !(silently && sound),
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

type Damage = Box<dyn Fn(&Path)>;

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_opens_or_says_what_is_wrong_and_never_panics_or_lies() {
    let source = tempfile::tempdir().unwrap();
    filled(source.path()).await;
    let mut outcomes = std::collections::BTreeMap::<&str, usize>::new();
    let mut damages: Vec<(String, PathBuf, Damage)> = Vec::new();
    for entry in fs::read_dir(source.path().join("sled")).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() {
            continue;
        }
        let name = PathBuf::from("sled").join(path.file_name().unwrap());
        let size = used(&path);
        for part in 0..PARTS {
            let at = size * part / PARTS;
            damages.push((
                format!("{} cut to {at}", name.display()),
                name.clone(),
                Box::new(move |file| truncate(file, at as u64)),
            ));
            let at = (at + 7 * part).min(size);
            damages.push((
                format!("{} flipped at {at}", name.display()),
                name.clone(),
                Box::new(move |file| flip(file, at, part % 8)),
            ));
        }
        damages.push((
            format!("{} deleted", name.display()),
            name.clone(),
            Box::new(|file| fs::remove_file(file).unwrap()),
        ));
    }
    assert!(
        damages.len() > 4 * PARTS,
        "sled has other files than it had"
    );
    for (what, file, damage) in damages {
        let place = tempfile::tempdir().unwrap();
        copy(source.path(), place.path());
        damage(&place.path().join(file));
        let judged = tokio::time::timeout(Duration::from_secs(60), is_honest(place.path(), &what));
        *outcomes.entry(judged.await.expect("it hangs")).or_default() += 1;
    }
    // The damage was real, and not all of it was fatal.
    assert!(
        outcomes.get("refused").is_some_and(|n| *n > 5),
        "{outcomes:?}"
    );
    assert!(
        outcomes.get("whole").is_some_and(|n| *n > 5),
        "{outcomes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_cut_off_is_refused_and_goes_on_without_its_mark() {
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("source");
    let store = open(&source).await.unwrap();
    line(&store, "o", "before", TURNS).await;
    store.close().await.unwrap();
    let store = open(&source).await.unwrap();
    let before = used(&source.join("sled/db"));
    line(&store, "o", "behind", TURNS).await;
    // As a process that is killed now leaves it, and as one that ends.
    let killed = place.path().join("killed");
    copy(&source, &killed);
    store.close().await.unwrap();
    for left in [&killed, &source] {
        let end = used(&left.join("sled/db"));
        assert!(end > before);
        for part in 1..7 {
            let at = before + (end - before) * part / 7;
            let cut = place.path().join(format!("cut-{part}"));
            copy(left, &cut);
            truncate(&cut.join("sled/db"), at as u64);
            let error = open(&cut).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DataCorrupt, "{at}: {error:?}");
            assert!(error.message().contains("backup"), "{at}: {error:?}");
            if error.context_value("lost_groups").is_some() {
                fs::remove_file(error.context_value("mark").unwrap()).unwrap();
                let rest = open(&cut).await.unwrap();
                let key = session_key("o", "before");
                let query = message_query(key, Branch::All, MessageRange::Latest, 100);
                assert_eq!(rest.messages(query).await.unwrap().items.len(), 2 * TURNS);
                exchange(&rest, new_turn("o", "more", "more", None)).await;
                rest.close().await.unwrap();
                open(&cut).await.unwrap().close().await.unwrap();
            }
            fs::remove_dir_all(&cut).unwrap();
        }
        // Nothing is wrong with it otherwise.
        let store = open(left).await.unwrap();
        let key = session_key("o", "behind");
        let query = message_query(key, Branch::All, MessageRange::Latest, 100);
        assert_eq!(store.messages(query).await.unwrap().items.len(), 2 * TURNS);
        store.close().await.unwrap();
    }
}

/// The store in the fixtures was written by the first release. It must always open.
#[tokio::test]
async fn a_store_of_format_1_opens_and_is_written_on() {
    let place = tempfile::tempdir().unwrap();
    unpack(&fixture(), place.path());
    let store = open(place.path()).await.unwrap();
    let found = verify(&store, &mut |_| {}).await.unwrap();
    assert!(found.is_sound(), "{:?}", found.all_problems().next());
    assert_eq!((found.sessions, found.messages, found.turns), (3, 13, 7));
    assert_eq!((found.running_turns, found.records), (1, 2));
    let before = store
        .session(&session_key("o", "s"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((before.message_count, before.updated_at), (10, at(2_000)));
    exchange(&store, new_turn("o", "s", "new", Some("r-s-4"))).await;
    let patch = SessionPatch {
        title: Some("renamed".to_owned()),
        ..SessionPatch::default()
    };
    store.update_session(&before.key(), patch).await.unwrap();
    assert!(verify(&store, &mut |_| {}).await.unwrap().is_sound());
    store.close().await.unwrap();
}

/// sled's files are mostly empty: only what is used of them is kept, with their sizes.
fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sled-format-1")
}

fn unpack(from: &Path, to: &Path) {
    copy(from, to);
    let sizes = fs::read_to_string(from.join("sizes")).unwrap();
    for line in sizes.lines() {
        let (name, size) = line.split_once(' ').unwrap();
        truncate(&to.join(name), size.parse().unwrap());
    }
}

#[tokio::test]
async fn a_store_of_a_newer_format_is_refused_and_not_touched() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path()).await.unwrap();
    line(&store, "o", "s", 1).await;
    store.close().await.unwrap();
    fs::write(place.path().join("format"), "2\n").unwrap();
    let before = fs::read(place.path().join("sled/db")).unwrap();
    let error = open(place.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataCorrupt);
    assert!(error.message().contains("newer"), "{error}");
    assert_eq!(error.context_value("format"), Some("2"));
    assert_eq!(fs::read(place.path().join("sled/db")).unwrap(), before);
    fs::write(place.path().join("format"), "1\n").unwrap();
    open(place.path()).await.unwrap();
}

#[tokio::test]
async fn a_store_in_use_is_locked_and_names_its_path_and_process() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path()).await.unwrap();
    let error = open(place.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreLocked);
    assert_eq!(
        error.context_value("path"),
        Some(place.path().to_str().unwrap())
    );
    let pid = std::process::id().to_string();
    assert_eq!(error.context_value("pid"), Some(pid.as_str()));
    store.close().await.unwrap();
    open(place.path()).await.unwrap();
}

#[tokio::test]
async fn places_where_no_store_can_be_are_named() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "text").unwrap();
    let error = open(&file).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.context_value("path"), Some(file.to_str().unwrap()));
    assert_eq!(fs::read(&file).unwrap(), b"text");

    // Below a file, and where nobody may write.
    for path in [file.join("store"), PathBuf::from("/proc/store")] {
        let error = open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error:?}");
        assert_eq!(error.context_value("path"), Some(path.to_str().unwrap()));
    }
}
