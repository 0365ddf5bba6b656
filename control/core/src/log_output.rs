//! Where lines about packets go: to the journal with a field for each thing that is known, or else to the log as they are;
//! and how many.
//!
//! Rules have limits of their own; this bound is for those that have none, so that a flood of lines neither keeps control from its
//! work nor fills a disk in minutes. What is left out is counted, and said once a second.

use std::sync::Mutex;

use crate::journal::Journal;
use crate::lock::locked;

/// Lines a second.
const RATE: u32 = 1000;

/// journald's number for information.
const PRIORITY: &str = "6";

/// Fields that a line's own may be named as, in the kernel's order.
const KEYS: [&str; 24] = [
    "IN", "OUT", "MAC", "SRC", "DST", "LEN", "TOS", "PREC", "TTL", "ID", "TC", "HOPLIMIT", "FLOWLBL", "FRAG",
    "PROTO", "SPT", "DPT", "WINDOW", "RES", "URGP", "TYPE", "CODE", "SEQ", "MARK",
];

/// The place where lines go.
#[derive(Debug)]
pub(crate) struct LogOutput {
    journal: Option<Journal>,
    gate: Mutex<Gate>,
}

/// What is known of a line beside its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct About<'a> {
    /// The rule's name, or else its chain and place; empty for what the tracker logs.
    pub(crate) rule: &'a str,
    /// What the line begins with.
    pub(crate) prefix: &'a str,
    /// Whether it is written however many lines came before: who had a port must be known.
    pub(crate) must: bool,
}

#[derive(Debug, Default)]
struct Gate {
    /// Seconds since 1970.
    second: u64,
    lines: u32,
}

impl Gate {
    /// Whether there is room for a line more; how many were left out in a second that is over.
    fn pass(&mut self, second: u64) -> (bool, u32) {
        let mut left_out = 0;
        if self.second != second {
            left_out = self.lines.saturating_sub(RATE);
            *self = Gate { second, lines: 0 };
        }
        self.lines = self.lines.saturating_add(1);
        (self.lines <= RATE, left_out)
    }
}

impl LogOutput {
    /// The journal where standard error leads there, else the log.
    pub(crate) fn new() -> LogOutput {
        LogOutput { journal: Journal::of_stderr(), gate: Mutex::default() }
    }

    /// Writes a line, unless there were enough; `second` in seconds since 1970.
    pub(crate) fn write(&self, second: u64, line: &str, about: About<'_>) {
        let (passes, left_out) = match about.must {
            true => (true, 0),
            false => locked(&self.gate).pass(second),
        };
        if left_out > 0 {
            tracing::warn!(target: "sluice::log", "{left_out} lines were left out: more than {RATE} came in a second");
        }
        if !passes {
            return;
        }
        let written =
            self.journal.as_ref().is_some_and(|journal| journal.write(&fields(line, about)).is_ok());
        if !written {
            tracing::info!(target: "sluice::log", "{line}");
        }
    }
}

/// A line as fields: the line itself, and what stands in it as `KEY=value`.
fn fields<'a>(line: &'a str, about: About<'a>) -> Vec<(&'static str, &'a str)> {
    let mut fields = vec![("MESSAGE", line), ("PRIORITY", PRIORITY), ("SYSLOG_IDENTIFIER", "sluiced")];
    if !about.rule.is_empty() {
        fields.push(("SLUICE_RULE", about.rule));
    }
    if !about.prefix.is_empty() {
        fields.push(("SLUICE_PREFIX", about.prefix));
    }
    // What the prefix says is the operator's.
    let known = line.strip_prefix(about.prefix).unwrap_or(line);
    for word in known.split(' ') {
        let Some((key, value)) = word.split_once('=') else { continue };
        let name = KEYS.iter().position(|known| *known == key).and_then(|at| NAMES.get(at));
        // UDP's length comes behind the datagram's, which it is no other word for.
        if let Some(name) =
            name.filter(|name| !value.is_empty() && fields.iter().all(|field| field.0 != **name))
        {
            fields.push((name, value));
        }
    }
    fields
}

/// The same as fields of the journal.
const NAMES: [&str; KEYS.len()] = [
    "SLUICE_IN",
    "SLUICE_OUT",
    "SLUICE_MAC",
    "SLUICE_SRC",
    "SLUICE_DST",
    "SLUICE_LEN",
    "SLUICE_TOS",
    "SLUICE_PREC",
    "SLUICE_TTL",
    "SLUICE_ID",
    "SLUICE_TC",
    "SLUICE_HOPLIMIT",
    "SLUICE_FLOWLBL",
    "SLUICE_FRAG",
    "SLUICE_PROTO",
    "SLUICE_SPT",
    "SLUICE_DPT",
    "SLUICE_WINDOW",
    "SLUICE_RES",
    "SLUICE_URGP",
    "SLUICE_TYPE",
    "SLUICE_CODE",
    "SLUICE_SEQ",
    "SLUICE_MARK",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart_behind_its_prefix() {
        let line = "SRC=me IN=lan OUT= SRC=10.0.0.9 DST=192.0.2.7 LEN=31 DF PROTO=UDP SPT=5 DPT=53 LEN=11";
        let fields = fields(line, About { rule: "dns", prefix: "SRC=me ", must: false });
        let expected = [
            ("MESSAGE", line),
            ("PRIORITY", "6"),
            ("SYSLOG_IDENTIFIER", "sluiced"),
            ("SLUICE_RULE", "dns"),
            ("SLUICE_PREFIX", "SRC=me "),
            ("SLUICE_IN", "lan"),
            ("SLUICE_SRC", "10.0.0.9"),
            ("SLUICE_DST", "192.0.2.7"),
            ("SLUICE_LEN", "31"),
            ("SLUICE_PROTO", "UDP"),
            ("SLUICE_SPT", "5"),
            ("SLUICE_DPT", "53"),
        ];
        assert_eq!(fields, expected);
        assert!(KEYS.iter().zip(NAMES).all(|(key, name)| name.strip_prefix("SLUICE_") == Some(key)));
    }

    #[test]
    fn a_flood_of_lines_is_cut_and_counted() {
        let mut gate = Gate::default();
        let passed = (0..RATE + 7).filter(|_| gate.pass(5).0).count();
        assert_eq!(passed, RATE as usize);
        assert_eq!(gate.pass(6), (true, 7));
        assert_eq!(gate.pass(7), (true, 0));
    }
}
