//! What each read finds in the tables of sessions, messages and turns.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::connection::{Connection, Row, Value, damaged, values};
use super::rows::{StoredSession, read_id, read_message, read_role, read_turn, signed};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{MessageId, OwnerId, SessionId, TurnId};
use crate::message::{Message, Role};
use crate::session::{
    Branch, Cursor, MessageQuery, MessageRange, Page, Session, SessionKey, SessionQuery,
};
use crate::store::{RunningTurn, WholeSession, rules};
use crate::turn::{Turn, TurnKey};

/// Whether a row that is read stays as it is until the end of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    No,
    Yes,
}

/// A statement, as it is and with the row locked where others may write to it meanwhile.
macro_rules! lockable {
    ($connection:expr, $lock:expr, $sql:literal) => {
        match $lock {
            Lock::Yes if $connection.is_shared() => concat!($sql, " FOR UPDATE"),
            _ => $sql,
        }
    };
}

pub(super) async fn session(
    connection: &mut Connection<'_>,
    key: &SessionKey,
    lock: Lock,
) -> Result<Option<StoredSession>> {
    let sql = lockable!(
        connection,
        lock,
        "SELECT owner, id, title, created_at, updated_at, message_count, next_seq, head, running_turn,
            forked, details, checksum
        FROM chat_sessions WHERE owner = $1 AND id = $2"
    );
    let row = connection
        .row(sql, values![key.owner.as_str(), key.id.as_str()])
        .await?;
    row.map(|row| StoredSession::read(&row, key)).transpose()
}

pub(super) async fn sessions(
    connection: &mut Connection<'_>,
    query: SessionQuery,
) -> Result<Page<Session>> {
    const FROM: &str = "SELECT owner, id, title, created_at, updated_at, message_count, next_seq,
        head, running_turn, forked, details, checksum FROM chat_sessions WHERE owner = $1
        ORDER BY updated_at DESC, id DESC LIMIT $2";
    const BEHIND: &str = "SELECT owner, id, title, created_at, updated_at, message_count, next_seq,
        head, running_turn, forked, details, checksum FROM chat_sessions
        WHERE owner = $1 AND (updated_at, id) < ($3, $4)
        ORDER BY updated_at DESC, id DESC LIMIT $2";
    let cursor = query.cursor.as_ref();
    let place = cursor.map(Cursor::session_place).transpose()?;
    let mut values = values![query.owner.as_str(), one_more(query.limit)];
    let sql = match place {
        None => FROM,
        Some((time, id)) => {
            values.extend(values![time, id.as_str()]);
            BEHIND
        }
    };
    let mut items = Vec::with_capacity(query.limit);
    for row in connection.rows(sql, values).await? {
        if items.len() == query.limit {
            let next_cursor = items.last().map(Cursor::behind);
            return Ok(Page { items, next_cursor });
        }
        let key = SessionKey::new(query.owner.clone(), read_id(row.text(1)?)?);
        let listed = match StoredSession::read(&row, &key) {
            // The others can still be read, and this one be deleted.
            Err(error) if error.kind() == ErrorKind::DataCorrupt => {
                tracing::error!(%error, "a damaged session is listed without what it says");
                rules::damaged_session(key, row.time(4)?)
            }
            read => read?.session,
        };
        items.push(listed);
    }
    Ok(Page {
        items,
        next_cursor: None,
    })
}

/// Where a message is, and what a turn that answers or follows it must know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub(super) seq: u64,
    pub(super) role: Role,
}

/// Where those of these messages are that are in the session.
pub(super) async fn positions(
    connection: &mut Connection<'_>,
    key: &SessionKey,
    ids: impl IntoIterator<Item = &MessageId>,
) -> Result<HashMap<MessageId, Position>> {
    let sql = connection.pick(
        "SELECT id, seq, role FROM messages WHERE owner = $1 AND session_id = $2
            AND id IN (SELECT value FROM json_each($3))",
        "SELECT id, seq, role FROM messages WHERE owner = $1 AND session_id = $2
            AND id IN (SELECT json_array_elements_text($3::JSON))",
    );
    let ids: Vec<&str> = ids.into_iter().map(MessageId::as_str).collect();
    let ids = Json::from(ids).to_string();
    let values = values![key.owner.as_str(), key.id.as_str(), ids];
    let mut found = HashMap::new();
    for row in connection.rows(sql, values).await? {
        let position = Position {
            seq: row.count(1)?,
            role: read_role(&row.text(2)?)?,
        };
        found.insert(read_id(row.text(0)?)?, position);
    }
    Ok(found)
}

