//! `neuro-tutor import`: takes an export in, also while a server has the data.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::config::{DataArgs, Vars};
use crate::control::{Client, Request, report};
use crate::people::Who;
use serde_json::Value;
use tutor_core::transfer::{ImportOptions, Importer, OnConflict};

use super::data::{Data, wait};
use super::failure::{DONE, FAILED, Failure};
use super::output::note;
use super::progress::Progress;
use super::runtime;

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor import all.ndjson
  neuro-tutor export | neuro-tutor import --data postgresql://db/tutor
  neuro-tutor import --on-conflict replace newer.ndjson

Each session is imported whole or not at all. Importing the same file again, or the rest of one that
was interrupted, does what is left to do.";

/// How much is read at a time, in bytes.
const PIECE_BYTES: usize = 64 << 10;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    data: DataArgs,
    /// The export; standard input without it
    file: Option<PathBuf>,
    /// What to do with sessions and records that are there already and differ
    #[arg(long, value_enum, default_value = "fail")]
    on_conflict: Choice,
    /// Everything becomes theirs, an owner's id or the address of an account; records are left out
    #[arg(long)]
    owner: Option<Who>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Choice {
    /// Stop there
    Fail,
    /// Keep what is there
    Keep,
    /// Take the file's
    Replace,
}

pub(super) fn run(args: Args, vars: &Vars) -> Result<u8, Failure> {
    runtime()?.block_on(async {
        let input: Box<dyn Read + Send> = match &args.file {
            Some(path) => Box::new(open(path)?),
            None => Box::new(io::stdin()),
        };
        let progress = match &args.file {
            Some(path) => Progress::of_bytes("importing", length(path)),
            None => Progress::new("importing"),
        };
        let data = Data::find_or_make(&args.data, vars).await?;
        let (on_conflict, name) = match args.on_conflict {
            Choice::Fail => (OnConflict::Fail, "fail"),
            Choice::Keep => (OnConflict::Keep, "keep"),
            Choice::Replace => (OnConflict::Replace, "replace"),
        };
        let owner = args.owner;
        let done = match data {
            Data::Store(store) => {
                let owner = Who::owner_of(owner.as_ref(), &store).await?;
                let options = ImportOptions { on_conflict, owner };
                into_store(Importer::new(store, options), input, &progress).await?
            }
            Data::Server(client) => {
                let on_conflict = name.to_owned();
                let request = Request::Import { on_conflict, owner };
                into_server(client, &request, input, &progress).await?
            }
        };
        drop(progress);
        note(&told(&done));
        Ok(DONE)
    })
}

/// What an import did, in one sentence.
pub(super) fn told(done: &Value) -> String {
    let mut text = format!(
        "imported {} sessions with {} messages, and {} records: {} new, {} there already",
        done["sessions"], done["messages"], done["records"], done["added"], done["unchanged"],
    );
    for (name, what) in [
        ("replaced", "replaced"),
        ("kept", "kept as they were"),
        ("left_out", "records left out"),
    ] {
        if done[name].as_u64().is_some_and(|count| count > 0) {
            text.push_str(&format!(", {} {what}", done[name]));
        }
    }
    if let Some(files @ 1..) = done["files"].as_u64() {
        text.push_str(&format!(
            "; messages name {files} uploaded files, whose bytes no export has: \
             `neuro-tutor backup` and `restore` carry them"
        ));
    }
    text
}

pub(super) fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| {
        let shown = path.display();
        Failure::new(FAILED, format!("{shown} cannot be read: {error}"))
    })
}

pub(super) fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |about| about.len())
}

/// Reads a piece; empty at the end. Blocks no worker.
async fn piece(
    mut input: Box<dyn Read + Send>,
) -> Result<(Box<dyn Read + Send>, Vec<u8>), Failure> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; PIECE_BYTES];
        let count = loop {
            match input.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        bytes.truncate(count);
        io::Result::Ok((input, bytes))
    });
    let read = reading
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    read.map_err(|error| Failure::new(FAILED, format!("the export cannot be read: {error}")))
}

pub(super) async fn into_store(
    mut importer: Importer,
    mut input: Box<dyn Read + Send>,
    progress: &Progress,
) -> Result<Value, Failure> {
    loop {
        let bytes;
        (input, bytes) = piece(input).await?;
        if bytes.is_empty() {
            return Ok(report::imported(&importer.finish().await?));
        }
        importer.write(&bytes).await?;
        progress.advance(bytes.len());
        progress.counts(importer.imported().read);
    }
}

async fn into_server(
    mut client: Client,
    request: &Request,
    mut input: Box<dyn Read + Send>,
    progress: &Progress,
) -> Result<Value, Failure> {
    client.ask(request).await?;
    loop {
        let bytes;
        (input, bytes) = piece(input).await?;
        client.data(&bytes).await?;
        progress.advance(bytes.len());
        if bytes.is_empty() {
            return wait(&mut client, |_| ()).await;
        }
    }
}
