//! The compiled policy and its evaluation (hooks and their order are netfilter's).
//!
//! A [`Ruleset`] is made by a [`RulesetBuilder`], which the policy compiler feeds, and is immutable but for its
//! counters and limits. At each hook the packet path hands [`Ruleset::evaluate`] a [`View`] of the packet and
//! gets a [`Decision`]; marks, NOTRACK, counters and log lines come back in [`Effects`].
//!
//! Not here: what the decision leads to, and when it may be stored in a flow ([`Effects::is_storable`] says
//! whether at all).

mod action;
mod address;
mod build;
mod chain;
mod changed;
mod classifier;
mod counters;
mod explain;
mod guard;
mod hook;
mod matching;
mod memory;
mod ports;
mod rehearsal;
mod settled;
mod sources;
mod view;
mod walk;

pub use action::{Action, MarkSet, Policy, Reject, Translate};
pub use address::{AddressMatch, AddressSet, AddressSetBuilder};
pub use build::{BuildError, RuleSpec, RulesetBuilder, Target};
pub use classifier::IndexStats;
pub use counters::RuleCounters;
pub use explain::{Asked, Field, Look};
pub use hook::Hook;
pub use matching::{IcmpMatch, MarkMatch, Match, NumberRanges, OriginalMatch, StateSet, Test};
pub use memory::Memory;
pub use ports::{PortMatch, PortSet};
pub use rehearsal::{Rehearsal, Way};
pub use settled::Known;
pub use view::{Counted, Decision, Effects, Logs, Reads, Rejection, View};

use std::collections::HashMap;
use std::sync::Arc;

use crate::conntrack::{Nat64, TimeoutsId};
use crate::ids::WorkerId;
use chain::{Chain, ChainPlace};
use changed::NamedAddresses;
use classifier::Membership;
use walk::By;

/// A rule by its index in [`Ruleset::rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RuleId(pub u32);

/// A counter of a [`Ruleset`]: one for each rule, by its index, then one for each hook's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct CounterId(pub u32);

/// A user chain, in the order they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainId(pub u32);

/// A named set, in the order they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetId(pub u32);

/// A rule as it is shown; what it does is compiled apart.
#[derive(Clone, Debug, Default)]
pub struct RuleInfo {
    /// `raw`, `mangle`, `nat` or `filter`; `chains` for a rule of a user chain, whichever tables jump to it.
    pub table: &'static str,
    /// The chain's name in the policy file.
    pub chain: Arc<str>,
    /// Its place in the chain, from 1.
    pub index: u32,
    /// The line of the policy file, from 1; 0: made by no file.
    pub line: u32,
    /// Its unique name.
    pub name: Option<Arc<str>>,
    /// Its comment.
    pub comment: Option<Arc<str>>,
    /// Matches and action as the policy language has them, in one line.
    pub text: String,
    /// Whether it is a metric, and keeps its counter over changes of policy: it has a name, or counts.
    pub exported: bool,
    /// Prefix of the line that it logs.
    pub log_prefix: Option<Arc<str>>,
}

/// What a counter counts.
#[derive(Clone, Copy, Debug)]
pub enum Counts<'r> {
    /// Packets that matched this rule.
    Rule(&'r RuleInfo),
    /// Packets that no rule at this hook decided about.
    Policy(Hook),
}

