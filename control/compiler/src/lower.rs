//! From the matches of the policy language to the engine's, value by value.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use sluice_config::policy::{
    AddrKind, AddrMatch, ConnLimit as Connlimit, CtDir, CtState as State, CtStatus, Helper,
    IcmpMatch as Icmp, InterfaceMatch, Limit as Limited, LimitPer as Per, MarkMatch as Mark, Matches,
    NumberRange, PortMatch as Port, Rule,
};
use sluice_config::{Policy, Spanned};
use sluice_engine::conntrack::{ConnLimit, CtState, Direction, Status};
use sluice_engine::helper as engine;
use sluice_engine::ids::InterfaceId;
use sluice_engine::limit::{Limit, LimitPer};
use sluice_engine::ruleset::{
    AddressMatch, AddressSetBuilder, IcmpMatch, MarkMatch, Match, NumberRanges, OriginalMatch, PortMatch,
    PortSet, StateSet, Test,
};
use sluice_engine::world::AddressKind;
use sluice_wire::TcpFlags;

use crate::Names;
use crate::problems::Problems;
use crate::sets::Sets;
use crate::text;

/// What names in matches stand for.
pub(crate) struct Lowering<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) names: &'a Names,
    pub(crate) sets: &'a Sets<'a>,
}

impl Lowering<'_> {
    /// All that a rule asks; what the data plane cannot ask yet goes to `problems`.
    pub(crate) fn tests(&self, chain: &str, rule: &Rule, problems: &mut Problems<'_>) -> Vec<Test> {
        let mut tests = Vec::new();
        let mut wanted = Vec::new();
        self.matches(&rule.matches, rule, &mut wanted, problems);
        tests.extend(wanted.into_iter().map(Test::is));
        let mut unwanted = Vec::new();
        self.matches(rule.unwanted(), rule, &mut unwanted, problems);
        tests.extend(unwanted.into_iter().map(Test::not));
        let connections = |limit: &Option<Connlimit>| limit.map(|limit| lower_connlimit(limit, chain, rule));
        tests.extend(connections(&rule.matches.connlimit).map(Test::is));
        tests.extend(connections(&rule.unwanted().connlimit).map(Test::not));
        tests
    }

    fn matches(&self, matches: &Matches, rule: &Rule, out: &mut Vec<Match>, problems: &mut Problems<'_>) {
        let interfaces = |list: &Vec<_>| self.interfaces(list, rule);
        let mut lower = |what: Option<Result<Match, String>>| match what {
            Some(Ok(what)) => out.push(what),
            Some(Err(message)) => problems.error(rule.span, Some(rule), message),
            None => {}
        };
        lower(matches.in_interface.as_ref().map(|list| interfaces(list).map(Match::Ingress)));
        lower(matches.out_interface.as_ref().map(|list| interfaces(list).map(Match::Egress)));
        if let Some(helpers) = &matches.ct_helper {
            out.push(Match::Helper(helpers.iter().map(|helper| lower_helper(*helper)).collect()));
        }
        self.addresses_and_ports(matches, out);
        headers(matches, out);
        self.tracking(matches, out);
        out.extend(matches.limit.map(|limit| Match::Limit(Arc::new(lower_limit(limit)))));
    }

    fn interfaces(
        &self,
        list: &[Spanned<InterfaceMatch>],
        rule: &Rule,
    ) -> Result<Box<[InterfaceId]>, String> {
        let names = self.policy.interfaces(list);
        let unknown = |name: &&str| format!("unknown interface {name} (at {})", rule.span);
        let ids: Result<BTreeSet<_>, _> =
            names.iter().map(|name| self.names.get(name).ok_or_else(|| unknown(name))).collect();
        Ok(ids?.into_iter().collect())
    }

    fn addresses_and_ports(&self, matches: &Matches, out: &mut Vec<Match>) {
        out.extend(matches.to.as_ref().map(|list| Match::To(kinds(list))));
        out.extend(matches.origin.as_ref().map(|list| Match::Origin(kinds(list))));
        out.extend(matches.src.as_ref().map(|list| Match::Source(self.addresses(list))));
        out.extend(matches.dst.as_ref().map(|list| Match::Destination(self.addresses(list))));
        out.extend(matches.sport.as_ref().map(|list| Match::SourcePort(self.ports(list))));
        out.extend(matches.dport.as_ref().map(|list| Match::DestinationPort(self.ports(list))));
    }

    fn tracking(&self, matches: &Matches, out: &mut Vec<Match>) {
        out.extend(matches.ct.as_ref().map(|list| states(list)));
        out.extend(matches.ct_dir.as_ref().map(|list| {
            Match::Direction(
                list.iter()
                    .map(|dir| match dir {
                        CtDir::Original => Direction::Original,
                        CtDir::Reply => Direction::Reply,
                    })
                    .collect(),
            )
        }));
        out.extend(matches.ct_mark.as_ref().map(|list| Match::CtMark(marks(list))));
        out.extend(matches.mark.as_ref().map(|list| Match::Mark(marks(list))));
        out.extend(matches.ct_status.as_ref().map(|list| Match::Status(statuses(list))));
        out.extend(matches.ct_orig.as_ref().map(|original| {
            Match::Original(Box::new(OriginalMatch {
                src: original.src.as_ref().map(|list| self.addresses(list)),
                dst: original.dst.as_ref().map(|list| self.addresses(list)),
                sport: original.sport.as_ref().map(|list| self.ports(list)),
                dport: original.dport.as_ref().map(|list| self.ports(list)),
            }))
        }));
    }

    fn addresses(&self, list: &[Spanned<AddrMatch>]) -> AddressMatch {
        let mut own = AddressSetBuilder::default();
        let mut sets = Vec::new();
        for entry in list {
            match &entry.value {
                AddrMatch::Prefix(prefix) => own.prefix(prefix.addr(), prefix.len()),
                AddrMatch::Range(range) => own.range(range.first(), range.last()),
                AddrMatch::Set(name) => sets.extend(self.sets.nets.get(name.as_str())),
            }
        }
        AddressMatch { own: own.build(), sets: sets.into() }
    }

    fn ports(&self, list: &[Spanned<Port>]) -> PortMatch {
        let mut own = Vec::new();
        let mut sets = Vec::new();
        for entry in list {
            match &entry.value {
                Port::Range(range) => own.push((range.first, range.last)),
                Port::Set(name) => sets.extend(self.sets.ports.get(name.as_str())),
            }
        }
        PortMatch { own: PortSet::new(own), sets: sets.into() }
    }
}

