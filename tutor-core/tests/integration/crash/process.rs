//! The writer's process, as its parent sees it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// The longest silence of a writer that works: then it hangs.
const SILENCE: Duration = Duration::from_secs(60);

/// What begins a line of ours among those of the test runner.
pub(crate) const MARK: &str = "@ ";

/// A writer that runs.
pub(crate) struct Process {
    child: Child,
    what: String,
    lines: Receiver<String>,
}

impl Process {
    /// Starts the test of this name in a process of its own, with these variables.
    pub(crate) fn start(test: &str, variables: &[(&str, OsString)]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=2"])
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // A writer that fails a check of its own says why.
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            // A line without an end was cut off by the kill: it was never said.
            while output.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) && line.ends_with(b"\n")
            {
                let text = String::from_utf8_lossy(&line);
                if let Some((_, said)) = text.trim_end().split_once(MARK)
                    && sender.send(said.to_owned()).is_err()
                {
                    return;
                }
                line.clear();
            }
        });
        let what = format!("{variables:?}");
        Self { child, what, lines }
    }

    /// What it says next; `None` when it has ended.
    pub(crate) fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(SILENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                self.child.kill().unwrap();
                panic!("the writer hangs: {}", self.what);
            }
        }
    }

    /// Ends it by `SIGKILL`, and gives what it still said.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.line()).collect()
    }

    /// Waits for its end, and gives what it said.
    pub(crate) fn wait(mut self) -> (Vec<String>, ExitStatus) {
        let lines = std::iter::from_fn(|| self.line()).collect();
        (lines, self.child.wait().unwrap())
    }
}
