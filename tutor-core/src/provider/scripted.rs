//! A provider that plays a script: for tests, examples and documentation.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::sync::Notify;

use super::{CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo};
use crate::error::{Error, Result};
use crate::message::FinishReason;

/// A deterministic provider: each request takes the next script; the last one is repeated.
///
/// ```
/// use tutor_core::provider::ScriptedProvider;
/// let provider = ScriptedProvider::reply("Photosynthesis turns light into sugar.");
/// ```
#[derive(Clone, Debug)]
pub struct ScriptedProvider {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    info: ProviderInfo,
    scripts: Mutex<VecDeque<Vec<Step>>>,
    requests: Mutex<Vec<CompletionRequest>>,
}

/// One step of a script.
#[derive(Clone, Debug)]
pub enum Step {
    /// Yields a delta.
    Yield(Delta),
    /// Yields the error that this makes, and ends.
    Fail(fn() -> Error),
    /// Waits until somebody calls `notify_one` (or did before).
    Wait(Arc<Notify>),
    /// Ends without a terminal, which no provider may.
    End,
}

impl ScriptedProvider {
    /// Plays these scripts, one per request.
    pub fn new(scripts: impl IntoIterator<Item = Vec<Step>>) -> Self {
        Self {
            shared: Arc::new(Shared {
                info: ProviderInfo::new("scripted", "script"),
                scripts: Mutex::new(scripts.into_iter().collect()),
                requests: Mutex::default(),
            }),
        }
    }

    /// Answers everything with `text`, word by word.
    pub fn reply(text: &str) -> Self {
        Self::new([text_script(text)])
    }

    /// Says that its models have a window of so many tokens. To be called before the provider is
    /// cloned: later it has no effect.
    #[must_use]
    pub fn with_context_window(mut self, tokens: u64) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.info = shared.info.clone().with_context_window(tokens);
        }
        self
    }

    /// The requests that it was sent, in order.
    pub fn requests(&self) -> Vec<CompletionRequest> {
        self.shared
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn next_script(&self) -> Vec<Step> {
        let mut scripts = self
            .shared
            .scripts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if scripts.len() > 1 {
            scripts.pop_front().unwrap_or_default()
        } else {
            scripts.front().cloned().unwrap_or_default()
        }
    }
}

/// The script of a whole reply, word by word.
pub fn text_script(text: &str) -> Vec<Step> {
    let words = text
        .split_inclusive(' ')
        .map(|word| Step::Yield(Delta::Text(word.to_owned())));
    words
        .chain([Step::Yield(Delta::Finished {
            reason: FinishReason::Stop,
        })])
        .collect()
}

#[async_trait]
impl Provider for ScriptedProvider {
    fn info(&self) -> ProviderInfo {
        self.shared.info.clone()
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        Ok(vec![ModelInfo::new(self.shared.info.default_model.clone())])
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        self.shared
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request);
        let steps = VecDeque::from(self.next_script());
        Ok(stream::unfold(steps, |mut steps| async move {
            loop {
                match steps.pop_front()? {
                    Step::Yield(delta) => return Some((Ok(delta), steps)),
                    Step::Fail(error) => return Some((Err(error()), VecDeque::new())),
                    Step::Wait(gate) => gate.notified().await,
                    Step::End => return None,
                }
            }
        })
        .fuse()
        .boxed())
    }
}