/// The compiled policy: shared by all workers. The default one accepts everything and counts nothing. A clone shares all
/// of it, counters too.
#[derive(Clone, Debug, Default)]
pub struct Ruleset {
    bases: [Base; Hook::COUNT],
    /// Chains are contiguous here; the same index in `guards`, `rules` and `infos` is the same rule.
    guards: Arc<[guard::Guard]>,
    rules: Arc<[walk::Rule]>,
    infos: Arc<[RuleInfo]>,
    /// By [`ChainPlace`].
    chains: Arc<[Chain]>,
    /// By [`SetId`].
    address_sets: Arc<[NamedAddresses]>,
    /// Of the sets that rules of long chains are found by.
    membership: Membership,
    port_sets: Arc<[Arc<PortSet>]>,
    /// What is asked of packets from the wire before all else.
    first: First,
    /// Whether a rule assigns a helper.
    helps: bool,
    /// What each place of [`Action::CtTimeout`] stands for; see [`Ruleset::number_timeouts`].
    timeouts: Box<[TimeoutsId]>,
    /// Whether packets of one flow may give it different marks in turn.
    marks_clash: bool,
    translates: bool,
    lends_endpoints: bool,
    /// What rules of NAT64 have, each once.
    nat64: Box<[Nat64]>,
    /// The rules that give sources to flows, in order.
    lenders: Box<[RuleId]>,
    /// Whether an ICMP error may be RELATED to a packet that is not tracked.
    relates_untracked: bool,
    /// Whether a rule asks how many flows are live.
    counts_flows: bool,
    counters: RuleCounters,
}

/// What is asked of packets from the wire before all else: one number, so that it costs one comparison where there is
/// nothing to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub(crate) enum First {
    /// Nothing.
    #[default]
    Nothing,
    /// Whether they are routed untracked: `raw` has a rule that says NOTRACK.
    Notrack,
    /// Whether they are for a pool of NAT64; then whether they are routed untracked.
    Nat64,
}

/// The chain at a hook.
#[derive(Clone, Debug, Default)]
struct Base {
    has_rules: bool,
    policy: Policy,
    reads: Reads,
    /// See [`Ruleset::asks_for_whole`].
    asks_for_whole: bool,
}

impl Ruleset {
    /// Whether a hook lets everything pass and counts nothing, so that it can be skipped.
    #[inline]
    pub fn is_empty(&self, hook: Hook) -> bool {
        let base = self.base(hook);
        !base.has_rules && base.policy == Policy::Accept
    }

    /// Whether a packet from the wire may become UNTRACKED, and nothing is to be asked of it before.
    #[inline]
    pub fn may_notrack(&self) -> bool {
        self.first == First::Notrack
    }

    /// What is to be asked of packets from the wire before all else.
    #[inline]
    pub(crate) fn first(&self) -> First {
        self.first
    }

    /// Prefixes that stand for IPv4, with the pools of flows to there.
    #[inline]
    pub fn nat64(&self) -> &[Nat64] {
        &self.nat64
    }

    /// The same rules, counting on, with other addresses in a set. To be published under a new generation.
    #[must_use]
    pub fn with_address_set(&self, id: SetId, set: AddressSet) -> Ruleset {
        let address_sets = replaced(&self.address_sets, id, NamedAddresses::new(set));
        let membership = self.membership.with_compiled(id, &address_sets);
        Ruleset { address_sets, membership, ..self.clone() }
    }

    /// As [`Ruleset::with_address_set`], for a change that is small beside the set: all of `gone` goes, then all of `come`
    /// comes, at a cost that grows with these alone. None if changes come to so much that the set is to be compiled again.
    pub fn with_changed_addresses(&self, id: SetId, gone: &AddressSet, come: &AddressSet) -> Option<Ruleset> {
        let set = self.address_sets.get(id.0 as usize)?.changed(gone, come)?;
        let address_sets = replaced(&self.address_sets, id, set);
        let membership = self.membership.with_changed(id, &address_sets);
        Some(Ruleset { address_sets, membership, ..self.clone() })
    }

    /// As [`Ruleset::with_address_set`], for ports.
    #[must_use]
    pub fn with_port_set(&self, id: SetId, set: PortSet) -> Ruleset {
        Ruleset { port_sets: replaced(&self.port_sets, id, Arc::new(set)), ..self.clone() }
    }

    /// Judges a packet at a hook. Marks that rules set are in `view.mark` and `view.ct` afterwards too.
    pub fn evaluate(&self, hook: Hook, view: &mut View<'_>, effects: &mut Effects) -> Decision {
        walk::walk(self, hook, By::Classifier, view, effects)
    }

