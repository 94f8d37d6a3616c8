//! OpenAI Responses.

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderMap};

use self::stream::ResponseStream;
use super::config::ProviderConfig;
use super::http::url::BaseUrl;
use super::http::{EVENT_STREAM, HttpClient, secret_header};
use super::reply::completion;
use super::{CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo};
use crate::error::Result;

mod request;
pub(crate) mod stream;

/// OpenAI's own API.
pub const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";
/// The model when nobody names one: the smallest of the current family, as of November 2026.
pub const DEFAULT_MODEL: &str = "gpt-6-luna";

const OWN_HOST: &str = "api.openai.com";

/// A server that speaks OpenAI Responses.
///
/// It asks for a stream always, and that nothing be stored. It neither retries nor limits time,
/// except for making a connection: see [`ProviderConfig::build`].
#[derive(Debug)]
pub struct ResponsesProvider {
    client: HttpClient,
    default_model: String,
}

impl ResponsesProvider {
    /// A provider that is configured by the name, key, base URL, default model and proxy of
    /// `config`. A key may be missing: servers on one's own machine need none.
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
}

#[async_trait]
impl Provider for ResponsesProvider {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new(self.client.name(), self.default_model.clone())
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        let url = self.client.base().join("models", missing);
        let listed = self.client.models(url, &self.default_model).await;
        listed.map_err(|failure| self.client.error(failure))
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let own = self.client.base().host() == OWN_HOST;
        let (body, notices) = request::body(&request, own);
        let url = self.client.base().join("responses", missing);
        let answer = self
            .client
            .post(&request.context, url, EVENT_STREAM, body)
            .await
            .map_err(|failure| self.client.error(failure))?;
        let first = notices.into_iter().map(Delta::Notice).collect();
        Ok(completion(
            self.client.clone(),
            answer,
            ResponseStream::new(!request.tools.is_empty()),
            first,
        ))
    }
}

/// Base URLs without a path lack the version; any other path is taken as it is.
fn missing(path: &str) -> &'static str {
    if path.is_empty() { "v1" } else { "" }
}
