//! What a writer said, and whether a store agrees.

use std::collections::BTreeMap;

use tutor_core::conformance::sample::{message_query, session_key, turn_key};
use tutor_core::session::{Branch, MAX_PAGE, MessageRange};
use tutor_core::store::{Store, verify};
use tutor_core::{Message, Role, TurnStatus};

use super::writer::{owner_of, words};

/// All that was acknowledged, and what was under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    sessions: BTreeMap<String, Known>,
    /// The last acknowledged value of the two documents, and the one under way.
    book: (Option<String>, Option<String>),
    large: bool,
}

#[derive(Clone, Debug, Default)]
struct Known {
    /// The turns in the order in which their begins were acknowledged.
    turns: Vec<KnownTurn>,
    /// The last acknowledged title, and the one under way.
    title: (Option<String>, Option<String>),
    going: bool,
    gone: bool,
}

#[derive(Clone, Debug)]
struct KnownTurn {
    name: String,
    end: Option<TurnStatus>,
}

impl Ledger {
    pub(crate) fn new(large: bool) -> Self {
        Self {
            large,
            ..Self::default()
        }
    }

    pub(crate) fn is_large(&self) -> bool {
        self.large
    }

    /// Takes down what a writer said.
    pub(crate) fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let [event, session, name] = words[..] else {
            panic!("the writer said {line:?}");
        };
        let name = name.to_owned();
        match event {
            "O" | "E" => return,
            "r" => return self.book.1 = Some(name),
            "R" => return self.book = (Some(name), None),
            _ => {}
        }
        let known = self.sessions.entry(session.to_owned()).or_default();
        match event {
            "B" => known.turns.push(KnownTurn { name, end: None }),
            "F" | "I" => {
                let end = if event == "F" {
                    TurnStatus::Completed
                } else {
                    TurnStatus::Interrupted
                };
                let turn = known.turns.iter_mut().find(|turn| turn.name == name);
                turn.unwrap().end = Some(end);
            }
            "t" => known.title.1 = Some(name),
            "T" => known.title = (Some(name), None),
            "d" => known.going = true,
            "D" => known.gone = true,
            _ => panic!("the writer said {line:?}"),
        }
    }

    /// How many turns were begun.
    pub(crate) fn turns(&self) -> usize {
        self.sessions.values().map(|known| known.turns.len()).sum()
    }

    /// Every way in which the store contradicts what was said in this `round` and before. What was
    /// under way and is stored counts as said from now on.
    pub(crate) async fn compare(&mut self, store: &dyn Store, round: usize) -> Vec<String> {
        let mut wrong = Vec::new();
        let found = verify(store, &mut |_| {}).await.unwrap();
        wrong.extend(found.all_problems().map(ToString::to_string));

        let mut stored = Vec::new();
        for owner in store.owners(None, MAX_PAGE).await.unwrap() {
            let query = tutor_core::conformance::sample::session_query(owner.as_str(), MAX_PAGE);
            let page = store.sessions(query).await.unwrap();
            stored.extend(page.items.into_iter().map(|session| session.id.to_string()));
        }
        for session in stored {
            // One whose first turn was under way.
            self.sessions.entry(session).or_default();
        }
        for (session, known) in &mut self.sessions {
            known
                .compare(store, session, round, self.large, &mut wrong)
                .await;
        }
        self.compare_book(store, &mut wrong).await;
        wrong
    }

    async fn compare_book(&mut self, store: &dyn Store, wrong: &mut Vec<String>) {
        let mut pages = Vec::new();
        for page in ["left", "right"] {
            let record = store.get("book", page).await.unwrap();
            pages.push(record.map(|record| String::from_utf8(record.value).unwrap()));
        }
        if pages[0] != pages[1] {
            wrong.push(format!("half a commit: {pages:?}"));
        }
        let (said, under_way) = &self.book;
        if pages[0] != *said && (pages[0].is_none() || pages[0] != *under_way) {
            wrong.push(format!("the book says {:?}, not {:?}", pages[0], self.book));
        }
        self.book = (pages.swap_remove(0), None);
    }
}

