//! Anthropic Messages.

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use self::stream::MessageStream;
use super::config::ProviderConfig;
use super::fault::{Failure, Fault};
use super::http::{HttpClient, secret_header};
use super::reply::{completion, read_document};
use super::{CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo};
use crate::error::Result;

mod request;
pub(crate) mod stream;

/// Anthropic's own API.
pub const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";
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
        let client = HttpClient::new(config, DEFAULT_BASE_URL, headers)?;
        let default_model = config
            .default_model
            .clone()
            .unwrap_or_else(|| DEFAULT_MODEL.to_owned());
        Ok(Self {
            client,
            default_model,
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
        let mut url = self.client.base().join("models", is_complete);
        // The largest page: there are fewer models than that.
        url.query_pairs_mut().append_pair("limit", "1000");
        match self.client.get(url).await {
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
            Err(failure) if failure.fault() == Fault::NotFound => {
                Ok(vec![ModelInfo::new(self.default_model.clone())])
            }
            Err(failure) => Err(failure),
        }
    }
}

#[async_trait]
impl Provider for AnthropicProvider {
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
        let url = self.client.base().join("messages", is_complete);
        let answer = self
            .client
            .post(url, body)
            .await
            .map_err(|failure| self.client.error(failure))?;
        let first = notices.into_iter().map(Delta::Notice).collect();
        Ok(completion(
            self.client.clone(),
            answer,
            MessageStream::default(),
            first,
        ))
    }
}

/// Base URLs are written without the version, as a rule.
fn is_complete(_: &str, path: &str) -> bool {
    path.ends_with("/v1")
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
                    .join("messages", is_complete)
                    .as_str(),
                url
            );
        }
    }
}
