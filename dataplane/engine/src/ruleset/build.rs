//! From rules as the compiler states them to a [`Ruleset`]: chains laid out, guards split off, nesting checked.

mod nesting;

use std::sync::Arc;

use sluice_wire::{Family, Protocol};

use self::nesting::{Extent, MAX_WALK};
use crate::conntrack::Nat64;
use crate::ruleset::changed::NamedAddresses;
use crate::ruleset::classifier::{Index, Membership};
use crate::ruleset::guard::Guard;
use crate::ruleset::matching::{Match, Test};
use crate::ruleset::sources;
use crate::ruleset::walk::{MAX_DEPTH, Rule};
use crate::ruleset::{
    Action, AddressMatch, AddressSet, Base, ChainId, First, Hook, Policy, PortSet, Reject, RuleCounters,
    RuleInfo, Ruleset, SetId, Translate, chain,
};

/// A rule to be built in.
#[derive(Clone, Debug)]
pub struct RuleSpec {
    /// All of these must hold; in any order.
    pub tests: Vec<Test>,
    /// What to do then.
    pub action: Action,
    /// How it is shown. The builder fills in table, chain and index.
    pub info: RuleInfo,
}

/// Where a rule is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Into the chain at a hook.
    Hook(Hook),
    /// Into a user chain.
    Chain(ChainId),
}

/// Why there is no [`Ruleset`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A chain can reach itself.
    #[error("chain {0} jumps to itself, by way of others or not")]
    Loop(String),
    /// Chains are nested too deep.
    #[error("chain {0} jumps through more than {MAX_DEPTH} chains inside each other")]
    TooDeep(String),
    /// One packet could keep a worker busy for too long.
    #[error("a packet may have to be compared with {rules} rules in chain {chain} (limit {MAX_WALK})")]
    TooLong {
        /// The chain.
        chain: String,
        /// Rules, those of chains jumped to counted at each jump.
        rules: u64,
    },
    /// A rule, or a target, names a chain that was not made.
    #[error("no chain has number {0}")]
    NoChain(u32),
    /// More rules than can be numbered.
    #[error("{0} rules (limit 268435456)")]
    TooMany(usize),
}

/// Collects a policy.
#[derive(Debug, Default)]
pub struct RulesetBuilder {
    bases: [Chain; Hook::COUNT],
    policies: [Policy; Hook::COUNT],
    translates: bool,
    chains: Vec<Chain>,
    address_sets: Vec<NamedAddresses>,
    port_sets: Vec<Arc<PortSet>>,
}

#[derive(Debug, Default)]
struct Chain {
    name: Arc<str>,
    rules: Vec<RuleSpec>,
}

impl RulesetBuilder {
    /// Accepts everything so far.
    pub fn new() -> RulesetBuilder {
        RulesetBuilder::default()
    }

    /// Adds a set of addresses.
    pub fn address_set(&mut self, set: AddressSet) -> SetId {
        self.address_sets.push(NamedAddresses::new(set));
        SetId(self.address_sets.len() as u32 - 1)
    }

    /// Adds a set of ports. These are numbered apart from those of addresses.
    pub fn port_set(&mut self, set: PortSet) -> SetId {
        self.port_sets.push(Arc::new(set));
        SetId(self.port_sets.len() as u32 - 1)
    }

    /// Adds an empty user chain.
    pub fn chain(&mut self, name: &str) -> ChainId {
        self.chains.push(Chain { name: name.into(), rules: Vec::new() });
        ChainId(self.chains.len() as u32 - 1)
    }

    /// Sets what becomes of packets that no rule at a hook decided; accept unless set.
    pub fn policy(&mut self, hook: Hook, policy: Policy) {
        if let Some(place) = self.policies.get_mut(hook as usize) {
            *place = policy;
        }
    }

    /// Says that there is a chain of `nat`, be it empty. A rule in one says so too.
    pub fn translate(&mut self) {
        self.translates = true;
    }