/// Reads more than once: to be called in one snapshot.
pub(super) async fn messages(
    connection: &mut Connection<'_>,
    query: MessageQuery,
) -> Result<Page<Message>> {
    let key = &query.session;
    let leaf_id = match &query.branch {
        Branch::Leaf(id) => Some(id),
        Branch::Active | Branch::All => None,
    };
    let from_id = match &query.range {
        MessageRange::Before(id) | MessageRange::After(id) => Some(id),
        MessageRange::Latest => None,
    };
    let session = connection
        .row(
            "SELECT next_seq, forked, head,
                (SELECT seq FROM messages m WHERE m.owner = $1 AND m.session_id = $2 AND m.id = s.head),
                (SELECT seq FROM messages m WHERE m.owner = $1 AND m.session_id = $2 AND m.id = $3),
                (SELECT seq FROM messages m WHERE m.owner = $1 AND m.session_id = $2 AND m.id = $4)
            FROM chat_sessions s WHERE s.owner = $1 AND s.id = $2",
            values![
                key.owner.as_str(),
                key.id.as_str(),
                leaf_id.map(MessageId::as_str),
                from_id.map(MessageId::as_str),
            ],
        )
        .await?
        .ok_or_else(|| Error::not_found("session", &key.id))?;
    let seq_of = |id: Option<&MessageId>, column| match (id, session.optional_integer(column)?) {
        (None, _) => Ok(None),
        (Some(_), Some(seq)) => Ok(Some(seq)),
        (Some(id), None) => Err(rules::message_not_in_session(id)),
    };
    let leaf = match &query.branch {
        Branch::All => session.integer(0)?.checked_sub(1).filter(|seq| *seq >= 0),
        Branch::Leaf(_) => seq_of(leaf_id, 4)?,
        Branch::Active => match (session.optional_text(2)?, session.optional_integer(3)?) {
            (Some(_), None) => return Err(damaged("the head of a session is not there")),
            (_, seq) => seq,
        },
    };
    let from = seq_of(from_id, 5)?;
    let forked = session.integer(1)? != 0;
    let reader = Reader {
        key,
        limit: query.limit,
        dense: !forked,
    };
    let straight = query.branch == Branch::All || !forked;
    let (rows, more) = match (&query.range, from) {
        (MessageRange::After(id), Some(seq)) => {
            let leaf = leaf.filter(|leaf| *leaf >= seq);
            let leaf = leaf.ok_or_else(|| rules::message_not_on_branch(id))?;
            if straight {
                reader.first_of(connection, seq, leaf).await?
            } else {
                let found = reader.first_behind(connection, seq, leaf).await?;
                found.ok_or_else(|| rules::message_not_on_branch(id))?
            }
        }
        (_, Some(seq)) if straight => reader.last_of(connection, seq - 1).await?,
        (_, Some(seq)) => reader.walk_back(connection, seq, 1).await?,
        (_, None) => match leaf {
            None => (Vec::new(), false),
            Some(leaf) if straight => reader.last_of(connection, leaf).await?,
            Some(leaf) => reader.walk_back(connection, leaf, 0).await?,
        },
    };
    let items = rows
        .iter()
        .map(|row| read_message(row, key))
        .collect::<Result<_>>()?;
    Ok(Page::of_messages(items, &query.range, more))
}

/// Some messages in order, and whether there are more.
type Found = (Vec<Row>, bool);

/// The messages of a session by their numbers. A message has a greater number than its parent.
struct Reader<'a> {
    key: &'a SessionKey,
    limit: usize,
    /// True if no number is missing: none of a message that was deleted.
    dense: bool,
}

