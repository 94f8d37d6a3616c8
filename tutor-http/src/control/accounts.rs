//! Accounts, seen from the machine that the server runs on: in a store that no server has for itself,
//! and in a running server.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tutor_core::Result;
use tutor_core::store::Store;
use tutor_core::time::SystemRuntime;

use crate::people::{Account, People, PeopleBounds, Role};

/// Accounts that are told at a time.
const PAGE: usize = 200;

/// What to do with accounts.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "accounts", rename_all = "snake_case", deny_unknown_fields)]
pub enum Accounts {
    /// Make one.
    Add {
        /// The address to sign in with.
        email: String,
        /// What to sign in with.
        password: String,
        /// An administrator.
        admin: bool,
    },
    /// Tell some, in the order of their ids.
    List {
        /// Behind this one.
        after: Option<String>,
    },
    /// Let somebody sign in no more, or again.
    SetDisabled {
        /// An address, or an id.
        who: String,
        /// No more.
        disabled: bool,
    },
}

/// It is logged.
impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add { admin: true, .. } => "add an administrator",
            Self::Add { .. } => "add",
            Self::List { .. } => "list",
            Self::SetDisabled { disabled: true, .. } => "disable",
            Self::SetDisabled { .. } => "enable",
        })
    }
}

/// What is told of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Its id.
    pub id: String,
    /// The address to sign in with.
    pub email: String,
    /// An administrator.
    pub admin: bool,
    /// Nobody can sign in with it.
    pub disabled: bool,
}

impl From<Account> for Told {
    fn from(account: Account) -> Self {
        Self {
            id: account.id,
            email: account.email,
            admin: account.role == Role::Admin,
            disabled: account.disabled,
        }
    }
}

/// Does it, and tells the accounts that it is about. A page of a list is empty at the end.
///
/// # Errors
/// As of [`People`].
pub async fn perform(store: Arc<dyn Store>, what: Accounts) -> Result<Vec<Told>> {
    let people = People::open(store, Arc::new(SystemRuntime), PeopleBounds::default()).await?;
    let accounts = match what {
        Accounts::Add {
            email,
            password,
            admin,
        } => {
            let role = if admin { Role::Admin } else { Role::User };
            vec![people.add(&email, &password, role).await?]
        }
        Accounts::List { after } => people.accounts(after, PAGE).await?,
        Accounts::SetDisabled { who, disabled } => {
            let account = people.find(&who).await?;
            vec![people.set_disabled(&account.id, disabled).await?]
        }
    };
    Ok(accounts.into_iter().map(Told::from).collect())
}
