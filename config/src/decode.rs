//! Reading typed values out of a YAML tree, and writing down what is wrong with it.
//!
//! A [`Reader`] belongs to one file. Its methods take a node and give the value, or `None` after they reported why not, so
//! that decoding goes on and finds all errors of a file at once.
//!
//! Booleans are YAML 1.1's (`on`, `yes`, `true`), since other YAML writers turn one into the other.

use std::cell::OnceCell;

use crate::diagnostics::{Diagnostic, Diagnostics, Severity, ValueError};
use crate::source::Span;
use crate::yaml::{self, Key, Node, Value};

/// Findings of one kind in one file before the rest is only counted.
const MAX_FINDINGS: usize = 1000;
/// Names looked at for the nearest one.
const MAX_CANDIDATES: usize = 4096;

/// Reads one file and collects what is wrong with it.
pub(crate) struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    lines: OnceCell<Vec<&'a str>>,
    diagnostics: Diagnostics,
    errors: usize,
    warnings: usize,
    /// Name of the rule that is being read or checked.
    pub(crate) rule: Option<String>,
}

impl<'a> Reader<'a> {
    /// A reader of the file called `file` with the given text.
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        let (lines, diagnostics) = (OnceCell::new(), Diagnostics::new());
        Self { file, text, lines, diagnostics, errors: 0, warnings: 0, rule: None }
    }

    /// The document's tree; `None` if there is none, which is reported.
    pub(crate) fn tree(&mut self) -> Option<Node<'a>> {
        let mut errors = Vec::new();
        let tree = yaml::parse(self.text, &mut errors);
        for error in errors {
            self.error(error.span, error.message);
        }
        match tree {
            Ok(Some(node)) if !node.is_null() => Some(node),
            // A file cut short by a full disk must not become a policy that accepts everything.
            Ok(_) => {
                self.error(Span::default(), "the file is empty; write `{}` if that is meant");
                None
            }
            Err(error) => {
                // `@` begins no value of YAML, and a set's name is easily left without its quotes.
                let hint = (self.character(error.span) == Some('@'))
                    .then(|| "a set's name stands in quotes: `\"@name\"`".to_owned());
                self.error_with(error.span, error.message, hint);
                None
            }
        }
    }

    /// What stands at a place.
    fn character(&self, at: Span) -> Option<char> {
        let (line, column) = (usize::try_from(at.line).ok()?, usize::try_from(at.column).ok()?);
        self.text.lines().nth(line.checked_sub(1)?)?.chars().nth(column.checked_sub(1)?)
    }

    /// Reports an error.
    pub(crate) fn error(&mut self, span: Span, message: impl Into<String>) {
        self.report(Severity::Error, span, message.into(), None);
    }

    /// Reports an error with a hint at what would be right.
    pub(crate) fn error_with(&mut self, span: Span, message: impl Into<String>, hint: Option<String>) {
        self.report(Severity::Error, span, message.into(), hint);
    }

    /// Reports a warning.
    pub(crate) fn warning(&mut self, span: Span, message: impl Into<String>) {
        self.report(Severity::Warning, span, message.into(), None);
    }

    fn report(&mut self, severity: Severity, span: Span, message: String, hint: Option<String>) {
        let count = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count > MAX_FINDINGS {
            return;
        }
        let lines = self.lines.get_or_init(|| self.text.lines().collect());
        let index = usize::try_from(span.line).unwrap_or(0).checked_sub(1);
        let source_line = index.and_then(|index| lines.get(index)).map(ToString::to_string);
        self.diagnostics.push(Diagnostic {
            severity,
            file: self.file.to_string(),
            line: span.line,
            column: span.column,
            message,
            hint,
            rule: self.rule.clone(),
            source_line,
        });
    }

    /// Takes over the findings about another file that this one refers to.
    pub(crate) fn adopt(&mut self, diagnostics: Diagnostics) {
        self.errors += diagnostics.errors().count();
        self.diagnostics.append(diagnostics);
    }

    /// How many errors there are so far.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// The findings, in order of their places.
    pub(crate) fn finish(mut self) -> Diagnostics {
        self.diagnostics.sort(self.file);
        self.rule = None;
        let kinds =
            [(Severity::Error, self.errors, "errors"), (Severity::Warning, self.warnings, "warnings")];
        for (severity, count, word) in kinds {
            if count > MAX_FINDINGS {
                let message = format!("{} more {word} are not shown", count - MAX_FINDINGS);
                let file = self.file.to_string();
                let (line, column, hint, rule, source_line) = (0, 0, None, None, None);
                self.diagnostics.push(Diagnostic {
                    severity,
                    file,
                    line,
                    column,
                    message,
                    hint,
                    rule,
                    source_line,
                });
            }
        }
        self.diagnostics
    }

    /// The entries of a map; null is an empty one. `what` names the value in messages.
    pub(crate) fn map<'n>(&mut self, node: &'n Node<'a>, what: &str) -> Option<&'n [(Key<'a>, Node<'a>)]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            Value::Scalar(_) if node.is_null() => Some(&[]),
            Value::Scalar(_) | Value::List(_) => {
                self.error(node.span, format!("{what} must be a map, not {}", kind(node)));
                None
            }
        }
    }

    /// The entries of a map, of which every key is one of `known`.
    pub(crate) fn fields<'n>(
        &mut self,
        node: &'n Node<'a>,
        what: &str,
        known: &[&str],
    ) -> Option<Fields<'n, 'a>> {
        self.fields_or(node, what, known, |_| None)
    }

    /// As [`Self::fields`], where `hint` may know of an unknown key what it should be.
    pub(crate) fn fields_or<'n>(
        &mut self,
        node: &'n Node<'a>,
        what: &str,
        known: &[&str],
        hint: impl Fn(&str) -> Option<String>,
    ) -> Option<Fields<'n, 'a>> {
        let entries = self.map(node, what)?;
        for (key, _) in entries {
            if !known.contains(&&*key.text) {
                match hint(&key.text) {
                    Some(hint) => {
                        let message = format!("unknown key `{}` in {what}", key.text);
                        self.error_with(key.span, message, Some(hint));
                    }
                    None => self.unknown_key(key, what, known),
                }
            }
        }
        Some(Fields { span: node.span, entries })
    }

    /// Reports a key that `what` does not have.
    pub(crate) fn unknown_key(&mut self, key: &Key<'_>, what: &str, known: &[&str]) {
        let hint = nearest(&key.text, known.iter().copied());
        self.error_with(key.span, format!("unknown key `{}` in {what}", key.text), hint);
    }

    /// The items of a list; null is an empty one.
    pub(crate) fn list<'n>(&mut self, node: &'n Node<'a>, what: &str) -> Option<&'n [Node<'a>]> {
        match &node.value {
            Value::List(items) => Some(items),
            Value::Scalar(_) if node.is_null() => Some(&[]),
            Value::Scalar(_) | Value::Map(_) => {
                self.error(node.span, format!("{what} must be a list, not {}", kind(node)));
                None
            }
        }
    }

    /// The values of a field that may be one value or a list of them, each read by `read`. An empty list is an error:
    /// nobody could tell whether it means all or none.
    pub(crate) fn values<T>(
        &mut self,
        node: &Node<'a>,
        what: &str,
        mut read: impl FnMut(&mut Self, &Node<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            Value::Scalar(_) | Value::Map(_) => std::slice::from_ref(node),
        };
        if items.is_empty() {
            self.error(node.span, format!("{what} is an empty list"));
            return None;
        }
        let mut values = Vec::with_capacity(items.len());
        values.extend(items.iter().filter_map(|item| read(self, item)));
        Some(values)
    }

    /// The text of a scalar that is not null.
    pub(crate) fn text<'n>(&mut self, node: &'n Node<'a>, what: &str) -> Option<&'n str> {
        match &node.value {
            Value::Scalar(scalar) if !node.is_null() => Some(&scalar.text),
            _ => {
                self.error(node.span, format!("{what} must be a single value, not {}", kind(node)));
                None
            }
        }
    }

    /// Whether it is the word `off`, however that is written.
    pub(crate) fn is_off(&self, node: &Node<'a>) -> bool {
        matches!(&node.value, Value::Scalar(scalar) if boolean(&scalar.text) == Some(false))
    }

    /// A boolean.
    pub(crate) fn boolean(&mut self, node: &Node<'a>, what: &str) -> Option<bool> {
        let text = self.text(node, what)?;
        let value = boolean(text);
        if value.is_none() {
            self.error(node.span, format!("{what} must be true or false, not `{text}`"));
        }
        value
    }

    /// A whole number between `min` and `max`, decimal or `0x` hexadecimal.
    pub(crate) fn number(&mut self, node: &Node<'a>, what: &str, min: u32, max: u32) -> Option<u32> {
        let text = self.text(node, what)?;
        match number(text) {
            Some(value) if (min..=max).contains(&value) => Some(value),
            _ => {
                self.error(node.span, format!("{what} must be a number from {min} to {max}, not `{text}`"));
                None
            }
        }
    }

    /// As [`Self::number`], for numbers of 16 bits.
    pub(crate) fn number16(&mut self, node: &Node<'a>, what: &str, min: u16, max: u16) -> Option<u16> {
        self.number(node, what, min.into(), max.into()).and_then(|n| u16::try_from(n).ok())
    }

    /// One of some words. `off`, `no` and `false` are one word, written `off` in `words`.
    pub(crate) fn keyword<T: Copy>(&mut self, node: &Node<'a>, what: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, what)?;
        let wanted = if boolean(text) == Some(false) { "off" } else { text };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == wanted) {
            return Some(*value);
        }
        let known = words.iter().map(|(word, _)| *word);
        let list = known.clone().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let hint = nearest(text, known);
        self.error_with(node.span, format!("{what} must be one of {list}, not `{text}`"), hint);
        None
    }

    /// A value that `parse` reads from its text, or says why not.
    pub(crate) fn parsed<T>(
        &mut self,
        node: &Node<'a>,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Option<T> {
        let text = self.text(node, what)?;
        parse(text).map_err(|error| self.error(node.span, error.to_string())).ok()
    }
}