impl Reader<'_> {
    fn values(&self, more: [i64; 2]) -> Vec<Value> {
        let [first, second] = more;
        values![self.key.owner.as_str(), self.key.id.as_str(), first, second]
    }

    /// The last ones with numbers up to `last`.
    async fn last_of(&self, connection: &mut Connection<'_>, last: i64) -> Result<Found> {
        let rows = connection
            .rows(
                "SELECT owner, session_id, seq, id, parent_id, turn_id, role, content, timestamp,
                    details, checksum
                FROM messages WHERE owner = $1 AND session_id = $2 AND seq <= $3
                ORDER BY seq DESC LIMIT $4",
                self.values([last, one_more(self.limit)]),
            )
            .await?;
        self.check_dense(rows.len(), last + 1)?;
        Ok(self.backwards(rows))
    }

    /// The first ones with numbers behind `seq`, up to `last`.
    async fn first_of(
        &self,
        connection: &mut Connection<'_>,
        seq: i64,
        last: i64,
    ) -> Result<Found> {
        let mut values = self.values([seq, last]);
        values.extend(values![one_more(self.limit)]);
        let rows = connection
            .rows(
                "SELECT owner, session_id, seq, id, parent_id, turn_id, role, content, timestamp,
                    details, checksum
                FROM messages WHERE owner = $1 AND session_id = $2 AND seq > $3 AND seq <= $4
                ORDER BY seq LIMIT $5",
                values,
            )
            .await?;
        self.check_dense(rows.len(), last - seq)?;
        Ok(self.forwards(rows))
    }

    /// A message that does not come is lost.
    fn check_dense(&self, found: usize, numbers: i64) -> Result<()> {
        let expected = usize::try_from(numbers).unwrap_or_default();
        if self.dense && found < expected.min(self.limit + 1) {
            return Err(damaged("a message is missing"));
        }
        Ok(())
    }

    /// The last ones of the line that ends with `leaf`, without the last `skip`.
    async fn walk_back(
        &self,
        connection: &mut Connection<'_>,
        leaf: i64,
        skip: i64,
    ) -> Result<Found> {
        let mut rows = connection
            .rows(
                "WITH RECURSIVE line (seq, parent_id, depth) AS (
                    SELECT m.seq, m.parent_id, 1 FROM messages m
                    WHERE m.owner = $1 AND m.session_id = $2 AND m.seq = $3
                    UNION ALL
                    SELECT m.seq, m.parent_id, line.depth + 1 FROM line
                    JOIN messages m ON m.owner = $1 AND m.session_id = $2 AND m.id = line.parent_id
                    WHERE line.depth < $4
                )
                SELECT m.owner, m.session_id, m.seq, m.id, m.parent_id, m.turn_id, m.role, m.content,
                    m.timestamp, m.details, m.checksum
                FROM line JOIN messages m
                ON m.owner = $1 AND m.session_id = $2 AND m.seq = line.seq
                ORDER BY m.seq DESC",
                self.values([leaf, one_more(self.limit) + skip]),
            )
            .await?;
        rows.drain(..usize::try_from(skip).unwrap_or_default().min(rows.len()));
        let first = rows.last();
        if rows.len() <= self.limit
            && let Some(first) = first
            && first.optional_text(4)?.is_some()
        {
            return Err(damaged("a message's parent is missing"));
        }
        Ok(self.backwards(rows))
    }

    /// The first ones behind number `stop` on the line that ends with `leaf`; `None` if `stop` is
    /// not on it. Walks the line from its end, since only parents are known.
    async fn first_behind(
        &self,
        connection: &mut Connection<'_>,
        stop: i64,
        leaf: i64,
    ) -> Result<Option<Found>> {
        let mut values = self.values([leaf, stop]);
        values.extend(values![one_more(self.limit) + 1]);
        let mut rows = connection
            .rows(
                "WITH RECURSIVE line (seq, parent_id) AS (
                    SELECT m.seq, m.parent_id FROM messages m
                    WHERE m.owner = $1 AND m.session_id = $2 AND m.seq = $3
                    UNION ALL
                    SELECT m.seq, m.parent_id FROM line
                    JOIN messages m ON m.owner = $1 AND m.session_id = $2 AND m.id = line.parent_id
                    WHERE line.seq > $4
                )
                SELECT m.owner, m.session_id, m.seq, m.id, m.parent_id, m.turn_id, m.role, m.content,
                    m.timestamp, m.details, m.checksum
                FROM line JOIN messages m
                ON m.owner = $1 AND m.session_id = $2 AND m.seq = line.seq
                WHERE line.seq >= $4
                ORDER BY m.seq LIMIT $5",
                values,
            )
            .await?;
        let found = rows.first().map(|row| row.integer(2)).transpose()?;
        if found != Some(stop) {
            return Ok(None);
        }
        rows.remove(0);
        Ok(Some(self.forwards(rows)))
    }

    fn forwards(&self, mut rows: Vec<Row>) -> Found {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        (rows, more)
    }

    fn backwards(&self, rows: Vec<Row>) -> Found {
        let (mut rows, more) = self.forwards(rows);
        rows.reverse();
        (rows, more)
    }
}

