//! Places that exist and may not be used: what a user without rights is told.
//!
//! Whoever runs the tests may be allowed everything. Then the stores are opened by a process of
//! this test binary that is somebody else.

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tutor_core::conformance::sample::line;
use tutor_core::store::Location;

/// The URLs to open, each on a line of its own.
const URLS: &str = "PERMISSIONS_URLS";
const TEST: &str = "permissions::a_user_without_rights_is_told_which_place_may_not_be_used";

fn may(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn may_all(directory: &Path, of_directories: u32, of_files: u32) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            may_all(&path, of_directories, of_files);
        } else {
            may(&path, of_files);
        }
    }
    may(directory, of_directories);
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(work)
}

/// A store with a conversation.
fn fill(url: &str) {
    block_on(async {
        let store = url.parse::<Location>().unwrap().open().await.unwrap();
        line(&*store, "o", "s", 1).await;
        store.close().await.unwrap();
    });
}

/// Says what opening each of them gives.
fn open_all(urls: &str) {
    for url in urls.lines() {
        let opened = block_on(async {
            let store = url.parse::<Location>()?.open().await?;
            store.close().await
        });
        let said = match opened {
            Ok(()) => "opened".to_owned(),
            Err(error) => {
                let path = error.context_value("path").unwrap_or_default();
                format!("{} | {path} | {}", error.code(), error.message())
            }
        };
        let line = format!("@ {url} | {said}\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}

/// In a process with [`URLS`] set the one who opens. Without it its parent.
#[test]
fn a_user_without_rights_is_told_which_place_may_not_be_used() {
    if let Ok(urls) = env::var(URLS) {
        return open_all(&urls);
    }
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    may(root, 0o755);
    let locked = root.join("locked");
    fs::create_dir(&locked).unwrap();
    let (sled, database) = (root.join("sled"), root.join("files"));
    fill(&format!("sled:{}", sled.display()));
    fs::create_dir(&database).unwrap();
    let file = database.join("tutor.db");
    fill(&format!("sqlite:///{}", file.display()));
    // A file that may only be read, where files may be made.
    let open = root.join("open");
    fs::create_dir(&open).unwrap();
    let only_read = open.join("tutor.db");
    fs::copy(&file, &only_read).unwrap();
    may(&only_read, 0o444);
    may(&open, 0o777);
    may_all(&sled, 0o555, 0o444);
    may_all(&database, 0o555, 0o444);
    let closed = root.join("closed");
    fs::create_dir(&closed).unwrap();
    may(&closed, 0o000);
    may(&locked, 0o555);

    let url = |scheme: &str, path: &Path| format!("{scheme}{}", path.display());
    let urls = [
        url("sled:", &locked),
        url("sled:", &locked.join("new")),
        url("sled:", &sled),
        url("sled:", &closed.join("new")),
        url("sqlite:///", &locked.join("new.db")),
        url("sqlite:///", &file),
        url("sqlite:///", &only_read),
        url("sqlite:///", &closed.join("new.db")),
    ];
    // The build may lie where nobody else can read.
    let program = root.join("tests");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    may(&program, 0o755);
    let who = Command::new("id").arg("-u").output().unwrap().stdout;
    let mut command = if who == b"0\n" {
        let mut other = Command::new("setpriv");
        other
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program);
        other
    } else {
        Command::new(&program)
    };
    let output = command
        .args([TEST, "--exact", "--nocapture"])
        .env(URLS, urls.join("\n"))
        .current_dir(root)
        .output()
        .expect("this test needs setpriv when root runs it");
    let said = String::from_utf8(output.stdout).unwrap();
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said} {problems}");
    assert!(!problems.contains("panicked"), "{problems}");
    for url in &urls {
        let line = said.lines().find_map(|line| {
            let (_, rest) = line.split_once("@ ")?;
            rest.strip_prefix(&format!("{url} | "))
        });
        let parts: Vec<&str> = line.unwrap_or(&said).split(" | ").collect();
        let [code, path, message] = parts[..] else {
            panic!("{url}: {line:?} in {said}");
        };
        assert_eq!(code, "store_unavailable", "{url}: {line:?}");
        let (_, asked) = url.split_once(root.to_str().unwrap()).unwrap();
        let canonical = root.canonicalize().unwrap();
        let named = path.starts_with(root.to_str().unwrap())
            || path.starts_with(canonical.to_str().unwrap());
        assert!(named && path.contains(asked), "{url}: {line:?}");
        assert!(message.contains("permissions"), "{url}: {line:?}");
    }
    may(&closed, 0o755);
    may_all(root, 0o755, 0o644);
}
