//! Moving data by commands, with the real binary: stopped and while it serves.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;
use tutor_core::SessionStore;
use tutor_core::conformance::records::put;
use tutor_core::conformance::sample::line;
use tutor_core::conformance::store::importing::motley;
use tutor_core::store::{Existing, Expect, RecordStore, SledStore};

use crate::binary::Binary;
use crate::client::Request;

/// Sessions of two owners, one with all that there can be, and records.
async fn fill(directory: &Path) {
    let store = SledStore::open(directory).await.unwrap();
    line(&store, "local", "long", 120).await;
    for n in 0..10 {
        line(&store, "ada", &format!("s{n}"), 2).await;
    }
    let whole = motley("ada", "motley").await;
    store.import_session(whole, Existing::Refuse).await.unwrap();
    let writes = vec![
        put("note", "ada/1", b"words of ada", Expect::Absent),
        put("note", "local", &[0xff; 9], Expect::Absent),
    ];
    store.commit(writes).await.unwrap();
    store.close().await.unwrap();
}

fn lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b == b'\n').count()
}

fn files(directory: &Path, found: &mut Vec<u8>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.is_file() {
            found.extend(std::fs::read(path).unwrap());
        }
    }
}

#[tokio::test]
async fn an_export_of_an_import_is_the_same_file() {
    let binary = Binary::new();
    fill(&binary.path("here")).await;
    let all = binary.run(&["export", "--data", "here"]).ok();
    assert_eq!(
        lines(&all),
        1 + 12 + (240 + 40 + 8) + (120 + 20 + 5) + 2 + 1
    );
    let imported = binary.run_with(&["import", "--data", "sled:there"], &all);
    assert!(imported.err.contains("12 sessions"), "{}", imported.err);
    assert!(imported.ok().is_empty());
    assert!(binary.run(&["export", "--data", "there"]).ok() == all);
    // Once more, from a file: all is there already.
    std::fs::write(binary.path("all.ndjson"), &all).unwrap();
    let again = binary.run(&["import", "--data", "there", "all.ndjson"]);
    assert!(
        again.err.contains("0 new, 14 there already"),
        "{}",
        again.err
    );
    again.ok();
    let checked = binary.run(&["verify", "--data", "there", "--json"]).text();
    let found: Value = serde_json::from_str(&checked).unwrap();
    assert_eq!(
        (&found["sessions"], &found["problem_count"]),
        (&12.into(), &0.into())
    );
    let table = binary.run(&["verify", "--data", "there"]).text();
    assert!(
        table.contains("messages                    288\n"),
        "{table}"
    );
}

#[tokio::test]
async fn a_part_is_exported_by_owner_and_by_time() {
    let binary = Binary::new();
    fill(&binary.path("d")).await;
    let ada = binary
        .run(&["export", "--data", "d", "--owner", "ada"])
        .text();
    assert!(ada.contains("words of ada") && !ada.contains("\"owner\":\"local\""));
    let since = ["export", "--data", "d", "--since", "2026-01-02"];
    let none = binary.run(&since).text();
    assert_eq!(none.matches("\"session\":{").count(), 0);
    assert_eq!(binary.run(&["export", "--since", "yesterday"]).code, 2);
}

#[tokio::test]
async fn a_damaged_or_truncated_file_is_refused_by_its_line() {
    let binary = Binary::new();
    fill(&binary.path("here")).await;
    let all = binary.run(&["export", "--data", "here"]).ok();
    let cut = &all[..all.len() / 2];
    let said = binary
        .run_with(&["import", "--data", "there"], cut)
        .refused(5);
    assert!(
        said.contains(&format!("line: {}", lines(cut) + 1)),
        "{said}"
    );
    let mut damaged = all.clone();
    let middle = all.len() / 3;
    damaged[middle] ^= 1;
    let said = binary
        .run_with(&["import", "--data", "there"], &damaged)
        .refused(5);
    assert!(
        said.contains(&format!("line: {}", lines(&all[..middle]) + 1)),
        "{said}"
    );
    // What is there is whole; the sound file does the rest.
    binary.run(&["verify", "--data", "there"]).ok();
    binary.run_with(&["import", "--data", "there"], &all).ok();
    assert!(binary.run(&["export", "--data", "there"]).ok() == all);
    let other = binary
        .run_with(&["import", "--data", "there"], b"{\"a\":1}\n")
        .refused(5);
    assert!(other.contains("line: 1"), "{other}");
}

