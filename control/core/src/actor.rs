//! Who asks the daemon for something, and by which way they came: what the log and the history say of a change.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use nix::unistd::{Uid, User};
use sluice_certificates::{Identity, Role};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::spawn_blocking;

use crate::connection::Door;

/// Who asks.
#[derive(Clone, Debug)]
pub enum Actor {
    /// A process on the box, through the unix socket.
    Local {
        /// Its user, if the kernel tells.
        uid: Option<u32>,
        /// The user's name, once it was looked up.
        user: Option<String>,
    },
    /// Another host, by its certificate.
    Remote(Arc<Peer>),
    /// Whoever sent the daemon SIGHUP.
    Signal,
    /// The daemon itself, for this reason.
    Daemon(&'static str),
}

/// Another host that was let in.
#[derive(Debug)]
pub struct Peer {
    /// What its certificate says.
    pub identity: Identity,
    /// Where it connects from.
    pub address: SocketAddr,
}

impl Actor {
    /// The other end of a unix socket.
    pub(crate) fn of(stream: &UnixStream) -> Actor {
        Actor::Local { uid: stream.peer_cred().ok().map(|cred| cred.uid()), user: None }
    }

    /// What it may do; None: nothing. Who may open the unix socket may do everything: that is the socket's mode.
    pub(crate) fn role(&self) -> Option<Role> {
        match self {
            Actor::Remote(peer) => peer.identity.role,
            Actor::Local { .. } | Actor::Signal | Actor::Daemon(_) => Some(Role::Write),
        }
    }

    /// With the user's name. It may come from a directory service, so it is asked for beside the control thread.
    pub(crate) async fn named(self) -> Actor {
        let Actor::Local { uid: Some(uid), user: None } = self else { return self };
        let find = move || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        Actor::Local { uid: Some(uid), user: spawn_blocking(find).await.unwrap_or_default() }
    }

    /// Its name.
    pub(crate) fn who(&self) -> String {
        match self {
            Actor::Local { user: Some(user), .. } => user.clone(),
            Actor::Local { uid: Some(uid), .. } => format!("uid {uid}"),
            Actor::Local { .. } => "?".to_owned(),
            Actor::Remote(peer) => peer.identity.name.clone(),
            Actor::Signal => "SIGHUP".to_owned(),
            Actor::Daemon(why) => (*why).to_owned(),
        }
    }

    /// Where it is.
    pub(crate) fn from(&self) -> String {
        match self {
            Actor::Local { uid: Some(uid), .. } => format!("unix socket, uid {uid}"),
            Actor::Local { .. } => "unix socket".to_owned(),
            Actor::Remote(peer) => format!("{}, certificate {}", peer.address, peer.identity.serial),
            Actor::Signal | Actor::Daemon(_) => "sluiced".to_owned(),
        }
    }
}

/// In few words, as the history keeps it.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Remote(peer) => write!(f, "{} at {}", peer.identity.name, peer.address.ip()),
            other => f.write_str(&other.who()),
        }
    }
}

impl Connected<IncomingStream<'_, Door<UnixListener>>> for Actor {
    fn connect_info(stream: IncomingStream<'_, Door<UnixListener>>) -> Actor {
        stream.remote_addr().clone()
    }
}
