//! `neuro-tutor compact`: writes the files of an embedded store anew.

use std::sync::Arc;

use crate::config::{DataArgs, Vars};
use tutor_core::store::{Location, SledStore};

use super::failure::{DONE, Failure, WRONG_CONFIGURATION};
use super::output::note;
use super::progress::Progress;
use super::{data, runtime};

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor compact
  neuro-tutor compact --data sled:/srv/tutor

For directories only, while no server uses them. Takes as much room again as the data has. What was
deleted is in the files until this is done. Interrupted, run it again: it goes on.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    data: DataArgs,
}

pub(super) fn run(args: &Args, vars: &Vars) -> Result<u8, Failure> {
    let location = args.data.locate(vars)?;
    let Location::Sled(directory) = &location else {
        return Err(Failure::new(
            WRONG_CONFIGURATION,
            format!("{location} is no directory: a database compacts itself by its VACUUM"),
        ));
    };
    data::must_exist(&location)?;
    runtime()?.block_on(async {
        let progress = Arc::new(Progress::new("compacting"));
        let telling = Arc::clone(&progress);
        let done = SledStore::compact(directory, move |so_far| {
            telling.say(format!("{} entries", so_far.entries));
        });
        let done = done.await?;
        drop(progress);
        note(&format!(
            "compacted {} entries from {} to {} bytes",
            done.entries, done.bytes_before, done.bytes_after
        ));
        Ok(DONE)
    })
}
