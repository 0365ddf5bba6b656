//! The small certificate authority behind `sluice cert`: a folder, no service.
//!
//! In the folder: `ca.crt` and `ca.key`; `NAME.crt` and `NAME.key` of each certificate; `issued`, a line for each with its
//! serial number, so that a name can be revoked when its file is gone; `revoked.crl`, signed, which daemons read. Nothing
//! that is there is written over but the list, which is replaced whole. Keys are ECDSA on P-256, made here, readable by
//! their owner alone. The folder belongs on the administrator's machine: no box needs more than `ca.crt`, `revoked.crl`
//! and a certificate of its own with its key.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::CertificateRevocationListDer;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::files::{self, FileError};
use crate::identity::{Role, hexadecimal};

/// Clocks of boxes may be behind by so much when a certificate is made.
const SKEW: Duration = Duration::hours(1);

/// How long a revocation list says that it holds. Daemons do not enforce it.
const LIST: Duration = Duration::days(3650);

/// Names in the folder that are no certificate's.
const TAKEN: [&str; 3] = ["ca", "issued", "revoked"];

/// Why nothing was issued, or revoked.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file that would be written is there.
    #[error("{0} is there already, and is not written over: move it away, or choose another name")]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("{path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// A name that cannot be a file's.
    #[error("`{0}` is no usable name (letters, digits, . _ - @, at most 64, not ca, issued or revoked)")]
    Name(String),
    /// A name of a server that cannot stand in a certificate.
    #[error("`{0}` is no host name and no address")]
    Host(String),
    /// There is nothing of that name or number.
    #[error("{folder}: no certificate of name or serial number `{wanted}` was issued here")]
    Unknown {
        /// The authority's folder.
        folder: PathBuf,
        /// What was asked for.
        wanted: String,
    },
    /// The cryptography failed.
    #[error("{0}")]
    Crypto(String),
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> AuthorityError {
        AuthorityError::Crypto(error.to_string())
    }
}

/// How long a certificate holds, in days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(pub u32);

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A box, under these host names and addresses.
    Server(Vec<String>),
    /// A person or a program that may do so much.
    Client(Role),
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Its serial number in hexadecimal.
    pub serial: String,
    /// `server`, `read` or `write`.
    pub kind: String,
    /// Its last second, since 1970.
    pub not_after: i64,
    /// Its name.
    pub name: String,
    /// Whether it is revoked.
    pub revoked: bool,
}

