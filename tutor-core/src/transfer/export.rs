//! Writing an export, a few lines at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::vec;

use super::Counts;
use super::line::{FORMAT, Header, Line, RecordLine, SessionLine, TurnLine, VERSION};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{OwnerId, SessionId};
use crate::message::{Audience, Message};
use crate::session::{MAX_PAGE, SessionKey};
use crate::store::{KeyRange, Record, RecordStore, SessionStore, Store, WholeSession};
use crate::time::Timestamp;
use crate::turn::Turn;

/// About how many bytes are given at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// What to export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// Only what is theirs.
    pub owner: Option<OwnerId>,
    /// Only sessions that changed then or later. Records do not say when they changed: all come.
    pub since: Option<Timestamp>,
    /// Only messages that they may see; all without it.
    pub audience: Option<Audience>,
    /// Leave out sessions and records that are damaged, instead of ending there.
    pub skip_damaged: bool,
}

/// An export that is being written.
///
/// Each session is as it was at one moment; what was acknowledged before the export began is in
/// it, also while writes go on. Memory is bounded by the longest session.
#[derive(Debug)]
pub struct Exporter {
    sessions: Arc<dyn SessionStore>,
    records: Option<Arc<dyn RecordStore>>,
    options: ExportOptions,
    place: Place,
    counts: Counts,
    /// That of the line before.
    checksum: u32,
    skipped: Vec<SessionKey>,
    skipped_records: u64,
}

/// How far it is.
#[derive(Debug)]
enum Place {
    Start,
    /// In front of the owners behind this one.
    Owners(Option<OwnerId>),
    /// In front of the sessions of the first owner that are behind this one.
    Sessions(VecDeque<OwnerId>, Option<SessionId>),
    Session(Box<Sessions>),
    /// In front of the records of the first kind that are behind this key.
    Records(VecDeque<String>, Option<String>),
    Done,
}

#[derive(Debug)]
struct Sessions {
    owners: VecDeque<OwnerId>,
    ids: VecDeque<SessionId>,
    last: SessionId,
    /// What of a session is still to be written.
    messages: vec::IntoIter<Message>,
    turns: vec::IntoIter<Turn>,
    partial: Option<Message>,
}

impl Exporter {
    /// An export of a whole backend.
    pub fn new(store: Arc<dyn Store>, options: ExportOptions) -> Self {
        let sessions: Arc<dyn SessionStore> = store.clone();
        Self::of(sessions, Some(store), options)
    }

    /// An export of conversations only.
    pub fn of_sessions(store: Arc<dyn SessionStore>, options: ExportOptions) -> Self {
        Self::of(store, None, options)
    }

    fn of(
        sessions: Arc<dyn SessionStore>,
        records: Option<Arc<dyn RecordStore>>,
        options: ExportOptions,
    ) -> Self {
        Self {
            sessions,
            records,
            options,
            place: Place::Start,
            counts: Counts::default(),
            checksum: 0,
            skipped: Vec::new(),
            skipped_records: 0,
        }
    }

    /// What has been written so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The damaged sessions that were left out. They are named in the log, too.
    pub fn skipped(&self) -> &[SessionKey] {
        &self.skipped
    }

    /// How many damaged records were left out. They are named in the log.
    pub fn skipped_records(&self) -> u64 {
        self.skipped_records
    }

