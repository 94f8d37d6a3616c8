//! Providers from options: the tables of a configuration file, and what the bindings pass.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::breaker::Breaker;
use super::bulkhead::Concurrency;
use super::config::{ProviderConfig, ProviderKind};
use super::key::ApiKey;
use super::retry::MAX_RETRIES;
use super::timeout::Timeouts;
use crate::error::{Error, ErrorKind, Result};
use crate::json::Fields;
use crate::json::nearest;
use crate::message::Metadata;

/// Where a key is that the options only name. Who reads the options says how to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySource {
    /// An environment variable.
    Env(String),
    /// A file.
    File(PathBuf),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::More(more) => more,
        }
    }
}

/// `true`, `false`, or what to change.
#[derive(Deserialize)]
#[serde(untagged)]
enum BreakerOption {
    Switch(bool),
    Settings(Metadata),
}

impl ProviderConfig {
    /// The provider called `name` that these options describe. All are optional; durations are
    /// seconds.
    ///
    /// | option | meaning |
    /// |---|---|
    /// | `kind` | the protocol: the name of a [`ProviderKind`]; by default `name` |
    /// | `base_url` | another server that speaks the protocol |
    /// | `key`, `key_env` or `key_file` | the key, the variable or the file that has it; a list for several keys |
    /// | `dialect` | how the server speaks Chat Completions: [`Dialect`](super::Dialect) |
    /// | `think_tags` | true if it writes its reasoning between `<think>` and `</think>` |
    /// | `default_model` | the model when a request names none |
    /// | `models` | the only models that may be asked for |
    /// | `aliases` | other names of models: `{ fast = "gpt-6-luna" }` |
    /// | `proxy` | the URL of a proxy, or `system` for that of the environment |
    /// | `connect_timeout`, `first_timeout`, `idle_timeout`, `progress_timeout`, `total_timeout` | [`Timeouts`] |
    /// | `max_retries` | retries of a request, at most 10 |
    /// | `max_concurrent`, `max_waiting`, `max_wait` | [`Concurrency`] |
    /// | `breaker` | `false` for none, or `{ failures, window, cooldown }`: [`Breaker`] |
    /// | `fallback` | `provider` or `provider/model`, or a list of such, asked in order when this one cannot answer |
    /// | `restart` | true to fall back also when a part of a reply was delivered |
    /// | `record` | a directory: every completion is recorded into a file, the model's words included |
    /// | `delay` | the demo provider's pause between two words |
    ///
    /// `api_key` is another word for `key`, and `model` for `default_model`. Without a key and a
    /// base URL, the maker's usual variable is asked for, such as `OPENAI_API_KEY`. `read` gets a
    /// key from where it is; `None` if it is not there.
    ///
    /// # Errors
    /// `config`, naming the option, what it has to be, and never its value; for an unknown option
    /// the nearest known one.
    pub fn from_options(
        name: &str,
        options: Metadata,
        read: impl Fn(&KeySource) -> Result<Option<String>>,
    ) -> Result<Self> {
        let mut fields = Fields::new("provider", ErrorKind::Config, options);
        let kind = fields.text("kind")?;
        let mut config = Self::new(kind_of(kind.as_deref().unwrap_or(name))?);
        config.name = fields.text("name")?.unwrap_or_else(|| name.to_owned());
        config.base_url = fields.text("base_url")?;
        config.check_url()?;
        let keys = keys(&mut fields, &config, read)?;
        let mut keys = keys.iter().map(|key| ApiKey::new(key));
        config.key = keys.next();
        config.spare_keys = keys.collect();
        for key in config.keys() {
            key.check()?;
        }
        config.dialect = match fields.text("dialect")? {
            Some(name) => Some(name.parse()?),
            None => None,
        };
        config.think_tags = fields.flag("think_tags")?;
        let model = fields.text("default_model")?;
        config.default_model = model.or(fields.text("model")?);
        config.models = fields
            .parsed("models", "a list of texts")?
            .unwrap_or_default();
        config.aliases = fields
            .parsed::<BTreeMap<String, String>>("aliases", "a table of texts")?
            .unwrap_or_default();
        config.proxy = fields.text("proxy")?;
        config.timeouts = timeouts(&mut fields)?;
        if let Some(retries) = fields.count("max_retries")? {
            config.max_retries = u32::min(retries, 10);
        }
        config.concurrency = concurrency(&mut fields)?;
        config.breaker = breaker(&mut fields)?;
        let expected = "provider, or provider/model, or a list of such";
        let fallback: Option<OneOrMore<String>> = fields.parsed("fallback", expected)?;
        config.fallback = fallback.map_or_else(Vec::new, OneOrMore::into_vec);
        config.restart = fields.flag("restart")?;
        config.record = fields.parsed("record", "a directory")?;
        config.demo_delay = fields.seconds("delay")?;
        fields.end()?;
        Ok(config)
    }

