//! Which provider and model answer a request.

use std::collections::BTreeMap;

use super::{ModelChoice, ProviderInfo, SharedProvider};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Notice;
use crate::turn::Preferences;

/// The longest model name, in bytes.
const MAX_MODEL_BYTES: usize = 256;

/// The configured providers, one of them the default.
#[derive(Clone, Debug)]
pub(crate) struct Router {
    providers: Vec<SharedProvider>,
    default: usize,
}

/// A choice.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) provider: SharedProvider,
    pub(crate) name: String,
    pub(crate) model: String,
    pub(crate) notices: Vec<Notice>,
}

impl Route {
    /// True if the model was chosen by whoever asked, and by nobody who set the provider up.
    pub(crate) fn is_free_choice(&self) -> bool {
        let info = self.provider.info();
        matches!(info.models, ModelChoice::Open)
            && info.default_model != self.model
            && !info.aliases.values().any(|model| *model == self.model)
    }
}

impl Router {
    /// A router over `providers`, which are not empty. `default` names one; else it is the first.
    pub(crate) fn new(providers: Vec<SharedProvider>, default: Option<&str>) -> Result<Self> {
        let names: Vec<String> = providers.iter().map(|p| p.info().name).collect();
        for (i, name) in names.iter().enumerate() {
            if name.is_empty() || name.contains('/') {
                return Err(Error::new(
                    ErrorKind::Config,
                    "a provider's name is not empty and has no slash",
                ));
            }
            if names[..i].contains(name) {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!("two providers are called {name}: rename one"),
                ));
            }
        }
        let default = match default {
            None => 0,
            Some(wanted) => names
                .iter()
                .position(|name| name == wanted)
                .ok_or_else(|| {
                    Error::new(
                        ErrorKind::Config,
                        format!(
                            "the default provider {wanted} is not configured; known: {}",
                            names.join(", ")
                        ),
                    )
                })?,
        };
        let mut aliases = BTreeMap::new();
        for provider in &providers {
            let info = provider.info();
            for alias in info.aliases.into_keys() {
                if let Some(other) = aliases.insert(alias.clone(), info.name.clone()) {
                    return Err(Error::new(
                        ErrorKind::Config,
                        format!(
                            "the alias {alias} belongs to both {other} and {}: rename one",
                            info.name
                        ),
                    ));
                }
            }
        }
        Ok(Self { providers, default })
    }

    /// The default provider first, then the others in their order.
    pub(crate) fn providers(&self) -> impl Iterator<Item = &SharedProvider> {
        let (before, rest) = self.providers.split_at(self.default);
        let (default, after) = rest.split_at(1);
        default.iter().chain(before).chain(after)
    }

    /// The provider and model for a request with these preferences.
    ///
    /// # Errors
    /// `invalid_input` for an unknown provider or model, naming the known ones.
    pub(crate) fn route(&self, preferences: &Preferences) -> Result<Route> {
        let asked = preferences.model.as_deref();
        if let Some(model) = asked
            && (model.is_empty()
                || model.len() > MAX_MODEL_BYTES
                || model.chars().any(char::is_control))
        {
            return Err(Error::invalid_input(format!(
                "a model's name has 1 to {MAX_MODEL_BYTES} bytes and no control characters"
            ))
            .with_context("field", "preferences.model"));
        }
        if let Some(name) = &preferences.provider {
            let provider = self.by_name(name).ok_or_else(|| {
                let known: Vec<_> = self.providers().map(|p| p.info().name).collect();
                Error::invalid_input(format!("no such provider; known: {}", known.join(", ")))
                    .with_context("field", "preferences.provider")
            })?;
            let own = asked.map(|model| model.strip_prefix(&format!("{name}/")).unwrap_or(model));
            return choose(provider, own);
        }
        if let Some((prefix, model)) = asked.and_then(|model| model.split_once('/'))
            && let Some(provider) = self.by_name(prefix)
            && !model.is_empty()
        {
            return choose(provider, Some(model));
        }
        // An alias belongs to one provider.
        if let Some(asked) = asked
            && let Some(provider) = self
                .providers
                .iter()
                .find(|provider| provider.info().aliases.contains_key(asked))
        {
            return choose(provider, Some(asked));
        }
        // A model that another provider lists is asked for there.
        let lists = |provider: &&SharedProvider| match (provider.info().models, asked) {
            (ModelChoice::Listed(models), Some(asked)) => models.iter().any(|model| model == asked),
            _ => false,
        };
        let listed = self.providers().find(lists);
        choose(listed.unwrap_or(&self.providers[self.default]), asked)
    }

    fn by_name(&self, name: &str) -> Option<&SharedProvider> {
        self.providers
            .iter()
            .find(|provider| provider.info().name == name)
    }
}

fn choose(provider: &SharedProvider, asked: Option<&str>) -> Result<Route> {
    let ProviderInfo {
        name,
        default_model,
        models,
        aliases,
        ..
    } = provider.info();
    let asked = asked.map(|asked| aliases.get(asked).map_or(asked, String::as_str));
    let mut notices = Vec::new();
    let model = match (models, asked) {
        (ModelChoice::StandIn, asked) => {
            let instead = if asked.is_some() {
                " instead of the model that was asked for"
            } else {
                ""
            };
            notices.push(Notice::new(
                "demo_provider",
                format!(
                    "no language model is configured, so the {name} provider answered{instead}"
                ),
            ));
            default_model
        }
        (_, None) => default_model,
        (ModelChoice::Open, Some(asked)) => asked.to_owned(),
        (ModelChoice::Listed(models), Some(asked)) => {
            if !models.iter().any(|model| model == asked) {
                return Err(Error::invalid_input(format!(
                    "the provider {name} has no such model; known: {}",
                    models.join(", ")
                ))
                .with_context("field", "preferences.model"));
            }
            asked.to_owned()
        }
    };
    Ok(Route {
        provider: std::sync::Arc::clone(provider),
        name,
        model,
        notices,
    })
}
