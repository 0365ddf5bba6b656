//! Applied policies on disk: what runs after a restart, and what ran before.
//!
//! In the state folder: `policies/NNNNNN.json`, one applied policy each with its set files, the highest number running;
//! `policies/NNNNNN.unconfirmed.json` if it waits for `sluice confirm`, which gives it its plain name; `policy-file`, the
//! digest of the file under `policy:` when it was last read and the highest number then, which tell whether the file
//! changed since; `lock`, held by the daemon whose state this is.
//!
//! Each change is one rename, so a crash leaves what was or what is to be. Going back from a policy that nobody confirmed
//! adds the one before it once more: an unconfirmed one that is not the highest any more is history.

pub(crate) mod disk;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sluice_config::PolicySource;

use self::disk::{Disk, RealDisk, UNFINISHED, replace, sync_folder_of};
use crate::control::unix_seconds;

/// Policies that are kept.
const KEPT: usize = 16;

/// Ending of policies that wait to be confirmed, or were never.
const UNCONFIRMED: &str = "unconfirmed.json";

/// An applied policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Its place in the history, rising.
    pub number: u64,
    /// When, in seconds since 1970.
    pub time: u64,
    /// SHA-256 over its text and set files, hexadecimal.
    pub digest: String,
    /// Until when it was to be confirmed, in seconds since 1970, if it was not; the file's name decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_by: Option<u64>,
    /// Who had it applied; empty in those of older versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// All of it.
    pub source: PolicySource,
}

