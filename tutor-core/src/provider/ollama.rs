//! Ollama's own protocol.

use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde::Deserialize;

use self::stream::ChatStream;
use super::config::ProviderConfig;
use super::fault::{Failure, Fault};
use super::http::url::BaseUrl;
use super::http::{HttpClient, secret_header};
use super::reply::{completion, read_document};
use super::{CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo};
use crate::error::Result;

mod request;
pub(crate) mod stream;

/// A server on this machine.
pub const DEFAULT_BASE_URL: &str = "http://127.0.0.1:11434";
/// The model when nobody names one. It must have been pulled.
pub const DEFAULT_MODEL: &str = "llama3.2";

const LINES: &str = "application/x-ndjson";

/// An Ollama server, on this machine or elsewhere.
///
/// It asks for a stream always. It neither retries nor limits time, except for making a
/// connection: see [`ProviderConfig::build`].
#[derive(Debug)]
pub struct OllamaProvider {
    client: HttpClient,
    default_model: String,
}

impl OllamaProvider {
    /// A provider that is configured by the name, key, base URL, default model and proxy of
    /// `config`. A server on one's own machine needs no key.
    ///
    /// # Errors
    /// `config` if the key, the base URL or the proxy is wrong.
    pub fn new(config: &ProviderConfig) -> Result<Self> {
        let base = BaseUrl::parse(config.base_url.as_deref().unwrap_or(DEFAULT_BASE_URL))?;
        let mut headers = HeaderMap::new();
        if let Some(key) = &config.key {
            headers.insert(AUTHORIZATION, secret_header("Bearer ", key)?);
        }
        let default_model = config
            .default_model
            .clone()
            .unwrap_or_else(|| DEFAULT_MODEL.to_owned());
        Ok(Self {
            client: HttpClient::new(config, base, headers)?,
            default_model,
        })
    }

    fn url(&self, endpoint: &str) -> Url {
        let missing = |path: &str| if path.ends_with("/api") { "" } else { "api" };
        self.client.base().join(endpoint, missing)
    }

    async fn list(&self) -> Result<Vec<ModelInfo>, Failure> {
        #[derive(Deserialize)]
        struct List {
            #[serde(default)]
            models: Vec<Model>,
        }
        #[derive(Deserialize)]
        struct Model {
            name: String,
        }
        let document = match self.client.get(self.url("tags")).await {
            Ok(document) => document,
            Err(failure) if failure.fault() == Fault::NotFound => {
                return Ok(vec![ModelInfo::new(self.default_model.clone())]);
            }
            Err(failure) => return Err(failure),
        };
        let text = String::from_utf8_lossy(&document);
        let list: List = read_document(&text, |text| serde_json::from_str(text))?;
        let models = list.models.into_iter();
        Ok(models.map(|model| ModelInfo::new(model.name)).collect())
    }
}

#[async_trait]
impl Provider for OllamaProvider {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new(self.client.name(), self.default_model.clone())
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        self.list()
            .await
            .map_err(|failure| self.client.error(failure))
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let (body, notices) = request::body(&request);
        let answer = self
            .client
            .post(&request.context, self.url("chat"), LINES, body)
            .await
            .map_err(|failure| self.client.error(failure))?;
        let first = notices.into_iter().map(Delta::Notice).collect();
        Ok(completion(
            self.client.clone(),
            answer,
            ChatStream::default(),
            first,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_may_or_may_not_end_in_api() {
        for (base, url) in [
            (DEFAULT_BASE_URL, "http://127.0.0.1:11434/api/chat"),
            ("https://ollama.com/api/", "https://ollama.com/api/chat"),
            ("https://x.example/llm", "https://x.example/llm/api/chat"),
        ] {
            let config = ProviderConfig::new(crate::provider::ProviderKind::Ollama);
            let provider = OllamaProvider::new(&config.with_base_url(base)).unwrap();
            assert_eq!(provider.url("chat").as_str(), url);
        }
    }
}
