//! A body that is read no faster than what it brings is taken.
//!
//! The parser of forms reads on for as long as there is something to read, and keeps it: a client
//! that is faster than the disk would have its whole upload in memory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::{Buf, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// Bytes that may be read between parts: a boundary, the heads of the next part, and what came with
/// them.
pub(crate) const MAX_HEAD_BYTES: usize = 64 << 10;

/// How much was read since the last part, for both sides to see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread(Arc<AtomicUsize>);

impl Unread {
    /// A part's head, or a piece of it, was taken.
    pub(crate) fn taken(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Gives one frame whenever it is asked, and then nothing until it is asked again. Fails once more
/// than [`MAX_HEAD_BYTES`] were read in which nothing was found.
#[derive(Debug)]
pub(crate) struct Paced {
    body: Body,
    unread: Unread,
    rests: bool,
}

impl Paced {
    pub(crate) fn new(body: Body) -> (Self, Unread) {
        let unread = Unread::default();
        let paced = Self {
            body,
            unread: unread.clone(),
            rests: false,
        };
        (paced, unread)
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if std::mem::take(&mut self.rests) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.unread.0.load(Ordering::Relaxed) > MAX_HEAD_BYTES {
            return Poll::Ready(Some(Err(axum::Error::new(
                "the head of a part is too long",
            ))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, Buf::remaining);
            self.unread.0.fetch_add(bytes, Ordering::Relaxed);
            self.rests = true;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
    use futures_util::stream;

    use super::*;

    const FRAME: usize = 16 << 10;

    /// A form of these bytes, all of which are there already, and how many were asked for.
    async fn form(bytes: Vec<u8>) -> (Multipart, Unread, Arc<AtomicUsize>) {
        let read = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&read);
        let frames = stream::unfold(Bytes::from(bytes), move |mut rest| {
            let frame = rest.split_to(rest.len().min(FRAME));
            counter.fetch_add(frame.len(), Ordering::Relaxed);
            let next = (!frame.is_empty()).then_some((Ok::<_, axum::Error>(frame), rest));
            std::future::ready(next)
        });
        let (paced, unread) = Paced::new(Body::from_stream(frames));
        let mut request = Request::post("/")
            .header("content-type", "multipart/form-data; boundary=b")
            .body(Body::new(paced))
            .unwrap();
        DefaultBodyLimit::disable().apply(&mut request);
        let form = Multipart::from_request(request, &()).await.unwrap();
        (form, unread, read)
    }

    #[tokio::test]
    async fn no_more_of_a_form_is_in_memory_than_a_frame_or_two() {
        let head = "--b\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\n";
        let file = vec![b'x'; 10 << 20];
        let all = [head.as_bytes(), &file, b"\r\n--b--\r\n"].concat();
        let (mut form, unread, read) = form(all).await;
        let mut field = form.next_field().await.unwrap().unwrap();
        let mut taken = 0;
        while let Some(piece) = field.chunk().await.unwrap() {
            taken += piece.len();
            unread.taken();
            let ahead = read.load(Ordering::Relaxed).saturating_sub(taken);
            assert!(ahead <= 2 * FRAME, "{ahead}");
        }
        assert_eq!(taken, file.len());
    }

    #[tokio::test]
    async fn a_head_without_an_end_is_not_read_on() {
        for begin in ["", "--b\r\nx: "] {
            let all = [begin.as_bytes(), &vec![b'x'; 10 << 20]].concat();
            let (mut form, _, read) = form(all).await;
            assert!(form.next_field().await.is_err());
            let read = read.load(Ordering::Relaxed);
            assert!(read <= MAX_HEAD_BYTES + FRAME, "{read}");
        }
    }
}
