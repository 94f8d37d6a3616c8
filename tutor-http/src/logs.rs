//! Where the server's log goes: standard error, through a bounded queue, so that a log which
//! nobody reads costs lines and never stalls a request.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that wait to be written. More are dropped, and counted.
const MAX_LINES: usize = 4096;

/// Keeps the log open; dropping it writes what waits.
#[derive(Debug)]
#[must_use]
pub struct Logs {
    lines: Option<SyncSender<Line>>,
    writer: Option<JoinHandle<()>>,
}

/// Sends the log of this process to standard error from now on.
///
/// Libraries speak of warnings only, whatever the level: at their finer levels some of them write
/// what passes through them.
pub fn init(level: LevelFilter) -> Logs {
    let (lines, queue) = sync_channel(MAX_LINES);
    let dropped = Arc::new(AtomicU64::new(0));
    let writer = {
        let dropped = Arc::clone(&dropped);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(&queue, &dropped, io::stderr()))
    };
    let sink = Sink {
        lines: lines.clone(),
        dropped,
    };
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("tutor_core", level)
        .with_target("tutor_http", level);
    let format = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(sink);
    // Fails only if somebody else has set up logging; then theirs is used.
    let _ = tracing_subscriber::registry()
        .with(targets)
        .with(format)
        .try_init();
    // The default hook prints the message, which may quote what somebody wrote.
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        tracing::error!(at = at.unwrap_or_default(), "a task panicked");
    }));
    Logs {
        lines: Some(lines),
        writer: writer.ok(),
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        // The subscriber lives as long as the process and keeps the queue open: say that it ends.
        if let Some(lines) = self.lines.take() {
            let _ = lines.try_send(Line::End);
        }
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

enum Line {
    Text(Vec<u8>),
    End,
}

fn write(queue: &Receiver<Line>, dropped: &AtomicU64, mut out: impl Write) {
    while let Ok(Line::Text(line)) = queue.recv() {
        // A log that cannot be written cannot be complained about.
        let _ = out.write_all(&line);
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let _ = writeln!(out, "{missing} lines of the log were dropped here");
        }
    }
}

/// Takes the lines of all threads.
#[derive(Clone, Debug)]
struct Sink {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

impl Write for Sink {
    /// One call is one line: the formatter writes them whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.lines.try_send(Line::Text(line.to_vec())) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_lines_and_says_so() {
        let (lines, queue) = sync_channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let mut sink = Sink {
            lines: lines.clone(),
            dropped: Arc::clone(&dropped),
        };
        for line in ["one\n", "two\n", "three\n"] {
            assert_eq!(sink.write(line.as_bytes()).unwrap(), line.len());
        }
        drop((lines, sink));
        let mut out = Vec::new();
        write(&queue, &dropped, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "one\n2 lines of the log were dropped here\n");
    }
}
