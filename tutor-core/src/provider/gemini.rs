//! Google Gemini.

use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName};
use serde::Deserialize;

use self::stream::ContentStream;
use super::config::ProviderConfig;
use super::http::{EVENT_STREAM, HttpClient, KeyHeader, Maker};
use super::json::{count, lenient};
use super::{CompletionRequest, CompletionStream, ModelInfo, Provider, ProviderInfo};
use crate::error::{Error, Result};

mod request;
pub(crate) mod stream;

/// Google's own API.
pub const DEFAULT_BASE_URL: &str = "https://generativelanguage.googleapis.com";
/// The model when nobody names one: a small one of the current families, as of November 2026.
pub const DEFAULT_MODEL: &str = "gemini-3.5-flash-lite";

const MAKER: Maker = Maker {
    base_url: DEFAULT_BASE_URL,
    model: DEFAULT_MODEL,
};

/// Never in the URL, which is logged.
const KEY: KeyHeader = KeyHeader {
    name: HeaderName::from_static("x-goog-api-key"),
    prefix: "",
};

/// A server that speaks Google's `generateContent`.
///
/// It asks for a stream always. It neither retries nor limits time, except for making a
/// connection: see [`ProviderConfig::build`].
#[derive(Debug)]
pub struct GeminiProvider {
    client: HttpClient,
}

impl GeminiProvider {
    /// A provider that is configured by the name, key, base URL, default model and proxy of
    /// `config`.
    ///
    /// # Errors
    /// `config` if the key, the base URL or the proxy is wrong.
    pub fn new(config: &ProviderConfig) -> Result<Self> {
        let client = HttpClient::new(config, &MAKER, &KEY, HeaderMap::new())?;
        Ok(Self { client })
    }

    /// Where `model` is asked.
    ///
    /// # Errors
    /// `invalid_input` for a model that cannot be part of a path.
    fn url(&self, model: &str) -> Result<Url> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
        let fits = model.bytes().all(allowed) && model.split('/').all(|it| !it.starts_with('.'));
        if model.is_empty() || !fits {
            return Err(Error::invalid_input(
                "the name of a Gemini model has letters, digits, dots, dashes and slashes only",
            )
            .with_context("provider", self.client.name()));
        }
        let path = if model.contains('/') { "" } else { "models/" };
        let endpoint = format!("{path}{model}:streamGenerateContent");
        let mut url = self.client.base().join(&endpoint, missing);
        url.query_pairs_mut().append_pair("alt", "sse");
        Ok(url)
    }
}

/// A page of the list of models.
#[derive(Deserialize)]
struct List {
    #[serde(default)]
    models: Vec<Model>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Model {
    name: String,
    #[serde(default, deserialize_with = "count")]
    input_token_limit: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    supported_generation_methods: Option<Vec<String>>,
}

impl Model {
    /// True if it writes texts, and does not only count or embed them.
    fn writes(&self) -> bool {
        let methods = self.supported_generation_methods.as_ref();
        methods.is_none_or(|methods| methods.iter().any(|method| method == "generateContent"))
    }
}

impl From<List> for Vec<ModelInfo> {
    fn from(list: List) -> Self {
        let info = |model: Model| ModelInfo {
            context_window: model.input_token_limit,
            ..ModelInfo::new(model.name.strip_prefix("models/").unwrap_or(&model.name))
        };
        list.models
            .into_iter()
            .filter(Model::writes)
            .map(info)
            .collect()
    }
}

#[async_trait]
impl Provider for GeminiProvider {
    fn info(&self) -> ProviderInfo {
        self.client.info()
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        let mut url = self.client.base().join("models", missing);
        // The largest page: there are fewer models than that.
        url.query_pairs_mut().append_pair("pageSize", "1000");
        self.client.models(url, List::into).await
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let url = self.url(&request.model)?;
        let body = request::body(&request);
        let protocol = ContentStream::default();
        let context = &request.context;
        let completed = self
            .client
            .complete(context, url, EVENT_STREAM, body, protocol);
        completed.await
    }
}

/// Base URLs are written without the version, as a rule.
fn missing(path: &str) -> &'static str {
    if path.split('/').any(|part| part.starts_with("v1")) {
        ""
    } else {
        "v1beta"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_may_or_may_not_have_the_version_and_a_model_its_folder() {
        for (base, model, url) in [
            (
                DEFAULT_BASE_URL,
                "gemini-3.8-flash",
                "https://generativelanguage.googleapis.com/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse",
            ),
            (
                "https://x.example/google/v1/",
                "tunedModels/mine",
                "https://x.example/google/v1/tunedModels/mine:streamGenerateContent?alt=sse",
            ),
        ] {
            let config = ProviderConfig::new(crate::provider::ProviderKind::Gemini);
            let provider = GeminiProvider::new(&config.with_base_url(base)).unwrap();
            assert_eq!(provider.url(model).unwrap().as_str(), url);
            for bad in [
                "", "../x", "a/../b", "a?key=1", "a#b", "a b", "a%2fb", "a:b",
            ] {
                assert!(provider.url(bad).is_err(), "{bad}");
            }
        }
    }
}
