//! The server's end of the socket.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tutor_core::file::FileStore;
use tutor_core::store::{Documents, Location, RecordStore, Store, verify, verify::Verified};
use tutor_core::time::{Runtime as _, SystemRuntime};
use tutor_core::transfer::{Counts, ExportOptions, Exporter, ImportOptions, Importer, OnConflict};
use tutor_core::usage::UsageQuery;
use tutor_core::{Error, Result, Tutor};

use super::accounts::{self, Accounts, Told};
use super::frame::{self, Kind};
use super::report::{imported, verified};
use super::{Refusal, Request, path};
use crate::config::Opened;
use crate::people::{Who, secret, shut_out, stop_all};
use crate::usage::Pages;

/// Commands that are done at a time; more wait.
const MAX_COMMANDS: usize = 4;

/// After how many things the client is told how far it is.
const PROGRESS_STEP: u64 = 100;

/// A socket that is listened to. Dropping it removes it.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        // If it is not there any more, all is well.
        let _ = fs::remove_file(&self.path);
    }
}

/// Listens to the commands of the one who owns the data's files. `None` where nobody needs it.
///
/// # Errors
/// Errors of the file system.
pub fn listen(location: &Location, opened: &Opened) -> io::Result<Option<Control>> {
    let opened = opened.clone();
    let Some(path) = path::socket(location) else {
        return Ok(None);
    };
    let path = std::path::absolute(path)?;
    // The data is ours alone, so what is there was left by a server that was killed.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (short, _open) = path::short(&path)?;
    let listener = UnixListener::bind(short)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let owner = fs::metadata(&path)?.uid();
    let commands = Arc::new(Semaphore::new(MAX_COMMANDS));
    let task = tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let is_owners = stream
                .peer_cred()
                .is_ok_and(|peer| peer.uid() == owner || peer.uid() == 0);
            if !is_owners {
                continue;
            }
            let Ok(permit) = Arc::clone(&commands).acquire_owned().await else {
                return;
            };
            let opened = opened.clone();
            tokio::spawn(async move {
                let _permit = permit;
                // A client that goes away hears nothing, and that is all.
                let _ = answer(stream, opened).await;
            });
        }
    });
    Ok(Some(Control { path, task }))
}

async fn answer(mut stream: UnixStream, opened: Opened) -> io::Result<()> {
    let (kind, bytes) = frame::read(&mut stream).await?;
    let request = match kind {
        Kind::Request => serde_json::from_slice(&bytes).ok(),
        _ => None,
    };
    let done = match request {
        None => Err(Error::invalid_input(
            "the server does not know this command: use a program of its version",
        )),
        Some(request) => {
            tracing::info!(?request, "a command");
            perform(request, &mut stream, opened).await?
        }
    };
    match done {
        Ok(done) => frame::write(&mut stream, Kind::Done, done.to_string().as_bytes()).await,
        Err(error) => {
            let refusal = serde_json::to_vec(&Refusal::from(error)).unwrap_or_default();
            frame::write(&mut stream, Kind::Refused, &refusal).await
        }
    }
}

/// The outer error is the connection's, the inner one the command's.
async fn perform(
    request: Request,
    stream: &mut UnixStream,
    Opened {
        tutor,
        store,
        files,
        ..
    }: Opened,
) -> io::Result<Result<Value>> {
    let who = match &request {
        Request::Export { owner, .. }
        | Request::Import { owner, .. }
        | Request::Usage { owner, .. } => owner.as_ref(),
        _ => None,
    };
    let owner = match Who::owner_of(who, &store).await {
        Ok(owner) => owner,
        Err(error) => return Ok(Err(error)),
    };
    match request {
        Request::Export {
            since,
            skip_damaged,
            ..
        } => {
            let options = ExportOptions {
                owner,
                since,
                skip_damaged,
                ..ExportOptions::default()
            };
            export(Exporter::new(store, options), stream).await
        }
        Request::Import { on_conflict, .. } => {
            let on_conflict = match on_conflict.as_str() {
                "keep" => OnConflict::Keep,
                "replace" => OnConflict::Replace,
                _ => OnConflict::Fail,
            };
            let importer = Importer::new(store, ImportOptions { on_conflict, owner });
            import(importer, stream).await
        }
        Request::Verify => {
            let found = tell(stream, move |sender| async move {
                verify(&store, &mut |found: &Verified| {
                    let _ = sender.try_send(json!({"sessions": found.sessions}));
                })
                .await
            });
            Ok(found.await?.map(|found| verified(&found)))
        }
        Request::Usage { from, to, .. } => {
            let query = UsageQuery {
                owner,
                from,
                to,
                ..UsageQuery::default()
            };
            usage(&store, &tutor, query, stream).await
        }
        Request::Accounts(what) => {
            let done = perform_on_accounts(store, &tutor, what).await;
            Ok(done.map(|accounts| json!({ "accounts": accounts })))
        }
        Request::RotateKeys { at_once } => Ok(rotate_keys(store, at_once).await),
        Request::Erase { owner } => Ok(erase(&store, &files, &tutor, &owner).await),
    }
}

