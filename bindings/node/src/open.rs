//! How a tutor is opened.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;
use tutor_core::file::FilePlace;
use tutor_core::items::ItemLogs;
use tutor_core::message::Metadata;
use tutor_core::provider::{ModelChoice, ProviderConfig, ProviderInfo, SharedProvider};
use tutor_core::store::{Location, Store};
use tutor_core::{Error, ErrorKind, Result, Tutor, json};
use tutor_http::metrics::{MeteredProvider, MeteredStore, Metrics};

use crate::plugin::Bridge;
use crate::provider::JsProvider;
use crate::store::store;
use crate::tool::tool;

/// A tutor, where its data and its files are, and the way to what is written in JavaScript.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(crate) tutor: Tutor,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) files: FilePlace,
    pub(crate) items: ItemLogs,
    pub(crate) metrics: Metrics,
    pub(crate) bridge: Bridge,
}

/// Opens the tutor that `options` describe: those of [`json::tutor`], and
///
/// * `location`: a string; or `store`, one of the user's own, as [`crate::store::store`] reads it,
/// * `files`: where uploaded files are, as [`json::file_place`] reads it,
/// * `tools`: an array of the user's own tools, as [`crate::tool::tool`] reads them,
/// * `providers`: an array of built-in ones, `{"kind", …}` with the members of
///   [`json::provider`], and of own ones, `{"own": {"name", "model", "models"}, "index"}`,
/// * `env`: the environment's variables, if they are to configure the providers.
pub(crate) async fn open(mut options: Metadata, bridge: Bridge) -> Result<Opened> {
    let location: Option<Location> = match options.remove("location") {
        None | Some(Value::Null) => None,
        Some(Value::String(location)) => Some(location.parse()?),
        Some(_) => return Err(no_location()),
    };
    let own_store = match options.remove("store") {
        Some(Value::Object(description)) => Some(description),
        _ => None,
    };
    let tools = match options.remove("tools") {
        Some(Value::Array(tools)) => tools,
        _ => Vec::new(),
    };
    let providers = match options.remove("providers") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(providers)) => providers,
        Some(_) => return Err(config("providers is an array")),
    };
    let files = options.remove("files");
    let environment = options.remove("env");
    let metrics = Metrics::default();
    let mut builder = json::tutor(options)?;
    let from_environment = match environment {
        Some(environment) => {
            let lookup = |name: &str| environment.get(name)?.as_str().map(str::to_owned);
            ProviderConfig::from_vars(lookup)?
        }
        None => Vec::new(),
    };
    for provider in self::providers(from_environment, &providers, &bridge, &metrics)? {
        builder = builder.provider(provider);
    }
    // Functions are numbered: first the tools, then what calls the store.
    let mut functions = 0;
    for described in tools {
        let tool = tool(functions, described, bridge.clone())
            .map_err(|error| config(error.message().to_owned()))?;
        builder = builder.tool(tool);
        functions += 1;
    }
    // A store of the user's own may keep no records; whatever needs them does without then.
    let keeps_records = own_store.as_ref().is_none_or(|described| {
        let methods = described.get("methods").and_then(Value::as_array);
        methods.is_some_and(|methods| methods.iter().any(|method| method == "commit"))
    });
    let store: Arc<dyn Store> = match (&location, own_store) {
        (_, Some(description)) => Arc::new(store(functions, description, bridge.clone())?),
        (Some(location), None) => location.open().await?,
        (None, None) => return Err(no_location()),
    };
    let store: Arc<dyn Store> = Arc::new(MeteredStore::new(store, metrics.clone()));
    let builder = if keeps_records {
        builder.data(Arc::clone(&store))
    } else {
        builder.store(Arc::clone(&store))
    };
    let files = json::file_place(files, location.as_ref(), Arc::new(Arc::clone(&store)))?;
    let tutor = builder.files(files.clone()).build().await?;
    let items = ItemLogs::new(Arc::new(Arc::clone(&store)));
    Ok(Opened {
        tutor,
        store,
        files,
        items,
        metrics,
        bridge,
    })
}

/// Those that are configured already, and behind them providers as [`open`] is told of them.
pub(crate) fn providers(
    mut configs: Vec<ProviderConfig>,
    described: &[Value],
    bridge: &Bridge,
    metrics: &Metrics,
) -> Result<Vec<SharedProvider>> {
    // The built-in ones are made together at the end, as each may name any other one to fall back
    // to.
    let mut places: Vec<Option<SharedProvider>> = vec![None; configs.len()];
    for provider in described {
        places.push(match provider.get("own") {
            Some(own) => {
                let index = provider.get("index").and_then(Value::as_u64);
                let index = index.and_then(|index| u32::try_from(index).ok());
                let index = index.ok_or_else(|| Error::internal("a provider has a number"))?;
                Some(Arc::new(JsProvider::new(
                    index,
                    own_info(own)?,
                    bridge.clone(),
                )))
            }
            None => {
                configs.push(built_in(provider.clone())?);
                None
            }
        });
    }
    let own: Vec<SharedProvider> = places.iter().flatten().cloned().collect();
    let mut built_in = ProviderConfig::build_beside(&configs, &own)?.into_iter();
    let filled = places
        .into_iter()
        .filter_map(|place| place.or_else(|| built_in.next()));
    // A server in this process tells what they do.
    Ok(filled
        .map(|provider| Arc::new(MeteredProvider::new(provider, metrics.clone())) as _)
        .collect())
}

fn built_in(provider: Value) -> Result<ProviderConfig> {
    let wrong = || {
        config(
            "a provider is the name of a built-in one, an object of its kind and options, or an \
             object of your own with a name and a method stream",
        )
    };
    let Value::Object(mut members) = provider else {
        return Err(wrong());
    };
    match members.remove("kind") {
        Some(Value::String(kind)) => {
            json::provider(&kind, members, |name| std::env::var(name).ok())
        }
        _ => Err(wrong()),
    }
}

pub(crate) fn own_info(own: &Value) -> Result<ProviderInfo> {
    let Some(name) = own.get("name").and_then(Value::as_str) else {
        return Err(config(
            "a provider has a name: the string by which requests name it",
        ));
    };
    let models = match own.get("models") {
        None | Some(Value::Null) => None,
        Some(models) => Some(
            serde_json::from_value::<Vec<String>>(models.clone())
                .ok()
                .filter(|models| !models.is_empty())
                .ok_or_else(|| config("a provider's models are an array of names, not empty"))?,
        ),
    };
    let default_model = match own.get("model") {
        None | Some(Value::Null) => models.as_ref().and_then(|models| models.first().cloned()),
        Some(Value::String(model)) => Some(model.clone()),
        Some(_) => return Err(config("a provider's model is a string")),
    };
    let info = ProviderInfo::new(name, default_model.unwrap_or_else(|| name.to_owned()));
    Ok(match models {
        Some(models) => info.with_models(ModelChoice::Listed(models)),
        None => info,
    })
}

fn no_location() -> Error {
    config(
        "the location is a path, a URL such as sled:./data or memory:, or a store of your own: an \
         object with the methods of one",
    )
}

pub(crate) fn config(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, message)
}
