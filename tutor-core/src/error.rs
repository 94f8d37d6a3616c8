//! The one error of the engine: what happened ([`ErrorKind`]), whether trying again can help
//! ([`Retry`]), where it happened (context), and what caused it (source).
//!
//! An error never carries a prompt, a reply or a key, and it never logs.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as coarse as a caller can act on it.
///
/// [`ErrorKind::code`] is the same string in every face: Rust, HTTP, Python and Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is wrong: change it.
    InvalidInput,
    /// The named session, message or turn does not exist (or belongs to somebody else).
    NotFound,
    /// The request contradicts what is stored: read again, then decide.
    Conflict,
    /// A size limit was exceeded.
    TooLarge,
    /// The conversation does not fit the model's context window: shorten it.
    ContextTooLong,
    /// Credentials are missing or wrong. Raised by the server only.
    Unauthorized,
    /// The caller may not do this. Raised by the server only.
    Forbidden,
    /// Too many requests: wait.
    RateLimited,
    /// This engine has as many turns running as it may: come back in a moment.
    Overloaded,
    /// The provider refused the operator's credentials.
    ProviderAuth,
    /// The provider's account has no credit left.
    ProviderQuota,
    /// The provider refused the request itself.
    ProviderRejected,
    /// The provider cannot be reached, is overloaded, or answered nonsense.
    ProviderUnavailable,
    /// A time limit was exceeded.
    Timeout,
    /// The reply was cut off; what arrived is kept. Ask again.
    Interrupted,
    /// Another process owns the store.
    StoreLocked,
    /// The store cannot be read or written.
    StoreUnavailable,
    /// The store holds something that cannot be understood: stop, and restore a backup.
    DataCorrupt,
    /// The configuration is wrong. Raised at start-up only.
    Config,
    /// A bug in the engine: report it.
    Internal,
}

impl ErrorKind {
    /// Every kind, in the order of the documentation. Each face has a test that walks it.
    pub const ALL: &'static [Self] = &[
        Self::InvalidInput,
        Self::NotFound,
        Self::Conflict,
        Self::TooLarge,
        Self::ContextTooLong,
        Self::Unauthorized,
        Self::Forbidden,
        Self::RateLimited,
        Self::Overloaded,
        Self::ProviderAuth,
        Self::ProviderQuota,
        Self::ProviderRejected,
        Self::ProviderUnavailable,
        Self::Timeout,
        Self::Interrupted,
        Self::StoreLocked,
        Self::StoreUnavailable,
        Self::DataCorrupt,
        Self::Config,
        Self::Internal,
    ];

    /// The stable snake-case name, the same in every face.
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::ContextTooLong => "context_too_long",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::ProviderAuth => "provider_auth",
            Self::ProviderQuota => "provider_quota",
            Self::ProviderRejected => "provider_rejected",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
            Self::StoreLocked => "store_locked",
            Self::StoreUnavailable => "store_unavailable",
            Self::DataCorrupt => "data_corrupt",
            Self::Config => "config",
            Self::Internal => "internal",
        }
    }

    /// The kind with this [`code`](Self::code).
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.code() == code)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Whether the same request may succeed later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// It will fail again. The default: whoever makes an error must claim that it is retryable.
    #[default]
    Never,
    /// It may succeed after a wait: of this length if the other side said so, else of the
    /// caller's choice.
    After(Option<Duration>),
}