    /// Some more lines; `None` after the last one.
    ///
    /// # Errors
    /// Errors of the store. What was written until then is no whole export, and says so by
    /// having no end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut out = Vec::new();
        while out.len() < CHUNK_BYTES {
            let place = std::mem::replace(&mut self.place, Place::Done);
            self.place = match place {
                Place::Start => self.start(&mut out)?,
                Place::Owners(after) => self.owners(after).await?,
                Place::Sessions(owners, after) => self.sessions(owners, after).await?,
                Place::Session(sessions) => self.session(*sessions, &mut out).await?,
                Place::Records(kinds, after) => self.records(kinds, after, &mut out).await?,
                Place::Done => break,
            };
        }
        Ok((!out.is_empty()).then_some(out))
    }

    fn start(&mut self, out: &mut Vec<u8>) -> Result<Place> {
        let ExportOptions { owner, since, .. } = &self.options;
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            owner: owner.clone(),
            since: *since,
        };
        Line::Header(header).write(out, &mut self.checksum)?;
        Ok(match owner {
            Some(owner) => Place::Sessions([owner.clone()].into(), None),
            None => Place::Owners(None),
        })
    }

    async fn owners(&self, after: Option<OwnerId>) -> Result<Place> {
        let owners = self.sessions.owners(after, MAX_PAGE).await?;
        if owners.is_empty() {
            return self.first_records().await;
        }
        Ok(Place::Sessions(owners.into(), None))
    }

    async fn sessions(
        &self,
        mut owners: VecDeque<OwnerId>,
        after: Option<SessionId>,
    ) -> Result<Place> {
        let Some(owner) = owners.front() else {
            return self.first_records().await;
        };
        let ids = self.sessions.session_ids(owner, after, MAX_PAGE).await?;
        if let Some(last) = ids.last().cloned() {
            return Ok(Place::Session(Box::new(Sessions {
                owners,
                ids: ids.into(),
                last,
                messages: Vec::new().into_iter(),
                turns: Vec::new().into_iter(),
                partial: None,
            })));
        }
        let done = owners.pop_front();
        if owners.is_empty() && self.options.owner.is_none() {
            return Ok(Place::Owners(done));
        }
        Ok(Place::Sessions(owners, None))
    }

    /// The next line of a session, or the first one of the next session.
    async fn session(&mut self, mut at: Sessions, out: &mut Vec<u8>) -> Result<Place> {
        if let Some(message) = at.messages.next() {
            Line::Message(Box::new(message)).write(out, &mut self.checksum)?;
            self.counts.messages += 1;
        } else if let Some(turn) = at.turns.next() {
            let partial = if turn.ended_at.is_none() {
                at.partial.take()
            } else {
                None
            };
            Line::Turn(Box::new(TurnLine { turn, partial })).write(out, &mut self.checksum)?;
            self.counts.turns += 1;
        } else if let (Some(owner), Some(id)) = (at.owners.front(), at.ids.pop_front()) {
            if let Some(mut whole) = self.read(SessionKey::new(owner.clone(), id)).await? {
                whole.turns.sort_unstable_by(|a, b| a.id.cmp(&b.id));
                let line = SessionLine {
                    turn_count: whole.turns.len() as u64,
                    session: whole.session,
                };
                Line::Session(Box::new(line)).write(out, &mut self.checksum)?;
                self.counts.sessions += 1;
                at.messages = whole.messages.into_iter();
                at.turns = whole.turns.into_iter();
                at.partial = whole.partial;
            }
        } else {
            return Ok(Place::Sessions(at.owners, Some(at.last)));
        }
        Ok(Place::Session(Box::new(at)))
    }

    /// A session; `None` if it is gone, is too old, or is damaged and may be left out.
    async fn read(&mut self, key: SessionKey) -> Result<Option<WholeSession>> {
        if let Some(since) = self.options.since {
            match self.sessions.session(&key).await {
                // Nobody knows how old it is: the whole of it is tried.
                Err(error) if error.kind() == ErrorKind::DataCorrupt => {}
                session => {
                    if session?.is_none_or(|session| session.updated_at < since) {
                        return Ok(None);
                    }
                }
            }
        }
        match self.sessions.whole_session(&key).await {
            Err(error) if error.kind() == ErrorKind::DataCorrupt && self.options.skip_damaged => {
                tracing::warn!(%error, owner = %key.owner, session = %key.id, "a damaged session is left out");
                self.skipped.push(key);
                Ok(None)
            }
            read => {
                let audience = self.options.audience;
                Ok(read?.map(|whole| match audience {
                    Some(audience) => whole.seen_by(audience),
                    None => whole,
                }))
            }
        }
    }

    async fn first_records(&self) -> Result<Place> {
        let kinds = match &self.records {
            Some(store) => store.kinds().await?,
            None => Vec::new(),
        };
        Ok(Place::Records(kinds.into(), None))
    }

    async fn records(
        &mut self,
        mut kinds: VecDeque<String>,
        after: Option<String>,
        out: &mut Vec<u8>,
    ) -> Result<Place> {
        let (Some(store), Some(kind)) = (&self.records, kinds.front()) else {
            Line::End(self.counts).write(out, &mut self.checksum)?;
            return Ok(Place::Done);
        };
        let some = |limit| {
            let (owner, after) = (self.options.owner.as_ref(), after.clone());
            owned_records(&**store, kind, owner, after, limit)
        };
        let mut page = some(MAX_PAGE).await;
        if page.is_err() && self.options.skip_damaged {
            // One by one up to the damaged one, and on behind it.
            page = some(1).await;
        }
        let page = match page {
            Err(error) if error.kind() == ErrorKind::DataCorrupt && self.options.skip_damaged => {
                tracing::warn!(%error, kind, "a damaged record is left out");
                self.skipped_records += 1;
                match damaged_key(&error) {
                    Some(key) => return Ok(Place::Records(kinds, Some(key))),
                    None => Vec::new(),
                }
            }
            page => page?,
        };
        let Some(last) = page.last().map(|record| record.key.clone()) else {
            kinds.pop_front();
            return Ok(Place::Records(kinds, None));
        };
        for record in page {
            Line::Record(RecordLine::new(kind, record.key, record.value))
                .write(out, &mut self.checksum)?;
            self.counts.records += 1;
        }
        Ok(Place::Records(kinds, Some(last)))
    }
}

/// Records of a kind behind a key: an owner's, or everybody's. Empty at the end. The error of a
/// damaged one has its [`damaged_key`].
pub(super) async fn owned_records(
    store: &dyn RecordStore,
    kind: &str,
    owner: Option<&OwnerId>,
    after: Option<String>,
    limit: usize,
) -> Result<Vec<Record>> {
    let Some(owner) = owner else {
        let range = KeyRange {
            prefix: String::new(),
            after,
        };
        return store.scan(kind, range, limit).await;
    };
    // First the one whose key is the owner's id itself, then those behind the slash.
    if after.is_none()
        && let Some(record) = store.get(kind, owner.as_str()).await?
    {
        return Ok(vec![record]);
    }
    let range = KeyRange {
        prefix: format!("{owner}/"),
        after,
    };
    store.scan(kind, range, limit).await
}

/// The key of the record that is damaged, if it can be told.
pub(super) fn damaged_key(error: &Error) -> Option<String> {
    error.context_value("key").map(str::to_owned)
}
