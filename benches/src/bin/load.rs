//! What the server bears. Each proof prints its figures beside what was promised.
//!
//! ```sh
//! cargo build --release -p tutor-http -p neuro-tutor-benches
//! ulimit -n 20000
//! target/release/load streams | overload | drain | idle | latency | slow
//! ```

#![expect(clippy::print_stdout, reason = "its output is its result")]

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use neuro_tutor_benches::load::{Client, Server, all, events, turn};
use neuro_tutor_benches::process::Process;
use neuro_tutor_benches::{disk, millis, percentile, raw_turns};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

const MIB: f64 = 1024.0 * 1024.0;

#[tokio::main]
async fn main() -> io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("streams") => streams(10_000).await,
        Some("overload") => overload().await,
        Some("drain") => drain(500).await,
        Some("idle") => idle(10_000).await,
        Some("latency") => latency(500).await,
        Some("slow") => slow(2_000).await,
        _ => {
            println!("load streams | overload | drain | idle | latency | slow");
            Ok(())
        }
    }
}

fn row(what: &str, reached: f64, unit: &str, promised: &str) {
    println!("{what:<44} {reached:>10.2} {unit:<6} {promised}");
}

/// So many event streams at the same time, each read to its end.
async fn streams(count: usize) -> io::Result<()> {
    let directory = tempdir()?;
    let most = (count + 500).to_string();
    // All of them are one person's here.
    let setting = format!("max_live_turns_per_person = {most}\n");
    std::fs::write(directory.path().join("neuro-tutor.toml"), setting)?;
    let arguments = [
        "--data",
        "memory:",
        "--max-connections",
        &most,
        "--max-live-turns",
        &most,
    ];
    let server = Server::start(directory.path(), &arguments, 700).await?;
    let (before, address) = (server.resident()?, server.address);
    let live = Arc::new(AtomicUsize::new(0));
    let most_live = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let ended = all(count, |_| {
        let (live, most_live) = (Arc::clone(&live), Arc::clone(&most_live));
        async move {
            let mut client = Client::connect(address).await?;
            let head = client.chat("What is light?", true).await?;
            if head.status != 200 {
                return Err(io::Error::other(format!("{}", head.status)));
            }
            most_live.fetch_max(live.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let stream = client.body(head).await?;
            live.fetch_sub(1, Ordering::SeqCst);
            let (ids, is_whole) = events(&stream);
            let gapless = ids.iter().copied().eq(1..=ids.len() as u64);
            Ok(is_whole && gapless)
        }
    })
    .await;
    let whole = ended
        .iter()
        .filter(|result| matches!(result, Ok(true)))
        .count();
    if let Some(error) = ended.iter().find_map(|result| result.as_ref().err()) {
        println!("first error: {error}");
    }
    let grown = server.peak()?.saturating_sub(before) as f64;
    println!(
        "{count} event streams in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    row("whole, without a gap", whole as f64, "", "all");
    row(
        "at the same time",
        most_live.load(Ordering::SeqCst) as f64,
        "",
        "all",
    );
    row(
        "memory for one",
        grown / count as f64 / 1024.0,
        "KiB",
        "<= 32",
    );
    row(
        "memory in all",
        server.peak()? as f64 / MIB,
        "MiB",
        "<= 400",
    );
    Ok(())
}

/// What happened to the requests of one client.
#[derive(Default)]
struct Told {
    served: usize,
    refused: Vec<Duration>,
    without_advice: usize,
    broken: usize,
}

/// Clients that ask again and again until they are told to end.
async fn storm(server: &Server, clients: usize, time: Duration, streamed: bool) -> Told {
    let (address, end) = (server.address, Arc::new(AtomicBool::new(false)));
    let flag = Arc::clone(&end);
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        flag.store(true, Ordering::SeqCst);
    });
    let told = all(clients, |_| {
        let end = Arc::clone(&end);
        async move {
            let mut told = Told::default();
            let mut client = None;
            while !end.load(Ordering::SeqCst) {
                let mut connected = match client.take() {
                    Some(connected) => connected,
                    None => match Client::connect(address).await {
                        Ok(connected) => connected,
                        Err(_) => {
                            told.broken += 1;
                            continue;
                        }
                    },
                };
                let asked = Instant::now();
                let answered = async {
                    let head = connected.chat("What is light?", streamed).await?;
                    let took = asked.elapsed();
                    connected.body(head).await?;
                    io::Result::Ok((head, took))
                };
                match answered.await {
                    Ok((head, _)) if head.status == 200 => told.served += 1,
                    Ok((head, took)) if head.status == 503 => {
                        told.refused.push(took);
                        told.without_advice += usize::from(!head.retry_after);
                        // Impatient, but no machine gun.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    _ => {
                        told.broken += 1;
                        continue;
                    }
                }
                client = Some(connected);
            }
            told
        }
    })
    .await;
    told.into_iter().fold(Told::default(), |mut sum, mut told| {
        sum.served += told.served;
        sum.refused.append(&mut told.refused);
        sum.without_advice += told.without_advice;
        sum.broken += told.broken;
        sum
    })
}

