//! The HTTP server in this process.

use pyo3::prelude::*;
use tutor_core::file::FilePlace;
use tutor_core::{ErrorKind, Result};
use tutor_http::{AppState, Origins};

use crate::call::{Call, Output};
use crate::failure::forked_away;
use crate::runtime::Owned;

/// A server that listens. Dropping it stops it.
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Server {
    running: Owned<tutor_http::Server>,
    #[pyo3(get)]
    host: String,
    #[pyo3(get)]
    port: u16,
}

impl Server {
    pub(crate) async fn start(
        mut state: AppState,
        files: FilePlace,
        host: &str,
        port: u16,
        origins: Option<&str>,
    ) -> Result<Self> {
        match files.store().await {
            Ok(files) => state = state.with_files(files),
            // Without a place for them the server takes none.
            Err(error) if error.kind() == ErrorKind::Config => {}
            Err(error) => return Err(error),
        }
        if let Some(origins) = origins {
            state = state.with_origins(Origins::parse(origins)?);
        }
        let server = tutor_http::Server::default();
        let address = server.listen(host, port, state).await?;
        Ok(Self {
            running: Owned::new(server),
            host: address.ip().to_string(),
            port: address.port(),
        })
    }
}

#[pymethods]
impl Server {
    /// Takes no new connection and waits for the requests that run, at most the grace period.
    fn stop(&self) -> Call {
        if let Some(server) = self.running.get() {
            server.stop();
        }
        self.wait()
    }

    /// Waits until it has stopped.
    fn wait(&self) -> Call {
        match self.running.get() {
            Some(server) => {
                let stopped = server.stopped();
                Call::new(async move {
                    stopped.await;
                    Ok(Output::Nothing)
                })
            }
            None => Call::failed(forked_away()),
        }
    }
}