/// The engine's helper of a name.
pub(crate) const fn lower_helper(helper: Helper) -> engine::Helper {
    match helper {
        Helper::Ftp => engine::Helper::Ftp,
        Helper::Tftp => engine::Helper::Tftp,
        Helper::Irc => engine::Helper::Irc,
        Helper::Amanda => engine::Helper::Amanda,
        Helper::Sip => engine::Helper::Sip,
        Helper::Pptp => engine::Helper::Pptp,
    }
}

/// Matches on the headers alone.
fn headers(matches: &Matches, out: &mut Vec<Match>) {
    out.extend(matches.family.as_ref().map(|list| Match::Family(list.as_slice().into())));
    out.extend(matches.proto.as_ref().map(|list| Match::Protocol(list.as_slice().into())));
    out.extend(matches.tcp_flags.map(|flags| Match::TcpFlags {
        set: TcpFlags::from_bits(flags.set),
        mask: TcpFlags::from_bits(flags.mask),
    }));
    out.extend(matches.icmp.as_ref().map(|list| Match::Icmp(icmp(list))));
    out.extend(matches.icmpv6.as_ref().map(|list| Match::Icmpv6(icmp(list))));
    out.extend(matches.fragment.map(Match::Fragment));
    out.extend(matches.length.as_ref().map(|list| Match::Length(numbers(list))));
    out.extend(matches.ttl.as_ref().map(|list| Match::Ttl(numbers(list))));
    out.extend(matches.dscp.as_ref().map(|list| Match::Dscp(numbers(list))));
}

fn kinds(list: &[AddrKind]) -> Box<[AddressKind]> {
    let kind = |kind: &AddrKind| match kind {
        AddrKind::Local => AddressKind::Local,
        AddrKind::Broadcast => AddressKind::Broadcast,
        AddrKind::Multicast => AddressKind::Multicast,
        AddrKind::Routed => AddressKind::Routed,
    };
    list.iter().map(kind).collect()
}

fn icmp(list: &[Icmp]) -> Box<[IcmpMatch]> {
    list.iter().map(|icmp| IcmpMatch { kind: icmp.kind, code: icmp.code }).collect()
}

fn numbers(list: &[NumberRange]) -> NumberRanges {
    NumberRanges(list.iter().map(|range| (range.first, range.last)).collect())
}

fn marks(list: &[Mark]) -> Box<[MarkMatch]> {
    list.iter().map(|mark| MarkMatch { value: mark.value, mask: mark.mask }).collect()
}

fn states(list: &[State]) -> Match {
    let (mut states, mut status) = (StateSet::default(), Status::default());
    for state in list {
        match state {
            State::New => states = states.with(CtState::New),
            State::Established => states = states.with(CtState::Established),
            State::Related => states = states.with(CtState::Related),
            State::Invalid => states = states.with(CtState::Invalid),
            State::Untracked => states = states.with(CtState::Untracked),
            State::Snat => status = status.with(Status::SNAT),
            State::Dnat => status = status.with(Status::DNAT),
        }
    }
    Match::Ct { states, status }
}

fn statuses(list: &[CtStatus]) -> Status {
    list.iter().fold(Status::default(), |all, status| {
        all.with(match status {
            CtStatus::Assured => Status::ASSURED,
            CtStatus::SeenReply => Status::SEEN_REPLY,
            CtStatus::Expected => Status::EXPECTED,
            CtStatus::Confirmed => Status::CONFIRMED,
            CtStatus::Snat => Status::SNAT,
            CtStatus::Dnat => Status::DNAT,
        })
    })
}

fn lower_connlimit(limit: Connlimit, chain: &str, rule: &Rule) -> Match {
    Match::Connections(ConnLimit {
        rule: identity(chain, rule),
        above: limit.above,
        per: lower_per(limit.per),
    })
}

/// What a rule with a `connlimit` keeps its count by when another policy has it too: its name, or else all it says but
/// the limit.
fn identity(chain: &str, rule: &Rule) -> u64 {
    let mut hasher = DefaultHasher::new();
    chain.hash(&mut hasher);
    match &rule.name {
        Some(name) => name.value.hash(&mut hasher),
        None => {
            let mut unlimited = rule.clone();
            for matches in [Some(&mut unlimited.matches), unlimited.not.as_deref_mut()].into_iter().flatten()
            {
                matches.connlimit = matches.connlimit.map(|limit| Connlimit { above: 0, ..limit });
            }
            text::rule(&unlimited).hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn lower_limit(limit: Limited) -> Limit {
    let Limited { rate, burst, per } = limit;
    Limit::new(rate.count, rate.unit.duration(), burst, lower_per(per))
}

const fn lower_per(per: Option<Per>) -> LimitPer {
    match per {
        None => LimitPer::Rule,
        Some(Per::Src) => LimitPer::Source,
        Some(Per::Dst) => LimitPer::Destination,
    }
}
