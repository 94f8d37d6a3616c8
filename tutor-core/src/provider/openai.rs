//! OpenAI Chat Completions, and every server that speaks it.

use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName};

use self::stream::ChatStream;
use super::config::ProviderConfig;
use super::dialect::Dialect;
use super::http::model_list::ModelList;
use super::http::url::BaseUrl;
use super::http::{EVENT_STREAM, HttpClient, KeyHeader, Maker};
use super::{CompletionRequest, CompletionStream, ModelInfo, Provider, ProviderInfo};
use crate::error::Result;

mod request;
pub(crate) mod stream;
mod thinking;
mod wire;

/// OpenAI's own API.
pub const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";
/// The model when nobody names one: the smallest of the current family, as of November 2026.
pub const DEFAULT_MODEL: &str = "gpt-6-luna";

const MAKER: Maker = Maker {
    base_url: DEFAULT_BASE_URL,
    model: DEFAULT_MODEL,
};

/// A server that speaks Chat Completions: OpenAI, Azure, Groq, Mistral, DeepSeek, OpenRouter, vLLM,
/// llama.cpp, Ollama, and so on.
///
/// It asks for a stream always, and takes a whole reply from servers that do not stream. It neither
/// retries nor limits time, except for making a connection: see [`ProviderConfig::build`].
#[derive(Debug)]
pub struct OpenAiProvider {
    client: HttpClient,
    dialect: Dialect,
    think_tags: bool,
}

impl OpenAiProvider {
    /// A provider that is configured by the name, key, base URL, default model and proxy of
    /// `config`. A key may be missing: servers on one's own machine need none.
    ///
    /// # Errors
    /// `config` if the key, the base URL or the proxy is wrong.
    pub fn new(config: &ProviderConfig) -> Result<Self> {
        let base = BaseUrl::parse(config.base_url.as_deref().unwrap_or(DEFAULT_BASE_URL))?;
        let dialect = config
            .dialect
            .unwrap_or_else(|| Dialect::of_host(base.host(), base.port()));
        let key_header = match dialect.traits().key_header {
            "" => KeyHeader {
                name: AUTHORIZATION,
                prefix: "Bearer ",
            },
            name => KeyHeader {
                name: HeaderName::from_static(name),
                prefix: "",
            },
        };
        Ok(Self {
            client: HttpClient::new(config, &MAKER, &key_header, HeaderMap::new())?,
            dialect,
            think_tags: config.think_tags,
        })
    }

    /// Base URLs without a path lack that of the API; any other path is taken as it is.
    fn url(&self, endpoint: &str) -> Url {
        let root = self.dialect.traits().root;
        let missing = |path: &str| if path.is_empty() { root } else { "" };
        self.client.base().join(endpoint, missing)
    }
}

#[async_trait]
impl Provider for OpenAiProvider {
    fn info(&self) -> ProviderInfo {
        self.client.info()
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        let url = self.url("models");
        self.client.models(url, ModelList::into).await
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let body = request::body(&request, self.dialect);
        let url = self.url("chat/completions");
        let protocol = ChatStream::new(self.think_tags, !request.tools.is_empty());
        let context = &request.context;
        let completed = self
            .client
            .complete(context, url, EVENT_STREAM, body, protocol);
        completed.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                "https://api.groq.com",
                "https://api.groq.com/openai/v1/chat/completions",
            ),
            (
                "https://school.openai.azure.com",
                "https://school.openai.azure.com/openai/v1/chat/completions",
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
            let config = ProviderConfig::openai("k").with_base_url(base);
            let provider = OpenAiProvider::new(&config).unwrap();
            assert_eq!(provider.url("chat/completions").as_str(), url);
        }
    }
}
