//! [`NativeItems`]: a list of JSON items, kept for another library.

use std::sync::Arc;

use napi::bindgen_prelude::{Env, PromiseRaw};
use napi_derive::napi;
use serde_json::Value;
use tutor_core::items::ItemLog;
use tutor_core::{Result, SessionId};

use crate::data::{Outcome, promise};
use crate::open::Opened;
use crate::tutor::{Slot, handle};

/// A list of items under a name. Items are texts of JSON.
#[napi]
pub struct NativeItems {
    slot: Slot,
    name: String,
}

#[napi]
impl NativeItems {
    pub(crate) fn new(slot: Slot, name: String) -> Self {
        Self { slot, name }
    }

    /// The newest items, all if no limit is given; as an array of texts.
    #[napi]
    pub fn latest<'e>(
        &self,
        env: &'e Env,
        limit: Option<u32>,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, move |log| async move {
            let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
            let items = log.latest(limit).await?;
            Ok(items.iter().map(|item| Value::from(&**item)).collect())
        })
    }

    /// Appends items.
    #[napi]
    pub fn append<'e>(
        &self,
        env: &'e Env,
        items: Vec<String>,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, move |log| async move {
            log.append(shared(items)).await?;
            Ok(Value::Null)
        })
    }

    /// Removes the newest item and gives it; `null` if there is none.
    #[napi]
    pub fn pop<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(
            env,
            |log| async move { Ok(log.pop().await?.as_deref().into()) },
        )
    }

    /// Removes all items.
    #[napi]
    pub fn clear<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |log| async move {
            log.clear().await?;
            Ok(Value::Null)
        })
    }

    /// Replaces the end of the list, once under a name.
    #[napi]
    pub fn replace_end<'e>(
        &self,
        env: &'e Env,
        operation: Option<String>,
        expected: Vec<String>,
        replacement: Vec<String>,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, move |log| async move {
            let (expected, replacement) = (shared(expected), shared(replacement));
            log.replace_end(operation.as_deref(), expected, replacement)
                .await?;
            Ok(Value::Null)
        })
    }

    fn run<'e, F, W>(&self, env: &'e Env, work: F) -> napi::Result<PromiseRaw<'e, Outcome>>
    where
        F: FnOnce(ItemLog) -> W + Send + 'static,
        W: Future<Output = Result<Value>> + Send + 'static,
    {
        let (slot, name) = (Arc::clone(&self.slot), self.name.clone());
        promise(env, async move {
            let Opened { tutor, items, .. } = handle(&slot)?;
            let log = items.log(tutor.owner().clone(), SessionId::new(name)?);
            work(log).await
        })
    }
}

fn shared(items: Vec<String>) -> Vec<Arc<str>> {
    items.into_iter().map(Arc::from).collect()
}
