//! The server as a process of its own, and many clients of it.

use std::io::{self, BufRead, BufReader as Lines};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// The `neuro-tutor` that is measured: `NEURO_TUTOR`, else the release build beside this program.
///
/// # Errors
/// If there is none, saying how to build it.
pub fn program() -> io::Result<PathBuf> {
    let named = std::env::var_os("NEURO_TUTOR").map(PathBuf::from);
    let beside = std::env::current_exe()?.with_file_name("neuro-tutor");
    let program = named.unwrap_or(beside);
    if program.is_file() {
        return Ok(program);
    }
    Err(io::Error::other(format!(
        "there is no {}: cargo build --release -p tutor-http, or set NEURO_TUTOR",
        program.display()
    )))
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it serves.
    pub address: SocketAddr,
    /// How long it took until it answered.
    pub started_in: Duration,
    // A closed pipe would be an error of its output.
    _out: Lines<ChildStdout>,
}

impl Server {
    /// Serves with these arguments in `directory`, on a free port.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(directory: &Path, arguments: &[&str], delay_ms: u64) -> io::Result<Self> {
        let began = Instant::now();
        let mut child = Command::new(program()?)
            .args(["serve", "--port", "0", "--log-level", "error"])
            .args(arguments)
            .current_dir(directory)
            .env_clear()
            .env("OLLAMA_HOST", "off")
            .env("DEMO_DELAY_MS", delay_ms.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take();
        let mut out = Lines::new(out.ok_or_else(|| io::Error::other("no output"))?);
        let address = loop {
            let mut line = String::new();
            if out.read_line(&mut line)? == 0 {
                return Err(io::Error::other("it does not serve"));
            }
            if let Some((_, address)) = line.split_once("server     http://") {
                break address.trim().parse().map_err(io::Error::other)?;
            }
        };
        Client::connect(address).await?.get("/").await?;
        Ok(Self {
            child,
            address,
            started_in: began.elapsed(),
            _out: out,
        })
    }

    /// Bytes of memory that it has.
    ///
    /// # Errors
    /// Without the proc file system of Linux.
    pub fn resident(&self) -> io::Result<u64> {
        self.status("VmRSS:")
    }

    /// The most that it has had.
    ///
    /// # Errors
    /// Without the proc file system of Linux.
    pub fn peak(&self) -> io::Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        Ok(kib.unwrap_or(0) * 1024)
    }

    /// Tells it to stop, as `systemctl stop` does.
    ///
    /// # Errors
    /// If there is no `kill`.
    pub fn terminate(&self) -> io::Result<()> {
        let pid = self.child.id().to_string();
        Command::new("kill")
            .args(["-s", "TERM", &pid])
            .status()
            .map(drop)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// If it did not end well.
    pub fn ended(mut self) -> io::Result<()> {
        let status = self.child.wait()?;
        match status.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("it ended with {status}"))),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server said at the head of an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head {
    /// Its status.
    pub status: u16,
    /// True if it said when to come again.
    pub retry_after: bool,
    /// True if the connection ends behind the answer.
    pub closes: bool,
    length: Option<usize>,
}

/// One connection that is kept.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Those of the network.
    pub async fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            // Ten thousand of them are kept.
            stream: BufReader::with_capacity(4096, stream),
        })
    }

    /// Reads one thing whole.
    ///
    /// # Errors
    /// Those of the network; if it answers with anything but 200.
    pub async fn get(&mut self, path: &str) -> io::Result<Vec<u8>> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        let head = self.head().await?;
        if head.status != 200 {
            return Err(io::Error::other(format!("{path}: {}", head.status)));
        }
        self.body(head).await
    }

    /// Says something, and reads the head of the answer.
    ///
    /// # Errors
    /// Those of the network.
    pub async fn chat(&mut self, text: &str, streamed: bool) -> io::Result<Head> {
        let body =
            format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}],"stream":{streamed}}}"#);
        let request = format!(
            "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        self.head().await
    }

    async fn head(&mut self) -> io::Result<Head> {
        let mut head = Head::default();
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.stream.read_line(&mut line);
            let read = tokio::time::timeout(PATIENCE, read).await??;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(status) = line.strip_prefix("http/1.1 ") {
                head.status = status[..3].parse().map_err(io::Error::other)?;
            } else if let Some(length) = line.strip_prefix("content-length: ") {
                head.length = Some(length.parse().map_err(io::Error::other)?);
            } else if line.starts_with("retry-after: ") {
                head.retry_after = true;
            } else if line == "connection: close" {
                head.closes = true;
            } else if line.is_empty() {
                return Ok(head);
            }
        }
    }

    /// The rest of an answer.
    ///
    /// # Errors
    /// Those of the network.
    pub async fn body(&mut self, head: Head) -> io::Result<Vec<u8>> {
        if let Some(length) = head.length {
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await?;
            return Ok(body);
        }
        let mut body = Vec::new();
        while let Some(mut chunk) = self.chunk().await? {
            body.append(&mut chunk);
        }
        Ok(body)
    }

    /// The next part of a stream; `None` at its end.
    ///
    /// # Errors
    /// Those of the network.
    pub async fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line);
        if tokio::time::timeout(PATIENCE, read).await?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = usize::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).await?;
        chunk.truncate(length);
        Ok((length > 0).then_some(chunk))
    }

    /// Everything that comes until the other end closes, or sends no more.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        while let Ok(Some(mut chunk)) = self.chunk().await {
            rest.append(&mut chunk);
        }
        rest
    }
}

/// The numbers of the events in a stream, in their order, and whether it has come to its end.
pub fn events(stream: &[u8]) -> (Vec<u64>, bool) {
    let text = String::from_utf8_lossy(stream);
    let ids = text
        .lines()
        .filter_map(|line| line.strip_prefix("id: ")?.parse().ok());
    (ids.collect(), text.contains("event: turn.finished\n"))
}

/// The turn of a stream.
pub fn turn(stream: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stream);
    let (_, rest) = text.split_once("\"turn_id\":\"")?;
    rest.split('"').next().map(str::to_owned)
}

/// As many tasks as there are clients; what each came to.
pub async fn all<T: Send + 'static, W>(clients: usize, work: impl Fn(usize) -> W) -> Vec<T>
where
    W: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = (0..clients)
        .map(|client| tokio::spawn(work(client)))
        .collect();
    let mut results = Vec::with_capacity(clients);
    for task in tasks {
        // A client that panicked has no result, which the counts show.
        results.extend(task.await.ok());
    }
    results
}
