//! The systemd journal's own protocol, so that the fields of a logged packet can be asked for: `journalctl SLUICE_DPT=22`.
//!
//! Used only where the process's standard error leads to the journal, so that nothing is written to two places.
//!
//! Source: systemd's JOURNAL_NATIVE_PROTOCOL; systemd.exec(5), `$JOURNAL_STREAM`.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::sys::stat::fstat;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// A way to the journal.
#[derive(Debug)]
pub(crate) struct Journal {
    socket: UnixDatagram,
    to: PathBuf,
}

impl Journal {
    /// The system's journal, if standard error leads there.
    pub(crate) fn of_stderr() -> Option<Journal> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        let own = fstat(io::stderr()).ok()?;
        if stream != format!("{}:{}", own.st_dev, own.st_ino) {
            return None;
        }
        Journal::at(Path::new(SOCKET)).ok()
    }

    /// The journal that listens at a path.
    fn at(path: &Path) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Journal { socket, to: path.to_owned() })
    }

    /// Writes an entry; never waits.
    ///
    /// # Errors
    /// The journal does not take it now.
    pub(crate) fn write(&self, fields: &[(&str, &str)]) -> io::Result<()> {
        let mut entry = Vec::with_capacity(512);
        for (name, value) in fields {
            put(&mut entry, name, value);
        }
        self.socket.send_to(&entry, &self.to).map(drop)
    }
}

/// Adds a field. A value of several lines has its length in front.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend(name.bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend((value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend(value.bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_a_field_a_line_and_lengths_where_lines_would_lie() {
        let path = std::env::temp_dir().join(format!("sluice-journal-{}", std::process::id()));
        let listener = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(&path).unwrap();
        journal.write(&[("MESSAGE", "a=b"), ("TWO", "x\ny")]).unwrap();
        let mut entry = [0; 64];
        let length = listener.recv(&mut entry).unwrap();
        assert_eq!(entry[..length], *b"MESSAGE=a=b\nTWO\n\x03\0\0\0\0\0\0\0x\ny\n");
        drop(listener);
        assert!(journal.write(&[("MESSAGE", "nobody listens")]).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
