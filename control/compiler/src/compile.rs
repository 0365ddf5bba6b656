//! The compilation itself: sets, chains, rules and policies, in this order.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use sluice_config::policy::{
    Action as Asked, ChainPolicy, CtZone, Hook as At, HookChain, MarkSet as AskedMark, Nat64 as AskedNat64,
    NatMapping, NatTarget, PortBlocks as AskedBlocks, PortRange, Reject as AskedReject, Rule, Table,
};
use sluice_config::{Diagnostics, IpRange, Policy, Span};
use sluice_engine::conntrack::{Nat64, NatRange, PortBlocks, Zone, ZoneId};
use sluice_engine::helper::Assigned;
use sluice_engine::limit::{Limit, LimitPer};
use sluice_engine::ruleset::{
    Action, BuildError, ChainId, Hook, MarkSet, Policy as Fallback, Reject, RuleInfo, RuleSpec,
    RulesetBuilder, Target, Translate,
};

use crate::lower::{Lowering, lower_helper};
use crate::problems::Problems;
use crate::sets::Sets;
use crate::text;
use crate::timeouts::RuleTimeouts;
use crate::{CompileTimes, Compiled, Names};

/// Lines at once that a `log` rule with a limit writes, as nft's `limit` has it.
const LOG_BURST: u32 = 5;

/// The ruleset, its sets and its warnings; or all that stands in the way.
pub(crate) fn compile(policy: &Policy, names: &Names, workers: usize) -> Result<Compiled, Diagnostics> {
    let began = Instant::now();
    let mut builder = RulesetBuilder::new();
    let sets = Sets::build(policy, &mut builder);
    let chains = policy.chains.keys().map(|name| (name.as_str(), builder.chain(name))).collect();
    let mut compiler = Compiler {
        lowering: Lowering { policy, names, sets: &sets },
        chains,
        builder,
        timeouts: RuleTimeouts::of(policy),
        problems: Problems::new(policy),
        took: CompileTimes { sets: began.elapsed(), ..CompileTimes::default() },
    };
    let began = Instant::now();
    for chain in &policy.hooks {
        compiler.hook(chain);
    }
    for (name, chain) in &policy.chains {
        if let Some(id) = compiler.chains.get(name.as_str()).copied() {
            compiler.rules(Target::Chain(id), name, &chain.rules);
        }
    }
    compiler.took.rules = began.elapsed();
    compiler.finish(workers, &sets)
}

struct Compiler<'a> {
    lowering: Lowering<'a>,
    chains: HashMap<&'a str, ChainId>,
    builder: RulesetBuilder,
    timeouts: RuleTimeouts,
    problems: Problems<'a>,
    took: CompileTimes,
}

