//! `neuro-tutor verify`: checks every record and every index, also while a server has the data.

use crate::config::{DataArgs, Vars};
use crate::control::{Request, report};
use serde_json::Value;
use tutor_core::store::verify::{Verified, verify};

use super::data::{Data, wait};
use super::failure::{DATA_NOT_USABLE, DONE, Failure};
use super::output::{self, note};
use super::progress::Progress;
use super::runtime;

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor verify
  neuro-tutor verify --json --data /srv/tutor

Prints what is there, and names what is damaged or contradicts something else; then the exit code
is 3. What to do: `neuro-tutor restore --replace`, or `neuro-tutor export --skip-damaged` to save
the rest.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    data: DataArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, vars: &Vars) -> Result<u8, Failure> {
    runtime()?.block_on(async {
        let data = Data::find(&args.data, vars).await?;
        let progress = Progress::new("verifying");
        let found = match data {
            Data::Store(store) => {
                let say = |found: &Verified| progress.say(format!("{} sessions", found.sessions));
                report::verified(&verify(&*store, &mut { say }).await?)
            }
            Data::Server(mut client) => {
                client.ask(&Request::Verify).await?;
                let say = |so_far: &Value| progress.say(format!("{} sessions", so_far["sessions"]));
                wait(&mut client, say).await?
            }
        };
        drop(progress);
        let count = found["problem_count"].as_u64().unwrap_or(0);
        let text = if args.json {
            format!("{found}\n")
        } else {
            table(&found)
        };
        output::print(text.as_bytes())?;
        if count == 0 {
            return Ok(DONE);
        }
        if !args.json {
            let problems = found["problems"].as_array();
            for problem in problems.into_iter().flatten().filter_map(Value::as_str) {
                note(problem);
            }
        }
        Err(Failure::new(
            DATA_NOT_USABLE,
            format!("{count} things are wrong: restore a backup, or export with --skip-damaged"),
        ))
    })
}

fn table(found: &Value) -> String {
    let names = [
        ("owners", "owners"),
        ("sessions", "sessions"),
        ("messages", "messages"),
        ("turns", "turns"),
        ("running_turns", "running turns"),
        ("idempotency_keys", "idempotency keys"),
        ("records", "records"),
        ("entries", "entries of the store"),
        ("busy", "sessions too busy to judge"),
        ("problem_count", "problems"),
    ];
    let lines = names.map(|(name, shown)| format!("{shown:<28}{}\n", found[name]));
    lines.concat()
}
