//! Where there are no Unix sockets: no server is ever reached, and none listens.

use std::io;

use tutor_core::store::Location;

use super::{Answer, Refusal, Request};
use crate::config::Opened;

/// No connection.
#[derive(Debug)]
pub enum Client {}

impl Client {
    /// There is never a server to connect to.
    pub async fn connect(_: &Location) -> Option<Self> {
        None
    }

    /// Says what to do.
    ///
    /// # Errors
    /// None: nobody has such a connection.
    pub async fn ask(&mut self, _: &Request) -> Result<(), Refusal> {
        match *self {}
    }

    /// Sends a part of what is to be imported.
    ///
    /// # Errors
    /// None: nobody has such a connection.
    pub async fn data(&mut self, _: &[u8]) -> Result<(), Refusal> {
        match *self {}
    }

    /// What comes next.
    ///
    /// # Errors
    /// None: nobody has such a connection.
    pub async fn next(&mut self) -> Result<Answer, Refusal> {
        match *self {}
    }
}

/// Nothing is listened to.
#[derive(Debug)]
pub enum Control {}

/// Listens to nobody.
///
/// # Errors
/// None.
pub fn listen(_: &Location, _: &Opened) -> io::Result<Option<Control>> {
    Ok(None)
}