/// An authority in its folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority in a folder, which is made too if it is not there.
    ///
    /// # Errors
    /// There is one already, or the folder cannot be written.
    pub fn init(folder: &Path, name: &str, lifetime: Lifetime) -> Result<Authority, AuthorityError> {
        fs::create_dir_all(folder).map_err(|source| AuthorityError::Write { path: folder.into(), source })?;
        let mut params = params(name, lifetime)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        // The key first: where one is, there is an authority whose key must not be lost.
        create(&folder.join("ca.key"), key.serialize_pem().as_bytes(), 0o600)?;
        create(&folder.join("ca.crt"), certificate.pem().as_bytes(), 0o644)?;
        let authority = Authority::open(folder)?;
        authority.write_list(Vec::new(), 1)?;
        Ok(authority)
    }

    /// Opens the authority of a folder.
    ///
    /// # Errors
    /// There is none, or its files cannot be used.
    pub fn open(folder: &Path) -> Result<Authority, AuthorityError> {
        let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
        let list = files::certificates(&certificate)?;
        files::valid_now(&certificate, &list, OffsetDateTime::now_utc().unix_timestamp())?;
        // Read for its checks: that it is there, is a key, and private.
        let bytes = files::key(&key)?;
        let malformed =
            |error: rcgen::Error| FileError::Malformed { path: key.clone(), why: error.to_string() };
        let pair = KeyPair::try_from(bytes.secret_der()).map_err(malformed)?;
        let own =
            list.first().ok_or(FileError::Nothing { path: certificate.clone(), what: "certificate" })?;
        let issuer = Issuer::from_ca_cert_der(own, pair)?;
        Ok(Authority { folder: folder.to_owned(), issuer })
    }

    /// Issues a certificate: writes `NAME.key` and `NAME.crt`, and notes it.
    ///
    /// # Errors
    /// The name cannot be used, or is; or the folder cannot be written.
    pub fn issue(&self, name: &str, kind: &Kind, lifetime: Lifetime) -> Result<Issued, AuthorityError> {
        check_name(name)?;
        let mut params = params(name, lifetime)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let word = match kind {
            Kind::Server(hosts) => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                let hosts: Result<_, _> = hosts.iter().map(|host| alternative_name(host)).collect();
                params.subject_alt_names = hosts?;
                "server"
            }
            Kind::Client(role) => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                let uri = role.uri().try_into()?;
                params.subject_alt_names = vec![SanType::URI(uri)];
                role.name()
            }
        };
        let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes).unwrap_or_default();
        let issued = Issued {
            serial: hexadecimal(&serial),
            kind: word.to_owned(),
            not_after: params.not_after.unix_timestamp(),
            name: name.to_owned(),
            revoked: false,
        };
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        // Noted before it exists: what cannot be found again cannot be revoked.
        self.note(&issued)?;
        create(&self.folder.join(format!("{name}.key")), key.serialize_pem().as_bytes(), 0o600)?;
        create(&self.folder.join(format!("{name}.crt")), certificate.pem().as_bytes(), 0o644)?;
        Ok(issued)
    }

    /// All that were issued, the oldest first.
    ///
    /// # Errors
    /// The folder's notes or its revocation list cannot be read.
    pub fn issued(&self) -> Result<Vec<Issued>, AuthorityError> {
        let path = self.folder.join("issued");
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = String::from_utf8_lossy(&files::read(&path)?).into_owned();
        let revoked: Vec<String> = self.list()?.0.iter().map(|entry| number(&entry.serial_number)).collect();
        let line = |line: &str| {
            let mut words = line.splitn(4, ' ').map(str::to_owned);
            let (serial, kind, end) = (words.next()?, words.next()?, words.next()?);
            let name = words.next()?;
            Some(Issued {
                revoked: revoked.contains(&serial),
                serial,
                kind,
                not_after: end.parse().ok()?,
                name,
            })
        };
        Ok(text.lines().filter_map(line).collect())
    }

    /// Puts all certificates of a name, or the one of a serial number, on the revocation list. Returns those that are new
    /// on it.
    ///
    /// # Errors
    /// There is no such certificate, or the list cannot be written: then it is as it was.
    pub fn revoke(&self, wanted: &str) -> Result<Vec<Issued>, AuthorityError> {
        let number = wanted.to_ascii_lowercase();
        let mut found = self.issued()?;
        found.retain(|issued| issued.name == wanted || issued.serial == number);
        if found.is_empty() {
            return Err(AuthorityError::Unknown { folder: self.folder.clone(), wanted: wanted.to_owned() });
        }
        found.retain(|issued| !issued.revoked);
        let (mut entries, last) = self.list()?;
        for issued in &found {
            entries.push(RevokedCertParams {
                serial_number: SerialNumber::from(bytes(&issued.serial)),
                revocation_time: OffsetDateTime::now_utc(),
                reason_code: Some(RevocationReason::Unspecified),
                invalidity_date: None,
            });
        }
        self.write_list(entries, last + 1)?;
        Ok(found)
    }

    fn note(&self, issued: &Issued) -> Result<(), AuthorityError> {
        let path = self.folder.join("issued");
        let Issued { serial, kind, not_after, name, .. } = issued;
        for ending in ["key", "crt"] {
            let path = self.folder.join(format!("{name}.{ending}"));
            if path.exists() {
                return Err(AuthorityError::Exists(path));
            }
        }
        let line = format!("{serial} {kind} {not_after} {name}\n");
        let opened = OpenOptions::new().create(true).append(true).mode(0o644).open(&path);
        let written = opened.and_then(|mut file| {
            file.write_all(line.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|source| AuthorityError::Write { path, source })
    }

    /// The entries of the revocation list, and its number.
    fn list(&self) -> Result<(Vec<RevokedCertParams>, u64), AuthorityError> {
        let path = self.folder.join("revoked.crl");
        let lists = files::revocations(&path)?;
        let der: &CertificateRevocationListDer<'_> =
            lists.first().ok_or(FileError::Nothing { path: path.clone(), what: "revocation list" })?;
        let malformed = |why: String| FileError::Malformed { path: path.clone(), why };
        let (_, list) = CertificateRevocationList::from_der(der)
            .map_err(|error| malformed(format!("the revocation list is damaged: {error}")))?;
        let number = list.crl_number().and_then(|number| u64::try_from(number).ok());
        let number = number.ok_or_else(|| malformed("the revocation list has no number".into()))?;
        let entry = |entry: &x509_parser::revocation_list::RevokedCertificate<'_>| {
            let time = OffsetDateTime::from_unix_timestamp(entry.revocation_date.timestamp());
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from(bytes(&hexadecimal(entry.raw_serial()))),
                revocation_time: time.map_err(|error| malformed(error.to_string()))?,
                reason_code: Some(RevocationReason::Unspecified),
                invalidity_date: None,
            })
        };
        let entries: Result<Vec<_>, FileError> = list.iter_revoked_certificates().map(entry).collect();
        Ok((entries?, number))
    }

    /// Replaces the revocation list: written beside it, then renamed.
    fn write_list(&self, entries: Vec<RevokedCertParams>, number: u64) -> Result<(), AuthorityError> {
        let now = OffsetDateTime::now_utc();
        let list = CertificateRevocationListParams {
            this_update: now - SKEW,
            next_update: now + LIST,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: entries,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = list.signed_by(&self.issuer)?.pem()?;
        let (new, path) = (self.folder.join("revoked.crl.new"), self.folder.join("revoked.crl"));
        let _ = fs::remove_file(&new);
        create(&new, pem.as_bytes(), 0o644)?;
        fs::rename(&new, &path).map_err(|source| AuthorityError::Write { path, source })
    }
}