    /// The same, by looking at each rule in turn: what [`Ruleset::evaluate`] is held against.
    pub fn evaluate_in_turn(&self, hook: Hook, view: &mut View<'_>, effects: &mut Effects) -> Decision {
        walk::walk(self, hook, By::Turn, view, effects)
    }

    /// The classifiers of long chains: table, chain, rules, and what the classifier is like.
    pub fn indexes(&self) -> impl Iterator<Item = (&'static str, &str, usize, IndexStats)> {
        self.chains.iter().filter_map(|chain| {
            let first = self.infos.get(chain.start as usize)?;
            Some((first.table, &*first.chain, chain.rules().len(), chain.index()?.stats()))
        })
    }

    /// Whether there is any chain of `nat`, be it empty: without, nothing is translated, not even packets of flows that
    /// were (the kernel's hooks are gone then).
    #[inline]
    pub fn translates(&self) -> bool {
        self.translates
    }

    /// Whether a flow may live at another worker than its packets hash to: translated, or announced by a helper.
    pub fn moves_flows(&self) -> bool {
        self.translates || self.helps
    }

    /// Whether a rule gives inner endpoints one outer endpoint for all destinations, so that there must be a table of
    /// those ([`crate::conntrack::Reservations::prepare_endpoints`]).
    pub fn lends_endpoints(&self) -> bool {
        self.lends_endpoints
    }

    /// What a rule does that decided with [`Decision::Translate`].
    pub fn translation(&self, rule: RuleId) -> Option<&Translate> {
        match self.rules.get(rule.0 as usize).map(|rule| &rule.action) {
            Some(Action::Translate(how)) => Some(how),
            _ => None,
        }
    }

    /// What any rule that a packet can meet at this hook reads: if nothing, tuple, interfaces and ct state alone
    /// decide there.
    #[inline]
    pub fn reads(&self, hook: Hook) -> Reads {
        self.base(hook).reads
    }

    /// Whether any rule that a packet can meet at this hook asks for what fragments may answer otherwise than their
    /// datagram: ports and all else of layer 4, length, TTL, DSCP; or takes a token of a limit.
    #[inline]
    pub fn asks_for_whole(&self, hook: Hook) -> bool {
        self.base(hook).asks_for_whole
    }

    /// Whether any rule says of packets that it marks NOTRACK that ICMP errors about them are RELATED.
    #[inline]
    pub fn relates_untracked(&self) -> bool {
        self.relates_untracked
    }

    /// Whether any rule asks how many flows are live ([`Match::Connections`]), so that there must be room to count them
    /// ([`crate::conntrack::FlowBudget::count_connections`]).
    #[inline]
    pub fn counts_flows(&self) -> bool {
        self.counts_flows
    }

    /// Counts packets for a rule or a policy. Each worker counts for itself alone.
    #[inline]
    pub fn count(&self, worker: WorkerId, id: CounterId, packets: u64, bytes: u64) {
        self.counters.add(worker, id, packets, bytes);
    }

    /// Says which numbers the timeouts have that the policy's rules give, by their place in the policy. Until then they
    /// give none.
    pub fn number_timeouts(&mut self, numbers: Box<[TimeoutsId]>) {
        self.timeouts = numbers;
    }

    #[inline]
    fn timeouts(&self, place: u16) -> TimeoutsId {
        self.timeouts.get(usize::from(place)).copied().unwrap_or_default()
    }

    /// All rules by [`RuleId`]: the hooks' chains in the order of [`Hook::ALL`], then user chains.
    pub fn rules(&self) -> &[RuleInfo] {
        &self.infos
    }

