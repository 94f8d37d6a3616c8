//! Who may know what: the dependency rules, checked on what cargo resolves.

use std::process::Command;

/// The names of all packages that a package is built with.
fn tree(package: &str, features: &[&str]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO"));
    command.args([
        "tree",
        "--locked",
        "--offline",
        "-e",
        "normal",
        "--prefix",
        "none",
        "-f",
        "{p}",
        "-p",
        package,
    ]);
    command.arg("--no-default-features");
    if !features.is_empty() {
        command.args(["--features", &features.join(",")]);
    }
    let output = command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

fn assert_none(tree: &[String], forbidden: &[&str]) {
    let found: Vec<_> = tree
        .iter()
        .filter(|name| forbidden.contains(&name.as_str()))
        .collect();
    assert!(found.is_empty(), "must not depend on {found:?}");
}

const HTTP: &[&str] = &[
    "reqwest",
    "hyper",
    "axum",
    "rustls",
    "ring",
    "aws-lc-rs",
    "aws-lc-sys",
    "openssl",
    "native-tls",
];

#[test]
fn the_core_without_features_has_no_backend_and_no_http() {
    let tree = tree("tutor-core", &[]);
    assert!(tree.contains(&"tokio".to_owned()));
    assert_none(
        &tree,
        &[
            "sled",
            "sqlx",
            "redis",
            "pyo3",
            "napi",
            "clap",
            "tracing-subscriber",
        ],
    );
    assert_none(&tree, HTTP);
}

#[test]
fn the_embedded_store_adds_no_http() {
    let tree = tree("tutor-core", &["store-sled"]);
    assert!(tree.contains(&"sled".to_owned()));
    assert_none(&tree, HTTP);
}

#[test]
fn a_provider_adds_http_without_c_tool_chains_and_no_server() {
    let tree = tree("tutor-core", &["provider-openai", "provider-anthropic"]);
    assert!(tree.contains(&"reqwest".to_owned()));
    assert_none(
        &tree,
        &[
            "axum",
            "aws-lc-rs",
            "aws-lc-sys",
            "openssl",
            "native-tls",
            "sled",
        ],
    );
}

#[test]
fn nothing_points_up_and_nothing_points_sideways() {
    assert_none(
        &tree("tutor-core", &[]),
        &["tutor-http", "neuro-tutor-python", "neuro-tutor-node"],
    );
    assert_none(
        &tree("tutor-http", &[]),
        &["pyo3", "napi", "aws-lc-rs", "aws-lc-sys", "openssl"],
    );
}
