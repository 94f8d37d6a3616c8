//! `neuro-tutor restore`: a backup into an empty place.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{DataArgs, FilesPlace, Vars};
use crate::control::Client;
use tutor_core::ErrorKind;
use tutor_core::store::{Location, SessionStore as _, SledStore, Store};
use tutor_core::time::{Runtime as _, SystemRuntime};
use tutor_core::transfer::{ImportOptions, Importer};

use super::backup::files::Files;
use super::failure::{DATA_NOT_USABLE, DONE, FAILED, Failure, WRONG_CONFIGURATION};
use super::output::note;
use super::progress::Progress;
use super::{backup, import, runtime};

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor restore /srv/backups                    the newest one there
  neuro-tutor restore /srv/backups/neuro-tutor-20261126T030000000000Z.ndjson --data sled:/srv/tutor
  neuro-tutor restore /srv/backups --replace          set a damaged store aside first

The whole backup is checked before anything is written. An interrupted restore is finished by
`neuro-tutor import` of the same file: uploaded files are put back first.
--replace sets a directory of uploaded files aside, too. In a bucket it removes, when all is
restored, the files that the backup does not know.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    data: DataArgs,
    /// A backup, or a directory with backups
    from: PathBuf,
    /// Rename the directory that is there, and restore into a new one
    #[arg(long)]
    replace: bool,
}

pub(super) fn run(args: Args, vars: &Vars) -> Result<u8, Failure> {
    runtime()?.block_on(async {
        let location = args.data.locate(vars)?;
        if location == Location::Memory {
            return Err(Failure::new(
                WRONG_CONFIGURATION,
                "memory is gone when this command ends: say where to restore to by --data",
            ));
        }
        if Client::connect(&location).await.is_some() {
            return Err(Failure::new(
                DATA_NOT_USABLE,
                format!("a server uses {location}: stop it, or name another place by --data"),
            ));
        }
        let path = if args.from.is_dir() {
            backup::newest(&args.from)?
        } else {
            args.from
        };
        let files = backup::check_all(&path).await?;
        let place = args.data.files_place(vars)?;
        if args.replace {
            set_aside(&location, &place, &files).await?;
        }
        let store = location.open().await?;
        must_be_empty(&*store, &location).await?;
        // Before what speaks of them.
        let uploads = match (&place, files.len()) {
            (FilesPlace::Bucket(_), _) | (_, 1..) => {
                Some(args.data.make_files(vars, Arc::clone(&store))?)
            }
            _ => None,
        };
        if let Some(to) = &uploads {
            files.restore(to).await?;
        }
        let progress = Progress::of_bytes("restoring", import::length(&path));
        let importer = Importer::new(store.clone(), ImportOptions::default());
        let mut done =
            import::into_store(importer, Box::new(import::open(&path)?), &progress).await?;
        let removed = match (&place, &uploads) {
            (FilesPlace::Bucket(_), Some(uploads)) if args.replace => {
                files.drop_others(uploads).await?
            }
            _ => 0,
        };
        store.close().await?;
        drop(progress);
        // They come with a backup.
        done["files"].take();
        let (told, count) = (import::told(&done), files.len());
        note(&format!(
            "{told}, and {count} uploaded files, from {}",
            path.display()
        ));
        if removed > 0 {
            note(&format!("removed {removed} other files from {place}"));
        }
        if files.are_elsewhere() {
            note(&format!(
                "this backup has no bytes of uploaded files: they have to be in {place}"
            ));
        }
        Ok(DONE)
    })
}

async fn must_be_empty(store: &dyn Store, location: &Location) -> Result<(), Failure> {
    if store.owners(None, 1).await?.is_empty() && store.kinds().await?.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        FAILED,
        format!(
            "{location} is not empty: add --replace to set it aside, or import the backup to add to it"
        ),
    ))
}

/// Renames the directory of a store that nobody uses, whatever state it is in, and with it that of
/// its uploaded files, unless the backup counts on them.
async fn set_aside(location: &Location, place: &FilesPlace, files: &Files) -> Result<(), Failure> {
    let Location::Sled(directory) = location else {
        return Err(Failure::new(
            WRONG_CONFIGURATION,
            "only a directory can be set aside: empty the database by its own tools",
        ));
    };
    if !directory.exists() {
        return Ok(());
    }
    if !directory.join("format").exists() {
        return Err(Failure::new(
            WRONG_CONFIGURATION,
            format!(
                "{} is no store: name another place by --data",
                directory.display()
            ),
        ));
    }
    match SledStore::open(directory).await {
        Ok(store) => store.close().await?,
        // That is why it is to be replaced.
        Err(error) if error.kind() == ErrorKind::DataCorrupt => {}
        Err(error) => return Err(error.into()),
    }
    let time = SystemRuntime.now().to_string();
    let directory = directory.as_path();
    let data = rename(directory, &time)?;
    let uploads = match place {
        FilesPlace::Directory(uploads) if uploads.exists() && !files.are_elsewhere() => {
            // All or nothing: the old data would lose its files.
            let renamed = rename(uploads, &time);
            let renamed = renamed.inspect_err(|_| drop(fs::rename(&data, directory)));
            Some((uploads.as_path(), renamed?))
        }
        _ => None,
    };
    let all = [Some((directory, data)), uploads];
    for (from, to) in all.into_iter().flatten() {
        note(&format!("set {} aside as {}", from.display(), to.display()));
    }
    Ok(())
}

fn rename(directory: &Path, time: &str) -> Result<PathBuf, Failure> {
    let aside = aside(directory, time);
    fs::rename(directory, &aside).map_err(|error| {
        let shown = directory.display();
        Failure::new(FAILED, format!("{shown} cannot be renamed: {error}"))
    })?;
    Ok(aside)
}

fn aside(directory: &Path, time: &str) -> PathBuf {
    let digits: String = time.chars().filter(|c| !"-:.".contains(*c)).collect();
    let mut name = directory.components().as_path().as_os_str().to_owned();
    name.push(format!(".replaced-{digits}"));
    name.into()
}
