//! `neuro-tutor keys`: the keys that sign people's tokens.

use tutor_core::store::Documents;
use tutor_core::time::{Runtime as _, SystemRuntime};

use crate::config::{DataArgs, Vars};
use crate::control::Request;
use crate::people::secret::{self, KeyInfo};

use super::data::{Data, nonsense, wait};
use super::failure::Failure;
use super::output::print;
use super::runtime;

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor keys rotate             nobody notices: what the old key signed is good until it ends
  neuro-tutor keys rotate --at-once   after a leak: everybody has to sign in again
  0 4 1 * *  neuro-tutor keys rotate --data /srv/tutor                       (a line of a crontab)

Access tokens are signed by the newest key and good for 15 minutes; who signed in goes on by a refresh
token. --at-once ends both, of everybody, and replaces what they are made with. API keys stay good: no
copy of the data has them. A running server takes the new key at once, and others on the same database within 5 seconds.
Prints all keys that are good: name, when it was made, and until when it verifies.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a new key, which signs from now on
    #[command(after_help = EXAMPLES)]
    Rotate(Rotate),
}

#[derive(Debug, clap::Args)]
struct Rotate {
    #[command(flatten)]
    data: DataArgs,
    /// End every sign-in: no token that was made before is good any more
    #[arg(long)]
    at_once: bool,
}

pub(super) fn run(args: &Args, vars: &Vars) -> Result<u8, Failure> {
    let Command::Rotate(args) = &args.command;
    let keys = runtime()?.block_on(rotate(args, vars))?;
    let lines = keys.iter().map(line);
    print(lines.collect::<String>().as_bytes())
}

fn line(key: &KeyInfo) -> String {
    let made = key
        .created_at
        .map_or_else(|| "-".to_owned(), |time| time.to_string());
    match key.until {
        None => format!("{}\t{made}\tsigns\n", key.id),
        Some(until) => format!("{}\t{made}\tverifies until {until}\n", key.id),
    }
}

async fn rotate(args: &Rotate, vars: &Vars) -> Result<Vec<KeyInfo>, Failure> {
    match Data::find(&args.data, vars).await? {
        Data::Store(store) => {
            let documents = Documents::new(store.clone());
            let rotated = secret::rotate(&documents, SystemRuntime.now(), args.at_once).await;
            store.close().await?;
            Ok(rotated?)
        }
        Data::Server(mut client) => {
            let at_once = args.at_once;
            client.ask(&Request::RotateKeys { at_once }).await?;
            let mut done = wait(&mut client, |_| ()).await?;
            serde_json::from_value(done["keys"].take()).map_err(|_| nonsense())
        }
    }
}
