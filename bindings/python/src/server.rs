//! The HTTP server in this process.

use std::net::SocketAddr;

use pyo3::prelude::*;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tutor_core::{Error, ErrorKind, Result, Tutor};
use tutor_http::{AppState, Origins, serve};

use crate::call::{Call, Output};
use crate::failure::forked_away;
use crate::runtime::Owned;

/// A server that listens. Dropping it stops it.
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Server {
    running: Owned<Running>,
    #[pyo3(get)]
    host: String,
    #[pyo3(get)]
    port: u16,
}

struct Running {
    stop: DropGuard,
    stopping: CancellationToken,
    stopped: CancellationToken,
}

impl Server {
    pub(crate) async fn start(
        tutor: Tutor,
        host: &str,
        port: u16,
        origins: Option<&str>,
    ) -> Result<Self> {
        let not_usable = |error: std::io::Error| {
            Error::new(
                ErrorKind::Config,
                "the server cannot listen on this address: choose another one, or port 0 for any",
            )
            .with_context("host", host)
            .with_context("port", port)
            .with_source(error)
        };
        let mut state = AppState::new(tutor);
        if let Some(origins) = origins {
            state = state.with_origins(Origins::parse(origins)?);
        }
        let listener = TcpListener::bind((host, port)).await.map_err(not_usable)?;
        let address: SocketAddr = listener.local_addr().map_err(not_usable)?;
        let (stopping, stopped) = (CancellationToken::new(), CancellationToken::new());
        let (stop, done) = (
            stopping.clone().cancelled_owned(),
            stopped.clone().drop_guard(),
        );
        tokio::spawn(async move {
            serve(listener, state, stop).await;
            drop(done);
        });
        Ok(Self {
            running: Owned::new(Running {
                stop: stopping.clone().drop_guard(),
                stopping,
                stopped,
            }),
            host: address.ip().to_string(),
            port: address.port(),
        })
    }
}

#[pymethods]
impl Server {
    /// Takes no new connection and waits for the requests that run, at most the grace period.
    fn stop(&self) -> Call {
        if let Some(running) = self.running.get() {
            running.stopping.cancel();
        }
        self.wait()
    }

    /// Waits until it has stopped.
    fn wait(&self) -> Call {
        match self.running.get() {
            Some(running) => {
                let stopped = running.stopped.clone();
                Call::new(async move {
                    stopped.cancelled().await;
                    Ok(Output::Nothing)
                })
            }
            None => Call::failed(forked_away()),
        }
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("stop", &self.stop)
            .finish_non_exhaustive()
    }
}
