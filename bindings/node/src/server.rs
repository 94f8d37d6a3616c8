//! The HTTP server in this process.

use std::net::SocketAddr;

use napi::bindgen_prelude::{Env, PromiseRaw, spawn};
use napi_derive::napi;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tutor_core::{Error, ErrorKind, Result};
use tutor_http::{AppState, Origins, serve};

use crate::data::{Outcome, promise};
use crate::tutor::{Slot, opened};

/// A server. `listen()` starts it; dropping it stops it.
#[napi]
pub struct NativeServer {
    slot: Slot,
    stopping: CancellationToken,
    stopped: CancellationToken,
}

#[napi]
impl NativeServer {
    pub(crate) fn new(slot: Slot) -> Self {
        Self {
            slot,
            stopping: CancellationToken::new(),
            stopped: CancellationToken::new(),
        }
    }

    /// Listens, and tells its `host` and `port`. `origins` are separated by commas.
    #[napi]
    pub fn listen<'e>(
        &self,
        env: &'e Env,
        host: String,
        port: u16,
        origins: Option<String>,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        let slot = Slot::clone(&self.slot);
        let (stopping, stopped) = (self.stopping.clone(), self.stopped.clone());
        promise(env, async move {
            // Whatever fails, nobody waits for a server that never ran.
            let done = stopped.drop_guard();
            let mut state = AppState::new(opened(&slot)?);
            if let Some(origins) = origins {
                state = state.with_origins(Origins::parse(&origins)?);
            }
            let (listener, address) = bind(&host, port).await?;
            spawn(async move {
                serve(listener, state, stopping.cancelled_owned()).await;
                drop(done);
            });
            Ok(json!({ "host": address.ip().to_string(), "port": address.port() }))
        })
    }

    /// Takes no new connection.
    #[napi]
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Waits until it has stopped.
    #[napi]
    pub fn wait<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Outcome>> {
        let stopped = self.stopped.clone();
        promise(env, async move {
            stopped.cancelled().await;
            Ok(Value::Null)
        })
    }
}

impl Drop for NativeServer {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

async fn bind(host: &str, port: u16) -> Result<(TcpListener, SocketAddr)> {
    let bound = async {
        let listener = TcpListener::bind((host, port)).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|error: std::io::Error| {
        Error::new(
            ErrorKind::Config,
            "the server cannot listen on this address: choose another one, or port 0 for any",
        )
        .with_context("host", host)
        .with_context("port", port)
        .with_source(error)
    })
}
