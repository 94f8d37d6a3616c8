//! Providers from configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::breaker::Breaker;
use super::bulkhead::Concurrency;
use super::described::DescribedProvider;
use super::dialect::Dialect;
use super::key::ApiKey;
use super::retry::MAX_RETRIES;
use super::timeout::Timeouts;
use super::{DemoProvider, FallbackProvider, SharedProvider};
use crate::error::{Error, ErrorKind, Result};

mod vars;

/// A kind of provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProviderKind {
    /// OpenAI Chat Completions, and every server that speaks it.
    OpenAi,
    /// OpenAI Responses.
    OpenAiResponses,
    /// Anthropic Messages.
    Anthropic,
    /// Google Gemini.
    Gemini,
    /// Ollama's own protocol.
    Ollama,
    /// [`DemoProvider`].
    Demo,
}

impl ProviderKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::OpenAi,
        Self::OpenAiResponses,
        Self::Anthropic,
        Self::Gemini,
        Self::Ollama,
        Self::Demo,
    ];

    /// The kind with this [name](Self::as_str).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }

    /// `openai`, `openai-responses`, `anthropic`, `gemini`, `ollama` or `demo`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::OpenAiResponses => "openai-responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
            Self::Demo => DemoProvider::NAME,
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is needed to make a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderConfig {
    /// The protocol it speaks.
    pub kind: ProviderKind,
    /// How requests name it; by default the kind.
    pub name: String,
    /// The key; `None` for servers that need none.
    pub key: Option<ApiKey>,
    /// More keys, which are used in turn with the first one. None without a first one.
    pub spare_keys: Vec<ApiKey>,
    /// Where its API begins, with or without `/v1`; `None` for the maker's own.
    pub base_url: Option<String>,
    /// How the server speaks OpenAI Chat Completions; `None` for what its host tells.
    pub dialect: Option<Dialect>,
    /// What an OpenAI Chat Completions server writes between `<think>` and `</think>` at the
    /// beginning of a reply is reasoning. False by default.
    pub think_tags: bool,
    /// The model when a request names none; `None` for a small one of the maker.
    pub default_model: Option<String>,
    /// The only models that may be asked for, besides the default one; empty for any.
    pub models: Vec<String>,
    /// Other names of models, and what they stand for.
    pub aliases: BTreeMap<String, String>,
    /// The proxy to go through, as a URL, or `system` for the one that the environment names;
    /// `None` for none.
    pub proxy: Option<String>,
    /// Time limits; `None` for 60 seconds each, and more for a server on this machine.
    pub timeouts: Option<Timeouts>,
    /// How often a request that failed is tried again, at most: [`MAX_RETRIES`] by default.
    pub max_retries: u32,
    /// How many requests it works on at the same time; `None` for any number.
    pub concurrency: Option<Concurrency>,
    /// When it is left alone; `None` for never. A provider without a network has no breaker.
    pub breaker: Option<Breaker>,
    /// Who answers when it cannot, in order: a provider's name, or `provider/model`.
    pub fallback: Vec<String>,
    /// True if another provider may begin again when a part of a reply was delivered.
    pub restart: bool,
    /// The directory into which every completion is recorded, the model's words included; `None`
    /// for no recordings.
    pub record: Option<PathBuf>,
    /// The pause between two words of the demo provider; `None` for its own.
    pub demo_delay: Option<Duration>,
}

impl ProviderConfig {
    /// A provider of this kind with everything by default.
    pub fn new(kind: ProviderKind) -> Self {
        Self {
            kind,
            name: kind.as_str().to_owned(),
            key: None,
            spare_keys: Vec::new(),
            base_url: None,
            dialect: None,
            think_tags: false,
            default_model: None,
            models: Vec::new(),
            aliases: BTreeMap::new(),
            proxy: None,
            timeouts: None,
            max_retries: MAX_RETRIES,
            concurrency: None,
            breaker: Some(Breaker::default()),
            fallback: Vec::new(),
            restart: false,
            record: None,
            demo_delay: None,
        }
    }

    /// OpenAI with this key.
    pub fn openai(key: &str) -> Self {
        Self {
            key: Some(ApiKey::new(key)),
            ..Self::new(ProviderKind::OpenAi)
        }
    }

    /// Anthropic with this key.
    pub fn anthropic(key: &str) -> Self {
        Self {
            key: Some(ApiKey::new(key)),
            ..Self::new(ProviderKind::Anthropic)
        }
    }

