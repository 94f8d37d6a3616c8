//! All integration tests of the crate, in one binary.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

#[cfg(all(feature = "provider-openai", feature = "provider-anthropic"))]
mod adapters;
mod boundaries;
mod buses;
#[cfg(all(unix, feature = "store-sled"))]
mod crash;
#[cfg(all(unix, feature = "store-sled"))]
mod damage;
mod faces;
mod foreign;
mod instances;
mod laws;
#[cfg(feature = "store-sqlite")]
mod database_files;
#[cfg(any(feature = "store-sqlite", feature = "store-postgres"))]
mod original;
#[cfg(feature = "store-postgres")]
mod outages;
#[cfg(all(unix, feature = "store-sled", feature = "store-sqlite"))]
mod permissions;
#[cfg(feature = "store-postgres")]
mod postgres;
mod plugins;
#[cfg(all(
    feature = "provider-openai",
    feature = "provider-anthropic",
    feature = "provider-responses",
    feature = "provider-gemini",
    feature = "provider-ollama"
))]
mod protocols;
mod providers;
#[cfg(feature = "bus-redis")]
mod redis;
#[cfg(feature = "store-sled")]
mod scenarios;
#[cfg(any(feature = "store-postgres", feature = "bus-redis"))]
mod services;
mod simulation;
mod stores;
mod support;
mod tidy;
mod transfer;
mod turns;
mod verify;
