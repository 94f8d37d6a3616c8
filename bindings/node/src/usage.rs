//! What somebody used, and what they think of it.

use napi::bindgen_prelude::{Env, PromiseRaw};
use napi_derive::napi;
use tutor_core::{SessionId, json};

use crate::data::{Outcome, object, value};
use crate::tutor::{NativeTutor, ids};

#[napi]
impl NativeTutor {
    /// What this owner used, day by day.
    #[napi]
    pub fn usage<'e>(&self, env: &'e Env, range: String) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            let (from, to) = json::usage_range(object(&range)?)?;
            value(tutor.usage(from, to).await?)
        })
    }

    /// How much each owner may use in a day.
    #[napi]
    pub fn quota<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move { value(tutor.quota()) })
    }

    /// Keeps what somebody thinks of a message.
    #[napi]
    pub fn rate<'e>(
        &self,
        env: &'e Env,
        session: String,
        message: String,
        opinion: String,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            let (session, message) = ids(session, message)?;
            let opinion = json::opinion(object(&opinion)?)?;
            value(tutor.rate(&session, &message, opinion).await?)
        })
    }

    /// What is thought of the messages of a session.
    #[napi]
    pub fn feedback<'e>(
        &self,
        env: &'e Env,
        session: String,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            value(tutor.feedback(&SessionId::new(session)?).await?)
        })
    }
}