    /// Adds a rule at the end of a chain.
    ///
    /// # Errors
    /// [`BuildError::NoChain`].
    pub fn rule(&mut self, target: Target, mut rule: RuleSpec) -> Result<(), BuildError> {
        let (chain, table) = match target {
            Target::Hook(hook) => (self.bases.get_mut(hook as usize), hook.table()),
            Target::Chain(id) => (self.chains.get_mut(id.0 as usize), "chains"),
        };
        let Some(chain) = chain else {
            return Err(BuildError::NoChain(match target {
                Target::Hook(hook) => hook as u32,
                Target::Chain(id) => id.0,
            }));
        };
        self.translates |= table == "nat";
        rule.tests.extend(implied(&rule.action));
        rule.info.table = table;
        rule.info.chain = match target {
            Target::Hook(hook) => hook.chain().into(),
            Target::Chain(_) => chain.name.clone(),
        };
        rule.info.index = chain.rules.len() as u32 + 1;
        chain.rules.push(rule);
        Ok(())
    }

    /// Compiles it, with counters for `workers` workers.
    ///
    /// # Errors
    /// Any [`BuildError`].
    pub fn build(self, workers: usize) -> Result<Ruleset, BuildError> {
        let count = self.bases.iter().chain(&self.chains).map(|chain| chain.rules.len()).sum();
        if count > 1 << 28 {
            return Err(BuildError::TooMany(count));
        }
        let extents = nesting::check(&self)?;
        let marks_clash = self.marks_clash();
        let nat64 = self.nat64();
        let first = match (nat64.is_empty(), self.may_notrack()) {
            (false, _) => First::Nat64,
            (true, true) => First::Notrack,
            (true, false) => First::Nothing,
        };
        let helps = self.helps();
        let relates_untracked = self.relates_untracked();
        let counts_flows = self.counts_flows();
        let lends_endpoints = self.any_action(|action| match action {
            Action::Translate(how) => how.is_endpoint_independent(),
            _ => false,
        });
        let mut layout = Layout::default();
        let mut bases: [Base; Hook::COUNT] = Default::default();
        let parts = bases.iter_mut().zip(self.bases).zip(self.policies).zip(extents);
        for (((base, chain), policy), Extent { reads, asks_for_whole, .. }) in parts {
            *base = Base { has_rules: !chain.rules.is_empty(), policy, reads, asks_for_whole };
            layout.put(chain);
        }
        self.chains.into_iter().for_each(|chain| layout.put(chain));
        let mut sets: Vec<SetId> =
            layout.chains.iter().filter_map(|chain| chain.index()).flat_map(Index::sets).collect();
        sets.sort_unstable();
        sets.dedup();
        let membership = Membership::new(sets, &self.address_sets);
        let lenders = sources::lenders(&layout.rules);
        let counters = RuleCounters::new(workers, layout.infos.len() + Hook::COUNT + lenders.len());
        Ok(Ruleset {
            bases,
            guards: layout.guards.into(),
            rules: layout.rules.into(),
            infos: layout.infos.into(),
            chains: layout.chains.into(),
            address_sets: self.address_sets.into(),
            membership,
            port_sets: self.port_sets.into(),
            first,
            helps,
            timeouts: Box::default(),
            marks_clash,
            translates: self.translates,
            lends_endpoints,
            nat64,
            lenders,
            relates_untracked,
            counts_flows,
            counters,
        })
    }

    fn any_action(&self, is: impl Fn(&Action) -> bool) -> bool {
        self.bases.iter().chain(&self.chains).flat_map(|chain| &chain.rules).any(|rule| is(&rule.action))
    }

    /// What rules of NAT64 have, each once.
    fn nat64(&self) -> Box<[Nat64]> {
        let mut list = Vec::new();
        for rule in self.bases.iter().chain(&self.chains).flat_map(|chain| &chain.rules) {
            if let Action::Translate(Translate::Nat64(nat64)) = &rule.action
                && !list.contains(nat64)
            {
                list.push(*nat64);
            }
        }
        list.into()
    }

    /// Whether a rule for packets from the wire says NOTRACK; user chains count, whoever jumps there.
    fn may_notrack(&self) -> bool {
        let raw = self.bases.get(Hook::RawPrerouting as usize).filter(|raw| !raw.rules.is_empty());
        let chains = raw.into_iter().chain(&self.chains);
        raw.is_some()
            && chains.flat_map(|chain| &chain.rules).any(|rule| matches!(rule.action, Action::Notrack { .. }))
    }

    /// Whether a rule assigns a helper.
    fn helps(&self) -> bool {
        let mut rules = self.bases.iter().chain(&self.chains).flat_map(|chain| &chain.rules);
        rules.any(|rule| matches!(rule.action, Action::Helper(_)))
    }

