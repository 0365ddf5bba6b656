//! A YAML document as a tree in which every value knows where it stands.
//!
//! The tree is what the typed decoders read. It is bounded, since the text may come over the API: size of the text,
//! depth, and the number of values that aliases may add. JSON is YAML. Source: YAML 1.2.2.
//!
//! Not here: what a scalar means; `off` is a boolean or a word depending on who asks (see `decode`).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use crate::source::Span;

/// Longest text that is read, in bytes.
pub(crate) const MAX_BYTES: usize = 64 << 20;
/// Deepest nesting of lists and maps; both files need nine.
const MAX_DEPTH: usize = 64;
/// Values that aliases may add to those written.
const MAX_ALIASED: usize = 1 << 20;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) span: Span,
    pub(crate) value: Value<'a>,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Scalar(Scalar<'a>),
    List(Vec<Node<'a>>),
    Map(Vec<(Key<'a>, Node<'a>)>),
}

/// A scalar's text. `plain`: without quotes, so that it may be a boolean, a number or null.
#[derive(Clone, Debug)]
pub(crate) struct Scalar<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) plain: bool,
}

/// A map's key and its place.
#[derive(Clone, Debug)]
pub(crate) struct Key<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) span: Span,
}

impl Node<'_> {
    /// True for an empty value, `~` and `null`.
    pub(crate) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar(scalar) => {
                scalar.plain && matches!(&*scalar.text, "" | "~" | "null" | "Null" | "NULL")
            }
            Value::List(_) | Value::Map(_) => false,
        }
    }

    /// The number of values in it, itself included.
    fn weight(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Node::weight).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.weight()).sum(),
        }
    }
}

/// Why a text is no tree, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct YamlError {
    pub(crate) span: Span,
    pub(crate) message: String,
}

impl YamlError {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into() }
    }
}

/// Parses one document. Errors that leave the tree usable (a key given twice) are put into `errors`; `None`: the document
/// is empty.
pub(crate) fn parse<'a>(text: &'a str, errors: &mut Vec<YamlError>) -> Result<Option<Node<'a>>, YamlError> {
    if text.len() > MAX_BYTES {
        let message = format!("document of {} bytes is too large (limit {MAX_BYTES})", text.len());
        return Err(YamlError::new(Span::default(), message));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::default();
    let mut written = Written { text, ascii: text.is_ascii(), index: 0, offset: 0 };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|e| YamlError::new(span_of(e.marker()), e.info()))?;
        let event = match event {
            Event::Scalar(value, style, anchor, tag) => {
                Event::Scalar(written.find(value, style, span.start.index()), style, anchor, tag)
            }
            other => other,
        };
        builder.event(event, span_of(&span.start))?;
    }
    errors.append(&mut builder.errors);
    Ok(builder.root)
}

fn span_of(marker: &saphyr_parser::Marker) -> Span {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Span::new(number(marker.line().max(1)), number(marker.col()).saturating_add(1))
}

/// The text as it was written, in which scalars are looked up.
///
/// The parser gives each scalar a buffer of its own, of 128 bytes and more. Most are in the text letter by letter; of
/// those the tree holds a slice. For a policy of 100,000 rules that is 200 MB less to ask the kernel for.
struct Written<'a> {
    text: &'a str,
    ascii: bool,
    /// The place that was looked up last: in characters, as the parser counts, and in bytes.
    index: usize,
    offset: usize,
}

