//! `neuro-tutor doctor` and `neuro-tutor config`, as their users run them.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tutor_core::conformance::upstream::{Act, Upstream, event_stream, json_response};

use crate::binary::Binary;
use crate::services;

/// The exit code, and what was printed on standard output and standard error.
async fn run(binary: &Binary, arguments: &[&str]) -> (i32, String, String) {
    let mut command = binary.command(arguments);
    command.env("OLLAMA_HOST", "off");
    if arguments[0] == "doctor" && !arguments.contains(&"--port") {
        // Other tests may have the usual one.
        command.env("PORT", "0");
    }
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

fn directory(toml: &str) -> Binary {
    let binary = Binary::new();
    std::fs::write(binary.path("neuro-tutor.toml"), toml).unwrap();
    binary
}

fn line<'a>(text: &'a str, words: &str) -> &'a str {
    let line = text.lines().find(|line| line.contains(words));
    line.unwrap_or_else(|| panic!("{words:?} is not in {text}"))
}

fn answer() -> Vec<Act> {
    let chunk =
        json!({"choices": [{"index": 0, "delta": {"content": "OK"}, "finish_reason": "stop"}]});
    vec![Act::Send(event_stream(format!(
        "data: {chunk}\n\ndata: [DONE]\n\n"
    )))]
}

fn refusal(status: u16, code: &str) -> Vec<Act> {
    let error = json!({"error": {"message": "canary", "code": code}});
    vec![Act::Send(json_response(status, &error))]
}

