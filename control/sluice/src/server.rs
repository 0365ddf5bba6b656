//! Where the daemon is: behind its unix socket on this box, or on another one, `https://box:9844`, behind mutual TLS.
//!
//! What is on the command line wins over the environment, so that `--socket` asks this box also where `SLUICE_SERVER` is
//! set. Files are read with the first request: verbs that ask no daemon need none. What goes wrong names the file, or the
//! box and what it said.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use hyper::header::{HeaderMap, HeaderValue};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use sluice_certificates::{ClientFiles, client_config};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Failure;

/// Where remote control listens unless it is told otherwise.
const PORT: u16 = 9844;

/// How long connecting may take, and how long the handshake.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which daemon is asked.
#[derive(Debug, Args)]
pub(crate) struct Address {
    /// The daemon's API socket.
    #[arg(long, global = true, env = "SLUICE_SOCKET", default_value = sluice_api::DEFAULT_SOCKET)]
    socket: PathBuf,
    /// A daemon on another host instead, with `control.remote`: `https://HOST[:PORT]`.
    #[arg(long, global = true, env = "SLUICE_SERVER", value_name = "URL")]
    server: Option<Url>,
    /// Certificate to show to it.
    #[arg(long, global = true, env = "SLUICE_CERT", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The certificate's private key.
    #[arg(long, global = true, env = "SLUICE_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Authority that its certificate must be signed by.
    #[arg(long, global = true, env = "SLUICE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Address {
    /// Forgets a server that only the environment names, where the command line names a socket.
    pub(crate) fn settle(&mut self, matches: &ArgMatches) {
        let mut deepest = matches;
        let mut given = false;
        // A global option may stand behind any verb.
        loop {
            let named = |id| deepest.value_source(id) == Some(ValueSource::CommandLine);
            given = given || named("socket") && !named("server");
            match deepest.subcommand() {
                Some((_, inner)) => deepest = inner,
                None => break,
            }
        }
        if given {
            self.server = None;
        }
    }

    /// The daemon.
    pub(crate) fn place(self) -> Place {
        match self.server {
            None => Place::Socket(self.socket),
            Some(url) => {
                let (cert, key, ca) = (self.cert, self.key, self.ca);
                Place::Server(Server { url, cert, key, ca, config: OnceLock::new() })
            }
        }
    }
}

/// A server as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// A name, or an address without brackets.
    host: String,
    port: u16,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        let wrong = || format!("`{text}` is no https://HOST[:PORT]");
        let rest = text.strip_prefix("https://").ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || ServerName::try_from(host).is_err() {
            return Err(wrong());
        }
        let port = port.map_or(Ok(PORT), str::parse).map_err(|_| wrong())?;
        Ok(Url { host: host.to_owned(), port })
    }
}

/// Where a daemon is.
pub(crate) enum Place {
    /// On this box.
    Socket(PathBuf),
    /// On another.
    Server(Server),
}

impl Place {
    /// The HTTP header that names it.
    pub(crate) fn host(&self) -> String {
        match self {
            Place::Socket(_) => "sluice".to_owned(),
            Place::Server(server) => server.name(),
        }
    }

    /// A connection that was made and did not hold. With TLS 1.3 a box that refuses a certificate says so only then.
    pub(crate) fn broken(&self, error: &hyper::Error) -> Failure {
        let source = std::error::Error::source(error);
        let io = source.and_then(|source| source.downcast_ref::<std::io::Error>());
        Failure::CouldNotAsk(match self {
            Place::Socket(path) => format!("connection to {} broke: {error}", path.display()),
            Place::Server(server) => match io.and_then(tls) {
                Some(tls) => server.refused(tls),
                None => format!("connection to {} broke: {error}", server.name()),
            },
        })
    }
}

