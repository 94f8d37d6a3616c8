//! What people used, for who looks after the server: as JSON, or as CSV for a spreadsheet.

use std::fmt::Write;

use tutor_core::Result;
use tutor_core::session::MAX_PAGE;
use tutor_core::store::RecordStore;
use tutor_core::usage::{DayUsage, UsageQuery, report};

/// The first line of a table.
pub(crate) const CSV_HEADER: &str = "owner,day,turns,failed_turns,cancelled_turns,input_tokens,\
output_tokens,cost_usd,first_token_ms,thumbs_up,thumbs_down,upload_bytes\n";

/// One line of a table. Ids and numbers need no quotes.
pub(crate) fn csv_line(usage: &DayUsage) -> String {
    let mut line = String::new();
    let first_token = usage
        .first_token_ms
        .map_or(String::new(), |ms| ms.to_string());
    // Writing to a text cannot fail.
    let _ = writeln!(
        line,
        "{},{},{},{},{},{},{},{},{first_token},{},{},{}",
        usage.owner,
        usage.day,
        usage.turns,
        usage.failed_turns,
        usage.cancelled_turns,
        usage.input_tokens,
        usage.output_tokens,
        usage.cost_usd,
        usage.thumbs_up,
        usage.thumbs_down,
        usage.upload_bytes
    );
    line
}

/// All of it, page by page.
#[derive(Debug)]
pub(crate) struct Pages<R> {
    records: R,
    query: Option<UsageQuery>,
}

impl<R: std::ops::Deref<Target = dyn RecordStore> + Send> Pages<R> {
    pub(crate) fn new(records: R, query: UsageQuery) -> Self {
        Self {
            records,
            query: Some(UsageQuery {
                limit: MAX_PAGE,
                ..query
            }),
        }
    }

    /// The next page; `None` behind the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<DayUsage>>> {
        let Some(query) = &mut self.query else {
            return Ok(None);
        };
        let page = report(&*self.records, query).await?;
        match page.last().filter(|_| page.len() == MAX_PAGE) {
            Some(last) => query.after = Some((last.owner.clone(), last.day.clone())),
            None => self.query = None,
        }
        Ok(Some(page))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_has_a_field_for_each_column() {
        let usage: DayUsage = serde_json::from_value(json!({"owner": "ada", "day": "2026-11-26",
            "turns": 3, "failed_turns": 1, "cancelled_turns": 0, "input_tokens": 10, "output_tokens": 5,
            "cost_usd": 0.25, "first_token_ms": null, "thumbs_up": 1, "thumbs_down": 0, "upload_bytes": 7}))
        .unwrap();
        let line = csv_line(&usage);
        assert_eq!(line, "ada,2026-11-26,3,1,0,10,5,0.25,,1,0,7\n");
        assert_eq!(line.matches(',').count(), CSV_HEADER.matches(',').count());
    }
}
