//! How much memory answers cost at most. Each kind of answer comes in a process of its own, whose
//! peak the system keeps.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt;
use tutor_core::Error;
use tutor_core::conformance::upstream::{Act, Upstream, event_stream};
use tutor_core::provider::{CompletionRequest, ProviderKind};

use super::again;
use super::hostility::{KINDS, config, response, said};

/// Names the kind of answers, in the environment of the process that reads them.
const ANSWERS: &str = "TUTOR_TEST_ANSWERS";
/// What begins the line with the result.
const MARK: &str = "@ peak KiB:";

/// The answers, and by how many MiB they may raise the peak. A document of 16 MiB is the largest
/// thing that is ever kept; while it grows, it is there once and a half, and the allocator of these
/// tests, which counts, copies it.
const KINDS_OF_ANSWERS: [(&str, usize); 6] = [
    ("bomb", 40),
    ("line", 40),
    ("document", 64),
    ("blank", 80),
    ("events", 24),
    ("reply", 48),
];

/// An answer of this kind that never ends, or whose end is far away.
fn script(answers: &str, kind: ProviderKind) -> Vec<Act> {
    let endless = |bytes: Vec<u8>| Act::Repeat(Duration::ZERO, bytes);
    let many = |piece: &str| endless(piece.repeat((256 << 10) / piece.len()).into_bytes());
    match answers {
        "bomb" => {
            let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
            for _ in 0..256 {
                bomb.write_all(&[b'0'; 1 << 20]).unwrap();
            }
            let head = "200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip";
            response(head, bomb.finish().unwrap())
        }
        "line" => vec![Act::Send(event_stream("data: ")), many("x")],
        "document" => vec![Act::Send(event_stream("{\"x\":\"")), many("x")],
        "blank" => vec![Act::Send(event_stream("")), many(" ")],
        "events" => match kind {
            ProviderKind::Ollama => vec![Act::Send(event_stream("")), many("{\"done\":false}\n")],
            _ => vec![Act::Send(event_stream("")), many(": still here\n\n")],
        },
        // A reply of 64 MiB, of which nobody keeps anything.
        _ => {
            let more = "learning ".repeat(4 << 10);
            let (begin, _) = said(kind);
            let delta = match kind {
                ProviderKind::Anthropic => format!(
                    "data: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{more}\"}}}}\n\n"
                ),
                _ => begin.replace("ok", &more),
            };
            vec![Act::Send(event_stream(begin)), many(&delta)]
        }
    }
}

fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

/// How an answer of which nothing is kept ends.
async fn ended(kind: ProviderKind, script: Vec<Act>) -> Error {
    let upstream = Upstream::start([script]).await.unwrap();
    let provider = config(kind, &upstream).build().unwrap();
    let mut stream = match provider.stream(CompletionRequest::new("m", "Why?")).await {
        Ok(stream) => stream,
        Err(error) => return error,
    };
    loop {
        if let Err(error) = stream.next().await.unwrap() {
            return error;
        }
    }
}

/// Does nothing, unless it is started by the other test.
#[tokio::test]
async fn answers_in_a_process_of_their_own() {
    let Ok(answers) = std::env::var(ANSWERS) else {
        return;
    };
    let scripts: Vec<_> = KINDS.map(|kind| (kind, script(&answers, kind))).into();
    let before = peak();
    for (kind, script) in scripts {
        let error = ended(kind, script).await;
        assert!(error.context_value("limit").is_some(), "{kind}: {error}");
    }
    println!("{MARK}{}", peak() - before);
}

#[test]
fn no_answer_costs_more_memory_than_the_largest_thing_that_is_kept() {
    for (answers, limit) in KINDS_OF_ANSWERS {
        let test = "protocols::memory::answers_in_a_process_of_their_own";
        let output = again(test, &[(ANSWERS, answers)]);
        let said = String::from_utf8_lossy(&output.stdout);
        let peak = said.lines().find_map(|line| line.split_once(MARK));
        let (_, kib) = peak.unwrap_or_else(|| panic!("{answers}: {output:?}"));
        let mib = kib.trim().parse::<usize>().unwrap() / 1024;
        assert!(mib <= limit, "{answers}: {mib} MiB");
    }
}
