//! Providers that are there without being configured.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::config::{ProviderConfig, ProviderKind};
use super::http::HttpClient;
use super::timeout::Timeouts;

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
    let probe = ProviderConfig::new(ProviderKind::OpenAi)
        .with_base_url(url)
        .with_timeouts(Timeouts {
            connect: patience,
            ..Timeouts::default()
        });
    let asked = async {
        let client = HttpClient::new(&probe, url, HeaderMap::new()).ok()?;
        let document = client
            .get(client.base().join("api/tags", |_, _| true))
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
    let v1 = format!("{}/v1", url.trim_end_matches('/'));
    let config = ProviderConfig::new(ProviderKind::OpenAi)
        .with_name("ollama")
        .with_base_url(v1)
        .with_default_model(model.name);
    Some(config)
}
