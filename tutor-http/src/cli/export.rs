//! `neuro-tutor export`: everything as lines of JSON, also while a server has the data.

use std::io::{self, Write};

use crate::config::{DataArgs, Vars};
use crate::people::Who;
use tutor_core::time::Timestamp;
use tutor_core::transfer::ExportOptions;

use super::data::{Data, Export};
use super::failure::{DONE, Failure};
use super::output::note;
use super::progress::Progress;
use super::runtime;

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor export > all.ndjson
  neuro-tutor export --owner ada | gzip > ada.ndjson.gz
  neuro-tutor export --since 2026-11-24 --data postgresql://db/tutor > changed.ndjson

Each line is one session, message, turn or record, with a checksum; the last one counts them. A
running server goes on meanwhile: each session is as it was at one moment.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    data: DataArgs,
    /// Only what is theirs: an owner's id, or the address of an account
    #[arg(long)]
    owner: Option<Who>,
    /// Only sessions that changed then or later, such as 2026-11-24 or 2026-11-24T09:30:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Leave out damaged sessions and records instead of ending there, and say how many they are
    #[arg(long)]
    skip_damaged: bool,
}

pub(super) fn run(args: Args, vars: &Vars) -> Result<u8, Failure> {
    runtime()?.block_on(async {
        let options = ExportOptions {
            since: args.since,
            skip_damaged: args.skip_damaged,
            ..ExportOptions::default()
        };
        let data = Data::find(&args.data, vars).await?;
        let mut export = Export::begin(data, args.owner, options).await?;
        let progress = Progress::new("exporting");
        let mut out = io::stdout();
        while let Some(lines) = export.next().await? {
            out.write_all(&lines).map_err(|e| Failure::of_output(&e))?;
            progress.counts(export.counts());
        }
        out.flush().map_err(|e| Failure::of_output(&e))?;
        drop(progress);
        tell(&export);
        Ok(DONE)
    })
}

/// Says how much it was, and what is missing.
pub(super) fn tell(export: &Export) {
    let counts = export.counts();
    note(&format!(
        "exported {} sessions with {} messages and {} turns, and {} records",
        counts.sessions, counts.messages, counts.turns, counts.records
    ));
    let [sessions, records] = export.skipped();
    if sessions + records > 0 {
        note(&format!(
            "left out {sessions} damaged sessions and {records} damaged records: \
             `neuro-tutor verify` names them"
        ));
    }
}

/// A time, or a day at whose beginning it is.
fn time(text: &str) -> Result<Timestamp, String> {
    let parsed = text
        .parse()
        .or_else(|_| format!("{text}T00:00:00Z").parse::<Timestamp>());
    parsed.map_err(|error| error.message().to_owned())
}