    /// The options of [`from_options`](Self::from_options) that are not at their defaults, without
    /// the keys: their places say `<redacted>`.
    pub fn to_options(&self) -> Metadata {
        let mut options = Metadata::new();
        let mut put = |name: &str, value: Value| options.insert(name.to_owned(), value);
        let seconds = |duration: Duration| json!(duration.as_secs_f64());
        put("kind", json!(self.kind.as_str()));
        if let Some(url) = &self.base_url {
            // A query may hold a key.
            let url = url.split_once('?').map_or(url.as_str(), |(url, _)| url);
            put("base_url", json!(url));
        }
        let keys: Vec<_> = self.keys().map(|_| REDACTED).collect();
        match keys.as_slice() {
            [] => None,
            [one] => put("key", json!(one)),
            several => put("key", json!(several)),
        };
        if let Some(dialect) = self.dialect {
            put("dialect", json!(dialect.as_str()));
        }
        if self.think_tags {
            put("think_tags", json!(true));
        }
        if let Some(model) = &self.default_model {
            put("default_model", json!(model));
        }
        if !self.models.is_empty() {
            put("models", json!(self.models));
        }
        if !self.aliases.is_empty() {
            put("aliases", json!(self.aliases));
        }
        match self.proxy.as_deref() {
            Some(proxy) if proxy.contains('@') => put("proxy", json!(REDACTED)),
            Some(proxy) => put("proxy", json!(proxy)),
            None => None,
        };
        if let Some(timeouts) = self.timeouts {
            put("connect_timeout", seconds(timeouts.connect));
            put("first_timeout", seconds(timeouts.first));
            put("idle_timeout", seconds(timeouts.idle));
            put("progress_timeout", seconds(timeouts.progress));
            put("total_timeout", seconds(timeouts.total));
        }
        if self.max_retries != MAX_RETRIES {
            put("max_retries", json!(self.max_retries));
        }
        if let Some(concurrency) = self.concurrency {
            put("max_concurrent", json!(concurrency.max_running));
            put("max_waiting", json!(concurrency.max_waiting));
            put("max_wait", seconds(concurrency.max_wait));
        }
        match self.breaker {
            None => put("breaker", json!(false)),
            Some(breaker) if breaker != Breaker::default() => put(
                "breaker",
                json!({
                    "failures": breaker.failures,
                    "window": breaker.window,
                    "cooldown": breaker.cooldown.as_secs_f64(),
                }),
            ),
            Some(_) => None,
        };
        if !self.fallback.is_empty() {
            put("fallback", json!(self.fallback));
        }
        if self.restart {
            put("restart", json!(true));
        }
        if let Some(directory) = &self.record {
            put("record", json!(directory));
        }
        if let Some(delay) = self.demo_delay {
            put("delay", seconds(delay));
        }
        options
    }
}

/// What is shown in place of a secret.
const REDACTED: &str = "<redacted>";

fn kind_of(name: &str) -> Result<ProviderKind> {
    ProviderKind::from_name(name).ok_or_else(|| {
        let known: Vec<_> = ProviderKind::ALL.iter().map(|kind| kind.as_str()).collect();
        let advice = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near}? "),
            None => String::new(),
        };
        Error::new(
            ErrorKind::Config,
            format!(
                "there is no such kind of provider: {advice}known: {}",
                known.join(", ")
            ),
        )
        .with_context("field", "kind")
    })
}

