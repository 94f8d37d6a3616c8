//! How servers that speak Chat Completions differ: one table.
//!
//! What they send is read with the same tolerance from all of them; what differs is what may be
//! sent to them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// A server's way of speaking OpenAI Chat Completions.
///
/// It is read from its name, as in `"groq".parse()`, and inferred from the host of a base URL where
/// that tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// `openai`: OpenAI's own API.
    OpenAi,
    /// `azure`: Azure OpenAI. The model is the name of a deployment.
    Azure,
    /// `vllm`
    Vllm,
    /// `llama.cpp`
    LlamaCpp,
    /// `lm-studio`
    LmStudio,
    /// `groq`
    Groq,
    /// `mistral`
    Mistral,
    /// `deepseek`
    DeepSeek,
    /// `openrouter`
    OpenRouter,
    /// `xai`
    Xai,
    /// `perplexity`
    Perplexity,
    /// `together`
    Together,
    /// `ollama`: its imitation of OpenAI under `/v1`.
    Ollama,
    /// `gemini`: Google's imitation of OpenAI.
    Gemini,
    /// `compatible`: any other server. It is sent nothing that is newer than itself may be.
    Compatible,
}

/// What a dialect has.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "provider-openai"),
    expect(dead_code, reason = "only the provider needs to know")
)]
pub(crate) struct Traits {
    /// The host, or what it ends with after a dot; empty if none tells.
    hosts: &'static [&'static str],
    /// The path of the API where a base URL has none.
    pub(crate) root: &'static str,
    /// The header of the key; that of a bearer token if empty.
    pub(crate) key_header: &'static str,
    /// Instructions of reasoning models have a role of their own.
    pub(crate) developer: bool,
    /// The limit of a reply is `max_completion_tokens` for all models.
    pub(crate) completion_limit: bool,
    /// Usage comes only if it is asked for.
    pub(crate) ask_usage: bool,
    /// Padding against eavesdroppers, which TLS on one's own machine does not need, can be refused.
    pub(crate) obfuscates: bool,
    /// A message may have images.
    pub(crate) images: bool,
    /// Tools may be given.
    pub(crate) tools: bool,
    /// The server enforces the schemas of tools if asked to.
    pub(crate) strict_tools: bool,
    /// A reply can be given a schema, and not only be told to be JSON.
    pub(crate) schemas: bool,
    /// Ids of calls have exactly 9 letters and digits.
    pub(crate) short_ids: bool,
    /// Neighbors must not have the same role.
    pub(crate) alternates: bool,
    /// The field with the thinking that must be sent again with the results of tools.
    pub(crate) thinking: &'static str,
    /// Calls carry signatures that must be sent again.
    pub(crate) signatures: bool,
}

/// What every imitator knows.
const COMMON: Traits = Traits {
    hosts: &[],
    root: "v1",
    key_header: "",
    developer: false,
    completion_limit: false,
    ask_usage: true,
    obfuscates: false,
    images: true,
    tools: true,
    strict_tools: false,
    schemas: true,
    short_ids: false,
    alternates: false,
    thinking: "",
    signatures: false,
};

