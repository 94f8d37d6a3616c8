//! How an engine is opened.

use std::sync::Arc;

use pyo3::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use tutor_core::message::Metadata;
use tutor_core::provider::{ModelChoice, ProviderConfig, ProviderInfo, SharedProvider};
use tutor_core::store::{Location, Store};
use tutor_core::{Error, ErrorKind, Result, json};
use tutor_http::metrics::{MeteredProvider, MeteredStore, Metrics};

use crate::call::{Call, Output};
use crate::client::Client;
use crate::host::Host;
use crate::provider::PythonProvider;
use crate::store::store;
use crate::tool::tools;

/// What the package passes, as JSON.
#[derive(Deserialize)]
struct Settings {
    location: Place,
    files: Option<Value>,
    providers: Vec<ProviderSettings>,
    tools: Vec<ToolSettings>,
    /// The rest, as [`json::tutor`] reads it.
    tutor: Metadata,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Place {
    At(String),
    /// The plug-in of this number.
    Plugin {
        index: usize,
        description: Metadata,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProviderSettings {
    /// A built-in one.
    BuiltIn { kind: String, options: Metadata },
    /// Those that environment variables configure.
    Environment(Metadata),
    /// The plug-in of this number.
    Plugin { index: usize, description: Metadata },
}

#[derive(Deserialize)]
struct ToolSettings {
    index: usize,
    description: Metadata,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    default_model: String,
    models: Option<Vec<String>>,
}

/// Objects of Python, which the settings name by number.
pub(crate) struct Plugins {
    objects: Vec<Option<Py<PyAny>>>,
    host: Option<Arc<Host>>,
}

impl Plugins {
    pub(crate) fn new(py: Python<'_>, objects: Vec<Py<PyAny>>) -> PyResult<Self> {
        let host = match objects.is_empty() {
            true => None,
            false => Some(Arc::new(Host::background(py)?)),
        };
        Ok(Self {
            objects: objects.into_iter().map(Some).collect(),
            host,
        })
    }

    fn take(&mut self, index: usize) -> Result<(Py<PyAny>, Arc<Host>)> {
        let object = self.objects.get_mut(index).and_then(Option::take);
        object
            .zip(self.host.clone())
            .ok_or_else(|| Error::internal("a plug-in is named that was not passed"))
    }
}

/// Opens an engine. `plugins` are what is written in Python, which the settings name by number.
#[pyfunction]
pub(crate) fn open(py: Python<'_>, settings: &str, plugins: Vec<Py<PyAny>>) -> PyResult<Call> {
    let settings: Settings = match serde_json::from_str(settings) {
        Ok(settings) => settings,
        Err(_) => return Ok(Call::failed(config("the settings are not valid Unicode"))),
    };
    let has_plugins = !plugins.is_empty();
    let mut plugins = Plugins::new(py, plugins)?;
    Ok(Call::new(async move {
        let metrics = Metrics::default();
        let mut builder = json::tutor(settings.tutor)?;
        for provider in providers(settings.providers, &mut plugins, &metrics)? {
            builder = builder.provider(provider);
        }
        for tool in settings.tools {
            let (object, host) = plugins.take(tool.index)?;
            let description = Value::Object(tool.description).to_string();
            for tool in tools(vec![(description, object)], &host)? {
                builder = builder.tool(tool);
            }
        }
        let (data, location): (Arc<dyn Store>, _) = match settings.location {
            Place::At(location) => {
                let location: Location = location.parse()?;
                (location.open().await?, Some(location))
            }
            Place::Plugin { index, description } => {
                let (object, host) = plugins.take(index)?;
                (Arc::new(store(object, &host, description)?), None)
            }
        };
        let data: Arc<dyn Store> = Arc::new(MeteredStore::new(data, metrics.clone()));
        let records = Arc::new(Arc::clone(&data));
        let files = json::file_place(settings.files, location.as_ref(), records)?;
        let builder = builder.data(Arc::clone(&data)).files(files.clone());
        let tutor = builder.build().await?;
        let client = Client::new(tutor, data, files, metrics, has_plugins);
        Ok(Output::Opened(Box::new(client)))
    }))
}

/// Providers that take the place of others.
#[derive(Deserialize)]
pub(crate) struct ProviderList {
    providers: Vec<ProviderSettings>,
    default: Option<String>,
}

impl ProviderList {
    pub(crate) fn read(settings: &str) -> Result<Self> {
        serde_json::from_str(settings)
            .map_err(|_| config("the settings are not valid Unicode, or default is no text"))
    }

    pub(crate) fn made(
        self,
        mut plugins: Plugins,
        metrics: &Metrics,
    ) -> Result<(Vec<SharedProvider>, Option<String>)> {
        let providers = providers(self.providers, &mut plugins, metrics)?;
        Ok((providers, self.default))
    }
}

fn config(message: &'static str) -> Error {
    Error::new(ErrorKind::Config, message)
}

/// The provider that is this object, described by `name`, `default_model` and `models`.
pub(crate) fn plugin_provider(
    object: Py<PyAny>,
    description: Metadata,
    host: &Arc<Host>,
) -> Result<SharedProvider> {
    let described: Described = serde_json::from_value(Value::Object(description))
        .map_err(|_| config("the name and the models of a provider are texts"))?;
    let info = ProviderInfo::new(described.name, described.default_model).with_models(
        described
            .models
            .map_or(ModelChoice::Open, ModelChoice::Listed),
    );
    Ok(Arc::new(PythonProvider::new(
        object,
        info,
        Arc::clone(host),
    )))
}

fn providers(
    settings: Vec<ProviderSettings>,
    plugins: &mut Plugins,
    metrics: &Metrics,
) -> Result<Vec<SharedProvider>> {
    // The built-in ones are made together at the end, as each may name any other one to fall back
    // to.
    let mut configs = Vec::new();
    let mut places = Vec::<Option<SharedProvider>>::new();
    for settings in settings {
        match settings {
            ProviderSettings::BuiltIn { kind, options } => {
                configs.push(json::provider(&kind, options, |name| {
                    std::env::var(name).ok()
                })?);
                places.push(None);
            }
            ProviderSettings::Environment(vars) => {
                let lookup = |name: &str| vars.get(name).and_then(Value::as_str).map(str::to_owned);
                let found = ProviderConfig::from_vars(lookup)?;
                places.extend(found.iter().map(|_| None));
                configs.extend(found);
            }
            ProviderSettings::Plugin { index, description } => {
                let (object, host) = plugins.take(index)?;
                places.push(Some(plugin_provider(object, description, &host)?));
            }
        }
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
