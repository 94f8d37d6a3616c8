//! What can be asked for.

use std::time::Duration;

use axum::Json;
use futures_util::future::join_all;
use tutor_core::Tutor;
use tutor_core::provider::{ModelInfo, ProviderInfo};

use super::App;
use crate::wire::{Model, ModelList, Warning};

/// How long a provider may take to list its models.
const PATIENCE: Duration = Duration::from_secs(5);

/// List models
///
/// Of all configured providers, with the sizes of their context windows.
#[utoipa::path(get, path = "/api/models", tag = "models", operation_id = "list_models",
    responses((status = 200, description = "The models", body = ModelList)))]
pub(super) async fn list(App(state): App) -> Json<ModelList> {
    Json(listed(&state.tutor).await)
}

/// The models of all providers.
pub(super) async fn listed(tutor: &Tutor) -> ModelList {
    let providers = tutor.providers();
    let lists = providers.iter().map(|provider| models(tutor, provider));
    let lists = join_all(lists).await;
    let mut list = ModelList {
        models: Vec::new(),
        next_cursor: None,
        warnings: Vec::new(),
    };
    for (i, (provider, (mut models, warning))) in providers.iter().zip(lists).enumerate() {
        list.warnings.extend(warning);
        let is_default = |model: &ModelInfo| model.id == provider.default_model;
        models.sort_by_key(|model| !is_default(model));
        list.models.extend(models.into_iter().map(|model| Model {
            default: i == 0 && is_default(&model),
            id: model.id,
            provider: provider.name.clone(),
            context_window: model.context_window,
        }));
    }
    list
}

/// A provider's models, its default one at least.
async fn models(tutor: &Tutor, provider: &ProviderInfo) -> (Vec<ModelInfo>, Option<Warning>) {
    let listed = tokio::time::timeout(PATIENCE, tutor.models(&provider.name)).await;
    let default = || {
        let model = ModelInfo::new(provider.default_model.clone());
        tutor.catalog().described(model)
    };
    match listed {
        Ok(Ok(mut models)) => {
            if !models
                .iter()
                .any(|model| model.id == provider.default_model)
            {
                models.push(default());
            }
            (models, None)
        }
        Ok(Err(error)) => {
            tracing::warn!(provider = provider.name, %error, "models could not be listed");
            (vec![default()], Some(unlisted(provider, error.code())))
        }
        Err(_) => (vec![default()], Some(unlisted(provider, "timeout"))),
    }
}

fn unlisted(provider: &ProviderInfo, why: &str) -> Warning {
    Warning {
        code: "models_unlisted".to_owned(),
        message: format!("the models of {} could not be listed: {why}", provider.name),
    }
}
