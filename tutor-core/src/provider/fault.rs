//! What can go wrong upstream: one vocabulary for every protocol, and its one table to [`Error`].

use std::fmt;
use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// In the context of an error: who refused a request here, without asking the provider.
pub(crate) const REFUSED_BY: &str = "refused_by";

/// Why a completion failed, as finely as providers tell it apart.
///
/// An [`Error`] of a provider names it as `reason` in its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The key was refused.
    Auth,
    /// The key may not do this.
    Permission,
    /// There is no such resource, or no such model.
    NotFound,
    /// The request itself is wrong.
    InvalidRequest,
    /// The request has too many bytes.
    RequestTooLarge,
    /// The conversation has too many tokens for the model.
    ContextTooLong,
    /// A content policy refused the request.
    ContentFiltered,
    /// Too many requests.
    RateLimited,
    /// No credit left, or a spending limit was reached.
    QuotaExhausted,
    /// No capacity at the moment.
    Overloaded,
    /// A failure inside the provider.
    Server,
    /// A time limit was exceeded.
    Timeout,
    /// The connection could not be made, or broke.
    Connection,
    /// The stream ended without its protocol's end.
    TruncatedStream,
    /// The answer holds nothing at all.
    EmptyResponse,
    /// The answer cannot be understood.
    Malformed,
    /// The model wrote something that the provider could not use.
    ModelOutputInvalid,
    /// The answer is well-formed, but not one that this protocol has, such as a redirect.
    InvalidResponse,
}

