//! The store in a database file: one process writes, others may read beside it.

mod open;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::SqlitePool;
use tokio::sync::{mpsc, oneshot};

use self::writer::{Job, Shared, Write};
use super::connection::{Connection, damaged};
use super::{Access, Engine, SqlStore, fault};
use crate::error::{Error, ErrorKind, Result};
use crate::store::migration::MigrationPlan;
use crate::store::{Durability, StorageCheck, StoreInfo};

/// A store in an SQLite file, used by one process at a time; others may read the file meanwhile.
///
/// Clones share the store. It closes when the last one is dropped;
/// [`SessionStore::close`](crate::SessionStore::close) also waits for that.
///
/// # Durability
/// What was acknowledged survives the end of the process by any means and power loss, on a disk
/// that honors flushes: the file is written with a write-ahead log and `synchronous=FULL`. Damage
/// to the files themselves (bit rot, truncation) can cost what came since the last backup. A failed
/// sync fails the store: nothing is acknowledged or read until it is opened again. On a full disk
/// writes fail and reads go on; they succeed again when there is room.
pub type SqliteStore = SqlStore<SqliteEngine>;

impl SqliteStore {
    /// Opens the database file, makes it if there is none, and migrates its schema to the newest
    /// version. A file of the original system keeps its conversations, which get the owner
    /// `local`.
    ///
    /// # Errors
    /// * `store_locked` if a process uses it; the context has its `path` and `pid`.
    /// * `store_unavailable` if the file cannot be used.
    /// * `data_corrupt` if it is no database, damaged, or of a newer version.
    /// * `config` if the path is a directory, or in none.
    pub async fn open(file: impl AsRef<Path>) -> Result<Self> {
        SqliteEngine::open(file.as_ref()).await.map(Self)
    }

    /// What a migration of this file to a version, by default the newest, has to do. Unless
    /// `dry_run` is set it is done.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); `config` for a version that does not exist or was passed.
    pub async fn migrate(
        file: impl AsRef<Path>,
        to: Option<u32>,
        dry_run: bool,
    ) -> Result<MigrationPlan> {
        open::migrate(file.as_ref(), to, dry_run).await
    }
}

/// The connections of a [`SqliteStore`].
#[derive(Clone)]
pub struct SqliteEngine {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    readers: SqlitePool,
    file: PathBuf,
}

impl fmt::Debug for SqliteEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteEngine")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl SqliteEngine {
    async fn open(file: &Path) -> Result<Self> {
        let opened = open::open(file).await?;
        let (jobs, waiting) = mpsc::channel(writer::MAX_QUEUE);
        let shared = Arc::new(Shared::default());
        let engine = Self {
            shared: Arc::clone(&shared),
            jobs,
            readers: opened.readers.clone(),
            file: opened.file.clone(),
        };
        tokio::spawn(writer::run(opened, shared, waiting));
        Ok(engine)
    }

    async fn read<T, W>(&self, access: Access, work: W) -> Result<T>
    where
        W: for<'c> FnOnce(Connection<'c>) -> BoxFuture<'c, Result<T>>,
    {
        self.shared.check()?;
        if access == Access::Snapshot {
            let mut transaction = self.readers.begin().await.map_err(fault::of)?;
            let result = work(Connection::Sqlite(&mut transaction)).await;
            // Nothing was written.
            transaction.rollback().await.map_err(fault::of)?;
            return result;
        }
        let mut connection = self.readers.acquire().await.map_err(fault::of)?;
        work(Connection::Sqlite(&mut connection)).await
    }

    /// What the writer answers when it is there, else why it is not.
    async fn ask<T>(&self, job: Job, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        if self.jobs.send(job).await.is_err() {
            return Err(self.shared.gone());
        }
        answer.await.unwrap_or_else(|_| Err(self.shared.gone()))
    }

    fn named(&self, error: Error) -> Error {
        open::named(error, &self.file)
    }
}

impl Engine for SqliteEngine {
    fn info(&self) -> StoreInfo {
        StoreInfo {
            name: "sqlite".to_owned(),
            location: self.file.display().to_string(),
            durability: Durability::Power,
            exclusive: true,
            written: self.shared.written.read(),
        }
    }

    async fn run<T, W>(&self, access: Access, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(Connection<'c>) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        let result = if access == Access::Write {
            let (write, answer) = Write::new(work);
            self.ask(Job::Write(write), answer).await
        } else {
            self.read(access, work).await
        };
        result.map_err(|error| self.named(error))
    }

    async fn check(&self) -> Result<StorageCheck> {
        self.run(Access::Snapshot, |mut connection| {
            Box::pin(async move { check(&mut connection).await })
        })
        .await
    }

    async fn close(&self) -> Result<()> {
        if self.shared.is_closed() {
            return Ok(());
        }
        let (sender, answer) = oneshot::channel();
        let closed = self.ask(Job::Close(sender), answer).await;
        if self.shared.is_closed() {
            return Ok(());
        }
        closed.map_err(|error| self.named(error))
    }
}

/// The pages of the file, and SQLite's own check of them and of its indexes.
async fn check(connection: &mut Connection<'_>) -> Result<StorageCheck> {
    let pages = connection.expect_row("PRAGMA page_count", Vec::new());
    let pages = pages.await?.count(0)?;
    let page_size = connection.expect_row("PRAGMA page_size", Vec::new());
    let mut found = StorageCheck {
        bytes: pages * page_size.await?.count(0)?,
        ..StorageCheck::default()
    };
    match connection
        .rows("PRAGMA integrity_check(100)", Vec::new())
        .await
    {
        Err(error) if error.kind() == ErrorKind::DataCorrupt => found.problems.add(error),
        findings => {
            for row in findings? {
                // It names pages, rows and indexes, never what they hold.
                let finding = row.text(0)?;
                if finding != "ok" {
                    let wrong = damaged("a page or an index is wrong");
                    found.problems.add(wrong.with_context("finding", finding));
                }
            }
        }
    }
    let lost = connection.rows("PRAGMA foreign_key_check", Vec::new());
    match lost.await.map(|rows| rows.len()) {
        Err(error) if error.kind() == ErrorKind::DataCorrupt => found.problems.add(error),
        Ok(0) => {}
        lost => found
            .problems
            .add(damaged("rows belong to no session").with_context("rows", lost?)),
    }
    Ok(found)
}
