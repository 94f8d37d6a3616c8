//! What stores cost: durable turns next to raw appends and SQLite, reads at every size, reads while
//! a writer runs at full speed, and with `-- million` opening, memory and disk of a million messages.
//! At the end the targets, as a table for the README beside this.
//!
//! `cargo bench -p neuro-tutor-benches --bench storage`, with names of tables to print only those:
//! `turns`, `messages`, `sessions`, `busy`, `million`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot run has no result"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use neuro_tutor_benches::{disk, median, millis, percentile, raw_turns};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tutor_core::conformance::sample::{
    at, begin, end, new_turn, session, session_key, session_query,
};
use tutor_core::session::MessageQuery;
use tutor_core::store::{Durability, Location, NewTurn, SledStore, Store};
use tutor_core::{SessionStore, Turn};

/// How long each cell of the first table runs.
const CELL: Duration = Duration::from_secs(2);

/// Interleaved rounds; the medians are printed.
const ROUNDS: usize = 3;

/// Bytes of the learner's message, and of the reply.
const MESSAGE_BYTES: usize = 1024;

/// Reads of which the percentiles are printed.
const READS: usize = 2000;

fn main() {
    let runtime = Runtime::new().unwrap();
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|name| !name.starts_with('-'))
        .collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    if let Some(directory) = std::env::var_os(MILLION) {
        return runtime.block_on(fill_with_a_million(Path::new(&directory)));
    }
    let mut targets = Targets::default();
    if is_wanted("turns") {
        turns(&runtime, &mut targets);
    }
    if is_wanted("messages") {
        messages(&runtime, &mut targets);
    }
    if is_wanted("sessions") {
        sessions(&runtime, &mut targets);
    }
    if is_wanted("busy") {
        busy(&runtime, &mut targets);
    }
    // Takes minutes: only when asked for.
    if wanted.iter().any(|name| name == "million") {
        million(&runtime, &mut targets);
    }
    targets.print();
}

/// What is wanted, and what was reached.
#[derive(Default)]
struct Targets(Vec<String>);

impl Targets {
    fn at_least(&mut self, measure: &str, target: f64, reached: f64) {
        self.add(
            measure,
            &format!("≥ {target:.2}"),
            reached,
            reached >= target,
            "",
        );
    }

    fn at_most(&mut self, measure: &str, target: f64, reached: f64, unit: &str) {
        self.add(
            measure,
            &format!("≤ {target}{unit}"),
            reached,
            reached <= target,
            unit,
        );
    }

    fn add(&mut self, measure: &str, target: &str, reached: f64, is_met: bool, unit: &str) {
        let missed = if is_met { "" } else { "**no**: " };
        self.0.push(format!(
            "| {measure} | {target} | {missed}{reached:.2}{unit} |"
        ));
    }

    fn print(&self) {
        println!("\n| measure | target | reached |\n|---|---|---|");
        for line in &self.0 {
            println!("{line}");
        }
    }
}

/// Turn `n` of a session, of which the one before is the head.
fn nth(owner: &str, session: &str, n: usize) -> NewTurn {
    let head = n
        .checked_sub(1)
        .map(|before| format!("r-{session}-{before}"));
    let mut new = new_turn(owner, session, &format!("{session}-{n}"), head.as_deref());
    new.turn.started_at = at(n as i64 * 1_000_000);
    new.messages[0].content = "x".repeat(MESSAGE_BYTES).into();
    new
}

async fn finish(store: &dyn SessionStore, turn: &Turn, n: usize) {
    let mut end = end(turn);
    end.ended_at = at(n as i64 * 1_000_000 + 500_000);
    if let Some(reply) = &mut end.reply {
        reply.content = "y".repeat(MESSAGE_BYTES).into();
    }
    store.finish_turn(&turn.key(), end).await.unwrap();
}

async fn exchange(store: &dyn SessionStore, owner: &str, session: &str, n: usize) {
    let turn = begin(store, nth(owner, session, n)).await;
    finish(store, &turn, n).await;
}

