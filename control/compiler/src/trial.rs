//! The policy's own tests: described packets against the compiled rules.
//!
//! A packet takes the way that it would take in the router, hook after hook; the tracker is not run, the test says
//! what it would say. With a system file, addresses and routes decide between input and forward and name the egress
//! interface. Without, the test's own words do: `out` means forward, `rule` the hook that rule is evaluated at; else
//! both ways must come to the same.
//!
//! Destinations are translated as `nat` says, for packets that begin a flow.
//!
//! Not here: connection tracking, the reverse path filter, errors that the router makes.

pub(crate) mod nat;
pub(crate) mod packet;

use std::net::IpAddr;

use sluice_config::policy::{
    CtDir, CtState as State, Hook as At, PolicyTest, Rule, Table, TestPacket, TestVerdict,
};
use sluice_config::{Diagnostics, Policy, System};
use sluice_engine::conntrack::{CtInfo, CtState, Direction, OriginalTuple, Status};
use sluice_engine::ids::{InterfaceId, Now, WorkerId};
use sluice_engine::ruleset::{Decision, Effects, Hook, RuleId, Ruleset, View, Way};
use sluice_engine::world::fib::Target;
use sluice_engine::world::{AddressKind, Interfaces};
use sluice_wire::Packet;

use crate::lower::lower_helper;
use crate::problems::Problems;
use crate::{Names, Surroundings, topology};

/// Runs a policy's tests against `ruleset`, of which they take no token and move no counter. How many passed, and warnings of
/// those that could not be run; or an error for each that failed.
pub(crate) fn run(
    policy: &Policy,
    ruleset: &Ruleset,
    names: &Names,
    system: Option<&System>,
) -> Result<(usize, Diagnostics), Diagnostics> {
    let mut problems = Problems::new(policy);
    let lab = Lab { policy, ruleset, names, system: system.map(Surroundings::new) };
    let mut passed = 0;
    for test in &policy.tests {
        match lab.outcome(test) {
            Ok(outcome) if outcome.is_as_expected(test, ruleset) => passed += 1,
            Ok(outcome) => problems.error(test.span, None, failure(test, &outcome, ruleset)),
            Err(why) => problems.warning(test.span, None, format!("test `{}` not run: {why}", test.name)),
        }
    }
    problems.finish().map(|warnings| (passed, warnings))
}

fn failure(test: &PolicyTest, outcome: &Outcome, ruleset: &Ruleset) -> String {
    let wanted = test.rule.as_ref().map_or(String::new(), |rule| format!(" by rule {}", rule.value));
    let expected = verdict_name(test.expect);
    format!("test `{}`: expected {expected}{wanted}, but {}", test.name, outcome.describe(ruleset))
}

const fn verdict_name(verdict: TestVerdict) -> &'static str {
    match verdict {
        TestVerdict::Accept => "accept",
        TestVerdict::Drop => "drop",
        TestVerdict::Reject => "reject",
    }
}

/// What became of a packet, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    verdict: TestVerdict,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Decided at a hook, by this rule or else by the policy.
    Hook(Hook, Option<RuleId>),
    /// There is no way to its destination.
    Route(String),
}

impl Outcome {
    fn is_as_expected(&self, test: &PolicyTest, ruleset: &Ruleset) -> bool {
        let by_rule = |wanted: &str| match self.end {
            End::Hook(_, Some(rule)) => rule_name(ruleset, rule) == Some(wanted),
            _ => false,
        };
        self.verdict == test.expect && test.rule.as_ref().is_none_or(|rule| by_rule(&rule.value))
    }

    fn describe(&self, ruleset: &Ruleset) -> String {
        let verdict = verdict_name(self.verdict);
        match &self.end {
            End::Route(why) => why.clone(),
            End::Hook(hook, None) => {
                format!("the policy of {}.{} says {verdict}", hook.table(), hook.chain())
            }
            End::Hook(hook, Some(rule)) => {
                let place = format!("{}.{}", hook.table(), hook.chain());
                let info = ruleset.rules().get(rule.0 as usize);
                let line = info.map_or(0, |info| info.line);
                match rule_name(ruleset, *rule) {
                    Some(name) => format!("at {place} rule {name} in line {line} says {verdict}"),
                    None => format!("at {place} the rule in line {line} says {verdict}"),
                }
            }
        }
    }
}

fn rule_name(ruleset: &Ruleset, rule: RuleId) -> Option<&str> {
    ruleset.rules().get(rule.0 as usize)?.name.as_deref()
}

/// The hooks before routing, and those behind, with those of `nat`; the tracker sits behind the first one.
pub(crate) const fn hooks(way: Way) -> (&'static [Hook], &'static [Hook]) {
    const RECEIVED: &[Hook] = &[Hook::RawPrerouting, Hook::ManglePrerouting, Hook::NatPrerouting];
    match way {
        Way::Input => (RECEIVED, &[Hook::FilterInput]),
        Way::Forward => (RECEIVED, &[Hook::FilterForward, Hook::ManglePostrouting, Hook::NatPostrouting]),
        Way::Output => (
            &[Hook::RawOutput, Hook::MangleOutput, Hook::NatOutput],
            &[Hook::FilterOutput, Hook::ManglePostrouting, Hook::NatPostrouting],
        ),
    }
}