async fn export(mut exporter: Exporter, stream: &mut UnixStream) -> io::Result<Result<Value>> {
    loop {
        match exporter.next().await {
            Err(error) => return Ok(Err(error)),
            Ok(None) => {
                return Ok(Ok(json!({
                    "counts": exporter.counts(),
                    "skipped": exporter.skipped().len(),
                    "skipped_records": exporter.skipped_records(),
                })));
            }
            Ok(Some(lines)) => {
                frame::write(stream, Kind::Data, &lines).await?;
                progress(stream, exporter.counts()).await?;
            }
        }
    }
}

async fn usage(
    store: &Arc<dyn Store>,
    tutor: &Tutor,
    query: UsageQuery,
    stream: &mut UnixStream,
) -> io::Result<Result<Value>> {
    if let Err(error) = tutor.flush_usage().await {
        return Ok(Err(error));
    }
    let records: &dyn RecordStore = store;
    let mut pages = Pages::new(records, query);
    loop {
        match pages.next().await {
            Err(error) => return Ok(Err(error)),
            Ok(None) => return Ok(Ok(json!({}))),
            Ok(Some(days)) => {
                // Ids and numbers always serialize.
                let lines = days.iter().filter_map(|day| serde_json::to_vec(day).ok());
                let lines: Vec<u8> = lines.flatten().collect();
                if !lines.is_empty() {
                    frame::write(stream, Kind::Data, &lines).await?;
                }
            }
        }
    }
}

async fn import(mut importer: Importer, stream: &mut UnixStream) -> io::Result<Result<Value>> {
    loop {
        match frame::read(stream).await? {
            (Kind::Data, bytes) => {
                if let Err(error) = importer.write(&bytes).await {
                    return Ok(Err(error));
                }
            }
            (Kind::Done, _) => return Ok(importer.finish().await.map(|done| imported(&done))),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

async fn progress(stream: &mut UnixStream, counts: Counts) -> io::Result<()> {
    let counts = serde_json::to_vec(&counts).unwrap_or_default();
    frame::write(stream, Kind::Progress, &counts).await
}

/// Works, and meanwhile tells the client what the work tells.
async fn tell<T, W: Future<Output = Result<T>>>(
    stream: &mut UnixStream,
    work: impl FnOnce(tokio::sync::mpsc::Sender<Value>) -> W,
) -> io::Result<Result<T>> {
    // What does not fit is not told: the next one says more.
    let (sender, mut told) = tokio::sync::mpsc::channel(1);
    let mut work = std::pin::pin!(work(sender));
    let mut count = 0;
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            Some(value) = told.recv() => {
                if count % PROGRESS_STEP == 0 {
                    let value = value.to_string();
                    frame::write(stream, Kind::Progress, value.as_bytes()).await?;
                }
                count += 1;
            }
        }
    }
}

async fn perform_on_accounts(
    store: Arc<dyn Store>,
    tutor: &Tutor,
    what: Accounts,
) -> Result<Vec<Told>> {
    let told = accounts::perform(store, what).await?;
    for account in told.iter().filter(|account| account.disabled) {
        stop_all(tutor, &account.id).await?;
    }
    Ok(told)
}

async fn rotate_keys(store: Arc<dyn Store>, at_once: bool) -> Result<Value> {
    let documents = Documents::new(store);
    let keys = secret::rotate(&documents, SystemRuntime.now(), at_once).await?;
    Ok(json!({ "keys": keys }))
}

async fn erase(
    store: &Arc<dyn Store>,
    files: &FileStore,
    tutor: &Tutor,
    who: &Who,
) -> Result<Value> {
    let theirs = tutor.for_owner(who.owner(store).await?);
    shut_out(store, theirs.owner()).await?;
    let uploads = files.erase(theirs.owner()).await?;
    let erased = theirs.erase(store).await?;
    Ok(json!({"sessions": erased.sessions, "records": erased.records + uploads}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_by_its_code() {
        let refusal = Refusal::from(Error::not_found("session", "s1"));
        assert_eq!(refusal.code, tutor_core::ErrorKind::NotFound.code());
        assert_eq!(refusal.message, "no such session (session: s1)");
    }
}
