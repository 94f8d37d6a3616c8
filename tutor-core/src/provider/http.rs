//! What the providers behind HTTP share: the client, its requests, and how answers begin.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use reqwest::{Client, ClientBuilder, Method, Proxy, Response, StatusCode, Url, redirect};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use serde::de::DeserializeOwned;

use self::retry_after::retry_after;
use self::tape::Tape;
use self::url::BaseUrl;
use super::config::ProviderConfig;
use super::context::{RequestContext, TraceParent};
use super::fault::{Failure, Fault};
use super::key::ApiKey;
use super::rejection::Rejection;
use super::reply::{Protocol, completion, read_document};
use super::{CompletionStream, ModelInfo, ProviderInfo};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Notice;

#[cfg(any(
    feature = "provider-openai",
    feature = "provider-responses",
    feature = "provider-anthropic"
))]
pub(crate) mod model_list;
pub(crate) mod retry_after;
pub(crate) mod tape;
pub(crate) mod url;

/// The media type of server-sent events.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// How much of the body of an error is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// How long reading the body of an error may take.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest body that is read as a whole, in bytes.
pub(crate) const MAX_DOCUMENT_BYTES: usize = 16 << 20;

/// What stands for the proxy that the environment names.
const SYSTEM_PROXY: &str = "system";

const USER_AGENT: &str = concat!("tutor-core/", env!("CARGO_PKG_VERSION"));

/// How long a connection of [`plain_client`] may take, and a piece of an answer.
#[cfg(feature = "files-cloud")]
const PLAIN_CONNECT_TIME: Duration = Duration::from_secs(5);
#[cfg(feature = "files-cloud")]
const PLAIN_READ_TIME: Duration = Duration::from_secs(15);

/// Where providers put the id of a request.
const REQUEST_ID_HEADERS: &[&str] = &[
    "x-request-id",
    "request-id",
    "mistral-correlation-id",
    "x-generation-id",
    "apim-request-id",
];

/// The bytes of an answer, as they come.
pub(crate) type Body = BoxStream<'static, Result<Bytes, Failure>>;

/// The connections to one provider. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    client: Client,
    base: BaseUrl,
    headers: HeaderMap,
    key: Option<ApiKey>,
    name: Arc<str>,
    default_model: Arc<str>,
}

/// What a protocol knows of its maker's own server.
pub(crate) struct Maker {
    /// Where it is.
    pub(crate) base_url: &'static str,
    /// The model when nobody names one.
    pub(crate) model: &'static str,
}

/// The header that carries a key.
pub(crate) struct KeyHeader {
    /// Its name.
    pub(crate) name: HeaderName,
    /// What stands before the key.
    pub(crate) prefix: &'static str,
}

impl HttpClient {
    /// A client of the provider that `config` describes, by default at its `maker`'s server;
    /// `headers` go with every request, and so does the key.
    ///
    /// It follows no redirects, because they would take the key to another host, and uses only the
    /// proxy that it is given; the system's only if that is said.
    ///
    /// # Errors
    /// `config` if the key, or the URL of base or proxy is wrong, or this machine has no root
    /// certificates.
    pub(crate) fn new(
        config: &ProviderConfig,
        maker: &Maker,
        key_header: &KeyHeader,
        mut headers: HeaderMap,
    ) -> Result<Self> {
        let base = BaseUrl::parse(config.base_url.as_deref().unwrap_or(maker.base_url))?;
        if let Some(key) = &config.key {
            headers.insert(&key_header.name, secret_header(key_header.prefix, key)?);
        }
        let builder = Client::builder()
            .tls_backend_preconfigured(tls(base.is_https())?)
            .user_agent(USER_AGENT)
            .connect_timeout(config.timeouts.unwrap_or_default().connect)
            .redirect(redirect::Policy::none())
            .referer(false);
        let client = build(builder, config.proxy.as_deref())?;
        Ok(Self {
            client,
            base,
            headers,
            key: config.key.clone(),
            name: Arc::from(config.name.as_str()),
            default_model: Arc::from(config.default_model.as_deref().unwrap_or(maker.model)),
        })
    }

