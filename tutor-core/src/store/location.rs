//! Where data is kept, as one writes it in a setting, and how it is opened.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

#[cfg(feature = "store-postgres")]
use super::PostgresStore;
#[cfg(feature = "store-sled")]
use super::SledStore;
#[cfg(feature = "store-sqlite")]
use super::SqliteStore;
use super::migration::MigrationPlan;
use super::{MemoryStore, Store};
use crate::error::{Error, ErrorKind, Result};

/// A place for data.
///
/// | text | place |
/// |---|---|
/// | `memory:` | memory, until the process ends |
/// | `sled:./data`, or only a path | a directory, by the embedded store |
/// | `sqlite:///./tutor.db` | a database file; four slashes for an absolute path |
/// | `postgresql://user:password@host/name` | a PostgreSQL database |
///
/// The last two are written as SQLAlchemy writes them, with or without a driver
/// (`postgresql+psycopg2://…`).
///
/// ```
/// use tutor_core::store::Location;
/// let location: Location = "postgresql://ada:secret@db.example/tutor".parse()?;
/// assert_eq!(location.to_string(), "postgresql://db.example/tutor");
/// # tutor_core::Result::<()>::Ok(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// In memory.
    Memory,
    /// In this directory, by the embedded store.
    Sled(PathBuf),
    /// In this SQLite file.
    Sqlite(PathBuf),
    /// In this PostgreSQL database.
    Postgres(PostgresUrl),
}

impl Location {
    /// Opens the store, and makes it if there is none.
    ///
    /// # Errors
    /// * `config` if this build does not have that kind of store, naming the feature that it
    ///   lacks.
    /// * Those of the store: `store_locked`, `store_unavailable`, `data_corrupt`, `config`.
    pub async fn open(&self) -> Result<Arc<dyn Store>> {
        match self {
            Self::Memory => Ok(Arc::new(MemoryStore::new())),
            #[cfg(feature = "store-sled")]
            Self::Sled(directory) => Ok(Arc::new(SledStore::open(directory).await?)),
            #[cfg(not(feature = "store-sled"))]
            Self::Sled(_) => Err(not_in_this_build("a sled", "store-sled")),
            #[cfg(feature = "store-sqlite")]
            Self::Sqlite(file) => Ok(Arc::new(SqliteStore::open(file).await?)),
            #[cfg(not(feature = "store-sqlite"))]
            Self::Sqlite(_) => Err(not_in_this_build("an SQLite", "store-sqlite")),
            #[cfg(feature = "store-postgres")]
            Self::Postgres(url) => Ok(Arc::new(PostgresStore::open(url).await?)),
            #[cfg(not(feature = "store-postgres"))]
            Self::Postgres(_) => Err(not_in_this_build("a PostgreSQL", "store-postgres")),
        }
    }

    /// The directory where uploaded files are kept when nothing else is said: beside the data; `None`
    /// for data in memory.
    pub fn files(&self) -> Option<PathBuf> {
        let beside = |path: &PathBuf| {
            let mut name = path.clone().into_os_string();
            name.push("-files");
            PathBuf::from(name)
        };
        match self {
            Self::Memory => None,
            Self::Sled(path) | Self::Sqlite(path) => Some(beside(path)),
            Self::Postgres(_) => Some(PathBuf::from("neuro-tutor-files")),
        }
    }

    /// What a migration of the data to a version of its schema, by default the newest, has to do.
    /// Unless `dry_run` is set it is done. Only SQL databases have a schema; for others there is
    /// nothing to do. Opening migrates as well.
    ///
    /// # Errors
    /// As [`open`](Self::open); `config` for a version that does not exist, or lies behind.
    #[cfg_attr(
        not(any(feature = "store-sqlite", feature = "store-postgres")),
        expect(unused_variables, reason = "no store of this build has a schema")
    )]
    pub async fn migrate(&self, to: Option<u32>, dry_run: bool) -> Result<MigrationPlan> {
        match self {
            Self::Memory | Self::Sled(_) => Ok(MigrationPlan::default()),
            #[cfg(feature = "store-sqlite")]
            Self::Sqlite(file) => SqliteStore::migrate(file, to, dry_run).await,
            #[cfg(not(feature = "store-sqlite"))]
            Self::Sqlite(_) => Err(not_in_this_build("an SQLite", "store-sqlite")),
            #[cfg(feature = "store-postgres")]
            Self::Postgres(url) => PostgresStore::migrate(url, to, dry_run).await,
            #[cfg(not(feature = "store-postgres"))]
            Self::Postgres(_) => Err(not_in_this_build("a PostgreSQL", "store-postgres")),
        }
    }
}

