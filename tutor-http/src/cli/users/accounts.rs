//! Accounts, seen from the machine that the server runs on.

use std::io::{BufRead, Write};

use crate::cli::data::{Data, nonsense, wait};
use crate::cli::failure::{DONE, FAILED, Failure};
use crate::config::{DataArgs, Vars};
use crate::control::Request;
use crate::control::accounts::{self, Accounts, Told};

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

/// Has the server that has the data do it, or does it.
async fn perform(data: Data, what: Accounts) -> Result<Vec<Told>, Failure> {
    match data {
        Data::Store(store) => {
            let done = accounts::perform(store.clone(), what).await;
            store.close().await?;
            Ok(done?)
        }
        Data::Server(mut client) => {
            client.ask(&Request::Accounts(what)).await?;
            let mut done = wait(&mut client, |_| ()).await?;
            serde_json::from_value(done["accounts"].take()).map_err(|_| nonsense())
        }
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
    let what = Accounts::Add {
        email: args.email.clone(),
        password: password.to_owned(),
        admin: args.admin,
    };
    let data = Data::find_or_make(&args.data, vars).await?;
    for account in perform(data, what).await? {
        say(&account.id)?;
    }
    Ok(DONE)
}

pub(super) async fn list(data: &DataArgs, vars: &Vars) -> Result<u8, Failure> {
    let mut after = None;
    loop {
        let found = Data::find(data, vars).await?;
        let page = perform(found, Accounts::List { after }).await?;
        let Some(last) = page.last() else {
            return Ok(DONE);
        };
        after = Some(last.id.clone());
        for account in &page {
            let role = if account.admin { "admin" } else { "user" };
            let state = match account.disabled {
                true => "disabled",
                false => "enabled",
            };
            let (id, email) = (&account.id, &account.email);
            say(&format!("{id}\t{email}\t{role}\t{state}"))?;
        }
    }
}

pub(super) async fn set_disabled(args: &Named, vars: &Vars, disabled: bool) -> Result<u8, Failure> {
    let who = args.email.clone();
    let data = Data::find(&args.data, vars).await?;
    perform(data, Accounts::SetDisabled { who, disabled }).await?;
    Ok(DONE)
}

fn say(line: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{line}")
        .map_err(|error| Failure::new(FAILED, format!("standard output is closed: {error}")))
}
