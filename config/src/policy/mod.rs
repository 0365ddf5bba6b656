//! The policy file as a typed model: zones, sets, chains, rules and the policy's own tests.
//!
//! A [`Policy`] has passed every check that needs no other knowledge: names resolve, jumps do not loop, each rule's
//! matches can hold together, each action is allowed where its chain is used.

mod action;
mod check;
mod decode;
mod lint;
mod matches;
mod names;
mod nat64;
mod packet;
pub(crate) mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::decode::Files;
use crate::addr::IpRange;
use crate::decode::Reader;
use crate::diagnostics::Diagnostics;
use crate::source::{Span, Spanned, folder, read_text};
use crate::system::{InterfaceNames, TimeoutOverrides};

pub use action::{
    Action, AssignedHelper, ChainPolicy, CtTimeout, CtZone, Helper, IcmpCode, Icmpv6Code, Log, MarkSet,
    Masquerade, NatMapping, NatTarget, Notrack, PortBlocks, Reject, RejectReason,
};
pub use matches::{
    AddrKind, AddrMatch, ConnLimit, CtDir, CtOrig, CtState, CtStatus, IcmpMatch, InterfaceMatch, Limit,
    LimitPer, MarkMatch, Matches, NumberRange, PortMatch, PortRange, TcpFlagsMatch,
};
pub use nat64::Nat64;
pub use packet::{PolicyTest, TestPacket, TestVerdict};

/// A policy file that has no errors.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Groups of interfaces, by name.
    pub zones: BTreeMap<String, Zone>,
    /// Sets of addresses or ports, by name (without the `@`).
    pub sets: BTreeMap<String, Set>,
    /// User chains, by name.
    pub chains: BTreeMap<String, UserChain>,
    /// The chains at hooks, in the order a packet meets them; those left out of the file are left out here.
    pub hooks: Vec<HookChain>,
    /// Timeouts that rules give to flows, by name.
    pub timeouts: BTreeMap<String, TimeoutOverrides>,
    /// The policy's own tests, in order.
    pub tests: Vec<PolicyTest>,
    /// The text that it was read from, with the set files.
    pub source: PolicySource,
    /// What reading it took.
    pub took: ReadTimes,
}

/// How long the steps took in which a policy's text was read.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadTimes {
    /// YAML to a tree.
    pub tree: Duration,
    /// The tree to the typed model, and all that may be wrong with it.
    pub model: Duration,
    /// What is valid and cannot have been meant.
    pub warnings: Duration,
}

impl Policy {
    /// Reads and checks the file at `path` and its set files. With the model come the warnings. `interfaces`: what `in` and
    /// `out` may name beside zones; `None` takes any name as given.
    ///
    /// # Errors
    /// All that is wrong with the file and its set files.
    pub fn load(
        path: &Path,
        interfaces: Option<&InterfaceNames>,
    ) -> Result<(Self, Diagnostics), Diagnostics> {
        let text = read_text(path)?;
        Self::parse(&path.to_string_lossy(), &text, interfaces)
    }

    /// Reads and checks a policy's text. `name` is its path as messages show it; set files are read from disk, relative to
    /// that path's folder.
    ///
    /// # Errors
    /// All that is wrong with the text and its set files.
    pub fn parse(
        name: &str,
        text: &str,
        interfaces: Option<&InterfaceNames>,
    ) -> Result<(Self, Diagnostics), Diagnostics> {
        Self::read(name, text, &Files::Folder(folder(name)), interfaces)
    }

    /// Checks a policy that came with its set files; nothing is read from disk.
    ///
    /// # Errors
    /// All that is wrong with the text and its set files; a set file that did not come is an error.
    pub fn from_source(
        source: &PolicySource,
        interfaces: Option<&InterfaceNames>,
    ) -> Result<(Self, Diagnostics), Diagnostics> {
        Self::read(&source.name, &source.text, &Files::Given(&source.files), interfaces)
    }

    fn read(
        name: &str,
        text: &str,
        files: &Files<'_>,
        interfaces: Option<&InterfaceNames>,
    ) -> Result<(Self, Diagnostics), Diagnostics> {
        let mut reader = Reader::new(name, text);
        let source = PolicySource { name: name.to_string(), text: text.to_string(), files: BTreeMap::new() };
        let began = Instant::now();
        let tree = reader.tree();
        let read = Instant::now();
        let policy = tree.and_then(|root| decode::policy(&mut reader, &root, source, files));
        let policy = policy.map(|policy| check::policy(&mut reader, policy, interfaces));
        match policy {
            Some(mut policy) if reader.errors() == 0 => {
                let checked = Instant::now();
                lint::policy(&mut reader, &policy);
                policy.took =
                    ReadTimes { tree: read - began, model: checked - read, warnings: checked.elapsed() };
                Ok((policy, reader.finish()))
            }
            _ => Err(reader.finish()),
        }
    }

