//! One connection to either database, its values and its rows, as the SQL of this crate sees them.

use sqlx::Row as _;
#[cfg(feature = "store-postgres")]
use sqlx::postgres::{PgConnection, PgRow};
#[cfg(feature = "store-sqlite")]
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::fault;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Timestamp;

/// A connection, for the time of some work. What is done in it is one transaction.
#[derive(Debug)]
pub enum Connection<'c> {
    /// To an SQLite file.
    #[cfg(feature = "store-sqlite")]
    Sqlite(&'c mut SqliteConnection),
    /// To a PostgreSQL server.
    #[cfg(feature = "store-postgres")]
    Postgres(&'c mut PgConnection),
}

/// A parameter of a statement.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
    Bytes(Vec<u8>),
    Time(Timestamp),
}

macro_rules! value_from {
    ($($type:ty, $value:ident => $result:expr;)+) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $result
            }
        })+
    };
}
value_from! {
    &str, value => Self::Text(Some(value.to_owned()));
    String, value => Self::Text(Some(value));
    Option<String>, value => Self::Text(value);
    Option<&str>, value => Self::Text(value.map(str::to_owned));
    i64, value => Self::Integer(Some(value));
    Option<i64>, value => Self::Integer(value);
    Vec<u8>, value => Self::Bytes(value);
    Timestamp, value => Self::Time(value);
}

/// The parameters of a statement, in the order of their numbers.
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        vec![$(Value::from($value)),*]
    };
}
pub(super) use values;

/// The query with its parameters; times as the database keeps them.
macro_rules! bound {
    ($sql:expr, $values:expr, $time:expr) => {{
        let mut query = sqlx::query($sql);
        for value in $values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Integer(number) => query.bind(number),
                Value::Bytes(bytes) => query.bind(bytes),
                Value::Time(time) => query.bind($time(time)),
            };
        }
        query
    }};
}

