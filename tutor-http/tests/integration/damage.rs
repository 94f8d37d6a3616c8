//! Commands on data that is damaged: what they say, and how they end.

use std::path::Path;

use serde_json::Value;
use tutor_core::SessionStore;
use tutor_core::conformance::records::put;
use tutor_core::conformance::sample::line;
use tutor_core::store::{Expect, Location, RecordStore, SledStore};

use crate::binary::Binary;

async fn fill(location: &str) {
    let store = location.parse::<Location>().unwrap().open().await.unwrap();
    line(&*store, "ada", "s", 3).await;
    line(&*store, "ada", "t", 3).await;
    for key in ["ada/1", "ada/2"] {
        let write = put(
            "note",
            key,
            format!("words of {key}").as_bytes(),
            Expect::Any,
        );
        store.commit(vec![write]).await.unwrap();
    }
    store.close().await.unwrap();
}

/// Changes a bit of what comes last in the file and reads like this.
fn damage(file: &Path, text: &str) {
    let mut bytes = std::fs::read(file).unwrap();
    let found = bytes
        .windows(text.len())
        .rposition(|w| w == text.as_bytes());
    bytes[found.unwrap() + text.len() - 1] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn verify_names_each_damaged_row_counts_the_rest_and_fails() {
    let binary = Binary::new();
    let file = binary.path("tutor.db");
    fill(&format!("sqlite:///{}", file.display())).await;
    let here = ["--data", "sqlite:///./tutor.db"];
    let run = |args: &[&str]| binary.run(&[args, &here[..]].concat());
    let sound = run(&["verify"]);
    assert_eq!((sound.code, sound.err.as_str()), (0, ""));
    damage(&file, "question u-t-1");
    damage(&file, "words of ada/1");

    let found = run(&["verify"]);
    assert_eq!(found.code, 3, "{}", found.err);
    for named in [
        "record: messages ada t 2",
        "record: tutor_records note ada/1",
        "things are wrong: restore a backup, or export with --skip-damaged",
    ] {
        assert!(found.err.contains(named), "{}", found.err);
    }
    let table = String::from_utf8(found.out).unwrap();
    assert!(table.contains("sessions                    2\n"), "{table}");
    // What was said is in none of it.
    assert!(!found.err.contains("question") && !found.err.contains("words of"));
    let json = run(&["verify", "--json"]);
    assert_eq!(json.code, 3);
    let json: Value = serde_json::from_slice(&json.out).unwrap();
    assert!(json["problem_count"].as_u64().unwrap() >= 2, "{json}");

    let refused = run(&["export"]);
    assert_eq!(refused.code, 3, "{}", refused.err);
    let rest = run(&["export", "--skip-damaged"]);
    let said = "left out 1 damaged sessions and 1 damaged records";
    assert!(rest.err.contains(said), "{}", rest.err);
    let rest = rest.text();
    assert!(rest.contains("question u-s-1") && rest.contains("ada/2"));
    // It is whole, and goes into a new place.
    binary
        .run_with(&["import", "--data", "new"], rest.as_bytes())
        .ok();
    binary.run(&["verify", "--data", "new"]).ok();

    // A damaged record is erased with its owner.
    run(&["users", "erase", "ada", "--yes"]).ok();
    let left = run(&["verify", "--json"]).text();
    let left: Value = serde_json::from_str(&left).unwrap();
    assert_eq!(
        (&left["sessions"], &left["records"]),
        (&0.into(), &0.into())
    );
}

#[tokio::test]
async fn commands_on_a_store_that_was_cut_off_or_damaged_say_what_to_do() {
    for what in ["cut off", "emptied", "flipped"] {
        let binary = Binary::new();
        let directory = binary.path("d");
        let store = SledStore::open(&directory).await.unwrap();
        line(&store, "ada", "s", 30).await;
        store.close().await.unwrap();
        drop(store);
        let file = directory.join("sled/db");
        let mut bytes = std::fs::read(&file).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        match what {
            "cut off" => bytes.truncate(used / 2),
            "emptied" => bytes.clear(),
            _ => bytes[used / 2] ^= 4,
        }
        std::fs::write(&file, bytes).unwrap();
        for command in ["verify", "export"] {
            let said = binary.run(&[command, "--data", "d"]);
            // The bit may be one of those that sled does not read any more.
            if what == "flipped" && said.code == 0 {
                continue;
            }
            assert_eq!(said.code, 3, "{what}: {}", said.err);
            assert!(said.err.contains("backup"), "{what}: {}", said.err);
            assert!(!said.err.contains("panicked at"), "{what}: {}", said.err);
        }
    }
}
