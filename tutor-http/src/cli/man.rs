//! `neuro-tutor man`: manual pages, made from the same source as the help.

use clap_mangen::Man;

use super::failure::{FAILED, Failure, WRONG_CONFIGURATION};
use super::output;

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor man > /usr/local/share/man/man1/neuro-tutor.1
  neuro-tutor man serve | man -l -
  neuro-tutor man users add | man -l -";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The command to explain, such as `serve` or `users add`; without it, all of neuro-tutor
    command: Vec<String>,
}

pub(super) fn run(args: &Args, mut command: clap::Command) -> Result<u8, Failure> {
    command.build();
    let mut page = &command;
    for name in &args.command {
        page = page.find_subcommand(name).ok_or_else(|| {
            let known: Vec<_> = page.get_subcommands().map(|c| c.get_name()).collect();
            let advice = match known.as_slice() {
                [] => format!("{} has no commands of its own", page.get_name()),
                known => format!("choose one of {}", known.join(", ")),
            };
            let message = format!("no command {name:?}: {advice}");
            Failure::new(WRONG_CONFIGURATION, message)
        })?;
    }
    let mut text = Vec::new();
    Man::new(page.clone()).render(&mut text).map_err(|error| {
        Failure::new(FAILED, format!("the manual page cannot be made: {error}"))
    })?;
    output::print(&text)
}
