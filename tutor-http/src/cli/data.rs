//! Where a command finds the data: in a running server, else in its files.

use std::path::Path;
use std::sync::Arc;

use crate::config::{DataArgs, Vars};
use crate::control::{Answer, Client, Refusal, Request};
use tutor_core::ErrorKind;
use tutor_core::store::{Location, Store};
use tutor_core::transfer::{Counts, ExportOptions, Exporter};

use crate::people::Who;

use super::failure::{Failure, WRONG_CONFIGURATION};

/// The data of a command.
pub(super) enum Data {
    /// A server has it.
    Server(Client),
    /// Nobody has it, or it can be shared.
    Store(Arc<dyn Store>),
}

impl Data {
    /// Finds data that must be there.
    pub(super) async fn find(args: &DataArgs, vars: &Vars) -> Result<Self, Failure> {
        let location = args.locate(vars)?;
        if let Some(client) = Client::connect(&location).await {
            return Ok(Self::Server(client));
        }
        must_exist(&location)?;
        Ok(Self::Store(location.open().await?))
    }

    /// Finds data, or makes it.
    pub(super) async fn find_or_make(args: &DataArgs, vars: &Vars) -> Result<Self, Failure> {
        let location = args.locate(vars)?;
        match Client::connect(&location).await {
            Some(client) => Ok(Self::Server(client)),
            None => Ok(Self::Store(location.open().await?)),
        }
    }
}

/// Reading must not make an empty store and find nothing in it.
pub(super) fn must_exist(location: &Location) -> Result<(), Failure> {
    let is_there = match location {
        Location::Sled(directory) => directory.join("format").exists(),
        Location::Sqlite(file) => Path::new(file).exists(),
        Location::Memory => false,
        _ => true,
    };
    if is_there {
        return Ok(());
    }
    Err(Failure::new(
        WRONG_CONFIGURATION,
        format!("there is no data at {location}: say where it is by --data or DATABASE_URL"),
    ))
}

/// An export that comes from either.
pub(super) enum Export {
    Server(Client, Counts, [u64; 2]),
    Store(Box<Exporter>),
}

impl Export {
    /// Of one owner, or of all.
    pub(super) async fn begin(
        data: Data,
        who: Option<Who>,
        mut options: ExportOptions,
    ) -> Result<Self, Failure> {
        match data {
            Data::Store(store) => {
                options.owner = Who::owner_of(who.as_ref(), &store).await?;
                Ok(Self::Store(Box::new(Exporter::new(store, options))))
            }
            Data::Server(mut client) => {
                let ExportOptions {
                    since,
                    skip_damaged,
                    ..
                } = options;
                client
                    .ask(&Request::Export {
                        owner: who,
                        since,
                        skip_damaged,
                    })
                    .await?;
                Ok(Self::Server(client, Counts::default(), [0; 2]))
            }
        }
    }

    /// Some more lines; `None` after the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Store(exporter) => Ok(exporter.next().await?),
            Self::Server(client, counts, skipped) => loop {
                match client.next().await? {
                    Answer::Data(bytes) => return Ok(Some(bytes)),
                    Answer::Progress(so_far) => {
                        *counts = serde_json::from_value(so_far).unwrap_or(*counts);
                    }
                    Answer::Done(done) => {
                        *counts = serde_json::from_value(done["counts"].clone()).unwrap_or(*counts);
                        *skipped = ["skipped", "skipped_records"]
                            .map(|name| done[name].as_u64().unwrap_or(0));
                        return Ok(None);
                    }
                }
            },
        }
    }

    pub(super) fn counts(&self) -> Counts {
        match self {
            Self::Store(exporter) => exporter.counts(),
            Self::Server(_, counts, _) => *counts,
        }
    }

    /// How many damaged sessions, and records, were left out.
    pub(super) fn skipped(&self) -> [u64; 2] {
        match self {
            Self::Store(exporter) => [exporter.skipped().len() as u64, exporter.skipped_records()],
            Self::Server(_, _, skipped) => *skipped,
        }
    }
}

/// Waits for a server to be done, and tells how far it is.
pub(super) async fn wait(
    client: &mut Client,
    mut progress: impl FnMut(&serde_json::Value),
) -> Result<serde_json::Value, Failure> {
    loop {
        match client.next().await? {
            Answer::Done(done) => return Ok(done),
            Answer::Progress(so_far) => progress(&so_far),
            Answer::Data(_) => {}
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let kind = ErrorKind::from_code(&refusal.code).unwrap_or(ErrorKind::Internal);
        Self::of_kind(kind, refusal.message)
    }
}

/// The server said what no server of this version says.
pub(super) fn nonsense() -> Failure {
    Failure::new(
        super::failure::FAILED,
        "the server answers in a way that is not understood: use a program of its version",
    )
}
