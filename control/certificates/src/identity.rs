//! Who a certificate speaks for: the name in its subject, and the role in its alternative names.
//!
//! A role is one URI among the subject's alternative names (RFC 5280 section 4.2.1.6), [`Role::uri`], so that any authority
//! can give it; it is signed with the rest. A certificate without one, or with two, may do nothing. Whether it is
//! signed at all was decided by the handshake.

use std::fmt;

use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Letters of a name that are kept: more is no name, and would fill the log.
const NAME: usize = 64;

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Ask everything that changes nothing.
    Read,
    /// Ask and change everything.
    Write,
}

impl Role {
    /// Both.
    pub const ALL: [Role; 2] = [Role::Read, Role::Write];

    /// The alternative name that gives it.
    pub const fn uri(self) -> &'static str {
        match self {
            Role::Read => "sluice:role:read",
            Role::Write => "sluice:role:write",
        }
    }

    /// Its name, as `sluice cert` and the metrics have it.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Write => "write",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The common name of its subject: at most 64 characters, none of them a control character; `?` if there is none.
    pub name: String,
    /// What it may do; None: nothing.
    pub role: Option<Role>,
    /// Its serial number in hexadecimal.
    pub serial: String,
    /// Its first second, since 1970.
    pub not_before: i64,
    /// Its last second, since 1970.
    pub not_after: i64,
}

impl Identity {
    /// Reads a certificate.
    ///
    /// # Errors
    /// Why it is none, to be put behind "the certificate".
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Identity, String> {
        let parsed =
            X509Certificate::from_der(certificate).map_err(|error| format!("is damaged: {error}"))?.1;
        let common_name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let validity = parsed.validity();
        Ok(Identity {
            name: printable(common_name.unwrap_or_default()),
            role: role(&parsed),
            serial: hexadecimal(parsed.raw_serial()),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }
}

/// The role, if there is exactly one.
fn role(certificate: &X509Certificate<'_>) -> Option<Role> {
    let names = certificate.subject_alternative_name().ok()??;
    let mut roles = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Role::ALL.into_iter().find(|role| role.uri() == *uri),
        _ => None,
    });
    let role = roles.next()?;
    roles.next().is_none().then_some(role)
}

/// A name that can stand in a log line: an authority of one's own may have signed anything.
fn printable(name: &str) -> String {
    let clean = |c: char| if c.is_control() || c.is_whitespace() { '_' } else { c };
    let name: String = name.chars().take(NAME).map(clean).collect();
    if name.is_empty() { "?".to_owned() } else { name }
}

/// Bytes as two digits each, without the leading zero that ASN.1 needs.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    let bytes = match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Seconds since 1970 as RFC 3339 has them.
pub(crate) fn date(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| format!("second {seconds}"))
}
