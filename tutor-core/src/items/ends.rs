//! The ends of the lists that were used lately, in memory.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::recent::Recent;

/// The most bytes of all ends, by estimate. The least recently used go first.
const MAX_BYTES: usize = 16 << 20;
/// The most bytes of one end; older items go first.
const MAX_END_BYTES: usize = 1 << 20;
/// What an item takes besides its text, about.
const ITEM_BYTES: usize = 40;

/// What a list has with each change: who made it, and which of their changes it was. No two changes
/// have the same, so whoever meets one that they know knows the list.
pub(super) type Mark = [u8; 16];

/// The mark of a list that was written without one. Nothing is kept of it.
pub(super) const NO_MARK: Mark = [0; 16];

/// The newest items of lists, by the lists' names.
#[derive(Debug)]
pub(super) struct Ends {
    known: Mutex<Recent<String, End>>,
    /// Who writes.
    writer: u64,
    written: AtomicU64,
}

/// The newest items of a list as it was with this mark.
#[derive(Debug)]
struct End {
    mark: Mark,
    items: VecDeque<Arc<str>>,
    bytes: usize,
}

impl Ends {
    pub(super) fn new() -> Self {
        Self {
            known: Mutex::new(Recent::new(MAX_BYTES)),
            // Its keys are random.
            writer: std::collections::hash_map::RandomState::new().hash_one(0),
            written: AtomicU64::new(0),
        }
    }

    /// A mark for the next change.
    pub(super) fn mark(&self) -> Mark {
        let change = self.written.fetch_add(1, Ordering::Relaxed) + 1;
        let mut mark = NO_MARK;
        mark[..8].copy_from_slice(&self.writer.to_be_bytes());
        mark[8..].copy_from_slice(&change.to_be_bytes());
        mark
    }

    /// The newest `count` items of a list that has this mark, if they are here.
    pub(super) fn newest(&self, key: &str, mark: &Mark, count: u64) -> Option<Vec<Arc<str>>> {
        let mut known = self.lock();
        let end = known.get(key).filter(|end| end.mark == *mark)?;
        let start = end.items.len().checked_sub(usize::try_from(count).ok()?)?;
        Some(end.items.range(start..).cloned().collect())
    }

    /// Keeps what was read: the newest items of a list that has this mark.
    pub(super) fn learn(&self, key: &str, mark: Mark, newest: &[Arc<str>]) {
        let mut known = self.lock();
        // Not in place of more.
        let has_more = |end: &End| end.mark == mark && end.items.len() >= newest.len();
        if mark != NO_MARK && !known.peek(key).is_some_and(has_more) {
            End::new(mark, newest).keep(key, &mut known);
        }
    }

    /// Follows a change: of a list that had the mark `before` the newest `removed` items are gone,
    /// and then some were `added`, which made its mark `after`.
    pub(super) fn follow(
        &self,
        key: &str,
        (before, after): (&Mark, Mark),
        removed: u64,
        added: &[Arc<str>],
    ) {
        let mut known = self.lock();
        let end = match known.take(key).filter(|end| end.mark == *before) {
            Some(mut end) => {
                end.mark = after;
                end.change(removed, added);
                end
            }
            // What came before is not here, which is no error.
            None => End::new(after, added),
        };
        end.keep(key, &mut known);
    }

    /// Forgets a list.
    pub(super) fn forget(&self, key: &str) {
        self.lock().take(key);
    }

    fn lock(&self) -> MutexGuard<'_, Recent<String, End>> {
        // Whoever panicked has at most left something out.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    fn new(mark: Mark, items: &[Arc<str>]) -> Self {
        let mut end = Self {
            mark,
            items: VecDeque::new(),
            bytes: 0,
        };
        end.change(0, items);
        end
    }

    fn change(&mut self, removed: u64, added: &[Arc<str>]) {
        for _ in 0..removed {
            let Some(item) = self.items.pop_back() else {
                break;
            };
            self.bytes -= size(&item);
        }
        for item in added {
            self.bytes += size(item);
            self.items.push_back(Arc::clone(item));
        }
        while self.bytes > MAX_END_BYTES
            && let Some(oldest) = self.items.pop_front()
        {
            self.bytes -= size(&oldest);
        }
    }

    fn keep(self, key: &str, known: &mut Recent<String, Self>) {
        let bytes = self.bytes + ITEM_BYTES + 2 * key.len();
        known.put(key.to_owned(), self, bytes);
    }
}

fn size(item: &str) -> usize {
    ITEM_BYTES + item.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn an_end_is_known_only_with_the_mark_that_it_had() {
        let ends = Ends::new();
        let (first, second, other) = (ends.mark(), ends.mark(), Ends::new().mark());
        ends.learn("a", first, &items(&["1", "2"]));
        assert_eq!(ends.newest("a", &first, 2), Some(items(&["1", "2"])));
        assert_eq!(ends.newest("a", &first, 1), Some(items(&["2"])));
        assert_eq!(ends.newest("a", &first, 3), None);
        assert_eq!(ends.newest("a", &other, 1), None);
        ends.follow("a", (&first, second), 1, &items(&["3", "4"]));
        assert_eq!(ends.newest("a", &first, 1), None);
        assert_eq!(ends.newest("a", &second, 3), Some(items(&["1", "3", "4"])));
        // Of a change of what nobody knows its own items are known.
        let third = ends.mark();
        ends.follow("a", (&other, third), 0, &items(&["5"]));
        assert_eq!(ends.newest("a", &third, 1), Some(items(&["5"])));
        assert_eq!(ends.newest("a", &third, 2), None);
        ends.learn("a", third, &items(&["4", "5"]));
        ends.learn("a", third, &items(&["5"]));
        assert_eq!(ends.newest("a", &third, 2), Some(items(&["4", "5"])));
        ends.forget("a");
        ends.learn("a", NO_MARK, &items(&["5"]));
        assert_eq!(ends.newest("a", &NO_MARK, 1), None);
    }

    #[test]
    fn an_end_is_bounded() {
        let (ends, mark) = (Ends::new(), [1; 16]);
        let large = "x".repeat(MAX_END_BYTES / 3);
        ends.learn("a", mark, &items(&[large.as_str(); 4]));
        assert!(ends.newest("a", &mark, 3).is_none());
        assert_eq!(ends.newest("a", &mark, 2).map(|found| found.len()), Some(2));
        ends.follow("a", (&mark, mark), 9, &[]);
        assert_eq!(ends.newest("a", &mark, 0), Some(Vec::new()));
        assert_eq!(ends.lock().peek("a").map(|end| end.bytes), Some(0));
    }
}
