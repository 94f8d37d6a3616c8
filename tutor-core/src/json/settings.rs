//! How an engine is configured.

#[cfg(feature = "files")]
use std::path::PathBuf;
#[cfg(feature = "files")]
use std::sync::Arc;

use serde_json::{Value, json};

use super::fields::Fields;
use super::usage::quota;
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "files")]
use crate::file::{FileBounds, FilePlace};
use crate::id::OwnerId;
use crate::limits::Limits;
use crate::message::Metadata;
use crate::provider::{Catalog, KeySource, ModelChoice, ProviderConfig, ProviderInfo};
#[cfg(feature = "files")]
use crate::store::{Location, RecordStore};
use crate::tutor::{Tutor, TutorBuilder};

/// A built-in provider from the options of [`ProviderConfig::from_options`]; it is called `kind`
/// unless they have a `name`. A `key_env` is looked up by `variable`; no other variable is.
///
/// # Errors
/// `config` for an unknown kind or option, an option of another type, a file that cannot be read,
/// or a variable that is not set.
pub fn provider(
    kind: &str,
    members: Metadata,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<ProviderConfig> {
    // The maker's usual variable is not asked for: whoever embeds the engine says what it reads.
    let is_named = members.contains_key("key_env");
    ProviderConfig::from_options(kind, members, |source| match source {
        KeySource::File(path) => std::fs::read_to_string(path).map(Some).map_err(|error| {
            Error::new(ErrorKind::Config, "a key_file cannot be read")
                .with_context("field", "key_file")
                .with_context("path", path.display())
                .with_source(error)
        }),
        KeySource::Env(name) => Ok(variable(name).filter(|_| is_named)),
    })
}

/// What a provider says about itself: `name`, `default_model`, and `models`: the names that may
/// be asked for, or `null` for any.
pub fn provider_info(info: &ProviderInfo) -> Value {
    let models = match &info.models {
        ModelChoice::Open => None,
        ModelChoice::Listed(models) => Some(models.clone()),
        ModelChoice::StandIn => Some(vec![info.default_model.clone()]),
    };
    json!({"name": info.name, "default_model": info.default_model, "models": models})
}

/// What is kept of turns that ended in a program that embeds the engine, in bytes. Events that are
/// read again come from the store as well; a server keeps more, for clients that come back.
const REPLAY_BYTES: usize = 256 << 10;

/// The default bounds with some of them replaced. The members are the fields of [`Limits`];
/// durations are seconds. Of turns that ended little is kept in memory unless it is asked for:
/// the `replay_bytes` are a quarter of a MiB.
///
/// # Errors
/// `config` for an unknown member, or a member of another type.
pub fn limits(members: Metadata) -> Result<Limits> {
    let mut limits = Limits {
        replay_bytes: REPLAY_BYTES,
        ..Limits::default()
    };
    let mut fields = Fields::new("limit", ErrorKind::Config, members);
    let counts: [(&'static str, &mut usize); 16] = [
        ("max_live_turns", &mut limits.max_live_turns),
        (
            "max_live_turns_per_owner",
            &mut limits.max_live_turns_per_owner,
        ),
        ("max_attachment_bytes", &mut limits.max_attachment_bytes),
        ("max_attachments", &mut limits.max_attachments),
        ("reply_tokens", &mut limits.reply_tokens),
        ("summary_tokens", &mut limits.summary_tokens),
        ("max_tool_rounds", &mut limits.max_tool_rounds),
        ("max_tool_calls", &mut limits.max_tool_calls),
        ("max_tool_result_bytes", &mut limits.max_tool_result_bytes),
        ("max_request_messages", &mut limits.max_request_messages),
        ("max_request_bytes", &mut limits.max_request_bytes),
        ("max_object_bytes", &mut limits.max_object_bytes),
        ("max_reply_bytes", &mut limits.max_reply_bytes),
        ("max_events", &mut limits.max_events),
        ("replay_bytes", &mut limits.replay_bytes),
        ("context_tokens", &mut limits.context_tokens),
    ];
    for (name, slot) in counts {
        if let Some(count) = fields.count(name)? {
            *slot = count;
        }
    }
    let durations = [
        ("turn_timeout", &mut limits.turn_timeout),
        ("checkpoint_interval", &mut limits.checkpoint_interval),
        ("lease", &mut limits.lease),
        ("replay_retention", &mut limits.replay_retention),
        ("close_grace", &mut limits.close_grace),
        ("tool_timeout", &mut limits.tool_timeout),
    ];
    for (name, slot) in durations {
        if let Some(duration) = fields.seconds(name)? {
            *slot = duration;
        }
    }
    fields.end()?;
    Ok(limits)
}

/// Where uploaded files are kept, from `files`: a directory; or an object of `directory`,
/// `max_file_bytes`, `max_files`, `max_bytes` and `max_text_bytes`, the last four as in
/// [`FileBounds`]. What is absent is as `data` has it by default; without that, nowhere.
///
/// # Errors
/// `config`, naming the member.
#[cfg(feature = "files")]
pub fn file_place(
    files: Option<Value>,
    data: Option<&Location>,
    records: Arc<dyn RecordStore>,
) -> Result<FilePlace> {
    let members = match files {
        None | Some(Value::Null) => Metadata::new(),
        Some(Value::String(directory)) => [("directory".to_owned(), directory.into())]
            .into_iter()
            .collect(),
        Some(Value::Object(members)) => members,
        Some(_) => {
            return Err(Error::new(
                ErrorKind::Config,
                "files is a directory, or an object with directory, max_file_bytes, max_files, \
                 max_bytes and max_text_bytes",
            )
            .with_context("field", "files"));
        }
    };
    let mut fields = Fields::new("file setting", ErrorKind::Config, members);
    let directory = fields.text("directory")?.map(PathBuf::from);
    let mut bounds = FileBounds::default();
    for (name, slot) in [
        ("max_file_bytes", &mut bounds.max_file_bytes),
        ("max_bytes", &mut bounds.max_bytes),
    ] {
        if let Some(count) = fields.count(name)? {
            *slot = count;
        }
    }
    for (name, slot) in [
        ("max_files", &mut bounds.max_files),
        ("max_text_bytes", &mut bounds.max_text_bytes),
    ] {
        if let Some(count) = fields.count(name)? {
            *slot = count;
        }
    }
    fields.end()?;
    let place = match (directory.or_else(|| data?.files()), data) {
        (Some(directory), _) => FilePlace::directory(directory, records),
        (None, Some(_)) => FilePlace::in_memory(records),
        (None, None) => FilePlace::nowhere(records),
    };
    Ok(place.with_bounds(bounds))
}

/// What a tutor is made with, besides its store, its files, its providers and its tools:
/// `default_provider`, `owner`, `system_prompt`, [`limits`], [`quota`], `improve_titles` and `summarize` (true or false), and
/// `catalog`: what is known of models beyond the built-in [`Catalog`], by their names, such as
/// `{"my-model": {"context_window": 8192, "input": 0.5, "output": 1.5}}`.
///
/// # Errors
/// `config`, naming the member.
pub fn tutor(members: Metadata) -> Result<TutorBuilder> {
    let mut fields = Fields::new("tutor", ErrorKind::Config, members);
    let mut builder = Tutor::builder();
    if let Some(name) = fields.text("default_provider")? {
        builder = builder.default_provider(name);
    }
    if let Some(owner) = fields.text("owner")? {
        let owner = OwnerId::new(owner).map_err(|error| {
            Error::new(ErrorKind::Config, error.message().to_owned()).with_context("field", "owner")
        })?;
        builder = builder.owner(owner);
    }
    if let Some(prompt) = fields.text("system_prompt")? {
        builder = builder.system_prompt(prompt);
    }
    builder = builder.limits(limits(fields.object("limits")?.unwrap_or_default())?);
    if let Some(members) = fields.object("quota")? {
        builder = builder.quota(quota(members)?);
    }
    if fields.flag("improve_titles")? {
        builder = builder.improve_titles(true);
    }
    if fields.flag("summarize")? {
        builder = builder.summarize(true);
    }
    if let Some(cards) = fields.object("catalog")? {
        let catalog = Catalog::built_in()
            .with_json(&json!({"models": cards}).to_string())
            .map_err(|error| error.with_context("field", "catalog"))?;
        builder = builder.catalog(catalog);
    }
    fields.end()?;
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::provider::Timeouts;

    fn map(value: Value) -> Metadata {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_option_of_a_provider_arrives() {
        let options = json!({
            "name": "mine", "api_key": "k", "base_url": "http://localhost:1", "model": "m",
            "proxy": "http://localhost:2", "idle_timeout": 0.5,
        });
        let expected = ProviderConfig {
            proxy: Some("http://localhost:2".into()),
            ..ProviderConfig::openai("k")
                .with_name("mine")
                .with_base_url("http://localhost:1")
                .with_default_model("m")
                .with_timeouts(Timeouts {
                    idle: Duration::from_millis(500),
                    ..Timeouts::default()
                })
        };
        assert_eq!(built("openai", options).unwrap(), expected);
    }

    fn built(kind: &str, options: Value) -> Result<ProviderConfig> {
        provider(kind, map(options), |name| {
            (name != "UNSET").then(|| format!("key-{name}"))
        })
    }

    #[test]
    fn a_variable_is_read_only_if_it_is_named() {
        let config = built("openai", json!({"key_env": ["MINE", "OTHER"]})).unwrap();
        let keys: Vec<_> = config.keys().map(|key| key.expose()).collect();
        assert_eq!(keys, ["key-MINE", "key-OTHER"]);
        assert_eq!(built("openai", json!({})).unwrap().key, None);
        let error = built("openai", json!({"key_env": "UNSET"})).unwrap_err();
        assert!(error.message().contains("UNSET"), "{error}");
    }

    #[test]
    fn unknown_kinds_options_and_limits_are_named_with_the_known_ones() {
        let error = built("nobody", json!({})).unwrap_err();
        assert!(error.message().contains("anthropic"), "{error}");
        let error = built("demo", json!({"modell": "x"})).unwrap_err();
        assert_eq!(error.context_value("field"), Some("modell"));
        assert!(error.message().contains("did you mean model?"), "{error}");
        let error = limits(map(json!({"max_turns": 1}))).unwrap_err();
        assert!(error.message().contains("max_live_turns"), "{error}");
    }

    #[test]
    fn limits_are_counts_and_seconds() {
        let limits = limits(map(json!({"max_live_turns": 3, "turn_timeout": 2}))).unwrap();
        assert_eq!(limits.max_live_turns, 3);
        assert_eq!(limits.replay_bytes, REPLAY_BYTES);
        assert_eq!(limits.turn_timeout, Duration::from_secs(2));
        for bad in [
            json!({"max_events": 1.5}),
            json!({"lease": "x"}),
            json!({"lease": -1}),
        ] {
            assert!(super::limits(map(bad)).is_err());
        }
    }

    #[cfg(feature = "files")]
    #[tokio::test]
    async fn files_are_beside_the_data_unless_another_place_is_named() {
        let records = || Arc::new(crate::store::MemoryStore::new()) as Arc<dyn RecordStore>;
        let place = |files: Value, data: Option<&str>| {
            let data = data.map(|data| data.parse::<Location>().unwrap());
            file_place(Some(files), data.as_ref(), records())
        };
        let beside = place(Value::Null, Some("sled:there/data")).unwrap();
        assert!(format!("{beside:?}").contains("there/data-files"));
        let named = place(
            json!({"directory": "here", "max_files": 7}),
            Some("memory:"),
        );
        let shown = format!("{:?}", named.unwrap());
        assert!(
            shown.contains("\"here\"") && shown.contains("max_files: 7"),
            "{shown}"
        );
        assert!(
            place(Value::Null, Some("memory:"))
                .unwrap()
                .store()
                .await
                .is_ok()
        );
        assert!(place(Value::Null, None).unwrap().store().await.is_err());
        for (wrong, field) in [
            (json!(5), "files"),
            (json!({"max_files": "canary"}), "max_files"),
            (json!({"dir": "canary"}), "dir"),
        ] {
            let error = place(wrong, None).unwrap_err();
            assert_eq!(error.context_value("field"), Some(field));
            assert!(!format!("{error:?}").contains("canary"));
        }
    }

    #[test]
    fn a_tutor_takes_what_it_knows_and_refuses_the_rest() {
        let known = json!({
            "owner": "ada", "system_prompt": "p", "limits": {"max_events": 5},
            "improve_titles": true, "summarize": false,
            "quota": {"turns_per_day": 3, "cost_usd_per_day": 0.5},
            "catalog": {"mine/tiny": {"context_window": 1000}},
        });
        assert!(tutor(map(known)).is_ok());
        for (value, field) in [
            (json!({"summarize": "canary"}), "summarize"),
            (json!({"catalog": {"mine/tiny": {"canary": 1}}}), "catalog"),
            (json!({"quota": {"turns_per_day": -1}}), "turns_per_day"),
            (json!({"quota": {"canary": 1}}), "canary"),
            (json!({"system_prompt": 5}), "system_prompt"),
            (json!({"owner": "two words"}), "owner"),
            (json!({"limits": {"max_events": "x"}}), "max_events"),
            (json!({"system_promt": "x"}), "system_promt"),
        ] {
            let error = tutor(map(value)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert_eq!(error.context_value("field"), Some(field));
        }
    }
}
