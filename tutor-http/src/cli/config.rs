//! `neuro-tutor config`: the settings in effect, and where each comes from.

use crate::config::{Args, Settings, Vars};

use super::failure::Failure;
use super::{output, runtime};

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor config                            what a server started here would use
  neuro-tutor config --config /etc/tutor.toml   with another file
  neuro-tutor config > neuro-tutor.toml         to start from (put the keys in)";

pub(super) fn run(args: Args, vars: &Vars) -> Result<u8, Failure> {
    let settings = Settings::new(args, vars)?;
    let settings = runtime()?.block_on(settings.discover());
    output::print(settings.shown().as_bytes())
}
