//! The store in a PostgreSQL database, which several processes share.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection as _};
use tokio::time::timeout;

use super::connection::Connection;
use super::{Access, Engine, SqlStore, fault, migrate};
use crate::error::{Error, ErrorKind, Result};
use crate::store::location::PostgresUrl;
use crate::store::migration::MigrationPlan;
use crate::store::{Durability, StorageCheck, StoreInfo, Written};

#[cfg(test)]
mod tests;

/// How long a migration may take, with the wait for another program that does it.
const MIGRATION_LIMIT: Duration = Duration::from_secs(600);

/// A store in a PostgreSQL database, used by any number of processes.
///
/// Clones share their connections.
///
/// # Durability
/// What was acknowledged is committed: it survives what the server's settings promise, by default
/// power loss (`fsync`), and with a synchronous standby the loss of the machine. A connection whose
/// `synchronous_commit` is off waits for the disk all the same. When the server is away, calls fail
/// with `store_unavailable`; they succeed again when it is back.
pub type PostgresStore = SqlStore<PostgresEngine>;

impl PostgresStore {
    /// Connects to the database, and migrates its schema to the newest version. One of the
    /// original system keeps its conversations, which get the owner `local`.
    ///
    /// What the URL leaves out is taken from where PostgreSQL's programs take it (`PGPASSWORD`,
    /// `~/.pgpass` and so on).
    ///
    /// # Errors
    /// * `store_unavailable` if the server does not answer in time, or refuses.
    /// * `data_corrupt` if the schema is of a newer version.
    /// * `config` if the URL or the database cannot be used.
    pub async fn open(url: &PostgresUrl) -> Result<Self> {
        Self::options().open(url).await
    }

    /// What can be chosen.
    pub fn options() -> PostgresOptions {
        PostgresOptions::default()
    }

    /// What a migration of this database to a version, by default the newest, has to do. Unless
    /// `dry_run` is set it is done.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); `config` for a version that does not exist or was passed.
    pub async fn migrate(
        url: &PostgresUrl,
        to: Option<u32>,
        dry_run: bool,
    ) -> Result<MigrationPlan> {
        Self::options().migrate(url, to, dry_run).await
    }
}

/// How a [`PostgresStore`] connects.
#[derive(Clone, Debug)]
#[must_use]
pub struct PostgresOptions {
    max_connections: u32,
    connect_timeout: Duration,
    timeout: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            max_connections: 16,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(15),
        }
    }
}

impl PostgresOptions {
    /// The most connections of this process: 16 by default. More calls wait for one.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// How long to wait for a connection: 5 seconds by default.
    pub fn connect_timeout(mut self, wait: Duration) -> Self {
        self.connect_timeout = wait;
        self
    }

    /// How long a call may take once it has a connection: 15 seconds by default.
    pub fn timeout(mut self, wait: Duration) -> Self {
        self.timeout = wait;
        self
    }

    /// Connects to the database, and migrates its schema.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn open(self, url: &PostgresUrl) -> Result<PostgresStore> {
        let options = connect_options(url)?;
        let named = |error| named(error, url);
        let mut first = self.connect(&options).await.map_err(named)?;
        self.bring_to(&mut first, None, false)
            .await
            .map_err(named)?;
        // A server that goes away now says so at the first call.
        let _ = timeout(self.connect_timeout, first.close()).await;
        let pool = PgPoolOptions::new()
            .max_connections(self.max_connections)
            .acquire_timeout(self.connect_timeout)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    sqlx::query(
                        "SELECT set_config('synchronous_commit', 'on', false)
                        WHERE current_setting('synchronous_commit') = 'off'",
                    )
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .connect_lazy_with(options);
        Ok(SqlStore(PostgresEngine {
            pool,
            timeout: self.timeout,
            url: url.clone(),
        }))
    }

    async fn migrate(
        self,
        url: &PostgresUrl,
        to: Option<u32>,
        dry_run: bool,
    ) -> Result<MigrationPlan> {
        let options = connect_options(url)?;
        let migrating = async {
            let mut first = self.connect(&options).await?;
            let plan = self.bring_to(&mut first, to, dry_run).await?;
            // What was to be done is done.
            let _ = timeout(self.connect_timeout, first.close()).await;
            Ok(plan)
        };
        migrating.await.map_err(|error| named(error, url))
    }

    /// Checks that the database can be used, and migrates it unless there is nothing to do.
    async fn bring_to(
        &self,
        first: &mut PgConnection,
        to: Option<u32>,
        dry_run: bool,
    ) -> Result<MigrationPlan> {
        let looked = timeout(self.timeout, async {
            check_encoding(first).await?;
            migrate::plan(&mut Connection::Postgres(first), to).await
        });
        let plan = looked
            .await
            .map_err(|_| too_late("the database did not finish a call", self.timeout))??;
        if dry_run {
            return Ok(plan);
        }
        if plan.steps.is_empty() {
            return Ok(MigrationPlan {
                applied: true,
                ..plan
            });
        }
        let mut connection = Connection::Postgres(first);
        let mut go_on = |_| Ok(());
        let run = migrate::run(&mut connection, to, &mut go_on);
        timeout(MIGRATION_LIMIT, run)
            .await
            .map_err(|_| too_late("the database did not finish a migration", MIGRATION_LIMIT))?
    }

    async fn connect(&self, options: &PgConnectOptions) -> Result<PgConnection> {
        let connected = timeout(self.connect_timeout, options.connect()).await;
        connected
            .map_err(|_| too_late("the database did not answer", self.connect_timeout))?
            .map_err(fault::of)
    }
}

