//! What of a request's body nobody read: HTTP/1.1 has no way past it, so that its client is told not
//! to use the connection again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, Version, header};
use hyper::body::Body as _;

use crate::watched::watched;

/// Whether the body of a request was read to its end.
pub(super) struct Remainder(Arc<AtomicBool>);

impl Remainder {
    /// Watches the body of a request; `None` where nothing can be left.
    pub(super) fn watch(request: Request) -> (Request, Option<Self>) {
        if request.version() >= Version::HTTP_2 || request.body().is_end_stream() {
            return (request, None);
        }
        let is_read = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&is_read);
        let request = request.map(|body| {
            watched(body, move |asked, left| {
                if matches!(asked, Poll::Ready(None)) || asked.is_ready() && left.is_end_stream() {
                    noted.store(true, Ordering::Relaxed);
                }
            })
        });
        (request, Some(Self(is_read)))
    }

    /// Tells it, if something is left.
    pub(super) fn tell(self, response: &mut Response) {
        if !self.0.load(Ordering::Relaxed) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
    }
}