/// A daemon on another host.
pub(crate) struct Server {
    url: Url,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Server {
    /// Connects, and checks that it is the one.
    pub(crate) async fn connect(&self) -> Result<TlsStream<TcpStream>, Failure> {
        let config = self.config()?;
        let failed = |why: String| Failure::CouldNotAsk(format!("cannot reach {}: {why}", self.name()));
        let late = |_| failed(format!("no answer within {} s", PATIENCE.as_secs()));
        let stream = timeout(PATIENCE, TcpStream::connect((self.url.host.as_str(), self.url.port)));
        let stream = stream.await.map_err(late)?.map_err(|error| failed(error.to_string()))?;
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from(self.url.host.clone()).map_err(|error| failed(error.to_string()))?;
        let handshake = timeout(PATIENCE, TlsConnector::from(config).connect(name, stream));
        handshake.await.map_err(late)?.map_err(|error| match tls(&error) {
            Some(tls) => Failure::CouldNotAsk(self.refused(tls)),
            None => failed(error.to_string()),
        })
    }

    /// Puts time and number on a request, without which no change is taken from another host.
    pub(crate) fn stamp(headers: &mut HeaderMap) -> Result<(), Failure> {
        let random: [u8; 16] = sluice_certificates::random()
            .ok_or_else(|| Failure::CouldNotAsk("the system gives no random bytes".into()))?;
        let number = format!("{:032x}", u128::from_be_bytes(random));
        let number = HeaderValue::from_str(&number).map_err(|e| Failure::CouldNotAsk(e.to_string()))?;
        headers.insert(sluice_api::TIME_HEADER, HeaderValue::from(now()));
        headers.insert(sluice_api::ID_HEADER, number);
        Ok(())
    }

    /// Host and port.
    fn name(&self) -> String {
        let Url { host, port } = &self.url;
        if host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }

    fn config(&self) -> Result<Arc<ClientConfig>, Failure> {
        if let Some(config) = self.config.get() {
            return Ok(Arc::clone(config));
        }
        let given = |file: &Option<PathBuf>, option: &str| {
            let missing = || {
                let environment = option.to_ascii_uppercase();
                Failure::CouldNotAsk(format!(
                    "{} asks for a certificate: give --{option}, or SLUICE_{environment}",
                    self.name()
                ))
            };
            file.clone().ok_or_else(missing)
        };
        let files = ClientFiles {
            certificate: given(&self.cert, "cert")?,
            key: given(&self.key, "key")?,
            ca: given(&self.ca, "ca")?,
        };
        let config = client_config(&files, now().cast_signed());
        let config = config.map_err(|error| Failure::CouldNotAsk(error.to_string()))?;
        Ok(Arc::clone(self.config.get_or_init(|| config)))
    }

    /// What it means that a handshake failed so.
    fn refused(&self, error: &rustls::Error) -> String {
        let name = self.name();
        let file = |path: &Option<PathBuf>| {
            path.as_ref().map_or_else(|| "?".to_owned(), |path| path.display().to_string())
        };
        let (cert, ca) = (file(&self.cert), file(&self.ca));
        match error {
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRevoked => format!("{name} refused {cert}: it is revoked"),
                AlertDescription::CertificateExpired => {
                    format!("{name} refused {cert}: it has expired by the box's clock")
                }
                AlertDescription::UnknownCA
                | AlertDescription::DecryptError
                | AlertDescription::BadCertificate => {
                    format!("{name} refused {cert}: it is not signed by the authority that the box trusts")
                }
                AlertDescription::UnsupportedCertificate | AlertDescription::CertificateUnknown => {
                    format!("{name} refused {cert}: it is no client's certificate")
                }
                other => format!("{name} ended the handshake: {other:?}"),
            },
            rustls::Error::InvalidCertificate(why) => match why {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    format!(
                        "{name} shows a certificate that is not signed by {ca}: it may not be the box you mean"
                    )
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    format!("{name} shows a certificate that has expired")
                }
                other => format!("{name} shows a certificate that is not good: {other}"),
            },
            other => format!("cannot reach {name}: {other}"),
        }
    }
}

/// What TLS says within an error of the connection.
fn tls(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_names_or_addresses_with_a_port() {
        for (text, expected) in [
            ("https://box", Some(("box", PORT))),
            ("https://box.example.org:1/", Some(("box.example.org", 1))),
            ("https://192.0.2.1:9844", Some(("192.0.2.1", 9844))),
            ("https://[2001:db8::1]:7", Some(("2001:db8::1", 7))),
            ("https://[2001:db8::1]", Some(("2001:db8::1", PORT))),
            ("http://box", None),
            ("box:9844", None),
            ("https://", None),
            ("https://box:99999", None),
            ("https://box/path", None),
            ("https://alice@box", None),
        ] {
            let parsed = text.parse::<Url>().ok();
            let parsed = parsed.as_ref().map(|url| (url.host.as_str(), url.port));
            assert_eq!(parsed, expected, "{text}");
        }
    }
}
