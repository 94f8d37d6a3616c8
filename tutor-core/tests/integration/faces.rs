//! Every public method of the engine has a name in each face, or a reason why not: what
//! `bindings/faces.json` says. The packages check that the names are there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

/// What is compared, and in which files its methods are.
const TYPES: [(&str, &[&str]); 4] = [
    (
        "Tutor",
        &[
            "src/tutor.rs",
            "src/tutor/feedback.rs",
            "src/tutor/instances.rs",
            "src/tutor/search.rs",
            "src/tutor/transfer.rs",
            "src/tutor/usage.rs",
        ],
    ),
    ("TutorBuilder", &["src/tutor/builder.rs"]),
    ("TurnStream", &["src/tutor/stream.rs"]),
    ("FilePlace", &["src/file/place.rs"]),
];

const FACES: [&str; 2] = ["python", "node"];

/// The public methods in the inherent `impl` blocks of a type.
fn methods(name: &str, source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut is_inside = false;
    for line in source.lines() {
        if !line.starts_with(' ') && !line.is_empty() {
            is_inside = line == format!("impl {name} {{") || (is_inside && line != "}");
        }
        let line = line.trim_start();
        let method = ["pub fn ", "pub async fn "];
        let rest = method.iter().find_map(|start| line.strip_prefix(start));
        if let Some(rest) = rest.filter(|_| is_inside) {
            let end = rest.find(['(', '<']).unwrap_or(rest.len());
            found.insert(rest[..end].to_owned());
        }
    }
    found
}

/// The members of a struct that are public.
fn fields(name: &str, source: &str) -> BTreeSet<String> {
    let start = source.find(&format!("pub struct {name} {{")).unwrap();
    let body = &source[start..];
    let body = &body[..body.find("\n}").unwrap()];
    let lines = body.lines().skip(1).map(str::trim_start);
    let members = lines.filter_map(|line| line.strip_prefix("pub ")?.split_once(':'));
    members.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn every_public_method_has_a_name_in_each_face_or_a_reason() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(core.join(path)).unwrap();
    let listed: BTreeMap<String, BTreeMap<String, Value>> =
        serde_json::from_str(&read("../bindings/faces.json")).unwrap();
    let mut expected: BTreeMap<&str, BTreeSet<String>> = TYPES
        .iter()
        .map(|(name, files)| {
            let found = files.iter().flat_map(|file| methods(name, &read(file)));
            (*name, found.collect())
        })
        .collect();
    let request = fields("ChatRequest", &read("src/turn.rs"));
    expected.insert("ChatRequest", request);
    let sizes: Vec<_> = expected.values().map(BTreeSet::len).collect();
    assert!(
        sizes.iter().all(|size| *size > 5),
        "found too little: {sizes:?}"
    );
    for (name, wanted) in expected {
        let known: BTreeSet<String> = listed[name].keys().cloned().collect();
        assert_eq!(known, wanted, "bindings/faces.json, {name}");
        for (method, faces) in &listed[name] {
            let faces = faces.as_object().unwrap();
            for face in FACES {
                let has_name = faces.get(face).is_some_and(Value::is_string);
                let has_reason = faces.get("reason").is_some_and(Value::is_string);
                assert!(
                    has_name || has_reason,
                    "{name}.{method} has no name in {face}, and no reason"
                );
            }
        }
    }
}