/// What runs after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// The policy that was applied last.
    Last(&'a Applied),
    /// As before, and it has so many seconds left to be confirmed.
    Waiting(&'a Applied, u64),
    /// The one before: the last one was not confirmed in time.
    Back(&'a Applied),
}

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// Another daemon has it.
    #[error("state folder {0} is in use by another sluiced")]
    InUse(PathBuf),
    /// It cannot be read or written.
    #[error("state folder {folder}: {source}")]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

/// The policies of one state folder.
pub struct History {
    folder: PathBuf,
    /// Oldest first.
    policies: Vec<Applied>,
    disk: Box<dyn Disk>,
    _lock: Flock<File>,
}

impl History {
    /// Opens a state folder, makes it if it is not there, and keeps others out.
    ///
    /// # Errors
    /// As [`HistoryError`] says. A policy that cannot be read is left out, and logged.
    pub fn open(folder: &Path) -> Result<History, HistoryError> {
        History::open_on(folder, Box::new(RealDisk))
    }

    fn open_on(folder: &Path, mut disk: Box<dyn Disk>) -> Result<History, HistoryError> {
        let failed = |source: io::Error| HistoryError::Io { folder: folder.to_owned(), source };
        let policies = folder.join("policies");
        fs::create_dir_all(&policies).map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| HistoryError::InUse(folder.to_owned()))?;
        // A disk that is full or read-only is no reason not to start with what is there.
        let _ = disk.sync_folder(folder);
        let read = read_all(&policies).map_err(failed)?;
        Ok(History { folder: folder.to_owned(), policies: read, disk, _lock: lock })
    }

    /// The policy that was applied last.
    pub fn last(&self) -> Option<&Applied> {
        self.policies.last()
    }

    /// All, the latest first.
    pub fn iter(&self) -> impl Iterator<Item = &Applied> {
        self.policies.iter().rev()
    }

    /// The last one, if it waits to be confirmed.
    pub fn unconfirmed(&self) -> Option<&Applied> {
        self.last().filter(|last| last.confirm_by.is_some())
    }

    /// What runs after a restart at this time, in seconds since 1970. A clock that went back is not trusted with a deadline.
    pub fn starts(&self, now: u64) -> Option<Start<'_>> {
        let last = self.last()?;
        let Some(confirm_by) = last.confirm_by else { return Some(Start::Last(last)) };
        if (last.time..confirm_by).contains(&now) {
            return Some(Start::Waiting(last, confirm_by - now));
        }
        self.before_unconfirmed().map(Start::Back)
    }

    /// What runs again if the last one is not confirmed: the latest before it that is.
    pub fn before_unconfirmed(&self) -> Option<&Applied> {
        self.iter().skip(1).find(|applied| applied.confirm_by.is_none())
    }

    /// Puts a policy on disk as the one that runs, as wanted by someone, and forgets the oldest. With `confirm_by` (seconds since 1970) it runs
    /// on after a restart only until then, unless it is confirmed.
    ///
    /// # Errors
    /// It could not be written: then the one before still is what starts.
    pub fn add(&mut self, source: PolicySource, confirm_by: Option<u64>, by: &str) -> io::Result<&Applied> {
        let number = self.last().map_or(1, |last| last.number + 1);
        let digest = digest(&source);
        let applied = Applied { number, time: unix_seconds(), digest, confirm_by, by: by.to_owned(), source };
        let path = self.path(&applied);
        let bytes = serde_json::to_vec(&applied)?;
        if let Err(error) = replace(&mut *self.disk, &path, &bytes) {
            // It must not be what starts if it was the last step that failed.
            let _ = self.disk.remove(&path);
            return Err(error);
        }
        self.policies.push(applied);
        while self.policies.len() > KEPT {
            let oldest = self.policies.remove(0);
            let path = self.path(&oldest);
            // One too many does no harm.
            let _ = self.disk.remove(&path);
        }
        self.policies.last().ok_or_else(|| io::Error::other("no policy"))
    }

    /// The last policy is to stay. Needs no room on the disk.
    ///
    /// # Errors
    /// It could not be noted: it is as unconfirmed as it was.
    pub fn confirm(&mut self) -> io::Result<()> {
        let Some(waiting) = self.unconfirmed() else { return Ok(()) };
        let confirmed = Applied { confirm_by: None, ..waiting.clone() };
        let (from, to) = (self.path(waiting), self.path(&confirmed));
        self.disk.rename(&from, &to)?;
        if let Err(error) = sync_folder_of(&mut *self.disk, &to) {
            let _ = self.disk.rename(&to, &from);
            return Err(error);
        }
        if let Some(last) = self.policies.last_mut() {
            *last = confirmed;
        }
        Ok(())
    }

    /// Takes back the latest policy: it could not be put in force.
    pub fn take_back(&mut self, number: u64) {
        if let Some(last) = self.policies.pop_if(|last| last.number == number) {
            let path = self.path(&last);
            let _ = self.disk.remove(&path);
        }
    }

    /// Whether the file under `policy:` is another one than when it was last read, and holds no policy that was applied
    /// since.
    pub fn is_new(&self, digest: &str) -> bool {
        let seen = fs::read_to_string(self.folder.join("policy-file")).unwrap_or_default();
        let mut lines = seen.lines();
        let read = lines.next().unwrap_or_default().trim();
        let number: u64 = lines.next().and_then(|line| line.trim().parse().ok()).unwrap_or(0);
        let applied = |applied: &Applied| applied.number > number && applied.digest == digest;
        let runs = self.last().is_some_and(|last| last.digest == digest);
        read != digest && !runs && !self.policies.iter().any(applied)
    }

    /// Notes that the file under `policy:` was read.
    ///
    /// # Errors
    /// It could not be written.
    pub fn note_read(&mut self, digest: &str) -> io::Result<()> {
        let number = self.last().map_or(0, |last| last.number);
        let path = self.folder.join("policy-file");
        replace(&mut *self.disk, &path, format!("{digest}\n{number}\n").as_bytes())
    }

    fn path(&self, applied: &Applied) -> PathBuf {
        let ending = if applied.confirm_by.is_some() { UNCONFIRMED } else { "json" };
        self.folder.join("policies").join(format!("{:06}.{ending}", applied.number))
    }
}

/// SHA-256 over a policy's text and set files, each with its length in front, hexadecimal. Its name is no part of it.
pub fn digest(source: &PolicySource) -> String {
    let mut hash = Sha256::new();
    let files = source.files.iter().flat_map(|(name, text)| [name, text]);
    for part in std::iter::once(&source.text).chain(files) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_all(folder: &Path) -> io::Result<Vec<Applied>> {
    let mut policies = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == UNFINISHED) {
            let _ = fs::remove_file(&path);
        }
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice::<Applied>(&bytes)?)) {
            Ok(mut applied) => {
                let waits = path.to_str().is_some_and(|path| path.ends_with(UNCONFIRMED));
                applied.confirm_by = waits.then_some(applied.confirm_by.unwrap_or(0));
                policies.push(applied);
            }
            Err(error) => tracing::warn!(path = %path.display(), %error, "is left out of the history"),
        }
    }
    policies.sort_by_key(|applied| applied.number);
    Ok(policies)
}

#[cfg(test)]
mod tests;
