//! The one task that writes: it takes what is waiting, makes it in one transaction, each write in a
//! savepoint of its own, and then answers all. A lone writer never waits for company; the sync of
//! one group is the time in which the next gathers.

use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};

use super::open::Opened;
use crate::error::{Error, ErrorKind, Result};
use crate::store::sql::connection::Connection;
use crate::store::sql::fault;
use crate::store::{WriteCount, rules};

/// The most writes that wait for the writer; who comes later waits for a place.
pub(super) const MAX_QUEUE: usize = 1024;
/// The most writes of one group.
const MAX_GROUP: usize = 64;

/// Work for the writer.
pub(super) enum Job {
    Write(Write),
    Close(oneshot::Sender<Result<()>>),
}

/// One write, still to be made: in this connection, or not at all because of this error.
pub(super) struct Write(Box<Make>);

type Make = dyn for<'c> FnOnce(Result<Connection<'c>>) -> BoxFuture<'c, Made> + Send;

/// A write that is in the transaction, or failed.
struct Made {
    failure: Option<Error>,
    answer: Answer,
}

/// Tells the caller how it went, once it is known whether the group was written.
type Answer = Box<dyn FnOnce(Result<()>) + Send>;

impl Write {
    /// A write, and where its result will be. The result is dropped if the writer ends.
    pub(super) fn new<T, W>(work: W) -> (Self, oneshot::Receiver<Result<T>>)
    where
        T: Send + 'static,
        W: for<'c> FnOnce(Connection<'c>) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let write = Self::boxed(move |connection| {
            let working = connection.map(work);
            Box::pin(async move {
                let result = match working {
                    Ok(working) => working.await,
                    Err(error) => Err(error),
                };
                let failure = result.as_ref().err().cloned();
                let answer = move |group: Result<()>| {
                    let answered = result.and_then(|value| group.map(|()| value));
                    // Nobody may wait for it any more.
                    let _ = sender.send(answered);
                };
                Made {
                    failure,
                    answer: Box::new(answer),
                }
            })
        });
        (write, receiver)
    }

    fn boxed<M>(make: M) -> Self
    where
        M: for<'c> FnOnce(Result<Connection<'c>>) -> BoxFuture<'c, Made> + Send + 'static,
    {
        Self(Box::new(make))
    }
}

/// Why a store is not used any more, and what it has written.
#[derive(Debug, Default)]
pub(super) struct Shared {
    end: OnceLock<End>,
    pub(super) written: WriteCount,
}

#[derive(Debug)]
enum End {
    Closed,
    Failed,
}

impl Shared {
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.end.get(), Some(End::Closed))
    }

    pub(super) fn check(&self) -> Result<()> {
        match self.end.get() {
            None => Ok(()),
            Some(_) => Err(self.gone()),
        }
    }

    /// Why there is no answer.
    pub(super) fn gone(&self) -> Error {
        let unavailable = |message| Error::new(ErrorKind::StoreUnavailable, message);
        match self.end.get() {
            Some(End::Closed) => rules::closed(),
            Some(End::Failed) => {
                unavailable("a sync of the database file failed: check the disk and reopen it")
            }
            None => unavailable("the runtime that the store was opened on has ended"),
        }
    }

    fn end(&self, end: End) {
        // The first reason stays.
        let _ = self.end.set(end);
    }
}

/// Works until the store is closed, has failed, or nobody holds it any more.
pub(super) async fn run(mut opened: Opened, shared: Arc<Shared>, mut jobs: mpsc::Receiver<Job>) {
    let mut close = None;
    while close.is_none() {
        match jobs.recv().await {
            Some(Job::Write(write)) => {
                let failed = write_group(
                    &mut opened.writer,
                    write,
                    &mut jobs,
                    &mut close,
                    &shared.written,
                )
                .await;
                if failed.as_ref().is_err_and(fault::is_failed_sync) {
                    tracing::error!(path = %opened.file.display(), "a sync failed: the store must be reopened");
                    shared.end(End::Failed);
                    break;
                }
            }
            Some(Job::Close(answer)) => close = Some(answer),
            None => break,
        }
    }
    shared.end(End::Closed);
    opened.readers.close().await;
    let closed = opened.writer.close().await.map_err(fault::of);
    // Only now may others have the file.
    drop(opened.lock);
    if let Some(answer) = close {
        // Nobody may wait for it any more.
        let _ = answer.send(closed);
    }
}

/// Makes this write and those that wait behind it, and answers them. Notes the wish to close that
/// came among them.
async fn write_group(
    writer: &mut SqliteConnection,
    first: Write,
    jobs: &mut mpsc::Receiver<Job>,
    close: &mut Option<oneshot::Sender<Result<()>>>,
    count: &WriteCount,
) -> Result<()> {
    if let Err(error) = statement(writer, "BEGIN IMMEDIATE").await {
        let made = (first.0)(Err(error.clone())).await;
        (made.answer)(Err(error.clone()));
        return Err(error);
    }
    let mut answers = Vec::new();
    let written = async {
        let mut next = Some(first);
        while let Some(Write(make)) = next {
            let begun = statement(writer, "SAVEPOINT one").await;
            let made = make(begun.map(|()| Connection::Sqlite(writer))).await;
            answers.push(made.answer);
            if let Some(failure) = made.failure {
                // After some errors SQLite has rolled back everything: then all fail for the same
                // reason.
                let undone = statement(writer, "ROLLBACK TO one").await;
                undone.map_err(|_| failure)?;
            }
            statement(writer, "RELEASE one").await?;
            next = if answers.len() == MAX_GROUP {
                None
            } else {
                take_next(jobs, close)
            };
        }
        statement(writer, "COMMIT").await
    };
    let written = written.await;
    if written.is_err() {
        // Fails if there is nothing left to roll back, which is as well.
        let _ = statement(writer, "ROLLBACK").await;
    } else {
        count.add(answers.len());
    }
    for answer in answers {
        answer(written.clone());
    }
    written
}

fn take_next(
    jobs: &mut mpsc::Receiver<Job>,
    close: &mut Option<oneshot::Sender<Result<()>>>,
) -> Option<Write> {
    match jobs.try_recv().ok()? {
        Job::Write(write) => Some(write),
        Job::Close(answer) => {
            *close = Some(answer);
            None
        }
    }
}

async fn statement(writer: &mut SqliteConnection, sql: &'static str) -> Result<()> {
    Connection::Sqlite(writer).execute(sql, Vec::new()).await?;
    Ok(())
}
