//! What no compiler checks: sizes, names, and what the sources must not say.

use std::fs;
use std::path::{Path, PathBuf};

/// The longest file, without its trailing unit tests, in lines.
const MAX_LINES: usize = 600;

/// What a checkout holds besides the project itself.
const GENERATED: &[&str] = &[
    "target",
    ".git",
    ".venv",
    ".work",
    "node_modules",
    "neuro-tutor-data",
    "coverage",
    "native",
    "dist",
    "fixtures",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if GENERATED.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn sources(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(&root(), &mut found);
    found
        .into_iter()
        .filter(|path| {
            path.extension()
                .is_some_and(|e| extensions.contains(&&*e.to_string_lossy()))
        })
        .filter_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text)))
        .collect()
}

#[test]
fn no_source_file_is_longer_than_600_lines() {
    for (path, text) in sources(&["rs", "py", "ts"]) {
        if path.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let body = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default();
        let lines = body.lines().count();
        assert!(
            lines <= MAX_LINES,
            "{} has {lines} lines: split it",
            path.display()
        );
    }
}

#[test]
fn nothing_is_ignored_skipped_or_left_to_do() {
    let marks = [
        ["#[ign", "ore"],
        ["todo", "!("],
        ["unimpl", "emented!("],
        ["TO", "DO"],
        ["FIX", "ME"],
        ["pytest.mark.", "skip"],
        ["test.", "skip("],
    ];
    for (path, text) in sources(&["rs", "py", "ts", "mjs", "toml", "md"]) {
        for mark in marks.map(|halves| halves.concat()) {
            assert!(!text.contains(&mark), "{} says {mark}", path.display());
        }
    }
}

#[test]
fn every_source_file_says_what_it_is() {
    for (path, text) in sources(&["rs"]) {
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("//!") || first.starts_with("#!["),
            "{} begins with {first:?}",
            path.display()
        );
    }
}

#[test]
fn the_top_level_is_as_designed() {
    let folders = [
        "tutor-core",
        "tutor-http",
        "bindings",
        "examples",
        "benches",
        "docs",
        ".ci",
        ".git",
        "target",
        ".venv",
        ".work",
        "neuro-tutor-data",
        "node_modules",
        "coverage",
    ];
    for entry in fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            let name = entry.file_name().into_string().unwrap();
            assert!(
                folders.contains(&name.as_str()) || name.starts_with('.'),
                "{name} is not part of the design"
            );
        }
    }
}
