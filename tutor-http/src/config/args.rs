//! What can be set on the command line.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tutor_core::file::{FileStore, URL_SCHEMES};
use tutor_core::store::{Location, Store};
use tutor_core::{Error, ErrorKind, Result};

use super::layers::{Layers, Setting};
use super::{DEFAULT_DATA, Vars, instances};
use crate::Shared;

// No doc comment: clap would show it as the help of the command that takes these options.
#[derive(Clone, Debug, Default, clap::Args)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "what is written here would be shown as the help of a command"
)]
pub struct Args {
    /// Address to listen on [env: HOST] [default: 127.0.0.1]
    #[arg(long)]
    pub host: Option<String>,
    /// Port to listen on; 0 for any that is free [env: PORT] [default: 8000]
    #[arg(long)]
    pub port: Option<u16>,
    #[command(flatten)]
    pub data: DataArgs,
    /// Pages that may call the server from a browser, separated by commas [env: CORS_ORIGINS] [default: http://localhost:5173,http://localhost:5180]
    #[arg(long)]
    pub cors_origins: Option<String>,
    /// Proxies in front of the server, whose X-Forwarded-For is believed: addresses and networks, separated by commas [env: TRUSTED_PROXIES] [default: none]
    #[arg(long, value_name = "NETWORKS")]
    pub trusted_proxies: Option<String>,
    /// error, warn, info, debug or trace [env: LOG_LEVEL] [default: info, or debug if DEBUG is set]
    #[arg(long)]
    pub log_level: Option<String>,
    /// text for people, json for programs [env: LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// The server's certificate and what leads from it to a trusted one, as PEM: serves HTTPS [env: TLS_CERTIFICATE]
    #[arg(long, value_name = "FILE")]
    pub tls_certificate: Option<String>,
    /// The certificate's private key, as PEM [env: TLS_KEY]
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// Tell health and metrics at this address and port, and metrics nowhere else [env: METRICS_LISTEN] [default: beside the API]
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics_listen: Option<String>,
    /// Who answers when a request names nobody [env: DEFAULT_PROVIDER] [default: the first one]
    #[arg(long, value_name = "NAME")]
    pub default_provider: Option<String>,
    /// off: ask nobody who they are; required: people sign in, and see only their own [env: AUTH] [default: off]
    #[arg(long, value_name = "MODE")]
    pub auth: Option<String>,
    /// open: anybody may register; closed: accounts are made by `neuro-tutor users add` [env: REGISTRATION] [default: open]
    #[arg(long, value_name = "MODE")]
    pub registration: Option<String>,
    /// Listen on an address that others can reach, though anybody can read and write everything
    #[arg(long)]
    pub insecure_no_auth: bool,
    /// Open connections; more are refused with 503 [env: MAX_CONNECTIONS] [default: 4096]
    #[arg(long)]
    pub max_connections: Option<usize>,
    /// Replies that are written at the same time; more are refused with 503 [env: MAX_LIVE_TURNS] [default: 1024]
    #[arg(long)]
    pub max_live_turns: Option<usize>,
    /// Bytes of a request's body; more are refused with 413 [env: MAX_BODY_BYTES] [default: 2097152]
    #[arg(long)]
    pub max_body_bytes: Option<usize>,
    /// Characters of one message of a learner; more are refused with 422 [env: MAX_MESSAGE_CHARS] [default: 20000]
    #[arg(long)]
    pub max_message_chars: Option<usize>,
    /// Seconds that a stopping server waits for running replies [env: DRAIN_SECONDS] [default: 10]
    #[arg(long)]
    pub drain_seconds: Option<u64>,
}

// Shared by every command that opens the data.
#[derive(Clone, Debug, Default, clap::Args)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "what is written here would be shown as the help of a command"
)]
pub struct DataArgs {
    /// Where conversations are kept: a directory, sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME, or memory: [env: DATABASE_URL] [default: neuro-tutor-data]
    #[arg(long, value_name = "LOCATION")]
    pub data: Option<String>,
}

const DATA: Setting = Setting {
    key: "data",
    var: "DATABASE_URL",
    form: "a location such as ./neuro-tutor-data or sqlite:///./tutor.db",
};

const FILES: Setting = Setting {
    key: "files",
    var: "FILES",
    form: "a directory, or a URL such as s3://bucket/path",
};

