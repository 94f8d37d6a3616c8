//! [`ChatCall`]: a question that is answered whole.

use napi::bindgen_prelude::{Env, PromiseRaw};
use napi_derive::napi;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tutor_core::tool::SharedTool;
use tutor_core::{Error, ErrorKind, Result, json};

use crate::data::{Outcome, object, promise};
use crate::tutor::{Slot, opened};

/// One question. `run()` asks it; `cancel()`, at any time, stops the turn.
#[napi]
pub struct ChatCall {
    slot: Slot,
    request: String,
    tools: Result<Vec<SharedTool>>,
    cancel: CancellationToken,
}

#[napi]
impl ChatCall {
    pub(crate) fn new(slot: Slot, request: String, tools: Result<Vec<SharedTool>>) -> Self {
        Self {
            slot,
            request,
            tools,
            cancel: CancellationToken::new(),
        }
    }

    /// Asks, and waits for the reply; when cancelled, for the end of the turn, so that its session
    /// is free.
    #[napi]
    pub fn run<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Outcome>> {
        let (slot, request) = (Slot::clone(&self.slot), self.request.clone());
        let tools = self.tools.clone();
        promise(env, ask(slot, request, tools, self.cancel.clone()))
    }

    /// Stops the turn.
    #[napi]
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

async fn ask(
    slot: Slot,
    request: String,
    tools: Result<Vec<SharedTool>>,
    cancel: CancellationToken,
) -> Result<Value> {
    let tutor = opened(&slot)?;
    let mut request = json::chat_request(object(&request)?)?;
    request.tools = tools?;
    let mut stream = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(cancelled()),
        stream = tutor.stream(request) => stream?,
    };
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        reply = stream.read_reply() => return Ok(json::reply(&reply?)),
    }
    stream.close().await;
    Err(cancelled())
}

/// Never seen by a user: whoever cancels knows why.
fn cancelled() -> Error {
    Error::new(ErrorKind::Interrupted, "the call was cancelled")
}
