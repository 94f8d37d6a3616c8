//! Providers that are written in JavaScript.
//!
//! The engine asks for a stream by calling a JavaScript function, and hands it a [`Sink`] for what
//! the provider yields.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt, stream};
use napi::bindgen_prelude::{Env, PromiseRaw, spawn};
use napi_derive::napi;
use serde_json::Value;
use tokio::sync::mpsc;
use tutor_core::json::{self, Generator};
use tutor_core::provider::{
    CompletionRequest, CompletionStream, Delta, ModelChoice, ModelInfo, ProviderInfo,
};
use tutor_core::{Error, ErrorKind, Provider, Result, async_trait};

use crate::data::JsCause;
use crate::plugin::{Bridge, raised};

/// Deltas that a provider may be ahead of the engine.
const BUFFER: usize = 256;

/// Room that is waited for when there is none: a few deltas at a time would cost more than they are.
const ROOM: usize = BUFFER / 2;

/// A provider that is written in JavaScript.
pub(crate) struct JsProvider {
    /// Its place in the list of providers.
    index: u32,
    info: ProviderInfo,
    bridge: Bridge,
}

impl JsProvider {
    pub(crate) fn new(index: u32, info: ProviderInfo, bridge: Bridge) -> Self {
        Self {
            index,
            info,
            bridge,
        }
    }
}

impl fmt::Debug for JsProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsProvider")
            .field("name", &self.info.name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for JsProvider {
    fn info(&self) -> ProviderInfo {
        self.info.clone()
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        Ok(match &self.info.models {
            ModelChoice::Listed(models) => models.iter().map(ModelInfo::new).collect(),
            ModelChoice::Open | ModelChoice::StandIn => {
                vec![ModelInfo::new(&self.info.default_model)]
            }
        })
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let (sender, receiver) = mpsc::channel(BUFFER);
        let sink = Sink(Mutex::new(Some(Inlet {
            sender,
            generator: Generator::default(),
            provider: self.info.name.clone(),
        })));
        let request = json::completion_request(&request).to_string();
        let guard = self
            .bridge
            .start(self.index, request, sink)
            .map_err(|error| error.with_context("provider", &self.info.name))?;
        Ok(
            stream::unfold((receiver, guard), |(mut receiver, mut guard)| async move {
                let item = receiver.recv().await;
                guard.ended = !matches!(item, Some(Ok(_)));
                item.map(|item| (item, (receiver, guard)))
            })
            .fuse()
            .boxed(),
        )
    }
}

/// Where a provider's deltas go.
#[napi]
pub struct Sink(Mutex<Option<Inlet>>);

struct Inlet {
    sender: mpsc::Sender<Result<Delta>>,
    generator: Generator,
    provider: String,
}

impl Sink {
    fn with<T>(&self, work: impl FnOnce(&mut Option<Inlet>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Passes one on, if there is room.
    fn put(&self, value: Value) -> Put {
        self.with(|slot| {
            let Some(inlet) = slot else { return Put::Gone };
            let Ok(permit) = inlet.sender.try_reserve() else {
                return match inlet.sender.is_closed() {
                    true => Put::Gone,
                    false => Put::Full,
                };
            };
            match inlet.generator.read(value) {
                Ok(Some(delta)) => permit.send(Ok(delta)),
                Ok(None) => return Put::Gone,
                Err(error) => {
                    permit.send(Err(error.with_context("provider", &inlet.provider)));
                    *slot = None;
                    return Put::Gone;
                }
            }
            if inlet.generator.is_finished() {
                *slot = None;
                return Put::Gone;
            }
            Put::Taken
        })
    }
}

/// What became of a delta.
enum Put {
    Taken,
    /// There is no room.
    Full,
    /// Nothing more is wanted: the reply is complete, was wrong, or was given up.
    Gone,
}

#[napi]
#[expect(
    clippy::needless_pass_by_value,
    reason = "napi hands over owned strings"
)]
impl Sink {
    /// More deltas, as a JSON array of texts and objects. How many of them were taken: for the others
    /// there is no room, wait for `ready()` and send them again. -1: nothing more is wanted.
    #[napi]
    pub fn put_all(&self, deltas: String) -> i32 {
        let deltas = serde_json::from_str(&deltas).unwrap_or_else(|_| vec![Value::Null]);
        let mut taken = 0;
        for delta in deltas {
            match self.put(delta) {
                Put::Taken => taken += 1,
                Put::Full => break,
                Put::Gone => return -1,
            }
        }
        taken
    }

    /// Waits until there is room, or nobody listens any more.
    #[napi]
    pub fn ready<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, ()>> {
        let sender = self.with(|slot| slot.as_ref().map(|inlet| inlet.sender.clone()));
        env.spawn_future(async move {
            if let Some(sender) = sender {
                // Both outcomes end the wait.
                let _ = sender.reserve_many(ROOM).await;
            }
            Ok(())
        })
    }

    /// The provider's iteration has ended.
    #[napi]
    pub fn end(&self) {
        if let Some(mut inlet) = self.with(Option::take)
            && let Some(finished) = inlet.generator.end()
        {
            deliver(inlet.sender, Ok(finished));
        }
    }

    /// The provider threw. `error` is the exception as data, if it is an error of ours.
    #[napi]
    pub fn fail(&self, error: Option<String>, cause: u32) {
        let Some(inlet) = self.with(Option::take) else {
            return;
        };
        let error = raised(error).unwrap_or_else(|| {
            Error::new(
                ErrorKind::ProviderUnavailable,
                "the provider threw an error, which is the cause of this one",
            )
        });
        let error = error
            .with_context("provider", &inlet.provider)
            .with_source(JsCause(cause));
        deliver(inlet.sender, Err(error));
    }
}

/// Sends the last item, which must not be lost when there is no room.
fn deliver(sender: mpsc::Sender<Result<Delta>>, item: Result<Delta>) {
    if let Err(mpsc::error::TrySendError::Full(item)) = sender.try_send(item) {
        spawn(async move {
            // Nobody listens: nobody misses it.
            let _ = sender.send(item).await;
        });
    }
}
