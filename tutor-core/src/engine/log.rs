//! What happened in one turn, kept small: a reply of a thousand words is a thousand events.

use std::ops::Range;
use std::sync::Arc;

use crate::event::{Event, TurnEvent};

/// The bytes of a piece of words. What is longer by itself is kept as it is.
const PIECE: usize = 4096;

/// The events of one turn, in their order. Those that are nothing but a few words lie side by side,
/// and become events again for whoever reads them: as objects of their own they would need ten times
/// the memory, for as long as the turn can be read again.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    entries: Vec<Entry>,
    /// What was said and thought, as it came. In pieces, since one buffer would be there twice
    /// whenever it grows.
    pieces: Vec<String>,
    /// The bytes in all of them.
    words: usize,
    /// What the other events hold, in bytes.
    held: usize,
}

#[derive(Debug)]
enum Entry {
    Text(Place),
    Reasoning(Place),
    Whole(Arc<TurnEvent>),
}

/// Where words are: in which piece, from which byte on, and how many.
#[derive(Clone, Copy, Debug)]
struct Place {
    piece: u32,
    start: u16,
    len: u16,
}

impl EventLog {
    /// Appends an event, which holds this many bytes besides itself. Returns its index.
    pub(super) fn push(&mut self, event: Event, bytes: usize) -> usize {
        let index = self.entries.len();
        let entry = match &event {
            Event::TextDelta { text } => self.keep(text).map(Entry::Text),
            Event::ReasoningDelta { text } => self.keep(text).map(Entry::Reasoning),
            _ => None,
        };
        let entry = entry.unwrap_or_else(|| {
            self.held += size_of::<TurnEvent>() + bytes;
            let seq = index as u64 + 1;
            Entry::Whole(Arc::new(TurnEvent { seq, event }))
        });
        self.entries.push(entry);
        index
    }

    /// Where these words are from now on; `None` if they are too many.
    fn keep(&mut self, words: &str) -> Option<Place> {
        let len = u16::try_from(words.len()).ok()?;
        if words.len() > PIECE {
            return None;
        }
        let is_full = |piece: &String| piece.len() + words.len() > PIECE;
        if self.pieces.last().is_none_or(is_full) {
            // Most replies need no second one.
            let bytes = if self.pieces.is_empty() { 0 } else { PIECE };
            self.pieces.push(String::with_capacity(bytes));
        }
        let piece = u32::try_from(self.pieces.len() - 1).ok()?;
        let last = self.pieces.last_mut()?;
        let start = u16::try_from(last.len()).ok()?;
        last.push_str(words);
        self.words += words.len();
        Some(Place { piece, start, len })
    }

    fn words(&self, place: Place) -> &str {
        let start = usize::from(place.start);
        let piece = self.pieces.get(place.piece as usize);
        let words = piece.and_then(|piece| piece.get(start..start + usize::from(place.len)));
        words.unwrap_or_default()
    }

    /// The number of events.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What they need in memory.
    pub(super) fn bytes(&self) -> usize {
        self.entries.len() * size_of::<Entry>() + self.words + self.held
    }

    /// The event with this index.
    pub(super) fn get(&self, index: usize) -> Option<Arc<TurnEvent>> {
        let event = match self.entries.get(index)? {
            Entry::Whole(event) => return Some(Arc::clone(event)),
            Entry::Text(place) => Event::TextDelta {
                text: self.words(*place).to_owned(),
            },
            Entry::Reasoning(place) => Event::ReasoningDelta {
                text: self.words(*place).to_owned(),
            },
        };
        let seq = index as u64 + 1;
        Some(Arc::new(TurnEvent { seq, event }))
    }

    /// The text of the `text.delta`s among the events with these indices.
    pub(super) fn text(&self, indices: Range<usize>) -> String {
        let entries = self.entries.get(indices).unwrap_or_default();
        let texts = entries.iter().filter_map(|entry| match entry {
            Entry::Text(place) => Some(self.words(*place)),
            Entry::Whole(event) => match &event.event {
                Event::TextDelta { text } => Some(text.as_str()),
                _ => None,
            },
            Entry::Reasoning(_) => None,
        });
        let mut all = String::with_capacity(texts.clone().map(str::len).sum());
        all.extend(texts);
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Notice;

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            ".{0,9}".prop_map(|text| Event::TextDelta { text }),
            (1000..5000usize).prop_map(|n| Event::TextDelta {
                text: "ä".repeat(n / 2)
            }),
            ".{0,9}".prop_map(|text| Event::ReasoningDelta { text }),
            ".{0,9}".prop_map(|text| Event::Notice(Notice::new("n", text))),
        ]
    }

    proptest! {
        #[test]
        fn events_come_back_as_they_were(events in prop::collection::vec(event(), 0..40), from in 0usize..41, to in 0usize..41) {
            let mut log = EventLog::default();
            for (at, event) in events.iter().enumerate() {
                prop_assert_eq!(log.push(event.clone(), 9), at);
            }
            for (at, event) in events.iter().enumerate() {
                let kept = log.get(at).unwrap();
                prop_assert_eq!((kept.seq, &kept.event), (at as u64 + 1, event));
            }
            prop_assert_eq!((log.len(), log.get(events.len())), (events.len(), None));
            let said = events.get(from..to).unwrap_or_default().iter().map(|event| match event {
                Event::TextDelta { text } => text.as_str(),
                _ => "",
            });
            prop_assert_eq!(log.text(from..to), said.collect::<String>());
        }
    }

    #[test]
    fn a_word_costs_little_more_than_its_letters() {
        let mut log = EventLog::default();
        for _ in 0..100 {
            let text = "word ".to_owned();
            log.push(Event::TextDelta { text }, 5);
        }
        assert!(log.bytes() <= 100 * (16 + 5), "{}", log.bytes());
    }
}
