//! OpenAI Chat Completions, and every server that speaks it.

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde::Deserialize;

use self::request::Dialect;
use self::stream::ChatStream;
use super::config::ProviderConfig;
use super::fault::{Failure, Fault};
use super::http::{HttpClient, secret_header};
use super::reply::{completion, read_document};
use super::{CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo};
use crate::error::Result;

mod calls;
mod request;
pub(crate) mod stream;

/// OpenAI's own API.
pub const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";
/// The model when nobody names one: the smallest of the current family, as of November 2026.
pub const DEFAULT_MODEL: &str = "gpt-6-luna";

/// A server that speaks Chat Completions: OpenAI, Azure, Groq, Mistral, DeepSeek, OpenRouter, vLLM,
/// llama.cpp, Ollama, and so on.
///
/// It asks for a stream always, and takes a whole reply from servers that do not stream. It neither
/// retries nor limits time, except for making a connection: see [`ProviderConfig::build`].
#[derive(Debug)]
pub struct OpenAiProvider {
    client: HttpClient,
    default_model: String,
    dialect: Dialect,
}

impl OpenAiProvider {
    /// A provider that is configured by the name, key, base URL, default model and proxy of
    /// `config`. A key may be missing: servers on one's own machine need none.
    ///
    /// # Errors
    /// `config` if the key, the base URL or the proxy is wrong.
    pub fn new(config: &ProviderConfig) -> Result<Self> {
        let mut headers = HeaderMap::new();
        if let Some(key) = &config.key {
            headers.insert(AUTHORIZATION, secret_header("Bearer ", key)?);
        }
        let client = HttpClient::new(config, DEFAULT_BASE_URL, headers)?;
        let dialect = Dialect::of_host(client.base().host());
        let default_model = config
            .default_model
            .clone()
            .unwrap_or_else(|| DEFAULT_MODEL.to_owned());
        Ok(Self {
            client,
            default_model,
            dialect,
        })
    }

    async fn list(&self) -> Result<Vec<ModelInfo>, Failure> {
        #[derive(Deserialize)]
        struct List {
            data: Vec<Model>,
        }
        #[derive(Deserialize)]
        struct Model {
            id: String,
        }
        match self
            .client
            .get(self.client.base().join("models", is_complete))
            .await
        {
            Ok(document) => {
                let text = String::from_utf8_lossy(&document);
                let list: List = read_document(&text, |text| serde_json::from_str(text))?;
                Ok(list
                    .data
                    .into_iter()
                    .map(|model| ModelInfo::new(model.id))
                    .collect())
            }
            // A server without a list still has the model it was configured for.
            Err(failure) if matches!(failure.fault(), Fault::NotFound) => {
                Ok(vec![ModelInfo::new(self.default_model.clone())])
            }
            Err(failure) => Err(failure),
        }
    }
}

#[async_trait]
impl Provider for OpenAiProvider {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new(self.client.name(), self.default_model.clone())
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        self.list()
            .await
            .map_err(|failure| self.client.error(failure))
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let (body, notices) = request::body(&request, self.dialect);
        let url = self.client.base().join("chat/completions", is_complete);
        let answer = self
            .client
            .post(url, body)
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

/// Base URLs without a path lack the version; any other path is taken as it is.
fn is_complete(host: &str, path: &str) -> bool {
    !path.is_empty() || host == "api.perplexity.ai"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::http::url::BaseUrl;

    #[test]
    fn a_base_url_may_or_may_not_end_in_the_version_or_a_slash() {
        for (base, url) in [
            (
                "https://api.openai.com/v1",
                "https://api.openai.com/v1/chat/completions",
            ),
            (
                "https://api.openai.com/v1/",
                "https://api.openai.com/v1/chat/completions",
            ),
            (
                "https://api.openai.com",
                "https://api.openai.com/v1/chat/completions",
            ),
            (
                "http://127.0.0.1:11434/",
                "http://127.0.0.1:11434/v1/chat/completions",
            ),
            (
                "https://api.groq.com/openai/v1",
                "https://api.groq.com/openai/v1/chat/completions",
            ),
            (
                "https://openrouter.ai/api/v1//",
                "https://openrouter.ai/api/v1/chat/completions",
            ),
            (
                "https://x.example/v1beta/openai",
                "https://x.example/v1beta/openai/chat/completions",
            ),
            (
                "https://api.perplexity.ai",
                "https://api.perplexity.ai/chat/completions",
            ),
            (
                "https://x.example/v1/chat/completions",
                "https://x.example/v1/chat/completions",
            ),
            (
                "https://x.example/openai/deployments/d?api-version=1",
                "https://x.example/openai/deployments/d/chat/completions?api-version=1",
            ),
        ] {
            let base = BaseUrl::parse(base).unwrap();
            assert_eq!(base.join("chat/completions", is_complete).as_str(), url);
        }
    }
}