/// The connections of a [`PostgresStore`].
#[derive(Clone)]
pub struct PostgresEngine {
    pool: PgPool,
    timeout: Duration,
    url: PostgresUrl,
}

impl fmt::Debug for PostgresEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresEngine")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl PostgresEngine {
    async fn try_run<T, W>(&self, access: Access, work: W) -> Result<T>
    where
        W: for<'c> FnOnce(Connection<'c>) -> BoxFuture<'c, Result<T>> + Send,
    {
        let mut connection = self.pool.acquire().await.map_err(fault::of)?;
        let done = timeout(self.timeout, transaction(&mut connection, access, work)).await;
        done.unwrap_or_else(|_| {
            // Nobody knows in what state it is: the server rolls back when it is closed.
            drop(connection.detach());
            Err(too_late("the database did not finish a call", self.timeout))
        })
    }
}

async fn transaction<T, W>(connection: &mut PgConnection, access: Access, work: W) -> Result<T>
where
    W: for<'c> FnOnce(Connection<'c>) -> BoxFuture<'c, Result<T>> + Send,
{
    let begin = match access {
        Access::Read => return work(Connection::Postgres(connection)).await,
        Access::Snapshot => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        // Rows are locked before they are judged. Whatever the server's default is.
        Access::Write => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
    };
    let mut transaction = connection.begin_with(begin).await.map_err(fault::of)?;
    let result = work(Connection::Postgres(&mut transaction)).await;
    let ended = match &result {
        Ok(_) => transaction.commit().await,
        Err(_) => transaction.rollback().await,
    };
    match result {
        Ok(value) => ended.map(|()| value).map_err(fault::of),
        Err(error) => Err(error),
    }
}

impl Engine for PostgresEngine {
    fn info(&self) -> StoreInfo {
        StoreInfo {
            name: "postgresql".to_owned(),
            location: self.url.to_string(),
            durability: Durability::Power,
            exclusive: false,
            written: Written::default(),
        }
    }

    async fn run<T, W>(&self, access: Access, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(Connection<'c>) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        let result = self.try_run(access, work).await;
        result.map_err(|error| named(error, &self.url))
    }

    async fn check(&self) -> Result<StorageCheck> {
        self.run(Access::Read, |mut connection| {
            Box::pin(async move { check(&mut connection).await })
        })
        .await
    }

    async fn close(&self) -> Result<()> {
        self.pool.close().await;
        Ok(())
    }
}

/// The bytes of every table. The pages are the server's business.
async fn check(connection: &mut Connection<'_>) -> Result<StorageCheck> {
    let sizes = connection
        .expect_row(
            "SELECT pg_total_relation_size('chat_sessions') + pg_total_relation_size('messages')
                + pg_total_relation_size('tutor_turns') + pg_total_relation_size('tutor_records')",
            Vec::new(),
        )
        .await?;
    Ok(StorageCheck {
        bytes: sizes.count(0)?,
        ..StorageCheck::default()
    })
}

/// Texts are Unicode.
async fn check_encoding(connection: &mut PgConnection) -> Result<()> {
    let row = Connection::Postgres(connection)
        .expect_row("SELECT current_setting('server_encoding')", Vec::new())
        .await?;
    let encoding = row.text(0)?;
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Config,
        "the database does not store Unicode: create one with ENCODING 'UTF8'",
    )
    .with_context("encoding", encoding))
}

/// The options of a URL. Those that only other drivers know are translated, dropped or refused.
fn connect_options(url: &PostgresUrl) -> Result<PgConnectOptions> {
    const KNOWN: [&str; 12] = [
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "password",
        "application_name",
        "options",
    ];
    let text = url.reveal();
    let (base, query) = text.split_once('?').unwrap_or((&text, ""));
    let mut kept = Vec::new();
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            // Our own is shorter than anybody's.
            "connect_timeout" => {}
            // asyncpg's name.
            "ssl" => kept.push(format!("sslmode={value}")),
            name if KNOWN.contains(&name) => kept.push(option.to_owned()),
            name => {
                return Err(Error::new(
                    ErrorKind::Config,
                    "this option of a PostgreSQL URL is not known: leave it out",
                )
                .with_context("option", name));
            }
        }
    }
    let options: PgConnectOptions = format!("{base}?{}", kept.join("&"))
        .parse()
        .map_err(|error| named(fault::of(error), url))?;
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("neuro-tutor"),
    };
    Ok(options.disable_statement_logging())
}

fn too_late(what: &str, limit: Duration) -> Error {
    Error::new(
        ErrorKind::StoreUnavailable,
        format!("{what} within {} seconds", limit.as_secs_f32()),
    )
    .retryable(None)
}

/// Says which database it is about.
fn named(error: Error, url: &PostgresUrl) -> Error {
    let concerns_the_database = matches!(
        error.kind(),
        ErrorKind::DataCorrupt
            | ErrorKind::StoreUnavailable
            | ErrorKind::StoreLocked
            | ErrorKind::Config
            | ErrorKind::Internal
    );
    if concerns_the_database {
        return error.with_context("database", url);
    }
    error
}
