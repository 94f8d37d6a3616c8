//! [`Recent`]: what was used lately, in memory, bounded in bytes.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Values by their keys. When they take more than a bound, by their callers' estimates, the least
/// recently used go.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// By the tick of their last use.
    order: BTreeMap<u64, K>,
    tick: u64,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            tick: 0,
            bytes: 0,
            max_bytes,
        }
    }

    /// A value, which is used now.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let entry = self.entries.get_mut(key)?;
        self.tick += 1;
        if let Some(key) = self.order.remove(&entry.used) {
            self.order.insert(self.tick, key);
        }
        entry.used = self.tick;
        Some(&entry.value)
    }

    /// A value, without any use of it.
    pub(crate) fn peek<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        Some(&self.entries.get(key)?.value)
    }

    /// A value, which is not here any more.
    pub(crate) fn take<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.used);
        self.bytes -= entry.bytes;
        Some(entry.value)
    }

    /// Keeps a value of so many bytes, in place of the one that may be here.
    pub(crate) fn put(&mut self, key: K, value: V, bytes: usize) {
        self.take(&key);
        self.tick += 1;
        self.bytes += bytes;
        self.order.insert(self.tick, key.clone());
        let used = self.tick;
        self.entries.insert(key, Entry { value, bytes, used });
        while self.bytes > self.max_bytes
            && let Some((_, oldest)) = self.order.pop_first()
            && let Some(entry) = self.entries.remove(&oldest)
        {
            self.bytes -= entry.bytes;
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.max_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_go_first_and_no_byte_is_counted_twice() {
        let mut recent: Recent<String, u32> = Recent::new(30);
        for n in 0..3 {
            recent.put(n.to_string(), n, 10);
        }
        assert_eq!(recent.get("0"), Some(&0));
        assert_eq!(recent.peek("1"), Some(&1));
        recent.put("3".to_owned(), 3, 10);
        assert_eq!(recent.peek("1"), None, "a look is no use");
        recent.put("3".to_owned(), 4, 5);
        recent.put("4".to_owned(), 5, 5);
        assert_eq!(recent.take("0"), Some(0));
        assert_eq!(recent.take("0"), None);
        let kept = ["2", "3", "4"].map(|key| recent.peek(key).copied());
        assert_eq!(kept, [Some(2), Some(4), Some(5)]);
        assert_eq!((recent.bytes, recent.order.len()), (20, 3));
        recent.put("5".to_owned(), 6, 31);
        assert_eq!(
            (recent.bytes, recent.order.len()),
            (0, 0),
            "too large for all"
        );
        recent.put("6".to_owned(), 7, 1);
        recent.clear();
        assert_eq!((recent.peek("6"), recent.bytes), (None, 0));
    }
}
