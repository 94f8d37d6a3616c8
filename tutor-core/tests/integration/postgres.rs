//! A PostgreSQL server for tests: the one that the environment names, or one of our own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

/// Names a running server; without it one is started.
const SERVER: &str = "TUTOR_TEST_POSTGRES";

/// A server that ends with this value, and with this process.
pub(crate) struct Server {
    _process: Child,
    _input: ChildStdin,
    pub(crate) url: String,
}

impl Server {
    /// Starts one in a directory of its own. Blocks.
    pub(crate) fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/postgres.py");
        let mut process = Command::new("python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tests of the PostgreSQL store need python3");
        let commands = process.stdin.take().unwrap();
        let mut answers = BufReader::new(process.stdout.take().unwrap());
        let mut url = String::new();
        answers.read_line(&mut url).unwrap();
        assert!(
            url.starts_with("postgresql://"),
            "the tests of the PostgreSQL store need a server: install the package postgresql, or \
             name one by {SERVER}"
        );
        Self {
            _process: process,
            _input: commands,
            url: url.trim_end().to_owned(),
        }
    }
}

/// The URL of the server that tests share.
pub(crate) fn shared() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        std::env::var(SERVER).unwrap_or_else(|_| {
            // It ends when its input does: with this process.
            let server = Box::leak(Box::new(Server::start()));
            server.url.clone()
        })
    })
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
