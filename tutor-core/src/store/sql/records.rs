//! The table of small documents. Kinds and keys are bytes, which sort like the texts that they are
//! and may hold everything.

use super::connection::{Connection, Row, Value, damaged, values};
use super::rows::signed;
use super::table;
use crate::error::Result;
use crate::store::{Expect, KeyRange, Record, RecordWrite, rules};

pub(super) async fn get(
    connection: &mut Connection<'_>,
    kind: String,
    key: String,
) -> Result<Option<Record>> {
    let row = connection
        .row(
            "SELECT kind, key, value, version, checksum FROM tutor_records
            WHERE kind = $1 AND key = $2",
            values![kind.into_bytes(), key.into_bytes()],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// Hops from kind to kind, so that the number of their records does not matter.
pub(super) async fn kinds(connection: &mut Connection<'_>) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    loop {
        // A kind may be empty; nothing is smaller.
        let sql = match found.last() {
            None => "SELECT kind FROM tutor_records ORDER BY kind LIMIT 1",
            Some(_) => "SELECT kind FROM tutor_records WHERE kind > $1 ORDER BY kind LIMIT 1",
        };
        let last = found
            .last()
            .map(|kind| Value::from(kind.clone().into_bytes()));
        match connection.row(sql, last.into_iter().collect()).await? {
            Some(row) => found.push(text(row.bytes(0)?)?),
            None => return Ok(found),
        }
    }
}

pub(super) async fn scan(
    connection: &mut Connection<'_>,
    kind: String,
    range: KeyRange,
    limit: usize,
) -> Result<Vec<Record>> {
    // UTF-8 has no byte 0xff: all that begins with the prefix is below.
    let end = [range.prefix.as_bytes(), &[0xff]].concat();
    let start = match range.after {
        // The first key behind a key is that key and a zero.
        Some(after) if after >= range.prefix => [after.as_bytes(), &[0]].concat(),
        _ => range.prefix.into_bytes(),
    };
    let rows = connection
        .rows(
            "SELECT kind, key, value, version, checksum FROM tutor_records
            WHERE kind = $1 AND key >= $2 AND key < $3 ORDER BY key LIMIT $4",
            values![
                kind.into_bytes(),
                start,
                end,
                signed(limit as u64).unwrap_or(i64::MAX)
            ],
        )
        .await?;
    rows.iter().map(read).collect()
}

pub(super) async fn commit(
    connection: &mut Connection<'_>,
    writes: Vec<RecordWrite>,
) -> Result<()> {
    if connection.is_shared() {
        lock(connection, &writes).await?;
    }
    for (index, write) in writes.into_iter().enumerate() {
        let (kind, key) = (write.kind.clone().into_bytes(), write.key.into_bytes());
        let row = connection
            .row(
                "SELECT version FROM tutor_records WHERE kind = $1 AND key = $2",
                values![kind.clone(), key.clone()],
            )
            .await?;
        let version = row.map(|row| row.count(0)).transpose()?;
        let met = match write.expect {
            Expect::Any => true,
            Expect::Absent => version.is_none(),
            Expect::Version(expected) => version == Some(expected),
        };
        if !met {
            return Err(rules::record_changed(&write.kind, index));
        }
        match write.value {
            Some(value) => put(connection, kind, key, value).await?,
            None => {
                connection
                    .execute(
                        "DELETE FROM tutor_records WHERE kind = $1 AND key = $2",
                        values![kind, key],
                    )
                    .await?;
            }
        }
    }
    Ok(())
}

/// Versions are taken from one counter, so that none is used again after a deletion.
async fn put(
    connection: &mut Connection<'_>,
    kind: Vec<u8>,
    key: Vec<u8>,
    value: Vec<u8>,
) -> Result<()> {
    let next = connection.pick(
        "UPDATE tutor_record_versions SET latest = latest + 1 RETURNING latest",
        "SELECT nextval('tutor_record_versions')",
    );
    let version = connection.expect_row(next, Vec::new()).await?.integer(0)?;
    connection
        .execute(
            "INSERT INTO tutor_records (kind, key, value, version, checksum)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value,
                version = excluded.version, checksum = excluded.checksum",
            table::RECORDS.seal(values![kind, key, value, version]),
        )
        .await?;
    Ok(())
}

/// Keeps others from the same keys until the end of the transaction. There may be no rows yet that
/// could be locked. All lock in the same order.
async fn lock(connection: &mut Connection<'_>, writes: &[RecordWrite]) -> Result<()> {
    let mut names: Vec<(&[u8], &[u8])> = writes
        .iter()
        .map(|write| (write.kind.as_bytes(), write.key.as_bytes()))
        .collect();
    names.sort_unstable();
    names.dedup();
    for (kind, key) in names {
        connection
            .rows(
                "SELECT pg_advisory_xact_lock(
                    hashtextextended(encode($1, 'hex') || '/' || encode($2, 'hex'), 2))::TEXT",
                values![kind.to_vec(), key.to_vec()],
            )
            .await?;
    }
    Ok(())
}

fn read(row: &Row) -> Result<Record> {
    let opened = table::RECORDS.open(row);
    // Whoever reads on behind it needs its key.
    let mut values = opened.map_err(|error| match row.bytes(1) {
        Ok(key) => rules::about_record(error, &key),
        Err(_) => error,
    })?;
    let _kind = values.bytes()?;
    Ok(Record {
        key: text(values.bytes()?)?,
        value: values.bytes()?,
        version: values.count()?,
    })
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| damaged("a record's name is no text"))
}
