//! `neuro-tutor completions`: what a shell needs to complete commands and options.

use clap_complete::Shell;

use super::failure::Failure;
use super::output;

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor completions bash > ~/.local/share/bash-completion/completions/neuro-tutor
  neuro-tutor completions zsh > ~/.zfunc/_neuro-tutor
  neuro-tutor completions fish > ~/.config/fish/completions/neuro-tutor.fish";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args, command: &mut clap::Command) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "neuro-tutor", &mut script);
    output::print(&script)
}
