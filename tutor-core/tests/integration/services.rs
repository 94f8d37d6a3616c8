//! Servers that tests need: a script starts each in a directory of its own, and they end with this
//! process.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

/// A server that ends with this value, and with this process.
pub(crate) struct Service {
    _process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub(crate) url: String,
}

impl Service {
    /// Starts what this script in `.ci` starts. Blocks.
    pub(crate) fn start(script: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../.ci")
            .join(script);
        let mut process = Command::new("python3")
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tests need python3 to start servers");
        let commands = process.stdin.take().unwrap();
        let mut answers = BufReader::new(process.stdout.take().unwrap());
        let mut url = String::new();
        answers.read_line(&mut url).unwrap();
        assert!(url.contains("://"), "{script} did not start its server");
        Self {
            _process: process,
            commands,
            answers,
            url: url.trim_end().to_owned(),
        }
    }

    /// What its script can do, such as `stop` and `start`. Blocks until it is done.
    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim_end(), command);
    }
}

/// The URL of a server that tests share: the one that the environment names, or one of our own.
pub(crate) fn shared(
    var: &str,
    url: &'static OnceLock<String>,
    start: fn() -> Service,
) -> &'static str {
    url.get_or_init(|| {
        std::env::var(var).unwrap_or_else(|_| {
            // It ends when its input does: with this process.
            let service = Box::leak(Box::new(start()));
            service.url.clone()
        })
    })
}
