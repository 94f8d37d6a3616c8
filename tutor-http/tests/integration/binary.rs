//! The real binary, in a directory of its own and without this process's environment.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use tempfile::TempDir;

use crate::client::PATIENCE;

/// A place to run `neuro-tutor` in.
pub(crate) struct Binary {
    directory: TempDir,
}

/// A new file in the directory whose files are looked through after the test run, if there is one.
fn looked_through() -> Option<File> {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let directory = PathBuf::from(std::env::var_os("TUTOR_TEST_LOGS")?);
    std::fs::create_dir_all(&directory).unwrap();
    let (process, number) = (std::process::id(), FILES.fetch_add(1, Ordering::Relaxed));
    let file = File::create(directory.join(format!("rust-{process}-{number}.log")));
    Some(file.unwrap())
}

/// What a command ended with.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Binary {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_neuro-tutor"));
        command
            .args(args)
            .current_dir(self.directory.path())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, &[])
    }

    /// Runs a command to its end, which reads this.
    pub(crate) fn run_with(&self, args: &[&str], input: &[u8]) -> Ended {
        Self::finish(self.command(args), input)
    }

    /// Runs this command to its end, which reads this.
    pub(crate) fn finish(mut command: Command, input: &[u8]) -> Ended {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A command that refuses its input does not read it to the end.
        let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap();
        Ended {
            code: output.status.code().unwrap_or(-1),
            out: output.stdout,
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Serves, on a free port, and with these further arguments.
    pub(crate) fn serve(&self, args: &[&str]) -> Serving {
        self.serve_with(args, &[])
    }

    /// Serves in this environment. Where all output of the test run is looked through, it logs all
    /// that it can.
    pub(crate) fn serve_with(&self, args: &[&str], vars: &[(&str, &str)]) -> Serving {
        let (level, log) = match looked_through() {
            Some(file) => ("trace", file.into()),
            None => ("error", Stdio::inherit()),
        };
        let args = [&["--log-level", level], args].concat();
        Serving::spawn(self, &args, vars, log)
    }

    /// Serves in this environment, and gives the lines of its log as they come.
    pub(crate) fn serve_logged(
        &self,
        args: &[&str],
        vars: &[(&str, &str)],
    ) -> (Serving, mpsc::Receiver<String>) {
        let mut serving = Serving::spawn(self, args, vars, Stdio::piped());
        let log = BufReader::new(serving.child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                // The test may have seen enough.
                let _ = sender.send(line);
            }
        });
        (serving, lines)
    }
}

impl AsRef<Path> for Binary {
    fn as_ref(&self) -> &Path {
        self.directory.path()
    }
}

impl Ended {
    /// The output of a command that must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Vec<u8> {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    #[track_caller]
    pub(crate) fn text(self) -> String {
        String::from_utf8(self.ok()).unwrap()
    }

    /// The one line that a command said which must have failed with this code.
    #[track_caller]
    pub(crate) fn refused(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}", self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        self.err
    }
}

/// A server in another process. It is killed when this is dropped.
pub(crate) struct Serving {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Where it tells health and metrics, if not beside the API.
    pub(crate) watched: Option<SocketAddr>,
    /// A closed pipe would be another test.
    _out: BufReader<ChildStdout>,
}

impl Serving {
    fn spawn(binary: &Binary, args: &[&str], vars: &[(&str, &str)], log: Stdio) -> Self {
        let mut child = binary
            .command(&[&["serve", "--port", "0"], args].concat())
            .env("DEMO_DELAY_MS", "0")
            .envs(vars.iter().copied())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (mut address, mut watched) = (None, None);
        loop {
            let mut line = String::new();
            assert_ne!(out.read_line(&mut line).unwrap(), 0, "it does not serve");
            let Some((what, url)) = line.trim().split_once("://") else {
                continue;
            };
            match what.split_whitespace().next() {
                Some("server") => address = Some(url.parse().unwrap()),
                Some("metrics") => {
                    watched = Some(url.trim_end_matches("/metrics").parse().unwrap())
                }
                Some("docs") => break,
                _ => {}
            }
        }
        let address = address.unwrap();
        Self {
            child,
            address,
            watched,
            _out: out,
        }
    }

    /// Sends it a signal, such as `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until it has ended; its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

/// The first line that contains this.
#[track_caller]
pub(crate) fn line_with(lines: &mpsc::Receiver<String>, what: &str) -> String {
    let mut seen = Vec::new();
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) if line.contains(what) => return line,
            Ok(line) => seen.push(line),
            Err(error) => panic!("{error}: no {what:?} in {seen:#?}"),
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