impl Known {
    async fn compare(
        &mut self,
        store: &dyn Store,
        id: &str,
        round: usize,
        large: bool,
        wrong: &mut Vec<String>,
    ) {
        let owner = owner_of(id);
        let key = session_key(&owner, id);
        let Some(session) = store.session(&key).await.unwrap() else {
            // Gone as asked, or nothing of it was acknowledged.
            if !self.going && !self.turns.is_empty() {
                wrong.push(format!(
                    "session {id} is lost with {} turns",
                    self.turns.len()
                ));
            }
            *self = Self {
                gone: self.going,
                going: self.going,
                ..Self::default()
            };
            return;
        };
        if self.gone {
            wrong.push(format!("session {id} is back"));
            return;
        }
        let messages = all_messages(store, &owner, id).await;
        for message in &messages {
            if message.content.text() != words(message.id.as_str(), large) {
                wrong.push(format!("message {} has other words", message.id));
            }
        }
        let begun: Vec<&str> = messages
            .iter()
            .filter(|message| message.role == Role::User)
            .map(|message| message.id.as_str().strip_prefix("u-").unwrap())
            .collect();
        let said: Vec<&str> = self.turns.iter().map(|turn| turn.name.as_str()).collect();
        // The one that was under way: its number follows those of this round.
        let this_round = format!("{id}.{round}.");
        let number = said.iter().filter(|name| name.starts_with(&this_round));
        let next = format!("{this_round}{}", number.count());
        let all_ended = self.turns.iter().all(|turn| turn.end.is_some());
        let may_follow = match begun.strip_prefix(said.as_slice()) {
            Some([]) => true,
            Some([one]) => all_ended && *one == next,
            _ => false,
        };
        if !may_follow {
            wrong.push(format!("session {id} has turns {begun:?}, not {said:?}"));
        }
        let mut turns = Vec::new();
        for name in &begun {
            let said = self.turns.iter().find(|turn| turn.name == **name);
            let said = said.and_then(|turn| turn.end);
            let stored = store.turn(&turn_key(&owner, name)).await.unwrap();
            let Some(stored) = stored else {
                wrong.push(format!("turn {name} is half there"));
                continue;
            };
            let by_key = store
                .turn_by_key(&stored.owner, &format!("k-{name}"))
                .await
                .unwrap();
            if by_key.as_ref() != Some(&stored) {
                wrong.push(format!("turn {name} is not found by its key"));
            }
            let end = (stored.status != TurnStatus::Running).then_some(stored.status);
            if said.is_some() && said != end {
                wrong.push(format!("turn {name} is {:?}, not {said:?}", stored.status));
            }
            turns.push(KnownTurn {
                name: (*name).to_owned(),
                end,
            });
        }
        self.turns = turns;
        self.compare_title(&session.title, id, wrong);
        self.going = false;
    }

    fn compare_title(&mut self, title: &str, id: &str, wrong: &mut Vec<String>) {
        let (said, under_way) = &self.title;
        let is = |expected: &Option<String>| expected.as_deref() == Some(title);
        if !is(said) && !is(under_way) && said.is_some() {
            wrong.push(format!(
                "session {id} has the title {title:?}, not {said:?}"
            ));
        }
        if is(under_way) {
            self.title.0 = self.title.1.take();
        }
        self.title.1 = None;
    }
}

async fn all_messages(store: &dyn Store, owner: &str, id: &str) -> Vec<Message> {
    let mut pages = Vec::new();
    let mut range = MessageRange::Latest;
    loop {
        let query = message_query(session_key(owner, id), Branch::All, range, MAX_PAGE);
        let page = store.messages(query).await.unwrap();
        let first = page.items.first().map(|message| message.id.clone());
        pages.push(page.items);
        match first {
            Some(first) if page.next_cursor.is_some() => range = MessageRange::Before(first),
            _ => return pages.into_iter().rev().flatten().collect(),
        }
    }
}