impl Fault {
    /// Every fault.
    pub const ALL: &'static [Self] = &[
        Self::Auth,
        Self::Permission,
        Self::NotFound,
        Self::InvalidRequest,
        Self::RequestTooLarge,
        Self::ContextTooLong,
        Self::ContentFiltered,
        Self::RateLimited,
        Self::QuotaExhausted,
        Self::Overloaded,
        Self::Server,
        Self::Timeout,
        Self::Connection,
        Self::TruncatedStream,
        Self::EmptyResponse,
        Self::Malformed,
        Self::ModelOutputInvalid,
        Self::InvalidResponse,
    ];

    /// The stable snake-case word: the `reason` in an error's context.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The kind of the [`Error`] that this becomes.
    pub fn kind(self) -> ErrorKind {
        self.row().1
    }

    /// True if the same request may succeed later, unless the provider says otherwise.
    pub fn is_retryable(self) -> bool {
        self.row().2
    }

    fn message(self) -> &'static str {
        self.row().3
    }

    fn row(self) -> (&'static str, ErrorKind, bool, &'static str) {
        use ErrorKind as Kind;
        match self {
            Self::Auth => (
                "auth",
                Kind::ProviderAuth,
                false,
                "the provider refused the API key of this tutor: whoever runs it must check the key",
            ),
            Self::Permission => (
                "permission",
                Kind::ProviderAuth,
                false,
                "the provider does not allow this to the API key of this tutor: whoever runs it must check the key's permissions, project and region",
            ),
            Self::NotFound => (
                "not_found",
                Kind::ProviderRejected,
                false,
                "the provider has nothing at this address: check the base URL",
            ),
            Self::InvalidRequest => (
                "invalid_request",
                Kind::ProviderRejected,
                false,
                "the provider refused the request: check the model and the preferences",
            ),
            Self::RequestTooLarge => (
                "request_too_large",
                Kind::TooLarge,
                false,
                "the request is too large for the provider: send less at once",
            ),
            Self::ContextTooLong => (
                "context_too_long",
                Kind::ContextTooLong,
                false,
                "the conversation is too long for the model: shorten it, or choose a model with a larger context window",
            ),
            Self::ContentFiltered => (
                "content_filtered",
                Kind::ProviderRejected,
                false,
                "the provider's content policy refused the request: rephrase it",
            ),
            Self::RateLimited => (
                "rate_limited",
                Kind::RateLimited,
                true,
                "the provider takes no more requests at the moment: wait and try again",
            ),
            Self::QuotaExhausted => (
                "quota_exhausted",
                Kind::ProviderQuota,
                false,
                "this tutor's account at the provider has no credit left or reached a spending limit: whoever runs it must check the billing page",
            ),
            Self::Overloaded => (
                "overloaded",
                Kind::ProviderUnavailable,
                true,
                "the provider is overloaded: try again in a moment",
            ),
            Self::Server => (
                "server",
                Kind::ProviderUnavailable,
                true,
                "the provider failed: try again in a moment",
            ),
            Self::Timeout => (
                "timeout",
                Kind::Timeout,
                true,
                "the provider did not answer in time: try again",
            ),
            Self::Connection => (
                "connection",
                Kind::ProviderUnavailable,
                true,
                "the connection to the provider failed: check the network and the base URL, then try again",
            ),
            Self::TruncatedStream => (
                "truncated_stream",
                Kind::ProviderUnavailable,
                true,
                "the provider ended its answer before it was complete: try again",
            ),
            Self::EmptyResponse => (
                "empty_response",
                Kind::ProviderUnavailable,
                true,
                "the provider answered nothing: try again",
            ),
            Self::Malformed => (
                "malformed",
                Kind::ProviderUnavailable,
                true,
                "the provider's answer cannot be understood: check that the base URL belongs to this kind of provider",
            ),
            Self::ModelOutputInvalid => (
                "model_output_invalid",
                Kind::ProviderUnavailable,
                true,
                "the model wrote something that the provider could not use: try again",
            ),
            Self::InvalidResponse => (
                "invalid_response",
                Kind::ProviderRejected,
                false,
                "the provider gave an answer that its protocol does not have: check the base URL",
            ),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A [`Fault`] with what is known about it.
///
/// The words of the other side are not among it: they may repeat the prompt, or the key.
#[derive(Debug)]
pub(crate) struct Failure {
    fault: Fault,
    retryable: bool,
    retry_after: Option<Duration>,
    model: bool,
    status: Option<u16>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            fault,
            retryable: fault.is_retryable(),
            retry_after: None,
            model: false,
            status: None,
            context: Vec::new(),
            source: None,
        }
    }

    /// An answer that will not be better the next time, such as that of another protocol.
    pub(crate) fn hopeless(fault: Fault) -> Self {
        Self {
            retryable: false,
            ..Self::new(fault)
        }
    }

    /// A fact of our own.
    pub(crate) fn with_fact(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((key, value.to_string()));
        self
    }

    /// The error of the provider called `provider`.
    pub(crate) fn into_error(self, provider: &str) -> Error {
        let mut error = if self.model {
            Error::invalid_input(
                "the provider does not know the model: choose another, or check what the API key may use",
            )
        } else {
            Error::new(self.fault.kind(), self.fault.message())
        };
        error = error
            .with_context("provider", provider)
            .with_context("reason", self.fault);
        if let Some(status) = self.status {
            error = error.with_context("status", status);
        }
        for (key, value) in self.context {
            error = error.with_context(key, value);
        }
        match self.retry_after {
            wait if self.retryable => error = error.retryable(wait),
            // Worth knowing, but no advice: nobody waits until tomorrow.
            Some(wait) => error = error.with_context("retry_after_ms", wait.as_millis()),
            None => {}
        }
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

#[cfg(feature = "provider-http")]
impl Failure {
    pub(crate) fn fault(&self) -> Fault {
        self.fault
    }

    /// What is not there is the model.
    pub(crate) fn of_model(mut self) -> Self {
        self.model = true;
        self
    }

    /// Sets how long to wait, if that is known.
    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait.or(self.retry_after);
        self
    }

    /// Overrules the fault's own retry advice.
    pub(crate) fn with_retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// Adds the HTTP status, unless there is one.
    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status.get_or_insert(status);
        self
    }

    /// Adds a word of the other side, if it is one, unless there is one.
    pub(crate) fn with_token(mut self, key: &'static str, value: Option<&str>) -> Self {
        if let Some(value) = value.filter(|value| is_token(value))
            && self.context.iter().all(|(known, _)| *known != key)
        {
            self.context.push((key, value.to_owned()));
        }
        self
    }

    /// Drops every word that holds `secret`: servers repeat keys.
    pub(crate) fn without(mut self, secret: Option<&str>) -> Self {
        if let Some(secret) = secret {
            self.context.retain(|(_, value)| !value.contains(secret));
        }
        self
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// True for what looks like an identifier, and neither like prose nor like a key.
pub(crate) fn is_token(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.:/[]-".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(allowed) && !text.contains("sk-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_own_word_and_a_sentence_of_house_style() {
        let mut words: Vec<_> = Fault::ALL.iter().map(|fault| fault.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Fault::ALL.len());
        for fault in Fault::ALL {
            let message = fault.message();
            assert!(
                message.starts_with(char::is_lowercase) && !message.ends_with('.'),
                "{message}"
            );
        }
    }

    #[cfg(feature = "provider-http")]
    #[test]
    fn an_error_carries_identifiers_but_no_prose() {
        let error = Failure::new(Fault::RateLimited)
            .with_status(429)
            .with_token("provider_code", Some("rate_limit_exceeded"))
            .with_token("param", Some("messages[0].content"))
            .with_token("provider_type", Some("your prompt was: hello"))
            .with_token("request_id", Some(&"x".repeat(65)))
            .with_retry_after(Some(Duration::from_secs(2)))
            .into_error("openai");
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
        let context: Vec<_> = error.context().collect();
        assert_eq!(
            context,
            [
                ("provider", "openai"),
                ("reason", "rate_limited"),
                ("status", "429"),
                ("provider_code", "rate_limit_exceeded"),
                ("param", "messages[0].content"),
            ]
        );
    }

    #[cfg(feature = "provider-http")]
    #[test]
    fn an_unknown_model_is_the_callers_mistake() {
        let error = Failure::new(Fault::NotFound)
            .of_model()
            .into_error("openai");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.context_value("reason"), Some("not_found"));
        let error = Failure::new(Fault::NotFound).into_error("openai");
        assert_eq!(error.kind(), ErrorKind::ProviderRejected);
    }
}