/// Five times as many as are served at a time: first with replies that take their time, as those of
/// models do, then with replies that take none, so that the processor is what there is too little of.
async fn overload() -> io::Result<()> {
    overloaded("replies that take their time", true).await?;
    overloaded("replies at once", false).await
}

async fn overloaded(what: &str, streamed: bool) -> io::Result<()> {
    const SERVED: usize = 64;
    const TIME: Duration = Duration::from_secs(15);
    let directory = disk()?;
    let most = SERVED.to_string();
    let arguments = ["--data", "store", "--max-live-turns", &most];
    let server = Server::start(directory.path(), &arguments, 5).await?;
    let start = server.resident()?;
    let calm = storm(&server, SERVED, TIME, streamed).await;
    let before = server.resident()?;
    let mut busy = storm(&server, 5 * SERVED, TIME, streamed).await;
    let after = server.resident()?;
    let recovering = Instant::now();
    let mut client = Client::connect(server.address).await?;
    while client.chat("Hello", false).await.map(|head| head.status)? != 200 {
        client = Client::connect(server.address).await?;
    }
    let recovered = recovering.elapsed();
    println!(
        "{what}, {SERVED} at a time; {SERVED} clients for {} s, then {}",
        TIME.as_secs(),
        5 * SERVED
    );
    let share = 100.0 * busy.served as f64 / calm.served as f64;
    row(
        "served a second, as many as there is room for",
        calm.served as f64 / TIME.as_secs_f64(),
        "/s",
        "",
    );
    row("of that, at five times the load", share, "%", ">= 80");
    row("refused", busy.refused.len() as f64, "", "");
    for percent in [50, 95, 99] {
        if !busy.refused.is_empty() {
            let took = millis(percentile(&mut busy.refused, percent));
            row(&format!("a refusal takes, p{percent}"), took, "ms", "<= 5");
        }
    }
    row(
        "refusals without Retry-After",
        busy.without_advice as f64,
        "",
        "0",
    );
    row("broken", (calm.broken + busy.broken) as f64, "", "0");
    // The store's cache fills in both, and the replies that were given last are kept.
    let grew = |from: u64, to: u64| (to as f64 - from as f64) / MIB;
    row("memory grew at first", grew(start, before), "MiB", "");
    row(
        "and at five times the load",
        grew(before, after),
        "MiB",
        "no more",
    );
    row("serves again after", recovered.as_secs_f64(), "s", "<= 2");
    Ok(())
}

/// So many streams are being read when the server is told to stop.
async fn drain(count: usize) -> io::Result<()> {
    let directory = disk()?;
    let arguments = ["--data", "store", "--drain-seconds", "1"];
    let server = Server::start(directory.path(), &arguments, 300).await?;
    let (address, began) = (server.address, Arc::new(Barrier::new(count + 1)));
    let readers = {
        let began = Arc::clone(&began);
        tokio::spawn(all(count, move |_| {
            let began = Arc::clone(&began);
            async move {
                let mut client = Client::connect(address).await?;
                client.chat("What is light?", true).await?;
                let mut seen = Vec::new();
                while !String::from_utf8_lossy(&seen).contains("text.delta") {
                    seen.append(&mut client.chunk().await?.unwrap_or_default());
                }
                began.wait().await;
                seen.append(&mut client.rest().await);
                io::Result::Ok((seen, Instant::now()))
            }
        }))
    };
    began.wait().await;
    let told = Instant::now();
    server.terminate()?;
    let seen: Vec<_> = readers.await?.into_iter().filter_map(Result::ok).collect();
    let last = seen.iter().map(|(_, ended)| *ended).max().unwrap_or(told);
    server.ended()?;
    let gone = told.elapsed();
    let lost = after_restart(directory.path(), &seen).await?;
    println!("{count} live streams, and the signal to stop");
    row("streams that were live", seen.len() as f64, "", "all");
    row(
        "all are told after",
        (last - told).as_secs_f64(),
        "s",
        "<= 1",
    );
    row(
        "the process has ended after",
        gone.as_secs_f64(),
        "s",
        "<= 1 more than the drain",
    );
    row("turns that lost an event", lost as f64, "", "0");
    Ok(())
}

