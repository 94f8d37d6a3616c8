//! The way to the JavaScript functions that run providers, tools and stores.
//!
//! The functions are weak: an idle tutor keeps no process alive, while a call in flight does by its
//! own promise.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use napi::Status;
use napi::bindgen_prelude::{FnArgs, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use serde_json::Value;
use tokio::sync::oneshot;
use tutor_core::{Error, ErrorKind, Result, json};

use crate::data::{JsCause, object};
use crate::provider::Sink;

/// `(provider, call, request, sink)`
pub(crate) type StartArgs = FnArgs<(u32, u32, String, Sink)>;
/// `(function, call, arguments, answer)`
pub(crate) type AskArgs = FnArgs<(u32, u32, String, Answer)>;
type Start = ThreadsafeFunction<(u32, u32, String, Sink), (), StartArgs, Status, false, true>;
type Ask = ThreadsafeFunction<(u32, u32, String, Answer), (), AskArgs, Status, false, true>;
type Cancel = ThreadsafeFunction<u32, (), u32, Status, false, true>;

/// The way to the JavaScript side of a tutor.
#[derive(Clone)]
pub(crate) struct Bridge(Arc<Functions>);

struct Functions {
    start: Start,
    ask: Ask,
    /// `(call)`
    cancel: Cancel,
    /// `(function)`
    forget: Cancel,
    calls: AtomicU32,
}

impl Bridge {
    pub(crate) fn new(
        start: &Function<'_, StartArgs, ()>,
        ask: &Function<'_, AskArgs, ()>,
        cancel: &Function<'_, u32, ()>,
        forget: &Function<'_, u32, ()>,
    ) -> napi::Result<Self> {
        let start = start
            .build_threadsafe_function::<(u32, u32, String, Sink)>()
            .weak::<true>()
            .build_callback(|context| Ok(FnArgs::from(context.value)))?;
        let ask = ask
            .build_threadsafe_function::<(u32, u32, String, Answer)>()
            .weak::<true>()
            .build_callback(|context| Ok(FnArgs::from(context.value)))?;
        let cancel = cancel
            .build_threadsafe_function::<u32>()
            .weak::<true>()
            .build()?;
        let forget = forget
            .build_threadsafe_function::<u32>()
            .weak::<true>()
            .build()?;
        Ok(Self(Arc::new(Functions {
            start,
            ask,
            cancel,
            forget,
            calls: AtomicU32::new(0),
        })))
    }

    /// Has a provider write a reply into the sink.
    pub(crate) fn start(&self, provider: u32, request: String, sink: Sink) -> Result<CancelOnDrop> {
        let call = self.begin();
        let args = (provider, call.number, request, sink);
        called(self.0.start.call(args, MODE)).map(|()| call)
    }

    /// Calls a function with `told`, and waits for what comes of it. What it throws is an error of
    /// this kind with this message, unless it is an error of ours.
    pub(crate) async fn ask(
        &self,
        function: u32,
        told: &Value,
        failure: (ErrorKind, &'static str),
    ) -> Result<Value> {
        let (sender, receiver) = oneshot::channel();
        let answer = Answer(Mutex::new(Some(Inlet { sender, failure })));
        let mut call = self.begin();
        let args = (function, call.number, told.to_string(), answer);
        called(self.0.ask.call(args, MODE))?;
        let answer = receiver.await;
        call.ended = true;
        // Dropped unanswered: its environment has ended.
        answer.unwrap_or_else(|_| Err(gone()))
    }

    /// A function is not going to be called any more.
    pub(crate) fn forget(&self, function: u32) {
        // Where the environment has ended there is nothing to forget.
        self.0.forget.call(function, MODE);
    }

    fn begin(&self) -> CancelOnDrop {
        CancelOnDrop {
            bridge: self.clone(),
            number: self.0.calls.fetch_add(1, Ordering::Relaxed),
            ended: false,
        }
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bridge")
    }
}

/// The functions only note what is to be done.
const MODE: ThreadsafeFunctionCallMode = ThreadsafeFunctionCallMode::NonBlocking;

fn called(status: Status) -> Result<()> {
    if status == Status::Ok {
        return Ok(());
    }
    Err(gone())
}

fn gone() -> Error {
    Error::new(
        ErrorKind::Interrupted,
        "the JavaScript environment of this tutor has ended",
    )
}

/// Tells a function whose result nobody waits for any more to stop.
pub(crate) struct CancelOnDrop {
    bridge: Bridge,
    number: u32,
    pub(crate) ended: bool,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if !self.ended {
            self.bridge.0.cancel.call(self.number, MODE);
        }
    }
}

struct Inlet {
    sender: oneshot::Sender<Result<Value>>,
    failure: (ErrorKind, &'static str),
}

/// Where the result of a function goes. The first one counts.
#[napi]
pub struct Answer(Mutex<Option<Inlet>>);

impl Answer {
    fn take(&self) -> Option<Inlet> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[napi]
#[expect(
    clippy::needless_pass_by_value,
    reason = "napi hands over owned strings"
)]
impl Answer {
    /// The result, as JSON.
    #[napi]
    pub fn done(&self, result: String) {
        if let Some(inlet) = self.take() {
            // The text is the output of `JSON.stringify`: all that can be wrong is its depth.
            let answer = serde_json::from_str(&result).map_err(|_| {
                let (kind, _) = inlet.failure;
                Error::new(kind, "the answer is nested too deep to be passed on")
            });
            // Nobody listens: nobody misses it.
            let _ = inlet.sender.send(answer);
        }
    }

    /// The function threw. `error` is the exception as data, if it is an error of ours.
    #[napi]
    pub fn fail(&self, error: Option<String>, cause: u32) {
        if let Some(inlet) = self.take() {
            let (kind, message) = inlet.failure;
            let raised = raised(error).unwrap_or_else(|| Error::new(kind, message));
            let _ = inlet.sender.send(Err(raised.with_source(JsCause(cause))));
        }
    }
}

/// The error that a user's code threw on purpose.
pub(crate) fn raised(error: Option<String>) -> Option<Error> {
    error.and_then(|error| json::raised(object(&error).ok()?))
}
