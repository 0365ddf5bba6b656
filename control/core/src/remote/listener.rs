//! The thread that remote clients meet: accepts, does the handshake, and passes on what comes behind it.
//!
//! A thread of its own, so that nothing that a stranger sends costs the control thread anything: TLS begins and ends here,
//! and a connection is announced to control only once its certificate was found good. From then on it carries bytes
//! between the client and an in-memory stream that control serves as it does the unix socket. It is cut off when its
//! certificate is revoked or its time is over.

use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use sluice_certificates::{Identity, ServerSide};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy, copy_bidirectional, duplex, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::places::{Place, Places, source};
use super::{Arrived, Refusals, Refused};
use crate::actor::Peer;
use crate::connection::Bounded;
use crate::control::unix_seconds;

/// A handshake takes two round trips; this is for very slow lines.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Bytes between the client's side and control's, each way.
const BRIDGE: usize = 64 << 10;

/// How long accepting rests after an error.
const REST: Duration = Duration::from_millis(100);

/// How long a client that is still sending is listened to, so that it hears why it was refused: closing at once would
/// have the kernel throw the answer away.
const LINGER: Duration = Duration::from_secs(2);

/// How often the clock is looked at, to end certificates whose time is over.
const CLOCK: Duration = Duration::from_secs(60);

/// What all connections share.
pub(super) struct Shared {
    pub(super) refusals: Arc<Refusals>,
    /// Connections that have not shown a certificate, by where they come from.
    pub(super) strangers: Arc<Places<IpAddr>>,
    /// Connections that have, by the certificate's serial number.
    pub(super) known: Arc<Places<String>>,
    /// To control.
    pub(super) arrivals: mpsc::Sender<Arrived>,
}

/// Accepts until `stop` is dropped; all connections end with it. Runs on a thread of its own.
///
/// # Errors
/// The socket cannot be listened on.
pub(super) fn run(
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    credentials: watch::Receiver<ServerSide>,
    stop: oneshot::Receiver<()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        tokio::select! {
            () = accept(listener, shared, credentials) => {}
            _ = stop => {}
        }
        Ok(())
    })
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, credentials: watch::Receiver<ServerSide>) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a remote connection");
                sleep(REST).await;
                continue;
            }
        };
        match shared.strangers.take(source(address.ip())) {
            Some(place) => {
                tokio::spawn(connection(Arc::clone(&shared), credentials.clone(), stream, address, place));
            }
            None => shared.refusals.count(Refused::Connections, address, "too many unfinished handshakes"),
        }
    }
}

/// One client, from its first byte to its last.
async fn connection(
    shared: Arc<Shared>,
    mut credentials: watch::Receiver<ServerSide>,
    stream: TcpStream,
    address: SocketAddr,
    place: Place<IpAddr>,
) {
    // Requests are small, and answers are waited for.
    let _ = stream.set_nodelay(true);
    let config = Arc::clone(&credentials.borrow_and_update().config);
    let handshake = TlsAcceptor::from(config).accept(stream).into_fallible();
    let mut stream = match timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err((error, stream))) => {
            shared.refusals.count(reason(&error), address, error);
            return hear_out(stream).await;
        }
        Err(_) => return shared.refusals.count(Refused::HandshakeTimeout, address, "no handshake in time"),
    };
    drop(place);
    let chain: Vec<CertificateDer<'static>> = stream
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|c| c.clone().into_owned())
        .collect();
    let identity = match chain.first().ok_or_else(|| "is missing".to_owned()).and_then(Identity::read) {
        Ok(identity) => identity,
        Err(why) => return shared.refusals.count(Refused::BadCertificate, address, why),
    };
    let Some(_seat) = shared.known.take(identity.serial.clone()) else {
        let _ = stream.shutdown().await;
        return shared.refusals.count(Refused::Connections, address, "too many connections");
    };
    let not_after = identity.not_after;
    let (mut near, far) = duplex(BRIDGE);
    if shared
        .arrivals
        .send(Arrived { peer: Arc::new(Peer { identity, address }), stream: far })
        .await
        .is_err()
    {
        return;
    }
    let mut client = Bounded::new(stream, None);
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut near) => {
            hear_out(client).await;
        }
        why = no_longer_good(&mut credentials, &chain, not_after) => {
            shared.refusals.count(why, address, "cut off");
        }
    }
}

/// Ends a connection whose client may still be sending: what it was told is lost if the kernel has to reset it.
async fn hear_out<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let _ = stream.shutdown().await;
    let _ = timeout(LINGER, copy(&mut stream, &mut sink())).await;
}

/// Waits until a certificate that was good is not any more: files were read again, or its time is over.
async fn no_longer_good(
    credentials: &mut watch::Receiver<ServerSide>,
    chain: &[CertificateDer<'_>],
    not_after: i64,
) -> Refused {
    loop {
        tokio::select! {
            changed = credentials.changed() => {
                if changed.is_err() {
                    // The listener goes, and takes this with it.
                    return pending().await;
                }
                if !credentials.borrow_and_update().still_admits(chain, unix_seconds()) {
                    return Refused::Revoked;
                }
            }
            () = sleep(CLOCK) => {
                if unix_seconds().cast_signed() > not_after {
                    return Refused::Expired;
                }
            }
        }
    }
}

/// Why a handshake failed.
fn reason(error: &io::Error) -> Refused {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::NoCertificatesPresented) => Refused::NoCertificate,
        Some(rustls::Error::InvalidCertificate(why)) => match why {
            CertificateError::Revoked => Refused::Revoked,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Refused::Expired,
            _ => Refused::BadCertificate,
        },
        _ => Refused::Handshake,
    }
}