/// How many turns do not begin with what was seen of them, or have no end.
async fn after_restart(directory: &Path, seen: &[(Vec<u8>, Instant)]) -> io::Result<usize> {
    let server = Server::start(directory, &["--data", "store"], 0).await?;
    let mut client = Client::connect(server.address).await?;
    let mut lost = 0;
    for (seen, _) in seen {
        let turn = turn(seen).ok_or_else(|| io::Error::other("a stream without a turn"))?;
        let all = client.get(&format!("/api/turns/{turn}/events")).await?;
        let text = String::from_utf8_lossy(&all).into_owned();
        let has_end = text.contains("event: turn.finished") || text.contains("event: turn.failed");
        let (ids, _) = events(seen);
        let (all_ids, _) = events(&all);
        lost += usize::from(!has_end || !all_ids.starts_with(&ids));
    }
    Ok(lost)
}

/// A server that nobody asks, and one with many connections that nobody uses.
async fn idle(count: usize) -> io::Result<()> {
    let directory = disk()?;
    let mut started = Vec::new();
    for _ in 0..9 {
        let server = Server::start(directory.path(), &["--data", "store"], 0).await?;
        started.push(server.started_in);
        server.terminate()?;
        server.ended()?;
    }
    let most = (count + 100).to_string();
    let arguments = ["--data", "store", "--max-connections", &most];
    let server = Server::start(directory.path(), &arguments, 0).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = server.resident()?;
    let address = server.address;
    let clients = all(count, |_| async move {
        let mut client = Client::connect(address).await?;
        client.get("/").await?;
        io::Result::Ok(client)
    })
    .await;
    let open = clients.iter().filter(|client| client.is_ok()).count();
    let with = server.resident()?;
    println!("idle");
    row(
        "start to first answer, median of 9",
        millis(percentile(&mut started, 50)),
        "ms",
        "<= 100",
    );
    row(
        "start to first answer, the best",
        millis(started[0]),
        "ms",
        "",
    );
    row(
        "memory of an idle server",
        before as f64 / MIB,
        "MiB",
        "<= 25",
    );
    row("connections that are kept", open as f64, "", "all");
    let each = with.saturating_sub(before) as f64 / open.max(1) as f64;
    row("memory for one", each / 1024.0, "KiB", "<= 16");
    Ok(())
}

/// What the server adds, at so many turns a second, to what a server costs that does nothing: bare
/// hyper is asked in the same way, so that what the network, the timers and the clients take is in both.
async fn latency(per_second: u64) -> io::Result<()> {
    const TIME: Duration = Duration::from_secs(10);
    const KEPT: usize = 1024;
    let beside = std::env::current_exe()?.with_file_name("bare");
    let bare = Process::start(&beside, &["0"])?;
    let [least50, least99] = asked_in_time(bare.address, per_second, TIME).await?;
    drop(bare);
    let mut syncs = raw_turns(1, KEPT, TIME).await;
    let [sync50, sync99] = [50, 99].map(|p| millis(percentile(&mut syncs, p)));
    println!("{per_second} turns a second for {} s", TIME.as_secs());
    row("bare hyper, p50", least50, "ms", "");
    row("bare hyper, p99", least99, "ms", "");
    row("two appends, each synced, p50", sync50, "ms", "");
    row("two appends, each synced, p99", sync99, "ms", "");
    for data in ["memory:", "store"] {
        let directory = disk()?;
        let server = Server::start(directory.path(), &["--data", data], 0).await?;
        let [p50, p99] = asked_in_time(server.address, per_second, TIME).await?;
        let [disk50, disk99] = if data == "store" {
            [sync50, sync99]
        } else {
            [0.0; 2]
        };
        row(&format!("{data} p50"), p50, "ms", "");
        row(&format!("{data} p99"), p99, "ms", "");
        row(
            &format!("{data} added to the p50"),
            p50 - least50 - disk50,
            "ms",
            "<= 1",
        );
        row(
            &format!("{data} added to the p99"),
            p99 - least99 - disk99,
            "ms",
            "<= 10",
        );
    }
    Ok(())
}

