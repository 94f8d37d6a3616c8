//! What the operator says about a provider, laid over what it says itself: its name, its models.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{CompletionRequest, CompletionStream, ModelChoice, ModelInfo, Provider, ProviderInfo};
use crate::error::Result;

/// A provider of which the models that may be asked for, and their other names, are configured.
#[derive(Debug)]
pub(crate) struct DescribedProvider<P> {
    inner: P,
    name: String,
    /// Empty for any.
    models: Vec<String>,
    aliases: BTreeMap<String, String>,
}

impl<P: Provider> DescribedProvider<P> {
    /// The default model is always among the models.
    pub(crate) fn new(
        inner: P,
        name: String,
        mut models: Vec<String>,
        aliases: BTreeMap<String, String>,
    ) -> Self {
        let default = inner.info().default_model;
        if !models.is_empty() && !models.contains(&default) {
            models.insert(0, default);
        }
        Self {
            inner,
            name,
            models,
            aliases,
        }
    }
}

#[async_trait]
impl<P: Provider> Provider for DescribedProvider<P> {
    fn info(&self) -> ProviderInfo {
        let mut info = self.inner.info();
        info.name.clone_from(&self.name);
        if !self.models.is_empty() {
            info.models = ModelChoice::Listed(self.models.clone());
        }
        info.aliases.clone_from(&self.aliases);
        info
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        if self.models.is_empty() {
            return self.inner.models().await;
        }
        // The operator's word counts, also where the provider cannot be asked.
        Ok(self.models.iter().map(ModelInfo::new).collect())
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        self.inner.stream(request).await
    }
}
