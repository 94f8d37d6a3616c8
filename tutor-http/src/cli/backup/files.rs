//! Uploaded files of a backup: their bytes, once for all backups in a directory, and beside each
//! backup a list of those that belong to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tutor_core::file::{FILE_RECORDS, FileInfo, FileStore};
use tutor_core::store::MemoryStore;
use tutor_core::transfer::Item;
use tutor_core::{ErrorKind, OwnerId};

use crate::cli::failure::{FAILED, Failure, INPUT_REFUSED};
use crate::cli::progress::Progress;

/// Where the bytes are, in the directory of backups.
const BYTES: &str = "files";

/// How the list beside a backup ends.
const LIST: &str = "files.ndjson";

/// A file that belongs to a backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::cli) struct Listed {
    owner: OwnerId,
    #[serde(flatten)]
    info: FileInfo,
    /// In hexadecimal digits.
    sha256: String,
}

/// The files that an export speaks of.
#[derive(Debug, Default)]
pub(in crate::cli) struct Mentioned(Vec<(OwnerId, FileInfo)>);

impl Mentioned {
    /// Notes what an item of the export says of a file.
    pub(in crate::cli) fn note(&mut self, item: &Item) {
        let Item::Record { kind, key, value } = item else {
            return;
        };
        let owner = key.split_once('/').map(|(owner, _)| OwnerId::new(owner));
        if kind == FILE_RECORDS
            && let Some(Ok(owner)) = owner
            && let Ok(info) = serde_json::from_slice(value)
        {
            self.0.push((owner, info));
        }
    }
}

/// The list that belongs to a backup.
pub(super) fn list_of(backup: &Path) -> PathBuf {
    backup.with_extension(LIST)
}

fn bytes_in(directory: &Path) -> Result<FileStore, Failure> {
    Ok(FileStore::directory(
        directory.join(BYTES),
        Arc::new(MemoryStore::new()),
    )?)
}

fn sum(bytes: &[u8]) -> String {
    let sum = digest(&SHA256, bytes);
    sum.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Copies what is not there yet, and writes the list to `list`, if there are files. Says how many
/// there are, and how many were deleted meanwhile.
pub(super) async fn copy(
    mentioned: Mentioned,
    from: Option<&FileStore>,
    directory: &Path,
    list: &Path,
) -> Result<(usize, usize), Failure> {
    let Some(from) = from.filter(|_| !mentioned.0.is_empty()) else {
        return Ok((0, mentioned.0.len()));
    };
    let to = bytes_in(directory)?;
    let known: BTreeMap<(OwnerId, String), Listed> = all_listed(directory)?
        .into_iter()
        .map(|listed| ((listed.owner.clone(), listed.info.id.clone()), listed))
        .collect();
    let held: BTreeSet<(OwnerId, String, u64)> = to.held_bytes().await?.into_iter().collect();
    let progress = Progress::new("copying files");
    let (mut lines, mut count, mut gone) = (Vec::new(), 0, 0);
    for (owner, info) in mentioned.0 {
        let place = (owner.clone(), info.id.clone());
        let is_held = held.contains(&(owner.clone(), info.id.clone(), info.bytes));
        let listed = match known.get(&place).filter(|_| is_held) {
            // A file never changes.
            Some(listed) => listed.clone(),
            None => {
                let bytes = match from.read(&owner, &info).await {
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        gone += 1;
                        continue;
                    }
                    bytes => bytes?,
                };
                let sha256 = sum(&bytes);
                to.put_back(&owner, &info.id, bytes).await?;
                Listed {
                    owner,
                    info,
                    sha256,
                }
            }
        };
        count += 1;
        progress.say(format!("{count} files"));
        // What was read from JSON can be written as JSON.
        lines.extend(serde_json::to_vec(&listed).unwrap_or_default());
        lines.push(b'\n');
    }
    let written = super::private(list).and_then(|mut file| {
        file.write_all(&lines)?;
        file.sync_all()
    });
    written.map_err(|error| super::cannot_write(directory, &error))?;
    Ok((count, gone))
}

