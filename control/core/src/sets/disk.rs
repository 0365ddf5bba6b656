//! Changes of sets on disk: `sets/NAME.json`, a file for each set that was changed, with what it holds or what differs from
//! its definition.
//!
//! As with policies ([`crate::history`]), a file is written beside its place, synced and renamed: whenever the machine
//! stops, the old one is there or the new one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sluice_compiler::Difference;
use sluice_config::policy::SetElements;

use super::held::Held;
use super::{Change, kind, parse, texts};
use crate::history::disk::{Disk as _, RealDisk, UNFINISHED, replace};

/// A change as it is written.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// Digest of what the policy said that the set holds.
    defined: String,
    /// `net` or `port`.
    #[serde(rename = "type")]
    kind: String,
    /// What it holds instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    elements: Option<Vec<String>>,
    /// Or else what it holds beside that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    added: Vec<String>,
    /// And what it does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removed: Vec<String>,
}

/// All changes, by the name of the set. What cannot be read is left out, and logged.
pub(super) fn load(folder: &Path) -> BTreeMap<String, Vec<Change>> {
    let mut all = BTreeMap::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return all,
        Err(error) => {
            tracing::error!(path = %folder.display(), %error, "sets are as the policy defines them");
            return all;
        }
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == UNFINISHED) {
            let _ = fs::remove_file(&path);
            continue;
        }
        let named = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"));
        let Some(name) = named else { continue };
        match read(&path) {
            Ok(changes) => drop(all.insert(name.to_owned(), changes)),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the set is as the policy defines it");
            }
        }
    }
    all
}

fn read(path: &Path) -> io::Result<Vec<Change>> {
    let stored: Vec<Stored> = serde_json::from_slice(&fs::read(path)?)?;
    let change = |stored: Stored| {
        let like = match stored.kind.as_str() {
            "net" => SetElements::Net(Vec::new()),
            "port" => SetElements::Port(Vec::new()),
            other => return Err(io::Error::other(format!("no type of set: {other}"))),
        };
        let elements = |list: &[String]| parse(&like, list).map_err(io::Error::other);
        let held = match &stored.elements {
            Some(list) => Held::Whole(Arc::new(elements(list)?)),
            None => Held::Differs(Difference {
                added: elements(&stored.added)?,
                removed: elements(&stored.removed)?,
            }),
        };
        Ok(Change { defined: stored.defined, held })
    };
    stored.into_iter().map(change).collect()
}

/// Writes the changes of a set; removes the file if there are none.
///
/// # Errors
/// A step failed: what was there still is, unless the last step was the one.
pub(super) fn save(folder: &Path, name: &str, changes: &[Change]) -> io::Result<()> {
    let path = folder.join(format!("{name}.json"));
    if changes.is_empty() {
        RealDisk.remove(&path)?;
        return RealDisk.sync_folder(folder);
    }
    fs::create_dir_all(folder)?;
    let all = |elements: &SetElements| texts(elements, usize::MAX);
    let stored = |change: &Change| {
        let (like, elements, added, removed) = match &change.held {
            Held::Whole(elements) => (&**elements, Some(all(elements)), Vec::new(), Vec::new()),
            Held::Differs(Difference { added, removed }) => (added, None, all(added), all(removed)),
        };
        Stored { defined: change.defined.clone(), kind: kind(like).into(), elements, added, removed }
    };
    let stored: Vec<Stored> = changes.iter().map(stored).collect();
    replace(&mut RealDisk, &path, &serde_json::to_vec(&stored)?)
}
