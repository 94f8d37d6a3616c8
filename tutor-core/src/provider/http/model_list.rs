//! A list of models as OpenAI and Anthropic give it.

use serde::Deserialize;

use crate::provider::ModelInfo;

/// `{"data":[{"id":…}]}`.
#[derive(Deserialize)]
pub(crate) struct ModelList {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

impl From<ModelList> for Vec<ModelInfo> {
    fn from(list: ModelList) -> Self {
        let models = list.data.into_iter();
        models.map(|model| ModelInfo::new(model.id)).collect()
    }
}