fn keys(
    fields: &mut Fields,
    config: &ProviderConfig,
    read: impl Fn(&KeySource) -> Result<Option<String>>,
) -> Result<Vec<String>> {
    let list = "a text, or a list of texts";
    let own: Option<OneOrMore<String>> = fields.parsed("key", list)?;
    let also: Option<OneOrMore<String>> = fields.parsed("api_key", list)?;
    let vars: Option<OneOrMore<String>> = fields.parsed("key_env", list)?;
    let files: Option<OneOrMore<PathBuf>> = fields.parsed("key_file", list)?;
    let wrong = |field: &'static str, message: String| {
        Error::new(ErrorKind::Config, message).with_context("field", field)
    };
    match (own.or(also), vars, files) {
        (Some(keys), None, None) => Ok(keys.into_vec()),
        (None, Some(names), None) => names
            .into_vec()
            .into_iter()
            .map(|name| {
                read(&KeySource::Env(name.clone()))?.ok_or_else(|| {
                    wrong("key_env", format!("key_env names {name}, which is not set"))
                })
            })
            .collect(),
        (None, None, Some(paths)) => {
            let mut keys = Vec::new();
            for path in paths.into_vec() {
                let shown = path.display().to_string();
                let text = read(&KeySource::File(path))?.unwrap_or_default();
                let before = keys.len();
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                keys.extend(lines.map(str::to_owned));
                if keys.len() == before {
                    return Err(wrong(
                        "key_file",
                        format!("the key_file {shown} holds no key"),
                    ));
                }
            }
            Ok(keys)
        }
        (None, None, None) if config.base_url.is_none() => {
            let usual = match config.kind.as_str() {
                "openai" | "openai-responses" => "OPENAI_API_KEY",
                "anthropic" => "ANTHROPIC_API_KEY",
                "gemini" => "GEMINI_API_KEY",
                _ => return Ok(Vec::new()),
            };
            Ok(read(&KeySource::Env(usual.to_owned()))?
                .into_iter()
                .collect())
        }
        (None, None, None) => Ok(Vec::new()),
        _ => Err(wrong(
            "key",
            "a key is given by one of key (or api_key), key_env and key_file".to_owned(),
        )),
    }
}

fn timeouts(fields: &mut Fields) -> Result<Option<Timeouts>> {
    let mut timeouts = Timeouts::default();
    let mut any = false;
    for (name, slot) in [
        ("connect_timeout", &mut timeouts.connect),
        ("first_timeout", &mut timeouts.first),
        ("idle_timeout", &mut timeouts.idle),
        ("progress_timeout", &mut timeouts.progress),
        ("total_timeout", &mut timeouts.total),
    ] {
        if let Some(duration) = fields.seconds(name)? {
            *slot = positive(name, duration)?;
            any = true;
        }
    }
    Ok(any.then_some(timeouts))
}

fn concurrency(fields: &mut Fields) -> Result<Option<Concurrency>> {
    let running: Option<usize> = fields.count("max_concurrent")?;
    let waiting = fields.count("max_waiting")?;
    let wait = fields.seconds("max_wait")?;
    let Some(running) = running else {
        return match waiting.is_some() || wait.is_some() {
            true => Err(Error::new(
                ErrorKind::Config,
                "max_waiting and max_wait mean nothing without max_concurrent: set it too",
            )),
            false => Ok(None),
        };
    };
    if running == 0 {
        return Err(Error::new(
            ErrorKind::Config,
            "max_concurrent is 1 at least",
        ));
    }
    let default = Concurrency::of(running);
    Ok(Some(Concurrency {
        max_waiting: waiting.unwrap_or(default.max_waiting),
        max_wait: wait.unwrap_or(default.max_wait),
        ..default
    }))
}

