//! `neuro-tutor chat` where there is no terminal: lines in, replies out.

use std::path::Path;

use crate::binary::Binary;

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
