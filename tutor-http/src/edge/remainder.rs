//! What of a request's body nobody read: HTTP/1.1 has no way past it, so that its client is told not
//! to use the connection again.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Version, header};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// Whether the body of a request was read to its end.
pub(super) struct Remainder(Arc<AtomicBool>);

impl Remainder {
    /// Watches the body of a request; `None` where nothing can be left.
    pub(super) fn watch(request: Request) -> (Request, Option<Self>) {
        if request.version() >= Version::HTTP_2 || request.body().is_end_stream() {
            return (request, None);
        }
        let is_read = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&is_read);
        let request = request.map(|body| Body::new(Watched { body, is_read }));
        (request, Some(Self(watched)))
    }

    /// Tells it, if something is left.
    pub(super) fn tell(self, response: &mut Response) {
        if !self.0.load(Ordering::Relaxed) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
    }
}

/// A body that notes its end.
struct Watched {
    body: Body,
    is_read: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.is_read.store(true, Ordering::Relaxed);
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
