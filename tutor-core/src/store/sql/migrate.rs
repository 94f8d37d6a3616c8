//! Brings the schema of a database to a version, in one transaction under a lock: it happens whole
//! or not at all, and of several programs that start at once one does it.

use super::connection::{Connection, Value, values};
use super::table::TABLES;
use crate::error::{Error, ErrorKind, Result};
use crate::store::migration::{Migration, MigrationPlan};

#[cfg(test)]
pub(super) mod tests;

/// Each migration: its name, and its statements for either database.
const MIGRATIONS: [(&str, &str, &str); 3] = [
    (
        "the tables of the original system",
        include_str!("schema/sqlite-1.sql"),
        include_str!("schema/postgres-1.sql"),
    ),
    (
        "owners, branches, turns and records",
        include_str!("schema/sqlite-2.sql"),
        include_str!("schema/postgres-2.sql"),
    ),
    (
        "a checksum of each row",
        include_str!("schema/sqlite-3.sql"),
        include_str!("schema/postgres-3.sql"),
    ),
];

/// The version that this program works with.
pub(crate) const LATEST: u32 = MIGRATIONS.len() as u32;

/// What is between two statements is in no state but those two: tests stop there.
pub(super) type Before<'a> = &'a mut (dyn FnMut(&'static str) -> Result<()> + Send);

/// What a migration to this version, or the latest, has to do.
///
/// # Errors
/// `data_corrupt` for a database of a newer version, `config` for a version that does not exist or
/// was passed.
pub(super) async fn plan(
    connection: &mut Connection<'_>,
    to: Option<u32>,
) -> Result<MigrationPlan> {
    let from = version(connection).await?;
    let refuse = |message: String| Err(Error::new(ErrorKind::Config, message));
    let to = to.unwrap_or(LATEST.max(from));
    if from > LATEST {
        return Err(Error::new(
            ErrorKind::DataCorrupt,
            "the database was made by a newer version of this program: use that one",
        )
        .with_context("version", from)
        .with_context("newest_known", LATEST));
    }
    if to > LATEST {
        return refuse(format!("there is no version {to}: the newest is {LATEST}"));
    }
    if to < from {
        return refuse(format!(
            "the database has version {from}, and migrations do not go back: restore a backup"
        ));
    }
    let steps = (from + 1..=to)
        .zip(MIGRATIONS.iter().skip(from as usize))
        .map(|(version, (name, sqlite, postgres))| Migration {
            version,
            name,
            statements: connection.pick(sqlite, postgres).split(";\n").collect(),
        });
    let steps = steps
        .map(|mut step| {
            step.statements.retain(|sql| !sql.trim().is_empty());
            step
        })
        .collect();
    Ok(MigrationPlan {
        from,
        to,
        steps,
        applied: false,
    })
}

/// Does what the plan says. The connection is nobody else's; what is interrupted is rolled back
/// with it.
pub(super) async fn run(
    connection: &mut Connection<'_>,
    to: Option<u32>,
    before: Before<'_>,
) -> Result<MigrationPlan> {
    let quick = plan(connection, to).await?;
    if quick.steps.is_empty() {
        return Ok(MigrationPlan {
            applied: true,
            ..quick
        });
    }
    let begin = connection.pick("BEGIN IMMEDIATE", "BEGIN");
    before(begin)?;
    connection.execute(begin, Vec::new()).await?;
    let done = apply(connection, to, before).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = match before(end) {
        Ok(()) => connection.execute(end, Vec::new()).await,
        Err(stopped) => Err(stopped),
    };
    let plan = done?;
    ended?;
    tracing::info!(from = plan.from, to = plan.to, "the database was migrated");
    Ok(plan)
}

async fn apply(
    connection: &mut Connection<'_>,
    to: Option<u32>,
    before: Before<'_>,
) -> Result<MigrationPlan> {
    if connection.is_shared() {
        connection
            .rows(
                "SELECT pg_advisory_xact_lock(7306087923456113)::TEXT",
                Vec::new(),
            )
            .await?;
    }
    // Another program may have been here first.
    let mut plan = plan(connection, to).await?;
    for step in &plan.steps {
        if step.version == 2 {
            check_original(connection).await?;
        }
        for sql in &step.statements {
            before(sql)?;
            connection.execute(sql, Vec::new()).await?;
        }
        if step.version == 3 {
            for table in TABLES {
                before("the checksums of a table")?;
                table.fill(connection).await?;
            }
        }
        connection
            .execute(
                "INSERT INTO tutor_migrations (version, name) VALUES ($1, $2)",
                values![i64::from(step.version), step.name],
            )
            .await?;
    }
    plan.applied = true;
    Ok(plan)
}

/// The version of the schema; 0 if there is none of ours.
async fn version(connection: &mut Connection<'_>) -> Result<u32> {
    let exists = connection.pick(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'tutor_migrations'",
        "SELECT count(*) FROM pg_class WHERE oid = to_regclass('tutor_migrations')",
    );
    if connection.expect_row(exists, Vec::new()).await?.count(0)? == 0 {
        return Ok(0);
    }
    let newest = "SELECT coalesce(max(version), 0) FROM tutor_migrations";
    let newest = connection.expect_row(newest, Vec::new()).await?.count(0)?;
    Ok(u32::try_from(newest).unwrap_or(u32::MAX))
}

/// Refuses tables that have more than the original's columns: what is in them would be lost.
async fn check_original(connection: &mut Connection<'_>) -> Result<()> {
    let sql = connection.pick(
        "SELECT name FROM pragma_table_info($1)",
        "SELECT column_name::TEXT FROM information_schema.columns
        WHERE table_schema = current_schema() AND table_name = $1",
    );
    let tables: [(&str, &[&str]); 2] = [
        (
            "chat_sessions",
            &["id", "title", "created_at", "updated_at"],
        ),
        (
            "messages",
            &["id", "session_id", "role", "content", "timestamp"],
        ),
    ];
    for (table, expected) in tables {
        let mut columns = Vec::new();
        for row in connection.rows(sql, values![table]).await? {
            columns.push(row.text(0)?);
        }
        let unknown = columns
            .iter()
            .find(|name| !expected.contains(&name.as_str()));
        let missing = expected
            .iter()
            .find(|name| !columns.iter().any(|column| column == *name));
        if let Some(column) = unknown.map(String::as_str).or(missing.copied()) {
            return Err(Error::new(
                ErrorKind::Config,
                "a table of the database is not the original system's, and would not survive: \
                 move it away, or name another database",
            )
            .with_context("table", table)
            .with_context("column", column));
        }
    }
    Ok(())
}