    /// What a counter counts; None for one of another policy.
    pub fn counts(&self, id: CounterId) -> Option<Counts<'_>> {
        match (id.0 as usize).checked_sub(self.infos.len()) {
            None => self.infos.get(id.0 as usize).map(Counts::Rule),
            Some(hook) => Hook::ALL.get(hook).map(|hook| Counts::Policy(*hook)),
        }
    }

    /// Packets and bytes that matched a rule, over all workers.
    pub fn rule_counters(&self, rule: RuleId) -> (u64, u64) {
        self.counters.sum(CounterId(rule.0))
    }

    /// Policy of a hook's chain, with the packets and bytes that it decided about.
    pub fn policy(&self, hook: Hook) -> (Policy, u64, u64) {
        let (packets, bytes) = self.counters.sum(self.policy_counter(hook));
        (self.base(hook).policy, packets, bytes)
    }

    /// Goes on counting where `old` stopped, for rules that are metrics in both: those of the same name, or the
    /// same place and text. To be called once, when no worker counts in `old` any more.
    pub fn carry(&self, old: &Ruleset) {
        let before: HashMap<_, _> = old.metrics().map(|(id, identity)| (identity, id)).collect();
        for (id, identity) in self.metrics() {
            if let Some(&same) = before.get(&identity) {
                self.counters.carry(id, old.counters.sum(same));
                let exhausted =
                    self.exhausted_counter(RuleId(id.0)).zip(old.exhausted_counter(RuleId(same.0)));
                if let Some((new, old_one)) = exhausted {
                    self.counters.carry(new, old.counters.sum(old_one));
                }
            }
        }
    }

    /// Counters of rules that are metrics, with what makes each the same rule in another version of the policy; of
    /// rules that are alike, also how many came before.
    fn metrics(&self) -> impl Iterator<Item = (CounterId, (RuleIdentity<'_>, u32))> {
        let mut alike: HashMap<RuleIdentity<'_>, u32> = HashMap::new();
        let exported = self.infos.iter().enumerate().filter(|(_, info)| info.exported);
        exported.map(move |(index, info)| {
            let before = alike.entry(info.identity()).or_default();
            let identity = (info.identity(), *before);
            *before += 1;
            (CounterId(index as u32), identity)
        })
    }

    #[inline]
    fn base(&self, hook: Hook) -> &Base {
        let [
            raw_pre,
            raw_out,
            mangle_pre,
            mangle_out,
            mangle_post,
            nat_pre,
            nat_out,
            nat_post,
            input,
            forward,
            output,
        ] = &self.bases;
        match hook {
            Hook::RawPrerouting => raw_pre,
            Hook::RawOutput => raw_out,
            Hook::ManglePrerouting => mangle_pre,
            Hook::MangleOutput => mangle_out,
            Hook::ManglePostrouting => mangle_post,
            Hook::NatPrerouting => nat_pre,
            Hook::NatOutput => nat_out,
            Hook::NatPostrouting => nat_post,
            Hook::FilterInput => input,
            Hook::FilterForward => forward,
            Hook::FilterOutput => output,
        }
    }

    #[inline]
    fn chain(&self, place: ChainPlace) -> Option<&Chain> {
        self.chains.get(place.index())
    }

    fn policy_counter(&self, hook: Hook) -> CounterId {
        CounterId(self.infos.len() as u32 + hook as u32)
    }
}

/// A list of sets with another one in a place; one behind the end changes nothing.
fn replaced<T: Clone>(sets: &[T], id: SetId, set: T) -> Arc<[T]> {
    let mut sets = sets.to_vec();
    if let Some(place) = sets.get_mut(id.0 as usize) {
        *place = set;
    }
    sets.into()
}

/// Table, chain and text of a rule; of one that has a name, the name alone.
type RuleIdentity<'a> = (&'a str, &'a str, &'a str);

impl RuleInfo {
    /// Its name, or else its place and text.
    fn identity(&self) -> RuleIdentity<'_> {
        match &self.name {
            Some(name) => ("", name, ""),
            None => (self.table, &self.chain, &self.text),
        }
    }
}

#[cfg(test)]
mod tests;