fn breaker(fields: &mut Fields) -> Result<Option<Breaker>> {
    let expected = "true, false, or a table with failures, window and cooldown";
    let settings = match fields.parsed("breaker", expected)? {
        Some(BreakerOption::Switch(false)) => return Ok(None),
        None | Some(BreakerOption::Switch(true)) => return Ok(Some(Breaker::default())),
        Some(BreakerOption::Settings(settings)) => settings,
    };
    let mut fields = Fields::new("breaker", ErrorKind::Config, settings);
    let default = Breaker::default();
    let failures = fields.count("failures")?.unwrap_or(default.failures);
    let breaker = Breaker {
        failures,
        window: fields
            .count("window")?
            .unwrap_or(failures.saturating_mul(2)),
        cooldown: match fields.seconds("cooldown")? {
            Some(cooldown) => positive("cooldown", cooldown)?,
            None => default.cooldown,
        },
    };
    fields.end()?;
    if failures == 0 || breaker.window < failures {
        return Err(Error::new(
            ErrorKind::Config,
            "a breaker's failures are 1 at least, and no more than its window",
        ));
    }
    Ok(Some(breaker))
}

fn positive(name: &'static str, duration: Duration) -> Result<Duration> {
    if duration.is_zero() {
        let message = format!("{name} is more than 0 seconds");
        return Err(Error::new(ErrorKind::Config, message).with_context("field", name));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, options: Value) -> Result<ProviderConfig> {
        let options = serde_json::from_value(options).unwrap();
        ProviderConfig::from_options(name, options, |source| match source {
            KeySource::Env(name) if name == "OPENAI_API_KEY" => Ok(Some("usual".to_owned())),
            KeySource::Env(name) if name == "MINE" => Ok(Some("mine".to_owned())),
            KeySource::File(path) if path.ends_with("keys") => Ok(Some(" a \n\nb\n".to_owned())),
            KeySource::Env(_) | KeySource::File(_) => Ok(None),
        })
    }

    fn keys(name: &str, options: Value) -> Vec<String> {
        let config = config(name, options).unwrap();
        config.keys().map(|key| key.expose().to_owned()).collect()
    }

    #[test]
    fn every_option_arrives() {
        let config = config(
            "main",
            json!({
                "kind": "openai", "base_url": "http://127.0.0.1:1/v1", "key": ["a", "b"],
                "dialect": "vllm", "think_tags": true,
                "default_model": "m", "models": ["m", "n"], "aliases": {"fast": "n"},
                "proxy": "http://127.0.0.1:2", "connect_timeout": 1, "first_timeout": 2.5,
                "idle_timeout": 3, "progress_timeout": 4, "total_timeout": 5, "max_retries": 1,
                "max_concurrent": 6, "max_waiting": 7, "max_wait": 8,
                "breaker": {"failures": 2, "window": 3, "cooldown": 9},
                "fallback": ["other/model"], "restart": true, "record": "tapes", "delay": 0.01,
            }),
        )
        .unwrap();
        let seconds = Duration::from_secs;
        let mut expected = ProviderConfig::openai("a")
            .with_name("main")
            .with_base_url("http://127.0.0.1:1/v1")
            .with_default_model("m")
            .with_dialect(super::super::dialect::Dialect::Vllm)
            .with_timeouts(Timeouts {
                connect: seconds(1),
                first: Duration::from_millis(2500),
                idle: seconds(3),
                progress: seconds(4),
                total: seconds(5),
            });
        expected.spare_keys = vec![ApiKey::new("b")];
        expected.models = vec!["m".to_owned(), "n".to_owned()];
        expected.aliases = [("fast".to_owned(), "n".to_owned())].into();
        expected.proxy = Some("http://127.0.0.1:2".to_owned());
        expected.think_tags = true;
        expected.max_retries = 1;
        expected.concurrency = Some(Concurrency {
            max_running: 6,
            max_waiting: 7,
            max_wait: seconds(8),
        });
        expected.breaker = Some(Breaker {
            failures: 2,
            window: 3,
            cooldown: seconds(9),
        });
        expected.fallback = vec!["other/model".to_owned()];
        expected.restart = true;
        expected.record = Some(PathBuf::from("tapes"));
        expected.demo_delay = Some(Duration::from_millis(10));
        assert_eq!(config, expected);
    }

    #[test]
    fn what_is_shown_can_be_read_again_and_holds_no_secret() {
        let options = json!({
            "kind": "openai", "base_url": "http://127.0.0.1:1/v1", "key": ["canary", "canary2"],
            "default_model": "m", "models": ["m"], "aliases": {"a": "m"}, "max_retries": 1,
            "idle_timeout": 3.0, "max_concurrent": 6, "breaker": false, "fallback": ["o"],
            "restart": true, "delay": 0.5,
        });
        let original = config("main", options).unwrap();
        let shown = Value::Object(original.to_options());
        assert!(!shown.to_string().contains("canary"), "{shown}");
        let again = config("main", shown.clone()).unwrap();
        assert_eq!(Value::Object(again.to_options()), shown);
        let secrets = json!({"base_url": "http://h/?key=canary", "proxy": "http://u:canary@p:1"});
        let shown = Value::Object(config("openai", secrets).unwrap().to_options());
        assert!(!shown.to_string().contains("canary"), "{shown}");
    }

    #[test]
    fn one_fallback_needs_no_list() {
        let one = config("openai", json!({"fallback": "other/model"})).unwrap();
        assert_eq!(one.fallback, ["other/model"]);
    }

    #[test]
    fn keys_come_from_the_options_the_environment_or_files() {
        assert_eq!(keys("openai", json!({"key": " k "})), ["k"]);
        assert_eq!(keys("openai", json!({"api_key": "k"})), ["k"]);
        assert_eq!(
            keys("x", json!({"kind": "openai", "key_env": "MINE"})),
            ["mine"]
        );
        assert_eq!(keys("openai", json!({"key_file": ["keys"]})), ["a", "b"]);
        assert_eq!(keys("openai", json!({})), ["usual"]);
        // Another server is not sent the key of the maker's.
        let elsewhere = json!({"base_url": "http://127.0.0.1:1"});
        assert!(keys("openai", elsewhere).is_empty());
    }

    #[test]
    fn a_wrong_option_is_named_and_its_value_is_not_repeated() {
        for (options, words) in [
            (json!({"bas_url": "canary"}), "did you mean base_url"),
            (json!({"kind": "opanai"}), "did you mean openai"),
            (json!({"kind": "canary"}), "known: openai"),
            (json!({"base_url": "canary"}), "base URL"),
            (json!({"key": "can ary"}), "API key"),
            (json!({"key": {"canary": 1}}), "key of a provider"),
            (json!({"key": "canary", "key_env": "MINE"}), "one of"),
            (json!({"key_env": "NOT_SET"}), "NOT_SET"),
            (json!({"key_file": "empty"}), "holds no key"),
            (json!({"first_timeout": "canary"}), "first_timeout"),
            (json!({"first_timeout": 0}), "first_timeout"),
            (json!({"max_concurrent": 0}), "max_concurrent"),
            (json!({"max_waiting": 1}), "max_concurrent"),
            (json!({"breaker": {"failurs": 1}}), "did you mean failures"),
            (json!({"breaker": {"failures": 0}}), "1 at least"),
            (json!({"fallback": {"canary": 1}}), "fallback"),
            (json!({"dialect": "canary"}), "known: openai"),
        ] {
            let error = config("openai", options).unwrap_err();
            let printed = format!("{error} {error:?}");
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(printed.contains(words), "{words}: {printed}");
            assert!(!printed.contains("canary"), "{printed}");
        }
    }

    #[test]
    fn a_breaker_is_there_unless_it_is_switched_off() {
        let breaker = |options| config("openai", options).unwrap().breaker;
        assert_eq!(breaker(json!({})), Some(Breaker::default()));
        assert_eq!(breaker(json!({"breaker": true})), Some(Breaker::default()));
        assert_eq!(breaker(json!({"breaker": false})), None);
    }
}