    /// Sets another name, to tell several providers of one kind apart.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets another server that speaks the protocol.
    #[must_use]
    pub fn with_base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// Sets how the server speaks OpenAI Chat Completions.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = Some(dialect);
        self
    }

    /// Sets the model when a request names none.
    #[must_use]
    pub fn with_default_model(mut self, model: impl Into<String>) -> Self {
        self.default_model = Some(model.into());
        self
    }

    /// Sets the time limits.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = Some(timeouts);
        self
    }

    /// All keys, the first one first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &ApiKey> {
        self.key.iter().chain(&self.spare_keys)
    }

    /// The provider: one that speaks the protocol, with a time limit for every attempt, its keys in
    /// turn, a breaker, a bound on its requests, and retries.
    ///
    /// # Errors
    /// `config` if a key, the base URL or the proxy is wrong, this build lacks the kind, or there
    /// are fallbacks: [`build_all`](Self::build_all) knows them.
    pub fn build(&self) -> Result<SharedProvider> {
        if !self.fallback.is_empty() {
            return Err(wrong(format!(
                "{} falls back on other providers: build them together",
                self.name
            )));
        }
        self.build_alone()
    }

    /// These providers, each with its fallbacks among them.
    ///
    /// # Errors
    /// Those of [`build`](Self::build), with the name of the provider; `config` for a fallback that
    /// is none of them, naming them.
    pub fn build_all(configs: &[Self]) -> Result<Vec<SharedProvider>> {
        Self::build_beside(configs, &[])
    }

    /// These providers as [`build_all`](Self::build_all) makes them; they may fall back on the
    /// `others` too, which are there already.
    ///
    /// # Errors
    /// Those of [`build_all`](Self::build_all).
    pub fn build_beside(
        configs: &[Self],
        others: &[SharedProvider],
    ) -> Result<Vec<SharedProvider>> {
        let alone = configs
            .iter()
            .map(|config| {
                config
                    .build_alone()
                    .map_err(|error| error.with_context("provider", &config.name))
            })
            .collect::<Result<Vec<_>>>()?;
        let all: Vec<_> = alone.iter().chain(others).cloned().collect();
        let with_fallbacks = |(config, provider): (&Self, &SharedProvider)| {
            if config.fallback.is_empty() {
                return Ok(Arc::clone(provider));
            }
            let first = FallbackProvider::new(Arc::clone(provider)).allow_restart(config.restart);
            let chain = config.fallback.iter().try_fold(first, |before, wanted| {
                let (provider, model) = find(&all, wanted)?;
                Ok::<_, Error>(before.then(provider, model))
            })?;
            Ok(Arc::new(chain) as SharedProvider)
        };
        configs.iter().zip(&alone).map(with_fallbacks).collect()
    }

    fn build_alone(&self) -> Result<SharedProvider> {
        let provider = match self.kind {
            ProviderKind::OpenAi => self.build_openai(),
            ProviderKind::OpenAiResponses => self.build_responses(),
            ProviderKind::Anthropic => self.build_anthropic(),
            ProviderKind::Gemini => self.build_gemini(),
            ProviderKind::Ollama => self.build_ollama(),
            ProviderKind::Demo => {
                let demo = DemoProvider::new();
                let demo = self.demo_delay.map_or(demo, |delay| demo.with_delay(delay));
                Ok(Arc::new(demo) as SharedProvider)
            }
        }?;
        let is_plain = self.models.is_empty() && self.aliases.is_empty();
        if is_plain && provider.info().name == self.name {
            return Ok(provider);
        }
        Ok(Arc::new(DescribedProvider::new(
            provider,
            self.name.clone(),
            self.models.clone(),
            self.aliases.clone(),
        )))
    }

    #[cfg(feature = "provider-openai")]
    fn build_openai(&self) -> Result<SharedProvider> {
        self.wrapped(super::openai::OpenAiProvider::new)
    }

    #[cfg(not(feature = "provider-openai"))]
    fn build_openai(&self) -> Result<SharedProvider> {
        Err(self.missing("provider-openai"))
    }

    #[cfg(feature = "provider-anthropic")]
    fn build_anthropic(&self) -> Result<SharedProvider> {
        self.wrapped(super::anthropic::AnthropicProvider::new)
    }

    #[cfg(not(feature = "provider-anthropic"))]
    fn build_anthropic(&self) -> Result<SharedProvider> {
        Err(self.missing("provider-anthropic"))
    }

    #[cfg(feature = "provider-responses")]
    fn build_responses(&self) -> Result<SharedProvider> {
        self.wrapped(super::responses::ResponsesProvider::new)
    }

    #[cfg(not(feature = "provider-responses"))]
    fn build_responses(&self) -> Result<SharedProvider> {
        Err(self.missing("provider-responses"))
    }

    #[cfg(feature = "provider-gemini")]
    fn build_gemini(&self) -> Result<SharedProvider> {
        self.wrapped(super::gemini::GeminiProvider::new)
    }

    #[cfg(not(feature = "provider-gemini"))]
    fn build_gemini(&self) -> Result<SharedProvider> {
        Err(self.missing("provider-gemini"))
    }

    #[cfg(feature = "provider-ollama")]
    fn build_ollama(&self) -> Result<SharedProvider> {
        self.wrapped(super::ollama::OllamaProvider::new)
    }

    #[cfg(not(feature = "provider-ollama"))]
    fn build_ollama(&self) -> Result<SharedProvider> {
        Err(self.missing("provider-ollama"))
    }

    #[cfg(feature = "provider-http")]
    fn wrapped<P: super::Provider>(
        &self,
        make: impl Fn(&Self) -> Result<P>,
    ) -> Result<SharedProvider> {
        use super::http::url::BaseUrl;
        use super::{
            BreakerProvider, BulkheadProvider, KeyPoolProvider, RecorderProvider, RetryProvider,
            TimeoutProvider,
        };

        let loopback = || {
            let url = self.base_url.as_deref().map(BaseUrl::parse);
            // Ollama's own address is this machine.
            url.map_or(self.kind == ProviderKind::Ollama, |url| {
                url.is_ok_and(|url| url.is_loopback())
            })
        };
        let timeouts = self.timeouts.unwrap_or_else(|| {
            if loopback() {
                Timeouts::local()
            } else {
                Timeouts::default()
            }
        });
        let limited = |config: &Self| -> Result<SharedProvider> {
            Ok(Arc::new(TimeoutProvider::new(make(config)?, timeouts)))
        };
        let mut provider = if self.spare_keys.is_empty() {
            limited(self)?
        } else {
            let one = |key: &ApiKey| {
                limited(&Self {
                    key: Some(key.clone()),
                    ..self.clone()
                })
            };
            let each: Result<Vec<_>> = self.keys().map(one).collect();
            Arc::new(KeyPoolProvider::new(each?)?)
        };
        if let Some(breaker) = self.breaker {
            provider = Arc::new(BreakerProvider::new(provider, breaker));
        }
        if let Some(concurrency) = self.concurrency {
            provider = Arc::new(BulkheadProvider::new(provider, concurrency));
        }
        if self.max_retries > 0 {
            provider = Arc::new(RetryProvider::with_max_retries(provider, self.max_retries));
        }
        if let Some(directory) = &self.record {
            let directory = directory.clone();
            provider = Arc::new(RecorderProvider::in_directory(
                provider, self.kind, directory,
            ));
        }
        Ok(provider)
    }

    #[cfg(feature = "provider-http")]
    pub(crate) fn check_url(&self) -> Result<()> {
        let url = self
            .base_url
            .as_deref()
            .map(super::http::url::BaseUrl::parse)
            .transpose();
        url.map(|_| ())
    }

    /// Without HTTP the URL is never used, and [`build`](Self::build) says why.
    #[cfg(not(feature = "provider-http"))]
    pub(crate) fn check_url(&self) -> Result<()> {
        Ok(())
    }

    #[cfg(not(all(
        feature = "provider-openai",
        feature = "provider-responses",
        feature = "provider-anthropic",
        feature = "provider-gemini",
        feature = "provider-ollama"
    )))]
    fn missing(&self, feature: &str) -> Error {
        Error::new(
            ErrorKind::Config,
            format!(
                "this build has no {} provider: build tutor-core with the feature {feature}",
                self.kind
            ),
        )
    }
}