impl Compiler<'_> {
    fn hook(&mut self, chain: &HookChain) {
        let Some(hook) = engine_hook(chain.table, chain.hook) else { return };
        if chain.table == Table::Nat {
            self.builder.translate();
        }
        let fallback = match chain.policy {
            ChainPolicy::Accept => Fallback::Accept,
            ChainPolicy::Drop => Fallback::Drop,
        };
        self.builder.policy(hook, fallback);
        let name = format!("{}.{}", chain.table.name(), chain.hook);
        if chain.table == Table::Raw {
            self.refuse_connlimit(&chain.rules);
        }
        self.rules(Target::Hook(hook), &name, &chain.rules);
    }

    fn refuse_connlimit(&mut self, rules: &[Rule]) {
        for rule in rules.iter().filter(|r| r.matches.connlimit.or(r.unwanted().connlimit).is_some()) {
            let message =
                "connlimit counts flows, which packets in raw do not have yet: it belongs into filter";
            self.problems.error(rule.span, Some(rule), message.to_owned());
        }
    }

    fn rules(&mut self, target: Target, chain: &str, rules: &[Rule]) {
        for rule in rules {
            let tests = self.lowering.tests(chain, rule, &mut self.problems);
            let Some(action) = self.action(rule) else { continue };
            let spec = RuleSpec { tests, action, info: info(rule) };
            if let Err(error) = self.builder.rule(target, spec) {
                self.problems.error(rule.span, Some(rule), error.to_string());
            }
        }
    }

    /// None if the action was refused.
    fn action(&mut self, rule: &Rule) -> Option<Action> {
        Some(match &rule.action.value {
            Asked::Accept => Action::Accept,
            Asked::Drop => Action::Drop,
            Asked::Reject(reject) => Action::Reject(lower_reject(*reject)),
            Asked::Jump(name) => Action::Jump(self.chain(name, rule)?),
            Asked::Goto(name) => Action::Goto(self.chain(name, rule)?),
            Asked::Return => Action::Return,
            Asked::Notrack(notrack) => Action::Notrack { related: notrack.related },
            Asked::Zone(zone) => Action::Zone(lower_zone(*zone)),
            Asked::CtTimeout(which) => Action::CtTimeout(self.timeouts.place(which)),
            Asked::Mark(set) => Action::Mark(lower_mark(*set)),
            Asked::CtMark(set) => Action::CtMark(lower_mark(*set)),
            Asked::SaveMark(mask) => Action::SaveMark(*mask),
            Asked::RestoreMark(mask) => Action::RestoreMark(*mask),
            Asked::Count => Action::Count,
            Asked::Log(log) => Action::Log(log.limit.map(|rate| {
                Arc::new(Limit::new(rate.count, rate.unit.duration(), LOG_BURST, LimitPer::Rule))
            })),
            Asked::Helper(asked) => {
                Action::Helper(Assigned { helper: lower_helper(asked.helper), loose: asked.loose })
            }
            Asked::Snat(target) => Action::Translate(self.source(target, rule)?),
            Asked::Nat64(asked) => Action::Translate(self.nat64(asked, rule)?),
            Asked::Dnat(target) => Action::Translate(Translate::Dnat(lower_nat(target))),
            Asked::Masquerade(asked) => Action::Translate(Translate::Masquerade(NatRange {
                ports: lower_ports(asked.ports),
                endpoint_independent: asked.mapping == NatMapping::EndpointIndependent,
                ..NatRange::default()
            })),
            Asked::Redirect(ports) => Action::Translate(Translate::Redirect(lower_ports(*ports))),
        })
    }

    fn source(&mut self, target: &NatTarget, rule: &Rule) -> Option<Translate> {
        let Some(blocks) = &target.blocks else { return Some(Translate::Snat(lower_nat(target))) };
        let dealt = lower_blocks(target, blocks);
        if dealt.is_none() {
            // The decoder has counted already.
            let message = "there are not enough blocks of ports for all subscribers".to_owned();
            self.problems.error(rule.action.span, Some(rule), message);
        }
        dealt.map(Translate::Blocks)
    }

    fn nat64(&mut self, asked: &AskedNat64, rule: &Rule) -> Option<Translate> {
        let ports = (asked.ports.first, asked.ports.last);
        let nat64 = asked.pool().and_then(|pool| Nat64::new(asked.prefix, pool, ports));
        if nat64.is_none() {
            // The decoder has looked already.
            let message = "the pool has no IPv4 addresses".to_owned();
            self.problems.error(rule.action.span, Some(rule), message);
        }
        nat64.map(Translate::Nat64)
    }

    fn chain(&mut self, name: &str, rule: &Rule) -> Option<ChainId> {
        let chain = self.chains.get(name).copied();
        if chain.is_none() {
            self.problems.error(rule.action.span, Some(rule), format!("unknown chain {name}"));
        }
        chain
    }

    fn finish(mut self, workers: usize, sets: &Sets<'_>) -> Result<Compiled, Diagnostics> {
        let span_of = |error: &BuildError| {
            let name = match error {
                BuildError::Loop(name) | BuildError::TooDeep(name) => name,
                BuildError::TooLong { chain, .. } => chain,
                BuildError::NoChain(_) | BuildError::TooMany(_) => return Span::default(),
            };
            self.lowering.policy.chains.get(name).map_or(Span::default(), |chain| chain.span)
        };
        let lowered = Instant::now();
        match self.builder.build(workers) {
            Ok(ruleset) => {
                let warnings = self.problems.finish()?;
                let sets = sets.named(self.lowering.policy);
                self.took.classifiers = lowered.elapsed();
                Ok(Compiled { ruleset, timeouts: self.timeouts, warnings, tests: 0, sets, took: self.took })
            }
            Err(error) => {
                self.problems.error(span_of(&error), None, error.to_string());
                self.problems.finish().and(Err(Diagnostics::new()))
            }
        }
    }
}

