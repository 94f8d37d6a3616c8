//! A server inside another program.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tutor_core::{Error, Result};

use super::{bind, serve};
use crate::state::AppState;

/// A server that is to listen, or listens. Cheap to clone; clones are one server, and dropping the
/// last of them stops it.
#[derive(Clone, Debug, Default)]
pub struct Server(Arc<Tokens>);

#[derive(Debug, Default)]
struct Tokens {
    stopping: CancellationToken,
    stopped: CancellationToken,
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

impl Server {
    /// Listens, serves from now on within the runtime that polls this, and tells where. Call it
    /// once.
    ///
    /// # Errors
    /// Those of [`bind`]. The server counts as stopped then.
    pub async fn listen(&self, host: &str, port: u16, state: AppState) -> Result<SocketAddr> {
        // Whatever fails, nobody waits for a server that never ran.
        let done = self.0.stopped.clone().drop_guard();
        let listener = bind(host, port).await?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::internal("the address is not known").with_source(error))?;
        let stop = self.0.stopping.clone().cancelled_owned();
        tokio::spawn(async move {
            serve(listener, state, stop).await;
            drop(done);
        });
        Ok(address)
    }

    /// Takes no new connection, and lets the requests that run end, at most within
    /// [`drain_grace`](crate::Bounds::drain_grace). Does not wait for that.
    pub fn stop(&self) {
        self.0.stopping.cancel();
    }

    /// Until it has stopped.
    pub fn stopped(&self) -> WaitForCancellationFutureOwned {
        self.0.stopped.clone().cancelled_owned()
    }
}
