//! TLS: a certificate and its key, from files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::{self, ServerConfig};
use tutor_core::{Error, ErrorKind, Result};

/// The protocol that is spoken if the client can.
pub(crate) const HTTP2: &[u8] = b"h2";

/// Where a certificate and its key are, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, followed by those that lead from it to a trusted one.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What a server proves to be who it is with. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

impl std::fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl TlsFiles {
    /// Reads them.
    ///
    /// # Errors
    /// `config`, naming the file: it cannot be read, is no PEM, or certificate and key do not
    /// belong together. Never with what is in it.
    pub fn load(&self) -> Result<Tls> {
        let (certificate, key) = (self.certificate.as_path(), self.key.as_path());
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unreadable(certificate, &error, "CERTIFICATE"))?;
        if chain.is_empty() {
            return Err(unreadable(
                certificate,
                &pem::Error::NoItemsFound,
                "CERTIFICATE",
            ));
        }
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| unreadable(key, &error, "PRIVATE KEY"))?;
        let mismatch = |error: rustls::Error| {
            let why = match error {
                rustls::Error::InconsistentKeys(_) => "they do not belong together",
                rustls::Error::InvalidCertificate(_) => "the certificate is damaged",
                _ => "the key is damaged, or of a kind that is not known here",
            };
            Error::new(
                ErrorKind::Config,
                format!("the certificate and its key cannot be used: {why}"),
            )
            .with_context("certificate", certificate.display())
            .with_context("key", key.display())
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(mismatch)?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(mismatch)?;
        config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        Ok(Tls(Arc::new(config)))
    }

    /// Changes when a file is replaced. `None` while one is missing.
    pub(crate) fn stamp(&self) -> Option<[SystemTime; 2]> {
        let of = |path: &Path| {
            std::fs::metadata(path)
                .and_then(|found| found.modified())
                .ok()
        };
        Some([of(&self.certificate)?, of(&self.key)?])
    }
}

impl Tls {
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0))
    }
}

fn unreadable(path: &Path, error: &pem::Error, what: &str) -> Error {
    let why = match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => format!("it has no -----BEGIN {what}-----"),
        _ => "it is no proper PEM".to_owned(),
    };
    Error::new(
        ErrorKind::Config,
        format!("{} cannot be read: {why}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(certificate: &str, key: &str) -> TlsFiles {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
        TlsFiles {
            certificate: fixtures.join(certificate),
            key: fixtures.join(key),
        }
    }

    #[test]
    fn a_certificate_goes_with_its_own_key_alone() {
        files("one.pem", "one.key").load().unwrap();
        for (certificate, key, why) in [
            ("one.pem", "two.key", "do not belong together"),
            ("lost.pem", "one.key", "lost.pem cannot be read"),
            ("one.key", "one.key", "no -----BEGIN CERTIFICATE-----"),
            ("one.pem", "one.pem", "no -----BEGIN PRIVATE KEY-----"),
        ] {
            let error = files(certificate, key).load().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains(why), "{error}");
        }
    }
}
