//! The server on real sockets.

mod client;
mod server;

mod captures;
mod chat;
mod stream;
