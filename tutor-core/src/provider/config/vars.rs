//! Providers from variables, as the original system was configured.

use std::time::Duration;

use super::{ProviderConfig, ProviderKind};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::ApiKey;

impl ProviderConfig {
    /// The providers that these variables configure: OpenAI, then Anthropic; or the demo provider
    /// if there is neither.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `OPENAI_API_KEY`, `ANTHROPIC_API_KEY` | the key, which configures the provider |
    /// | `OPENAI_BASE_URL`, `ANTHROPIC_BASE_URL` | another server that speaks the protocol |
    /// | `OPENAI_MODEL`, `ANTHROPIC_MODEL` | the model when a request names none |
    /// | `DEMO_DELAY_MS` | milliseconds between two words of the demo provider |
    ///
    /// Blank values and the placeholders of example files count as not set. `OPENAI_BASE_URL`
    /// without a key configures a server that needs none, unless it is OpenAI's own.
    ///
    /// # Errors
    /// `config`, naming the variable and never its value.
    pub fn from_vars(lookup: impl Fn(&str) -> Option<String>) -> Result<Vec<Self>> {
        let mut configs = Vec::new();
        for (kind, names) in [
            (ProviderKind::OpenAi, &OPENAI),
            (ProviderKind::Anthropic, &ANTHROPIC),
        ] {
            let set = |name| {
                lookup(name)
                    .map(|value| value.trim().to_owned())
                    .filter(|value| is_set(value))
            };
            let base_url = set(names.base_url);
            let key = set(names.key).map(|key| ApiKey::new(&key));
            if let Some(key) = &key {
                key.check().map_err(|error| named(names.key, &error))?;
            }
            let keyless = kind == ProviderKind::OpenAi
                && base_url
                    .as_deref()
                    .is_some_and(|url| !url.contains("//api.openai.com"));
            if key.is_none() && !keyless {
                continue;
            }
            let config = Self {
                key,
                base_url,
                default_model: set(names.model),
                ..Self::new(kind)
            };
            config
                .check_url()
                .map_err(|error| named(names.base_url, &error))?;
            configs.push(config);
        }
        if configs.is_empty() {
            let demo_delay = match lookup("DEMO_DELAY_MS").filter(|value| !value.trim().is_empty())
            {
                Some(millis) => Some(millis.trim().parse().map(Duration::from_millis).map_err(
                    |_| {
                        Error::new(
                            ErrorKind::Config,
                            "DEMO_DELAY_MS is a number of milliseconds, such as 20",
                        )
                    },
                )?),
                None => None,
            };
            configs.push(Self {
                demo_delay,
                ..Self::new(ProviderKind::Demo)
            });
        }
        Ok(configs)
    }
}

struct Variables {
    key: &'static str,
    base_url: &'static str,
    model: &'static str,
}

const OPENAI: Variables = Variables {
    key: "OPENAI_API_KEY",
    base_url: "OPENAI_BASE_URL",
    model: "OPENAI_MODEL",
};
const ANTHROPIC: Variables = Variables {
    key: "ANTHROPIC_API_KEY",
    base_url: "ANTHROPIC_BASE_URL",
    model: "ANTHROPIC_MODEL",
};

/// What example files have in place of a key.
const PLACEHOLDERS: &[&str] = &["your_openai_key_here", "your_anthropic_key_here"];

fn is_set(value: &str) -> bool {
    !value.is_empty() && !PLACEHOLDERS.contains(&value)
}

fn named(variable: &str, error: &Error) -> Error {
    Error::new(
        ErrorKind::Config,
        format!("{variable}: {}", error.message()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(vars: &[(&str, &str)]) -> Result<Vec<ProviderConfig>> {
        ProviderConfig::from_vars(|name| {
            vars.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    fn kinds(vars: &[(&str, &str)]) -> Vec<ProviderKind> {
        configs(vars)
            .unwrap()
            .iter()
            .map(|config| config.kind)
            .collect()
    }

    #[test]
    fn keys_configure_providers_in_a_fixed_order() {
        use ProviderKind::{Anthropic, Demo, OpenAi};
        assert_eq!(
            kinds(&[("ANTHROPIC_API_KEY", "a"), ("OPENAI_API_KEY", "b")]),
            [OpenAi, Anthropic]
        );
        assert_eq!(kinds(&[("ANTHROPIC_API_KEY", "a")]), [Anthropic]);
        assert_eq!(kinds(&[]), [Demo]);
    }

    #[test]
    fn placeholders_and_blanks_count_as_not_set() {
        let vars = [
            ("OPENAI_API_KEY", "your_openai_key_here"),
            ("ANTHROPIC_API_KEY", " your_anthropic_key_here "),
        ];
        assert_eq!(kinds(&vars), [ProviderKind::Demo]);
        assert_eq!(
            kinds(&[("OPENAI_API_KEY", " "), ("OPENAI_BASE_URL", "")]),
            [ProviderKind::Demo]
        );
        let config = &configs(&[("OPENAI_API_KEY", "k"), ("OPENAI_MODEL", " ")]).unwrap()[0];
        assert_eq!(config.default_model, None);
    }

    #[test]
    fn a_server_of_ones_own_needs_no_key() {
        let config = &configs(&[
            ("OPENAI_BASE_URL", "http://127.0.0.1:11434"),
            ("OPENAI_MODEL", "qwen3"),
        ])
        .unwrap()[0];
        assert_eq!(
            (config.kind, config.default_model.as_deref()),
            (ProviderKind::OpenAi, Some("qwen3"))
        );
        assert_eq!(
            kinds(&[("OPENAI_BASE_URL", "https://api.openai.com/v1")]),
            [ProviderKind::Demo]
        );
    }

    #[test]
    fn the_demo_delay_is_milliseconds() {
        let config = &configs(&[("DEMO_DELAY_MS", " 5 ")]).unwrap()[0];
        assert_eq!(config.demo_delay, Some(Duration::from_millis(5)));
        assert!(
            configs(&[("DEMO_DELAY_MS", "fast")])
                .unwrap_err()
                .message()
                .contains("DEMO_DELAY_MS")
        );
    }

    #[test]
    fn an_error_names_the_variable_and_never_its_value() {
        let mut bad = vec![
            ("OPENAI_API_KEY", "sk-\u{7}secret"),
            ("ANTHROPIC_API_KEY", "sec ret-secret"),
        ];
        if cfg!(feature = "provider-http") {
            bad.extend([
                ("OPENAI_BASE_URL", "secret"),
                ("ANTHROPIC_BASE_URL", "ftp://secret"),
            ]);
        }
        for (name, value) in bad {
            let mut vars = vec![(name, value)];
            vars.extend([("OPENAI_API_KEY", "k"), ("ANTHROPIC_API_KEY", "k")]);
            let error = configs(&vars).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let printed = format!("{error} {error:?}");
            assert!(
                printed.contains(name) && !printed.contains("secret"),
                "{printed}"
            );
        }
    }
}
