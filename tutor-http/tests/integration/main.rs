//! The server on real sockets.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod binary;
mod client;
mod server;

mod captures;
mod chat;
mod config;
mod databases;
mod doctor;
mod cli;
mod edge;
mod limits;
mod moving;
mod openapi;
mod people;
mod portability;
mod recorded;
mod sessions;
mod stream;
