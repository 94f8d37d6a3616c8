//! Base URLs, as people write them.

use std::fmt;

use reqwest::Url;

use crate::error::{Error, ErrorKind, Result};

/// Where a provider's API begins: scheme, host and perhaps a path and a query.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl(Url);

impl BaseUrl {
    /// Reads `http://…` or `https://…`.
    ///
    /// # Errors
    /// `config`, without the text: it may hold a secret.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &'static str| Error::new(ErrorKind::Config, what);
        let url = Url::parse(text.trim()).map_err(|_| {
            wrong("the base URL is not a URL: write it like https://api.example.com/v1")
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("the base URL must begin with https:// or http://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(
                "the base URL must not contain a user name or password: use the API key",
            ));
        }
        if url.fragment().is_some() {
            return Err(wrong("the base URL must not contain a #fragment"));
        }
        Ok(Self(url))
    }

    /// The URL of an endpoint such as `chat/completions`; a base URL that ends with it is fine, too.
    ///
    /// `missing` is given the path and says what the base URL lacks, such as `v1`. A path is never
    /// dropped.
    pub(crate) fn join(&self, endpoint: &str, missing: impl Fn(&str) -> &'static str) -> Url {
        let path = self.0.path().trim_end_matches('/');
        let path = path
            .strip_suffix(endpoint)
            .unwrap_or(path)
            .trim_end_matches('/');
        let mut url = self.0.clone();
        url.set_path(&match missing(path) {
            "" => format!("{path}/{endpoint}"),
            missing => format!("{path}/{missing}/{endpoint}"),
        });
        url
    }

    /// The host, in lower case.
    pub(crate) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The port, also if it is the scheme's own.
    pub(crate) fn port(&self) -> Option<u16> {
        self.0.port_or_known_default()
    }

    /// Host and port, for error messages.
    pub(crate) fn authority(&self) -> String {
        match self.0.port() {
            Some(port) => format!("{}:{port}", self.host()),
            None => self.host().to_owned(),
        }
    }

    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// True for this machine, where models are slow to load.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host().trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_base_url_is_refused_without_repeating_it() {
        for bad in [
            "",
            "secret",
            "ftp://secret/",
            "https://",
            "https://secret:pw@x.example",
            "https://x.example/#secret",
        ] {
            let error = BaseUrl::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn loopback_hosts_are_known() {
        for (base, loopback) in [
            ("http://localhost:1/v1", true),
            ("http://127.0.0.1", true),
            ("http://[::1]:8/", true),
            ("https://api.openai.com", false),
        ] {
            assert_eq!(
                BaseUrl::parse(base).unwrap().is_loopback(),
                loopback,
                "{base}"
            );
        }
    }
}
