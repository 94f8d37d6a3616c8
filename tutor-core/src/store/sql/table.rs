//! The tables, and the checksum of each row: a bit that changed on the disk is found when the row
//! is read, and does not hide other rows.
//!
//! A row without a checksum is taken as it is: such are rows that people write by hand. To change a
//! row by hand, set its checksum to NULL with it.

use super::connection::{Connection, Row, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::store::StorageCheck;
use crate::time::Timestamp;

/// How many rows are looked at in one go.
const ROWS: i64 = 500;

/// What a column holds.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Integer,
    Bytes,
    Time,
}

/// A table. The first of its columns are its key; the last one, behind those that are named here,
/// is the checksum.
#[derive(Debug)]
pub(super) struct Table {
    name: &'static str,
    kinds: &'static [Kind],
    /// How many columns the key has.
    key: usize,
    /// The first rows in the order of the key, and those behind a key. The last parameter is their
    /// number.
    first: &'static str,
    behind: &'static str,
    /// Sets the checksum, the last parameter, of the row with this key.
    fill: &'static str,
}

/// All tables whose rows have checksums.
pub(super) const TABLES: [&Table; 4] = [&SESSIONS, &MESSAGES, &TURNS, &RECORDS];

pub(super) const SESSIONS: Table = {
    use Kind::{Integer, Text, Time};
    Table {
        name: "chat_sessions",
        kinds: &[
            Text, Text, Text, Time, Time, Integer, Integer, Text, Text, Integer, Text,
        ],
        key: 2,
        first: "SELECT owner, id, title, created_at, updated_at, message_count, next_seq, head,
            running_turn, forked, details, checksum
            FROM chat_sessions ORDER BY owner, id LIMIT $1",
        behind: "SELECT owner, id, title, created_at, updated_at, message_count, next_seq, head,
            running_turn, forked, details, checksum
            FROM chat_sessions WHERE (owner, id) > ($1, $2) ORDER BY owner, id LIMIT $3",
        fill: "UPDATE chat_sessions SET checksum = $3 WHERE owner = $1 AND id = $2",
    }
};

pub(super) const MESSAGES: Table = {
    use Kind::{Integer, Text, Time};
    Table {
        name: "messages",
        kinds: &[
            Text, Text, Integer, Text, Text, Text, Text, Text, Time, Text,
        ],
        key: 3,
        first: "SELECT owner, session_id, seq, id, parent_id, turn_id, role, content, timestamp,
            details, checksum
            FROM messages ORDER BY owner, session_id, seq LIMIT $1",
        behind: "SELECT owner, session_id, seq, id, parent_id, turn_id, role, content, timestamp,
            details, checksum
            FROM messages WHERE (owner, session_id, seq) > ($1, $2, $3)
            ORDER BY owner, session_id, seq LIMIT $4",
        fill: "UPDATE messages SET checksum = $4 WHERE owner = $1 AND session_id = $2 AND seq = $3",
    }
};

pub(super) const TURNS: Table = {
    use Kind::{Integer, Text};
    Table {
        name: "tutor_turns",
        kinds: &[Text, Text, Text, Text, Text, Integer, Text, Text],
        key: 2,
        first: "SELECT owner, id, session_id, status, idempotency_key, lease_until, partial,
            details, checksum
            FROM tutor_turns ORDER BY owner, id LIMIT $1",
        behind: "SELECT owner, id, session_id, status, idempotency_key, lease_until, partial,
            details, checksum
            FROM tutor_turns WHERE (owner, id) > ($1, $2) ORDER BY owner, id LIMIT $3",
        fill: "UPDATE tutor_turns SET checksum = $3 WHERE owner = $1 AND id = $2",
    }
};

pub(super) const RECORDS: Table = {
    use Kind::{Bytes, Integer};
    Table {
        name: "tutor_records",
        kinds: &[Bytes, Bytes, Bytes, Integer],
        key: 2,
        first: "SELECT kind, key, value, version, checksum
            FROM tutor_records ORDER BY kind, key LIMIT $1",
        behind: "SELECT kind, key, value, version, checksum
            FROM tutor_records WHERE (kind, key) > ($1, $2) ORDER BY kind, key LIMIT $3",
        fill: "UPDATE tutor_records SET checksum = $3 WHERE kind = $1 AND key = $2",
    }
};

impl Table {
    /// The values of a row with their checksum behind them: what is to be stored.
    pub(super) fn seal(&self, mut values: Vec<Value>) -> Vec<Value> {
        values.push(Value::Integer(Some(self.checksum(&values))));
        values
    }

    /// The values that [`seal`](Self::seal) got. The row has all columns of the table in their
    /// order, from the first one on.
    ///
    /// # Errors
    /// `data_corrupt`, with the table and the key as `record`, if they are not what was written.
    pub(super) fn open(&self, row: &Row) -> Result<Values> {
        let values = self.read(row)?;
        let written = row.optional_integer(self.kinds.len());
        match written.map_err(|error| self.about(error, &values))? {
            Some(written) if written != self.checksum(&values) => Err(self.damaged(&values)),
            _ => Ok(Values(values.into_iter())),
        }
    }

    fn read(&self, row: &Row) -> Result<Vec<Value>> {
        let mut values = Vec::with_capacity(self.kinds.len() + 1);
        for (at, kind) in self.kinds.iter().enumerate() {
            let value = match kind {
                Kind::Text => row.optional_text(at).map(Value::Text),
                Kind::Integer => row.optional_integer(at).map(Value::Integer),
                Kind::Bytes => row.bytes(at).map(Value::Bytes),
                Kind::Time => row.time(at).map(Value::Time),
            };
            values.push(value.map_err(|error| self.about(error, &values))?);
        }
        Ok(values)
    }