/// Where uploaded files are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilesPlace {
    /// Nowhere, once the server stops.
    Memory,
    /// A directory.
    Directory(PathBuf),
    /// A bucket, by its URL.
    Bucket(String),
}

impl fmt::Display for FilesPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("in memory"),
            Self::Directory(path) => path.display().fmt(f),
            Self::Bucket(url) => f.write_str(url),
        }
    }
}

/// What a bucket's account needs, by the names that the makers' own tools read. Some are keys.
#[derive(Clone)]
pub(super) struct BucketVars(Vec<(String, String)>);

impl BucketVars {
    pub(super) fn of(vars: &Vars) -> Self {
        Self(
            vars.beginning_with(&["AWS_", "GOOGLE_", "AZURE_"])
                .collect(),
        )
    }
}

impl fmt::Debug for BucketVars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BucketVars({} of them)", self.0.len())
    }
}

impl FilesPlace {
    fn parse(text: &str) -> Result<Self> {
        match text.split_once("://") {
            None => Ok(Self::Directory(PathBuf::from(text))),
            Some((scheme, _)) if URL_SCHEMES.contains(&scheme) => Ok(Self::Bucket(text.to_owned())),
            // What is behind the scheme may be a key.
            Some((scheme, _)) => Err(Error::new(
                ErrorKind::Config,
                format!("{scheme}:// is no place for files: write {}", FILES.form),
            )),
        }
    }

    /// Opens it.
    pub(super) fn open(&self, bucket: &BucketVars, records: Arc<dyn Store>) -> Result<FileStore> {
        let records = Arc::new(records);
        match self {
            Self::Memory => Ok(FileStore::in_memory(records)),
            Self::Directory(path) => FileStore::directory(path, records),
            Self::Bucket(url) => FileStore::at_url(url, bucket.0.iter().cloned(), records),
        }
    }
}

/// Where uploaded files are kept.
pub(super) fn pick_files(layers: &mut Layers<'_>, data: &Location) -> Result<FilesPlace> {
    layers.pick_read(
        FILES,
        None,
        FilesPlace::parse,
        |place| {
            match place {
                FilesPlace::Memory => String::new(),
                place => place.to_string(),
            }
            .into()
        },
        || {
            data.files()
                .map_or(FilesPlace::Memory, FilesPlace::Directory)
        },
    )
}

impl DataArgs {
    /// Where the data is: what the command line says, else the environment, else the configuration
    /// file, else the default.
    ///
    /// # Errors
    /// `config` for a location that cannot be used, naming the setting.
    pub fn locate(&self, vars: &Vars) -> Result<Location> {
        self.pick(&mut Layers::new(vars))
    }

    /// Uploaded files, where the server keeps them; `None` if there are none.
    ///
    /// # Errors
    /// `config` for a setting that cannot be used; `store_unavailable` for the directory.
    pub fn files(&self, vars: &Vars, store: Arc<dyn Store>) -> Result<Option<FileStore>> {
        match self.files_place(vars)? {
            FilesPlace::Directory(path) if !path.exists() => Ok(None),
            place => place.open(&BucketVars::of(vars), store).map(Some),
        }
    }

    /// What servers on the same data share; `None` for nothing. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// `config` for a setting that cannot be used.
    pub fn shared(&self, vars: &Vars) -> Result<Option<Shared>> {
        let url = instances::pick_redis(&mut Layers::new(vars))?;
        url.as_ref().map(Shared::new).transpose()
    }

    /// Where the server keeps uploaded files.
    ///
    /// # Errors
    /// `config` for a setting that cannot be used.
    pub fn files_place(&self, vars: &Vars) -> Result<FilesPlace> {
        let mut layers = Layers::new(vars);
        let data = self.pick(&mut layers)?;
        pick_files(&mut layers, &data)
    }

    /// Where the server keeps uploaded files, made if need be.
    ///
    /// # Errors
    /// As of [`files`](Self::files).
    pub fn make_files(&self, vars: &Vars, store: Arc<dyn Store>) -> Result<FileStore> {
        self.files_place(vars)?.open(&BucketVars::of(vars), store)
    }

    pub(super) fn pick(&self, layers: &mut Layers<'_>) -> Result<Location> {
        layers.pick_read(
            DATA,
            self.data.clone(),
            str::parse,
            |location: &Location| location.to_string().into(),
            || Location::Sled(PathBuf::from(DEFAULT_DATA)),
        )
    }
}
