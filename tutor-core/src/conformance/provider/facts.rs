//! Laws of what a provider says about itself.

use std::sync::Arc;

use crate::provider::{ModelChoice, Provider};

/// What a provider is called and can do does not change while it lives.
pub async fn info_is_stable_and_usable(provider: Arc<dyn Provider>) {
    let info = provider.info();
    assert_eq!(info, provider.info());
    assert!(
        !info.name.is_empty() && !info.name.contains('/'),
        "{info:?}"
    );
    assert!(!info.default_model.is_empty(), "{info:?}");
    if let ModelChoice::Listed(models) = &info.models {
        assert!(models.contains(&info.default_model), "{info:?}");
    }
}

/// Models that can be asked for have names, each its own.
pub async fn models_have_distinct_names(provider: Arc<dyn Provider>) {
    let Ok(models) = provider.models().await else {
        return;
    };
    let mut names: Vec<_> = models.iter().map(|model| model.id.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert!(
        names.len() == models.len() && !names.contains(&""),
        "{models:?}"
    );
}