/// One more than the page has, to see whether there is more.
fn one_more(limit: usize) -> i64 {
    signed(limit as u64 + 1).unwrap_or(i64::MAX)
}

pub(super) async fn turn(
    connection: &mut Connection<'_>,
    key: &TurnKey,
    lock: Lock,
) -> Result<Option<RunningTurn>> {
    let sql = lockable!(
        connection,
        lock,
        "SELECT owner, id, session_id, status, idempotency_key, lease_until, partial, details, checksum
            FROM tutor_turns WHERE owner = $1 AND id = $2"
    );
    let row = connection
        .row(sql, values![key.owner.as_str(), key.id.as_str()])
        .await?;
    row.map(|row| read_turn(&row)).transpose()
}

/// The turn that has taken an idempotency key.
pub(super) async fn turn_of(
    connection: &mut Connection<'_>,
    owner: &OwnerId,
    idempotency_key: &str,
) -> Result<Option<Turn>> {
    let row = connection
        .row(
            "SELECT owner, id, session_id, status, idempotency_key, lease_until, partial, details, checksum
            FROM tutor_turns
            WHERE owner = $1 AND idempotency_key = $2",
            values![owner.as_str(), idempotency_key],
        )
        .await?;
    row.map(|row| Ok(read_turn(&row)?.turn)).transpose()
}

pub(super) async fn running_turns(connection: &mut Connection<'_>) -> Result<Vec<RunningTurn>> {
    let rows = connection
        .rows(
            "SELECT owner, id, session_id, status, idempotency_key, lease_until, partial, details, checksum
            FROM tutor_turns WHERE status = 'running'
            ORDER BY owner, id",
            Vec::new(),
        )
        .await?;
    let mut found = Vec::new();
    for row in &rows {
        match read_turn(row) {
            // The others must be ended all the same. Its session can be deleted.
            Err(error) if error.kind() == ErrorKind::DataCorrupt => {
                tracing::error!(%error, "a damaged turn that was left running stays as it is");
            }
            read => found.push(read?),
        }
    }
    Ok(found)
}

/// Hops from owner to owner, so that the number of their sessions does not matter.
pub(super) async fn owners(
    connection: &mut Connection<'_>,
    after: Option<OwnerId>,
    limit: usize,
) -> Result<Vec<OwnerId>> {
    let rows = connection
        .rows(
            "WITH RECURSIVE hop (owner) AS (
                SELECT min(owner) FROM chat_sessions WHERE owner > $1
                UNION ALL
                SELECT (SELECT min(s.owner) FROM chat_sessions s WHERE s.owner > hop.owner)
                FROM hop WHERE hop.owner IS NOT NULL
            )
            SELECT owner FROM hop WHERE owner IS NOT NULL LIMIT $2",
            values![
                after.as_ref().map_or("", OwnerId::as_str),
                signed(limit as u64)?
            ],
        )
        .await?;
    rows.iter().map(|row| read_id(row.text(0)?)).collect()
}

