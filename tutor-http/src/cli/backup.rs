//! `neuro-tutor backup`: a checked export in a file of its own, also while a server has the data.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{DataArgs, Vars};
use tutor_core::store::MemoryStore;
use tutor_core::time::{Runtime as _, SystemRuntime};
use tutor_core::transfer::{ExportOptions, Reader};

use files::{Files, Mentioned};

use super::data::{Data, Export};
use super::export::tell;
use super::failure::{FAILED, Failure};
use super::output;
use super::progress::Progress;
use super::runtime;

pub(super) mod files;

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor backup /srv/backups
  0 3 * * *  neuro-tutor backup /srv/backups --keep 14 --data /srv/tutor     (a line of a crontab)
  neuro-tutor restore /srv/backups

A backup is an export, written to the disk and read again before it gets its name, which is printed.
A running server goes on meanwhile: each session is as it was at one moment, and everything that was
acknowledged before the backup began is in it.
Uploaded files are copied once for all backups in a directory, into its `files`; a list beside each
backup says which are its own. Files in a bucket are copied from there.";

/// How the names of backups begin and end. In between is the time, so that names sort like times.
const NAME: (&str, &str) = ("neuro-tutor-", ".ndjson");

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    data: DataArgs,
    /// Where backups are kept; made if need be
    directory: PathBuf,
    /// Remove older backups from there, so that this many are left
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Leave uploaded files out: they are kept safe in another way
    #[arg(long)]
    without_files: bool,
    /// Leave out damaged sessions and records instead of ending there, and say how many they are
    #[arg(long)]
    skip_damaged: bool,
}

pub(super) fn run(args: &Args, vars: &Vars) -> Result<u8, Failure> {
    runtime()?.block_on(async {
        let data = Data::find(&args.data, vars).await?;
        let directory = args.directory.as_path();
        let fail = |error| cannot_write(directory, &error);
        fs::create_dir_all(directory).map_err(fail)?;
        let options = ExportOptions {
            skip_damaged: args.skip_damaged,
            ..ExportOptions::default()
        };
        let mut export = Export::begin(data, None, options).await?;
        let unfinished = directory.join("unfinished-backup");
        let mut file = private(&unfinished).map_err(fail)?;
        let progress = Progress::new("backing up");
        while let Some(lines) = export.next().await? {
            file.write_all(&lines).map_err(fail)?;
            progress.counts(export.counts());
        }
        file.sync_all().map_err(fail)?;
        drop(progress);
        let mentioned = check(&unfinished)?;
        let path = directory.join(name());
        let uploads = match args.without_files {
            true => None,
            // Their records are in the backup; here only bytes are read.
            false => args.data.files(vars, Arc::new(MemoryStore::new()))?,
        };
        let list = files::list_of(&path);
        let (count, gone) = files::copy(mentioned, uploads.as_ref(), directory, &list).await?;
        fs::rename(&unfinished, &path).map_err(fail)?;
        sync_directory(directory).map_err(fail)?;
        tell(&export);
        if count + gone > 0 {
            output::note(&format!(
                "{count} uploaded files, and {gone} without their bytes"
            ));
        }
        if let Some(keep) = args.keep {
            remove_older(directory, keep).map_err(fail)?;
            files::prune(directory).await?;
        }
        output::print(format!("{}\n", path.display()).as_bytes())
    })
}

/// Reads a backup from its first line to its last. Says which files it speaks of.
fn check(path: &Path) -> Result<Mentioned, Failure> {
    let mut file = super::import::open(path)?;
    let progress = Progress::of_bytes("checking", super::import::length(path));
    let mut reader = Reader::new();
    let mut mentioned = Mentioned::default();
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = file.read(&mut bytes).map_err(|error| {
            Failure::new(
                FAILED,
                format!("{} cannot be read: {error}", path.display()),
            )
        })?;
        if count == 0 {
            break;
        }
        reader.push(&bytes[..count])?;
        while let Some((item, _)) = reader.pop() {
            mentioned.note(&item);
        }
        progress.advance(count);
    }
    reader.finish()?;
    Ok(mentioned)
}

/// Reads a backup and the files that belong to it, all of them.
pub(super) async fn check_all(path: &Path) -> Result<Files, Failure> {
    let mentioned = check(path)?;
    Files::of(path, mentioned).await
}

/// The newest backup in a directory.
pub(super) fn newest(directory: &Path) -> Result<PathBuf, Failure> {
    let all = all(directory).map_err(|error| {
        Failure::new(
            FAILED,
            format!("{} cannot be read: {error}", directory.display()),
        )
    })?;
    all.into_iter().next_back().ok_or_else(|| {
        let shown = directory.display();
        Failure::new(
            FAILED,
            format!("there is no backup in {shown}: name its file"),
        )
    })
}

/// True for the name of a backup, and not for that of the list beside it.
fn is_name(name: &str) -> bool {
    let time = name
        .strip_prefix(NAME.0)
        .and_then(|name| name.strip_suffix(NAME.1));
    time.is_some_and(|time| !time.contains('.'))
}

/// The backups in a directory, the oldest first.
fn all(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if is_name(&name) {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn remove_older(directory: &Path, keep: u32) -> std::io::Result<()> {
    let mut all = all(directory)?;
    all.truncate(
        all.len()
            .saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX)),
    );
    all.into_iter().try_for_each(|backup| {
        match fs::remove_file(files::list_of(&backup)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::remove_file(backup)
    })
}

fn name() -> String {
    let time: String = SystemRuntime.now().to_string();
    let digits: String = time.chars().filter(|c| !"-:.".contains(*c)).collect();
    format!("{}{digits}{}", NAME.0, NAME.1)
}

/// A new file that only its owner can read.
fn private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

fn sync_directory(directory: &Path) -> std::io::Result<()> {
    if cfg!(unix) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn cannot_write(directory: &Path, error: &std::io::Error) -> Failure {
    let shown = directory.display();
    Failure::new(
        FAILED,
        format!("{shown} cannot be written: {error}; choose another directory, or make room"),
    )
}
