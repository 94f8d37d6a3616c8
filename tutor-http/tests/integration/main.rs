//! The server on real sockets.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod binary;
mod client;
mod server;
mod services;

mod abuse;
mod bucket;
mod canaries;
mod captures;
mod chat;
mod clocks;
mod config;
mod damage;
mod databases;
mod doctor;
mod drain;
mod cli;
mod edge;
mod faults;
mod files;
mod hostile;
mod instances;
mod identity;
mod input;
mod issuers;
mod opinions;
mod proxied;
mod quotas;
mod secrets;
mod slow;
mod strangers;
mod tools;
mod limits;
mod moving;
mod matrix;
mod metrics;
mod openapi;
mod people;
mod portability;
mod random;
mod recorded;
mod reload;
mod sessions;
mod stream;
mod talking;
mod tls;
mod traces;
mod transcripts;
