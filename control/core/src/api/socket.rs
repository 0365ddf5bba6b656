//! The unix socket: whose it is, and who may connect.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use axum::serve::Listener;
use nix::unistd::{Group, chown};
use tokio::net::{UnixListener, UnixStream};

use crate::connection::{Bounded, Slots};

/// The group that may use the API beside root.
const GROUP: &str = "sluice";

/// Why the API's socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon listens on it.
    #[error("api socket {0} is in use by another sluiced")]
    InUse(PathBuf),
    /// Something else has its name.
    #[error("api socket {0}: there is a file of that name that is no socket")]
    NoSocket(PathBuf),
    /// It cannot be made.
    #[error("api socket {path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

/// The API's socket; removed when dropped.
pub struct ApiSocket {
    listener: UnixListener,
    path: PathBuf,
    slots: Slots,
}

impl ApiSocket {
    /// Opens the socket at `path` and takes the place of one that a killed daemon left. Must be called on a runtime.
    ///
    /// # Errors
    /// As [`SocketError`] says.
    pub fn open(path: &Path) -> Result<ApiSocket, SocketError> {
        let failed = |source: io::Error| SocketError::Io { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(SocketError::NoSocket(path.to_owned()));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(SocketError::InUse(path.to_owned()));
            }
            Ok(_) => std::fs::remove_file(path).map_err(failed)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        // Where there is no such group, root alone may connect.
        if let Ok(Some(group)) = Group::from_name(GROUP) {
            chown(path, None, Some(group.gid)).map_err(|errno| failed(errno.into()))?;
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        Ok(ApiSocket { listener, path: path.to_owned(), slots: Slots::new() })
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Listener for ApiSocket {
    type Io = Bounded<UnixStream>;
    type Addr = ();

    async fn accept(&mut self) -> (Self::Io, ()) {
        let listener = &self.listener;
        (self.slots.fill(|cx| listener.poll_accept(cx).map_ok(|(stream, _)| stream)).await, ())
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}