    /// Whether a rule has a `connlimit`.
    fn counts_flows(&self) -> bool {
        let mut rules = self.bases.iter().chain(&self.chains).flat_map(|chain| &chain.rules);
        rules.any(|rule| rule.tests.iter().any(|test| matches!(test.what, Match::Connections(_))))
    }

    /// Whether two rules give the flow's mark different values, so that the packets of a flow may change it in turn.
    fn marks_clash(&self) -> bool {
        let rules = self.bases.iter().chain(&self.chains).flat_map(|chain| &chain.rules);
        let (mut value, mut mask) = (0, 0);
        for rule in rules {
            let set = match rule.action {
                Action::CtMark(set) => set,
                // What packets bear may differ.
                Action::SaveMark(_) => return true,
                _ => continue,
            };
            if (set.value ^ value) & set.mask & mask != 0 {
                return true;
            }
            value |= set.value & set.mask;
            mask |= set.mask;
        }
        false
    }

    fn relates_untracked(&self) -> bool {
        let mut rules = self.bases.iter().chain(&self.chains).flat_map(|chain| &chain.rules);
        rules.any(|rule| matches!(rule.action, Action::Notrack { related: true }))
    }
}

/// What an action demands of the packet, beside the rule's own matches.
fn implied(action: &Action) -> Vec<Test> {
    if let Action::Translate(how) = action {
        let family = how.addresses().map(|(first, _)| if first.is_ipv4() { Family::V4 } else { Family::V6 });
        let family = family.map(|family| Test::is(Match::Family([family].into())));
        if let Translate::Nat64(nat64) = how {
            let prefix = (nat64.prefix().address().into(), nat64.prefix().length());
            let hosts = Test::is(Match::Destination(AddressMatch::of_prefixes([prefix])));
            return family.into_iter().chain([hosts, Test::is(Match::Protocol(OF_NAT64.into()))]).collect();
        }
        // A port is given to those that have one: not to DCCP, whose ports no flow knows.
        let ports = how.ports().map(|_| Test::is(Match::Protocol(WITH_PORTS.into())));
        return family.into_iter().chain(ports).collect();
    }
    implied_by_reject(action).into_iter().collect()
}

/// What NAT64 translates. Source: RFC 6146 section 1.3.
const OF_NAT64: [Protocol; 3] = [Protocol::TCP, Protocol::UDP, Protocol::ICMPV6];

/// Protocols whose ports are part of a flow's tuple.
const WITH_PORTS: [Protocol; 4] = [Protocol::TCP, Protocol::UDP, Protocol::UDPLITE, Protocol::SCTP];

fn implied_by_reject(action: &Action) -> Option<Test> {
    match action {
        Action::Reject(Reject::TcpReset) => Some(Test::is(Match::Protocol([Protocol::TCP].into()))),
        Action::Reject(Reject::Unreachable { icmpv6: None, .. }) => {
            Some(Test::is(Match::Family([Family::V4].into())))
        }
        Action::Reject(Reject::Unreachable { icmp: None, .. }) => {
            Some(Test::is(Match::Family([Family::V6].into())))
        }
        _ => None,
    }
}

/// Rules in the order of their ids, chains in that of their places.
#[derive(Default)]
struct Layout {
    guards: Vec<Guard>,
    rules: Vec<Rule>,
    infos: Vec<RuleInfo>,
    chains: Vec<chain::Chain>,
}

impl Layout {
    fn put(&mut self, chain: Chain) {
        let start = self.rules.len() as u32;
        let rules: Vec<_> = chain
            .rules
            .into_iter()
            .map(|spec| {
                let guard = guard_of(&spec);
                (spec, guard)
            })
            .collect();
        let index = Index::of(&rules, start);
        for (mut spec, mut guard) in rules {
            spec.tests.retain(|test| !guard.absorb(test));
            spec.tests.sort_by_key(|test| test.what.rank());
            self.guards.push(guard);
            self.rules.push(Rule { tests: spec.tests.into(), action: spec.action });
            self.infos.push(spec.info);
        }
        self.chains.push(chain::Chain { start, end: self.rules.len() as u32, index });
    }
}

/// All that a guard can say of a rule's tests; to absorb them again says which of them it says wholly.
fn guard_of(spec: &RuleSpec) -> Guard {
    let mut guard = Guard::default();
    spec.tests.iter().for_each(|test| guard.presuppose(test));
    for test in &spec.tests {
        guard.absorb(test);
    }
    guard
}