/// Has sessions talk until `stop`, and gives how long each turn took.
async fn talk(store: Arc<dyn Store>, sessions: usize, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let mut tasks = JoinSet::new();
    for learner in 0..sessions {
        let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
        tasks.spawn(async move {
            let (owner, session) = (format!("o{learner}"), format!("s{learner}"));
            let mut latencies = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                exchange(&*store, &owner, &session, latencies.len()).await;
                latencies.push(start.elapsed());
            }
            latencies
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// The stores to compare, by their URLs.
fn stores(directory: &Path) -> Vec<(&'static str, String)> {
    let path = directory.display();
    vec![
        ("sled", format!("sled:{path}/sled")),
        ("sqlite", format!("sqlite:///{path}/tutor.db")),
    ]
}

async fn open(url: &str) -> Arc<dyn Store> {
    url.parse::<Location>().unwrap().open().await.unwrap()
}

fn turns(runtime: &Runtime, targets: &mut Targets) {
    println!("\nDurable turns: two writes of {MESSAGE_BYTES} bytes each, on one disk, interleaved");
    println!(
        "{:>9} {:>8} {:>10} {:>7} {:>9} {:>9} {:>8}",
        "sessions", "store", "turns/s", "/ raw", "p50 ms", "p99 ms", "p99/p50"
    );
    for sessions in [1, 64] {
        let names: Vec<&str> = std::iter::once("raw")
            .chain(stores(Path::new("")).into_iter().map(|(name, _)| name))
            .collect();
        let mut rates = vec![Vec::new(); names.len()];
        let mut latencies = vec![Vec::new(); names.len()];
        for _ in 0..ROUNDS {
            let directory = disk().unwrap();
            let mut cells = vec![runtime.block_on(raw_turns(sessions, MESSAGE_BYTES, CELL))];
            for (_, url) in stores(directory.path()) {
                cells.push(runtime.block_on(async {
                    let store = open(&url).await;
                    let stop = Arc::new(AtomicBool::new(false));
                    let talking = tokio::spawn(talk(Arc::clone(&store), sessions, stop.clone()));
                    tokio::time::sleep(CELL).await;
                    stop.store(true, Ordering::Relaxed);
                    let cell = talking.await.unwrap();
                    store.close().await.unwrap();
                    cell
                }));
            }
            for (n, mut cell) in cells.into_iter().enumerate() {
                rates[n].push(cell.len() as f64 / CELL.as_secs_f64());
                latencies[n].append(&mut cell);
            }
        }
        let raw = median(rates[0].clone());
        let [sled, sqlite] = [1, 2].map(|n| median(rates[n].clone()));
        if sessions == 1 {
            let what = "one session, turns/s ÷ raw appends with `fdatasync`";
            targets.at_least(what, 0.70, sled / raw);
        } else {
            let what = "64 sessions, turns/s ÷ raw appends that share an `fdatasync`";
            targets.at_least(what, 0.45, sled / raw);
            let what = "64 sessions, turns/s ÷ SQLite (WAL, `FULL`) with the same batching";
            targets.at_least(what, 1.0, sled / sqlite);
            let all = &mut latencies[1];
            let tail = millis(percentile(all, 99)) / millis(percentile(all, 50));
            targets.at_most("64 sessions, p99 ÷ p50 of a durable turn", 2.0, tail, "");
        }
        for (n, name) in names.iter().enumerate() {
            let rate = median(rates[n].clone());
            let p50 = millis(percentile(&mut latencies[n], 50));
            let p99 = millis(percentile(&mut latencies[n], 99));
            println!(
                "{sessions:>9} {name:>8} {rate:>10.0} {:>7.2} {p50:>9.2} {p99:>9.2} {:>8.1}",
                rate / raw,
                p99 / p50
            );
        }
    }
}

/// A store on the disk that does not wait for it: for what is only filled and read.
async fn filled(directory: &Path) -> SledStore {
    let options = SledStore::options().durability(Durability::Process);
    options.open(directory.join("store")).await.unwrap()
}

/// Prints percentiles of how long a read takes, and what the last column is to the first row's.
/// Gives both percentiles in microseconds.
async fn measure<F: Future>(
    what: &str,
    first: &mut Option<f64>,
    read: impl Fn(usize) -> F,
) -> [f64; 2] {
    for n in 0..READS / 10 {
        read(n).await;
    }
    let mut latencies = Vec::with_capacity(READS);
    for n in 0..READS {
        let start = Instant::now();
        read(n).await;
        latencies.push(start.elapsed());
    }
    let p50 = millis(percentile(&mut latencies, 50)) * 1000.0;
    let p99 = millis(percentile(&mut latencies, 99)) * 1000.0;
    let slope = p50 / *first.get_or_insert(p50);
    println!("{what:>24} {p50:>9.0} {p99:>9.0} {slope:>9.2}");
    [p50, p99]
}

fn head(title: &str) {
    println!("\n{title}");
    println!(
        "{:>24} {:>9} {:>9} {:>9}",
        "", "p50 µs", "p99 µs", "/ first"
    );
}

fn messages(runtime: &Runtime, targets: &mut Targets) {
    head("The last 50 messages of a session; then 50 from its middle, which no cache has");
    runtime.block_on(async {
        let directory = disk().unwrap();
        let store = filled(directory.path()).await;
        for count in [10, 1000, 100_000] {
            for n in 0..count / 2 {
                exchange(&store, "o", &format!("m{count}"), n).await;
            }
        }
        let mut first = None;
        let mut longest = 0.0;
        for count in [10, 1000, 100_000] {
            let key = session_key("o", &format!("m{count}"));
            let query = MessageQuery::latest(key, 50);
            [longest, _] = measure(&format!("last of {count}"), &mut first, |_| {
                store.messages(query.clone())
            })
            .await;
        }
        targets.at_most(
            "the last 50 of 100,000 messages, p50",
            150.0,
            longest,
            " µs",
        );
        let mut first = None;
        let mut middle = 0.0;
        for count in [1000, 100_000] {
            let name = format!("m{count}");
            [middle, _] = measure(&format!("middle of {count}"), &mut first, |n| {
                let before = format!("r-{name}-{}", 50 + (n * 7919) % (count / 2 - 100));
                let before = tutor_core::MessageId::new(before).unwrap();
                let mut query = MessageQuery::latest(session_key("o", &name), 50);
                query.range = tutor_core::session::MessageRange::Before(before);
                store.messages(query)
            })
            .await;
        }
        let what = "50 from the middle of 100,000 messages ÷ of 1,000, p50";
        targets.at_most(what, 2.0, middle / first.unwrap_or(middle), "");
        store.close().await.unwrap();
    });
}

fn sessions(runtime: &Runtime, targets: &mut Targets) {
    head("The newest 20 sessions of an owner");
    runtime.block_on(async {
        let directory = disk().unwrap();
        let store = filled(directory.path()).await;
        for count in [100, 10_000, 100_000] {
            let mut tasks = JoinSet::new();
            for part in 0..64 {
                let store = store.clone();
                tasks.spawn(async move {
                    for n in (part..count).step_by(64) {
                        let new = session(&format!("o{count}"), &format!("s{n}"), i64::from(n));
                        store.create_session(new).await.unwrap();
                    }
                });
            }
            tasks.join_all().await;
        }
        let mut first = None;
        let mut most = 0.0;
        for count in [100, 10_000, 100_000] {
            let query = session_query(&format!("o{count}"), 20);
            [most, _] = measure(&format!("of {count}"), &mut first, |_| {
                store.sessions(query.clone())
            })
            .await;
        }
        targets.at_most("the newest 20 of 100,000 sessions, p50", 150.0, most, " µs");
        let what = "the newest 20 of 100,000 sessions ÷ of 100, p50";
        targets.at_most(what, 2.0, most / first.unwrap_or(most), "");
        store.close().await.unwrap();
    });
}

fn busy(runtime: &Runtime, targets: &mut Targets) {
    head("Reads while 64 sessions write at full speed");
    runtime.block_on(async {
        let directory = disk().unwrap();
        let store: Arc<dyn Store> = Arc::new(
            SledStore::open(directory.path().join("store"))
                .await
                .unwrap(),
        );
        for n in 0..500 {
            exchange(&*store, "o", "quiet", n).await;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let talking = tokio::spawn(talk(Arc::clone(&store), 64, stop.clone()));
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut none = None;
        let [_, hot] = measure("last 20, being written", &mut none, |n| {
            let learner = n % 64;
            let key = session_key(&format!("o{learner}"), &format!("s{learner}"));
            store.messages(MessageQuery::latest(key, 20))
        })
        .await;
        measure("last 20, quiet", &mut none, |_| {
            store.messages(MessageQuery::latest(session_key("o", "quiet"), 20))
        })
        .await;
        let [_, cold] = measure("20 from the middle", &mut none, |n| {
            let before = format!("r-quiet-{}", 50 + n % 400);
            let before = tutor_core::MessageId::new(before).unwrap();
            let mut query = MessageQuery::latest(session_key("o", "quiet"), 20);
            query.range = tutor_core::session::MessageRange::Before(before);
            store.messages(query)
        })
        .await;
        measure("newest 20 sessions", &mut none, |n| {
            let query = session_query(&format!("o{}", n % 64), 20);
            let store = Arc::clone(&store);
            async move { store.sessions(query).await }
        })
        .await;
        let what = "reads of conversations in use while 64 sessions write, p99";
        targets.at_most(what, 2.0, hot / 1000.0, " ms");
        let what = "reads that no tail has while 64 sessions write, p99";
        targets.at_most(what, 2.0, cold / 1000.0, " ms");
        stop.store(true, Ordering::Relaxed);
        talking.await.unwrap();
        store.close().await.unwrap();
    });
}

/// Resident memory of this process, in MiB.
fn resident() -> f64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = pages
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0.0);
    pages * 4096.0 / f64::from(1 << 20)
}

/// Bytes on the disk, in MiB.
fn on_disk(directory: &Path) -> f64 {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0.0;
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        total += match entry.metadata().unwrap() {
            data if data.is_dir() => on_disk(&entry.path()),
            data => (data.blocks() * 512) as f64 / f64::from(1 << 20),
        };
    }
    total
}

/// Sessions of the large store, with 10 messages each.
const MILLION_SESSIONS: usize = 100_000;

/// The directory that a process fills which is this program again.
const MILLION: &str = "BENCH_MILLION";

/// Fills a store, says how that went, and closes it when it is told to.
async fn fill_with_a_million(directory: &Path) {
    let store = filled(directory).await;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for part in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            for s in (part..MILLION_SESSIONS).step_by(64) {
                for n in 0..5 {
                    exchange(&store, &format!("o{}", s % 1000), &format!("s{s}"), n).await;
                }
            }
        });
    }
    tasks.join_all().await;
    let rate = MILLION_SESSIONS as f64 * 5.0 / start.elapsed().as_secs_f64();
    println!("{rate} {}", resident());
    std::io::stdin().read_line(&mut String::new()).unwrap();
    store.close().await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.metadata().unwrap().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// Seconds until the store is open.
