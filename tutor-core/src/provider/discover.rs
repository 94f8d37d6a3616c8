//! Providers that are there without being configured.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::config::{ProviderConfig, ProviderKind};
use super::http::HttpClient;
use super::http::url::BaseUrl;

/// The Ollama that answers at `url` within `patience`, with the first model that it has and that
/// can hold a conversation; `None` if there is none.
///
/// It is asked for its list of models, and for nothing else.
pub async fn local_ollama(url: &str, patience: Duration) -> Option<ProviderConfig> {
    #[derive(Deserialize)]
    struct Tags {
        models: Vec<Tag>,
    }
    #[derive(Deserialize)]
    struct Tag {
        name: String,
    }
    let config = ProviderConfig::new(ProviderKind::Ollama).with_base_url(url);
    let asked = async {
        let client = HttpClient::new(&config, BaseUrl::parse(url).ok()?, HeaderMap::new()).ok()?;
        let document = client
            .get(client.base().join("api/tags", |_| ""))
            .await
            .ok()?;
        serde_json::from_slice::<Tags>(&document).ok()
    };
    let tags = tokio::time::timeout(patience, asked).await.ok()??;
    let talks = |tag: &Tag| !tag.name.contains("embed");
    let Some(model) = tags.models.into_iter().find(talks) else {
        tracing::info!(
            url,
            "an Ollama answers but has no model: try `ollama pull qwen3`"
        );
        return None;
    };
    Some(config.with_default_model(model.name))
}