/// How long the answers to so many turns a second take: the median, and what one in a hundred
/// exceeds, in milliseconds.
async fn asked_in_time(
    address: SocketAddr,
    per_second: u64,
    time: Duration,
) -> io::Result<[f64; 2]> {
    let began = tokio::time::Instant::now() + Duration::from_millis(100);
    let count = usize::try_from(per_second * time.as_secs()).unwrap_or(usize::MAX);
    let mut took: Vec<Duration> = all(count, |nth| async move {
        // Each begins when it should, so that a stall is seen by all who would have asked.
        let due = began + Duration::from_secs_f64(nth as f64 / per_second as f64);
        tokio::time::sleep_until(due - Duration::from_millis(50)).await;
        let mut client = Client::connect(address).await.ok()?;
        tokio::time::sleep_until(due).await;
        let head = client.chat("What is light?", false).await.ok()?;
        client.body(head).await.ok()?;
        (head.status == 200).then(|| due.elapsed())
    })
    .await
    .into_iter()
    .flatten()
    .collect();
    if took.len() < count {
        return Err(io::Error::other(format!(
            "{} of {count} were answered",
            took.len()
        )));
    }
    Ok([50, 99].map(|p| millis(percentile(&mut took, p))))
}

/// How long requests take, one after the other, each by a connection of its own.
async fn waits(server: &Server, count: usize) -> io::Result<Vec<Duration>> {
    let mut waits = Vec::with_capacity(count);
    for _ in 0..count {
        let asked = Instant::now();
        Client::connect(server.address)
            .await?
            .get("/api/sessions")
            .await?;
        waits.push(asked.elapsed());
    }
    Ok(waits)
}

/// Clients that send their heads and bodies byte by byte, or read nothing, beside an honest one.
async fn slow(count: usize) -> io::Result<()> {
    const ASKED: usize = 3_000;
    let server = Server::start(Path::new("."), &["--data", "memory:"], 0).await?;
    let mut before = waits(&server, ASKED).await?;
    let address = server.address;
    let mut crowd = tokio::task::JoinSet::new();
    for number in 0..count {
        crowd.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            let head = "POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
            match number % 10 {
                0 => {
                    let all = "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
                    while stream.write_all(all.as_bytes()).await.is_ok() {}
                    return Ok(());
                }
                1..5 => stream.write_all(head.as_bytes()).await?,
                _ => {
                    let announced = format!("{head}Content-Length: 1000000\r\n\r\n");
                    stream.write_all(announced.as_bytes()).await?;
                }
            }
            let (mut reader, mut writer) = stream.into_split();
            let drip = async {
                while writer.write_all(b"1").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            };
            let mut answer = Vec::new();
            tokio::select! {
                () = drip => {}
                read = reader.read_to_end(&mut answer) => drop(read?),
            }
            io::Result::Ok(())
        });
    }
    // Longer than it takes them all to connect, and shorter than the first of them are kept.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let crowded = crowd.len();
    let mut during = waits(&server, ASKED).await?;
    let left = {
        while crowd.try_join_next().is_some() {}
        crowd.len()
    };
    let closing = Instant::now();
    while crowd.join_next().await.is_some() {}
    let closed = closing.elapsed();
    let mut after = waits(&server, ASKED).await?;
    println!("{crowded} slow clients, {left} of them at the end of the measurement");
    for percent in [50, 99] {
        for (when, waits) in [
            ("before", &mut before),
            ("beside them", &mut during),
            ("afterwards", &mut after),
        ] {
            let promised = if when == "beside them" && percent == 99 {
                "<= 200"
            } else {
                ""
            };
            let took = millis(percentile(waits, percent));
            row(
                &format!("a request {when}, p{percent}"),
                took,
                "ms",
                promised,
            );
        }
    }
    row(
        "all of them are closed after",
        closed.as_secs_f64(),
        "s more",
        "",
    );
    Ok(())
}
