//! Standard output: data only.

use std::io::{self, Write};
use std::process::ExitCode;

use super::failure::Failure;

/// Writes all of it.
pub(super) fn print(bytes: &[u8]) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::of_output(&error))?;
    Ok(ExitCode::SUCCESS)
}
