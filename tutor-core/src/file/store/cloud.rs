//! Files in a bucket of S3, Google Cloud Storage or Azure, named by a URL.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{HttpClient, HttpConnector};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};
use reqwest::Url;

use super::FileStore;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::http::plain_client;
use crate::store::RecordStore;

/// How the URLs begin that [`FileStore::at_url`] knows.
pub const URL_SCHEMES: [&str; 8] = ["s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss"];

/// How often a request is made again that a bucket does not answer as it should.
const MAX_RETRIES: usize = 3;

/// How long it is made again, at most.
const RETRY_TIME: Duration = Duration::from_secs(15);

/// Makes clients with the project's TLS, whatever the process has set up. Of the options of a client
/// only plain HTTP and a proxy are known.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allows_http = options.get_config_value(&ClientConfigKey::AllowHttp);
        let proxy = options.get_config_value(&ClientConfigKey::ProxyUrl);
        let client = plain_client(allows_http.as_deref() == Some("true"), proxy.as_deref());
        let client = client.map_err(|error| object_store::Error::Generic {
            store: "files",
            source: Box::new(error),
        })?;
        Ok(HttpClient::new(client))
    }
}

impl FileStore {
    /// Files in a bucket, below the path of its URL: `s3://bucket/path`, `gs://bucket/path` or
    /// `az://container/path`. `options` are what the makers' own tools read from the environment:
    /// `AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `GOOGLE_SERVICE_ACCOUNT`,
    /// `AZURE_STORAGE_ACCOUNT_NAME` and so on. Others are passed over.
    ///
    /// # Errors
    /// `config` for a URL or options that cannot be used. Nothing is asked yet.
    pub fn at_url(
        url: &str,
        options: impl IntoIterator<Item = (String, String)>,
        records: Arc<dyn RecordStore>,
    ) -> Result<Self> {
        let parsed = Url::parse(url).ok().filter(Url::has_host);
        let parsed = parsed.ok_or_else(|| wrong("write it like s3://bucket/path"))?;
        if parsed.password().is_some() {
            return Err(wrong("keys go into variables, not into it"));
        }
        let objects: Arc<dyn ObjectStore> = match parsed.scheme() {
            "s3" | "s3a" => {
                let bucket = AmazonS3Builder::new().with_url(url);
                let bucket = with(bucket, options, AmazonS3Builder::with_config);
                let bucket = bucket.with_http_connector(Connector);
                Arc::new(bucket.with_retry(retries()).build().map_err(unusable)?)
            }
            "gs" => {
                let bucket = GoogleCloudStorageBuilder::new().with_url(url);
                let bucket = with(bucket, options, GoogleCloudStorageBuilder::with_config);
                let bucket = bucket.with_http_connector(Connector);
                Arc::new(bucket.with_retry(retries()).build().map_err(unusable)?)
            }
            scheme if URL_SCHEMES.contains(&scheme) => {
                let container = MicrosoftAzureBuilder::new().with_url(url);
                let container = with(container, options, MicrosoftAzureBuilder::with_config);
                let container = container.with_http_connector(Connector);
                Arc::new(container.with_retry(retries()).build().map_err(unusable)?)
            }
            _ => return Err(wrong("it begins with s3://, gs:// or az://")),
        };
        let path = Path::from_url_path(parsed.path());
        let path = path.map_err(|_| wrong("its path cannot be used"))?;
        Ok(Self::new(
            Arc::new(PrefixStore::new(objects, path)),
            records,
        ))
    }
}

/// A builder with those of the options that it knows.
fn with<B, K: FromStr>(
    builder: B,
    options: impl IntoIterator<Item = (String, String)>,
    set: impl Fn(B, K, String) -> B,
) -> B {
    let options = options.into_iter();
    options.fold(builder, |builder, (name, value)| {
        match name.to_ascii_lowercase().parse() {
            Ok(key) => set(builder, key, value),
            Err(_) => builder,
        }
    })
}

/// Somebody waits for the answer.
fn retries() -> RetryConfig {
    RetryConfig {
        max_retries: MAX_RETRIES,
        retry_timeout: RETRY_TIME,
        ..RetryConfig::default()
    }
}

/// What the library says may quote an option, which may be a key.
fn unusable(_: object_store::Error) -> Error {
    wrong(
        "the account or its settings cannot be used: check the variables AWS_…, GOOGLE_… or AZURE_…",
    )
}

fn wrong(advice: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        format!("the place for files cannot be used: {advice}"),
    )
}

#[cfg(test)]
mod tests;
