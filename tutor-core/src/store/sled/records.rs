//! Reading and writing small documents.

use std::ops::Bound;

use ::sled::Tree;

use super::draft::{Draft, Rows};
use super::envelope::damaged;
use super::rows::RecordRow;
use super::subject::Subject;
use super::tails::Effect;
use super::{keys, unavailable};
use crate::error::Result;
use crate::store::{Expect, KeyRange, Record, RecordWrite, rules};

/// The record with this key, whose row is under `name`.
pub(super) fn get(tree: &Tree, name: &[u8], key: String) -> Result<Option<Record>> {
    let row: Option<RecordRow> = tree
        .row(name)
        .map_err(|error| rules::about_record(error, key.as_bytes()))?;
    Ok(row.map(|row| Record {
        key,
        value: row.value,
        version: row.version,
    }))
}

pub(super) fn kinds(tree: &Tree) -> Result<Vec<String>> {
    let mut kinds = Vec::new();
    let mut from = keys::RECORDS.to_vec();
    loop {
        let next = tree.range(from..keys::behind(keys::RECORDS)).next();
        let Some((name, _)) = next.transpose().map_err(unavailable)? else {
            kinds.sort_unstable();
            return Ok(kinds);
        };
        let Some(Subject::Record(kind, _)) = Subject::of(&name) else {
            return Err(damaged(&name));
        };
        from = keys::behind(&keys::records(&kind));
        kinds.push(kind);
    }
}

pub(super) fn scan(tree: &Tree, kind: &str, range: &KeyRange, limit: usize) -> Result<Vec<Record>> {
    let of_kind = keys::records(kind);
    let first = keys::record(kind, &range.prefix);
    let from = match &range.after {
        Some(after) if *after >= range.prefix => Bound::Excluded(keys::record(kind, after)),
        _ => Bound::Included(first.clone()),
    };
    let mut found = Vec::new();
    for entry in tree
        .range::<Vec<u8>, _>((from, Bound::Unbounded))
        .take(limit)
    {
        let (name, value) = entry.map_err(unavailable)?;
        if !name.starts_with(&first) {
            break;
        }
        let key = std::str::from_utf8(&name[of_kind.len()..]).map_err(|_| damaged(&name))?;
        let row: RecordRow = tree
            .decode(&name, &value)
            .map_err(|error| rules::about_record(error, key.as_bytes()))?;
        found.push(Record {
            key: key.to_owned(),
            value: row.value,
            version: row.version,
        });
    }
    Ok(found)
}

pub(super) fn commit(draft: &mut Draft<'_>, writes: Vec<RecordWrite>) -> Result<()> {
    if writes.is_empty() {
        return Ok(());
    }
    // One sequence for all keys: nothing has to remember the version of a deleted one.
    let mut version: u64 = draft.row(keys::LAST_VERSION)?.unwrap_or(0);
    for (index, write) in writes.into_iter().enumerate() {
        let name = keys::record(&write.kind, &write.key);
        let met = match write.expect {
            Expect::Any => true,
            Expect::Absent => draft.raw(&name)?.is_none(),
            Expect::Version(expected) => {
                let now: Option<RecordRow> = draft.row(&name)?;
                now.is_some_and(|row| row.version == expected)
            }
        };
        if !met {
            return Err(rules::record_changed(&write.kind, index));
        }
        version += 1;
        let record = match write.value {
            Some(value) => {
                let row = RecordRow { value, version };
                draft.replace(&name, &row)?;
                Some(Record {
                    key: write.key,
                    value: row.value,
                    version,
                })
            }
            None => {
                draft.remove(&name)?;
                None
            }
        };
        draft.note(Effect::Record(name, record));
    }
    draft.replace(keys::LAST_VERSION, &version)
}
