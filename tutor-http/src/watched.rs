//! A body that somebody looks on at while it is read.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// What came of asking a body for its next frame.
pub(crate) type Asked = Poll<Option<Result<Frame<Bytes>, axum::Error>>>;

/// The body as it is. Each time that it is asked for a frame, `look` sees what came of it, and what is
/// left of the body. It is dropped with the body.
pub(crate) fn watched(
    body: Body,
    look: impl FnMut(&Asked, &Body) + Send + Unpin + 'static,
) -> Body {
    Body::new(Watched { body, look })
}

struct Watched<L> {
    body: Body,
    look: L,
}

impl<L: FnMut(&Asked, &Body) + Unpin> HttpBody for Watched<L> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Asked {
        let Self { body, look } = &mut *self;
        let asked = Pin::new(&mut *body).poll_frame(cx);
        look(&asked, body);
        asked
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
