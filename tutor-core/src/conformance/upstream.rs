//! A fake provider upstream: a server on the loopback interface that plays scripts, byte for byte.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet, yield_now};

/// The largest request that is read, in bytes.
const MAX_REQUEST_BYTES: usize = 64 << 20;

/// One step of what the server does with a connection once it has read a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes in pieces of this size, each on its own.
    SendBy(usize, Vec<u8>),
    /// Does nothing for this long.
    Wait(Duration),
    /// Sends these bytes every time this long has passed, until the client hangs up.
    Repeat(Duration, Vec<u8>),
    /// Does nothing until the client hangs up.
    Hold,
    /// Breaks the connection off, without the manners of TCP.
    Reset,
    /// Reads the next request on the same connection, and plays the next script.
    KeepAlive,
}

/// A request as it was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Received {
    /// The first header with this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A fake upstream. Each request is answered by the next script; the last script is repeated.
/// After a script the connection is closed. Dropping it stops the server.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    scripts: Mutex<VecDeque<Vec<Act>>>,
    requests: Mutex<Vec<Received>>,
    /// How often a client hung up while a script waited for that.
    hangups: watch::Sender<usize>,
    sent: AtomicUsize,
}

impl Upstream {
    /// Starts a server on a free port.
    ///
    /// # Errors
    /// Those of binding a socket.
    pub async fn start(scripts: impl IntoIterator<Item = Vec<Act>>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            scripts: Mutex::new(scripts.into_iter().collect()),
            ..Shared::default()
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            server,
        })
    }

    /// Starts a server that answers everything with this event stream.
    ///
    /// # Errors
    /// Those of binding a socket.
    pub async fn streaming(body: impl AsRef<[u8]>) -> io::Result<Self> {
        Self::start([vec![Act::Send(event_stream(body))]]).await
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, in order.
    pub fn requests(&self) -> Vec<Received> {
        self.shared
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many bytes clients have taken, or the buffers on the way to them, from
    /// [`Act::Send`] and [`Act::SendBy`].
    pub fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Waits until clients have hung up on this many scripts that waited for it. False if that
    /// takes longer than `limit`.
    pub async fn hung_up(&self, times: usize, limit: Duration) -> bool {
        let mut hangups = self.shared.hangups.subscribe();
        tokio::time::timeout(limit, hangups.wait_for(|count| *count >= times))
            .await
            .is_ok_and(|seen| seen.is_ok())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A whole response: an event stream that ends with the connection.
pub fn event_stream(body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n";
    [head.as_bytes(), body.as_ref()].concat()
}

/// A whole response with a JSON body.
pub fn json_response(status: u16, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!("HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Owned by this task, so that they end with it.
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // A client may hang up at any time: that is not this server's failure.
            let _ = connection(socket, &shared).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(mut socket: TcpStream, shared: &Shared) -> io::Result<()> {
    socket.set_nodelay(true)?;
    while let Some(request) = read_request(&mut socket).await? {
        shared
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request);
        let script = {
            let mut scripts = shared
                .scripts
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if scripts.len() > 1 {
                scripts.pop_front()
            } else {
                scripts.front().cloned()
            }
        };
        if !play(&mut socket, script.unwrap_or_default(), shared).await? {
            break;
        }
    }
    socket.shutdown().await
}

/// Plays a script; true if the connection stays open for another request.
async fn play(socket: &mut TcpStream, script: Vec<Act>, shared: &Shared) -> io::Result<bool> {
    for act in script {
        match act {
            Act::Send(bytes) => {
                socket.write_all(&bytes).await?;
                shared.sent.fetch_add(bytes.len(), Ordering::Relaxed);
            }
            Act::SendBy(size, bytes) => {
                for piece in bytes.chunks(size.max(1)) {
                    socket.write_all(piece).await?;
                    shared.sent.fetch_add(piece.len(), Ordering::Relaxed);
                    yield_now().await;
                }
            }
            Act::Wait(pause) => tokio::time::sleep(pause).await,
            Act::Repeat(pause, bytes) => {
                while !hangs_up(socket, pause).await {
                    if socket.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
                shared.hangups.send_modify(|count| *count += 1);
            }
            Act::Hold => {
                while !hangs_up(socket, Duration::from_secs(3600)).await {}
                shared.hangups.send_modify(|count| *count += 1);
            }
            Act::Reset => {
                socket.set_zero_linger()?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Act::KeepAlive => return Ok(true),
        }
    }
    Ok(false)
}

/// True if the client hangs up within this time.
async fn hangs_up(socket: &mut TcpStream, within: Duration) -> bool {
    let mut ignored = [0; 1024];
    match tokio::time::timeout(within, socket.read(&mut ignored)).await {
        Ok(Ok(0) | Err(_)) => true,
        Ok(Ok(_)) | Err(_) => false,
    }
}

/// Reads a request; `None` if the client hung up instead of sending one.
async fn read_request(socket: &mut TcpStream) -> io::Result<Option<Received>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let mut lines = text.split("\r\n");
    let mut first = lines
        .next()
        .unwrap_or_default()
        .split(' ')
        .map(str::to_owned);
    let header = |line: &str| {
        line.split_once(':')
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
    };
    let mut request = Received {
        method: first.next().unwrap_or_default(),
        target: first.next().unwrap_or_default(),
        headers: lines.filter_map(header).collect(),
        body: bytes.split_off(head + 4),
    };
    let length = request
        .header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let length = usize::min(length, MAX_REQUEST_BYTES);
    while request.body.len() < length {
        if socket.read_buf(&mut request.body).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(request))
}
