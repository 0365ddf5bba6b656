//! Sets, inline and from files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::word;
use crate::decode::Reader;
use crate::diagnostics::ValueError;
use crate::policy::{Set, SetElements};
use crate::source::{Span, read_limited};
use crate::yaml::{Key, Node};

/// Where set files are read.
pub(in crate::policy) enum Files<'f> {
    /// From disk; relative paths are resolved against this folder.
    Folder(&'f Path),
    /// Those that came with the policy, by the path written in it.
    Given(&'f BTreeMap<String, String>),
}

impl Files<'_> {
    /// The name that messages show for a set file, and its text or why there is none.
    fn read(&self, path: &str) -> (String, Result<String, String>) {
        match self {
            Self::Folder(folder) => {
                let full = folder.join(path);
                (full.to_string_lossy().into_owned(), read_limited(&full))
            }
            Self::Given(files) => {
                let text = files.get(path).cloned();
                (path.to_string(), text.ok_or_else(|| "it did not come with the policy".to_string()))
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Net,
    Port,
}

/// Reads `sets:`. The texts of set files are put into `read`.
pub(super) fn sets<'a>(
    reader: &mut Reader<'a>,
    node: &Node<'a>,
    files: &Files<'_>,
    read: &mut BTreeMap<String, String>,
) -> BTreeMap<String, Set> {
    let entries = reader.map(node, "`sets`").unwrap_or_default();
    let sets = entries.iter().filter_map(|(key, node)| set(reader, key, node, files, read));
    sets.map(|set| (set.name.clone(), set)).collect()
}

fn set<'a>(
    reader: &mut Reader<'a>,
    key: &Key<'a>,
    node: &Node<'a>,
    files: &Files<'_>,
    read: &mut BTreeMap<String, String>,
) -> Option<Set> {
    let name = word(reader, key, "set");
    let what = format!("set `{name}`");
    let fields = reader.fields(node, &what, &["type", "elements", "file"])?;
    let kind = fields.require(reader, &what, "type");
    let kind =
        kind.and_then(|node| reader.keyword(node, "`type`", &[("net", Kind::Net), ("port", Kind::Port)]))?;
    let mut elements = match kind {
        Kind::Net => SetElements::Net(Vec::new()),
        Kind::Port => SetElements::Port(Vec::new()),
    };
    let mut file = None;
    match (fields.get("elements"), fields.get("file")) {
        (Some(node), None) => {
            for item in reader.list(node, "`elements`").unwrap_or_default() {
                reader.parsed(item, "an element", |text| elements.add(text));
            }
        }
        (None, Some(node)) => {
            let path = reader.text(node, "`file`")?;
            from_file(reader, node.span, path, files, read, &mut elements);
            file = Some(PathBuf::from(path));
        }
        (Some(_), Some(node)) => {
            reader.error(node.span, format!("{what} takes `elements` or `file`, not both"))
        }
        (None, None) => reader.error(node.span, format!("{what} needs `elements` or `file`")),
    }
    Some(Set { name, elements, file, span: key.span })
}

/// Reads a set file: one element a line, `#` begins a comment. Its errors are placed in it.
fn from_file(
    reader: &mut Reader<'_>,
    span: Span,
    path: &str,
    files: &Files<'_>,
    read: &mut BTreeMap<String, String>,
    elements: &mut SetElements,
) {
    let (name, text) = files.read(path);
    let text = match text {
        Ok(text) => text,
        Err(why) => {
            reader.error(span, format!("set file `{path}` cannot be read: {why}"));
            return;
        }
    };
    let mut lines = Reader::new(&name, &text);
    for (number, line) in (1..).zip(text.lines()) {
        let content = line.split('#').next().unwrap_or_default();
        let element = content.trim();
        if element.is_empty() {
            continue;
        }
        if let Err(error) = elements.add(element) {
            let indent = content.chars().take_while(|c| c.is_whitespace()).count();
            let column = u32::try_from(indent).unwrap_or(u32::MAX).saturating_add(1);
            lines.error(Span::new(number, column), error.to_string());
        }
    }
    reader.adopt(lines.finish());
    read.insert(path.to_string(), text);
}

impl SetElements {
    /// Adds an element as it is written in a policy: an address, prefix or range, or a port or range of ports.
    ///
    /// # Errors
    /// The text is none of these.
    pub fn add(&mut self, text: &str) -> Result<(), ValueError> {
        match self {
            Self::Net(list) => list.push(text.parse()?),
            Self::Port(list) => list.push(text.parse()?),
        }
        Ok(())
    }
}
