//! Several keys of one provider: used in turn, and set aside while they are of no use.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::delivered::Delivered;
use super::health::{Gauge, Health, KeyState, millis};
use super::{CompletionRequest, CompletionStream, ModelInfo, Provider, ProviderInfo};
use crate::error::{Error, ErrorKind, Result};

/// How long a key that was refused is set aside.
pub const REFUSED_FOR: Duration = Duration::from_secs(600);
/// How long a key that has made too many requests rests if the provider does not say.
pub const REST: Duration = Duration::from_secs(30);

/// A provider with several keys: one provider a key.
///
/// Requests take the keys in turn. A key that the provider refuses, or whose account has no credit
/// left, is set aside for [`REFUSED_FOR`]; one that has made too many requests rests as long as the
/// provider says, or for [`REST`]. As long as nothing was delivered, the request goes on with the
/// next key at once. Keys are known by their place, from 0, and never shown.
///
/// # Errors
/// When no key can be used: what the provider said to the one that can be used again first.
#[derive(Debug)]
pub struct KeyPoolProvider<P> {
    pool: Arc<Pool<P>>,
}

#[derive(Debug)]
struct Pool<P> {
    providers: Vec<P>,
    slots: Arc<Slots>,
}

#[derive(Debug)]
struct Slots {
    name: String,
    state: Mutex<Rotation>,
}

#[derive(Debug)]
struct Rotation {
    next: usize,
    /// Why, and until when, a key is not used.
    aside: Vec<Option<Aside>>,
}

#[derive(Debug)]
struct Aside {
    until: Instant,
    error: Error,
}

impl<P: Provider> KeyPoolProvider<P> {
    /// A pool of providers that differ in their keys only.
    ///
    /// # Errors
    /// `config` without any.
    pub fn new(providers: Vec<P>) -> Result<Self> {
        let Some(first) = providers.first() else {
            return Err(Error::new(
                ErrorKind::Config,
                "a pool of keys has at least one",
            ));
        };
        let slots = Slots {
            name: first.info().name,
            state: Mutex::new(Rotation {
                next: 0,
                aside: providers.iter().map(|_| None).collect(),
            }),
        };
        Ok(Self {
            pool: Arc::new(Pool {
                providers,
                slots: Arc::new(slots),
            }),
        })
    }
}

#[async_trait]
impl<P: Provider> Provider for KeyPoolProvider<P> {
    fn info(&self) -> ProviderInfo {
        let mut info = self.pool.providers[0].info();
        info.gauges
            .add(Arc::clone(&self.pool.slots) as Arc<dyn Gauge>);
        info
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        let mut tried = Vec::new();
        loop {
            let key = self.pool.slots.take(&mut tried)?;
            match self.pool.providers[key].models().await {
                Err(error) if self.pool.slots.blame(key, &error) => {}
                models => return models,
            }
        }
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let mut run = Run {
            pool: Arc::clone(&self.pool),
            request,
            tried: Vec::new(),
            delivered: Delivered::default(),
            key: 0,
        };
        let opened = run.open().await?;
        Ok(stream::unfold(Some((run, opened)), |state| async move {
            let (mut run, mut opened) = state?;
            loop {
                match opened.next().await? {
                    Ok(delta) if run.delivered.is_repeated(&delta) => {}
                    Ok(delta) => return Some((Ok(delta), Some((run, opened)))),
                    Err(error) => match run.next(error).await {
                        Ok(stream) => opened = stream,
                        Err(error) => return Some((Err(error), None)),
                    },
                }
            }
        })
        .fuse()
        .boxed())
    }
}

/// One request, over all keys that it tries.
struct Run<P> {
    pool: Arc<Pool<P>>,
    request: CompletionRequest,
    tried: Vec<usize>,
    delivered: Delivered,
    key: usize,
}

impl<P: Provider> Run<P> {
    /// Asks with the next key that can be used.
    async fn open(&mut self) -> Result<CompletionStream> {
        loop {
            self.key = self.pool.slots.take(&mut self.tried)?;
            match self.pool.providers[self.key]
                .stream(self.request.clone())
                .await
            {
                Err(error) if self.pool.slots.blame(self.key, &error) => {}
                opened => return opened,
            }
        }
    }

    /// After a failure: with another key, if that was the reason and nothing was delivered.
    async fn next(&mut self, error: Error) -> Result<CompletionStream> {
        if !self.pool.slots.blame(self.key, &error) || self.delivered.has_content() {
            return Err(error);
        }
        self.open().await
    }
}

impl Slots {
    fn state(&self) -> MutexGuard<'_, Rotation> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next key that can be used and is not among the tried ones.
    fn take(&self, tried: &mut Vec<usize>) -> Result<usize> {
        let mut rotation = self.state();
        let (count, now) = (rotation.aside.len(), Instant::now());
        for place in 0..count {
            let key = (rotation.next + place) % count;
            let slot = &mut rotation.aside[key];
            if slot.as_ref().is_some_and(|aside| aside.until <= now) {
                *slot = None;
            }
            if slot.is_none() && !tried.contains(&key) {
                rotation.next = (key + 1) % count;
                tried.push(key);
                return Ok(key);
            }
        }
        let soonest = rotation
            .aside
            .iter()
            .flatten()
            .min_by_key(|aside| aside.until);
        let Some(soonest) = soonest else {
            return Err(Error::internal("a key was tried twice"));
        };
        let error = soonest.error.clone().with_context("usable_keys", 0);
        Err(match error.is_retryable() {
            true => error.retryable(Some(soonest.until - now)),
            false => error,
        })
    }