/// The provider, and perhaps the model, that a fallback names.
fn find(providers: &[SharedProvider], wanted: &str) -> Result<(SharedProvider, Option<String>)> {
    let by_name = |name: &str| {
        providers
            .iter()
            .find(|provider| provider.info().name == name)
    };
    if let Some(provider) = by_name(wanted) {
        return Ok((Arc::clone(provider), None));
    }
    if let Some((name, model)) = wanted.split_once('/')
        && let Some(provider) = by_name(name)
        && !model.is_empty()
    {
        let aliases = provider.info().aliases;
        let model = aliases.get(model).map_or(model, String::as_str);
        return Ok((Arc::clone(provider), Some(model.to_owned())));
    }
    let known: Vec<_> = providers
        .iter()
        .map(|provider| provider.info().name)
        .collect();
    Err(wrong(format!(
        "the fallback {wanted} is no provider: write provider, or provider/model; known: {}",
        known.join(", ")
    )))
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_builds_if_it_is_compiled_in_and_says_so_if_not() {
        assert_eq!(
            ProviderConfig::new(ProviderKind::Demo)
                .build()
                .unwrap()
                .info()
                .name,
            "demo"
        );
        for (kind, compiled) in [
            (ProviderKind::OpenAi, cfg!(feature = "provider-openai")),
            (
                ProviderKind::OpenAiResponses,
                cfg!(feature = "provider-responses"),
            ),
            (ProviderKind::Gemini, cfg!(feature = "provider-gemini")),
            (ProviderKind::Ollama, cfg!(feature = "provider-ollama")),
            (
                ProviderKind::Anthropic,
                cfg!(feature = "provider-anthropic"),
            ),
        ] {
            let config = ProviderConfig {
                base_url: Some("http://127.0.0.1:9".to_owned()),
                ..ProviderConfig::new(kind)
            };
            match config.build() {
                Ok(provider) => assert!(compiled && provider.info().name == kind.as_str()),
                Err(error) => assert!(!compiled && error.message().contains("feature"), "{error}"),
            }
        }
    }
}