/// Without credentials.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sled(directory) => write!(f, "sled:{}", directory.display()),
            Self::Sqlite(file) => write!(f, "sqlite:///{}", file.display()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

impl FromStr for Location {
    type Err = Error;

    /// # Errors
    /// `config` for anything else than the table's. Another place is never taken instead: nobody
    /// should have to search for their data.
    fn from_str(text: &str) -> Result<Self> {
        let (scheme, rest) = match text.split_once(':') {
            // One letter is a drive.
            Some((scheme, rest)) if scheme.len() > 1 && is_scheme(scheme) => {
                (scheme.to_ascii_lowercase(), rest)
            }
            _ => ("sled".to_owned(), text),
        };
        let (kind, driver) = match scheme.split_once('+') {
            Some((kind, driver)) => (kind, Some(driver)),
            None => (scheme.as_str(), None),
        };
        match (kind, driver) {
            ("memory", None) => Ok(Self::Memory),
            ("sled", None) => directory(rest).map(Self::Sled),
            ("sqlite", None | Some("pysqlite" | "aiosqlite")) => {
                sqlite_file(rest).map(Self::Sqlite)
            }
            ("postgres" | "postgresql", _) => PostgresUrl::new(rest).map(Self::Postgres),
            _ => Err(refuse(
                "no store has URLs of this kind: write sled:DIRECTORY, sqlite:///FILE, \
                 postgresql://USER:PASSWORD@HOST/NAME, or memory:",
            )
            .with_context("scheme", scheme)),
        }
    }
}

/// The URL of a PostgreSQL database. Shown without user, password and options.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    /// What is behind `postgresql:`.
    rest: String,
    shown: String,
}

impl PostgresUrl {
    fn new(rest: &str) -> Result<Self> {
        let Some(after) = rest.strip_prefix("//") else {
            return Err(refuse(
                "a PostgreSQL database is written postgresql://USER:PASSWORD@HOST/NAME",
            ));
        };
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (authority, path) = after.split_at(end);
        let host = match authority.split_once('@') {
            Some((_, host)) => host,
            None => authority,
        };
        // An @ further on means that what was cut off is not what the writer meant.
        if host.contains('@') || path.contains('@') {
            return Err(refuse(
                "write @ / ? # in a user name or password as %40 %2F %3F %23",
            ));
        }
        let port = host.rsplit_once(':').map_or("", |(_, port)| port);
        if !host.ends_with(']') && !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse("the port in a PostgreSQL URL is a number"));
        }
        let name = path.split(['?', '#']).next().unwrap_or_default();
        Ok(Self {
            rest: rest.to_owned(),
            shown: format!("postgresql://{host}{name}"),
        })
    }

    /// The whole URL, with its credentials: for the one who connects.
    pub fn reveal(&self) -> String {
        format!("postgresql:{}", self.rest)
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn directory(rest: &str) -> Result<PathBuf> {
    match rest.strip_prefix("//").unwrap_or(rest) {
        "" => Err(refuse(
            "the location names no directory: write sled:./neuro-tutor-data",
        )),
        path => Ok(path.into()),
    }
}

/// SQLAlchemy's forms, and what is written like `sled:PATH`.
fn sqlite_file(rest: &str) -> Result<PathBuf> {
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some("") => "",
        Some(after) => after.strip_prefix('/').ok_or_else(|| {
            refuse(
                "an SQLite file is on no other host: write sqlite:///FILE with three slashes for \
                 a relative path, four for an absolute one",
            )
        })?,
    };
    let (path, options) = path.split_once('?').unwrap_or((path, ""));
    // What SQLAlchemy's users must tell Python's driver means nothing here.
    let known = ["check_same_thread", "timeout", "cached_statements"];
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let name = option.split('=').next().unwrap_or_default();
        if !known.contains(&name) {
            return Err(
                refuse("this option of an SQLite URL is not known: leave it out")
                    .with_context("option", name),
            );
        }
    }
    if path.is_empty() || path == ":memory:" {
        return Err(refuse(
            "an SQLite database in memory would be lost with its connection: write \
             sqlite:///./neuro_tutor.db, or memory: to keep nothing",
        ));
    }
    Ok(path.into())
}

/// What may stand before the colon of a URL, such as `postgresql` or `sqlite+aiosqlite`.
fn is_scheme(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
}

#[cfg(not(all(
    feature = "store-sled",
    feature = "store-sqlite",
    feature = "store-postgres"
)))]
fn not_in_this_build(kind: &str, feature: &'static str) -> Error {
    refuse(format!(
        "this build has no store for {kind} database: build it with the feature {feature}, or \
         name another location"
    ))
    .with_context("feature", feature)
}

