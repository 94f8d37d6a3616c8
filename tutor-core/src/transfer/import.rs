//! Importing an export into a store.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use serde::{Deserialize, Serialize};

use super::Counts;
use super::reader::{Item, Reader};
use crate::error::{Error, Result};
use crate::id::OwnerId;
use crate::message::{Content, Part};
use crate::store::{Existing, Expect, RecordStore, RecordWrite, SessionStore, Store, WholeSession};

/// The most writes that are made at a time, so that a store can make them durable together.
const MAX_WRITES: usize = 32;
/// The most messages of sessions that are being written.
const MAX_WAITING_MESSAGES: usize = 4096;

/// How to import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// What to do with what is there and differs.
    pub on_conflict: OnConflict,
    /// Everything becomes theirs. Records, whose keys name owners, are left out then.
    pub owner: Option<OwnerId>,
}

/// What to do with a session or record that is there and differs from the export's. What is equal
/// is always left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// Stop.
    #[default]
    Fail,
    /// Keep what is there.
    Keep,
    /// Take the export's.
    Replace,
}

/// What an import has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// What the export has.
    pub read: Counts,
    /// Sessions and records that were not there before.
    pub added: u64,
    /// Sessions and records that were there already, equal.
    pub unchanged: u64,
    /// Sessions and records that were there, differed, and were replaced.
    pub replaced: u64,
    /// Sessions and records that were there, differ, and were kept.
    pub kept: u64,
    /// Records that were left out since everything becomes one owner's.
    pub left_out: u64,
    /// Uploaded files that messages name. No export has their bytes: they are in a backup of the
    /// server, or have to be uploaded again.
    #[serde(skip_serializing_if = "is_zero")]
    pub files: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How many uploaded files messages name.
fn named_files(whole: &WholeSession) -> u64 {
    let parts = whole
        .messages
        .iter()
        .filter_map(|message| match &message.content {
            Content::Parts(parts) => Some(parts),
            Content::Text(_) => None,
        });
    let named = parts
        .flatten()
        .filter(|part| matches!(part, Part::File { .. }));
    named.count() as u64
}

/// An import that is being made.
///
/// Each session is written whole or not at all. Importing the same export again, or the rest of
/// one that was interrupted, does what is left to do. An incomplete export imports as far as it is
/// whole, and then fails.
#[derive(Debug)]
pub struct Importer {
    sessions: Arc<dyn SessionStore>,
    records: Option<Arc<dyn RecordStore>>,
    options: ImportOptions,
    reader: Reader,
    writes: FuturesOrdered<BoxFuture<'static, Result<Done>>>,
    waiting_messages: usize,
    imported: Imported,
}

/// A write that was made.
#[derive(Debug)]
struct Done {
    outcome: Outcome,
    messages: usize,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Added,
    Unchanged,
    Replaced,
    Kept,
}

impl Importer {
    /// An import into a whole backend.
    pub fn new(store: Arc<dyn Store>, options: ImportOptions) -> Self {
        let sessions: Arc<dyn SessionStore> = store.clone();
        Self::of(sessions, Some(store), options)
    }

    /// An import of conversations only: records are left out.
    pub fn of_sessions(store: Arc<dyn SessionStore>, options: ImportOptions) -> Self {
        Self::of(store, None, options)
    }

    fn of(
        sessions: Arc<dyn SessionStore>,
        records: Option<Arc<dyn RecordStore>>,
        options: ImportOptions,
    ) -> Self {
        Self {
            sessions,
            records,
            options,
            reader: Reader::new(),
            writes: FuturesOrdered::new(),
            waiting_messages: 0,
            imported: Imported::default(),
        }
    }

