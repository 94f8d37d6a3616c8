//! Accounts.

use std::fmt;

use serde::{Deserialize, Serialize};
use tutor_core::store::document::{Documents, nobodys, put, remove};
use tutor_core::store::{Expect, KeyRange};
use tutor_core::time::Timestamp;
use tutor_core::{Error, ErrorKind, Result};
use utoipa::ToSchema;

use super::external::Vouched;

const ACCOUNT: &str = "account";
/// From an address to the id of its account. It is nobody's: an address may be an owner's id.
const EMAIL: &str = "account-email";

/// What a person may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Learn: use their own conversations.
    #[default]
    User,
    /// See and disable accounts as well.
    Admin,
}

/// A person. The id is the owner of their data.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Opaque, and the [`OwnerId`](tutor_core::OwnerId) of everything the person has.
    pub id: String,
    /// The address to sign in with, in lower case. Of somebody of an external issuer what that says
    /// of it, which may be nothing.
    pub email: String,
    password_hash: String,
    /// What the person may do.
    #[serde(default)]
    pub role: Role,
    /// True if the person may not sign in.
    #[serde(default)]
    pub disabled: bool,
    /// The external issuer that vouches for the person, who then has no password here.
    #[serde(default)]
    pub issuer: Option<String>,
    /// When the account was made.
    pub created_at: Timestamp,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("id", &self.id)
            .field("role", &self.role)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}

impl Account {
    pub(super) fn new(
        id: String,
        email: String,
        password_hash: String,
        role: Role,
        created_at: Timestamp,
    ) -> Self {
        Self {
            id,
            email,
            password_hash,
            role,
            disabled: false,
            issuer: None,
            created_at,
        }
    }

    /// The account of somebody of an external issuer. No password is right.
    pub(super) fn external(vouched: &Vouched, created_at: Timestamp) -> Self {
        Self {
            issuer: Some(vouched.issuer.clone()),
            ..Self::new(
                vouched.owner.clone(),
                vouched.email.clone().unwrap_or_default(),
                String::new(),
                Role::User,
                created_at,
            )
        }
    }

    pub(super) fn password_hash(&self) -> &str {
        &self.password_hash
    }
}

#[derive(Debug)]
pub(super) struct Accounts(Documents);

impl Accounts {
    pub(super) fn new(documents: Documents) -> Self {
        Self(documents)
    }

    /// Keeps a new account.
    ///
    /// # Errors
    /// `conflict` if its address is taken.
    pub(super) async fn create(&self, account: &Account) -> Result<()> {
        let writes = vec![
            put(EMAIL, &nobodys(&account.email), &account.id, Expect::Absent)?,
            put(ACCOUNT, &account.id, account, Expect::Absent)?,
        ];
        let taken = |error: Error| match error.kind() {
            ErrorKind::Conflict => Error::conflict("this address has an account: sign in"),
            _ => error,
        };
        self.0.commit(writes).await.map_err(taken)
    }

    pub(super) async fn by_id(&self, id: &str) -> Result<Option<Account>> {
        let found = self.0.get(ACCOUNT, id).await?;
        Ok(found.map(|(account, _)| account))
    }

    /// The account of somebody of an external issuer, which is made if they were never here.
    pub(super) async fn meet(&self, vouched: &Vouched, now: Timestamp) -> Result<Account> {
        if let Some(account) = self.by_id(&vouched.owner).await? {
            return Ok(account);
        }
        let met = self.0.change(ACCOUNT, &vouched.owner, |there| {
            Ok(Some(
                there.unwrap_or_else(|| Account::external(vouched, now)),
            ))
        });
        met.await?
            .after
            .ok_or_else(|| Error::internal("an account was not made"))
    }

    pub(super) async fn by_email(&self, email: &str) -> Result<Option<Account>> {
        // What is no address, or longer than any key, has no account.
        let Ok(email) = super::email::parse(email) else {
            return Ok(None);
        };
        match self.0.get::<String>(EMAIL, &nobodys(&email)).await? {
            Some((id, _)) => self.by_id(&id).await,
            None => Ok(None),
        }
    }

    pub(super) async fn list(&self, after: Option<String>, limit: usize) -> Result<Vec<Account>> {
        let range = KeyRange {
            after,
            ..KeyRange::default()
        };
        let found = self.0.scan(ACCOUNT, range, limit).await?;
        Ok(found.into_iter().map(|(_, account)| account).collect())
    }

    pub(super) async fn set_password(&self, id: &str, hash: String) -> Result<Account> {
        self.update(id, |account| account.password_hash.clone_from(&hash))
            .await
    }

    pub(super) async fn set_disabled(&self, id: &str, disabled: bool) -> Result<Account> {
        self.update(id, |account| account.disabled = disabled).await
    }

    async fn update(&self, id: &str, mut change: impl FnMut(&mut Account)) -> Result<Account> {
        let changed = self.0.update(ACCOUNT, id, |account| {
            change(account);
            Ok(())
        });
        changed
            .await?
            .ok_or_else(|| Error::not_found("account", id))
    }

    /// Frees the address for another account.
    pub(super) async fn forget_address(&self, account: &Account) -> Result<()> {
        // What an external issuer says is nobody's address here.
        if account.issuer.is_some() {
            return Ok(());
        }
        let address = nobodys(&account.email);
        self.0.commit(vec![remove(EMAIL, &address)]).await
    }
}
