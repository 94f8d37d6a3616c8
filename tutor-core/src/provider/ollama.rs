//! Ollama's own protocol.

use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde::Deserialize;

use self::stream::ChatStream;
use super::config::ProviderConfig;
use super::fault::Failure;
use super::http::{HttpClient, KeyHeader, Maker};
use super::{CompletionRequest, CompletionStream, ModelInfo, Provider, ProviderInfo};
use crate::error::Result;

mod request;
pub(crate) mod stream;

/// A server on this machine.
pub const DEFAULT_BASE_URL: &str = "http://127.0.0.1:11434";
/// The model when nobody names one. It must have been pulled.
pub const DEFAULT_MODEL: &str = "llama3.2";

const MAKER: Maker = Maker {
    base_url: DEFAULT_BASE_URL,
    model: DEFAULT_MODEL,
};
const KEY: KeyHeader = KeyHeader {
    name: AUTHORIZATION,
    prefix: "Bearer ",
};

const LINES: &str = "application/x-ndjson";

/// An Ollama server, on this machine or elsewhere.
///
/// It asks for a stream always. It neither retries nor limits time, except for making a
/// connection: see [`ProviderConfig::build`].
#[derive(Debug)]
pub struct OllamaProvider {
    client: HttpClient,
}

impl OllamaProvider {
    /// A provider that is configured by the name, key, base URL, default model and proxy of
    /// `config`. A server on one's own machine needs no key.
    ///
    /// # Errors
    /// `config` if the key, the base URL or the proxy is wrong.
    pub fn new(config: &ProviderConfig) -> Result<Self> {
        let client = HttpClient::new(config, &MAKER, &KEY, HeaderMap::new())?;
        Ok(Self { client })
    }

    fn url(&self, endpoint: &str) -> Url {
        let missing = |path: &str| if path.ends_with("/api") { "" } else { "api" };
        self.client.base().join(endpoint, missing)
    }

    /// The models that the server has.
    pub(crate) async fn pulled(&self) -> Result<Vec<ModelInfo>, Failure> {
        let list: List = self.client.document(self.url("tags")).await?;
        Ok(list.into())
    }
}

/// The models that were pulled.
#[derive(Deserialize)]
struct List {
    #[serde(default)]
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    name: String,
}

impl From<List> for Vec<ModelInfo> {
    fn from(list: List) -> Self {
        let models = list.models.into_iter();
        models.map(|model| ModelInfo::new(model.name)).collect()
    }
}

#[async_trait]
impl Provider for OllamaProvider {
    fn info(&self) -> ProviderInfo {
        self.client.info()
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        self.client.models(self.url("tags"), List::into).await
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let body = request::body(&request);
        let (context, url) = (&request.context, self.url("chat"));
        let completed = self
            .client
            .complete(context, url, LINES, body, ChatStream::default());
        completed.await
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
