//! `neuro-tutor users`: the people of a server, and what is theirs.

use std::sync::Arc;

use crate::config::{DataArgs, Vars};
use crate::control::Request;
use crate::people::{Who, shut_out};
use tutor_core::transfer::erase_owner;
use tutor_core::{ErrorKind, LiveBus};

use super::data::{Data, wait};
use super::failure::{DONE, Failure, WRONG_CONFIGURATION};
use super::output::note;
use super::progress::Progress;
use super::runtime;

mod accounts;

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor users add ada@example.org --admin   reads the password from standard input
  neuro-tutor users list
  neuro-tutor users disable ada@example.org       ends all her sign-ins, too
  neuro-tutor export --owner ada > ada.ndjson && neuro-tutor users erase ada --yes
  neuro-tutor compact                             so that nothing of it is left in the files either";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make an account; the password is the first line of standard input
    Add(accounts::Add),
    /// Print all accounts: id, address, role, and whether it is disabled
    List(DataArgs),
    /// Let an account sign in no more, and end its sign-ins
    Disable(accounts::Named),
    /// Let an account sign in again
    Enable(accounts::Named),
    /// Delete everything of one owner, for good
    #[command(after_help = EXAMPLES)]
    Erase(Erase),
}

#[derive(Debug, clap::Args)]
struct Erase {
    #[command(flatten)]
    data: DataArgs,
    /// Whose: the address or id of an account, or another owner's id; an embedded tutor's is `local`
    owner: Who,
    /// Do it: there is no way back but a backup
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(args: Args, vars: &Vars) -> Result<u8, Failure> {
    match args.command {
        Command::Add(args) => runtime()?.block_on(accounts::add(&args, vars)),
        Command::List(data) => runtime()?.block_on(accounts::list(&data, vars)),
        Command::Disable(args) => runtime()?.block_on(accounts::set_disabled(&args, vars, true)),
        Command::Enable(args) => runtime()?.block_on(accounts::set_disabled(&args, vars, false)),
        Command::Erase(args) => erase(&args, vars),
    }
}

fn erase(args: &Erase, vars: &Vars) -> Result<u8, Failure> {
    if !args.yes {
        let owner = &args.owner;
        return Err(Failure::new(
            WRONG_CONFIGURATION,
            format!("everything of {owner} would be deleted for good: add --yes if that is meant"),
        ));
    }
    runtime()?.block_on(async {
        let progress = Progress::new("erasing");
        let (sessions, records) = match Data::find(&args.data, vars).await? {
            Data::Store(store) => {
                let owner = args.owner.owner(&store).await?;
                shut_out(&store, &owner).await?;
                let mut say = |done: tutor_core::transfer::Erased| {
                    progress.say(format!("{} sessions", done.sessions));
                };
                let uploads = match args.data.files(vars, Arc::clone(&store))? {
                    Some(files) => files.erase(&owner).await?,
                    None => 0,
                };
                let erased = erase_owner(&*store, &owner, &mut say).await?;
                store.close().await?;
                if let Some(shared) = args.data.shared(vars)?
                    && shared.bus().forget(&owner, None).await.is_err()
                {
                    note("Redis cannot be reached: what it has of them, it forgets within minutes");
                }
                (erased.sessions, erased.records + uploads)
            }
            Data::Server(mut client) => {
                let owner = args.owner.clone();
                client.ask(&Request::Erase { owner }).await?;
                let done = wait(&mut client, |_| ()).await?;
                let count = |name: &str| done[name].as_u64().unwrap_or(0);
                (count("sessions"), count("records"))
            }
        };
        drop(progress);
        if sessions + records == 0 {
            let message = format!("there is nothing of {}, and no account", args.owner);
            return Err(Failure::of_kind(ErrorKind::NotFound, message));
        }
        note(&format!(
            "erased {sessions} sessions and {records} records of {}",
            args.owner
        ));
        Ok(DONE)
    })
}
