//! The client's side: its certificate, and the authority that the box's must be signed by.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;

use crate::files::{self, FileError};
use crate::provider;

/// The files that a client's side is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// Its certificate.
    pub certificate: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// The authority that signed the box's certificate.
    pub ca: PathBuf,
}

/// Reads the files at `now`, seconds since 1970. What is wrong with the client's own certificate is said here, where there
/// is a file's name to it, rather than by an alert from the box.
///
/// # Errors
/// The first file that cannot be used.
pub fn client_config(files: &ClientFiles, now: i64) -> Result<Arc<ClientConfig>, FileError> {
    let chain = files::certificates(&files.certificate)?;
    files::valid_now(&files.certificate, &chain, now)?;
    let key = files::key(&files.key)?;
    let (roots, _) = files::roots(&files.ca, now)?;
    let damaged = |error: rustls::Error| match error {
        rustls::Error::InconsistentKeys(_) => {
            FileError::KeyMismatch { key: files.key.clone(), certificate: files.certificate.clone() }
        }
        other => FileError::Malformed { path: files.key.clone(), why: other.to_string() },
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(damaged)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(damaged)?;
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
