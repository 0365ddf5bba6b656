//! What import has to say beside the policy: what it could not translate, and what needs no translation.

use std::fmt;

use serde::Serialize;

/// A place in a ruleset that is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Number of the source, so that findings stand in the order of the files.
    pub(crate) source: usize,
    /// The file's name.
    pub(crate) file: String,
    /// Line from 1; of JSON, which has no lines, the number of the object.
    pub(crate) line: usize,
    /// The line, or what stands for it.
    pub(crate) text: String,
}

/// Something that is not in the policy, or not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file's name.
    pub file: String,
    /// The line's number from 1; of nft's JSON, the number of the object in its list.
    pub line: usize,
    /// The line itself; of nft's JSON, table, chain, handle and expressions.
    pub text: String,
    /// Why: lower case, no full stop.
    pub reason: String,
}

impl fmt::Display for Finding {
    /// `rules.v4:12: reason`, and the line under it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}\n    {}", self.file, self.line, self.reason, self.text)
    }
}

/// Collects findings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    untranslated: Vec<(Place, String)>,
    notes: Vec<(Place, String)>,
}

impl Report {
    /// Has no translation.
    pub(crate) fn untranslated(&mut self, place: &Place, reason: impl Into<String>) {
        self.untranslated.push((place.clone(), reason.into()));
    }

    /// Is not there, and need not be.
    pub(crate) fn note(&mut self, place: &Place, reason: impl Into<String>) {
        self.notes.push((place.clone(), reason.into()));
    }

    /// Both lists in the order of the files.
    pub(crate) fn finish(self) -> (Vec<Finding>, Vec<Finding>) {
        let sorted = |mut list: Vec<(Place, String)>| {
            list.sort();
            list.dedup();
            let finding = |(place, reason): (Place, String)| {
                let Place { file, line, text, .. } = place;
                Finding { file, line, text, reason }
            };
            list.into_iter().map(finding).collect()
        };
        (sorted(self.untranslated), sorted(self.notes))
    }
}
