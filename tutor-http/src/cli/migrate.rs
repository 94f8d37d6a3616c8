//! `neuro-tutor migrate`: brings the schema of a database to a version.

use std::fmt::Write;

use crate::config::{DataArgs, Vars};

use super::failure::Failure;
use super::output;
use super::runtime;

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor migrate --dry-run --data sqlite:///./neuro_tutor.db
  neuro-tutor migrate --data postgresql://user:pass@localhost/neuro_tutor
  neuro-tutor migrate --to 2

For SQL databases, also those of the original system; other stores have no schema. A server migrates
when it starts, so this is only needed to see or do it before. All or nothing; back up before.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    data: DataArgs,
    /// The version to go to; without it the newest
    #[arg(long, value_name = "VERSION")]
    to: Option<u32>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, vars: &Vars) -> Result<u8, Failure> {
    let location = args.data.locate(vars)?;
    runtime()?.block_on(async {
        let plan = location.migrate(args.to, args.dry_run).await?;
        let mut text = String::new();
        if plan.steps.is_empty() {
            text.push_str("nothing to do\n");
        }
        for step in &plan.steps {
            let done = if plan.applied { "done" } else { "to do" };
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{done}: version {}, {} ({} statements)",
                step.version,
                step.name,
                step.statements.len()
            );
        }
        output::print(text.as_bytes())
    })
}