#[tokio::test]
async fn a_healthy_set_up_is_told_line_by_line() {
    let upstream = Upstream::start([answer()]).await.unwrap();
    let directory = directory(&format!(
        "[providers.main]\nkind = 'openai'\nkey = ['canary-1', 'canary-2']\nbase_url = '{}'\n\
         default_model = 'tiny'\n",
        upstream.url()
    ));
    let (code, out, err) = run(&directory, &["doctor"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(line(&out, "clock").starts_with("ok"));
    assert!(line(&out, "data sled:").ends_with("can be opened and written"));
    assert!(line(&out, "permissions of").starts_with("ok"), "{out}");
    assert!(
        line(&out, "files neuro-tutor-data-files").starts_with("ok"),
        "{out}"
    );
    assert!(line(&out, "main, key 1 of 2").contains("tiny answers"));
    assert!(line(&out, "main, key 2 of 2").starts_with("ok"));
    assert!(line(&out, "neuro-tutor.toml").starts_with("note"), "{out}");
    assert_eq!(upstream.requests().len(), 2);
    assert!(!out.contains("canary"), "{out}");
}

/// The URL of a server that answers anything in plain text.
async fn speaks_no_tls() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
            socket.write_all(answer).await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn every_failure_is_explained_and_the_exit_code_tells() {
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let start = |script| Upstream::start([script]);
    let auth = start(refusal(401, "invalid_api_key")).await.unwrap();
    let quota = start(refusal(429, "insufficient_quota")).await.unwrap();
    let model = start(refusal(404, "model_not_found")).await.unwrap();
    let plain = speaks_no_tls().await;
    for (url, words) in [
        (
            "http://no-such-host.invalid".to_owned(),
            "DNS: no-such-host.invalid has no address",
        ),
        (closed, "refused: nothing listens at 127.0.0.1"),
        (plain, "TLS: no trusted connection"),
        (auth.url(), "auth: the key is refused"),
        (quota.url(), "quota: the account has no credit left"),
        (model.url(), "model: there is no tiny"),
    ] {
        let directory = directory(&format!(
            "data = 'memory:'\n[providers.main]\nkind = 'openai'\nkey = 'canary'\n\
             base_url = '{url}'\ndefault_model = 'tiny'\n"
        ));
        let (code, out, err) = run(&directory, &["doctor"]).await;
        let line = line(&out, "provider main");
        assert!(line.starts_with("FAIL") && line.contains(words), "{line}");
        assert_eq!(code, 1, "{out}{err}");
        assert!(
            !out.contains("canary") && !err.contains("canary"),
            "{out}{err}"
        );
    }
}

#[tokio::test]
async fn data_that_cannot_be_used_and_a_wrong_configuration_have_codes_of_their_own() {
    let unusable = directory("data = 'sled:./file/data'\n");
    std::fs::write(unusable.path("file"), "").unwrap();
    let (code, out, _) = run(&unusable, &["doctor"]).await;
    assert_eq!(code, 3, "{out}");
    assert!(line(&out, "data sled:").starts_with("FAIL"));
    assert!(line(&out, "provider demo").contains("OPENAI_API_KEY"));
    let wrong = directory("prot = 1\n");
    let (code, _, err) = run(&wrong, &["doctor"]).await;
    assert_eq!(code, 2);
    assert!(err.contains("did you mean port?"), "{err}");
}

#[tokio::test]
async fn the_effective_settings_are_printed_with_their_places() {
    let directory = directory("port = 1\n[providers.openai]\nkey = 'canary'\n");
    let (code, out, err) = run(&directory, &["config", "--host", "::1"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(line(&out, "host = ").ends_with("# --host"), "{out}");
    assert!(
        line(&out, "port = 1").ends_with("# ./neuro-tutor.toml"),
        "{out}"
    );
    assert!(line(&out, "data = ").ends_with("# default"), "{out}");
    assert_eq!(line(&out, "key = \""), "key = \"<redacted>\"");
    assert!(!out.contains("canary"), "{out}");
    let other = directory.path("other.toml");
    std::fs::write(&other, "port = 2\n").unwrap();
    let (_, out, _) = run(&directory, &["config", "--config", "other.toml"]).await;
    assert!(line(&out, "port = 2").ends_with("# other.toml"), "{out}");
}

#[tokio::test]
async fn redis_is_tried_and_told_without_its_password() {
    let offline = ["doctor", "--offline"];
    let lost = directory("redis = 'redis://:canary@127.0.0.1:1'\nlease_seconds = 5\n");
    let (code, out, err) = run(&lost, &offline).await;
    assert_eq!(code, 1, "{out}{err}");
    let told = line(&out, "redis redis://127.0.0.1:1");
    assert!(
        told.starts_with("FAIL") && told.contains("refused"),
        "{told}"
    );
    assert!(!format!("{out}{err}").contains("canary"));
    let (_, shown, _) = run(&lost, &["config"]).await;
    assert!(line(&shown, "redis = ").contains("redis://127.0.0.1:1"));
    assert!(line(&shown, "lease_seconds = 5").contains("neuro-tutor.toml"));
    assert!(!shown.contains("canary"));
    // It answers, and nobody can share the data of an embedded store.
    let alone = directory(&format!("redis = '{}'\n", services::redis()));
    let (code, out, _) = run(&alone, &offline).await;
    assert_eq!(code, 0, "{out}");
    assert!(line(&out, "redis redis://").starts_with("note"), "{out}");
    for (wrong, what) in [
        ("redis = 'canary'", "redis in"),
        ("lease_seconds = 1", "lease_seconds"),
    ] {
        let (code, out, err) = run(&directory(wrong), &offline).await;
        assert_eq!(code, 2, "{out}{err}");
        assert!(err.contains(what) && !err.contains("canary"), "{err}");
    }
}

#[tokio::test]
async fn what_would_keep_a_server_from_starting_is_found() {
    for (arguments, code, what, words) in [
        (
            &["--tls-certificate", "lost.pem", "--tls-key", "lost.key"][..],
            2,
            "certificate lost.pem",
            "lost.pem cannot be read",
        ),
        (&["--host", "0.0.0.0"], 2, "address 0.0.0.0", "--auth"),
        (
            &["--host", "nope.invalid"],
            4,
            "address nope.invalid",
            "--host",
        ),
        (
            &["--metrics-listen", "203.0.113.1:0"],
            4,
            "metrics at 203.0.113.1",
            "--metrics-listen",
        ),
        (&["--default-provider", "nobody"], 2, "settings", "nobody"),
    ] {
        let directory = directory("data = 'memory:'\n");
        let (serve, ..) = run(&directory, &[&["serve", "--port", "0"], arguments].concat()).await;
        assert_eq!(serve, code, "{arguments:?}");
        let (found, out, err) =
            run(&directory, &[&["doctor", "--offline"], arguments].concat()).await;
        assert_eq!(found, code, "{arguments:?}: {out}{err}");
        let line = line(&out, what);
        assert!(line.starts_with("FAIL") && line.contains(words), "{line}");
    }
}

#[tokio::test]
async fn a_port_that_a_server_has_is_fine_and_one_that_another_program_has_is_not() {
    let directory = directory("data = 'memory:'\n");
    let server = directory.serve(&["--metrics-listen", "127.0.0.1:0"]);
    let doctor = async |port: u16, watched: &str| {
        let port = port.to_string();
        let told = [
            "doctor",
            "--offline",
            "--port",
            &port,
            "--metrics-listen",
            watched,
        ];
        run(&directory, &told).await
    };
    let watched = server.watched.unwrap().to_string();
    let (code, out, err) = doctor(server.address.port(), &watched).await;
    assert_eq!(code, 0, "{out}{err}");
    for what in ["address 127.0.0.1", "metrics at 127.0.0.1"] {
        let line = line(&out, what);
        assert!(
            line.starts_with("note") && line.contains("in use"),
            "{line}"
        );
    }
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (code, out, _) = doctor(other.local_addr().unwrap().port(), "127.0.0.1:0").await;
    assert_eq!(code, 4, "{out}");
    let line = line(&out, "address 127.0.0.1");
    assert!(line.contains("another program listens there"), "{line}");
}
