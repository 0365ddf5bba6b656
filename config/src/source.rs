//! Files' texts, and where in a text something stands: positions and values that carry theirs.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::diagnostics::{Diagnostic, Diagnostics, Severity};
use crate::yaml::MAX_BYTES;

/// Reads a whole file of at most [`MAX_BYTES`]; the error names the file.
pub(crate) fn read_text(path: &Path) -> Result<String, Diagnostics> {
    read_limited(path).map_err(|why| {
        Diagnostics::from(Diagnostic {
            severity: Severity::Error,
            file: path.to_string_lossy().into_owned(),
            line: 0,
            column: 0,
            message: format!("cannot be read: {why}"),
            hint: None,
            rule: None,
            source_line: None,
        })
    })
}

/// As [`read_text`]; the error is the reason alone.
pub(crate) fn read_limited(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    String::from_utf8(bytes)
        .map_err(|e| format!("it is not UTF-8 (at byte {})", e.utf8_error().valid_up_to()))
}

/// The folder of the file called `name`.
pub(crate) fn folder(name: &str) -> &Path {
    Path::new(name).parent().unwrap_or(Path::new(""))
}

/// A position in a text: line and column count from 1, the column in characters. `0:0` stands for "the file as a whole".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Span {
    /// The position `line:column`, both from 1.
    pub const fn new(line: u32, column: u32) -> Self {
        Self { line, column }
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and where it was written. Dereferences to the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands in its file.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// `value`, written at `span`.
    pub const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
