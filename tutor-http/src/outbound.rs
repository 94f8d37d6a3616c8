//! Requests that the server makes itself: of keys of issuers, of a collector of traces, and of
//! another server in the terminal. Never to where somebody else wants it to.

use bytes::BytesMut;
use futures_util::StreamExt;
use reqwest::{ClientBuilder, Response};

/// The beginning of a client. It does not follow redirects.
pub(crate) fn client() -> ClientBuilder {
    // Fails only if the process has one already.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none())
}

/// Why a body was not read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The connection.
    Broken(reqwest::Error),
    /// It is longer than it may be.
    TooLong,
}

/// The whole body of an answer, of so many bytes at most.
pub(crate) async fn read(response: Response, max_bytes: usize) -> Result<BytesMut, Unread> {
    let mut body = response.bytes_stream();
    let mut read = BytesMut::new();
    while let Some(bytes) = body.next().await {
        read.extend_from_slice(&bytes.map_err(Unread::Broken)?);
        if read.len() > max_bytes {
            return Err(Unread::TooLong);
        }
    }
    Ok(read)
}