    /// Takes more bytes of the export, and imports what became whole by them.
    ///
    /// # Errors
    /// `invalid_input` for an export that is damaged, and `conflict` for what is there and
    /// differs, both with the `line` in the context; errors of the store. What was imported
    /// before stays.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        // What was whole before the damage is imported.
        let pushed = self.reader.push(bytes);
        while let Some((item, line)) = self.reader.pop() {
            let messages = match &item {
                Item::Session(whole) => whole.messages.len(),
                Item::Record { .. } => 0,
            };
            while self.writes.len() >= MAX_WRITES
                || (self.waiting_messages > 0
                    && self.waiting_messages + messages > MAX_WAITING_MESSAGES)
            {
                self.wait_for_one().await?;
            }
            if let Some(write) = self.begin(item) {
                self.waiting_messages += messages;
                self.writes.push_back(Box::pin(async move {
                    let outcome = write
                        .await
                        .map_err(|error: Error| error.with_context("line", line))?;
                    Ok(Done { outcome, messages })
                }));
            }
        }
        if let Err(error) = pushed {
            self.wait_for_all().await?;
            return Err(error);
        }
        Ok(())
    }

    /// Says that there are no more bytes, and tells what was done.
    ///
    /// # Errors
    /// `invalid_input` if the export is not whole; those of [`write`](Self::write).
    pub async fn finish(mut self) -> Result<Imported> {
        self.wait_for_all().await?;
        self.reader.finish()?;
        Ok(self.imported())
    }

    /// What has been done so far.
    pub fn imported(&self) -> Imported {
        Imported {
            read: self.reader.counts(),
            ..self.imported
        }
    }

    fn begin(&mut self, item: Item) -> Option<BoxFuture<'static, Result<Outcome>>> {
        let on_conflict = self.options.on_conflict;
        match (item, &self.records) {
            (Item::Session(mut whole), _) => {
                self.imported.files += named_files(&whole);
                if let Some(owner) = &self.options.owner {
                    whole.session.owner = owner.clone();
                    whole
                        .turns
                        .iter_mut()
                        .for_each(|turn| turn.owner = owner.clone());
                }
                let store = Arc::clone(&self.sessions);
                Some(Box::pin(import_session(store, *whole, on_conflict)))
            }
            (Item::Record { kind, key, value }, Some(store)) if self.options.owner.is_none() => {
                let store = Arc::clone(store);
                Some(Box::pin(import_record(
                    store,
                    kind,
                    key,
                    value,
                    on_conflict,
                )))
            }
            (Item::Record { .. }, _) => {
                self.imported.left_out += 1;
                None
            }
        }
    }

    async fn wait_for_all(&mut self) -> Result<()> {
        while !self.writes.is_empty() {
            self.wait_for_one().await?;
        }
        Ok(())
    }

    async fn wait_for_one(&mut self) -> Result<()> {
        let Some(done) = self.writes.next().await else {
            return Ok(());
        };
        let Done { outcome, messages } = done?;
        self.waiting_messages -= messages;
        let count = match outcome {
            Outcome::Added => &mut self.imported.added,
            Outcome::Unchanged => &mut self.imported.unchanged,
            Outcome::Replaced => &mut self.imported.replaced,
            Outcome::Kept => &mut self.imported.kept,
        };
        *count += 1;
        Ok(())
    }
}

async fn import_session(
    store: Arc<dyn SessionStore>,
    mut whole: WholeSession,
    on_conflict: OnConflict,
) -> Result<Outcome> {
    let key = whole.session.key();
    let Some(mut found) = store.whole_session(&key).await? else {
        store.import_session(whole, Existing::Refuse).await?;
        return Ok(Outcome::Added);
    };
    for session in [&mut found, &mut whole] {
        session.turns.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    }
    if found == whole {
        return Ok(Outcome::Unchanged);
    }
    match on_conflict {
        OnConflict::Keep => Ok(Outcome::Kept),
        OnConflict::Replace => {
            store.import_session(whole, Existing::Replace).await?;
            Ok(Outcome::Replaced)
        }
        OnConflict::Fail => Err(Error::conflict(
            "the session is there and differs from the export's: keep it, or replace it",
        )
        .with_context("owner", &key.owner)
        .with_context("session", &key.id)),
    }
}

async fn import_record(
    store: Arc<dyn RecordStore>,
    kind: String,
    key: String,
    value: Vec<u8>,
    on_conflict: OnConflict,
) -> Result<Outcome> {
    let found = store.get(&kind, &key).await?;
    let (expect, outcome) = match (&found, on_conflict) {
        (None, _) => (Expect::Absent, Outcome::Added),
        (Some(found), _) if found.value == value => return Ok(Outcome::Unchanged),
        (Some(_), OnConflict::Keep) => return Ok(Outcome::Kept),
        (Some(found), OnConflict::Replace) => (Expect::Version(found.version), Outcome::Replaced),
        (Some(_), OnConflict::Fail) => {
            return Err(Error::conflict(
                "a record is there and differs from the export's: keep it, or replace it",
            )
            .with_context("kind", &kind));
        }
    };
    let write = RecordWrite {
        kind,
        key,
        value: Some(value),
        expect,
    };
    store.commit(vec![write]).await?;
    Ok(outcome)
}
