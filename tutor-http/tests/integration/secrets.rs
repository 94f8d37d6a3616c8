//! What is secret is nowhere but where it has to be.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::binary::Binary;
use crate::client::{Request, Response};

/// What people and the operator type, and nobody may find.
const PASSWORD: &str = "canary correct horse";
const PROVIDER_KEY: &str = "sk-canary-provider-key";

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn contains(bytes: &[u8], what: &str) -> bool {
    memchr::memmem::find(bytes, what.as_bytes()).is_some()
}

#[tokio::test]
async fn data_backups_and_logs_contain_no_password_token_or_key() {
    let binary = Binary::new();
    for (data, backup) in [("sled", "of-sled"), ("sqlite:///./words.db", "of-sqlite")] {
        let (server, log) = binary.serve_logged(
            &["--data", data, "--auth", "required", "--log-level", "trace"],
            &[("OPENAI_API_KEY", PROVIDER_KEY), ("DEMO_DELAY_MS", "0")],
        );
        let post = async |path: &str, body: Value, token: &str| -> Response {
            let request = Request::post(path, &body);
            let request = request.header("authorization", &format!("Bearer {token}"));
            request.send(server.address).await
        };
        let account = json!({"email": "ada@example.org", "password": PASSWORD});
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let registered = post("/api/auth/register", account.clone(), "").await;
        let registered = registered.expect(201);
        let (access, refresh) = (
            text(&registered["access_token"]),
            text(&registered["refresh_token"]),
        );
        let key = json!({"name": "script", "scopes": ["read"]});
        let key = post("/api/keys", key, &access).await.expect(201);
        let key = text(&key["key"]);
        Request::get("/api/sessions")
            .header("authorization", &format!("Bearer {key}"))
            .send(server.address)
            .await
            .expect(200);
        let again = json!({"refresh_token": refresh});
        let again = post("/api/auth/refresh", again, "").await.expect(200);
        // Wrong ones are as secret: often they are right ones of somewhere else.
        let wrong = json!({"email": "ada@example.org", "password": "canary wrong horse"});
        post("/api/auth/login", wrong, "").await.expect(401);
        server.signal("TERM");
        assert_eq!(server.ended(), Some(0));
        let log: Vec<String> = log.iter().collect();
        let log = log.join("\n");
        binary.run(&["backup", "--data", data, backup]).ok();

        let mut places = files_below(binary.as_ref());
        places.retain(|path| path.is_file());
        assert!(
            places
                .iter()
                .any(|path| path.starts_with(binary.path(backup)))
        );
        let mut secrets = vec![
            ("the password", PASSWORD.to_owned()),
            ("a wrong password", "canary wrong horse".to_owned()),
            ("the provider's key", PROVIDER_KEY.to_owned()),
        ];
        for (name, token) in [
            ("the access token", &access),
            ("the refresh token", &refresh),
            ("the next refresh token", &text(&again["refresh_token"])),
            ("the API key", &key),
        ] {
            // Whole, and what of it cannot be known without it.
            let (_, secret) = token.rsplit_once('.').unwrap();
            secrets.push((name, token.clone()));
            secrets.push((name, secret.to_owned()));
        }
        for (name, secret) in &secrets {
            assert!(!contains(log.as_bytes(), secret), "{name} is in the log");
            for path in &places {
                let bytes = std::fs::read(path).unwrap();
                assert!(!contains(&bytes, secret), "{name} is in {}", path.display());
            }
        }
    }
}

/// What looks like a secret of a common kind.
fn looks_secret(text: &[u8]) -> Option<String> {
    for (beginning, length) in [
        ("-----BEGIN PRIVATE KEY-----\n", 20),
        ("-----BEGIN RSA PRIVATE KEY-----\n", 20),
        ("-----BEGIN EC PRIVATE KEY-----\n", 20),
        ("sk-ant-", 20),
        ("sk-proj-", 20),
        ("sk-svcacct-", 20),
        ("ghp_", 36),
        ("AKIA", 16),
        ("AIza", 35),
        ("xoxb-", 20),
    ] {
        for at in memchr::memmem::find_iter(text, beginning) {
            let rest = &text[at + beginning.len()..];
            let is_secret = |byte: &&u8| byte.is_ascii_alphanumeric() || b"-_+/".contains(byte);
            if rest.iter().take_while(is_secret).count() >= length {
                return Some(beginning.to_owned());
            }
        }
    }
    None
}

#[test]
fn the_binary_carries_no_key_of_anybody() {
    assert!(looks_secret(b"sk-ant-0123456789abcdef0123").is_some());
    assert!(looks_secret(b"the keys of sk-ant- are long").is_none());
    let binary = std::fs::read(env!("CARGO_BIN_EXE_neuro-tutor")).unwrap();
    assert_eq!(looks_secret(&binary), None);
}

/// Whether a process that aborts leaves a core dump behind, where dumps are wanted.
fn leaves_a_dump(script: &str, directory: &Path) -> bool {
    use std::os::unix::process::ExitStatusExt;
    let mut shell = Command::new("sh");
    let wanted = format!("ulimit -c unlimited && {script}");
    shell.args(["-c", &wanted]).current_dir(directory);
    let mut child = shell.stdout(std::process::Stdio::piped()).spawn().unwrap();
    if script.starts_with("exec") {
        use std::io::{BufRead, BufReader};
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("http://")));
        let pid = child.id().to_string();
        Command::new("kill").args(["-ABRT", &pid]).status().unwrap();
    }
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(6));
    status.core_dumped()
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_that_is_aborted_leaves_no_memory_behind() {
    let place = tempfile::tempdir().unwrap();
    // A machine may write no dumps at all: the server must not where it does.
    let is_usual = leaves_a_dump("kill -ABRT $$", place.path());
    let binary = env!("CARGO_BIN_EXE_neuro-tutor");
    let serve = format!("exec '{binary}' --port 0 --data memory:");
    let left = leaves_a_dump(&serve, place.path());
    assert!(!left, "a core dump was written; others are: {is_usual}");
}
