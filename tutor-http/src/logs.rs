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
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// Lines that wait to be written. More are dropped, and counted.
const MAX_LINES: usize = 4096;

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// Keeps the log open; dropping it writes what waits.
#[must_use]
pub struct Logs {
    lines: Option<SyncSender<Line>>,
    writer: Option<JoinHandle<()>>,
    /// `None` if somebody else has set up logging.
    filter: Option<reload::Handle<Targets, Base>>,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").finish_non_exhaustive()
    }
}

impl Logs {
    /// From now on the log is as loud as this.
    pub fn set_level(&self, level: LevelFilter) {
        if let Some(filter) = &self.filter {
            // Fails only if nobody logs any more.
            let _ = filter.reload(targets(level));
        }
    }
}

/// Libraries speak of warnings only, whatever the level: at their finer levels some of them write
/// what passes through them.
fn targets(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        // It quotes what it reads in files.
        .with_target("lopdf", LevelFilter::OFF)
        // Who asked hears of it.
        .with_target("rustls_platform_verifier", LevelFilter::OFF)
        .with_target("tutor_core", level)
        .with_target("tutor_http", level)
}

/// Something else that listens to what the log hears.
pub type Extra = Box<dyn Layer<Registry> + Send + Sync>;

/// What the log is laid over.
type Base = Layered<Option<Extra>, Registry>;

/// Sends the log of this process to standard error from now on, and all that happens to `extra`.
pub fn init(level: LevelFilter, format: LogFormat, extra: Option<Extra>) -> Logs {
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
    let (filter, handle) = reload::Layer::new(targets(level));
    let lines_of = tracing_subscriber::fmt::layer().with_writer(sink);
    let log: Box<dyn Layer<Base> + Send + Sync> = match format {
        LogFormat::Text => lines_of.with_ansi(false).with_filter(filter).boxed(),
        LogFormat::Json => lines_of
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_filter(filter)
            .boxed(),
    };
    // Fails only if somebody else has set up logging; then theirs is used.
    let is_ours = tracing_subscriber::registry()
        .with(extra)
        .with(log)
        .try_init()
        .is_ok();
    // The default hook prints the message, which may quote what somebody wrote.
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        tracing::error!(at = at.unwrap_or_default(), "a task panicked");
    }));
    Logs {
        lines: Some(lines),
        writer: writer.ok(),
        filter: is_ours.then_some(handle),
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
