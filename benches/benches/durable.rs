//! Durable turns per second on sled, with 1 and with 64 sessions at a time, as a ratio to the
//! least that any store could do: appending the same bytes to a file, with one `fdatasync` for
//! all who wait.
//!
//! `cargo bench -p neuro-tutor-benches --bench durable`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot run has no result"
)]

use std::time::{Duration, Instant};

use neuro_tutor_benches::{Deltas, disk, median, millis, raw_turns};
use tokio::runtime::Runtime;
use tutor_core::store::SledStore;
use tutor_core::{ChatRequest, Tutor};

/// How long each cell runs.
const CELL: Duration = Duration::from_secs(3);

/// Interleaved rounds; the medians are printed.
const ROUNDS: usize = 3;

/// The learner's message. The reply has as many bytes.
const MESSAGE_BYTES: usize = 1024;

fn main() {
    let runtime = Runtime::new().unwrap();
    println!(
        "{:>9} {:>12} {:>12} {:>7} {:>9} {:>9}",
        "sessions", "sled/s", "raw/s", "ratio", "p50 ms", "p99 ms"
    );
    for sessions in [1, 64] {
        let (mut sled, mut raw, mut latencies) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let mut cell = runtime.block_on(sled_turns(sessions));
            sled.push(rate(cell.len()));
            latencies.append(&mut cell);
            raw.push(rate(
                runtime
                    .block_on(raw_turns(sessions, MESSAGE_BYTES, CELL))
                    .len(),
            ));
        }
        latencies.sort_unstable();
        let (sled, raw) = (median(sled), median(raw));
        println!(
            "{sessions:>9} {sled:>12.0} {raw:>12.0} {:>7.2} {:>9.2} {:>9.2}",
            sled / raw,
            millis(latencies[latencies.len() / 2]),
            millis(latencies[latencies.len() * 99 / 100]),
        );
    }
}

fn rate(turns: usize) -> f64 {
    turns as f64 / CELL.as_secs_f64()
}

/// Whole turns of the engine: two durable writes each. Returns how long each took.
async fn sled_turns(sessions: usize) -> Vec<Duration> {
    let directory = disk().unwrap();
    let store = SledStore::open(directory.path().join("store"))
        .await
        .unwrap();
    let tutor = Tutor::builder()
        .store(store)
        .provider(Deltas(MESSAGE_BYTES / 8))
        .build()
        .await
        .unwrap();
    let end = Instant::now() + CELL;
    let learners = (0..sessions).map(|_| {
        let tutor = tutor.clone();
        tokio::spawn(async move {
            let mut session = None;
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let mut request = ChatRequest::new("x".repeat(MESSAGE_BYTES));
                request.session_id = session;
                let start = Instant::now();
                session = Some(tutor.chat(request).await.unwrap().session_id);
                latencies.push(start.elapsed());
            }
            latencies
        })
    });
    let mut all = Vec::new();
    for learner in learners.collect::<Vec<_>>() {
        all.append(&mut learner.await.unwrap());
    }
    tutor.close().await.unwrap();
    all
}