    pub(crate) fn base(&self) -> &BaseUrl {
        &self.base
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What the provider says about itself.
    pub(crate) fn info(&self) -> ProviderInfo {
        ProviderInfo::new(&*self.name, &*self.default_model)
    }

    /// Asks for a completion: posts `body` to `url`, and gives what the answer becomes in
    /// `protocol`, after the notices of what could not be asked for. `accept` is the media type of
    /// the stream that is asked for.
    pub(crate) async fn complete<P: Protocol>(
        &self,
        context: &RequestContext,
        url: Url,
        accept: &'static str,
        (body, notices): (Vec<u8>, Vec<Notice>),
        protocol: P,
    ) -> Result<CompletionStream> {
        match self.post(context, url, accept, body).await {
            Ok(answer) => Ok(completion(self.clone(), answer, protocol, notices)),
            Err(failure) => Err(self.error(failure)),
        }
    }

    /// The error that `failure` is to the caller.
    pub(crate) fn error(&self, failure: Failure) -> Error {
        failure
            .without(self.key.as_ref().map(ApiKey::expose))
            .into_error(&self.name)
    }

    /// Posts a JSON body and waits for the head of the answer, which is a success.
    async fn post(
        &self,
        context: &RequestContext,
        url: Url,
        accept: &'static str,
        body: Vec<u8>,
    ) -> Result<Answer, Failure> {
        let path = url.path().to_owned();
        let request = self
            .client
            .request(Method::POST, url)
            .headers(self.headers.clone())
            .header(ACCEPT, accept)
            .header(ACCEPT_ENCODING, "identity")
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        let request = match context.extensions.get::<TraceParent>() {
            Some(parent) => request.header("traceparent", &parent.0),
            None => request,
        };
        let sent = match context.extensions.get::<Tape>() {
            Some(tape) => tape.exchange(request, &path, self.key.as_ref()).await,
            None => request.send().await.map_err(transport),
        };
        let response = sent.map_err(|failure| failure.with_fact("host", self.base.authority()))?;
        Answer::new(response).await
    }

    /// Gets a JSON document.
    async fn get(&self, url: Url) -> Result<Vec<u8>, Failure> {
        let request = self
            .client
            .request(Method::GET, url)
            .headers(self.headers.clone())
            .header(ACCEPT, "application/json");
        let response = request
            .send()
            .await
            .map_err(|error| transport(error).with_fact("host", self.base.authority()))?;
        let mut answer = Answer::new(response).await?;
        let mut document = Vec::new();
        while let Some(chunk) = answer.body.next().await {
            document.extend_from_slice(&chunk?);
            if document.len() > MAX_DOCUMENT_BYTES {
                return Err(
                    Failure::hopeless(Fault::Malformed).with_fact("limit", "document_bytes")
                );
            }
        }
        Ok(document)
    }

    /// The JSON document at `url`.
    pub(crate) async fn document<T: DeserializeOwned>(&self, url: Url) -> Result<T, Failure> {
        let document = self.get(url).await?;
        let text = String::from_utf8_lossy(&document);
        read_document(&text, |text| serde_json::from_str(text))
    }

    /// The models in the document at `url`, by `read`. A server without such a list still has the
    /// model that it was configured for.
    pub(crate) async fn models<T: DeserializeOwned>(
        &self,
        url: Url,
        read: impl FnOnce(T) -> Vec<ModelInfo>,
    ) -> Result<Vec<ModelInfo>> {
        match self.document(url).await {
            Ok(list) => Ok(read(list)),
            Err(failure) if failure.fault() == Fault::NotFound => {
                Ok(vec![ModelInfo::new(&*self.default_model)])
            }
            Err(failure) => Err(self.error(failure)),
        }
    }
}

/// The value of a header that carries a key after `prefix`.
///
/// # Errors
/// `config` if the key cannot be one.
fn secret_header(prefix: &str, key: &ApiKey) -> Result<HeaderValue> {
    key.check()?;
    let mut value = HeaderValue::from_str(&format!("{prefix}{}", key.expose())).map_err(|_| {
        Error::new(
            ErrorKind::Config,
            "the API key has a character that no header may carry",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A successful answer whose body has not been read yet.
pub(crate) struct Answer {
    /// What the body claims to be.
    pub(crate) media: Media,
    /// The provider's name for this exchange.
    pub(crate) request_id: Option<String>,
    /// The body.
    pub(crate) body: Body,
}

impl Answer {
    async fn new(response: Response) -> Result<Self, Failure> {
        let (status, headers) = (response.status(), response.headers());
        let request_id = request_id(headers);
        let id = request_id.clone();
        let named = |failure: Failure| {
            failure
                .with_status(status.as_u16())
                .with_token("request_id", id.as_deref())
        };
        if status == StatusCode::NO_CONTENT {
            return Err(named(Failure::new(Fault::EmptyResponse)));
        }
        if !status.is_success() {
            return Err(named(rejected(response).await));
        }
        // What can be decoded was, and the header is gone.
        if headers
            .get(CONTENT_ENCODING)
            .is_some_and(|encoding| encoding != "identity")
        {
            return Err(named(Failure::hopeless(Fault::Malformed)));
        }
        let media = Media::of(headers);
        if media == Media::Html {
            return Err(named(Failure::hopeless(Fault::Malformed)));
        }
        let body = response
            .bytes_stream()
            .map(|chunk| chunk.map_err(transport))
            .boxed();
        Ok(Self {
            media,
            request_id,
            body,
        })
    }
}

/// What a body claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// Server-sent events.
    EventStream,
    /// A page for people: a gateway's or a hotel's.
    Html,
    /// JSON, something else, or nothing.
    Other,
}

impl Media {
    fn of(headers: &HeaderMap) -> Self {
        let text = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        match text
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
            .as_str()
        {
            "text/event-stream" => Self::EventStream,
            "text/html" => Self::Html,
            _ => Self::Other,
        }
    }
}

/// Why a response that is not a success was given.
async fn rejected(response: Response) -> Failure {
    let status = response.status().as_u16();
    let wait = retry_after(response.headers());
    let advice = response
        .headers()
        .get("x-should-retry")
        .map(|value| value == "true");
    let body = tokio::time::timeout(ERROR_BODY_TIMEOUT, beginning(response))
        .await
        .unwrap_or_default();
    let failure = Rejection::of_body(&String::from_utf8_lossy(&body)).into_failure(Some(status));
    match advice {
        Some(false) => failure.with_retryable(false),
        // Believed only where trying again is known to make sense.
        Some(true) if matches!(status, 408 | 409 | 425 | 429 | 500..) => {
            failure.with_retryable(true)
        }
        _ => failure,
    }
    .with_retry_after(wait)
}

/// The first bytes of a body, as far as they can be read.
async fn beginning(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MAX_ERROR_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    body
}

fn transport(error: reqwest::Error) -> Failure {
    let failure = match error.is_timeout() {
        true => Failure::new(Fault::Timeout).with_fact("phase", "connect"),
        false => Failure::new(Fault::Connection),
    };
    let failure = match cause(&error) {
        Some(cause) => failure.with_fact("cause", cause),
        None => failure,
    };
    failure.with_source(error.without_url())
}

/// Why there is no connection, where that can be told: `dns`, `refused`, `unreachable`, `reset` or
/// `tls`.
fn cause(error: &reqwest::Error) -> Option<&'static str> {
    use std::io::ErrorKind as Kind;

    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return Some("tls");
        }
        // The connector's own type is not public; its word is.
        if error.to_string().starts_with("dns error") {
            return Some("dns");
        }
        cause = match error.downcast_ref::<std::io::Error>() {
            Some(io) => match io.kind() {
                Kind::ConnectionRefused => return Some("refused"),
                Kind::ConnectionReset | Kind::ConnectionAborted => return Some("reset"),
                Kind::HostUnreachable | Kind::NetworkUnreachable => return Some("unreachable"),
                // It may wrap another error, which `source` passes over.
                _ => match io.get_ref() {
                    Some(inner) => Some(inner),
                    None => error.source(),
                },
            },
            None => error.source(),
        };
    }
    None
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    let value = REQUEST_ID_HEADERS
        .iter()
        .find_map(|name| headers.get(HeaderName::from_static(name)))?;
    value.to_str().ok().map(str::to_owned)
}

/// A client of this project's TLS for what is no provider. It does not follow redirects, speaks
/// plain HTTP only where that is allowed, and uses only the proxy that it is given.
#[cfg(feature = "files-cloud")]
pub(crate) fn plain_client(allows_http: bool, proxy: Option<&str>) -> Result<Client> {
    let builder = Client::builder()
        .https_only(!allows_http)
        .tls_backend_preconfigured(tls(!allows_http)?)
        .user_agent(USER_AGENT)
        .connect_timeout(PLAIN_CONNECT_TIME)
        .read_timeout(PLAIN_READ_TIME)
        .redirect(redirect::Policy::none())
        .referer(false);
    build(builder, proxy)
}

fn build(builder: ClientBuilder, proxy: Option<&str>) -> Result<Client> {
    let builder = match proxy {
        Some(SYSTEM_PROXY) => builder,
        Some(proxy) => builder.no_proxy().proxy(Proxy::all(proxy).map_err(|_| {
            Error::new(
                ErrorKind::Config,
                "the proxy is not a URL: write it like http://proxy.example:3128",
            )
        })?),
        None => builder.no_proxy(),
    };
    builder.build().map_err(|error| {
        Error::new(ErrorKind::Config, "the HTTP client could not be made")
            .with_source(error.without_url())
    })
}

/// TLS with ring, said explicitly: the process may have another default, or none.
fn tls(required: bool) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let wrong = |error: rustls::Error| {
        Error::new(
            ErrorKind::Config,
            "TLS cannot be used: install this machine's root certificates (the package ca-certificates)",
        )
        .with_source(error)
    };
    let versions = |provider: Arc<CryptoProvider>| {
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(wrong)
    };
    let builder = versions(Arc::clone(&provider))?;
    let mut config = match Verifier::new(Arc::clone(&provider)) {
        Ok(verifier) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth(),
        Err(error) if required => return Err(wrong(error)),
        // A server in plain text needs no certificates, and a minimal machine has none.
        Err(_) => builder
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
