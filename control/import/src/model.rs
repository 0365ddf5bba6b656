//! A ruleset between the formats: netfilter's tables and chains, whose matches and actions are the policy language's.

use std::collections::BTreeSet;

use crate::report::Place;
use crate::yaml::Value;

/// All that was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ruleset {
    /// In the order of the files.
    pub(crate) tables: Vec<Table>,
    /// Sets of addresses or ports.
    pub(crate) sets: Vec<Set>,
    /// How many texts were read.
    pub(crate) sources: usize,
}

/// A name of letters, digits, `_`, `-` and `.`, not longer than 64, that is not in `taken`, to which it is added.
pub(crate) fn free_name(name: &str, owner: Option<&str>, taken: &mut BTreeSet<String>) -> String {
    let clean = |text: &str| -> String {
        text.chars()
            .map(|c| if c.is_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' })
            .take(56)
            .collect()
    };
    let plain = if name.is_empty() { "unnamed".to_owned() } else { clean(name) };
    let with_owner = owner.map(|owner| clean(&format!("{owner}-{name}")));
    let numbered = (2..).map(|n: u32| format!("{plain}-{n}"));
    let mut names = std::iter::once(plain.clone()).chain(with_owner).chain(numbered);
    let free = names.find(|name| !taken.contains(name)).unwrap_or(plain);
    taken.insert(free.clone());
    free
}

/// The address families that something is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Families {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

impl Families {
    pub(crate) const V4: Self = Self { v4: true, v6: false };
    pub(crate) const V6: Self = Self { v4: false, v6: true };
    pub(crate) const BOTH: Self = Self { v4: true, v6: true };

    /// In both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self { v4: self.v4 && other.v4, v6: self.v6 && other.v6 }
    }

    /// Those that are not in here.
    pub(crate) const fn others(self) -> Self {
        Self { v4: !self.v4, v6: !self.v6 }
    }

    /// In one of them.
    pub(crate) const fn or(self, other: Self) -> Self {
        Self { v4: self.v4 || other.v4, v6: self.v6 || other.v6 }
    }

    /// None is left.
    pub(crate) const fn is_none(self) -> bool {
        !self.v4 && !self.v6
    }

    /// The word of the policy language; None for both.
    pub(crate) const fn word(self) -> Option<&'static str> {
        match (self.v4, self.v6) {
            (true, false) => Some("ipv4"),
            (false, true) => Some("ipv6"),
            _ => None,
        }
    }
}

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) families: Families,
    /// Whose sets its rules mean: a table of nft's own, or those of ipset.
    pub(crate) owner: Option<String>,
    /// In the order of the file.
    pub(crate) chains: Vec<Chain>,
}

impl Table {
    pub(crate) fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}

/// A chain, at a hook or reached by jumps.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) name: String,
    pub(crate) place: Place,
    /// The families whose packets can come here.
    pub(crate) families: Families,
    /// None for one that only jumps reach.
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

/// What makes a chain one at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// nft's word for it: prerouting, input, forward, output, postrouting.
    pub(crate) hook: String,
    /// A chain of type nat.
    pub(crate) nat: bool,
    /// netfilter's priority.
    pub(crate) priority: i64,
    pub(crate) drops: bool,
}

/// A rule, or a line that could not be made one.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) place: Place,
    /// The families that it is for, of its table's.
    pub(crate) families: Families,
    /// Any of these must hold; no packet fulfils two of them.
    pub(crate) alternatives: Vec<Vec<Test>>,
    /// What is done before the verdict, in order: actions of the policy language.
    pub(crate) effects: Vec<Effect>,
    pub(crate) verdict: Verdict,
    pub(crate) comment: Option<String>,
    /// Why it has no translation.
    pub(crate) refused: Option<String>,
}

impl Rule {
    /// A rule of `families` that asks for nothing and does nothing.
    pub(crate) fn new(place: Place, families: Families) -> Self {
        let (alternatives, effects) = (vec![Vec::new()], Vec::new());
        Self { place, families, alternatives, effects, verdict: Verdict::None, comment: None, refused: None }
    }

    /// One more test that must hold.
    pub(crate) fn test(&mut self, test: Test) {
        for tests in &mut self.alternatives {
            tests.push(test.clone());
        }
    }

    /// One of these must hold too; no packet may fulfil two of them.
    pub(crate) fn either(&mut self, choices: &[Vec<Test>]) {
        let with = |tests: &Vec<Test>| {
            let tests = tests.clone();
            choices.iter().map(move |choice| tests.iter().chain(choice).cloned().collect::<Vec<_>>())
        };
        self.alternatives = self.alternatives.iter().flat_map(with).collect();
    }

    /// Only for these families.
    pub(crate) fn only(&mut self, families: Families) {
        self.families = self.families.and(families);
    }

    /// Has no translation; the first reason stays.
    pub(crate) fn refuse(&mut self, reason: impl Into<String>) {
        self.refused.get_or_insert_with(|| reason.into());
    }

    /// True if `other` asks and does the same, whatever family it is for. Limits of two rules are two limits.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let limits = |test: &Test| {
            matches!(test, Test::Is("limit" | "connlimit", _) | Test::Not("limit" | "connlimit", _))
        };
        !self.alternatives.iter().flatten().any(limits)
            && self.alternatives == other.alternatives
            && self.effects == other.effects
            && self.verdict == other.verdict
            && self.comment == other.comment
            && self.refused.is_none()
            && other.refused.is_none()
    }
}

/// One thing asked of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// A match of the policy language.
    Is(&'static str, Asked),
    /// The same under `not`.
    Not(&'static str, Asked),
    /// No packet that Sluice sees is like this.
    Never,
}

/// The value of a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Any of these.
    Any(Vec<String>),
    /// A set, by the name that the rule's format has for it.
    Set(String),
    /// Something else than a list.
    Other(Value),
}

/// Something that a rule does before it decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    /// The action.
    pub(crate) action: Value,
    /// The match whose outcome it can change.
    pub(crate) changes: Option<&'static str>,
}

/// How a rule ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// On with the next rule.
    None,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// Another action that is terminal in its hook: reject, translations.
    Other(Value),
    /// iptables' NETMAP to this prefix: of sources in postrouting, of destinations elsewhere.
    Netmap(String),
}

/// A set of addresses or ports.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    /// As its format calls it.
    pub(crate) name: String,
    /// The table that it belongs to; None of ipset's.
    pub(crate) owner: Option<String>,
    /// As the policy calls it.
    pub(crate) named: String,
    pub(crate) place: Place,
    pub(crate) kind: SetKind,
    pub(crate) families: Families,
    pub(crate) elements: Vec<String>,
}

/// What a set holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SetKind {
    /// Addresses.
    Net,
    /// Ports.
    Port,
    /// Addresses with a protocol and a port, `10.0.0.1,tcp:80`: each a rule of its own.
    Pairs,
    /// Names of other sets of ipset.
    Sets,
    /// Words that stand in rules themselves: interfaces, marks, protocols.
    Inline,
    /// Nothing that a policy's set can hold: why.
    Refused(String),
}
