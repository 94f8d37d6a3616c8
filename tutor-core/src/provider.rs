//! Providers: where replies come from.
//!
//! Implement [`Provider`] to add one. Retries, timeouts and the like are providers that wrap
//! providers; a whole reply is the stream, folded.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

use self::health::Gauges;
use crate::error::Result;
use crate::hidden::Hidden;
use crate::message::{Content, FinishReason, Role, Usage};
use crate::tool::{OutputSchema, ToolSpec};

pub mod context;
pub mod demo;
pub mod scripted;
pub mod catalog;
pub mod config;
#[cfg(feature = "provider-ollama")]
pub mod discover;
#[cfg(feature = "provider-http")]
pub mod recording;
#[cfg(feature = "provider-http")]
pub mod recorder;
pub mod options;
pub mod key;
pub mod dialect;
pub mod fault;
pub mod health;
pub(crate) mod delivered;
pub(crate) mod described;
pub mod timeout;
pub mod retry;
pub mod breaker;
pub mod bulkhead;
pub mod keys;
pub mod fallback;
pub(crate) mod router;
#[cfg(feature = "provider-openai")]
pub mod openai;
#[cfg(feature = "provider-anthropic")]
pub mod anthropic;
#[cfg(feature = "provider-responses")]
pub mod responses;
#[cfg(feature = "provider-gemini")]
pub mod gemini;
#[cfg(feature = "provider-ollama")]
pub mod ollama;
#[cfg(feature = "provider-http")]
pub(crate) mod abilities;
#[cfg(feature = "provider-http")]
pub(crate) mod attachment;
#[cfg(feature = "provider-http")]
pub(crate) mod prompt;
#[cfg(feature = "provider-http")]
pub(crate) mod schema;
#[cfg(feature = "provider-http")]
pub(crate) mod calls;
#[cfg(feature = "provider-http")]
pub(crate) mod http;
#[cfg(feature = "provider-http")]
pub(crate) mod reply;
#[cfg(feature = "provider-http")]
pub(crate) mod rejection;
#[cfg(feature = "provider-http")]
pub mod sse;
#[cfg(feature = "provider-http")]
pub(crate) mod usage;
#[cfg(feature = "provider-http")]
pub(crate) mod values;
#[cfg(feature = "provider-http")]
pub(crate) mod json;
#[cfg(feature = "provider-openai")]
pub(crate) mod mold;
#[cfg(test)]
#[cfg(all(
    feature = "provider-openai",
    feature = "provider-anthropic",
    feature = "provider-responses",
    feature = "provider-gemini",
    feature = "provider-ollama"
))]
mod cuts;

#[cfg(feature = "provider-anthropic")]
pub use anthropic::AnthropicProvider;
pub use breaker::{Breaker, BreakerProvider};
pub use bulkhead::{BulkheadProvider, Concurrency};
pub use catalog::{Catalog, ModelCard};
pub use config::{ProviderConfig, ProviderKind};
pub use context::{Extensions, RequestContext, TraceParent};
pub use demo::DemoProvider;
pub use dialect::Dialect;
pub use fallback::FallbackProvider;
pub use fault::Fault;
#[cfg(feature = "provider-gemini")]
pub use gemini::GeminiProvider;
pub use health::{BreakerState, Health, KeyState, Load};
pub use key::ApiKey;
pub use keys::KeyPoolProvider;
#[cfg(feature = "provider-ollama")]
pub use ollama::OllamaProvider;
#[cfg(feature = "provider-openai")]
pub use openai::OpenAiProvider;
pub use options::KeySource;
#[cfg(feature = "provider-http")]
pub use recorder::{RecorderProvider, ReplayProvider};
#[cfg(feature = "provider-http")]
pub use recording::Recording;
#[cfg(feature = "provider-responses")]
pub use responses::ResponsesProvider;
pub use retry::RetryProvider;
pub use scripted::ScriptedProvider;
pub use timeout::{TimeoutProvider, Timeouts};