    /// Sets a key aside if that is what the error is about.
    fn blame(&self, key: usize, error: &Error) -> bool {
        let wait = match error.kind() {
            ErrorKind::ProviderAuth | ErrorKind::ProviderQuota => REFUSED_FOR,
            ErrorKind::RateLimited => error.retry_after().unwrap_or(REST),
            _ => return false,
        };
        self.state().aside[key] = Some(Aside {
            until: Instant::now() + wait,
            error: error.clone(),
        });
        tracing::warn!(
            provider = self.name,
            key,
            code = error.code(),
            ?wait,
            "a key is set aside"
        );
        true
    }
}

impl Gauge for Slots {
    fn read(&self, health: &mut Health) {
        let now = Instant::now();
        let state = |aside: &Option<Aside>| match aside {
            Some(aside) if aside.until > now => {
                let retry_in_ms = millis(aside.until - now);
                match aside.error.kind() {
                    ErrorKind::RateLimited => KeyState::Resting { retry_in_ms },
                    _ => KeyState::Refused { retry_in_ms },
                }
            }
            _ => KeyState::Usable,
        };
        health.keys = self.state().aside.iter().map(state).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::ScriptedProvider;
    use crate::provider::fault::{Failure, Fault};
    use crate::provider::scripted::{Step, text_script};

    fn refused() -> Error {
        Failure::new(Fault::Auth).into_error("scripted")
    }

    fn limited() -> Error {
        let error = Failure::new(Fault::RateLimited).into_error("scripted");
        error.retryable(Some(Duration::from_secs(7)))
    }

    fn ok() -> Vec<Step> {
        text_script("ok")
    }

    fn pool(
        keys: Vec<Vec<Vec<Step>>>,
    ) -> (Vec<ScriptedProvider>, KeyPoolProvider<ScriptedProvider>) {
        let providers: Vec<_> = keys.into_iter().map(ScriptedProvider::new).collect();
        (providers.clone(), KeyPoolProvider::new(providers).unwrap())
    }

    async fn run(provider: &impl Provider) -> Result<usize> {
        let stream = provider.stream(CompletionRequest::new("m", "?")).await?;
        let items: Vec<_> = stream.collect().await;
        let count = items.len();
        items.into_iter().collect::<Result<Vec<_>>>().map(|_| count)
    }

    fn asked(providers: &[ScriptedProvider]) -> Vec<usize> {
        providers
            .iter()
            .map(|provider| provider.requests().len())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_used_in_turn() {
        let (providers, pool) = pool(vec![vec![ok()], vec![ok()], vec![ok()]]);
        for _ in 0..6 {
            run(&pool).await.unwrap();
        }
        assert_eq!(asked(&providers), [2, 2, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_key_is_set_aside_for_its_time_and_the_request_goes_on_with_the_next() {
        let (providers, pool) = pool(vec![vec![vec![Step::Fail(refused)], ok()], vec![ok()]]);
        for _ in 0..4 {
            run(&pool).await.unwrap();
        }
        assert_eq!(asked(&providers), [1, 4]);
        let retry_in_ms = millis(REFUSED_FOR);
        assert_eq!(
            pool.info().health().keys,
            [KeyState::Refused { retry_in_ms }, KeyState::Usable]
        );
        tokio::time::advance(REFUSED_FOR).await;
        run(&pool).await.unwrap();
        run(&pool).await.unwrap();
        assert_eq!(asked(&providers), [2, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_made_too_many_requests_rests_as_long_as_the_provider_says() {
        let (providers, pool) = pool(vec![vec![vec![Step::Fail(limited)], ok()], vec![ok()]]);
        run(&pool).await.unwrap();
        assert_eq!(
            pool.info().health().keys[0],
            KeyState::Resting { retry_in_ms: 7000 }
        );
        tokio::time::advance(Duration::from_secs(7)).await;
        run(&pool).await.unwrap();
        assert_eq!(asked(&providers), [2, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_usable_key_the_error_tells_when_there_is_one() {
        let (_, pool) = pool(vec![
            vec![vec![Step::Fail(refused)]],
            vec![vec![Step::Fail(limited)]],
        ]);
        for left in [7, 5] {
            let error = run(&pool).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.retry_after()),
                (ErrorKind::RateLimited, Some(Duration::from_secs(left)))
            );
            tokio::time::advance(Duration::from_secs(2)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_some_words_the_request_does_not_go_on_with_another_key() {
        let words = vec![
            Step::Yield(super::super::Delta::Text("a".into())),
            Step::Fail(limited),
        ];
        let (providers, pool) = pool(vec![vec![words], vec![ok()]]);
        assert_eq!(run(&pool).await.unwrap_err().kind(), ErrorKind::RateLimited);
        assert_eq!(asked(&providers), [1, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_the_keys_fault_changes_nothing() {
        fn overloaded() -> Error {
            Failure::new(Fault::Overloaded).into_error("scripted")
        }
        let (providers, pool) = pool(vec![vec![vec![Step::Fail(overloaded)]], vec![ok()]]);
        assert_eq!(
            run(&pool).await.unwrap_err().kind(),
            ErrorKind::ProviderUnavailable
        );
        assert_eq!(asked(&providers), [1, 0]);
        assert_eq!(pool.info().health().keys, [KeyState::Usable; 2]);
    }
}
