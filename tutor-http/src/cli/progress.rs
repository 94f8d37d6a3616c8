//! How far long work is, on standard error if that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tutor_core::transfer::Counts;

/// A line that is drawn again and again, and gone when this is dropped.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Work of unknown length.
    pub(super) fn new(what: &'static str) -> Self {
        Self::styled(
            ProgressBar::new_spinner(),
            "{spinner} {prefix}: {msg} ({elapsed})",
            what,
        )
    }

    /// Work on this many bytes.
    pub(super) fn of_bytes(what: &'static str, bytes: u64) -> Self {
        let template = "{prefix} {wide_bar} {bytes}/{total_bytes}, {eta} left";
        Self::styled(ProgressBar::new(bytes), template, what)
    }

    fn styled(bar: ProgressBar, template: &str, what: &'static str) -> Self {
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    pub(super) fn counts(&self, counts: Counts) {
        self.0.set_message(format!(
            "{} sessions, {} messages, {} records",
            counts.sessions, counts.messages, counts.records
        ));
    }

    pub(super) fn say(&self, text: String) {
        self.0.set_message(text);
    }

    pub(super) fn advance(&self, bytes: usize) {
        self.0.inc(bytes as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
