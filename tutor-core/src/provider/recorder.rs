//! Recording completions, and playing them again: a bug report in one file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use super::config::{ProviderConfig, ProviderKind};
use super::http::tape::Tape;
use super::recording::Recording;
use super::{
    CompletionRequest, CompletionStream, ModelInfo, Provider, ProviderInfo, SharedProvider,
};
use crate::error::{Error, ErrorKind, Result};

/// A provider whose completions are recorded, as they went over the wire: every attempt of what it
/// wraps. What is not sent over HTTP leaves recordings without exchanges.
pub struct RecorderProvider<P> {
    inner: P,
    kind: ProviderKind,
    sink: Arc<dyn Fn(Recording) + Send + Sync>,
}

impl<P: Provider> RecorderProvider<P> {
    /// Gives the recording of every completion of `inner`, which speaks the protocol of `kind`, to
    /// `sink` when its stream has ended or is dropped. The sink must not block.
    pub fn new(
        inner: P,
        kind: ProviderKind,
        sink: impl Fn(Recording) + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            kind,
            sink: Arc::new(sink),
        }
    }

    /// Writes each recording into a file of its own in `directory`. What cannot be written is told
    /// in the log.
    pub fn in_directory(inner: P, kind: ProviderKind, directory: PathBuf) -> Self {
        let save = move |recording: Recording| {
            let directory = directory.clone();
            let save = move || match recording.save_in(&directory) {
                Ok(path) => tracing::info!(path = %path.display(), "a completion was recorded"),
                Err(error) => tracing::warn!(%error, "a completion could not be recorded"),
            };
            // Files are written where blocking is allowed.
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn_blocking(save)),
                Err(_) => save(),
            }
        };
        Self::new(inner, kind, save)
    }
}

impl<P: fmt::Debug> fmt::Debug for RecorderProvider<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecorderProvider")
            .field(&self.inner)
            .finish()
    }
}

#[async_trait]
impl<P: Provider> Provider for RecorderProvider<P> {
    fn info(&self) -> ProviderInfo {
        self.inner.info()
    }

    /// Not recorded.
    async fn models(&self) -> Result<Vec<ModelInfo>> {
        self.inner.models().await
    }

    async fn stream(&self, mut request: CompletionRequest) -> Result<CompletionStream> {
        request.context.extensions.insert(Tape::recording());
        let Some(tape) = request.context.extensions.get::<Tape>() else {
            return Err(Error::internal("a tape was lost"));
        };
        let session = Session {
            tape,
            kind: self.kind,
            provider: self.info().name,
            request: request.clone(),
            sink: Arc::clone(&self.sink),
        };
        let inner = self.inner.stream(request).await?;
        Ok(
            stream::unfold((inner, session), |(mut inner, session)| async move {
                let item = inner.next().await?;
                Some((item, (inner, session)))
            })
            .fuse()
            .boxed(),
        )
    }
}

/// One completion; when it is dropped its recording is made.
struct Session {
    tape: Arc<Tape>,
    kind: ProviderKind,
    provider: String,
    request: CompletionRequest,
    sink: Arc<dyn Fn(Recording) + Send + Sync>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let tracks = self.tape.take();
        (self.sink)(Recording::new(
            self.kind.as_str(),
            std::mem::take(&mut self.provider),
            &self.request,
            tracks.exchanges,
            &tracks.keys,
        ));
    }
}

/// A provider that plays a recording: the same bytes in the same pieces at the same times, through
/// the same protocol, time limits and retries. Every request gets the same.
#[derive(Debug)]
pub struct ReplayProvider {
    inner: SharedProvider,
    recording: Arc<Recording>,
    paced: bool,
}

impl ReplayProvider {
    /// Plays `recording`.
    ///
    /// # Errors
    /// `config` if this build does not know its protocol.
    pub fn new(recording: Recording) -> Result<Self> {
        let Some(kind) = ProviderKind::from_name(&recording.kind) else {
            return Err(Error::new(
                ErrorKind::Config,
                "the recording is of a protocol that this build does not know",
            ));
        };
        // Nothing is sent, to no host and with no key.
        let mut config = ProviderConfig::new(kind)
            .with_name(&recording.provider)
            .with_base_url("http://replay.invalid")
            .with_default_model(&recording.model);
        config.key = Some(super::ApiKey::new("replay"));
        config.breaker = None;
        Ok(Self {
            inner: config.build()?,
            recording: Arc::new(recording),
            paced: true,
        })
    }

    /// Plays the recording in this file. Blocks.
    ///
    /// # Errors
    /// Those of [`Recording::open`] and [`new`](Self::new).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(Recording::open(path)?)
    }

    /// Plays without the pauses.
    #[must_use]
    pub fn without_pauses(mut self) -> Self {
        self.paced = false;
        self
    }
}

#[async_trait]
impl Provider for ReplayProvider {
    fn info(&self) -> ProviderInfo {
        self.inner.info()
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        Ok(vec![ModelInfo::new(&self.recording.model)])
    }

    async fn stream(&self, mut request: CompletionRequest) -> Result<CompletionStream> {
        let tape = Tape::playing(self.recording.exchanges.clone(), self.paced);
        request.context.extensions.insert(tape);
        self.inner.stream(request).await
    }
}