/// What all certificates have: a name, a random serial number of 16 bytes, a beginning and an end.
fn params(name: &str, Lifetime(days): Lifetime) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let mut serial: [u8; 16] =
        crate::random().ok_or_else(|| AuthorityError::Crypto("the system gives no random bytes".into()))?;
    // Positive, and of one length (RFC 5280 section 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let now = OffsetDateTime::now_utc();
    params.not_before = now - SKEW;
    params.not_after = now + Duration::days(i64::from(days));
    Ok(params)
}

fn check_name(name: &str) -> Result<(), AuthorityError> {
    let letter = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts && name.len() <= 64 && name.chars().all(letter) && !TAKEN.contains(&name) {
        Ok(())
    } else {
        Err(AuthorityError::Name(name.to_owned()))
    }
}

/// A host's name or address as clients compare it.
fn alternative_name(host: &str) -> Result<SanType, AuthorityError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let wrong = || AuthorityError::Host(host.to_owned());
    let label = |label: &str| {
        !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    if !host.split('.').all(label) {
        return Err(wrong());
    }
    Ok(SanType::DnsName(host.try_into().map_err(|_| wrong())?))
}

/// Writes a file that is not there yet.
fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = opened.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => AuthorityError::Exists(path.into()),
        _ => AuthorityError::Write { path: path.into(), source },
    })
}

fn number(serial: &SerialNumber) -> String {
    hexadecimal(&serial.to_bytes())
}

/// Bytes of a number in hexadecimal; what is none has no bytes.
fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests;
