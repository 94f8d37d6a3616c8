//! A command's end of the socket.

use std::io;

use tokio::net::UnixStream;
use tutor_core::ErrorKind;
use tutor_core::store::Location;

use super::frame::{self, Kind};
use super::{Answer, Refusal, Request, path};

/// A connection to the server that has the data.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects to the server that has this data; `None` if there is none.
    pub async fn connect(location: &Location) -> Option<Self> {
        let (path, _open) = path::short(&path::socket(location)?).ok()?;
        let stream = UnixStream::connect(path).await.ok()?;
        Some(Self { stream })
    }

    /// Says what to do.
    ///
    /// # Errors
    /// A refusal if the server does not listen any more.
    pub async fn ask(&mut self, request: &Request) -> Result<(), Refusal> {
        let bytes = serde_json::to_vec(request).unwrap_or_default();
        self.send(Kind::Request, &bytes).await
    }

    /// Sends a part of what is to be imported; nothing for the end.
    ///
    /// # Errors
    /// Why the server takes no more.
    pub async fn data(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let kind = if bytes.is_empty() {
            Kind::Done
        } else {
            Kind::Data
        };
        self.send(kind, bytes).await
    }

    async fn send(&mut self, kind: Kind, bytes: &[u8]) -> Result<(), Refusal> {
        match frame::write(&mut self.stream, kind, bytes).await {
            Ok(()) => Ok(()),
            // It may have said why before it left.
            Err(error) => loop {
                match self.next().await {
                    Ok(Answer::Progress(_)) => {}
                    Ok(_) => return Err(gone(&error)),
                    Err(refusal) => return Err(refusal),
                }
            },
        }
    }

    /// What comes next.
    ///
    /// # Errors
    /// Why the server did not do it, or that it is gone.
    pub async fn next(&mut self) -> Result<Answer, Refusal> {
        let (kind, bytes) = frame::read(&mut self.stream).await.map_err(|e| gone(&e))?;
        let broken = |_| gone(&io::ErrorKind::InvalidData.into());
        Ok(match kind {
            Kind::Data => Answer::Data(bytes),
            Kind::Progress => Answer::Progress(serde_json::from_slice(&bytes).map_err(broken)?),
            Kind::Done => Answer::Done(serde_json::from_slice(&bytes).map_err(broken)?),
            Kind::Refused => return Err(serde_json::from_slice(&bytes).map_err(broken)?),
            Kind::Request => return Err(gone(&io::ErrorKind::InvalidData.into())),
        })
    }
}

fn gone(error: &io::Error) -> Refusal {
    Refusal {
        code: ErrorKind::Interrupted.code().to_owned(),
        message: format!("the server that has the data went away ({error}): run the command again"),
    }
}