#[tokio::test]
async fn what_is_there_and_differs_is_refused_unless_one_says_what_to_do() {
    let binary = Binary::new();
    fill(&binary.path("here")).await;
    let all = binary.run(&["export", "--data", "here"]).ok();
    let store = SledStore::open(binary.path("there")).await.unwrap();
    line(&store, "ada", "s3", 1).await;
    store.close().await.unwrap();
    drop(store);
    let said = binary
        .run_with(&["import", "--data", "there"], &all)
        .refused(5);
    assert!(
        said.contains("session: s3") && said.contains("line:"),
        "{said}"
    );
    let replace = ["import", "--data", "there", "--on-conflict", "replace"];
    let done = binary.run_with(&replace, &all);
    assert!(done.err.contains("1 replaced"), "{}", done.err);
    assert!(binary.run(&["export", "--data", "there"]).ok() == all);
}

#[tokio::test]
async fn a_backup_is_restored_into_an_empty_place_only() {
    let binary = Binary::new();
    fill(&binary.path("here")).await;
    let all = binary.run(&["export", "--data", "here"]).ok();
    let mut names = Vec::new();
    for _ in 0..3 {
        let printed = binary
            .run(&["backup", "--data", "here", "backups", "--keep", "2"])
            .text();
        names.push(printed.trim().to_owned());
    }
    assert!(!binary.path(&names[0]).exists());
    assert!(std::fs::read(binary.path(&names[2])).unwrap() == all);

    let restored = binary.run(&["restore", "backups", "--data", "there"]);
    assert!(restored.err.contains(&names[2]), "{}", restored.err);
    restored.ok();
    assert!(binary.run(&["export", "--data", "there"]).ok() == all);
    let said = binary
        .run(&["restore", "backups", "--data", "there"])
        .refused(1);
    assert!(said.contains("--replace"), "{said}");

    // A store that does not open any more is set aside.
    let data = binary.path("there/sled/db");
    std::fs::write(&data, vec![7; 4096]).unwrap();
    assert_eq!(binary.run(&["export", "--data", "there"]).code, 3);
    binary
        .run(&["restore", "backups", "--data", "there", "--replace"])
        .ok();
    assert!(binary.run(&["export", "--data", "there"]).ok() == all);

    // A damaged backup is not even begun.
    std::fs::write(binary.path(&names[1]), &all[..all.len() - 5]).unwrap();
    let said = binary
        .run(&["restore", &names[1], "--data", "new"])
        .refused(5);
    assert!(said.contains("cut off"), "{said}");
    assert!(!binary.path("new").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploaded_files_are_backed_up_once_and_restored_whole() {
    let binary = Binary::new();
    let server = binary.serve(&["--data", "d"]);
    let upload = async |name: &str, text: &str| {
        let form = crate::files::form(name, text.as_bytes());
        let told = form.send(server.address).await.expect(201);
        told["id"].as_str().unwrap().to_owned()
    };
    let backup = |more: &'static [&'static str]| {
        let args = [&["backup", "--data", "d", "backups"], more].concat();
        tokio::task::block_in_place(|| binary.run(&args).text().trim().to_owned())
    };
    let held = || {
        let mut found = Vec::new();
        files(&binary.path("backups/files"), &mut found);
        String::from_utf8(found).unwrap()
    };
    let first = upload("one.txt", "the first text").await;
    let one = backup(&[]);
    let second = upload("two.txt", "the second text").await;
    let gone = Request::new("DELETE", &format!("/api/files/{first}"));
    gone.send(server.address).await.expect_empty(204);
    let two = backup(&[]);
    // What was deleted meanwhile is still in the older backup.
    assert!(held().contains("the first text") && held().contains("the second text"));
    let restored = Binary::new();
    let from = |name: &str| binary.path(name).to_str().unwrap().to_owned();
    let said = restored.run(&["restore", &from(&one), "--data", "d"]);
    assert!(said.err.contains("1 uploaded files"), "{}", said.err);
    said.ok();
    let there = restored.serve(&["--data", "d"]);
    let path = format!("/api/files/{first}");
    let content = Request::get(&path).send(there.address).await;
    assert_eq!(content.text(), "the first text");
    drop(there);
    // What is replaced is set aside, with its files.
    let old = crate::files::form("old.txt", b"the old text");
    let there = restored.serve(&["--data", "d"]);
    old.send(there.address).await.expect(201);
    drop(there);
    let bytes_of = |directory: &str| {
        let mut found = Vec::new();
        files(&restored.path(directory), &mut found);
        String::from_utf8(found).unwrap()
    };
    let said = restored.run(&["restore", &from(&two), "--data", "d", "--replace"]);
    let aside = said
        .err
        .split_whitespace()
        .find(|word| word.contains("d-files.replaced"));
    let aside = aside.unwrap_or_else(|| panic!("{}", said.err)).to_owned();
    said.ok();
    assert!(bytes_of(&aside).contains("the old text"));
    assert_eq!(bytes_of("d-files"), "the second text");
    // Whose files are kept safe in another way needs them where they are.
    let bare = backup(&["--without-files"]);
    let said = restored.run(&["restore", &from(&bare), "--data", "d", "--replace"]);
    assert!(said.err.contains("have to be in d-files"), "{}", said.err);
    said.ok();
    assert_eq!(bytes_of("d-files"), "the second text");
    std::fs::remove_file(binary.path(&bare)).unwrap();
    // The oldest backup goes, and with it what only it had.
    let three = backup(&["--keep", "2"]);
    assert!(!binary.path(&one).exists());
    assert!(!held().contains("the first text") && held().contains("the second text"));
    assert_ne!(two, three);
    // A file that was changed is found before anything is written.
    let place = binary.path("backups/files/local").join(&second);
    std::fs::write(place, "the changed tex").unwrap();
    let said = restored
        .run(&["restore", &from(&three), "--data", "new"])
        .refused(5);
    assert!(said.contains("damaged"), "{said}");
    assert!(!restored.path("new").exists());
}

#[tokio::test]
async fn where_no_data_is_none_is_made() {
    let binary = Binary::new();
    for args in [
        &["export"][..],
        &["verify"],
        &["backup", "b"],
        &["compact"],
        &["users", "erase", "ada", "--yes"],
    ] {
        let said = binary.run(args).refused(2);
        assert!(
            said.contains("--data") && said.contains("neuro-tutor-data"),
            "{said}"
        );
    }
    assert_eq!(std::fs::read_dir(&binary).unwrap().count(), 0);
}

#[tokio::test]
async fn an_erased_owner_is_gone_and_after_compaction_from_the_files_too() {
    let binary = Binary::new();
    fill(&binary.path("d")).await;
    let others = binary
        .run(&["export", "--data", "d", "--owner", "local"])
        .ok();
    let said = binary
        .run(&["users", "erase", "ada", "--data", "d"])
        .refused(2);
    assert!(said.contains("--yes"), "{said}");
    let erased = binary.run(&["users", "erase", "ada", "--data", "d", "--yes"]);
    assert!(
        erased.err.contains("11 sessions and 1 records"),
        "{}",
        erased.err
    );
    erased.ok();
    binary.run(&["compact", "--data", "d"]).ok();
    assert!(
        binary
            .run(&["export", "--data", "d", "--owner", "local"])
            .ok()
            == others
    );
    let text = binary.run(&["export", "--data", "d"]).text();
    assert!(!text.contains("\"ada\"") && !text.contains("ada/"));
    let mut bytes = Vec::new();
    files(&binary.path("d"), &mut bytes);
    for canary in ["words of ada", "u-s3-1", "k-motley-0", "motley"] {
        let found = bytes.windows(canary.len()).any(|w| w == canary.as_bytes());
        assert!(!found, "{canary} is in the files");
    }
}

#[tokio::test]
async fn a_person_is_named_by_address_and_erased_for_good_and_what_is_nobodys_stays() {
    let (binary, from) = (Binary::new(), Binary::new());
    let add = ["users", "add", "ada@example.org", "--data", "d"];
    let password = b"a-long-enough-one-123\n";
    let id = String::from_utf8(binary.run_with(&add, password).ok()).unwrap();
    fill(&from.path("d")).await;
    let lines = from.run(&["export", "--data", "d", "--owner", "ada"]).ok();
    let import = ["import", "--data", "d", "--owner", "ada@example.org"];
    binary.run_with(&import, &lines).ok();

    let of = |who: &str| {
        binary
            .run(&["export", "--data", "d", "--owner", who])
            .text()
    };
    let theirs = of("Ada@example.org");
    assert_eq!(theirs, of(id.trim()));
    assert_eq!(theirs.matches("\"session\":{").count(), 11, "{theirs}");
    for nobody in ["signing", "bea@example.org"] {
        assert!(!of(nobody).contains("\"record\":{"), "{nobody}");
        let erase = ["users", "erase", nobody, "--data", "d", "--yes"];
        let said = binary.run(&erase).refused(1);
        assert!(said.contains("nothing of"), "{said}");
    }
    binary.run_with(&add, password).refused(5);
    let erase = ["users", "erase", "ada@example.org", "--data", "d", "--yes"];
    binary.run(&erase).ok();
    assert_eq!(binary.run(&["users", "list", "--data", "d"]).text(), "");
    binary.run(&erase).refused(1);
    // The address is free, and what tokens are signed with is what it was.
    binary.run_with(&add, password).ok();
    let all = binary.run(&["export", "--data", "d"]).text();
    assert!(!all.contains("words of ada") && all.contains("/signing"));
}

/// A server has the directory, and turns go on; the commands reach it by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_serves_data_is_exported_backed_up_verified_imported_and_erased() {
    let binary = Binary::new();
    fill(&binary.path("d")).await;
    let server = binary.serve(&["--data", "d"]);
    let (address, stop, turns) = (
        server.address,
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let going_on = {
        let (stop, turns) = (Arc::clone(&stop), Arc::clone(&turns));
        tokio::spawn(async move {
            let mut session = Value::Null;
            while !stop.load(Ordering::SeqCst) {
                let more = serde_json::json!({"session_id": session});
                let request = if session.is_null() {
                    Request::chat("What is light?")
                } else {
                    Request::chat_with("And then?", more)
                };
                session = request.send(address).await.expect(200)["session_id"].clone();
                turns.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    let acknowledged = loop {
        match turns.load(Ordering::SeqCst) {
            few @ 0..5 => drop((few, tokio::task::yield_now().await)),
            enough => break enough,
        }
    };
    let (first, backup) = tokio::task::block_in_place(|| {
        let first = binary.run(&["export", "--data", "d"]).ok();
        let printed = binary.run(&["backup", "--data", "d", "backups"]).text();
        binary.run(&["verify", "--data", "d"]).ok();
        (first, std::fs::read(binary.path(printed.trim())).unwrap())
    });
    for bytes in [first, backup] {
        let text = String::from_utf8(bytes.clone()).unwrap();
        // Whatever was answered before is in it.
        let asked = text.matches("What is light?").count() + text.matches("And then?").count();
        assert!(asked >= acknowledged, "{asked} of {acknowledged}");
        let copy = Binary::new();
        copy.run_with(&["import", "--data", "c"], &bytes).ok();
        copy.run(&["verify", "--data", "c"]).ok();
        assert!(copy.run(&["export", "--data", "c"]).ok() == bytes);
    }
    stop.store(true, Ordering::SeqCst);
    going_on.await.unwrap();

    let from = Binary::new();
    let store = SledStore::open(from.path("d")).await.unwrap();
    line(&store, "local", "from-elsewhere", 3).await;
    store.close().await.unwrap();
    drop(store);
    let more = from.run(&["export", "--data", "d"]).ok();
    binary.run_with(&["import", "--data", "d"], &more).ok();
    let path = "/api/sessions/from-elsewhere/messages";
    let messages = Request::get(path).send(address).await.expect(200);
    assert_eq!(messages["messages"].as_array().unwrap().len(), 6);
    let cut = &more[..more.len() - 9];
    let said = binary.run_with(&["import", "--data", "d"], cut).refused(5);
    assert!(said.contains("cut off"), "{said}");

    binary
        .run(&["users", "erase", "ada", "--data", "d", "--yes"])
        .ok();
    let left = binary.run(&["export", "--data", "d"]).text();
    assert!(!left.contains("\"ada\"") && !left.contains("ada/"));
    let locked = binary.run(&["compact", "--data", "d"]).refused(3);
    assert!(locked.contains("in use"), "{locked}");
    let refused = binary
        .run(&["restore", "backups", "--data", "d"])
        .refused(3);
    assert!(refused.contains("stop it"), "{refused}");
    drop(server);
    // What a killed server left is no obstacle.
    binary.run(&["verify", "--data", "d"]).ok();
}

#[tokio::test]
async fn a_server_is_reached_however_long_the_path_of_its_data_is() {
    let binary = Binary::new();
    let long = format!("{}/d", "a-directory-with-a-long-name/".repeat(8));
    fill(&binary.path(&long)).await;
    let _server = binary.serve(&["--data", &long]);
    binary.run(&["verify", "--data", &long]).ok();
}

/// On a terminal long work says how far it is; anywhere else nothing is drawn.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn progress_is_drawn_on_a_terminal_only() {
    let binary = Binary::new();
    fill(&binary.path("d")).await;
    let plain = binary.run(&["export", "--data", "d"]);
    assert!(!plain.err.contains("exporting:"), "{}", plain.err);
    std::fs::write(binary.path("all.ndjson"), plain.ok()).unwrap();
    let work = [
        ("export --data d > again.ndjson", "exporting: "),
        ("verify --data d", "verifying: "),
        ("backup --data d backups", "backing up: "),
        ("import --data new all.ndjson", "importing "),
        ("compact --data d", "compacting: "),
    ];
    for (command, said) in work {
        // `script` runs it on a terminal of its own.
        let line = format!("{} {command}", env!("CARGO_BIN_EXE_neuro-tutor"));
        let output = std::process::Command::new("script")
            .args(["-q", "-e", "-c", &line, "/dev/null"])
            .current_dir(&binary)
            .env("TERM", "xterm")
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let drawn = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{command}: {drawn}");
        assert!(drawn.contains(said), "{command}: {drawn:?}");
    }
    let copy = std::fs::read(binary.path("again.ndjson")).unwrap();
    assert!(copy == std::fs::read(binary.path("all.ndjson")).unwrap());
}
