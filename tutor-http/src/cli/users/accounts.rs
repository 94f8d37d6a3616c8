//! Accounts, seen from the machine that the server runs on.

use std::io::{BufRead, Write};
use std::sync::Arc;

use crate::config::{DataArgs, Vars};
use crate::people::{People, PeopleBounds, Role};
use tutor_core::store::Store;
use tutor_core::time::SystemRuntime;

use crate::cli::failure::{DONE, FAILED, Failure};

/// Accounts that are read at a time.
const PAGE: usize = 200;

#[derive(Debug, clap::Args)]
pub(super) struct Add {
    #[command(flatten)]
    data: DataArgs,
    /// The address to sign in with
    email: String,
    /// Let it see and disable accounts
    #[arg(long)]
    admin: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Named {
    #[command(flatten)]
    data: DataArgs,
    /// The address of the account
    email: String,
}

/// The people of a store that no server has for itself.
struct Open {
    store: Arc<dyn Store>,
    people: People,
}

impl Open {
    async fn new(data: &DataArgs, vars: &Vars) -> Result<Self, Failure> {
        let store = data.locate(vars)?.open().await?;
        let runtime = Arc::new(SystemRuntime);
        let people = People::open(Arc::clone(&store), runtime, PeopleBounds::default()).await?;
        Ok(Self { store, people })
    }

    async fn close<T>(self, done: Result<T, Failure>) -> Result<u8, Failure> {
        self.store.close().await?;
        done.map(|_| DONE)
    }
}

pub(super) async fn add(args: &Add, vars: &Vars) -> Result<u8, Failure> {
    let mut password = String::new();
    let read = std::io::stdin().lock().read_line(&mut password);
    let password = password.trim_end_matches(['\r', '\n']);
    if read.is_err() || password.is_empty() {
        return Err(Failure::new(
            FAILED,
            "write the password to standard input, on one line".to_owned(),
        ));
    }
    let role = if args.admin { Role::Admin } else { Role::User };
    let open = Open::new(&args.data, vars).await?;
    let done = match open.people.add(&args.email, password, role).await {
        Ok(account) => say(&account.id),
        Err(error) => Err(error.into()),
    };
    open.close(done).await
}

pub(super) async fn list(data: &DataArgs, vars: &Vars) -> Result<u8, Failure> {
    let open = Open::new(data, vars).await?;
    let done = print_all(&open.people).await;
    open.close(done).await
}

async fn print_all(people: &People) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let page = people.accounts(after, PAGE).await?;
        for account in &page {
            let role = match account.role {
                Role::Admin => "admin",
                Role::User => "user",
            };
            let state = if account.disabled {
                "disabled"
            } else {
                "enabled"
            };
            say(&format!(
                "{}\t{}\t{role}\t{state}",
                account.id, account.email
            ))?;
        }
        match page.last() {
            Some(last) => after = Some(last.id.clone()),
            None => return Ok(()),
        }
    }
}

pub(super) async fn set_disabled(args: &Named, vars: &Vars, disabled: bool) -> Result<u8, Failure> {
    let open = Open::new(&args.data, vars).await?;
    let done = async {
        let account = open.people.find(&args.email).await?;
        open.people.set_disabled(&account.id, disabled).await
    };
    let done = done.await.map_err(Failure::from);
    open.close(done).await
}

fn say(line: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{line}")
        .map_err(|error| Failure::new(FAILED, format!("standard output is closed: {error}")))
}
