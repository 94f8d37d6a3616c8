//! Texts that cost much to get, for as long as somebody may ask again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many are kept: the latest. Each is as long as [`super::FileBounds::max_text_bytes`] at most.
const MAX_TEXTS: usize = 16;

/// The texts of files, by the keys of their records.
#[derive(Default)]
pub(super) struct Texts(Mutex<VecDeque<(String, Arc<str>)>>);

impl Texts {
    fn kept(&self) -> MutexGuard<'_, VecDeque<(String, Arc<str>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<str>> {
        let kept = self.kept();
        let found = kept.iter().find(|(of, _)| of == key);
        found.map(|(_, text)| Arc::clone(text))
    }

    pub(super) fn keep(&self, key: String, text: &str) {
        let mut kept = self.kept();
        kept.retain(|(of, _)| *of != key);
        if kept.len() >= MAX_TEXTS {
            kept.pop_front();
        }
        kept.push_back((key, Arc::from(text)));
    }

    pub(super) fn forget(&self, key: &str) {
        self.kept().retain(|(of, _)| of != key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept_and_what_is_deleted_is_forgotten() {
        let texts = Texts::default();
        for n in 0..=MAX_TEXTS {
            texts.keep(n.to_string(), "text");
        }
        assert!(texts.get("0").is_none());
        assert_eq!(texts.get("1").as_deref(), Some("text"));
        texts.forget("1");
        assert!(texts.get("1").is_none());
    }
}
