//! A policy as text: one rule a line, each line with the place that it comes from.

use std::fmt::Write as _;

use crate::model::{Set, SetKind};
use crate::report::Place;
use crate::yaml::{Value, scalar};

/// A policy to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    pub(crate) sets: Vec<Set>,
    pub(crate) chains: Vec<DraftChain>,
    /// In the order of a packet's way; those of one table stand together.
    pub(crate) hooks: Vec<DraftHook>,
}

/// A user chain.
#[derive(Clone, Debug)]
pub(crate) struct DraftChain {
    pub(crate) name: String,
    pub(crate) lines: Vec<Line>,
}

/// A chain at a hook.
#[derive(Clone, Debug)]
pub(crate) struct DraftHook {
    pub(crate) table: &'static str,
    pub(crate) hook: &'static str,
    pub(crate) drops: bool,
    pub(crate) lines: Vec<Line>,
}

/// A line of a chain.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    /// A rule, and the line that it translates.
    Rule { entries: Vec<(&'static str, Value)>, place: Option<Place> },
    /// For people.
    Comment(String),
}

impl Line {
    /// A rule for every packet.
    pub(crate) fn plain(action: Value) -> Line {
        Line::Rule { entries: vec![("action", action)], place: None }
    }
}

/// Text, and of each of its lines what it translates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    pub(crate) text: String,
    pub(crate) places: Vec<Option<Place>>,
}

impl Written {
    fn line(&mut self, text: &str, place: Option<&Place>) {
        self.text.push_str(text);
        self.text.push('\n');
        self.places.push(place.cloned());
    }
}

/// Columns after which a list of elements is broken.
const WIDTH: usize = 110;

/// Writes a policy; `heading` are comments in front.
pub(crate) fn write(draft: &Draft, heading: &[String]) -> Written {
    let mut out = Written::default();
    for line in heading {
        out.line(&format!("# {line}"), None);
    }
    let sets = || draft.sets.iter().filter(|set| matches!(set.kind, SetKind::Net | SetKind::Port));
    if sets().next().is_some() {
        out.line("sets:", None);
        sets().for_each(|set| write_set(&mut out, set));
    }
    if !draft.chains.is_empty() {
        out.line("chains:", None);
        for chain in &draft.chains {
            rules(&mut out, "  ", &scalar(&chain.name), &chain.lines);
        }
    }
    let mut table = "";
    for hook in &draft.hooks {
        if table != hook.table {
            table = hook.table;
            out.line(&format!("{table}:"), None);
        }
        if hook.drops {
            out.line(&format!("  {}:", hook.hook), None);
            out.line("    policy: drop", None);
            rules(&mut out, "    ", "rules", &hook.lines);
        } else {
            rules(&mut out, "  ", hook.hook, &hook.lines);
        }
    }
    if out.places.len() == heading.len() {
        out.line("{}", None);
    }
    out
}

fn rules(out: &mut Written, indent: &str, name: &str, lines: &[Line]) {
    let empty = !lines.iter().any(|line| matches!(line, Line::Rule { .. }));
    out.line(&format!("{indent}{name}:{}", if empty { " []" } else { "" }), None);
    for line in lines {
        match line {
            Line::Rule { entries, place } => {
                out.line(&format!("{indent}  - {}", Value::Map(entries.clone())), place.as_ref());
            }
            Line::Comment(text) => {
                out.line(&format!("{indent}  # {}", text.replace(char::is_control, " ")), None)
            }
        }
    }
}

fn write_set(out: &mut Written, set: &Set) {
    let kind = if set.kind == SetKind::Port { "port" } else { "net" };
    let mut line = format!("  {}: {{type: {kind}, elements: [", scalar(&set.named));
    for (index, element) in set.elements.iter().enumerate() {
        if index > 0 {
            line.push_str(", ");
        }
        if line.len() > WIDTH {
            out.line(line.trim_end(), Some(&set.place));
            line = "      ".to_owned();
        }
        let _ = write!(line, "{}", scalar(element));
    }
    line.push_str("]}");
    out.line(&line, Some(&set.place));
}
