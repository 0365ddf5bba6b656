//! What the history asks of a disk: few steps, each of which may fail or be the last one before the machine stops.
//!
//! A file is written beside its place, synced, renamed into place, and then the folder is synced, since the rename is in
//! the folder. So whenever the machine stops, the old file is there or the new one, whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Ending of files that are being written; one that is left over is of a daemon that was killed.
pub(crate) const UNFINISHED: &str = "new";

/// A disk.
pub(crate) trait Disk: Send {
    /// Writes a file and syncs it. What a failure leaves is removed.
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Gives a file another name, in place of one that has it already.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Syncs the names in a folder.
    fn sync_folder(&mut self, folder: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
}

/// The machine's.
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let written = File::create(path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        if written.is_err() {
            let _ = fs::remove_file(path);
        }
        written
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// Puts a file in place, whole.
///
/// # Errors
/// A step failed. The new file may be there all the same if it was the last one.
pub(crate) fn replace(disk: &mut dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension(UNFINISHED);
    disk.write(&unfinished, bytes)?;
    if let Err(error) = disk.rename(&unfinished, path) {
        let _ = disk.remove(&unfinished);
        return Err(error);
    }
    sync_folder_of(disk, path)
}

/// Syncs the name of a file.
pub(super) fn sync_folder_of(disk: &mut dyn Disk, path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => disk.sync_folder(folder),
        None => Ok(()),
    }
}
