//! The command line, run for real.

use crate::binary::Binary;
use crate::client::Request;

#[tokio::test]
async fn bare_and_named_it_serves() {
    let binary = Binary::new();
    let server = binary.serve(&["--data", "memory:"]);
    let body = Request::get("/").send(server.address).await.expect(200);
    assert_eq!(body["status"], "healthy");
    assert!(!binary.path("neuro-tutor-data").exists());
}

/// The variables of the table of settings, but for those that differ by a beginning alone.
fn documented_variables() -> Vec<String> {
    let readme = include_str!("../../README.md");
    let rows = readme.lines().filter(|line| line.starts_with("| `"));
    let columns = rows.filter_map(|row| row.split('|').nth(2));
    let names = columns.flat_map(|column| column.split('`').skip(1).step_by(2));
    let is_variable = |name: &&str| {
        let is_name = name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        is_name && !name.starts_with("KEY_") && !name.starts_with("ADDRESS_")
    };
    let names: Vec<_> = names.filter(is_variable).map(str::to_owned).collect();
    assert!(names.len() > 30, "{names:?}");
    names
}

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let binary = Binary::new();
    let help = binary.run(&["--help"]).text();
    for word in [
        "serve",
        "completions",
        "man",
        "--port",
        "Exit codes:",
        "Examples:",
        "DATABASE_URL",
    ] {
        assert!(help.contains(word), "no {word} in {help}");
    }
    for name in documented_variables() {
        assert!(help.contains(&name), "no {name} in {help}");
    }
    let serve = binary.run(&["serve", "--help"]).text();
    assert!(serve.contains("Exit codes:") && serve.contains("--data"));
}

#[test]
fn completions_and_manual_pages_are_made_for_every_command() {
    let binary = Binary::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = binary.run(&["completions", shell]).text();
        assert!(script.contains("completions"), "{shell}");
    }
    let page = binary.run(&["man"]).text();
    assert!(page.contains(".TH neuro-tutor 1"), "{page}");
    let page = binary.run(&["man", "serve"]).text();
    assert!(page.contains(".TH neuro-tutor-serve 1"), "{page}");
    let page = binary.run(&["man", "users", "add"]).text();
    assert!(page.contains(".TH neuro-tutor-users-add 1"), "{page}");
    assert!(page.contains("admin"), "{page}");
    let refused = binary.run(&["man", "users", "ad"]).refused(2);
    assert!(refused.contains("disable"), "{refused}");
    let refused = binary.run(&["man", "sevre"]).refused(2);
    assert!(refused.contains("serve"), "{refused}");
}

#[test]
fn what_cannot_be_done_is_said_in_one_line_with_its_exit_code() {
    let binary = Binary::new();
    std::fs::write(binary.path("file"), "").unwrap();
    for (args, code, word) in [
        (&["--data", "mysql://u:canary@h/d"][..], 2, "--data"),
        (&["--log-level", "loud"], 2, "--log-level"),
        (&["--data", "file", "--port", "0"], 2, "file"),
        (
            &["--host", "203.0.113.1", "--insecure-no-auth"],
            4,
            "--host",
        ),
        (&["--host", "0.0.0.0"], 2, "--insecure-no-auth"),
    ] {
        let said = binary.run(args).refused(code);
        assert!(said.contains(word) && !said.contains("canary"), "{said}");
    }
    assert_eq!(binary.run(&["--no-such-option"]).code, 2);
}
