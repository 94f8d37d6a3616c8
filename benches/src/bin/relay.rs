//! The parts of a relay as processes, and what callgrind counts of them.
//!
//! `cargo run --release -p neuro-tutor-benches --bin relay -- instructions` prints how many
//! instructions a relayed reply costs in our server, and in a relay that parses nothing. It needs
//! valgrind.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot run has no result, and its result is printed"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use neuro_tutor_benches::process::{Process, input_ended};
use neuro_tutor_benches::relay::{Asker, Traffic, bare, ours, upstream};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

/// Replies before the measured ones, and those.
const WARM: usize = 5;
const MEASURED: usize = 20;
const EVENTS: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["upstream", events, pause, hold] => {
            let traffic = Traffic {
                events: events.parse().unwrap(),
                pause: Duration::from_micros(pause.parse().unwrap()),
                hold: *hold == "hold",
            };
            serve(|listener| upstream(listener, traffic));
        }
        ["bare", to] => serve(|listener| bare(listener, to.parse().unwrap())),
        ["ours", to] => serve(|listener| ours(listener, to.parse().unwrap())),
        ["instructions"] => instructions(),
        _ => println!(
            "usage: relay instructions | upstream EVENTS PAUSE_US hold|go | bare ADDRESS | ours ADDRESS"
        ),
    }
}

/// Serves on one thread, so that runs can be compared, until the input ends.
fn serve<F: Future<Output = std::io::Result<()>>>(run: impl FnOnce(TcpListener) -> F) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        let ended = tokio::task::spawn_blocking(input_ended);
        tokio::select! {
            served = run(listener) => served.unwrap(),
            _ = ended => {}
        }
    });
}

fn instructions() {
    println!("Instructions of a relayed reply of {EVENTS} events, by callgrind");
    println!(
        "{:>24} {:>12} {:>12} {:>8}",
        "events come", "bare hyper", "ours", "ratio"
    );
    for (name, pause) in [("each by itself", 10_000), ("all at once", 0)] {
        let [bare, ours] = ["bare", "ours"].map(|relay| {
            let few = run(relay, pause, WARM);
            let more = run(relay, pause, WARM + MEASURED);
            (more - few) / MEASURED as u64
        });
        let ratio = ours as f64 / bare as f64;
        println!("{name:>24} {bare:>12} {ours:>12} {ratio:>8.2}");
    }
}

/// The instructions of a relay from its start to its end, with this many replies.
fn run(relay: &str, pause: u64, replies: usize) -> u64 {
    let this = std::env::current_exe().unwrap();
    let (events, pause) = (EVENTS.to_string(), pause.to_string());
    let upstream = Process::start(&this, &["upstream", &events, &pause, "go"]).unwrap();
    let directory = neuro_tutor_benches::disk().unwrap();
    let out = directory.path().join("callgrind");
    let relay = under_callgrind(&this, &out, relay, upstream.address);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut asker = Asker::connect(relay.address).await.unwrap();
        for _ in 0..replies {
            asker.ask().await.unwrap();
        }
    });
    relay.end().unwrap();
    if let Some(kept) = std::env::var_os("CALLGRIND_OUT") {
        std::fs::copy(&out, PathBuf::from(kept)).unwrap();
    }
    let text = std::fs::read_to_string(out).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    total.unwrap().trim().parse().unwrap()
}

fn under_callgrind(this: &Path, out: &Path, relay: &str, upstream: SocketAddr) -> Process {
    let arguments = [
        "--quiet".to_owned(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={}", out.display()),
        this.display().to_string(),
        relay.to_owned(),
        upstream.to_string(),
    ];
    Process::start(Path::new("valgrind"), &arguments).unwrap()
}