struct Lab<'a> {
    policy: &'a Policy,
    ruleset: &'a Ruleset,
    names: &'a Names,
    system: Option<Surroundings>,
}

impl Lab<'_> {
    fn outcome(&self, test: &PolicyTest) -> Result<Outcome, String> {
        let packet = packet::build(&test.packet);
        let ingress = self.interface(test.packet.in_interface.as_ref().map(|name| name.value.as_str()))?;
        let egress = self.interface(test.packet.out_interface.as_ref().map(|name| name.value.as_str()))?;
        match &self.system {
            Some(known) => Ok(self.routed(known, test, &packet, ingress, egress)),
            None => self.guessed(test, &packet, ingress, egress),
        }
    }

    fn interface(&self, name: Option<&str>) -> Result<Option<InterfaceId>, String> {
        match name {
            None => Ok(None),
            Some(name) => {
                self.names.get(name).map(Some).ok_or_else(|| format!("there is no interface {name}"))
            }
        }
    }

    /// The way that addresses and routes say.
    fn routed(
        &self,
        known: &Surroundings,
        test: &PolicyTest,
        packet: &Packet,
        ingress: Option<InterfaceId>,
        out: Option<InterfaceId>,
    ) -> Outcome {
        // Where it goes is asked of the packet as it is routed.
        let trial = Trial { ruleset: self.ruleset, interfaces: &known.interfaces, ingress, egress: None };
        let as_routed = trial.translated(packet, &test.packet);
        let addrs = nat::routed_by(self.ruleset, as_routed.addrs);
        let dst = addrs.dst();
        let for_us = known.interfaces.kind(dst) != AddressKind::Routed;
        let way = match (ingress, out) {
            (None, _) => Way::Output,
            (Some(_), None) if for_us => Way::Input,
            _ => Way::Forward,
        };
        let egress = match (way, out) {
            (Way::Input, _) => None,
            (_, Some(out)) => Some(out),
            _ => match known.fib.route(&addrs) {
                Some(Target::Via(hop)) => Some(hop.interface),
                _ if for_us => None,
                _ => {
                    let why = format!("there is no route to {dst}");
                    return Outcome { verdict: TestVerdict::Drop, end: End::Route(why) };
                }
            },
        };
        let trial = Trial { ruleset: self.ruleset, interfaces: &known.interfaces, ingress, egress };
        trial.run(way, packet, &test.packet)
    }

    /// The way that the test's own words say.
    fn guessed(
        &self,
        test: &PolicyTest,
        packet: &Packet,
        ingress: Option<InterfaceId>,
        egress: Option<InterfaceId>,
    ) -> Result<Outcome, String> {
        let (src, dst) = (packet.addrs.src(), packet.addrs.dst());
        let run = |way: Way| {
            let own = match way {
                Way::Input => Some(dst),
                Way::Forward => None,
                Way::Output => Some(src),
            };
            let interfaces = topology::as_given(self.names, own);
            let trial = Trial { ruleset: self.ruleset, interfaces: &interfaces, ingress, egress };
            trial.run(way, packet, &test.packet)
        };
        if let Some(way) = self.way_by_words(test, ingress, egress, dst) {
            return Ok(run(way));
        }
        let (input, forward) = (run(Way::Input), run(Way::Forward));
        let verdicts = (input.is_as_expected(test, self.ruleset), forward.is_as_expected(test, self.ruleset));
        match verdicts {
            (true, true) | (false, false) => Ok(input),
            _ => Err(format!(
                "without a system file it is unknown whether {dst} is the router's own; say `out` in the test"
            )),
        }
    }

    fn way_by_words(
        &self,
        test: &PolicyTest,
        ingress: Option<InterfaceId>,
        egress: Option<InterfaceId>,
        dst: IpAddr,
    ) -> Option<Way> {
        if ingress.is_none() {
            return Some(Way::Output);
        }
        if egress.is_some() {
            return Some(Way::Forward);
        }
        if dst.is_multicast() || matches!(dst, IpAddr::V4(v4) if v4.is_broadcast()) {
            return Some(Way::Input);
        }
        self.way_of_rule(&test.rule.as_ref()?.value)
    }

    /// The one way that meets the rule of that name, if it is one.
    fn way_of_rule(&self, name: &str) -> Option<Way> {
        let named = |rules: &[Rule]| {
            rules.iter().any(|rule| rule.name.as_ref().is_some_and(|known| known.value == name))
        };
        let hooks = self.policy.hooks.iter().filter(|chain| named(&chain.rules));
        let users = self.policy.chains.values().filter(|chain| named(&chain.rules));
        let places = hooks.map(|chain| (chain.table, chain.hook));
        let places: Vec<_> = places.chain(users.flat_map(|chain| chain.used_by.iter().copied())).collect();
        let input = places.contains(&(Table::Filter, At::Input));
        let forward = places.contains(&(Table::Filter, At::Forward));
        match (input, forward) {
            (true, false) => Some(Way::Input),
            (false, true) => Some(Way::Forward),
            _ => None,
        }
    }
}