/// The engine's hook; None for a table that has no chain there.
pub(crate) const fn engine_hook(table: Table, hook: At) -> Option<Hook> {
    Some(match (table, hook) {
        (Table::Raw, At::Prerouting) => Hook::RawPrerouting,
        (Table::Raw, At::Output) => Hook::RawOutput,
        (Table::Mangle, At::Prerouting) => Hook::ManglePrerouting,
        (Table::Mangle, At::Output) => Hook::MangleOutput,
        (Table::Mangle, At::Postrouting) => Hook::ManglePostrouting,
        (Table::Nat, At::Prerouting) => Hook::NatPrerouting,
        (Table::Nat, At::Output) => Hook::NatOutput,
        (Table::Nat, At::Postrouting) => Hook::NatPostrouting,
        (Table::Filter, At::Input) => Hook::FilterInput,
        (Table::Filter, At::Forward) => Hook::FilterForward,
        (Table::Filter, At::Output) => Hook::FilterOutput,
        _ => return None,
    })
}

fn info(rule: &Rule) -> RuleInfo {
    let log_prefix = match &rule.action.value {
        Asked::Log(log) => Some(log.prefix.as_str().into()),
        _ => None,
    };
    RuleInfo {
        line: rule.span.line,
        name: rule.name.as_ref().map(|name| name.value.as_str().into()),
        comment: rule.comment.as_deref().map(Into::into),
        text: text::rule(rule),
        exported: rule.name.is_some() || rule.action.value == Asked::Count,
        log_prefix,
        ..RuleInfo::default()
    }
}

const fn lower_reject(reject: AskedReject) -> Reject {
    match reject {
        AskedReject::TcpReset => Reject::TcpReset,
        other => Reject::Unreachable { icmp: other.icmp_code(), icmpv6: other.icmpv6_code() },
    }
}

fn lower_nat(target: &NatTarget) -> NatRange {
    let range = target.addr.or(target.prefix.map(IpRange::from));
    NatRange {
        addresses: range.map(|range| (range.first(), range.last())),
        ports: lower_ports(target.ports),
        prefix: target.prefix.map(|prefix| prefix.len()),
        endpoint_independent: target.mapping == NatMapping::EndpointIndependent,
    }
}

fn lower_blocks(target: &NatTarget, blocks: &AskedBlocks) -> Option<PortBlocks> {
    let v4 = |range: IpRange| match (range.first(), range.last()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Some((first, last)),
        _ => None,
    };
    let endpoint_independent = target.mapping == NatMapping::EndpointIndependent;
    let (to, ports) = (v4(target.addr?)?, lower_ports(target.ports)?);
    PortBlocks::new(v4(blocks.of)?, to, ports, blocks.size, endpoint_independent)
}

fn lower_ports(ports: Option<PortRange>) -> Option<(u16, u16)> {
    ports.map(|range| (range.first, range.last))
}

const fn lower_zone(zone: CtZone) -> Zone {
    match zone {
        CtZone::Both(id) => Zone::both(ZoneId(id)),
        CtZone::Original(id) => Zone::original(ZoneId(id)),
        CtZone::Reply(id) => Zone::reply(ZoneId(id)),
    }
}

const fn lower_mark(set: AskedMark) -> MarkSet {
    MarkSet { value: set.value, mask: set.mask }
}
