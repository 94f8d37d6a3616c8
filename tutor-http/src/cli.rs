//! The command line: one file per command. Standard output is data, standard error is talk.
//!
//! The binary, `python -m neuro_tutor` and `npx neuro-tutor` are this one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::config::{Args, Vars};
use crate::logs::{self, LogFormat};
use clap::{CommandFactory, Parser, Subcommand};
use tokio::runtime::Runtime;
use tracing::level_filters::LevelFilter;

mod backup;
mod chat;
mod compact;
mod completions;
mod config;
mod data;
mod doctor;
mod export;
mod failure;
mod import;
mod keys;
mod man;
mod migrate;
mod output;
mod progress;
mod restore;
mod serve;
mod signals;
mod usage;
mod users;
mod verify;

use failure::{FAILED, Failure};

#[derive(Debug, Parser)]
#[command(
    name = "neuro-tutor",
    version,
    about = "A tutor behind HTTP, and the care of its data",
    long_about = "A tutor behind HTTP, and the care of its data.\n\nWithout a command it serves: \
                  the options below are those of `neuro-tutor serve`.",
    after_help = format!("{}\n\n{ENVIRONMENT}\n\n{}", serve::EXAMPLES, failure::EXIT_CODES),
    args_conflicts_with_subcommands = true
)]
struct Line {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Args,
    /// Read this configuration file [env: NEURO_TUTOR_CONFIG] [default: neuro-tutor.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the tutor over HTTP, until SIGINT or SIGTERM
    #[command(after_help = format!("{}\n\n{ENVIRONMENT}\n\n{}", serve::EXAMPLES, failure::EXIT_CODES))]
    Serve(Box<Args>),
    /// Talk to the tutor in the terminal
    #[command(after_help = chat::EXAMPLES)]
    Chat(Box<chat::Args>),
    /// Try everything that a server needs, and say what to fix
    #[command(after_help = format!("{}\n\n{}", doctor::EXAMPLES, failure::EXIT_CODES))]
    Doctor(Box<doctor::Args>),
    /// Print the settings in effect, without secrets, and where each comes from
    #[command(after_help = config::EXAMPLES)]
    Config(Box<Args>),
    /// Write everything, or one owner's part, to standard output
    #[command(after_help = export::EXAMPLES)]
    Export(export::Args),
    /// Take an export in
    #[command(after_help = import::EXAMPLES)]
    Import(import::Args),
    /// Write a checked copy of everything into a directory
    #[command(after_help = backup::EXAMPLES)]
    Backup(backup::Args),
    /// Put a backup into an empty place
    #[command(after_help = restore::EXAMPLES)]
    Restore(restore::Args),
    /// Check every record and every index, and count them
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::Args),
    /// Bring the schema of a database to a version
    #[command(after_help = migrate::EXAMPLES)]
    Migrate(migrate::Args),
    /// Write the files of a directory anew, without what was deleted
    #[command(after_help = compact::EXAMPLES)]
    Compact(compact::Args),
    /// Add, list and disable accounts, and erase all that is somebody's
    #[command(after_help = users::EXAMPLES)]
    Users(users::Args),
    /// Rotate the keys that sign people's tokens
    #[command(after_help = keys::EXAMPLES)]
    Keys(keys::Args),
    /// Print what people used: turns, tokens, cost, thumbs, by day
    #[command(after_help = usage::EXAMPLES)]
    Usage(usage::Args),
    /// Print a completion script for a shell
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::Args),
    /// Print a manual page
    #[command(after_help = man::EXAMPLES)]
    Man(man::Args),
}

const ENVIRONMENT: &str = "\
A setting is taken from the command line, else the environment, else a file .env in the working
directory, else neuro-tutor.toml, which can set everything, else its default.

