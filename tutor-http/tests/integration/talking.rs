//! `neuro-tutor chat` where there is no terminal: lines in, replies out.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;
use tutor_core::conformance::upstream::{Act, Upstream, event_stream, json_response};

use crate::binary::{Binary, Ended};

fn data(binary: &Binary, name: &str) -> String {
    binary.path(name).display().to_string()
}

#[test]
fn a_conversation_is_kept_listed_opened_and_gone_on_with() {
    let binary = Binary::new();
    let data = data(&binary, "d");
    let first = binary.run_with(
        &["chat", "--data", &data],
        b"What is photosynthesis?\n/title Plants\n/new\nHello\n/sessions\n/quit\nnever said\n",
    );
    let out = first.text();
    assert!(out.contains("Plants  (2 messages)"), "{out}");
    assert!(!out.contains("never said"), "{out}");

    let second = binary.run_with(
        &["chat", "--data", &data, "--last"],
        b"one line \\\nand another\n/history\n/retry\n/sessions\n/open 2\n",
    );
    let out = second.text();
    assert!(out.contains("> one line \nand another"), "{out}");
    assert!(out.contains("*  1"), "{out}");
    assert!(out.contains("> What is photosynthesis?"), "{out}");
    assert!(Path::new(&data).is_dir());
}

#[test]
fn one_question_on_the_command_line_is_one_answer() {
    let binary = Binary::new();
    let said = binary.run(&["chat", "--data", "memory:", "What", "is", "light?"]);
    let out = said.text();
    assert!(
        out.len() > 10 && out.ends_with('\n') && !out.contains('>'),
        "{out}"
    );
}

#[test]
fn what_goes_wrong_is_said_and_the_exit_code_tells() {
    let binary = Binary::new();
    for (args, input, code, word) in [
        (
            &["chat", "--data", "memory:"][..],
            &b"/opne 1\n"[..],
            1,
            "did you mean /open?",
        ),
        (
            &["chat", "--data", "memory:", "--session", "nobody"],
            b"",
            1,
            "session",
        ),
        (
            &[
                "chat",
                "--data",
                "memory:",
                "--model",
                "demo/x",
                "--provider",
                "no",
                "Hi",
            ],
            b"",
            1,
            "provider",
        ),
        (
            &["chat", "--url", "ftp://x"],
            b"",
            2,
            "http://localhost:8000",
        ),
        (
            &["chat", "--url", "http://127.0.0.1:9", "Hi"],
            b"",
            1,
            "is it running",
        ),
        (
            &["chat", "--data", "memory:", "--token", "x", "Hi"],
            b"",
            2,
            "--token",
        ),
        (
            &["chat", "--data", "memory:"],
            b"/open 7\n",
            1,
            "There is no conversation 7",
        ),
    ] {
        let ended = binary.run_with(args, input);
        assert_eq!(ended.code, code, "{args:?}: {}", ended.err);
        assert!(ended.err.contains(word), "{args:?}: {}", ended.err);
    }
}

#[test]
fn a_running_server_has_the_data_and_is_talked_through() {
    let binary = Binary::new();
    let server = binary.serve(&["--data", "d"]);
    let refused = binary.run(&["chat", "--data", "d", "Hi"]);
    assert_eq!(refused.code, 3, "{}", refused.err);
    assert!(refused.err.contains("--url"), "{}", refused.err);
    let url = format!("http://{}/", server.address);
    let talked = binary.run_with(
        &["chat", "--url", &url],
        b"What is gravity?\n/title Falling\n/retry\n/sessions\n/history\n",
    );
    let out = talked.text();
    assert!(out.contains("Falling  ("), "{out}");
    assert!(out.contains("> What is gravity?"), "{out}");
}

