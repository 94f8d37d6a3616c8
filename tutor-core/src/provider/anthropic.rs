//! Anthropic Messages.

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use self::stream::MessageStream;
use super::config::ProviderConfig;
use super::http::url::BaseUrl;
use super::http::{EVENT_STREAM, HttpClient, secret_header};
use super::reply::completion;
use super::{CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo};
use crate::error::Result;

mod request;
pub(crate) mod stream;

/// Anthropic's own API.
pub const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";
const OWN_HOST: &str = "api.anthropic.com";
/// The model when nobody names one: the smallest of the current family, as of November 2026.
pub const DEFAULT_MODEL: &str = "claude-haiku-5-5";
/// The version of the API that is asked for: the one that imitators know, too.
const VERSION: &str = "2023-06-01";

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const API_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// A server that speaks Anthropic Messages.
///
/// It asks for a stream always. It neither retries nor limits time, except for making a
/// connection: see [`ProviderConfig::build`].
#[derive(Debug)]
pub struct AnthropicProvider {
    client: HttpClient,
    default_model: String,
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
        if let Some(key) = &config.key {
            headers.insert(API_KEY, secret_header("", key)?);
        }
        let base = BaseUrl::parse(config.base_url.as_deref().unwrap_or(DEFAULT_BASE_URL))?;
        let client = HttpClient::new(config, base, headers)?;
        let default_model = config
            .default_model
            .clone()
            .unwrap_or_else(|| DEFAULT_MODEL.to_owned());
        Ok(Self {
            client,
            default_model,
        })
    }
}

#[async_trait]
impl Provider for AnthropicProvider {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new(self.client.name(), self.default_model.clone())
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        let mut url = self.client.base().join("models", missing);
        // The largest page: there are fewer models than that.
        url.query_pairs_mut().append_pair("limit", "1000");
        let listed = self.client.models(url, &self.default_model);
        listed.await.map_err(|failure| self.client.error(failure))
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let own = self.client.base().host() == OWN_HOST;
        let (body, notices) = request::body(&request, own);
        let url = self.client.base().join("messages", missing);
        let answer = self
            .client
            .post(&request.context, url, EVENT_STREAM, body)
            .await
            .map_err(|failure| self.client.error(failure))?;
        let first = notices.into_iter().map(Delta::Notice).collect();
        Ok(completion(
            self.client.clone(),
            answer,
            MessageStream::new(!request.tools.is_empty()),
            first,
        ))
    }
}

/// Base URLs are written without the version, as a rule.
fn missing(path: &str) -> &'static str {
    if path.ends_with("/v1") { "" } else { "v1" }
}

#[cfg(test)]
mod tests {
    use super::*;

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