    fn checksum(&self, values: &[Value]) -> i64 {
        let mut hasher = crc32fast::Hasher::new();
        let mut part = |tag: u8, bytes: &[u8]| {
            hasher.update(&[tag]);
            hasher.update(&(bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        part(b'r', self.name.as_bytes());
        for value in values {
            match value {
                Value::Text(Some(text)) => part(b't', text.as_bytes()),
                Value::Bytes(bytes) => part(b'b', bytes),
                Value::Integer(Some(number)) => part(b'i', &number.to_be_bytes()),
                Value::Time(time) => part(b'z', &time.as_micros().to_be_bytes()),
                Value::Text(None) | Value::Integer(None) => part(b'n', b""),
            }
        }
        i64::from(hasher.finalize())
    }

    fn damaged(&self, values: &[Value]) -> Error {
        let error = Error::new(
            ErrorKind::DataCorrupt,
            "a row of the database is damaged: restore a backup, or delete what it belongs to",
        );
        self.about(error, values)
    }

    /// Names the row, as far as its key is known.
    fn about(&self, error: Error, values: &[Value]) -> Error {
        let mut name = self.name.to_owned();
        for value in values.iter().take(self.key) {
            name.push(' ');
            match value {
                Value::Text(text) => {
                    name.extend(text.as_deref().unwrap_or_default().escape_default());
                }
                Value::Integer(number) => name.push_str(&number.unwrap_or_default().to_string()),
                Value::Bytes(bytes) => name.push_str(&bytes.escape_ascii().to_string()),
                Value::Time(time) => name.push_str(&time.to_string()),
            }
        }
        error.with_context("record", name)
    }

    async fn rows(
        &self,
        connection: &mut Connection<'_>,
        behind: Option<Vec<Value>>,
    ) -> Result<Vec<Row>> {
        let mut parameters = behind.unwrap_or_default();
        let sql = if parameters.is_empty() {
            self.first
        } else {
            self.behind
        };
        parameters.push(Value::from(ROWS));
        connection.rows(sql, parameters).await
    }

    fn key_of(&self, row: &Row) -> Result<Vec<Value>> {
        let kinds = self.kinds.iter().take(self.key).enumerate();
        let key = kinds.map(|(at, kind)| {
            Ok(match kind {
                Kind::Bytes => Value::Bytes(row.bytes(at)?),
                Kind::Integer => Value::Integer(Some(row.integer(at)?)),
                Kind::Text | Kind::Time => Value::Text(Some(row.text(at)?)),
            })
        });
        key.collect()
    }

    /// Gives a checksum to each row that has none. A row that cannot be read stays as it is.
    pub(super) async fn fill(&self, connection: &mut Connection<'_>) -> Result<()> {
        let mut behind = None;
        loop {
            let rows = self.rows(connection, behind).await?;
            for row in &rows {
                if row.optional_integer(self.kinds.len())?.is_none()
                    && let Ok(values) = self.read(row)
                {
                    let mut parameters = self.key_of(row)?;
                    parameters.push(Value::from(self.checksum(&values)));
                    connection.execute(self.fill, parameters).await?;
                }
            }
            match rows.last() {
                Some(last) => behind = Some(self.key_of(last)?),
                None => return Ok(()),
            }
        }
    }

    /// Looks at the rows behind a key, and gives the last one's; `None` at the end.
    pub(super) async fn check_some(
        &self,
        connection: &mut Connection<'_>,
        behind: Option<Vec<Value>>,
        mut found: StorageCheck,
    ) -> Result<(Option<Vec<Value>>, StorageCheck)> {
        let rows = self.rows(connection, behind).await?;
        for row in &rows {
            found.entries += 1;
            match self.open(row) {
                Err(error) if error.kind() == ErrorKind::DataCorrupt => found.problems.add(error),
                opened => drop(opened?),
            }
        }
        let last = rows.last().map(|last| self.key_of(last)).transpose()?;
        Ok((last, found))
    }
}

/// The values of a row, to be taken one by one in the order of the columns.
pub(super) struct Values(std::vec::IntoIter<Value>);

macro_rules! take {
    ($values:expr, $kind:ident) => {
        match $values.0.next() {
            Some(Value::$kind(value)) => Ok(value),
            _ => Err(super::connection::damaged(
                "a column has no value of its type",
            )),
        }
    };
}

impl Values {
    pub(super) fn optional_text(&mut self) -> Result<Option<String>> {
        take!(self, Text)
    }

    pub(super) fn text(&mut self) -> Result<String> {
        self.optional_text()?.ok_or_else(missing)
    }

    pub(super) fn integer(&mut self) -> Result<i64> {
        take!(self, Integer)?.ok_or_else(missing)
    }

    /// A number that is never negative.
    pub(super) fn count(&mut self) -> Result<u64> {
        u64::try_from(self.integer()?)
            .map_err(|_| super::connection::damaged("a count is negative"))
    }

    pub(super) fn time(&mut self) -> Result<Timestamp> {
        take!(self, Time)
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>> {
        take!(self, Bytes)
    }
}

fn missing() -> Error {
    super::connection::damaged("a column has no value")
}

#[cfg(test)]
mod tests {
    use super::super::connection::values;
    use super::*;

    #[test]
    fn different_rows_have_different_checksums() {
        let rows = [
            values!["ab", "c"],
            values!["a", "bc"],
            values!["ab", "d"],
            values!["ab", None::<String>],
            values!["ab", ""],
            values!["ab", b"c".to_vec()],
            values!["ab", 99_i64],
            values!["ab", Timestamp::from_micros(99)],
        ];
        let mut seen = std::collections::HashSet::new();
        for table in TABLES {
            for row in &rows {
                assert!(seen.insert(table.checksum(row)), "{} {row:?}", table.name);
            }
        }
    }
}
