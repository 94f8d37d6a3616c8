//! Every body among the fixtures, cut everywhere: what the parsers make of it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Delta;
use super::anthropic::stream::MessageStream;
use super::fault::{Failure, Fault};
use super::gemini::stream::ContentStream;
use super::http::Media;
use super::ollama;
use super::openai::stream::ChatStream;
use super::reply::{Progress, Protocol, Reply};
use super::responses::stream::ResponseStream;

struct Fixture {
    file: String,
    protocol: String,
    body: Vec<u8>,
    expect: Value,
    split_at: Vec<usize>,
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
                protocol: it["protocol"].as_str().unwrap().to_owned(),
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
    fault: Option<Fault>,
}

impl Outcome {
    fn is_finished(&self) -> bool {
        matches!(self.deltas.last(), Some(Delta::Finished { .. }))
    }
}

fn feed<P: Protocol>(protocol: P, chunks: &[&[u8]]) -> (Vec<Delta>, Result<(), Failure>) {
    let (mut reply, mut out) = (Reply::new(protocol, Media::EventStream), Vec::new());
    for chunk in chunks {
        match reply.push(chunk, &mut out) {
            Ok(Progress::Ended) => return (out, Ok(())),
            Ok(_) => {}
            Err(failure) => return (out, Err(failure)),
        }
    }
    let end = reply.finish(&mut out);
    (out, end)
}

fn run(fixture: &Fixture, chunks: &[&[u8]]) -> Outcome {
    let (deltas, end) = match fixture.protocol.as_str() {
        "anthropic" => feed(MessageStream::default(), chunks),
        "openai_chat" => feed(ChatStream::default(), chunks),
        "openai_responses" => feed(ResponseStream::default(), chunks),
        "gemini" => feed(ContentStream::default(), chunks),
        "ollama" => feed(ollama::stream::ChatStream::default(), chunks),
        other => panic!("{other} is no protocol"),
    };
    let deltas: Vec<Delta> = deltas
        .into_iter()
        .filter(|delta| *delta != Delta::Heartbeat)
        .collect();
    let finishes = deltas
        .iter()
        .filter(|delta| matches!(delta, Delta::Finished { .. }))
        .count();
    assert_eq!(
        finishes,
        usize::from(end.is_ok()),
        "{}: {deltas:?}",
        fixture.file
    );
    let mut outcome = Outcome {
        fault: end.err().map(|failure| failure.fault()),
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
            let complete = match fixture.protocol.as_str() {
                "anthropic" => said.contains("\"message_stop\"}"),
                "openai_responses" => {
                    said.contains("response.completed") || said.contains("response.incomplete")
                }
                "gemini" => has("\"finishReason\""),
                "ollama" => said.contains("\"done\":true"),
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
