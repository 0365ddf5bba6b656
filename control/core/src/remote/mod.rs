//! The API for other hosts: mutual TLS in front of the same endpoints, off unless `control.remote` says where.
//!
//! ```text
//! client ── TLS ── listener (its own thread) ── bytes in memory ── control thread: HTTP, guard, endpoints
//! ```
//!
//! A stranger costs its own thread's time and one of few places; behind the handshake a certificate's role says what may
//! be asked ([`crate::api`] keeps to it), and each change carries a stamp. Everything that can be refused is counted
//! ([`Refused`]). See docs/remote.md for what is defended against, and docs/adr/0014 for why it is built so.
//!
//! | file | what |
//! |---|---|
//! | `listener` | the thread that clients meet |
//! | `places` | how many there may be |
//! | `stamps` | late and repeated changes |
//! | `refused` | why clients are refused, counted |

mod listener;
mod places;
mod refused;
mod stamps;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sluice_certificates::{FileError, Role, ServerFiles, ServerSide};
use sluice_config::system as config;
use tokio::io::DuplexStream;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::actor::Peer;
use crate::control::unix_seconds;
use listener::Shared;
use places::Places;
pub(crate) use refused::{Refusals, Refused};
pub(crate) use stamps::{Stamp, Stamps, WINDOW};

/// Connections that have shown no certificate yet: in all, and of one address or network.
const STRANGERS: (usize, usize) = (64, 8);

/// Connections that have: in all, and by one certificate.
const KNOWN: (usize, usize) = (64, 16);

/// Why the API cannot be served to other hosts as the system file wants it.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// A certificate file cannot be used.
    #[error("control.remote: {0}")]
    File(#[from] FileError),
    /// The address cannot be listened on.
    #[error("control.remote: {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What failed.
        source: io::Error,
    },
}

/// A client whose certificate was found good.
pub(crate) struct Arrived {
    pub(crate) peer: Arc<Peer>,
    pub(crate) stream: DuplexStream,
}

/// Remote control, whether it is on or off.
pub(crate) struct Remote {
    running: Option<Running>,
    shared: Arc<Shared>,
    /// Taken by whoever serves.
    arrivals: Option<mpsc::Receiver<Arrived>>,
    pub(crate) limits: Arc<Limits>,
}

/// What requests share: counts, and room for large bodies.
pub(crate) struct Limits {
    pub(crate) refusals: Arc<Refusals>,
    /// Requests by role, in the order of [`Role::ALL`].
    requests: [AtomicU64; 2],
    /// One large body at a time for those who may change something, and one for those who may ask.
    room: [Semaphore; 2],
}

impl Limits {
    /// Counts a request.
    pub(crate) fn request(&self, role: Role) {
        if let Some(count) = self.requests.get(role as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests by role.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.requests.iter().map(|count| count.load(Ordering::Relaxed));
        Role::ALL.iter().map(|role| role.name()).zip(counts)
    }

    /// Where those of a role wait to send a large body.
    pub(crate) fn room(&self, role: Role) -> &Semaphore {
        let [read, write] = &self.room;
        match role {
            Role::Read => read,
            Role::Write => write,
        }
    }
}

/// A listener that runs. Dropped, it ends, and its connections with it.
struct Running {
    /// As the system file has it.
    wanted: SocketAddr,
    /// Where it came to, if that left the port open.
    address: SocketAddr,
    credentials: watch::Sender<ServerSide>,
    _stop: oneshot::Sender<()>,
}

/// What was found good, to be put in force.
pub(crate) struct Prepared(Option<(ServerSide, SocketAddr, Option<TcpListener>)>);

impl Remote {
    /// Off.
    pub(crate) fn new() -> Remote {
        let refusals = Arc::new(Refusals::default());
        let (sender, receiver) = mpsc::channel(KNOWN.0);
        let shared = Shared {
            refusals: Arc::clone(&refusals),
            strangers: Places::<IpAddr>::new(STRANGERS.0, STRANGERS.1),
            known: Places::<String>::new(KNOWN.0, KNOWN.1),
            arrivals: sender,
        };
        Remote {
            running: None,
            shared: Arc::new(shared),
            arrivals: Some(receiver),
            limits: Arc::new(Limits {
                refusals,
                requests: Default::default(),
                room: [Semaphore::new(1), Semaphore::new(1)],
            }),
        }
    }

    /// Reads the files, and listens where it does not yet. Nothing changes before [`Remote::put`].
    ///
    /// # Errors
    /// A file cannot be used, or the address cannot be listened on.
    pub(crate) fn prepare(&self, wanted: Option<&config::Remote>) -> Result<Prepared, RemoteError> {
        let Some(config::Remote { listen, certificate, key, ca, revoked }) = wanted else {
            return Ok(Prepared(None));
        };
        let file = |path: &PathBuf| path.clone();
        let files = ServerFiles {
            certificate: file(certificate),
            key: file(key),
            ca: file(ca),
            revoked: revoked.clone(),
        };
        let side = ServerSide::load(&files, unix_seconds().cast_signed())?;
        let there = self.running.as_ref().is_some_and(|running| running.wanted == *listen);
        let listener = if there { None } else { Some(bind(*listen)?) };
        Ok(Prepared(Some((side, *listen, listener))))
    }

    /// Puts it in force. Connections of certificates that are still good go on.
    ///
    /// # Errors
    /// There is no thread to be had; then it is off.
    pub(crate) fn put(&mut self, Prepared(prepared): Prepared) -> Result<(), RemoteError> {
        let Some((side, address, listener)) = prepared else {
            self.running = None;
            return Ok(());
        };
        match (&self.running, listener) {
            (Some(running), None) => {
                running.credentials.send_replace(side);
            }
            (_, Some(listener)) => {
                self.running = None;
                self.running = Some(self.start(listener, address, side)?);
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// Where it listens; None if it is off.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.running.as_ref().map(|running| running.address)
    }

    /// When the certificate in use ends, seconds since 1970.
    pub(crate) fn not_after(&self) -> Option<i64> {
        self.running.as_ref().map(|running| running.credentials.borrow().not_after)
    }

    /// Clients that are connected, and strangers that are about to be.
    pub(crate) fn connections(&self) -> (usize, usize) {
        (self.shared.known.taken(), self.shared.strangers.taken())
    }

    /// Clients as they come; None the second time.
    pub(crate) fn arrivals(&mut self) -> Option<mpsc::Receiver<Arrived>> {
        self.arrivals.take()
    }

    fn start(
        &self,
        listener: TcpListener,
        wanted: SocketAddr,
        side: ServerSide,
    ) -> Result<Running, RemoteError> {
        let failed = |source| RemoteError::Listen { address: wanted, source };
        let address = listener.local_addr().map_err(failed)?;
        let (credentials, receiver) = watch::channel(side);
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let run = move || {
            if let Err(error) = listener::run(listener, shared, receiver, stopped) {
                tracing::error!(%error, "remote control ended");
            }
        };
        std::thread::Builder::new().name("remote".into()).spawn(run).map_err(failed)?;
        tracing::info!(%address, "remote control listens");
        Ok(Running { wanted, address, credentials, _stop: stop })
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, RemoteError> {
    let failed = |source| RemoteError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}
