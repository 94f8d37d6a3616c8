//! Standard output is data only; what there is to say goes to standard error.

use std::io::{self, Write};

use super::failure::{DONE, Failure};

/// Writes all of it.
pub(super) fn print(bytes: &[u8]) -> Result<u8, Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::of_output(&error))?;
    Ok(DONE)
}

/// Says something to the person who runs the command.
pub(super) fn note(text: &str) {
    // Where nobody listens there is nothing to say.
    let _ = writeln!(io::stderr(), "neuro-tutor: {text}");
}