Environment:
  OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_MODEL            a provider; the URL alone is enough
                                                           for a server that wants no key
  ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL, ANTHROPIC_MODEL   another provider
  DEMO_DELAY_MS                                            the demo provider's pause between words
  OLLAMA_HOST                                              where a local Ollama is looked for when
                                                           there is no key; off for nowhere
  DATABASE_URL, HOST, PORT, CORS_ORIGINS, TRUSTED_PROXIES, AUTH, REGISTRATION, LOG_LEVEL, DEBUG, DEFAULT_PROVIDER,
  INSECURE_NO_AUTH, TLS_CERTIFICATE, TLS_KEY, METRICS_LISTEN, LOG_FORMAT, MAX_CONNECTIONS, MAX_LIVE_TURNS, MAX_BODY_BYTES, MAX_MESSAGE_CHARS, DRAIN_SECONDS,
  IMPROVE_TITLES, SUMMARIZE, MODEL_CATALOG, MAX_LIVE_TURNS_PER_PERSON, STREAMS_PER_PERSON,
  REQUESTS_PER_MINUTE, ADDRESS_REQUESTS_PER_MINUTE, TURNS_PER_DAY, TOKENS_PER_DAY,
  COST_USD_PER_DAY, UPLOAD_BYTES_PER_DAY, the same four with KEY_ or ADDRESS_ before them,
  MAX_LIVE_TURNS_PER_KEY, MAX_LIVE_TURNS_PER_ADDRESS, FILES, REDIS_URL, REDIS_CA, LEASE_SECONDS;
  NEURO_TUTOR_CONFIG, the configuration file; NEURO_TUTOR_TOKEN, for chat through a server;
  AWS_…, GOOGLE_… and AZURE_…, the account of a bucket that FILES names;
  OTEL_EXPORTER_OTLP_ENDPOINT and the other variables of OpenTelemetry";

/// Does what the command line says, the first argument being the program's name, and returns the
/// exit code. What goes wrong is said in one line on standard error.
///
/// It blocks, takes the process's log and handles its signals: call it from the main thread of a
/// process that does nothing else, and not from within a runtime.
pub fn main(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> u8 {
    let line = match Line::try_parse_from(args) {
        Ok(line) => line,
        Err(error) => {
            // Where nobody listens the exit code still tells.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(failure::WRONG_CONFIGURATION);
        }
    };
    let command = line
        .command
        .unwrap_or_else(|| Command::Serve(Box::new(line.serve)));
    run(command, line.config.as_deref()).unwrap_or_else(|failure| failure.report())
}

fn run(command: Command, config: Option<&Path>) -> Result<u8, Failure> {
    let vars = || Vars::load(Path::new("."), config);
    let level = match &command {
        // The server's log is as loud as its settings say.
        Command::Serve(_) => None,
        // It would be in the middle of the conversation.
        Command::Chat(args) => Some(args.log_level.unwrap_or(LevelFilter::OFF)),
        _ => Some(LevelFilter::WARN),
    };
    let _logs = level.map(|level| logs::init(level, LogFormat::Text, None));
    match command {
        Command::Serve(args) => serve::run(*args, &vars()?, config),
        Command::Chat(args) => chat::run(*args, &vars()?),
        Command::Doctor(args) => doctor::run(*args, &vars()?),
        Command::Config(args) => config::run(*args, &vars()?),
        Command::Export(args) => export::run(args, &vars()?),
        Command::Import(args) => import::run(args, &vars()?),
        Command::Backup(args) => backup::run(&args, &vars()?),
        Command::Restore(args) => restore::run(args, &vars()?),
        Command::Verify(args) => verify::run(&args, &vars()?),
        Command::Migrate(args) => migrate::run(&args, &vars()?),
        Command::Compact(args) => compact::run(&args, &vars()?),
        Command::Users(args) => users::run(args, &vars()?),
        Command::Keys(args) => keys::run(&args, &vars()?),
        Command::Usage(args) => usage::run(&args, &vars()?),
        Command::Completions(args) => completions::run(&args, &mut Line::command()),
        Command::Man(args) => man::run(&args, Line::command()),
    }
}

/// The threads on which a command works.
fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(FAILED, format!("threads cannot be started: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_defined() {
        Line::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves_with_the_same_options() {
        let bare = Line::parse_from(["neuro-tutor", "--port", "1", "--data", "d"]);
        let named = Line::parse_from(["neuro-tutor", "serve", "--port", "1", "--data", "d"]);
        let Some(Command::Serve(args)) = named.command else {
            panic!("{named:?}");
        };
        assert!(bare.command.is_none());
        assert_eq!(format!("{:?}", bare.serve), format!("{args:?}"));
    }

    #[test]
    fn every_command_has_help_in_one_line_and_examples() {
        for command in Line::command().get_subcommands() {
            let name = command.get_name();
            let about = command.get_about().unwrap_or_default().to_string();
            assert!((10..80).contains(&about.len()), "{name}: {about:?}");
            let after = command.get_after_help().unwrap_or_default().to_string();
            assert!(after.contains("Examples:"), "{name} has no examples");
        }
    }
}