/// All files that any backup in a directory has.
fn all_listed(directory: &Path) -> Result<Vec<Listed>, Failure> {
    let fail = |error| super::cannot_write(directory, &error);
    let mut listed = Vec::new();
    for backup in super::all(directory).map_err(fail)? {
        listed.extend(read(&list_of(&backup))?);
    }
    Ok(listed)
}

/// What a list says; nothing if there is none.
fn read(list: &Path) -> Result<Vec<Listed>, Failure> {
    let file = match fs::File::open(list) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.map_err(|error| unreadable(list, &error))?,
    };
    let lines = BufReader::new(file).lines();
    let read = lines.map(|line| {
        let line = line.map_err(|error| unreadable(list, &error))?;
        serde_json::from_str(&line).map_err(|_| {
            let shown = list.display();
            Failure::new(
                INPUT_REFUSED,
                format!("{shown} is damaged: use another backup"),
            )
        })
    });
    read.collect()
}

/// Removes bytes that no backup has any more.
pub(super) async fn prune(directory: &Path) -> Result<(), Failure> {
    if !directory.join(BYTES).exists() {
        return Ok(());
    }
    let listed = all_listed(directory)?;
    let listed: BTreeSet<_> = listed.into_iter().map(|l| (l.owner, l.info.id)).collect();
    let bytes = bytes_in(directory)?;
    for (owner, id, _) in bytes.held_bytes().await? {
        let file = (owner, id);
        if !listed.contains(&file) {
            bytes.drop_bytes(&file.0, &file.1).await?;
        }
    }
    Ok(())
}

/// The files of a backup, with bytes that were checked.
pub(in crate::cli) struct Files {
    directory: PathBuf,
    listed: Vec<Listed>,
    /// What its data speaks of.
    mentioned: Mentioned,
    has_list: bool,
}

impl Files {
    /// Reads and checks all files that belong to a backup.
    pub(in crate::cli) async fn of(backup: &Path, mentioned: Mentioned) -> Result<Self, Failure> {
        let list = list_of(backup);
        let files = Self {
            directory: backup.parent().unwrap_or(Path::new("")).to_owned(),
            listed: read(&list)?,
            has_list: list.exists(),
            mentioned,
        };
        files.each(async |_, _| Ok(())).await?;
        Ok(files)
    }

    pub(in crate::cli) fn len(&self) -> usize {
        self.listed.len()
    }

    /// True if the data speaks of files, and their bytes were left out of the backup.
    pub(in crate::cli) fn are_elsewhere(&self) -> bool {
        !self.has_list && !self.mentioned.0.is_empty()
    }

    /// Removes all bytes of files that the data does not speak of. Says how many there were.
    pub(in crate::cli) async fn drop_others(&self, from: &FileStore) -> Result<usize, Failure> {
        let known = self.mentioned.0.iter();
        let known: BTreeSet<_> = known
            .map(|(owner, info)| (owner, info.id.as_str()))
            .collect();
        let mut dropped = 0;
        for (owner, id, _) in from.held_bytes().await? {
            if !known.contains(&(&owner, id.as_str())) {
                from.drop_bytes(&owner, &id).await?;
                dropped += 1;
            }
        }
        Ok(dropped)
    }

    /// Puts them to where the server looks for them.
    pub(in crate::cli) async fn restore(&self, to: &FileStore) -> Result<(), Failure> {
        self.each(async |listed, bytes| {
            Ok(to.put_back(&listed.owner, &listed.info.id, bytes).await?)
        })
        .await
    }

    async fn each(
        &self,
        mut act: impl AsyncFnMut(&Listed, bytes::Bytes) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.listed.is_empty() {
            return Ok(());
        }
        let from = bytes_in(&self.directory)?;
        let progress = Progress::new("files");
        for (n, listed) in self.listed.iter().enumerate() {
            let bytes = from.read(&listed.owner, &listed.info).await?;
            if sum(&bytes) != listed.sha256 {
                let id = &listed.info.id;
                return Err(Failure::new(
                    INPUT_REFUSED,
                    format!("the file {id} of this backup is damaged: use another backup"),
                ));
            }
            act(listed, bytes).await?;
            progress.say(format!("{n} files"));
        }
        Ok(())
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        FAILED,
        format!("{} cannot be read: {error}", path.display()),
    )
}
