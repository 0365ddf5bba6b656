//! The daemon's side: its certificate, and what it asks of a client's.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};

use crate::files::{self, FileError};
use crate::provider;

/// The files that the daemon's side is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// Its certificate, with those between it and the authority behind it.
    pub certificate: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// The authority that signs clients' certificates.
    pub ca: PathBuf,
    /// Which of them are revoked; None: none.
    pub revoked: Option<PathBuf>,
}

/// What they came to.
#[derive(Clone, Debug)]
pub struct ServerSide {
    /// For handshakes.
    pub config: Arc<ServerConfig>,
    /// When the daemon's certificate ends, seconds since 1970.
    pub not_after: i64,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ServerSide {
    /// Reads the files at `now`, seconds since 1970.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(files: &ServerFiles, now: i64) -> Result<ServerSide, FileError> {
        let chain = files::certificates(&files.certificate)?;
        let identity = files::valid_now(&files.certificate, &chain, now)?;
        let key = files::key(&files.key)?;
        let (roots, _) = files::roots(&files.ca, now)?;
        let revoked = files.revoked.as_deref().map(files::revocations).transpose()?.unwrap_or_default();
        // Whoever forgets to renew the list must not be locked out of all boxes at once: its end is not enforced.
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .with_crls(revoked)
            .only_check_end_entity_revocation()
            .build()
            .map_err(|error| FileError::Malformed {
                path: files.revoked.clone().unwrap_or_else(|| files.ca.clone()),
                why: error.to_string(),
            })?;
        let damaged = |error: rustls::Error| match error {
            rustls::Error::InconsistentKeys(_) => {
                FileError::KeyMismatch { key: files.key.clone(), certificate: files.certificate.clone() }
            }
            other => FileError::Malformed { path: files.key.clone(), why: other.to_string() },
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(damaged)?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_single_cert(chain, key)
            .map_err(damaged)?;
        // A resumed session would keep what its certificate was worth when it began: each handshake is whole.
        config.max_early_data_size = 0;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(ServerSide { config: Arc::new(config), not_after: identity.not_after, verifier })
    }

    /// Whether a client that was let in before would be let in now (seconds since 1970).
    pub fn still_admits(&self, chain: &[CertificateDer<'_>], now: u64) -> bool {
        let Some((own, between)) = chain.split_first() else { return false };
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
        self.verifier.verify_client_cert(own, between, now).is_ok()
    }
}
