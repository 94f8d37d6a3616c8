//! Whole turns, recorded and run again: a bug report that gives the very same events.
//!
//! ```
//! # async fn f() -> tutor_core::Result<()> {
//! use tutor_core::provider::DemoProvider;
//! use tutor_core::replay::TurnRecorder;
//! use tutor_core::{ChatRequest, Tutor};
//!
//! let recorder = TurnRecorder::default();
//! let tutor = Tutor::builder()
//!     .runtime(recorder.runtime(tutor_core::time::SystemRuntime))
//!     .provider(recorder.provider(DemoProvider::new()))
//!     .build()
//!     .await?;
//! tutor.chat("What is photosynthesis?").await?;
//! let recording = recorder.recording();
//! let events = recording.replay(Tutor::builder(), ChatRequest::new("What is photosynthesis?")).await?;
//! # Ok(()) }
//! ```

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorInfo, Result};
use crate::event::{Notice, TurnEvent};
use crate::message::{FinishReason, Usage};
use crate::provider::{
    CompletionRequest, CompletionStream, Delta, ModelChoice, ModelInfo, Provider, ProviderInfo,
};
use crate::time::{Runtime, Timestamp};
use crate::turn::ChatRequest;
use crate::tutor::TutorBuilder;

/// What one turn of a [`Tutor`](crate::Tutor) of its own took from outside: times, ids, and what
/// the provider said in each completion. Has the words of the model, so treat it like them.
///
/// Not recorded is what tools answer: register the same ones to replay. A turn that was cancelled
/// while a tool ran has no end in its recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TurnRecording {
    /// The provider's name.
    pub provider: String,
    /// The model that it is asked for by default.
    pub model: String,
    /// True if the provider stands in for any model, as the demo provider does.
    pub stands_in: bool,
    /// When the turn was prepared.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Ids in the order in which they were made, the engine's own first.
    pub ids: Vec<String>,
    completions: Vec<Vec<Frame>>,
    /// True if the turn was cancelled behind the last frame.
    #[serde(default)]
    cancelled: bool,
}

/// One step of a completion.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Frame {
    Text {
        text: String,
    },
    Reasoning {
        text: String,
    },
    Refusal {
        text: String,
    },
    ToolCall {
        id: String,
        name: String,
        arguments: String,
    },
    Usage {
        usage: Usage,
    },
    Restart {
        reason: String,
    },
    AnsweredBy {
        provider: String,
        model: String,
    },
    Accepted {
        request_id: String,
    },
    Replay {
        protocol: String,
        data: serde_json::Value,
    },
    Notice {
        notice: Notice,
    },
    Finished {
        reason: FinishReason,
    },
    Failed {
        error: ErrorInfo,
    },
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Frame")
    }
}

impl Frame {
    fn of(item: &Result<Delta>) -> Option<Self> {
        Some(match item {
            Ok(Delta::Text(text)) => Self::Text { text: text.clone() },
            Ok(Delta::Reasoning(text)) => Self::Reasoning { text: text.clone() },
            Ok(Delta::Refusal(text)) => Self::Refusal { text: text.clone() },
            Ok(Delta::ToolCall {
                id,
                name,
                arguments,
            }) => Self::ToolCall {
                id: id.clone(),
                name: name.clone(),
                arguments: arguments.clone(),
            },
            Ok(Delta::Usage(usage)) => Self::Usage { usage: *usage },
            Ok(Delta::Restart { reason }) => Self::Restart {
                reason: reason.clone(),
            },
            Ok(Delta::AnsweredBy { provider, model }) => Self::AnsweredBy {
                provider: provider.clone(),
                model: model.clone(),
            },
            Ok(Delta::Accepted { request_id }) => Self::Accepted {
                request_id: request_id.clone(),
            },
            Ok(Delta::Notice(notice)) => Self::Notice {
                notice: notice.clone(),
            },
            Ok(Delta::Finished { reason }) => Self::Finished { reason: *reason },
            Ok(Delta::Replay { protocol, data }) => Self::Replay {
                protocol: protocol.to_string(),
                data: data.clone(),
            },
            Ok(Delta::Heartbeat) => return None,
            Err(error) => Self::Failed {
                error: error.info(),
            },
        })
    }

    fn play(self) -> Result<Delta> {
        Ok(match self {
            Self::Text { text } => Delta::Text(text),
            Self::Reasoning { text } => Delta::Reasoning(text),
            Self::Refusal { text } => Delta::Refusal(text),
            Self::ToolCall {
                id,
                name,
                arguments,
            } => Delta::ToolCall {
                id,
                name,
                arguments,
            },
            Self::Usage { usage } => Delta::Usage(usage),
            Self::Restart { reason } => Delta::Restart { reason },
            Self::AnsweredBy { provider, model } => Delta::AnsweredBy { provider, model },
            Self::Accepted { request_id } => Delta::Accepted { request_id },
            Self::Replay { protocol, data } => Delta::Replay {
                protocol: protocol.into(),
                data,
            },
            Self::Notice { notice } => Delta::Notice(notice),
            Self::Finished { reason } => Delta::Finished { reason },
            Self::Failed { error } => return Err(error.into()),
        })
    }
}

/// Records the one turn of a tutor that is built with its [`runtime`](Self::runtime) and
/// [`provider`](Self::provider). Clones share the recording.
#[derive(Clone, Debug, Default)]
pub struct TurnRecorder(Arc<Mutex<TurnRecording>>);

impl TurnRecorder {
    fn log(&self) -> MutexGuard<'_, TurnRecording> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `inner`, recorded.
    pub fn runtime(&self, inner: impl Runtime) -> impl Runtime {
        RecordedRuntime {
            inner,
            recorder: self.clone(),
        }
    }