impl<'a> Written<'a> {
    /// The same text as a slice, if it stands at `index` as it is.
    fn find(&mut self, value: Cow<'a, str>, style: ScalarStyle, index: usize) -> Cow<'a, str> {
        let quotes = match style {
            ScalarStyle::Plain => 0,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => 1,
            ScalarStyle::Literal | ScalarStyle::Folded => return value,
        };
        let found = self.offset_of(index).and_then(|offset| self.text.get(offset + quotes..));
        match found.and_then(|rest| rest.get(..value.len())) {
            Some(same) if same == value => Cow::Borrowed(same),
            _ => value,
        }
    }

    /// Where a character stands, in bytes. Characters are asked for in the order of the text; None for one before the last.
    fn offset_of(&mut self, index: usize) -> Option<usize> {
        if self.ascii {
            return Some(index);
        }
        let ahead = index.checked_sub(self.index)?;
        let rest = self.text.get(self.offset..)?;
        let (offset, _) = rest.char_indices().nth(ahead)?;
        (self.index, self.offset) = (index, self.offset + offset);
        Some(self.offset)
    }
}

/// A list or map that is not closed yet.
struct Open<'a> {
    anchor: usize,
    span: Span,
    parts: Parts<'a>,
}

enum Parts<'a> {
    List(Vec<Node<'a>>),
    Map { entries: Vec<(Key<'a>, Node<'a>)>, key: Option<Key<'a>>, seen: Keys },
}

/// The keys of a map so far. Most maps are rules, too small for a hash to pay.
#[derive(Default)]
struct Keys(HashSet<String>);

impl Keys {
    /// Entries up to which the list itself is searched.
    const SMALL: usize = 16;

    /// True if `text` is a key of `entries`, which this belongs to; else notes it.
    fn has(&mut self, entries: &[(Key<'_>, Node<'_>)], text: &str) -> bool {
        if entries.len() < Self::SMALL {
            return entries.iter().any(|(key, _)| key.text == text);
        }
        if self.0.is_empty() {
            self.0.extend(entries.iter().map(|(key, _)| key.text.to_string()));
        }
        !self.0.insert(text.to_string())
    }
}

/// Builds the tree from the parser's events.
#[derive(Default)]
struct Builder<'a> {
    root: Option<Node<'a>>,
    open: Vec<Open<'a>>,
    anchors: HashMap<usize, (Node<'a>, usize)>,
    aliased: usize,
    errors: Vec<YamlError>,
}

impl<'a> Builder<'a> {
    fn event(&mut self, event: Event<'a>, span: Span) -> Result<(), YamlError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !known_tag(tag.as_deref(), span)?;
                self.value(Node { span, value: Value::Scalar(Scalar { text, plain }) }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                known_tag(tag.as_deref(), span)?;
                self.open(Open { anchor, span, parts: Parts::List(Vec::new()) })
            }
            Event::MappingStart(anchor, tag) => {
                known_tag(tag.as_deref(), span)?;
                let parts = Parts::Map { entries: Vec::new(), key: None, seen: Keys::default() };
                self.open(Open { anchor, span, parts })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(YamlError::new(span, "a second document: there must be one"))
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn open(&mut self, open: Open<'a>) -> Result<(), YamlError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(YamlError::new(open.span, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self) -> Result<(), YamlError> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.parts {
            Parts::List(items) => Value::List(items),
            Parts::Map { entries, .. } => Value::Map(entries),
        };
        self.value(Node { span: open.span, value }, open.anchor)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), YamlError> {
        let Some((node, weight)) = self.anchors.get(&anchor) else {
            return Err(YamlError::new(span, "alias of a value that is not complete"));
        };
        self.aliased = self.aliased.saturating_add(*weight);
        if self.aliased > MAX_ALIASED {
            return Err(YamlError::new(span, format!("aliases expand to more than {MAX_ALIASED} values")));
        }
        let node = node.clone();
        if self.open.len() + depth(&node) > MAX_DEPTH {
            return Err(YamlError::new(span, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.value(node, 0)
    }

    /// A value is complete: it goes into the innermost open list or map, or is the document.
    fn value(&mut self, node: Node<'a>, anchor: usize) -> Result<(), YamlError> {
        if anchor != 0 {
            let weight = node.weight();
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.parts {
            Parts::List(items) => items.push(node),
            Parts::Map { entries, key, seen } => match key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let Value::Scalar(Scalar { text, .. }) = node.value else {
                        return Err(YamlError::new(node.span, "a key must be a word"));
                    };
                    if seen.has(entries, &text) {
                        self.errors.push(YamlError::new(node.span, format!("`{text}` is given twice")));
                    }
                    *key = Some(Key { text, span: node.span });
                }
            },
        }
        Ok(())
    }
}

/// True for `!!str`, which makes a plain scalar text. Other core tags say nothing that the decoders do not know.
fn known_tag(tag: Option<&Tag>, span: Span) -> Result<bool, YamlError> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() => Ok(tag.suffix == "str"),
        Some(tag) => Err(YamlError::new(span, format!("unknown tag `{tag}`"))),
    }
}

fn depth(node: &Node<'_>) -> usize {
    match &node.value {
        Value::Scalar(_) => 0,
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|(_, node)| depth(node)).max().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let mut errors = Vec::new();
        match parse(text, &mut errors) {
            Err(e) => format!("{}: {}", e.span, e.message),
            Ok(_) => errors.iter().map(|e| format!("{}: {}", e.span, e.message)).collect(),
        }
    }

    fn tree(text: &str) -> Node<'_> {
        parse(text, &mut Vec::new()).unwrap().unwrap()
    }

    #[test]
    fn values_know_their_places() {
        let node = tree("a:\n  - {b: 'c'}\n");
        let Value::Map(entries) = node.value else { panic!() };
        assert_eq!(entries[0].0.span, Span::new(1, 1));
        let Value::List(items) = &entries[0].1.value else { panic!() };
        let Value::Map(inner) = &items[0].value else { panic!() };
        assert_eq!((inner[0].0.span, inner[0].1.span), (Span::new(2, 6), Span::new(2, 9)));
    }

    #[test]
    fn scalars_are_slices_of_the_text() {
        let text = "\u{feff}größe: [ä, 'ö', \"ü\", 'it''s', \"\\u0041\"] # é\nlong: a\n  b\n";
        let Value::Map(entries) = tree(text).value else { panic!() };
        let Value::List(items) = &entries[0].1.value else { panic!() };
        let shown = |node: &Node<'_>| match &node.value {
            Value::Scalar(scalar) => (scalar.text.to_string(), matches!(scalar.text, Cow::Borrowed(_))),
            Value::List(_) | Value::Map(_) => panic!(),
        };
        let items: Vec<_> = items.iter().chain([&entries[1].1]).map(shown).collect();
        let expected = [("ä", true), ("ö", true), ("ü", true), ("it's", false), ("A", false), ("a b", false)];
        assert_eq!(items, expected.map(|(text, borrowed)| (text.to_string(), borrowed)));
        assert!(entries.iter().all(|(key, _)| matches!(key.text, Cow::Borrowed(_))));
    }

    #[test]
    fn json_is_yaml() {
        let node = tree("{\"a\": [1, 2.5, true, null, \"x\\u0041\"], \"b\": {}}");
        assert_eq!(node.weight(), 8);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        assert_eq!(error("a: 1\na: 2\n"), "2:1: `a` is given twice");
        let many: String = (0..40).map(|i| format!("k{}: 1\n", i % 39)).collect();
        assert_eq!(error(&many), "40:1: `k0` is given twice");
        assert_eq!(error("a: 1\n---\nb: 2\n"), "2:1: a second document: there must be one");
        assert_eq!(error("? [a]\n: b\n"), "1:3: a key must be a word");
        assert_eq!(error("a: !thing b\n"), "1:4: unknown tag `!thing`");
        assert!(error("a: [1, 2\nb: 3\n").starts_with("2:"));
        assert_eq!(error(&"[".repeat(200)), "1:65: nested deeper than 64 levels");
        assert!(error("a: &a [*a]").contains("alias"), "{}", error("a: &a [*a]"));
    }

    #[test]
    fn aliases_expand_within_bounds() {
        let mut text = "a0: &a0 [1, 2]\n".to_string();
        for i in 1..30 {
            text += &format!("a{i}: &a{i} [*a{0}, *a{0}]\n", i - 1);
        }
        assert!(error(&text).contains("aliases expand"), "{}", error(&text));
        assert_eq!(tree("a: &x [1]\nb: *x\n").weight(), 5);
    }
}
