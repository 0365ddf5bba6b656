//! What is wrong with a file, and where: the errors and warnings of a configuration.

use std::fmt;

use serde::Serialize;

/// A value that cannot be read: what it is, and what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ValueError {
    message: String,
}

impl ValueError {
    /// With that message: lower case, no full stop, with the value.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// How bad a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is valid, and does not do what its author meant; an error with `check --strict`.
    Warning,
}

/// One finding in a configuration file.
///
/// Displayed as `policy.yaml:12:7: message` with the line and a caret under it, and the hint last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Name of the file, as the caller named it.
    pub file: String,
    /// Line from 1; 0 if the finding concerns the file as a whole (it cannot be read, say).
    pub line: u32,
    /// Column in characters from 1; 0 as above.
    pub column: u32,
    /// What is wrong: lower case, no full stop, with the value.
    pub message: String,
    /// What would be right, such as the nearest valid name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Name of the rule that it is about, if that rule has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The offending line of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_line: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(rule) = &self.rule {
            write!(f, " (rule {rule})")?;
        }
        if let Some(line) = &self.source_line {
            let (shown, indent) = excerpt(line, self.column);
            write!(f, "\n    {shown}\n    {indent}^")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n    {hint}")?;
        }
        Ok(())
    }
}

/// Longest part of a source line that is shown, in characters: a policy written as JSON may be one line.
const EXCERPT: usize = 120;

/// The part of `line` to show around `column`, and the white space that puts a caret under that column.
fn excerpt(line: &str, column: u32) -> (String, String) {
    let column = usize::try_from(column.saturating_sub(1)).unwrap_or(0);
    let skipped = if column < EXCERPT { 0 } else { column - EXCERPT / 2 };
    let shown: String = line.chars().skip(skipped).take(EXCERPT).collect();
    // Tabs are kept, so that the caret lines up however wide the terminal shows them.
    let before = shown.chars().take(column - skipped);
    let indent = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    (shown, indent)
}

/// The findings of one file (and of those it refers to), in order of their places.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// No findings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a finding at the end.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    /// Adds the findings of `other` at the end.
    pub fn append(&mut self, mut other: Self) {
        self.list.append(&mut other.list);
    }

    /// True if one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }

    /// The errors.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter().filter(|d| d.severity == Severity::Error)
    }

    /// The warnings.
    pub fn warnings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter().filter(|d| d.severity == Severity::Warning)
    }

    /// All of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Orders them by place; those of another file stay behind those of the first.
    pub(crate) fn sort(&mut self, main_file: &str) {
        self.list.sort_by(|a, b| {
            let key = |d: &Diagnostic| (d.file != main_file, d.line, d.column);
            key(a).cmp(&key(b)).then_with(|| a.file.cmp(&b.file))
        });
        self.list.dedup();
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.list.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { list: vec![diagnostic] }
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_shows_its_line_a_caret_and_the_hint() {
        let d = Diagnostic {
            severity: Severity::Error,
            file: "policy.yaml".into(),
            line: 12,
            column: 7,
            message: "unknown chain `tcp_inn`".into(),
            hint: Some("did you mean `tcp_in`?".into()),
            rule: Some("ssh".into()),
            source_line: Some("\tjump: tcp_inn".into()),
        };
        let expected = "policy.yaml:12:7: unknown chain `tcp_inn` (rule ssh)\n    \tjump: tcp_inn\n    \t     ^\n    \
                        did you mean `tcp_in`?";
        assert_eq!(d.to_string(), expected);
    }

    #[test]
    fn a_very_long_line_is_cut_around_the_place() {
        let line = format!("{}X{}", "a".repeat(1000), "b".repeat(1000));
        let (shown, indent) = excerpt(&line, 1001);
        assert_eq!(shown.chars().count(), EXCERPT);
        assert_eq!(shown.chars().nth(indent.len()), Some('X'));
    }
}