    /// `inner`, recorded.
    pub fn provider(&self, inner: impl Provider) -> impl Provider {
        let info = inner.info();
        let mut log = self.log();
        log.stands_in = info.models == ModelChoice::StandIn;
        (log.provider, log.model) = (info.name, info.default_model);
        drop(log);
        RecordedProvider {
            inner,
            recorder: self.clone(),
        }
    }

    /// What was recorded so far.
    pub fn recording(&self) -> TurnRecording {
        self.log().clone()
    }
}

#[derive(Debug)]
struct RecordedRuntime<R> {
    inner: R,
    recorder: TurnRecorder,
}

impl<R: Runtime> Runtime for RecordedRuntime<R> {
    fn now(&self) -> Timestamp {
        let now = self.inner.now();
        let mut log = self.recorder.log();
        if log.started_at == Timestamp::default() {
            log.started_at = now;
        }
        log.ended_at = now;
        now
    }

    fn new_id(&self) -> String {
        let id = self.inner.new_id();
        self.recorder.log().ids.push(id.clone());
        id
    }
}

#[derive(Debug)]
struct RecordedProvider<P> {
    inner: P,
    recorder: TurnRecorder,
}

#[async_trait]
impl<P: Provider> Provider for RecordedProvider<P> {
    fn info(&self) -> ProviderInfo {
        self.inner.info()
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        self.inner.models().await
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let n = {
            let mut log = self.recorder.log();
            log.completions.push(Vec::new());
            log.completions.len() - 1
        };
        let mut exchange = Exchange {
            recorder: self.recorder.clone(),
            n,
            cancel: request.context.cancel.clone(),
            ended: false,
        };
        match self.inner.stream(request).await {
            Ok(inner) => Ok(inner.inspect(move |item| exchange.note(item)).boxed()),
            Err(error) => {
                exchange.note(&Err(error.clone()));
                Err(error)
            }
        }
    }
}

/// A completion that is being recorded. Dropped before its end, it tells why.
struct Exchange {
    recorder: TurnRecorder,
    n: usize,
    cancel: CancellationToken,
    ended: bool,
}

impl Exchange {
    fn note(&mut self, item: &Result<Delta>) {
        self.ended |= matches!(item, Ok(Delta::Finished { .. }) | Err(_));
        let mut log = self.recorder.log();
        if let (Some(frame), Some(frames)) = (Frame::of(item), log.completions.get_mut(self.n)) {
            frames.push(frame);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ended && self.cancel.is_cancelled() {
            self.recorder.log().cancelled = true;
        }
    }
}

impl TurnRecording {
    /// Runs the turn again, on a memory store: the same request on a tutor of the same settings
    /// (instructions, limits, tools), with the recorded times, ids and completions.
    ///
    /// # Errors
    /// Those of [`TutorBuilder::build`] and [`Tutor::stream`](crate::Tutor::stream).
    pub async fn replay(
        &self,
        builder: TutorBuilder,
        request: ChatRequest,
    ) -> Result<Vec<Arc<TurnEvent>>> {
        let ended = Arc::new(AtomicBool::new(false));
        let runtime = PlayedRuntime {
            ids: Mutex::new(self.ids.iter().cloned().collect()),
            started_at: self.started_at,
            ended_at: self.ended_at,
            ended: Arc::clone(&ended),
        };
        let mut info = ProviderInfo::new(self.provider.clone(), self.model.clone());
        if self.stands_in {
            info = info.with_models(ModelChoice::StandIn);
        }
        let provider = PlayedProvider {
            info,
            completions: Mutex::new(self.completions.iter().cloned().collect()),
            cancelled: self.cancelled,
            ended,
        };
        let tutor = builder
            .store(crate::store::MemoryStore::new())
            .runtime(runtime)
            .provider(provider)
            .build()
            .await?;
        let events = tutor.stream(request).await?.collect().await;
        tutor.close().await?;
        Ok(events)
    }
}

#[derive(Debug)]
struct PlayedRuntime {
    ids: Mutex<VecDeque<String>>,
    started_at: Timestamp,
    ended_at: Timestamp,
    /// True when the last completion was played: what is asked for then is the end's time.
    ended: Arc<AtomicBool>,
}

impl Runtime for PlayedRuntime {
    fn now(&self) -> Timestamp {
        if self.ended.load(Ordering::SeqCst) {
            self.ended_at
        } else {
            self.started_at
        }
    }

    fn new_id(&self) -> String {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        // A turn that needs more ids is not the one that was recorded: its events will show that.
        ids.pop_front().unwrap_or_else(|| "unrecorded".to_owned())
    }
}

#[derive(Debug)]
struct PlayedProvider {
    info: ProviderInfo,
    completions: Mutex<VecDeque<Vec<Frame>>>,
    cancelled: bool,
    ended: Arc<AtomicBool>,
}

#[async_trait]
impl Provider for PlayedProvider {
    fn info(&self) -> ProviderInfo {
        self.info.clone()
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        Ok(Vec::new())
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let mut all = self
            .completions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let frames = all
            .pop_front()
            .ok_or_else(|| Error::internal("the turn asks for more than was recorded"))?;
        let is_last = all.is_empty();
        let (ended, count) = (Arc::clone(&self.ended), frames.len());
        if is_last && frames.is_empty() {
            ended.store(true, Ordering::SeqCst);
        }
        let played = stream::iter(frames).enumerate().map(move |(n, frame)| {
            if is_last && n + 1 == count {
                ended.store(true, Ordering::SeqCst);
            }
            frame.play()
        });
        if !(is_last && self.cancelled) {
            return Ok(played.boxed());
        }
        let cancel = request.context.cancel;
        let stopped = stream::once(async move {
            cancel.cancel();
            std::future::pending().await
        });
        Ok(played.chain(stopped).boxed())
    }
}
