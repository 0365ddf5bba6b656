//! Applied policies on disk: what runs after a restart, and what ran before.
//!
//! In the state folder: `policies/NNNNNN.json`, one applied policy each with its set files, the highest number running;
//! `policy-file`, the digest of the file under `policy:` when it was last read, which tells whether it changed since;
//! `lock`, held by the daemon whose state this is. Everything is written beside its place, synced and renamed, so that a
//! crash leaves the old or the new and nothing in between.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sluice_config::PolicySource;

/// Policies that are kept.
const KEPT: usize = 16;

/// An applied policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Its place in the history, rising.
    pub number: u64,
    /// When, in seconds since 1970.
    pub time: u64,
    /// SHA-256 over its text and set files, hexadecimal.
    pub digest: String,
    /// All of it.
    pub source: PolicySource,
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
    _lock: Flock<File>,
}

impl History {
    /// Opens a state folder, makes it if it is not there, and keeps others out.
    ///
    /// # Errors
    /// As [`HistoryError`] says. A policy that cannot be read is left out, and logged.
    pub fn open(folder: &Path) -> Result<History, HistoryError> {
        let failed = |source: io::Error| HistoryError::Io { folder: folder.to_owned(), source };
        let policies = folder.join("policies");
        fs::create_dir_all(&policies).map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| HistoryError::InUse(folder.to_owned()))?;
        let mut history = History { folder: folder.to_owned(), policies: Vec::new(), _lock: lock };
        history.policies = read_all(&policies).map_err(failed)?;
        Ok(history)
    }

    /// The policy that ran last.
    pub fn last(&self) -> Option<&Applied> {
        self.policies.last()
    }

    /// All, the latest first.
    pub fn iter(&self) -> impl Iterator<Item = &Applied> {
        self.policies.iter().rev()
    }

    /// Puts a policy on disk as the one that runs, and forgets the oldest.
    ///
    /// # Errors
    /// It could not be written: then the one before still is what starts.
    pub fn add(&mut self, source: PolicySource) -> io::Result<&Applied> {
        let number = self.last().map_or(1, |last| last.number + 1);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let digest = digest(&source);
        let applied = Applied { number, time, digest, source };
        replace(&self.path(number), &serde_json::to_vec(&applied)?)?;
        self.policies.push(applied);
        while self.policies.len() > KEPT {
            let oldest = self.policies.remove(0);
            // One too many does no harm.
            let _ = fs::remove_file(self.path(oldest.number));
        }
        self.policies.last().ok_or_else(|| io::Error::other("no policy"))
    }

    /// Takes back the latest policy: it could not be put in force.
    pub fn take_back(&mut self, number: u64) {
        if self.last().is_some_and(|last| last.number == number) {
            self.policies.pop();
            let _ = fs::remove_file(self.path(number));
        }
    }

    /// Whether the file under `policy:` is another one than when it was last read.
    pub fn is_new(&self, digest: &str) -> bool {
        let seen = fs::read_to_string(self.folder.join("policy-file")).unwrap_or_default();
        seen.trim() != digest && self.last().is_none_or(|last| last.digest != digest)
    }

    /// Notes that the file under `policy:` was read.
    ///
    /// # Errors
    /// It could not be written.
    pub fn note_read(&self, digest: &str) -> io::Result<()> {
        replace(&self.folder.join("policy-file"), digest.as_bytes())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join("policies").join(format!("{number:06}.json"))
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
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice::<Applied>(&bytes)?)) {
            Ok(applied) => policies.push(applied),
            Err(error) => tracing::warn!(path = %path.display(), %error, "is left out of the history"),
        }
    }
    policies.sort_by_key(|applied| applied.number);
    Ok(policies)
}

/// Writes a file so that a crash leaves the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        // The rename itself is in the folder.
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("sluice-history-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn source(text: &str) -> PolicySource {
        PolicySource {
            name: "policy.yaml".into(),
            text: text.into(),
            files: [("a".into(), "b".into())].into(),
        }
    }

    #[test]
    fn what_was_applied_last_is_there_after_a_restart() {
        let folder = Folder::new("restart");
        let mut history = History::open(&folder.0).unwrap();
        assert!(history.last().is_none());
        for number in 1..=20 {
            history.add(source(&format!("text {number}"))).unwrap();
        }
        drop(history);
        fs::write(folder.0.join("policies/000021.json"), "{half a").unwrap();
        let history = History::open(&folder.0).unwrap();
        assert_eq!(history.last().unwrap().source, source("text 20"));
        assert_eq!(history.iter().count(), KEPT);
    }

    #[test]
    fn a_file_is_new_until_it_was_read() {
        let folder = Folder::new("read");
        let mut history = History::open(&folder.0).unwrap();
        let (one, two) = (digest(&source("one")), digest(&source("two")));
        assert!(history.is_new(&one));
        history.note_read(&one).unwrap();
        assert!(!history.is_new(&one) && history.is_new(&two));
        history.add(source("two")).unwrap();
        assert!(!history.is_new(&two), "it was applied by hand");
    }

    #[test]
    fn one_daemon_has_a_state_folder() {
        let folder = Folder::new("lock");
        let _first = History::open(&folder.0).unwrap();
        let second = History::open(&folder.0).err().unwrap().to_string();
        assert!(second.ends_with("is in use by another sluiced"), "{second}");
    }

    #[test]
    fn a_digest_covers_set_files_and_not_the_name() {
        let one = digest(&source("x"));
        assert_eq!(one.len(), 64);
        let mut renamed = source("x");
        renamed.name = "other.yaml".into();
        assert_eq!(digest(&renamed), one);
        renamed.files.insert("a".into(), "c".into());
        assert_ne!(digest(&renamed), one);
        renamed.files.clear();
        assert_ne!(digest(&renamed), one);
    }
}
