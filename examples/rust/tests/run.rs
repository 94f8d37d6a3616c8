//! Runs every example as its user would.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Command;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_quick_start_answers_twice_and_reads_the_conversation_again() {
    let directory = tempfile::tempdir().unwrap();
    let out = run(
        env!("CARGO_BIN_EXE_quickstart"),
        &[directory.path().to_str().unwrap()],
    );
    assert_eq!(
        out.lines()
            .filter(|line| line.starts_with("user: "))
            .count(),
        2,
        "{out}"
    );
    assert_eq!(
        out.lines()
            .filter(|line| line.starts_with("assistant: "))
            .count(),
        2,
        "{out}"
    );
}

#[test]
fn a_custom_provider_answers() {
    let out = run(env!("CARGO_BIN_EXE_custom_provider"), &[]);
    assert_eq!(out.trim(), "What do you think yourself? (1)");
}

#[test]
fn a_custom_store_sees_every_turn() {
    let out = run(env!("CARGO_BIN_EXE_custom_store"), &[]);
    assert_eq!(out.trim(), "1 turn begun, 1 ended");
}
