//! PostgreSQL and Redis for tests: those that the environment names, or our own.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

/// A server that ends when its input does.
pub(crate) struct Service {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pub(crate) url: String,
}

impl Service {
    /// A new, empty database.
    pub(crate) fn postgres() -> Self {
        Self::start("postgres.py", "postgresql://", &[])
    }

    /// A Redis that keeps nothing.
    pub(crate) fn redis() -> Self {
        Self::start("redis.py", "redis://", &[])
    }

    /// One that speaks TLS alone.
    pub(crate) fn redis_with(certificate: &Path, key: &Path) -> Self {
        Self::start("redis.py", "rediss://", &[certificate, key])
    }

    /// nginx as the example configures it, in front of these servers.
    pub(crate) fn nginx(servers: &[SocketAddr]) -> Self {
        let servers: Vec<_> = servers.iter().map(SocketAddr::to_string).collect();
        let servers: Vec<_> = servers.iter().map(Path::new).collect();
        Self::start("nginx.py", "http://", &servers)
    }

    /// Where nginx is.
    pub(crate) fn address(&self) -> SocketAddr {
        let (_, address) = self.url.split_once("://").unwrap();
        address.parse().unwrap()
    }

    fn start(script: &str, scheme: &str, args: &[&Path]) -> Self {
        let ci = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci");
        let mut started = Command::new("python3");
        let started = started.arg(ci.join(script)).args(args);
        let piped = started.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let commands = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut url = String::new();
        answers.read_line(&mut url).unwrap();
        assert!(url.starts_with(scheme), "{script} did not start it");
        Self {
            child,
            commands,
            answers,
            url: url.trim_end().to_owned(),
        }
    }

    /// Has its script do this. Blocks until it is done.
    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim_end(), command);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.commands.take());
        // It takes its directory away.
        let _ = self.child.wait();
    }
}

/// The URL of one that tests share: the environment's, or that of one which ends with this process.
fn shared(var: &str, url: &'static OnceLock<String>, start: fn() -> Service) -> &'static str {
    url.get_or_init(|| {
        std::env::var(var).unwrap_or_else(|_| {
            let service = Box::leak(Box::new(start()));
            service.url.clone()
        })
    })
}

/// A database that tests share.
pub(crate) fn postgres() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    shared("TUTOR_TEST_POSTGRES", &URL, Service::postgres)
}

/// A Redis that tests share.
pub(crate) fn redis() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    shared("TUTOR_TEST_REDIS", &URL, Service::redis)
}
