//! Every body among the fixtures, cut everywhere: what the parsers make of it.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

use super::{Delta, ProviderKind};
use crate::conformance::traffic;

struct Fixture {
    file: String,
    kind: ProviderKind,
    body: Vec<u8>,
    expect: Value,
    split_at: Vec<usize>,
}

fn kind(protocol: &str) -> ProviderKind {
    match protocol {
        "anthropic" => ProviderKind::Anthropic,
        "openai_chat" => ProviderKind::OpenAi,
        "openai_responses" => ProviderKind::OpenAiResponses,
        "gemini" => ProviderKind::Gemini,
        "ollama" => ProviderKind::Ollama,
        other => panic!("{other} is no protocol"),
    }
}

fn fixtures() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/providers");
    let read = |path: PathBuf| {
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let index: Value = serde_json::from_slice(&read(root.join("expected.json"))).unwrap();
    let bodies = index["fixtures"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["kind"] != "http_response");
    bodies
        .map(|it| {
            let file = it["file"].as_str().unwrap().to_owned();
            let body = read(root.join(&file));
            assert_eq!(body.len() as u64, it["bytes"], "{file} was damaged");
            let split_at = it["split_at"].as_array().cloned().unwrap_or_default();
            Fixture {
                kind: kind(it["protocol"].as_str().unwrap()),
                body,
                expect: it["expect"].clone(),
                split_at: split_at
                    .iter()
                    .map(|at| usize::try_from(at.as_u64().unwrap()).unwrap())
                    .collect(),
                file,
            }
        })
        .collect()
}

/// What one run gave, signs of life left out.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    deltas: Vec<Delta>,
    text: String,
    fault: Option<String>,
}

impl Outcome {
    fn is_finished(&self) -> bool {
        matches!(self.deltas.last(), Some(Delta::Finished { .. }))
    }
}

fn run(fixture: &Fixture, chunks: &[&[u8]]) -> Outcome {
    let (mut deltas, mut fault) = (Vec::new(), None);
    for item in traffic::read(fixture.kind, chunks.iter().copied()) {
        match item {
            Ok(delta) => deltas.push(delta),
            Err(error) => fault = error.context_value("reason").map(str::to_owned),
        }
    }
    let finishes = deltas
        .iter()
        .filter(|delta| matches!(delta, Delta::Finished { .. }))
        .count();
    assert_eq!(
        finishes,
        usize::from(fault.is_none()),
        "{}: {deltas:?}",
        fixture.file
    );
    let mut outcome = Outcome {
        fault,
        ..Outcome::default()
    };
    for delta in &deltas {
        match delta {
            Delta::Text(text) => outcome.text.push_str(text),
            Delta::Restart { .. } => outcome.text.clear(),
            _ => {}
        }
    }
    outcome.deltas = deltas;
    outcome
}

#[test]
fn the_same_body_in_any_chunks_gives_the_same_deltas() {
    for fixture in fixtures() {
        let whole = run(&fixture, &[&fixture.body]);
        assert_eq!(
            whole.text,
            fixture.expect["text"].as_str().unwrap_or_default(),
            "{}",
            fixture.file
        );
        assert_eq!(
            whole.is_finished(),
            fixture.expect["outcome"] == "ok",
            "{}: {whole:?}",
            fixture.file
        );
        for size in [1, 7] {
            let chunks: Vec<_> = fixture.body.chunks(size).collect();
            assert_eq!(run(&fixture, &chunks), whole, "{} by {size}", fixture.file);
        }
        for at in &fixture.split_at {
            let (first, second) = fixture.body.split_at(*at);
            assert_eq!(
                run(&fixture, &[first, second]),
                whole,
                "{} cut at {at}",
                fixture.file
            );
        }
    }
}

