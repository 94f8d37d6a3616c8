//! What turns and uploads are charged to, and what was used.

use super::Tutor;
use crate::engine::no_records;
use crate::error::Result;
use crate::session::MAX_PAGE;
use crate::usage::ledger::Charged;
use crate::usage::{self, DayUsage, Payer, Quota, UsageQuery};

impl Tutor {
    /// The same tutor, whose turns and uploads are charged to these too, and to no others. Turns that
    /// run across a crash are charged to them when they are no longer reserved.
    ///
    /// ```
    /// # async fn run() -> tutor_core::Result<()> {
    /// use tutor_core::Tutor;
    /// use tutor_core::usage::{Payer, Quota};
    ///
    /// let tutor = Tutor::builder().build().await?;
    /// let mut quota = Quota::default();
    /// quota.tokens_per_day = Some(100_000);
    /// let visitor = Payer::new("address", "203.0.113.7").with_quota(quota);
    /// tutor.charged_to([visitor]).chat("What is light?").await?;
    /// # Ok(()) }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run()).unwrap();
    /// ```
    #[must_use]
    pub fn charged_to(&self, payers: impl IntoIterator<Item = Payer>) -> Self {
        Self {
            payers: payers.into_iter().collect(),
            ..self.clone()
        }
    }

    /// How much each owner may use in a day.
    pub fn quota(&self) -> &Quota {
        self.engine.ledger.quota()
    }

    /// What this owner used, in the order of days: those from `from` to `to`, which are written
    /// like `2026-11-26`; all before or behind for `None`.
    ///
    /// # Errors
    /// `invalid_input` for days that are none; `config` for a tutor without
    /// [records](TutorBuilder::records); errors of the store.
    pub async fn usage(&self, from: Option<String>, to: Option<String>) -> Result<Vec<DayUsage>> {
        let records = self.engine.records.as_ref().ok_or_else(no_records)?;
        self.flush_usage().await?;
        let mut query = UsageQuery {
            owner: Some(self.owner.clone()),
            from,
            to,
            after: None,
            limit: MAX_PAGE,
        };
        let mut days = Vec::new();
        loop {
            let page = usage::report(&**records, &query).await?;
            query.after = page.last().map(|day| (day.owner.clone(), day.day.clone()));
            let is_last = page.len() < MAX_PAGE;
            days.extend(page);
            if is_last {
                return Ok(days);
            }
        }
    }

    /// Waits until what everybody used so far is written, so that [`usage::report`] has it.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn flush_usage(&self) -> Result<()> {
        self.engine.ledger.flush().await
    }

    /// Counts bytes that this owner uploads against their quota, before they are taken.
    ///
    /// # Errors
    /// `rate_limited` if they do not fit; errors of the store.
    pub async fn count_upload(&self, bytes: u64) -> Result<()> {
        let charged = Charged {
            owner: &self.owner,
            payers: &self.payers,
        };
        self.engine.ledger.upload(charged, bytes).await
    }
}
