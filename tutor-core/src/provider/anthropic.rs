//! Anthropic Messages.

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use self::stream::MessageStream;
use super::config::ProviderConfig;
use super::http::model_list::ModelList;
use super::http::{EVENT_STREAM, HttpClient, KeyHeader, Maker};
use super::{CompletionRequest, CompletionStream, ModelInfo, Provider, ProviderInfo};
use crate::error::Result;

mod request;
pub(crate) mod stream;
mod wire;

/// Anthropic's own API.
pub const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";
const OWN_HOST: &str = "api.anthropic.com";
/// The model when nobody names one: the smallest of the current family, as of November 2026.
pub const DEFAULT_MODEL: &str = "claude-haiku-5-5";

const MAKER: Maker = Maker {
    base_url: DEFAULT_BASE_URL,
    model: DEFAULT_MODEL,
};

/// The version of the API that is asked for: the one that imitators know, too.
const VERSION: &str = "2023-06-01";

const KEY: KeyHeader = KeyHeader {
    name: HeaderName::from_static("x-api-key"),
    prefix: "",
};
const API_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// A server that speaks Anthropic Messages.
///
/// It asks for a stream always. It neither retries nor limits time, except for making a
/// connection: see [`ProviderConfig::build`].
#[derive(Debug)]
pub struct AnthropicProvider {
    client: HttpClient,
}

impl AnthropicProvider {
    /// A provider that is configured by the name, key, base URL, default model and proxy of
    /// `config`.
    ///
    /// # Errors
    /// `config` if the key, the base URL or the proxy is wrong.
    pub fn new(config: &ProviderConfig) -> Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(API_VERSION, HeaderValue::from_static(VERSION));
        let client = HttpClient::new(config, &MAKER, &KEY, headers)?;
        Ok(Self { client })
    }
}

#[async_trait]
impl Provider for AnthropicProvider {
    fn info(&self) -> ProviderInfo {
        self.client.info()
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        let mut url = self.client.base().join("models", missing);
        // The largest page: there are fewer models than that.
        url.query_pairs_mut().append_pair("limit", "1000");
        self.client.models(url, ModelList::into).await
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let own = self.client.base().host() == OWN_HOST;
        let body = request::body(&request, own);
        let url = self.client.base().join("messages", missing);
        let protocol = MessageStream::new(!request.tools.is_empty());
        let context = &request.context;
        let completed = self
            .client
            .complete(context, url, EVENT_STREAM, body, protocol);
        completed.await
    }
}

/// Base URLs are written without the version, as a rule.
fn missing(path: &str) -> &'static str {
    if path.ends_with("/v1") { "" } else { "v1" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::http::url::BaseUrl;

    #[test]
    fn a_base_url_may_or_may_not_end_in_the_version_or_a_slash() {
        for (base, url) in [
            (
                "https://api.anthropic.com",
                "https://api.anthropic.com/v1/messages",
            ),
            (
                "https://api.anthropic.com/v1/",
                "https://api.anthropic.com/v1/messages",
            ),
            (
                "https://api.deepseek.com/anthropic",
                "https://api.deepseek.com/anthropic/v1/messages",
            ),
            (
                "https://x.example/v1/messages",
                "https://x.example/v1/messages",
            ),
        ] {
            assert_eq!(
                BaseUrl::parse(base)
                    .unwrap()
                    .join("messages", missing)
                    .as_str(),
                url
            );
        }
    }
}
