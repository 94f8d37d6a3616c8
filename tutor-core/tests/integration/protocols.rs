//! What the protocols of providers are fed: recorded traffic, the tables of what servers do, and what
//! no server should.

mod fixtures;
mod hostility;
#[cfg(target_os = "linux")]
mod http2;
#[cfg(target_os = "linux")]
mod memory;
mod tables;
mod transport;

/// Runs one test of this binary again, in a process of its own with these variables.
#[cfg(target_os = "linux")]
fn again(test: &str, variables: &[(&str, &str)]) -> std::process::Output {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}