/// Reads more than once: to be called in one snapshot.
pub(super) async fn turns(
    connection: &mut Connection<'_>,
    key: &SessionKey,
    after: Option<TurnId>,
    limit: usize,
) -> Result<Vec<Turn>> {
    if session(connection, key, Lock::No).await?.is_none() {
        return Err(Error::not_found("session", &key.id));
    }
    let rows = connection
        .rows(
            "SELECT owner, id, session_id, status, idempotency_key, lease_until, partial, details, checksum
            FROM tutor_turns
            WHERE owner = $1 AND session_id = $2 AND id > $3 ORDER BY id LIMIT $4",
            values![
                key.owner.as_str(),
                key.id.as_str(),
                after.as_ref().map_or("", TurnId::as_str),
                signed(limit as u64)?,
            ],
        )
        .await?;
    rows.iter().map(|row| Ok(read_turn(row)?.turn)).collect()
}

pub(super) async fn session_ids(
    connection: &mut Connection<'_>,
    owner: &OwnerId,
    after: Option<SessionId>,
    limit: usize,
) -> Result<Vec<SessionId>> {
    let rows = connection
        .rows(
            "SELECT id FROM chat_sessions WHERE owner = $1 AND id > $2 ORDER BY id LIMIT $3",
            values![
                owner.as_str(),
                after.as_ref().map_or("", SessionId::as_str),
                signed(limit as u64)?,
            ],
        )
        .await?;
    rows.iter().map(|row| read_id(row.text(0)?)).collect()
}

/// The ids of a message and of all behind it in the order of storing, each with what it follows.
pub(super) async fn line_from(
    connection: &mut Connection<'_>,
    key: &SessionKey,
    first: u64,
) -> Result<Vec<(MessageId, Option<MessageId>)>> {
    let rows = connection
        .rows(
            "SELECT id, parent_id FROM messages
            WHERE owner = $1 AND session_id = $2 AND seq >= $3 ORDER BY seq",
            values![key.owner.as_str(), key.id.as_str(), signed(first)?],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let parent = row.optional_text(1)?.map(read_id).transpose()?;
            Ok((read_id(row.text(0)?)?, parent))
        })
        .collect()
}

/// The newest message of a session, and its number.
pub(super) async fn newest(
    connection: &mut Connection<'_>,
    key: &SessionKey,
) -> Result<Option<(MessageId, u64)>> {
    let row = connection
        .row(
            "SELECT id, seq FROM messages WHERE owner = $1 AND session_id = $2
            ORDER BY seq DESC LIMIT 1",
            values![key.owner.as_str(), key.id.as_str()],
        )
        .await?;
    row.map(|row| Ok((read_id(row.text(0)?)?, row.count(1)?)))
        .transpose()
}

/// Reads more than once: to be called in one snapshot.
pub(super) async fn whole_session(
    connection: &mut Connection<'_>,
    key: &SessionKey,
) -> Result<Option<WholeSession>> {
    let Some(stored) = session(connection, key, Lock::No).await? else {
        return Ok(None);
    };
    let rows = connection
        .rows(
            "SELECT owner, session_id, seq, id, parent_id, turn_id, role, content, timestamp,
                    details, checksum
            FROM messages WHERE owner = $1 AND session_id = $2 ORDER BY seq",
            values![key.owner.as_str(), key.id.as_str()],
        )
        .await?;
    if rows.len() as u64 != stored.session.message_count {
        return Err(damaged("a message is missing"));
    }
    let messages = rows
        .iter()
        .map(|row| read_message(row, key))
        .collect::<Result<_>>()?;
    let running = all_turns(connection, key).await?;
    let partial = running.iter().find_map(|one| one.partial.clone());
    Ok(Some(WholeSession {
        session: stored.session,
        messages,
        turns: running.into_iter().map(|one| one.turn).collect(),
        partial,
    }))
}

/// All turns of a session.
pub(super) async fn all_turns(
    connection: &mut Connection<'_>,
    key: &SessionKey,
) -> Result<Vec<RunningTurn>> {
    let rows = connection
        .rows(
            "SELECT owner, id, session_id, status, idempotency_key, lease_until, partial, details, checksum
            FROM tutor_turns
            WHERE owner = $1 AND session_id = $2 ORDER BY id",
            values![key.owner.as_str(), key.id.as_str()],
        )
        .await?;
    rows.iter().map(read_turn).collect()
}