impl Dialect {
    /// Every dialect.
    pub const ALL: &'static [Self] = &[
        Self::OpenAi,
        Self::Azure,
        Self::Vllm,
        Self::LlamaCpp,
        Self::LmStudio,
        Self::Groq,
        Self::Mistral,
        Self::DeepSeek,
        Self::OpenRouter,
        Self::Xai,
        Self::Perplexity,
        Self::Together,
        Self::Ollama,
        Self::Gemini,
        Self::Compatible,
    ];

    /// The name, as in a configuration.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The dialect of the server at `host` and `port`; [`Compatible`](Self::Compatible) if they do
    /// not tell.
    pub fn of_host(host: &str, port: Option<u16>) -> Self {
        let is = |known: &&str| {
            host == *known
                || host
                    .strip_suffix(known)
                    .is_some_and(|rest| rest.ends_with('.'))
        };
        let known = Self::ALL
            .iter()
            .find(|dialect| dialect.traits().hosts.iter().any(is));
        match (known, port) {
            (Some(dialect), _) => *dialect,
            // Their own ports, which hardly anybody changes.
            (None, Some(11434)) => Self::Ollama,
            (None, Some(1234)) => Self::LmStudio,
            (None, _) => Self::Compatible,
        }
    }

    pub(crate) fn traits(self) -> Traits {
        self.row().1
    }

    /// The table.
    fn row(self) -> (&'static str, Traits) {
        match self {
            Self::OpenAi => (
                "openai",
                Traits {
                    hosts: &["api.openai.com"],
                    developer: true,
                    completion_limit: true,
                    obfuscates: true,
                    strict_tools: true,
                    ..COMMON
                },
            ),
            Self::Azure => (
                "azure",
                Traits {
                    hosts: &[
                        "openai.azure.com",
                        "cognitiveservices.azure.com",
                        "services.ai.azure.com",
                    ],
                    root: "openai/v1",
                    key_header: "api-key",
                    developer: true,
                    completion_limit: true,
                    strict_tools: true,
                    ..COMMON
                },
            ),
            Self::Vllm => ("vllm", COMMON),
            Self::LlamaCpp => ("llama.cpp", COMMON),
            Self::LmStudio => ("lm-studio", COMMON),
            // Refuses messages with properties that it does not know.
            Self::Groq => (
                "groq",
                Traits {
                    hosts: &["api.groq.com"],
                    root: "openai/v1",
                    completion_limit: true,
                    ..COMMON
                },
            ),
            // Refuses fields that it does not know; its usage comes unasked.
            Self::Mistral => (
                "mistral",
                Traits {
                    hosts: &["mistral.ai"],
                    ask_usage: false,
                    short_ids: true,
                    ..COMMON
                },
            ),
            Self::DeepSeek => (
                "deepseek",
                Traits {
                    hosts: &["api.deepseek.com"],
                    images: false,
                    schemas: false,
                    thinking: "reasoning_content",
                    ..COMMON
                },
            ),
            Self::OpenRouter => (
                "openrouter",
                Traits {
                    hosts: &["openrouter.ai"],
                    root: "api/v1",
                    thinking: "reasoning_details",
                    ..COMMON
                },
            ),
            Self::Xai => (
                "xai",
                Traits {
                    hosts: &["api.x.ai"],
                    ..COMMON
                },
            ),
            Self::Perplexity => (
                "perplexity",
                Traits {
                    hosts: &["api.perplexity.ai"],
                    root: "",
                    ask_usage: false,
                    tools: false,
                    alternates: true,
                    ..COMMON
                },
            ),
            Self::Together => (
                "together",
                Traits {
                    hosts: &["api.together.xyz", "api.together.ai"],
                    ..COMMON
                },
            ),
            Self::Ollama => ("ollama", COMMON),
            Self::Gemini => (
                "gemini",
                Traits {
                    hosts: &["generativelanguage.googleapis.com"],
                    root: "v1beta/openai",
                    signatures: true,
                    ..COMMON
                },
            ),
            Self::Compatible => ("compatible", COMMON),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Dialect {
    type Err = Error;

    /// Reads a name; upper case, and other or no separators do not matter.
    ///
    /// # Errors
    /// `config`, naming the known ones.
    fn from_str(name: &str) -> Result<Self> {
        let plain = |name: &str| {
            name.chars()
                .filter(char::is_ascii_alphanumeric)
                .collect::<String>()
                .to_ascii_lowercase()
        };
        let found = Self::ALL
            .iter()
            .find(|dialect| plain(dialect.as_str()) == plain(name));
        found.copied().ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|dialect| dialect.as_str()).collect();
            Error::new(
                ErrorKind::Config,
                format!("there is no such dialect; known: {}", known.join(", ")),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialect_is_read_from_its_name() {
        for dialect in Dialect::ALL {
            assert_eq!(dialect.as_str().parse::<Dialect>().unwrap(), *dialect);
        }
        assert_eq!("LM Studio".parse::<Dialect>().unwrap(), Dialect::LmStudio);
        assert_eq!("llama_cpp".parse::<Dialect>().unwrap(), Dialect::LlamaCpp);
        let error = "cobol".parse::<Dialect>().unwrap_err();
        assert!(error.message().contains("openrouter"), "{error}");
    }

    #[test]
    fn a_host_that_tells_has_its_dialect_and_no_other_has() {
        for (host, port, dialect) in [
            ("api.openai.com", Some(443), Dialect::OpenAi),
            ("eu.api.openai.com", Some(443), Dialect::OpenAi),
            ("notapi.openai.com", Some(443), Dialect::Compatible),
            ("school.openai.azure.com", Some(443), Dialect::Azure),
            ("api.groq.com", Some(443), Dialect::Groq),
            ("api.mistral.ai", Some(443), Dialect::Mistral),
            ("api.deepseek.com", Some(443), Dialect::DeepSeek),
            ("openrouter.ai", Some(443), Dialect::OpenRouter),
            ("api.x.ai", Some(443), Dialect::Xai),
            ("api.perplexity.ai", Some(443), Dialect::Perplexity),
            ("api.together.xyz", Some(443), Dialect::Together),
            ("127.0.0.1", Some(11434), Dialect::Ollama),
            ("localhost", Some(1234), Dialect::LmStudio),
            ("localhost", Some(8000), Dialect::Compatible),
        ] {
            assert_eq!(Dialect::of_host(host, port), dialect, "{host}");
        }
    }
}
