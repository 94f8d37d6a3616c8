//! How an engine is opened.

use std::sync::Arc;

use pyo3::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use tutor_core::message::Metadata;
use tutor_core::provider::{ModelChoice, ProviderConfig, ProviderInfo, SharedProvider};
use tutor_core::store::Location;
use tutor_core::{Error, ErrorKind, OwnerId, Result, Tutor, json};

use crate::call::{Call, Output};
use crate::client::Client;
use crate::host::Host;
use crate::provider::PythonProvider;

/// What the package passes, as JSON.
#[derive(Deserialize)]
struct Settings {
    location: String,
    providers: Vec<ProviderSettings>,
    default_provider: Option<String>,
    owner: String,
    system_prompt: Option<String>,
    limits: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProviderSettings {
    /// A built-in one.
    BuiltIn { kind: String, options: Metadata },
    /// Those that environment variables configure.
    Environment(Metadata),
    /// The plug-in of this number.
    Plugin {
        index: usize,
        name: String,
        default_model: String,
        models: Option<Vec<String>>,
    },
}

/// Opens an engine. `plugins` are providers written in Python, which the settings name by number.
#[pyfunction]
pub(crate) fn open(py: Python<'_>, settings: &str, plugins: Vec<Py<PyAny>>) -> PyResult<Call> {
    let settings: Settings = match serde_json::from_str(settings) {
        Ok(settings) => settings,
        Err(_) => return Ok(Call::failed(config("the settings are not valid Unicode"))),
    };
    let host = match plugins.is_empty() {
        true => None,
        false => Some(Arc::new(Host::background(py)?)),
    };
    Ok(Call::new(async move {
        let has_plugins = host.is_some();
        let providers = providers(settings.providers, plugins, host.as_ref())?;
        let store = settings.location.parse::<Location>()?.open().await?;
        let mut builder = Tutor::builder()
            .data(Arc::clone(&store))
            .owner(OwnerId::new(settings.owner)?)
            .limits(json::limits(settings.limits)?);
        for provider in providers {
            builder = builder.provider(provider);
        }
        if let Some(name) = settings.default_provider {
            builder = builder.default_provider(name);
        }
        if let Some(prompt) = settings.system_prompt {
            builder = builder.system_prompt(prompt);
        }
        let client = Client::new(builder.build().await?, store, has_plugins);
        Ok(Output::Opened(Box::new(client)))
    }))
}

fn config(message: &'static str) -> Error {
    Error::new(ErrorKind::Config, message)
}

fn providers(
    settings: Vec<ProviderSettings>,
    plugins: Vec<Py<PyAny>>,
    host: Option<&Arc<Host>>,
) -> Result<Vec<SharedProvider>> {
    let mut plugins: Vec<_> = plugins.into_iter().map(Some).collect();
    // The built-in ones are made together at the end, as each may name another one to fall back to.
    let mut configs = Vec::new();
    let mut places = Vec::<Option<SharedProvider>>::new();
    for settings in settings {
        match settings {
            ProviderSettings::BuiltIn { kind, options } => {
                configs.push(json::provider(&kind, options)?);
                places.push(None);
            }
            ProviderSettings::Environment(vars) => {
                let lookup = |name: &str| vars.get(name).and_then(Value::as_str).map(str::to_owned);
                let found = ProviderConfig::from_vars(lookup)?;
                places.extend(found.iter().map(|_| None));
                configs.extend(found);
            }
            ProviderSettings::Plugin {
                index,
                name,
                default_model,
                models,
            } => {
                let plugin = plugins.get_mut(index).and_then(Option::take);
                let (Some(plugin), Some(host)) = (plugin, host) else {
                    return Err(Error::internal("a plug-in is named that was not passed"));
                };
                let info = ProviderInfo::new(name, default_model)
                    .with_models(models.map_or(ModelChoice::Open, ModelChoice::Listed));
                let provider = PythonProvider::new(plugin, info, Arc::clone(host));
                places.push(Some(Arc::new(provider)));
            }
        }
    }
    let mut built_in = ProviderConfig::build_all(&configs)?.into_iter();
    let filled = places
        .into_iter()
        .filter_map(|place| place.or_else(|| built_in.next()));
    Ok(filled.collect())
}
