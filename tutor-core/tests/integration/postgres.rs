//! A PostgreSQL server for tests: the one that the environment names, or one of our own.

use std::sync::OnceLock;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::services::{self, Service};

/// A server of one's own. Blocks.
pub(crate) fn start() -> Service {
    Service::start("postgres.py")
}

/// The URL of the server that tests share.
pub(crate) fn shared() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    services::shared("TUTOR_TEST_POSTGRES", &URL, start)
}

/// The URL of a new, empty schema of the shared server.
pub(crate) async fn empty() -> String {
    let name = tempfile::tempdir().unwrap();
    let name = name.path().file_name().unwrap().to_string_lossy();
    create(&format!("t{}", name.trim_start_matches(".tmp"))).await
}

/// The URL of this schema, made if it is not there.
pub(crate) async fn create(schema: &str) -> String {
    let mut connection = PgConnection::connect(shared()).await.unwrap();
    let sql = format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"");
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    format!("{}?options=-c%20search_path%3D%22{schema}%22", shared())
}
