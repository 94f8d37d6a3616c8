//! `neuro-tutor usage`: what people used, by day.

use crate::config::{DataArgs, Vars};
use crate::control::{Answer, Request};
use crate::people::Who;
use crate::usage::{CSV_HEADER, Pages, csv_line};
use tutor_core::usage::{DayUsage, UsageQuery};

use super::data::Data;
use super::failure::Failure;
use super::output::print;
use super::runtime;

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor usage                                   as JSON, all owners and days
  neuro-tutor usage --format csv --from 2026-11-01 > november.csv
  neuro-tutor usage --owner ada

Turns, tokens, cost in US dollars where the price is known, milliseconds to the first word on average,
thumbs and bytes of uploads, by owner and day of UTC. Also while a server has the data.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    data: DataArgs,
    /// Only theirs: an owner's id, or the address of an account
    #[arg(long)]
    owner: Option<Who>,
    /// The first day, such as 2026-11-26
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// The last day
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// One array of objects
    Json,
    /// A table with a line for the names of its columns
    Csv,
}

pub(super) fn run(args: &Args, vars: &Vars) -> Result<u8, Failure> {
    let days = runtime()?.block_on(find(args, vars))?;
    let text = match args.format {
        Format::Json => {
            let days: Vec<String> = days.iter().map(line).collect();
            format!("[{}]\n", days.join(",\n "))
        }
        Format::Csv => {
            let lines = days.iter().map(csv_line);
            std::iter::once(CSV_HEADER.to_owned())
                .chain(lines)
                .collect()
        }
    };
    print(text.as_bytes())
}

/// Ids and numbers always serialize.
fn line(usage: &DayUsage) -> String {
    serde_json::to_string(usage).unwrap_or_default()
}

async fn find(args: &Args, vars: &Vars) -> Result<Vec<DayUsage>, Failure> {
    let mut days = Vec::new();
    match Data::find(&args.data, vars).await? {
        Data::Store(store) => {
            let query = UsageQuery {
                owner: Who::owner_of(args.owner.as_ref(), &store).await?,
                from: args.from.clone(),
                to: args.to.clone(),
                ..UsageQuery::default()
            };
            let records: &dyn tutor_core::RecordStore = &store;
            let mut pages = Pages::new(records, query);
            while let Some(page) = pages.next().await? {
                days.extend(page);
            }
            store.close().await?;
        }
        Data::Server(mut client) => {
            client
                .ask(&Request::Usage {
                    owner: args.owner.clone(),
                    from: args.from.clone(),
                    to: args.to.clone(),
                })
                .await?;
            let mut lines = Vec::new();
            loop {
                match client.next().await? {
                    Answer::Data(bytes) => lines.extend(bytes),
                    Answer::Progress(_) => {}
                    Answer::Done(_) => break,
                }
            }
            let read = serde_json::Deserializer::from_slice(&lines).into_iter();
            for day in read {
                days.push(day.map_err(|_| super::data::nonsense())?);
            }
        }
    }
    Ok(days)
}
