//! The laws of stores and providers, for those that are written in JavaScript.

use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::{Env, FnArgs, Function, PromiseRaw};
use napi_derive::napi;
use serde_json::{Value, json};
use tutor_core::conformance::{Law, PROVIDER_LAWS, RECORD_LAWS, STORE_LAWS};
use tutor_core::{Error, Result};

use crate::data::{Outcome, object, promise};
use crate::open::own_info;
use crate::plugin::{Answer, Bridge};
use crate::provider::{JsProvider, Sink};
use crate::store::store;

/// How long a law may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The laws of stores and providers.
#[napi]
pub struct NativeLaws {}

#[napi]
#[expect(
    clippy::needless_pass_by_value,
    clippy::too_many_arguments,
    reason = "napi hands over owned functions, one by one"
)]
impl NativeLaws {
    /// The names of the laws of a `store`, its `records`, or a `provider`.
    #[napi]
    pub fn names(of: String) -> Vec<&'static str> {
        match of.as_str() {
            "store" => STORE_LAWS.iter().map(|law| law.name).collect(),
            "records" => RECORD_LAWS.iter().map(|law| law.name).collect(),
            _ => PROVIDER_LAWS.iter().map(|law| law.name).collect(),
        }
    }

    /// Has a plug-in, which is number 0, keep a law. `null`, or how it is broken.
    #[napi]
    pub fn check<'e>(
        env: &'e Env,
        of: String,
        name: String,
        description: String,
        start: Function<'_, FnArgs<(u32, u32, String, Sink)>, ()>,
        ask: Function<'_, FnArgs<(u32, u32, String, Answer)>, ()>,
        cancel: Function<'_, u32, ()>,
        forget: Function<'_, u32, ()>,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        let bridge = Bridge::new(&start, &ask, &cancel, &forget)?;
        promise(env, async move {
            let description = object(&description)?;
            match of.as_str() {
                "store" => keep(STORE_LAWS, &name, Arc::new(store(0, description, bridge)?)).await,
                "records" => {
                    keep(RECORD_LAWS, &name, Arc::new(store(0, description, bridge)?)).await
                }
                _ => {
                    let info = own_info(&Value::Object(description))?;
                    let provider = JsProvider::new(0, info, bridge);
                    keep(PROVIDER_LAWS, &name, Arc::new(provider)).await
                }
            }
        })
    }
}

async fn keep<T: ?Sized>(laws: &'static [Law<T>], name: &str, plugin: Arc<T>) -> Result<Value> {
    let law = laws.iter().find(|law| law.name == name);
    let law = law.ok_or_else(|| Error::invalid_input("there is no law of this name"))?;
    Ok(json!(law.check(plugin, PATIENCE).await.err()))
}
