//! `neuro-tutor man`: manual pages, made from the same source as the help.

use clap_mangen::Man;

use super::failure::{FAILED, Failure, WRONG_CONFIGURATION};
use super::output;

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor man > /usr/local/share/man/man1/neuro-tutor.1
  neuro-tutor man serve | man -l -";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The command to explain; without it, all of neuro-tutor
    command: Option<String>,
}

pub(super) fn run(args: &Args, mut command: clap::Command) -> Result<u8, Failure> {
    command.build();
    let page = match &args.command {
        None => command,
        Some(name) => match command.find_subcommand(name) {
            Some(found) => found.clone(),
            None => {
                let known: Vec<_> = command.get_subcommands().map(|c| c.get_name()).collect();
                return Err(Failure::new(
                    WRONG_CONFIGURATION,
                    format!("no command {name:?}: choose one of {}", known.join(", ")),
                ));
            }
        },
    };
    let mut text = Vec::new();
    Man::new(page).render(&mut text).map_err(|error| {
        Failure::new(FAILED, format!("the manual page cannot be made: {error}"))
    })?;
    output::print(&text)
}