/// Says these lines without a pause between the words of a reply.
fn talk(binary: &Binary, args: &[&str], vars: &[(&str, &str)], lines: &str) -> Ended {
    let mut command = binary.command(&[&["chat"], args].concat());
    command.env("DEMO_DELAY_MS", "0").env("OLLAMA_HOST", "off");
    command.envs(vars.iter().copied());
    tokio::task::block_in_place(|| Binary::finish(command, lines.as_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_whose_reply_failed_is_asked_again_and_no_log_is_in_between() {
    let refusal = json!({"error": {"message": "no", "code": "invalid_api_key"}});
    let chunk =
        json!({"choices": [{"index": 0, "delta": {"content": "Yes."}, "finish_reason": "stop"}]});
    let failing = || vec![Act::Send(json_response(401, &refusal))];
    let reply = || {
        let events = format!("data: {chunk}\n\ndata: [DONE]\n\n");
        vec![Act::Send(event_stream(events))]
    };
    let lines = "Is it so?\n/retry\n/retry\n/history\n/retry\n/sessions\n";
    let check = |ended: Ended| {
        let out = String::from_utf8(ended.out).unwrap();
        // The two that failed are told to a script.
        assert_eq!(ended.code, 1, "{out}{}", ended.err);
        assert_eq!(ended.err.matches("error: ").count(), 2, "{}", ended.err);
        assert_eq!(out.matches("> Is it so?\nYes.\n").count(), 1, "{out}");
        assert_eq!(out.matches("Yes.").count(), 3, "{out}");
        assert!(!ended.err.contains("WARN"), "{}", ended.err);
    };
    let binary = Binary::new();
    let upstream = Upstream::start([failing(), failing(), reply()])
        .await
        .unwrap();
    let vars = [
        ("OPENAI_API_KEY", "k"),
        ("OPENAI_BASE_URL", &upstream.url()),
    ];
    check(talk(&binary, &["--data", "memory:"], &vars, lines));
    // The start of a server asks which models there are.
    let upstream = Upstream::start([failing(), failing(), failing(), reply()])
        .await
        .unwrap();
    let vars = [
        ("OPENAI_API_KEY", "k"),
        ("OPENAI_BASE_URL", &upstream.url()),
    ];
    let server = binary.serve_with(&["--data", "memory:"], &vars);
    while upstream.requests().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let url = format!("http://{}", server.address);
    check(talk(&binary, &["--url", &url], &[], lines));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_list_leaves_out_is_said_and_can_be_had() {
    let binary = Binary::new();
    let server = binary.serve(&["--data", "there"]);
    let url = format!("http://{}", server.address);
    let mut lines = String::new();
    for number in 1..=21 {
        writeln!(lines, "/new\nconversation {number}").unwrap();
    }
    for number in 1..=11 {
        writeln!(lines, "question {number}.").unwrap();
    }
    for place in [&["--data", "here"][..], &["--url", &url]] {
        talk(&binary, place, &[], &lines).ok();
        let short = talk(&binary, place, &[], "/open 1\n/sessions\n");
        for hint in ["/history all", "/sessions all"] {
            assert!(short.err.contains(hint), "{}", short.err);
        }
        let out = short.text();
        // Before the first number nothing was listed, and so it is.
        assert_eq!(out.matches(" 20  conversation 2 ").count(), 2, "{out}");
        assert!(!out.contains("> conversation 21"), "{out}");
        let long = talk(
            &binary,
            place,
            &[],
            "/sessions all\n/open 1\n/history all\n/open 21\n",
        );
        let hints = long.err.matches("all shows it").count();
        assert_eq!(hints, 1, "{}", long.err);
        let out = long.text();
        assert!(out.contains(" 21  conversation 1 "), "{out}");
        let (first, last) = (
            out.find("> conversation 21").unwrap(),
            out.rfind("> question 11.").unwrap(),
        );
        assert!(first < last, "{out}");
        assert!(out.contains("> conversation 1\n"), "{out}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_reply_that_cannot_be_written_is_no_success() {
    let binary = Binary::new();
    for words in [&["Hi"][..], &[]] {
        let mut command = binary.command(&[&["chat", "--data", "memory:"], words].concat());
        command.stdout(std::fs::File::create("/dev/full").unwrap());
        let ended = Binary::finish(command, b"Hi\n");
        assert_eq!(ended.code, 1, "{}", ended.err);
        let told = "standard output cannot be written";
        assert!(ended.err.contains(told), "{}", ended.err);
    }
}
