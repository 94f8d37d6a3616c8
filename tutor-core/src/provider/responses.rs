//! OpenAI Responses.

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderMap};

use self::stream::ResponseStream;
use super::config::ProviderConfig;
use super::http::model_list::ModelList;
use super::http::{EVENT_STREAM, HttpClient, KeyHeader, Maker};
use super::{CompletionRequest, CompletionStream, ModelInfo, Provider, ProviderInfo};
use crate::error::Result;

mod request;
pub(crate) mod stream;
mod wire;

/// OpenAI's own API.
pub const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";
/// The model when nobody names one: the smallest of the current family, as of November 2026.
pub const DEFAULT_MODEL: &str = "gpt-6-luna";

const MAKER: Maker = Maker {
    base_url: DEFAULT_BASE_URL,
    model: DEFAULT_MODEL,
};
const KEY: KeyHeader = KeyHeader {
    name: AUTHORIZATION,
    prefix: "Bearer ",
};

const OWN_HOST: &str = "api.openai.com";

/// A server that speaks OpenAI Responses.
///
/// It asks for a stream always, and that nothing be stored. It neither retries nor limits time,
/// except for making a connection: see [`ProviderConfig::build`].
#[derive(Debug)]
pub struct ResponsesProvider {
    client: HttpClient,
}

impl ResponsesProvider {
    /// A provider that is configured by the name, key, base URL, default model and proxy of
    /// `config`. A key may be missing: servers on one's own machine need none.
    ///
    /// # Errors
    /// `config` if the key, the base URL or the proxy is wrong.
    pub fn new(config: &ProviderConfig) -> Result<Self> {
        let client = HttpClient::new(config, &MAKER, &KEY, HeaderMap::new())?;
        Ok(Self { client })
    }
}

#[async_trait]
impl Provider for ResponsesProvider {
    fn info(&self) -> ProviderInfo {
        self.client.info()
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        let url = self.client.base().join("models", missing);
        self.client.models(url, ModelList::into).await
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let own = self.client.base().host() == OWN_HOST;
        let body = request::body(&request, own);
        let url = self.client.base().join("responses", missing);
        let protocol = ResponseStream::new(!request.tools.is_empty());
        let context = &request.context;
        let completed = self
            .client
            .complete(context, url, EVENT_STREAM, body, protocol);
        completed.await
    }
}

/// Base URLs without a path lack the version; any other path is taken as it is.
fn missing(path: &str) -> &'static str {
    if path.is_empty() { "v1" } else { "" }
}
