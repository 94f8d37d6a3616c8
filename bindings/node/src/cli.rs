//! The command line.

use napi_derive::napi;

/// Does what a command line says, `args[0]` being the program's name, and gives the exit code.
/// Blocks until it is done, and handles the signals of the process: for a process that does nothing
/// else.
#[napi]
pub(crate) fn cli(args: Vec<String>) -> u8 {
    tutor_http::cli::main(args)
}
