//! Google Gemini.

use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName};
use serde::Deserialize;

use self::stream::ContentStream;
use super::config::ProviderConfig;
use super::fault::{Failure, Fault};
use super::http::url::BaseUrl;
use super::http::{EVENT_STREAM, HttpClient, secret_header};
use super::json::{Count, lenient};
use super::reply::{completion, read_document};
use super::{CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo};
use crate::error::{Error, Result};

mod request;
pub(crate) mod stream;

/// Google's own API.
pub const DEFAULT_BASE_URL: &str = "https://generativelanguage.googleapis.com";
/// The model when nobody names one: a small one of the current families, as of November 2026.
pub const DEFAULT_MODEL: &str = "gemini-3.5-flash-lite";

/// Never in the URL, which is logged.
const API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// A server that speaks Google's `generateContent`.
///
/// It asks for a stream always. It neither retries nor limits time, except for making a
/// connection: see [`ProviderConfig::build`].
#[derive(Debug)]
pub struct GeminiProvider {
    client: HttpClient,
    default_model: String,
}

impl GeminiProvider {
    /// A provider that is configured by the name, key, base URL, default model and proxy of
    /// `config`.
    ///
    /// # Errors
    /// `config` if the key, the base URL or the proxy is wrong.
    pub fn new(config: &ProviderConfig) -> Result<Self> {
        let base = BaseUrl::parse(config.base_url.as_deref().unwrap_or(DEFAULT_BASE_URL))?;
        let mut headers = HeaderMap::new();
        if let Some(key) = &config.key {
            headers.insert(API_KEY, secret_header("", key)?);
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

    async fn list(&self) -> Result<Vec<ModelInfo>, Failure> {
        #[derive(Deserialize)]
        struct List {
            #[serde(default)]
            models: Vec<Model>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Model {
            name: String,
            #[serde(default, deserialize_with = "lenient")]
            input_token_limit: Option<Count>,
            #[serde(default, deserialize_with = "lenient")]
            supported_generation_methods: Option<Vec<String>>,
        }
        let mut url = self.client.base().join("models", missing);
        // The largest page: there are fewer models than that.
        url.query_pairs_mut().append_pair("pageSize", "1000");
        let document = match self.client.get(url).await {
            Ok(document) => document,
            Err(failure) if failure.fault() == Fault::NotFound => {
                return Ok(vec![ModelInfo::new(self.default_model.clone())]);
            }
            Err(failure) => return Err(failure),
        };
        let text = String::from_utf8_lossy(&document);
        let list: List = read_document(&text, |text| serde_json::from_str(text))?;
        let writes = |model: &Model| {
            model
                .supported_generation_methods
                .as_ref()
                .is_none_or(|methods| methods.iter().any(|method| method == "generateContent"))
        };
        let models = list.models.into_iter().filter(writes);
        Ok(models
            .map(|model| ModelInfo {
                context_window: model.input_token_limit.map(|limit| limit.0),
                ..ModelInfo::new(model.name.strip_prefix("models/").unwrap_or(&model.name))
            })
            .collect())
    }
}

#[async_trait]
impl Provider for GeminiProvider {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new(self.client.name(), self.default_model.clone())
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        self.list()
            .await
            .map_err(|failure| self.client.error(failure))
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let url = self.url(&request.model)?;
        let (body, notices) = request::body(&request);
        let answer = self
            .client
            .post(&request.context, url, EVENT_STREAM, body)
            .await
            .map_err(|failure| self.client.error(failure))?;
        let first = notices.into_iter().map(Delta::Notice).collect();
        Ok(completion(
            self.client.clone(),
            answer,
            ContentStream::default(),
            first,
        ))
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
