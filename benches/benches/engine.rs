//! What a turn and an event cost in the engine: scripted provider, memory store.
//!
//! `cargo bench -p neuro-tutor-benches --bench engine`

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot run has no result"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use neuro_tutor_benches::Deltas;
use tokio::runtime::Runtime;
use tutor_core::{ChatRequest, SessionId, Tutor};

async fn tutor(deltas: usize) -> Tutor {
    Tutor::builder()
        .provider(Deltas(deltas))
        .build()
        .await
        .unwrap()
}

/// A whole turn, by the number of its text deltas: the slope is the cost of an event.
fn turn(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("turn");
    for deltas in [1, 100, 1000] {
        let tutor = runtime.block_on(tutor(deltas));
        group.throughput(Throughput::Elements(deltas as u64));
        group.bench_function(BenchmarkId::new("deltas", deltas), |b| {
            b.to_async(&runtime)
                .iter(|| async { black_box(tutor.chat("What is a cell?").await.unwrap()) });
        });
    }
    group.finish();
}

/// The size of a question and of its reply in a long conversation, in bytes.
const MESSAGE_BYTES: usize = 400;

fn question() -> String {
    "x".repeat(MESSAGE_BYTES)
}

/// A turn in a session that already has this many messages: should be flat, as the model is sent
/// what fits its budget, whatever came before.
fn history(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("history");
    for turns in [5, 500, 5000, 50_000] {
        let (tutor, session, last) = runtime.block_on(async {
            let tutor = tutor(MESSAGE_BYTES / 8).await;
            let session: SessionId = tutor.chat("start").await.unwrap().session_id;
            let mut last = None;
            for _ in 1..turns {
                let more = ChatRequest::new(question()).with_session(session.clone());
                last = tutor.chat(more).await.unwrap().message.parent_id;
            }
            (tutor, session, last.unwrap())
        });
        group.bench_function(BenchmarkId::new("messages", turns * 2), |b| {
            b.to_async(&runtime).iter(|| async {
                // Beside the last question, so that the history keeps its length.
                let beside = ChatRequest::edit(session.clone(), last.clone(), question());
                black_box(tutor.chat(beside).await.unwrap())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, turn, history);
criterion_main!(benches);