impl Connection<'_> {
    /// True if other processes write to the same data at the same time.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            #[cfg(feature = "store-sqlite")]
            Self::Sqlite(_) => false,
            #[cfg(feature = "store-postgres")]
            Self::Postgres(_) => true,
        }
    }

    /// What the two databases write differently.
    pub(super) fn pick(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        if self.is_shared() { postgres } else { sqlite }
    }

    /// Makes a change, and tells how many rows it changed.
    pub(super) async fn execute(&mut self, sql: &'static str, values: Vec<Value>) -> Result<u64> {
        let changed = match self {
            #[cfg(feature = "store-sqlite")]
            Self::Sqlite(connection) => bound!(sql, values, sqlite_time)
                .execute(&mut **connection)
                .await
                .map(|done| done.rows_affected()),
            #[cfg(feature = "store-postgres")]
            Self::Postgres(connection) => bound!(sql, values, postgres::Moment)
                .execute(&mut **connection)
                .await
                .map(|done| done.rows_affected()),
        };
        changed.map_err(fault::of)
    }

    /// Reads rows.
    pub(super) async fn rows(&mut self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Row>> {
        let rows = match self {
            #[cfg(feature = "store-sqlite")]
            Self::Sqlite(connection) => bound!(sql, values, sqlite_time)
                .fetch_all(&mut **connection)
                .await
                .map(|rows| rows.into_iter().map(Row::Sqlite).collect()),
            #[cfg(feature = "store-postgres")]
            Self::Postgres(connection) => bound!(sql, values, postgres::Moment)
                .fetch_all(&mut **connection)
                .await
                .map(|rows| rows.into_iter().map(Row::Postgres).collect()),
        };
        rows.map_err(fault::of)
    }

    /// Reads the first row.
    pub(super) async fn row(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Option<Row>> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Reads a row that is there.
    pub(super) async fn expect_row(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Row> {
        let row = self.row(sql, values).await?;
        row.ok_or_else(|| damaged("a row that must be there is missing"))
    }
}

/// A row of a result.
pub(super) enum Row {
    #[cfg(feature = "store-sqlite")]
    Sqlite(SqliteRow),
    #[cfg(feature = "store-postgres")]
    Postgres(PgRow),
}

macro_rules! column {
    ($row:expr, $type:ty, $at:expr) => {
        match $row {
            #[cfg(feature = "store-sqlite")]
            Row::Sqlite(row) => row.try_get_unchecked::<$type, usize>($at),
            #[cfg(feature = "store-postgres")]
            Row::Postgres(row) => row.try_get_unchecked::<$type, usize>($at),
        }
        .map_err(|_| damaged("a column has no value of its type").with_context("column", $at))
    };
}

impl Row {
    pub(super) fn text(&self, at: usize) -> Result<String> {
        column!(self, String, at)
    }

    pub(super) fn optional_text(&self, at: usize) -> Result<Option<String>> {
        column!(self, Option<String>, at)
    }

    pub(super) fn integer(&self, at: usize) -> Result<i64> {
        column!(self, i64, at)
    }

    pub(super) fn optional_integer(&self, at: usize) -> Result<Option<i64>> {
        column!(self, Option<i64>, at)
    }

    /// A number that is never negative.
    pub(super) fn count(&self, at: usize) -> Result<u64> {
        u64::try_from(self.integer(at)?)
            .map_err(|_| damaged("a count is negative").with_context("column", at))
    }

    pub(super) fn bytes(&self, at: usize) -> Result<Vec<u8>> {
        column!(self, Vec<u8>, at)
    }

    pub(super) fn time(&self, at: usize) -> Result<Timestamp> {
        match self {
            #[cfg(feature = "store-sqlite")]
            Self::Sqlite(_) => parse_sqlite_time(&self.text(at)?)
                .ok_or_else(|| damaged("a time is not one").with_context("column", at)),
            #[cfg(feature = "store-postgres")]
            Self::Postgres(row) => row
                .try_get_unchecked::<postgres::Moment, usize>(at)
                .map(|moment| moment.0)
                .map_err(|_| damaged("a time is not one").with_context("column", at)),
        }
    }
}

/// The database holds what this program did not write.
pub(super) fn damaged(what: &'static str) -> Error {
    Error::new(
        ErrorKind::DataCorrupt,
        format!("{what}: the database is damaged, restore a backup"),
    )
}

/// As SQLAlchemy writes a time without a zone: such texts sort like times.
#[cfg(feature = "store-sqlite")]
fn sqlite_time(time: Timestamp) -> String {
    let mut text = time.to_string().replace('T', " ");
    text.truncate(text.len() - 1);
    text
}

#[cfg(feature = "store-sqlite")]
fn parse_sqlite_time(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once(' ')?;
    format!("{date}T{time}Z").parse().ok()
}

#[cfg(feature = "store-postgres")]
mod postgres {
    use sqlx::encode::IsNull;
    use sqlx::error::BoxDynError;
    use sqlx::postgres::types::Oid;
    use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueRef};
    use sqlx::{Decode, Encode, Postgres, Type};

    use crate::time::Timestamp;

    /// The oid of `TIMESTAMP WITHOUT TIME ZONE`.
    const TIMESTAMP: Oid = Oid(1114);

    /// 2000-01-01T00:00:00Z, from which the server counts.
    const EPOCH: i64 = 946_684_800_000_000;

    /// A time as the server sends it: microseconds.
    #[derive(Debug)]
    pub(super) struct Moment(pub(super) Timestamp);

    impl Type<Postgres> for Moment {
        fn type_info() -> PgTypeInfo {
            PgTypeInfo::with_oid(TIMESTAMP)
        }
    }

    impl Encode<'_, Postgres> for Moment {
        fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
            let micros = self.0.as_micros().saturating_sub(EPOCH);
            buffer.extend(&micros.to_be_bytes());
            Ok(IsNull::No)
        }
    }

    impl Decode<'_, Postgres> for Moment {
        fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
            let micros = i64::from_be_bytes(value.as_bytes()?.try_into()?);
            Ok(Self(Timestamp::from_micros(micros.saturating_add(EPOCH))))
        }
    }
}

#[cfg(all(test, feature = "store-sqlite"))]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_like_sqlalchemys_and_read_back() {
        let time = Timestamp::from_micros(1_764_205_323_000_007);
        assert_eq!(sqlite_time(time), "2025-11-27 01:02:03.000007");
        assert_eq!(parse_sqlite_time(&sqlite_time(time)), Some(time));
        for bad in ["", "yesterday", "2025-13-01 00:00:00.000000"] {
            assert_eq!(parse_sqlite_time(bad), None, "{bad}");
        }
    }
}
