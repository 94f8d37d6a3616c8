//! A Redis server for tests: the one that the environment names, or one of our own.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

/// Names a running server; without it one is started.
const SERVER: &str = "TUTOR_TEST_REDIS";

/// A server that ends with this value, and with this process.
pub(crate) struct Server {
    _process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub(crate) url: String,
}

impl Server {
    /// Starts one that keeps nothing. Blocks.
    pub(crate) fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/redis.py");
        let mut process = Command::new("python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tests of Redis need python3");
        let commands = process.stdin.take().unwrap();
        let mut answers = BufReader::new(process.stdout.take().unwrap());
        let mut url = String::new();
        answers.read_line(&mut url).unwrap();
        assert!(
            url.starts_with("redis://"),
            "the tests need a Redis server: install the package redis-server, or name one by {SERVER}"
        );
        Self {
            _process: process,
            commands,
            answers,
            url: url.trim_end().to_owned(),
        }
    }

    /// `stop`, with all that it has, `start`, `hang` or `go`. Blocks until it is done.
    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim_end(), command);
    }
}

/// The URL of the server that tests share.
pub(crate) fn shared() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        std::env::var(SERVER).unwrap_or_else(|_| {
            // It ends when its input does: with this process.
            let server = Box::leak(Box::new(Server::start()));
            server.url.clone()
        })
    })
}
