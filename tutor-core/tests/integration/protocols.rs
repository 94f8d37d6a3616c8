//! What the protocols of providers are fed: recorded traffic, the tables of what servers do, and what
//! no server should.

mod fixtures;
mod hostility;
#[cfg(target_os = "linux")]
mod memory;
mod tables;
mod transport;