/// What can go wrong in the engine, in a store or in a provider.
///
/// One word wide. Compare [`kind`](Self::kind), not the text: messages are for people and may
/// change. Clones share the source.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    retry: Retry,
    context: Vec<(&'static str, String)>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error that is not retryable.
    ///
    /// `message` is lower case without a final dot; it states the fact and what to do, and holds
    /// nothing that a learner or a model wrote.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            retry: Retry::Never,
            context: Vec::new(),
            source: None,
        }))
    }

    /// [`ErrorKind::InvalidInput`].
    pub fn invalid_input(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// [`ErrorKind::NotFound`] of a `"session"`, `"message"` or `"turn"`.
    pub fn not_found(what: &'static str, id: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotFound, format!("no such {what}")).with_context(what, id)
    }

    /// [`ErrorKind::Conflict`].
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// [`ErrorKind::Internal`]: a law of the engine was broken.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Claims that the same request may succeed later, after `wait` if that is known.
    #[must_use]
    pub fn retryable(mut self, wait: Option<Duration>) -> Self {
        self.0.retry = Retry::After(wait);
        self
    }

    /// Replaces the retry advice.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Adds a fact: an id, a status, a path. Never text of a person or a model.
    #[must_use]
    pub fn with_context(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Adds what caused this error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The stable snake-case name of the kind.
    pub fn code(&self) -> &'static str {
        self.0.kind.code()
    }

    /// The sentence for people, without kind and context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether, and after how long, to try again.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// True if the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.retry, Retry::After(_))
    }

    /// How long to wait before trying again, if the other side said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.0.retry {
            Retry::After(wait) => wait,
            Retry::Never => None,
        }
    }

    /// The facts, in the order in which they were added.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(k, v)| (*k, v.as_str()))
    }

    /// The first fact with this name.
    pub fn context_value(&self, key: &str) -> Option<&str> {
        self.context().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// The cause as a type that a plug-in put there, such as a user's own exception.
    pub fn source_as<T: StdError + 'static>(&self) -> Option<&T> {
        self.0.source.as_ref()?.downcast_ref()
    }

    /// What of this error is stored with a turn and sent in an event.
    pub fn info(&self) -> ErrorInfo {
        ErrorInfo {
            code: self.code().to_owned(),
            message: self.message().to_owned(),
            retryable: self.is_retryable(),
            retry_after_ms: self
                .retry_after()
                .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.0.message)?;
        for (i, (key, value)) in self.context().enumerate() {
            write!(f, "{}{key}={value}", if i == 0 { " (" } else { ", " })?;
        }
        if self.0.context.is_empty() {
            Ok(())
        } else {
            f.write_str(")")
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("retry", &self.0.retry)
            .field("context", &self.0.context)
            .field("source", &self.0.source.as_ref().map(ToString::to_string))
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

/// The part of an [`Error`] that is stored with a failed turn and sent in `turn.failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInfo {
    /// An [`ErrorKind::code`].
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// True if the same request may succeed later.
    pub retryable: bool,
    /// Milliseconds to wait before trying again; absent when nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl From<ErrorInfo> for Error {
    fn from(info: ErrorInfo) -> Self {
        let kind = ErrorKind::from_code(&info.code).unwrap_or(ErrorKind::Internal);
        let error = Self::new(kind, info.message);
        match (info.retryable, info.retry_after_ms) {
            (true, wait) => error.retryable(wait.map(Duration::from_millis)),
            (false, _) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_unique_and_finds_its_kind() {
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_code(kind.code()), Some(*kind));
        }
        assert_eq!(ErrorKind::from_code("no_such_code"), None);
    }

    #[test]
    fn an_error_renders_on_one_line_with_its_context() {
        let error = Error::not_found("session", "s1").with_context("owner", "o1");
        assert_eq!(
            error.to_string(),
            "not_found: no such session (session=s1, owner=o1)"
        );
        assert_eq!(Error::internal("broken").to_string(), "internal: broken");
    }

    #[test]
    fn nothing_is_retryable_unless_it_says_so() {
        assert!(!Error::new(ErrorKind::Timeout, "late").is_retryable());
        let error =
            Error::new(ErrorKind::RateLimited, "slow down").retryable(Some(Duration::from_secs(2)));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn an_error_survives_being_stored() {
        let error = Error::new(ErrorKind::RateLimited, "slow down")
            .retryable(Some(Duration::from_millis(7)));
        let back = Error::from(error.info());
        assert_eq!(
            (back.kind(), back.retry_after()),
            (error.kind(), error.retry_after())
        );
    }
}
