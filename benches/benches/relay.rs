//! What it costs to pass a reply on: the time that is added to its first word, the processor time
//! of an event, the memory of a live stream, next to a relay that parses nothing; and what each
//! adapter adds to an event.
//!
//! `cargo bench -p neuro-tutor-benches --bench relay`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot run has no result, and its result is printed"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use neuro_tutor_benches::process::Process;
use neuro_tutor_benches::relay::Asker;
use neuro_tutor_benches::{Deltas, median, millis, percentile};
use tokio::runtime::Runtime;
use tutor_core::provider::{
    Breaker, BreakerProvider, BulkheadProvider, CompletionRequest, Concurrency, FallbackProvider,
    KeyPoolProvider, ProviderKind, RecorderProvider, RetryProvider, SharedProvider,
    TimeoutProvider, Timeouts,
};

/// The program with the parts of a relay.
const RELAY: &str = env!("CARGO_BIN_EXE_relay");

fn main() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(first_words());
    runtime.block_on(processor_time());
    runtime.block_on(memory());
    runtime.block_on(adapters());
}

fn start(arguments: &[&str]) -> Process {
    Process::start(Path::new(RELAY), arguments).unwrap()
}

/// The three ways to a reply: directly, through a relay that parses nothing, and through ours.
fn ways(upstream: &Process) -> [(&'static str, Option<Process>); 3] {
    let to = upstream.address.to_string();
    [
        ("directly", None),
        ("bare hyper", Some(start(&["bare", &to]))),
        ("ours", Some(start(&["ours", &to]))),
    ]
}

/// The time to the first word, one request at a time, in turn.
async fn first_words() {
    const ROUNDS: usize = 2000;
    let upstream = start(&["upstream", "20", "0", "go"]);
    let ways = ways(&upstream);
    let mut askers = Vec::new();
    for (_, relay) in &ways {
        let to = relay
            .as_ref()
            .map_or(upstream.address, |relay| relay.address);
        askers.push((Asker::connect(to).await.unwrap(), Vec::new()));
    }
    for _ in 0..ROUNDS {
        for (asker, times) in &mut askers {
            times.push(asker.ask().await.unwrap().first);
        }
    }
    println!("The time to the first word");
    println!(
        "{:>16} {:>9} {:>9} {:>12}",
        "", "p50 ms", "p99 ms", "added p50 ms"
    );
    let mut direct = None;
    for ((name, _), (_, mut times)) in ways.iter().zip(askers) {
        let (p50, p99) = (
            millis(percentile(&mut times, 50)),
            millis(percentile(&mut times, 99)),
        );
        let added = p50 - *direct.get_or_insert(p50);
        println!("{name:>16} {p50:>9.3} {p99:>9.3} {added:>12.3}");
    }
}

/// Processor time of a relayed event, with many replies at a time.
async fn processor_time() {
    const STREAMS: usize = 32;
    const EVENTS: usize = 200;
    const REPLIES: usize = 4;
    println!("\nProcessor time of a relayed event, {STREAMS} replies at a time");
    println!("{:>16} {:>16} {:>9}", "", "events come", "µs");
    for (how, pause) in [("each by itself", "2000"), ("all at once", "0")] {
        let upstream = start(&["upstream", &EVENTS.to_string(), pause, "go"]);
        let replies = if pause == "0" { 20 * REPLIES } else { REPLIES };
        for (name, relay) in ways(&upstream) {
            let Some(relay) = relay else { continue };
            let address = relay.address;
            let ask = |count: usize| {
                let askers = (0..STREAMS).map(|_| async move {
                    let mut asker = Asker::connect(address).await.unwrap();
                    for _ in 0..count {
                        asker.ask().await.unwrap();
                    }
                });
                futures_util::future::join_all(askers)
            };
            ask(1).await;
            let before = relay.cpu().unwrap();
            ask(replies).await;
            let used = relay.cpu().unwrap() - before;
            let micros = used.as_secs_f64() * 1e6 / (STREAMS * EVENTS * replies) as f64;
            println!("{name:>16} {how:>16} {micros:>9.2}");
        }
    }
}

/// Memory of a live stream: what the relay has more while many replies are half way.
async fn memory() {
    const STREAMS: usize = 500;
    println!("\nMemory of a live stream, of {STREAMS}");
    println!("{:>16} {:>9}", "", "KiB");
    let upstream = start(&["upstream", "100", "1", "hold"]);
    for (name, relay) in ways(&upstream) {
        let Some(relay) = relay else { continue };
        let mut asker = Asker::connect(relay.address).await.unwrap();
        asker.first_word().await.unwrap();
        let before = relay.resident().unwrap();
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            let mut asker = Asker::connect(relay.address).await.unwrap();
            asker.first_word().await.unwrap();
            open.push(asker);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let more = relay.resident().unwrap().saturating_sub(before);
        println!("{name:>16} {:>9.1}", more as f64 / 1024.0 / STREAMS as f64);
    }
}

/// What each adapter adds to an event, without any network.
async fn adapters() {
    const EVENTS: usize = 20_000;
    const ROUNDS: usize = 15;
    let bare = || Deltas(EVENTS);
    let pool = KeyPoolProvider::new(vec![bare(), bare()]).unwrap();
    let all: Vec<(&str, SharedProvider)> = vec![
        ("nothing", Arc::new(bare())),
        (
            "timeout",
            Arc::new(TimeoutProvider::new(bare(), Timeouts::default())),
        ),
        ("key pool", Arc::new(pool)),
        (
            "breaker",
            Arc::new(BreakerProvider::new(bare(), Breaker::default())),
        ),
        (
            "bulkhead",
            Arc::new(BulkheadProvider::new(bare(), Concurrency::of(8))),
        ),
        ("retry", Arc::new(RetryProvider::new(bare()))),
        (
            "fallback",
            Arc::new(FallbackProvider::new(bare()).then(bare(), None)),
        ),
        (
            "recorder",
            Arc::new(RecorderProvider::new(bare(), ProviderKind::OpenAi, drop)),
        ),
    ];
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); all.len()];
    for _ in 0..ROUNDS {
        for ((_, provider), times) in all.iter().zip(&mut times) {
            let start = Instant::now();
            let mut stream = provider
                .stream(CompletionRequest::new("m", "?"))
                .await
                .unwrap();
            while let Some(delta) = stream.next().await {
                std::hint::black_box(delta.unwrap());
            }
            times.push(start.elapsed().as_secs_f64() * 1e9 / EVENTS as f64);
        }
    }
    println!("\nWhat an adapter adds to an event");
    println!("{:>16} {:>9} {:>9}", "", "ns", "added");
    let mut least = None;
    for ((name, _), times) in all.iter().zip(times) {
        let nanos = median(times);
        let added = nanos - *least.get_or_insert(nanos);
        println!("{name:>16} {nanos:>9.0} {added:>9.0}");
    }
}