    /// The chain of `table` at `hook`, if the file has it.
    pub fn hook(&self, table: Table, hook: Hook) -> Option<&HookChain> {
        self.hooks.iter().find(|chain| chain.table == table && chain.hook == hook)
    }

    /// All rules with the chain they stand in: the hooks' in order, then the user chains'.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        let hooks = self.hooks.iter().flat_map(|chain| &chain.rules);
        hooks.chain(self.chains.values().flat_map(|chain| &chain.rules))
    }

    /// The interfaces that an `in` or `out` match stands for, its zones resolved to their members.
    pub fn interfaces<'a>(&'a self, matches: &'a [Spanned<InterfaceMatch>]) -> BTreeSet<&'a str> {
        let mut names = BTreeSet::new();
        for entry in matches {
            match &entry.value {
                InterfaceMatch::Interface(name) => {
                    names.insert(name.as_str());
                }
                InterfaceMatch::Zone(name) => {
                    let members = self.zones.get(name).into_iter().flat_map(|zone| &zone.interfaces);
                    names.extend(members.map(|member| member.value.as_str()));
                }
            }
        }
        names
    }
}

/// A policy's text with all that it refers to: enough to compile it again anywhere. This is what goes over the API and
/// into the history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySource {
    /// Name of the policy file, as messages show it.
    pub name: String,
    /// The policy file's text.
    pub text: String,
    /// Set files by the path written in the policy, with their text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

/// A group of interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// Its interfaces; no zone contains a zone.
    pub interfaces: Vec<Spanned<String>>,
    /// Where its name stands.
    pub span: Span,
}

/// A named set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name, without the `@`.
    pub name: String,
    /// What it holds.
    pub elements: SetElements,
    /// The file that the elements come from, as written in the policy; `None` if they stand inline.
    pub file: Option<PathBuf>,
    /// Where its name stands.
    pub span: Span,
}

/// The elements of a [`Set`], in the order written; they may overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetElements {
    /// `type: net`: addresses, prefixes and ranges, each as a range; both families.
    Net(Vec<IpRange>),
    /// `type: port`: ports and ranges of ports.
    Port(Vec<PortRange>),
}

impl SetElements {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Net(list) => list.len(),
            Self::Port(list) => list.len(),
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A table: what the chains at its hooks may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Before connection tracking, every packet.
    Raw,
    /// After tracking, before NAT: helpers and marks.
    Mangle,
    /// Once per flow: address translation.
    Nat,
    /// Accept, drop, reject.
    Filter,
}

impl Table {
    /// All tables, in the order of a packet's way.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Mangle, Self::Nat, Self::Filter];

    /// Its name in the policy file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Filter => "filter",
        }
    }

    /// The hooks at which it has chains.
    pub const fn hooks(self) -> &'static [Hook] {
        match self {
            Self::Raw => &[Hook::Prerouting, Hook::Output],
            Self::Mangle | Self::Nat => &[Hook::Prerouting, Hook::Output, Hook::Postrouting],
            Self::Filter => &[Hook::Input, Hook::Forward, Hook::Output],
        }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A place on a packet's way where chains are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Received, before the route is known.
    Prerouting,
    /// For the router itself.
    Input,
    /// For someone else.
    Forward,
    /// Sent by the router itself.
    Output,
    /// About to leave.
    Postrouting,
}

impl Hook {
    /// Its name in the policy file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        }
    }
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A chain at a hook.
#[derive(Clone, Debug, PartialEq)]
pub struct HookChain {
    /// Its table.
    pub table: Table,
    /// Its hook.
    pub hook: Hook,
    /// What becomes of a packet that no rule decided.
    pub policy: ChainPolicy,
    /// Its rules, first match first.
    pub rules: Vec<Rule>,
    /// Where its name stands.
    pub span: Span,
}

/// A chain that rules jump to.
#[derive(Clone, Debug, PartialEq)]
pub struct UserChain {
    /// Its name.
    pub name: String,
    /// Its rules, first match first; behind the last one it returns.
    pub rules: Vec<Rule>,
    /// Where its name stands.
    pub span: Span,
    /// The hooks that it can be reached from, each once, in order.
    pub used_by: Vec<(Table, Hook)>,
}

/// A rule: if all matches hold, and none of those under `not`, its action is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// All of these must hold.
    pub matches: Matches,
    /// None of these may hold, each field for itself; and the packet must have every field named here. `None` asks
    /// nothing: few rules have it, and matches are large.
    pub not: Option<Box<Matches>>,
    /// What to do.
    pub action: Spanned<Action>,
    /// Name: unique in the policy; the metric's label.
    pub name: Option<Spanned<String>>,
    /// Free text.
    pub comment: Option<String>,
    /// Where the rule stands.
    pub span: Span,
}

impl Rule {
    /// The matches of `not`, of which none may hold.
    pub fn unwanted(&self) -> &Matches {
        static NONE: Matches = Matches::NONE;
        self.not.as_deref().unwrap_or(&NONE)
    }
}

#[cfg(test)]
mod tests;
