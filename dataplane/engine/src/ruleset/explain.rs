//! The walk, told aloud: each rule that is looked at, and what each of its questions was answered. For people who ask why.
//!
//! It is the linear walk itself, step by step, and comes to what [`Ruleset::evaluate`] comes to; a property test holds it
//! to that. All questions of a rule are asked, also behind one that failed, so ask with a view that is rehearsed: it takes
//! no token and counts nothing.

use std::ops::ControlFlow;

use crate::ruleset::guard::{Guard, GuardKey};
use crate::ruleset::matching::{Match, Test};
use crate::ruleset::view::{Decision, Effects, Reads, View};
use crate::ruleset::walk::{By, Walk, at_end, note};
use crate::ruleset::{CounterId, Hook, RuleId, Ruleset};

/// A rule that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Which.
    pub rule: RuleId,
    /// What it asked; empty if it asks nothing.
    pub asked: Vec<Asked>,
    /// Whether all of it held, so that the rule's action was done.
    pub matched: bool,
}

/// A question of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// About what.
    pub field: Field,
    /// Whether the answer must be no.
    pub negated: bool,
    /// The answer; None: the packet has no such field, so that neither the match nor its negation holds.
    pub answer: Option<bool>,
}

impl Asked {
    /// Whether the rule got the answer that it wants.
    pub fn holds(&self) -> bool {
        self.answer.is_some_and(|yes| yes != self.negated)
    }
}

/// What a match is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The interface it came in by.
    Ingress,
    /// The interface it leaves by.
    Egress,
    /// Kind of the destination address.
    To,
    /// Kind of the source address.
    Origin,
    /// Address family.
    Family,
    /// Protocol.
    Protocol,
    /// Whether it has ports: of a rule that asks for one.
    Ports,
    /// Source address.
    Source,
    /// Destination address.
    Destination,
    /// Source port.
    SourcePort,
    /// Destination port.
    DestinationPort,
    /// TCP flags.
    TcpFlags,
    /// Type and code of ICMP over IPv4.
    Icmp,
    /// Type and code of ICMP over IPv6.
    Icmpv6,
    /// What the tracker says.
    State,
    /// Direction in the flow.
    Direction,
    /// Status of the flow.
    Status,
    /// `ct_helper`.
    Helper,
    /// Mark of the flow.
    CtMark,
    /// Mark of the packet.
    Mark,
    /// The flow's first packet.
    Original,
    /// Whether it is a fragment.
    Fragment,
    /// Length of the datagram.
    Length,
    /// TTL or hop limit.
    Ttl,
    /// Differentiated services code point.
    Dscp,
    /// A rate.
    Limit,
    /// A number of live flows.
    Connections,
    /// A property that no packet has.
    Absent,
}

impl Field {
    /// Its key in the policy language.
    pub const fn name(self) -> &'static str {
        match self {
            Field::Ingress => "in",
            Field::Egress => "out",
            Field::To => "to",
            Field::Origin => "origin",
            Field::Family => "family",
            Field::Protocol => "proto",
            Field::Ports => "ports",
            Field::Source => "src",
            Field::Destination => "dst",
            Field::SourcePort => "sport",
            Field::DestinationPort => "dport",
            Field::TcpFlags => "tcp_flags",
            Field::Icmp => "icmp",
            Field::Icmpv6 => "icmpv6",
            Field::State => "ct",
            Field::Direction => "ct_dir",
            Field::Status => "ct_status",
            Field::Helper => "ct_helper",
            Field::CtMark => "ct_mark",
            Field::Mark => "mark",
            Field::Original => "ct_orig",
            Field::Fragment => "fragment",
            Field::Length => "length",
            Field::Ttl => "ttl",
            Field::Dscp => "dscp",
            Field::Limit => "limit",
            Field::Connections => "connlimit",
            Field::Absent => "never",
        }
    }

    const fn of(what: &Match) -> Field {
        match what {
            Match::Ingress(_) => Field::Ingress,
            Match::Egress(_) => Field::Egress,
            Match::To(_) => Field::To,
            Match::Origin(_) => Field::Origin,
            Match::Family(_) => Field::Family,
            Match::Protocol(_) => Field::Protocol,
            Match::Source(_) => Field::Source,
            Match::Destination(_) => Field::Destination,
            Match::SourcePort(_) => Field::SourcePort,
            Match::DestinationPort(_) => Field::DestinationPort,
            Match::TcpFlags { .. } => Field::TcpFlags,
            Match::Icmp(_) => Field::Icmp,
            Match::Icmpv6(_) => Field::Icmpv6,
            Match::Ct { .. } => Field::State,
            Match::Direction(_) => Field::Direction,
            Match::Status(_) => Field::Status,
            Match::Helper(_) => Field::Helper,
            Match::CtMark(_) => Field::CtMark,
            Match::Mark(_) => Field::Mark,
            Match::Original(_) => Field::Original,
            Match::Fragment(_) => Field::Fragment,
            Match::Length(_) => Field::Length,
            Match::Ttl(_) => Field::Ttl,
            Match::Dscp(_) => Field::Dscp,
            Match::Limit(_) => Field::Limit,
            Match::Connections(_) => Field::Connections,
            Match::Absent => Field::Absent,
        }
    }
}

impl Ruleset {
    /// Judges a packet at a hook as [`Ruleset::evaluate`] does, and tells `look` of each rule on the way, before its action is
    /// done.
    pub fn explain(
        &self,
        hook: Hook,
        view: &mut View<'_>,
        effects: &mut Effects,
        look: &mut dyn FnMut(Look, &View<'_>),
    ) -> Decision {
        effects.rule = None;
        let mut walk = Walk::of(self, hook, By::Turn);
        let key = GuardKey::of(view);
        while let Some((id, guard, rule)) = walk.step() {
            let asked = self.ask(guard, key, &rule.tests, view, &mut effects.reads);
            let matched = asked.iter().all(Asked::holds);
            look(Look { rule: id, asked, matched }, view);
            if !matched {
                continue;
            }
            note(self, CounterId(id.0), view, effects);
            if let ControlFlow::Break(decision) = walk.act(id, &rule.action, view, effects) {
                effects.rule = Some(id);
                return decision;
            }
        }
        at_end(self, hook, view, effects)
    }

    fn ask(
        &self,
        guard: Guard,
        key: GuardKey,
        tests: &[Test],
        view: &View<'_>,
        reads: &mut Reads,
    ) -> Vec<Asked> {
        let of_guard =
            guard.parts(key).map(|(field, holds)| Asked { field, negated: false, answer: Some(holds) });
        let mut asked: Vec<Asked> = of_guard.collect();
        for test in tests {
            *reads = reads.union(test.what.reads());
            let answer = test.what.answer(self, view);
            asked.push(Asked { field: Field::of(&test.what), negated: test.negated, answer });
        }
        asked
    }
}
