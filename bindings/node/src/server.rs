//! The HTTP server in this process, and the command line.

use napi::bindgen_prelude::{Env, PromiseRaw};
use napi_derive::napi;
use serde_json::{Value, json};
use tutor_core::ErrorKind;
use tutor_http::{AppState, Origins, Server};

use crate::data::{Outcome, promise};
use crate::open::Opened;
use crate::tutor::{Slot, handle};

/// A server. `listen()` starts it; dropping it stops it.
#[napi]
pub struct NativeServer {
    slot: Slot,
    server: Server,
}

#[napi]
impl NativeServer {
    pub(crate) fn new(slot: Slot) -> Self {
        Self {
            slot,
            server: Server::default(),
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
        let (slot, server) = (Slot::clone(&self.slot), self.server.clone());
        promise(env, async move {
            let Opened {
                tutor,
                files,
                metrics,
                ..
            } = handle(&slot)?;
            let mut state = AppState::new(tutor).with_metrics(metrics);
            match files.store().await {
                Ok(files) => state = state.with_files(files),
                // Nobody said where: then it takes none.
                Err(error) if error.kind() == ErrorKind::Config => {}
                Err(error) => return Err(error),
            }
            if let Some(origins) = origins {
                state = state.with_origins(Origins::parse(&origins)?);
            }
            let address = server.listen(&host, port, state).await?;
            Ok(json!({ "host": address.ip().to_string(), "port": address.port() }))
        })
    }

    /// Does what a command line says, `args[0]` being the program's name, and gives the exit code.
    /// Blocks until it is done, and handles the signals of the process: for a process that does
    /// nothing else.
    #[napi]
    pub fn command_line(args: Vec<String>) -> u8 {
        tutor_http::cli::main(args)
    }

    /// Takes no new connection.
    #[napi]
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Waits until it has stopped.
    #[napi]
    pub fn wait<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Outcome>> {
        let stopped = self.server.stopped();
        promise(env, async move {
            stopped.await;
            Ok(Value::Null)
        })
    }
}