fn opening(runtime: &Runtime, directory: &Path) -> f64 {
    runtime.block_on(async {
        let start = Instant::now();
        let store = SledStore::open(directory).await.unwrap();
        let seconds = start.elapsed().as_secs_f64();
        store.close().await.unwrap();
        seconds
    })
}

fn million(runtime: &Runtime, targets: &mut Targets) {
    println!(
        "\nA million messages of {MESSAGE_BYTES} bytes in {MILLION_SESSIONS} sessions of 1,000 owners"
    );
    let directory = disk().unwrap();
    // Another process, whose memory is that of the store alone, and which can leave its files as if
    // it were killed.
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(MILLION, directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    let (rate, memory) = said.trim().split_once(' ').unwrap();
    let (rate, memory): (f64, f64) = (rate.parse().unwrap(), memory.parse().unwrap());
    println!("{:>40} {rate:>9.0}", "turns/s while filling (not synced)");
    println!("{:>40} {memory:>9.0}", "resident MiB, 64 MiB of cache");
    let payload = (MILLION_SESSIONS * 10 * MESSAGE_BYTES) as f64 / f64::from(1 << 20);
    let killed = disk().unwrap();
    copy(directory.path(), killed.path());
    let start = Instant::now();
    drop(child.stdin.take());
    child.wait().unwrap();
    println!(
        "{:>40} {:>9.2}",
        "closing, s",
        start.elapsed().as_secs_f64()
    );
    let size = on_disk(directory.path()) / payload;
    println!("{:>40} {size:>9.2}", "bytes on disk / payload byte");
    let clean = opening(runtime, &directory.path().join("store"));
    println!("{:>40} {clean:>9.2}", "opening after a clean close, s");
    let after_kill = opening(runtime, &killed.path().join("store"));
    println!("{:>40} {after_kill:>9.2}", "opening after a kill, s");
    targets.at_most(
        "opening a million messages after a clean close",
        1.0,
        clean,
        " s",
    );
    targets.at_most(
        "opening a million messages after a kill",
        6.0,
        after_kill,
        " s",
    );
    targets.at_most("resident memory ÷ cache capacity", 4.0, memory / 64.0, "");
    targets.at_most("bytes on disk ÷ payload bytes", 2.5, size, "");
}
