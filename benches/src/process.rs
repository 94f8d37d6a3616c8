//! Upstreams and relays as processes of their own, so that each can be measured by itself.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process that says its address and serves until its input ends.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Where it serves.
    pub address: SocketAddr,
}

impl Process {
    /// Starts `program` with `arguments`.
    ///
    /// # Errors
    /// Those of starting it; if it says no address.
    pub fn start(program: &Path, arguments: &[impl AsRef<OsStr>]) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.as_mut() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { child, address })
    }

    /// The processor time that it has used, in user and system mode.
    ///
    /// # Errors
    /// Without the proc file system of Linux.
    pub fn cpu(&self) -> io::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name, in parentheses, may have spaces. Times are hundredths of a second.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// The memory that it has, in bytes.
    ///
    /// # Errors
    /// Without the proc file system of Linux.
    pub fn resident(&self) -> io::Result<usize> {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id()))?;
        let pages = statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<usize>().ok());
        Ok(pages.unwrap_or(0) * 4096)
    }

    /// Ends its input and waits until it is over.
    ///
    /// # Errors
    /// Those of waiting.
    pub fn end(mut self) -> io::Result<()> {
        drop(self.child.stdin.take());
        self.child.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be over.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until nobody writes to this process any more.
pub fn input_ended() {
    let _ = io::stdin().read_to_end(&mut Vec::new());
}
