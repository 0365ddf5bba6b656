//! The unix socket: whose it is, and who may connect.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Group, chown};
use tokio::net::UnixListener;

use crate::connection::Door;

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

/// The API's socket.
pub struct ApiSocket {
    pub(super) door: Door<UnixListener>,
    pub(super) file: SocketFile,
}

/// Its name in the file system; removed when dropped.
pub(super) struct SocketFile(PathBuf);

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
        Ok(ApiSocket { door: Door::new(listener), file: SocketFile(path.to_owned()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
