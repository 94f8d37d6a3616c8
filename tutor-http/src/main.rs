//! The `neuro-tutor` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(tutor_http::cli::main(std::env::args_os()))
}
