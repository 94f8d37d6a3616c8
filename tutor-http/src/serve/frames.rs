//! An HTTP/2 connection on which too many frames bring nothing is closed: they cost the server
//! more than the client, and hyper answers every one of them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Frames without a use that may come at once, and how many more every second.
const BURST: f64 = 1000.0;
const PER_SECOND: f64 = 100.0;

/// Bytes that a connection begins with, before its first frame.
const PREFACE_BYTES: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// Bytes of a frame's head: its length, type, flags and stream.
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;

/// What a client sends over HTTP/2, watched frame by frame.
#[derive(Debug)]
pub(super) struct FrameGuard<S> {
    stream: S,
    /// Bytes before the next frame's head.
    skip: usize,
    head: [u8; HEAD_BYTES],
    /// How many of the head's bytes are there.
    have: usize,
    budget: f64,
    filled_at: Instant,
}

impl<S> FrameGuard<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            skip: PREFACE_BYTES,
            head: [0; HEAD_BYTES],
            have: 0,
            budget: BURST,
            filled_at: Instant::now(),
        }
    }

    /// Looks at more of what came; an error when it was too much.
    fn look(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return Ok(());
            }
            let taken = (HEAD_BYTES - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD_BYTES {
                self.have = 0;
                self.frame()?;
            }
        }
    }

    /// A head is there.
    fn frame(&mut self) -> io::Result<()> {
        let [high, middle, low, kind, flags, ..] = self.head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.skip = length;
        let is_useful = match kind {
            // The last one of a body may be empty.
            DATA => length > 0 || flags & END_STREAM != 0,
            // How many of these there may be is decided by the streams and the answers.
            HEADERS | WINDOW_UPDATE => true,
            _ => false,
        };
        if is_useful {
            return Ok(());
        }
        if self.budget < 1.0 {
            let now = Instant::now();
            let waited = now.duration_since(self.filled_at).as_secs_f64();
            self.budget = (self.budget + waited * PER_SECOND).min(BURST);
            self.filled_at = now;
        }
        self.budget -= 1.0;
        if self.budget < 0.0 {
            let error = "too many frames of HTTP/2 that bring nothing";
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, error));
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameGuard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        Poll::Ready(this.look(&buf.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameGuard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let [.., high, middle, low] = payload.len().to_be_bytes();
        let head = [high, middle, low, kind, flags, 0, 0, 0, 1];
        [&head[..], payload].concat()
    }

    fn begun() -> FrameGuard<()> {
        let mut guard = FrameGuard::new(());
        guard.look(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        guard
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_bring_nothing_are_counted_however_they_are_cut() {
        let ping = frame(6, 0, &[0; 8]);
        for size in [1, 2, 9, 16, 17, 1000] {
            let mut guard = begun();
            let flood = ping.repeat(1001);
            let refused = flood
                .chunks(size)
                .position(|chunk| guard.look(chunk).is_err());
            // The last head is what is one too much.
            let last = (1000 * ping.len() + HEAD_BYTES - 1) / size;
            assert_eq!(refused, Some(last), "{size}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_allowance_comes_back_and_useful_frames_need_none() {
        let mut guard = begun();
        let settings = frame(4, 0, &[]);
        guard.look(&settings.repeat(1000)).unwrap();
        for useful in [
            frame(DATA, 0, b"x"),
            frame(DATA, END_STREAM, b""),
            frame(HEADERS, 0, b"x"),
            frame(WINDOW_UPDATE, 0, &[0; 4]),
        ] {
            guard.look(&useful.repeat(5000)).unwrap();
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        guard.look(&settings.repeat(100)).unwrap();
        assert!(guard.look(&frame(DATA, 0, b"")).is_err());
    }
}