/// The entries of a map whose keys were checked.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'n, 'a> {
    /// Where the map stands.
    pub(crate) span: Span,
    entries: &'n [(Key<'a>, Node<'a>)],
}

impl<'n, 'a> Fields<'n, 'a> {
    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&'n Node<'a>> {
        self.entry(key).map(|(_, node)| node)
    }

    /// The key as written and its value.
    pub(crate) fn entry(&self, key: &str) -> Option<&'n (Key<'a>, Node<'a>)> {
        self.entries.iter().find(|(k, _)| k.text == key)
    }

    /// The value of a key that must be there.
    pub(crate) fn require(&self, reader: &mut Reader<'a>, what: &str, key: &str) -> Option<&'n Node<'a>> {
        let node = self.get(key);
        if node.is_none() {
            reader.error(self.span, format!("{what} needs `{key}`"));
        }
        node
    }
}

/// What a node is, in the words of messages.
fn kind(node: &Node<'_>) -> &'static str {
    match &node.value {
        Value::Scalar(_) if node.is_null() => "empty",
        Value::Scalar(_) => "a single value",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
    }
}

/// YAML 1.1's booleans. Source: <https://yaml.org/type/bool.html>, without the one-letter forms.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "on" | "On" | "ON" | "yes" | "Yes" | "YES" => Some(true),
        "false" | "False" | "FALSE" | "off" | "Off" | "OFF" | "no" | "No" | "NO" => Some(false),
        _ => None,
    }
}