fn refuse(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Location> {
        text.parse()
    }

    #[test]
    fn a_location_is_memory_a_directory_or_a_file() {
        let sled = |path: &str| Location::Sled(path.into());
        let sqlite = |path: &str| Location::Sqlite(path.into());
        for (text, expected) in [
            ("memory:", Location::Memory),
            ("sled:./data", sled("./data")),
            ("sled:///srv/data", sled("/srv/data")),
            ("./data", sled("./data")),
            ("/srv/data", sled("/srv/data")),
            ("C:\\data", sled("C:\\data")),
            ("my/da:ta", sled("my/da:ta")),
            ("sqlite:///./neuro_tutor.db", sqlite("./neuro_tutor.db")),
            ("sqlite:///tutor.db", sqlite("tutor.db")),
            ("sqlite:////srv/tutor.db", sqlite("/srv/tutor.db")),
            ("sqlite:///C:\\tutor.db", sqlite("C:\\tutor.db")),
            ("sqlite+aiosqlite:///t.db", sqlite("t.db")),
            ("sqlite:///t.db?check_same_thread=False", sqlite("t.db")),
            ("sqlite:t.db", sqlite("t.db")),
            ("sqlite:/srv/t.db", sqlite("/srv/t.db")),
            ("SQLite:///t.db", sqlite("t.db")),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_postgresql_url_is_kept_and_never_shown() {
        for (text, shown) in [
            (
                "postgresql://user:canary@localhost/neuro_tutor",
                "localhost/neuro_tutor",
            ),
            ("postgres://canary@db:5433/t", "db:5433/t"),
            (
                "postgresql+psycopg2://u:canary@[::1]:5/t?password=canary",
                "[::1]:5/t",
            ),
            ("postgresql+asyncpg://u:c%40nary@h/t", "h/t"),
            ("postgresql:///t?host=/run&user=canary", "/t"),
        ] {
            let location = parse(text).unwrap();
            let expected = format!("postgresql://{shown}");
            assert_eq!(location.to_string(), expected);
            assert_eq!(format!("{location:?}"), format!("Postgres({expected})"));
            let Location::Postgres(url) = location else {
                panic!("{text}");
            };
            let (_, rest) = text.split_once(':').unwrap();
            assert_eq!(url.reveal(), format!("postgresql:{rest}"));
        }
    }

    #[test]
    fn what_is_no_location_is_refused_without_its_password() {
        for url in [
            "sled:",
            "",
            "sqlite:",
            "sqlite://",
            "sqlite:///",
            "sqlite:///:memory:",
            "sqlite://host/t.db",
            "sqlite:///t.db?mode=memory",
            "sqlite+pysqlcipher://:canary@/t.db",
            "mysql://user:canary@localhost/t",
            "redis://:canary@localhost",
            "memory+x:",
            "postgresql:canary",
            "postgresql://user:ca/n@ry@host/t",
            "postgresql://user:canary?@host/t",
            "postgresql://user:c@nary@host/t",
            "postgresql://user:canary/t",
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(!format!("{error:?}").contains("nary"), "{error}");
        }
    }

    #[cfg(not(all(
        feature = "store-sled",
        feature = "store-sqlite",
        feature = "store-postgres"
    )))]
    #[tokio::test]
    async fn a_store_that_this_build_lacks_is_refused_by_its_feature() {
        let missing = [
            (cfg!(feature = "store-sled"), "sled:x", "store-sled"),
            (
                cfg!(feature = "store-sqlite"),
                "sqlite:///x",
                "store-sqlite",
            ),
            (
                cfg!(feature = "store-postgres"),
                "postgresql://x/y",
                "store-postgres",
            ),
        ];
        for (_, text, feature) in missing.into_iter().filter(|(has, _, _)| !has) {
            let error = parse(text).unwrap().open().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains(feature), "{error}");
        }
    }

    #[tokio::test]
    async fn an_open_store_keeps_conversations_and_records() {
        use crate::store::{Expect, RecordStore, RecordWrite, SessionStore};
        let store = Location::Memory.open().await.unwrap();
        let write = RecordWrite {
            kind: "k".into(),
            key: "1".into(),
            value: Some(vec![7]),
            expect: Expect::Absent,
        };
        store.commit(vec![write]).await.unwrap();
        assert_eq!(store.get("k", "1").await.unwrap().unwrap().value, [7]);
        assert!(store.running_turns().await.unwrap().is_empty());
    }
}
