//! The promises in `tests/matrix.md` are all there, and so are the tests that keep them.

use std::collections::BTreeMap;
use std::path::Path;

/// The rows, by their ids: the promise, and what is said of its tests.
fn rows(text: &str) -> Vec<(&str, &str, &str)> {
    let lines = text.lines().filter(|line| line.starts_with("| S"));
    lines
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split(" | ").collect();
            let [id, promise, tests] = cells[..] else {
                panic!("three cells: {line}");
            };
            (id.trim(), promise.trim(), tests.trim())
        })
        .collect()
}

#[test]
fn every_promise_is_there_and_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("tutor-http/tests/matrix.md")).unwrap();
    let rows = rows(&text);
    let ids: Vec<_> = rows.iter().map(|(id, ..)| (*id).to_owned()).collect();
    let expected: Vec<_> = (1..=120).map(|n| format!("S{n:02}")).collect();
    assert_eq!(ids, expected);
    let mut sources = BTreeMap::new();
    for (id, promise, tests) in rows {
        assert!(promise.len() > 10, "{id} promises nothing");
        let reason = ["not applicable: ", "untested: "];
        if let Some(why) = reason.iter().find_map(|word| tests.strip_prefix(word)) {
            assert!(why.len() > 3, "{id}: why?");
            continue;
        }
        for test in tests.split(", ") {
            let named = test.strip_prefix('`').and_then(|t| t.strip_suffix('`'));
            let (path, name) = named
                .and_then(|named| named.split_once("::"))
                .unwrap_or_else(|| panic!("{id}: {test} is no test"));
            let source = sources
                .entry(path.to_owned())
                .or_insert_with(|| std::fs::read_to_string(root.join(path)).unwrap_or_default());
            let is_there = [format!("fn {name}("), format!("def {name}(")]
                .iter()
                .any(|signature| source.contains(signature));
            assert!(is_there, "{id}: there is no {name} in {path}");
        }
    }
}
