//! What the benchmarks share: a provider that costs nothing, a directory to write to, and the least
//! that a durable store could do.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot run has no result"
)]

pub mod load;
pub mod process;
pub mod relay;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tutor_core::provider::{
    CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo,
};
use tutor_core::{FinishReason, Result, async_trait};

/// Answers at once with a number of deltas of 8 bytes.
#[derive(Clone, Debug)]
pub struct Deltas(pub usize);

#[async_trait]
impl Provider for Deltas {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new("deltas", "deltas")
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        Ok(vec![ModelInfo::new("deltas")])
    }

    async fn stream(&self, _: CompletionRequest) -> Result<CompletionStream> {
        let deltas = stream::repeat_with(|| Delta::Text("learning".to_owned())).take(self.0);
        let end = stream::iter([Delta::Finished {
            reason: FinishReason::Stop,
        }]);
        Ok(deltas.chain(end).map(Ok).boxed())
    }
}

/// A new directory on the disk of the build, not in memory.
///
/// # Errors
/// The file system's.
pub fn disk() -> std::io::Result<TempDir> {
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target");
    std::fs::create_dir_all(&target)?;
    tempfile::tempdir_in(target)
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value that this share of all is not above; sorts them.
pub fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    values.sort_unstable();
    values[(values.len() * percent / 100).min(values.len() - 1)]
}

/// In milliseconds.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Two writes of `bytes` per turn, appended to one file by one thread that syncs once for all who
/// wait. Returns how long each turn took.
pub async fn raw_turns(sessions: usize, bytes: usize, time: Duration) -> Vec<Duration> {
    let directory = disk().unwrap();
    let mut file = File::create(directory.path().join("log")).unwrap();
    let (queue, writes) = mpsc::channel::<oneshot::Sender<()>>();
    let writer = std::thread::spawn(move || {
        while let Ok(first) = writes.recv() {
            let group: Vec<_> = std::iter::once(first).chain(writes.try_iter()).collect();
            file.write_all(&vec![b'x'; group.len() * bytes]).unwrap();
            file.sync_data().unwrap();
            for waiting in group {
                let _ = waiting.send(());
            }
        }
    });
    let end = Instant::now() + time;
    let learners = (0..sessions).map(|_| {
        let queue = queue.clone();
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let start = Instant::now();
                for _ in 0..2 {
                    let (done, wait) = oneshot::channel();
                    queue.send(done).unwrap();
                    wait.await.unwrap();
                }
                latencies.push(start.elapsed());
            }
            latencies
        })
    });
    let mut all = Vec::new();
    for learner in learners.collect::<Vec<_>>() {
        all.append(&mut learner.await.unwrap());
    }
    drop(queue);
    writer.join().unwrap();
    all
}
