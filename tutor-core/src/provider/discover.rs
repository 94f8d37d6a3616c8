//! Providers that are there without being configured.

use std::time::Duration;

use super::{ModelInfo, OllamaProvider, ProviderConfig, ProviderKind};

/// The Ollama that answers at `url` within `patience`, with the first model that it has and that
/// can hold a conversation; `None` if there is none.
///
/// It is asked for its list of models, and for nothing else.
pub async fn local_ollama(url: &str, patience: Duration) -> Option<ProviderConfig> {
    let config = ProviderConfig::new(ProviderKind::Ollama).with_base_url(url);
    let asked = async { OllamaProvider::new(&config).ok()?.pulled().await.ok() };
    let models = tokio::time::timeout(patience, asked).await.ok()??;
    let talks = |model: &ModelInfo| !model.id.contains("embed");
    let Some(model) = models.into_iter().find(talks) else {
        tracing::info!(
            url,
            "an Ollama answers but has no model: try `ollama pull qwen3`"
        );
        return None;
    };
    Some(config.with_default_model(model.id))
}