/// A number in decimal, or in hexadecimal behind `0x`. A leading zero is refused: YAML 1.1 reads it as octal.
pub(crate) fn number(text: &str) -> Option<u32> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return if hex.starts_with('+') { None } else { u32::from_str_radix(hex, 16).ok() };
    }
    let decimal = text == "0" || text.starts_with(|c: char| ('1'..='9').contains(&c));
    if decimal { text.parse().ok() } else { None }
}

/// `did you mean …?` with the name of `candidates` that is nearest to `name`, if one is near enough to be meant.
pub fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<String> {
    let lower = name.to_lowercase();
    let limit = match lower.chars().count() {
        0 | 1 => 0,
        length => (length / 3).max(1),
    };
    let ranked = candidates.take(MAX_CANDIDATES).filter_map(|candidate| {
        let distance = strsim::osa_distance(&lower, &candidate.to_lowercase());
        (distance <= limit).then_some((distance, candidate))
    });
    ranked.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_plain() {
        let cases = [
            ("0", Some(0)),
            ("22", Some(22)),
            ("0xff", Some(255)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
            ("-1", None),
            ("+1", None),
            ("0x+1", None),
            ("010", None),
            ("1.5", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn the_nearest_name_is_offered_only_if_near() {
        let names = ["established", "related", "new"];
        let hint = |name| nearest(name, names.into_iter());
        assert_eq!(hint("establised").as_deref(), Some("did you mean `established`?"));
        assert_eq!(hint("NEW").as_deref(), Some("did you mean `new`?"));
        assert_eq!(hint("estab"), None);
    }
}