/// One packet on its way.
struct Trial<'a> {
    ruleset: &'a Ruleset,
    interfaces: &'a Interfaces,
    ingress: Option<InterfaceId>,
    egress: Option<InterfaceId>,
}

impl Trial<'_> {
    fn run(&self, way: Way, packet: &Packet, test: &TestPacket) -> Outcome {
        let mut packet = *packet;
        let mut state = Passing { mark: test.mark.unwrap_or(0), ct: None, effects: Effects::default() };
        let (before, behind) = hooks(way);
        let mut last = Outcome { verdict: TestVerdict::Accept, end: End::Route(String::new()) };
        for hook in before.iter().chain(behind) {
            let routed = behind.contains(hook) || way == Way::Output;
            let egress = self.egress.filter(|_| routed);
            let decision = self.judge(*hook, &mut packet, egress, &mut state, test);
            let verdict = match decision {
                Decision::Accept | Decision::Translate(_) => TestVerdict::Accept,
                Decision::Drop => TestVerdict::Drop,
                Decision::Reject(_) => TestVerdict::Reject,
            };
            let end = End::Hook(*hook, state.effects.rule);
            // Of a packet that passes them all, the filter's rule is the one that let it pass.
            if verdict != TestVerdict::Accept {
                return Outcome { verdict, end };
            }
            if hook.table() == "filter" {
                last = Outcome { verdict, end };
            }
        }
        last
    }

    /// The packet as it is routed, were it to pass.
    fn translated(&self, packet: &Packet, test: &TestPacket) -> Packet {
        let mut packet = *packet;
        let mut state = Passing { mark: test.mark.unwrap_or(0), ct: None, effects: Effects::default() };
        let hooks = if self.ingress.is_some() { hooks(Way::Input).0 } else { hooks(Way::Output).0 };
        for hook in hooks {
            self.judge(*hook, &mut packet, None, &mut state, test);
        }
        packet
    }

    fn judge(
        &self,
        hook: Hook,
        packet: &mut Packet,
        egress: Option<InterfaceId>,
        state: &mut Passing,
        test: &TestPacket,
    ) -> Decision {
        if !matches!(hook, Hook::RawPrerouting | Hook::RawOutput) && state.ct.is_none() {
            state.ct = Some(tracked(test, packet, state.effects.notrack));
        }
        if hook.table() == "nat" && state.ct.is_none_or(|ct| ct.state != CtState::New) {
            return Decision::Accept;
        }
        let mut view = View {
            packet,
            ingress: self.ingress,
            egress,
            ct: state.ct,
            mark: state.mark,
            interfaces: self.interfaces,
            now: Now::default(),
            worker: WorkerId(0),
            // A test's packet is alone: each rate is within its limit, and no limit to live flows is reached.
            tally: None,
            rehearsed: true,
        };
        let decision = self.ruleset.evaluate(hook, &mut view, &mut state.effects);
        (state.mark, state.ct) = (view.mark, view.ct);
        if let Decision::Translate(rule) = decision
            && let Some(how) = self.ruleset.translation(rule)
            && let Some(changed) = nat::translated(how, packet, self.interfaces, self.ingress)
        {
            *packet = changed;
            if let Some(ct) = &mut state.ct {
                ct.status = ct.status.with(Status::DNAT);
            }
        }
        decision
    }
}

/// What a packet takes along from hook to hook.
struct Passing {
    mark: u32,
    ct: Option<CtInfo>,
    effects: Effects,
}

/// What the tracker would say: what the test says, but for packets that `raw` marks NOTRACK.
pub(crate) fn tracked(test: &TestPacket, packet: &Packet, notrack: bool) -> CtInfo {
    let settled = Status::SEEN_REPLY.with(Status::ASSURED).with(Status::CONFIRMED);
    // What a helper announced is RELATED, to begin with.
    let first = if test.ct_helper.is_some() { State::Related } else { State::New };
    let (state, status) = match test.ct.unwrap_or(first) {
        _ if notrack => (CtState::Untracked, Status::default()),
        State::New => (CtState::New, Status::default()),
        State::Established => (CtState::Established, settled),
        State::Related => (CtState::Related, Status::default()),
        State::Invalid => (CtState::Invalid, Status::default()),
        State::Untracked => (CtState::Untracked, Status::default()),
        State::Snat => (CtState::New, Status::SNAT),
        State::Dnat => (CtState::New, Status::DNAT),
    };
    let (sport, dport) = packet.ports().unwrap_or_default();
    let (src, dst) = (packet.addrs.src(), packet.addrs.dst());
    let (direction, original) = match test.ct_dir {
        Some(CtDir::Reply) => {
            (Direction::Reply, OriginalTuple { src: dst, dst: src, sport: dport, dport: sport })
        }
        _ => (Direction::Original, OriginalTuple { src, dst, sport, dport }),
    };
    let helper = test.ct_helper.filter(|_| !notrack).map(lower_helper);
    let status = if helper.is_some() { status.with(Status::EXPECTED) } else { status };
    CtInfo { state, direction, status, mark: test.ct_mark.unwrap_or(0), original, helper }
}