/// A source of replies: an LLM behind a wire protocol, a script, a human.
///
/// # Behavior
/// * [`stream`](Self::stream) starts one completion. It may return before or after the first byte
///   has arrived.
/// * A stream yields deltas, then exactly one [`Delta::Finished`], then ends. Or it yields one
///   error, then ends. A stream that ends without either is reported as interrupted.
/// * Dropping the future or the stream aborts the request upstream.
/// * Nothing a provider logs or returns as an error contains a prompt, a reply or a key.
///
/// [`conformance::provider`](crate::conformance::provider) checks these laws.
#[async_trait]
pub trait Provider: fmt::Debug + Send + Sync + 'static {
    /// What it is called and what it can do. Cheap; called for every turn.
    fn info(&self) -> ProviderInfo;

    /// The models that can be asked for.
    ///
    /// # Errors
    /// The kinds of [`stream`](Self::stream).
    async fn models(&self) -> Result<Vec<ModelInfo>>;

    /// Starts a completion.
    ///
    /// # Errors
    /// `provider_auth`, `provider_quota`, `provider_rejected`, `provider_unavailable`,
    /// `rate_limited`, `context_too_long`, `too_large`, `timeout`, `invalid_input`; also as an
    /// item of the stream.
    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream>;
}

/// A provider behind a pointer.
pub type SharedProvider = Arc<dyn Provider>;

/// What a provider yields. Owned, so that bindings can hold it.
pub type CompletionStream = BoxStream<'static, Result<Delta>>;

macro_rules! forward_provider {
    ($pointer:ty) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: Provider + ?Sized> Provider for $pointer {
            fn info(&self) -> ProviderInfo {
                (**self).info()
            }
            async fn models(&self) -> Result<Vec<ModelInfo>> {
                (**self).models().await
            }
            async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
                (**self).stream(request).await
            }
        }
    };
}
forward_provider!(Arc<T>);
forward_provider!(Box<T>);

/// What a provider is called and what it can do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderInfo {
    /// How requests name it: `preferences.provider`, or the part before `/` in a model.
    pub name: String,
    /// The model that is used when a request names none.
    pub default_model: String,
    /// Which models may be asked for.
    pub models: ModelChoice,
    /// Other names of models, and what they stand for.
    pub aliases: BTreeMap<String, String>,
    /// The most tokens that prompt and reply may have together, for any of its models; `None` if
    /// that is not known here.
    pub context_window: Option<u64>,
    pub(crate) gauges: Gauges,
}

impl ProviderInfo {
    /// A provider that takes any model name.
    pub fn new(name: impl Into<String>, default_model: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            default_model: default_model.into(),
            models: ModelChoice::Open,
            aliases: BTreeMap::new(),
            context_window: None,
            gauges: Gauges::default(),
        }
    }

    /// Says how many tokens prompt and reply may have together.
    #[must_use]
    pub fn with_context_window(mut self, tokens: u64) -> Self {
        self.context_window = Some(tokens);
        self
    }

    /// How the provider is doing at the moment.
    pub fn health(&self) -> Health {
        self.gauges.read()
    }

    /// Restricts the models.
    #[must_use]
    pub fn with_models(mut self, models: ModelChoice) -> Self {
        self.models = models;
        self
    }
}

/// Which models may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelChoice {
    /// Any name; the provider itself knows best.
    Open,
    /// These only; another name is `invalid_input`.
    Listed(Vec<String>),
    /// Always the default one: it stands in for whatever is asked for, and a notice says so.
    StandIn,
}

/// A model that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelInfo {
    /// The name to ask for.
    pub id: String,
    /// The most tokens of a prompt; `None` if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
}

impl ModelInfo {
    /// A model of unknown size.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            context_window: None,
        }
    }
}

/// What a provider is asked for. Owned, so that streams and bindings can keep it.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct CompletionRequest {
    /// The model, as the provider calls it.
    pub model: String,
    /// Instructions that precede the conversation.
    pub system: Option<String>,
    /// The conversation, oldest first; the last one is the learner's. Never empty, no message
    /// is blank; neighbors may have the same role.
    pub messages: Vec<PromptMessage>,
    /// The sampling temperature, 0 to 2; `None` for the model's own.
    pub temperature: Option<f64>,
    /// The most tokens the reply may have; `None` for the model's own limit.
    pub max_tokens: Option<u64>,
    /// What the model may ask for. It asks by [`Delta::ToolCall`] and finishes with `tool_calls`;
    /// a later request has the calls and their results as parts of its messages.
    pub tools: Vec<ToolSpec>,
    /// The form that the reply must have; `None` for free text.
    pub output: Option<OutputSchema>,
    /// True if somebody watches the reply grow. Only a hint to providers that pace themselves.
    pub streamed: bool,
    /// Deadline, cancellation, owner.
    pub context: RequestContext,
}

