//! Whose data an operator means, who names somebody at the machine that the data is on.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tutor_core::store::{Documents, Store};
use tutor_core::{Error, ErrorKind, OwnerId, Result, Tutor};

use super::account::Accounts;
use super::api_key::ApiKeys;
use super::sign_in::SignIns;

/// The address of an account, or the id of an owner. An address that has an account means it, also
/// if it is an id as well.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Who(String);

/// An address is in no log.
impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<somebody>")
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Who {
    type Err = Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl Who {
    /// Whose data it is.
    ///
    /// # Errors
    /// `not_found` for an address without an account that can be no id either, `invalid_input` for
    /// what is neither; errors of the store.
    pub async fn owner(&self, store: &Arc<dyn Store>) -> Result<OwnerId> {
        let accounts = Accounts::new(Documents::new(store.clone()));
        if let Some(account) = accounts.by_email(&self.0).await? {
            return OwnerId::new(account.id);
        }
        let is_address = super::email::parse(&self.0).is_ok();
        OwnerId::new(&self.0).map_err(|error| match is_address {
            true => Error::new(ErrorKind::NotFound, MISSING),
            false => error,
        })
    }

    /// Whose data it is, if anybody was named.
    ///
    /// # Errors
    /// As of [`owner`](Self::owner).
    pub async fn owner_of(who: Option<&Self>, store: &Arc<dyn Store>) -> Result<Option<OwnerId>> {
        match who {
            Some(who) => who.owner(store).await.map(Some),
            None => Ok(None),
        }
    }
}

/// What to say of an account that is not there.
pub(super) const MISSING: &str =
    "no account has this address or id: `neuro-tutor users list` has all of them";

/// Lets nobody come back as this owner: their account is disabled and its address free, their
/// sign-ins have ended, their API keys are gone. Does what there is to do.
///
/// # Errors
/// Errors of the store.
pub(crate) async fn shut_out(store: &Arc<dyn Store>, owner: &OwnerId) -> Result<()> {
    let documents = Documents::new(store.clone());
    let accounts = Accounts::new(documents.clone());
    if let Some(account) = accounts.by_id(owner.as_str()).await? {
        accounts.set_disabled(&account.id, true).await?;
        accounts.forget_address(&account).await?;
    }
    let sign_ins = SignIns::new(documents.clone());
    sign_ins.end_all(owner.as_str(), None).await?;
    ApiKeys::new(documents).delete_all(owner.as_str()).await
}

/// Ends the replies that are being written for somebody who may not have them any more.
pub(crate) async fn stop_all(tutor: &Tutor, id: &str) -> Result<()> {
    tutor.for_owner(OwnerId::new(id)?).cancel_all().await;
    Ok(())
}
