//! What a command did, as JSON.

use serde_json::{Value, json};
use tutor_core::Error;
use tutor_core::store::verify::Verified;
use tutor_core::transfer::Imported;

/// An error's sentence and facts on one line.
pub fn sentence(error: &Error) -> String {
    let facts: Vec<_> = error.context().map(|(k, v)| format!("{k}: {v}")).collect();
    match facts.as_slice() {
        [] => error.message().to_owned(),
        facts => format!("{} ({})", error.message(), facts.join(", ")),
    }
}

/// What was found in a store.
pub fn verified(found: &Verified) -> Value {
    let problems: Vec<String> = found.all_problems().map(sentence).collect();
    json!({
        "owners": found.owners,
        "sessions": found.sessions,
        "messages": found.messages,
        "turns": found.turns,
        "running_turns": found.running_turns,
        "idempotency_keys": found.idempotency_keys,
        "records": found.records,
        "entries": found.storage.entries,
        "busy": found.busy,
        "problem_count": found.problems.count() + found.storage.problems.count(),
        "problems": problems,
    })
}

/// What was imported.
pub fn imported(done: &Imported) -> Value {
    json!({
        "sessions": done.read.sessions,
        "messages": done.read.messages,
        "turns": done.read.turns,
        "records": done.read.records,
        "added": done.added,
        "unchanged": done.unchanged,
        "replaced": done.replaced,
        "kept": done.kept,
        "left_out": done.left_out,
        "files": done.files,
    })
}