impl fmt::Debug for CompletionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionRequest")
            .field("messages", &self.messages)
            .field("temperature", &self.temperature)
            .field("max_tokens", &self.max_tokens)
            .field("streamed", &self.streamed)
            .finish_non_exhaustive()
    }
}

impl CompletionRequest {
    /// A request for one reply to one message.
    pub fn new(model: impl Into<String>, content: impl Into<Content>) -> Self {
        Self {
            model: model.into(),
            messages: vec![PromptMessage {
                role: Role::User,
                content: content.into(),
            }],
            ..Self::default()
        }
    }
}

/// A message as the model sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromptMessage {
    /// Whose words: `User` or `Assistant`. Results of tools are the user's.
    pub role: Role,
    /// What was said. Each [`ToolCall`](crate::message::Part::ToolCall) has its
    /// [`ToolResult`](crate::message::Part::ToolResult) in the next message.
    pub content: Content,
}

/// One step of a completion.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Delta {
    /// More of the reply. Empty ones are ignored.
    Text(String),
    /// More of the model's visible thinking.
    Reasoning(String),
    /// More of an explanation why the model declines; part of the reply's text.
    Refusal(String),
    /// A whole tool call.
    ToolCall {
        /// Unique in the completion.
        id: String,
        /// The tool.
        name: String,
        /// As the model wrote them: should be a JSON object.
        arguments: String,
    },
    /// What was consumed so far. Snapshots: the last one counts, they are never added up.
    Usage(Usage),
    /// A sign of life without content.
    Heartbeat,
    /// The other side has taken the request.
    Accepted {
        /// Its own name for this exchange, which its support asks for.
        request_id: String,
    },
    /// What the provider wants to be sent again with the results of the tools that it asks for:
    /// becomes a [`Part::Replay`](crate::message::Part::Replay) of the message with the calls.
    Replay {
        /// The protocol that understands it.
        protocol: Cow<'static, str>,
        /// Opaque.
        data: serde_json::Value,
    },
    /// What came before is void: a new attempt begins. The reason is a snake-case word.
    Restart {
        /// Why.
        reason: String,
    },
    /// Another provider or model than the one that was asked writes what follows.
    AnsweredBy {
        /// The provider's name.
        provider: String,
        /// The model, as that provider calls it.
        model: String,
    },
    /// Something that the user of the API should know.
    Notice(crate::event::Notice),
    /// The reply is complete. Exactly once, last.
    Finished {
        /// Why it ended.
        reason: FinishReason,
    },
}

impl fmt::Debug for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |f: &mut fmt::Formatter<'_>, name, text: &str| {
            f.debug_tuple(name).field(&Hidden(text)).finish()
        };
        match self {
            Self::Text(t) => text(f, "Text", t),
            Self::Reasoning(t) => text(f, "Reasoning", t),
            Self::Refusal(t) => text(f, "Refusal", t),
            Self::ToolCall { id, arguments, .. } => f
                .debug_struct("ToolCall")
                .field("id", id)
                .field("arguments", &Hidden(arguments))
                .finish_non_exhaustive(),
            Self::Usage(usage) => f.debug_tuple("Usage").field(usage).finish(),
            Self::Heartbeat => f.write_str("Heartbeat"),
            Self::Accepted { request_id } => f
                .debug_struct("Accepted")
                .field("request_id", request_id)
                .finish(),
            Self::Replay { .. } => f.write_str("Replay"),
            Self::Restart { reason } => f.debug_struct("Restart").field("reason", reason).finish(),
            Self::AnsweredBy { provider, .. } => f
                .debug_struct("AnsweredBy")
                .field("provider", provider)
                .finish_non_exhaustive(),
            Self::Notice(notice) => f.debug_tuple("Notice").field(&notice.code).finish(),
            Self::Finished { reason } => {
                f.debug_struct("Finished").field("reason", reason).finish()
            }
        }
    }
}
