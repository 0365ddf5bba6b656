//! PEM files: certificates, keys, revocation lists; and errors that name the file and what is wrong with it.
//!
//! A key that others may read is refused, as ssh does: whoever sees it is whom it belongs to. Whether a certificate is
//! signed by the right authority is decided in the handshake, not here.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::identity::{Identity, date};

/// Bytes of the largest file that is read: a list with a hundred thousand revoked certificates has 5 MB.
const LARGEST: u64 = 16 << 20;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// It does not hold what it should.
    #[error("{path}: no {what} in PEM form is in it")]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// What it holds is damaged.
    #[error("{path}: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A private key that is not private.
    #[error("{path}: this private key may be read by others (mode {mode:04o}): chmod o= it")]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A certificate whose time is over.
    #[error("{path}: the certificate expired on {since}")]
    Expired {
        /// The file.
        path: PathBuf,
        /// Its last second, RFC 3339.
        since: String,
    },
    /// A certificate whose time has not come.
    #[error("{path}: the certificate is not valid before {from}")]
    NotYet {
        /// The file.
        path: PathBuf,
        /// Its first second, RFC 3339.
        from: String,
    },
    /// Two files that do not belong together.
    #[error("{key}: this key does not belong to the certificate in {certificate}")]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
}

/// All certificates of a file, the holder's own first.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    all(path, "certificate")
}

/// The first certificate of a file as it describes itself, if its time is now (seconds since 1970).
pub(crate) fn valid_now(path: &Path, chain: &[CertificateDer<'_>], now: i64) -> Result<Identity, FileError> {
    let first = chain.first().ok_or(FileError::Nothing { path: path.into(), what: "certificate" })?;
    let identity = Identity::read(first)
        .map_err(|why| FileError::Malformed { path: path.into(), why: format!("the certificate {why}") })?;
    if now > identity.not_after {
        return Err(FileError::Expired { path: path.into(), since: date(identity.not_after) });
    }
    if now < identity.not_before {
        return Err(FileError::NotYet { path: path.into(), from: date(identity.not_before) });
    }
    Ok(identity)
}

/// The authorities of a file, and when the first of them ends.
pub(crate) fn roots(path: &Path, now: i64) -> Result<(RootCertStore, Identity), FileError> {
    let list = certificates(path)?;
    let identity = valid_now(path, &list, now)?;
    let mut roots = RootCertStore::empty();
    for certificate in list {
        let added = roots.add(certificate);
        added.map_err(|error| FileError::Malformed { path: path.into(), why: error.to_string() })?;
    }
    Ok((roots, identity))
}

/// The private key of a file that nobody else may read.
pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let metadata = fs::metadata(path).map_err(|source| FileError::Read { path: path.into(), source })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(FileError::NotPrivate { path: path.into(), mode });
    }
    all(path, "private key")?.pop().ok_or(FileError::Nothing { path: path.into(), what: "private key" })
}

/// The revocation lists of a file.
pub(crate) fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    all(path, "revocation list")
}

/// A file's bytes, unless it is far too large to be what it should.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |source: io::Error| FileError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    if read.map_err(failed)? as u64 > LARGEST {
        let why = format!("it is larger than {LARGEST} bytes");
        return Err(FileError::Malformed { path: path.into(), why });
    }
    Ok(bytes)
}

fn all<T: PemObject>(path: &Path, what: &'static str) -> Result<Vec<T>, FileError> {
    let bytes = read(path)?;
    let found: Result<Vec<T>, pem::Error> = T::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| FileError::Malformed { path: path.into(), why: error.to_string() })?;
    if found.is_empty() { Err(FileError::Nothing { path: path.into(), what }) } else { Ok(found) }
}