#[test]
fn a_body_that_ends_early_is_finished_only_if_its_protocol_said_so() {
    for fixture in fixtures() {
        let whole = run(&fixture, &[&fixture.body]);
        for end in 0..fixture.body.len() {
            let part = &fixture.body[..end];
            let outcome = run(&fixture, &[part]);
            if !outcome.is_finished() {
                continue;
            }
            assert!(
                whole.is_finished(),
                "{} up to {end}: {outcome:?}",
                fixture.file
            );
            assert!(
                whole.text.starts_with(&outcome.text),
                "{} up to {end}: {outcome:?}",
                fixture.file
            );
            let said = String::from_utf8_lossy(part);
            let has = |key: &str| {
                said.match_indices(key).any(|(at, key)| {
                    let value = said[at + key.len()..].trim_start_matches([':', ' ']);
                    value.starts_with('"') && value.contains('}')
                })
            };
            let complete = match fixture.kind {
                ProviderKind::Anthropic => said.contains("\"message_stop\"}"),
                ProviderKind::OpenAiResponses => {
                    said.contains("response.completed") || said.contains("response.incomplete")
                }
                ProviderKind::Gemini => has("\"finishReason\""),
                ProviderKind::Ollama => said.contains("\"done\":true"),
                _ => has("\"finish_reason\""),
            };
            assert!(complete, "{} up to {end}: {outcome:?}", fixture.file);
        }
    }
}

#[test]
fn garbage_never_panics_and_never_finishes() {
    for fixture in fixtures() {
        for at in (0..fixture.body.len()).step_by(3) {
            let mut body = fixture.body.clone();
            body[at] ^= 0x55;
            run(&fixture, &[&body]);
        }
        let noise: Vec<u8> = fixture.body.iter().rev().copied().collect();
        assert!(!run(&fixture, &[&noise]).is_finished(), "{}", fixture.file);
    }
}

/// What happens to a body on its way.
#[derive(Clone, Debug)]
enum Damage {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Delete(Index, usize),
    Repeat(Index, usize),
    End(Index),
    /// The rest is that of another body.
    Splice(Index, Index, Index),
}

/// What has a meaning somewhere.
const PIECES: &[&[u8]] = &[
    b"\n\n",
    b"\r",
    b"data: ",
    b"[DONE]",
    b"null",
    b"{",
    b"}",
    b"[",
    b"\"",
    b"\\",
    b"\\ud83d",
    b"-1",
    b"1e400",
    b"error",
    b"event: error\n",
    b"\xEF\xBB\xBF",
];

fn damage() -> impl Strategy<Value = Damage> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..8),
        proptest::sample::select(PIECES).prop_map(<[u8]>::to_vec),
    ];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (any::<Index>(), piece).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (any::<Index>(), 1..64usize).prop_map(|(at, length)| Damage::Delete(at, length)),
        (any::<Index>(), 1..512usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
        any::<Index>().prop_map(Damage::End),
        (any::<Index>(), any::<Index>(), any::<Index>())
            .prop_map(|(at, other, from)| Damage::Splice(at, other, from)),
    ]
}

fn damaged(mut body: Vec<u8>, damages: &[Damage], corpus: &[Fixture]) -> Vec<u8> {
    for damage in damages {
        let length = body.len();
        let place = |at: &Index| at.index(length + 1);
        match damage {
            Damage::Replace(at, byte) if length > 0 => body[at.index(length)] = *byte,
            Damage::Replace(..) => {}
            Damage::Insert(at, bytes) => {
                let at = place(at);
                body.splice(at..at, bytes.iter().copied());
            }
            Damage::Delete(at, count) => {
                let at = place(at);
                body.drain(at..length.min(at + count));
            }
            Damage::Repeat(at, count) => {
                let at = place(at);
                let again = body[at..length.min(at + count)].to_vec();
                body.splice(at..at, again);
            }
            Damage::End(at) => body.truncate(place(at)),
            Damage::Splice(at, other, from) => {
                let other = &corpus[other.index(corpus.len())].body;
                body.truncate(place(at));
                body.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
    }
    body
}

#[test]
fn a_damaged_body_ends_once_and_the_same_in_any_chunks() {
    let corpus = fixtures();
    let damages = proptest::collection::vec(damage(), 1..4);
    let plan = (any::<Index>(), damages, 1..200usize);
    let config = ProptestConfig::with_cases(1024);
    proptest!(config, |((which, damages, size) in plan)| {
        let fixture = &corpus[which.index(corpus.len())];
        let body = damaged(fixture.body.clone(), &damages, &corpus);
        let whole = run(fixture, &[&body]);
        let chunks: Vec<_> = body.chunks(size).collect();
        prop_assert_eq!(run(fixture, &chunks), whole, "{}", fixture.file);
    });
}
