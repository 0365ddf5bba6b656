//! What would happen to a packet that is not there: hook by hook, each rule that is looked at with the answer to each of its
//! matches, what the tracker, NAT and the routing table make of it. For `sluice explain`.
//!
//! The rules are the compiled ones, walked one by one ([`Ruleset::explain`]); nothing is counted, and every limit is taken
//! to be within its rate. A packet begins a flow unless it is said to be of one.
//!
//! Not here: the reverse path filter, sizes, TTL and neighbours, which the explanation says.

pub(crate) mod has;
mod translation;

use std::net::IpAddr;

use sluice_api::{ExplainedChain, ExplainedMatch, ExplainedRule, Explanation, Step};
use sluice_config::policy::TestPacket;
use sluice_engine::conntrack::{CtInfo, CtState, Direction, FlowRecord, LineOptions, Status};
use sluice_engine::ids::{InterfaceId, Now, WorkerId};
use sluice_engine::ruleset::{Decision, Effects, Hook, Look, RuleId, Ruleset, View, Way};
use sluice_engine::world::fib::Target;
use sluice_engine::world::{AddressKind, Fib, Interfaces};
use sluice_wire::Packet;

use crate::Names;
use crate::trial::{self, nat, packet};

/// Rules of one hook that are told though they did not match; more are counted.
const ROOM: usize = 2000;

/// What a packet is explained by.
#[derive(Clone, Copy, Debug)]
pub struct Explain<'a> {
    /// The compiled policy.
    pub ruleset: &'a Ruleset,
    /// Interfaces by name.
    pub names: &'a Names,
    /// The box's addresses.
    pub interfaces: &'a Interfaces,
    /// The routing table; None: not known, and the packet says where it leaves.
    pub fib: Option<&'a Fib>,
}

/// The live flow that a packet belongs to, and which way it goes in it.
#[derive(Clone, Debug)]
pub struct OfFlow {
    /// The flow.
    pub flow: FlowRecord,
    /// Which way.
    pub direction: Direction,
}

impl Explain<'_> {
    /// Tells what would happen to a packet, of a live flow or else as it says of itself.
    ///
    /// # Errors
    /// It cannot be told, for the reason given: an interface that there is none of, or a way that is not known.
    pub fn packet(&self, asked: &TestPacket, live: Option<&OfFlow>) -> Result<Explanation, String> {
        let named = |name: &Option<sluice_config::Spanned<String>>| match name {
            None => Ok(None),
            Some(name) => self.names.get(name).map(Some).ok_or_else(|| {
                let hint = sluice_config::nearest(name, self.names.iter().map(|(known, _)| known));
                let hint = hint.map(|hint| format!(": {hint}")).unwrap_or_default();
                format!("there is no interface {}{hint}", name.value)
            }),
        };
        let (ingress, out) = (named(&asked.in_interface)?, named(&asked.out_interface)?);
        let packet = packet::build(asked);
        let mut passage = Passage {
            explain: self,
            asked,
            live,
            ingress,
            egress: None,
            packet,
            mark: asked.mark.unwrap_or(0),
            ct: None,
            effects: Effects::default(),
            steps: Vec::new(),
        };
        let from = ingress.and_then(|id| self.interfaces.get(id));
        let from = from.map_or("from the router itself".to_owned(), |from| format!("in by {}", from.name));
        let line = format!("{}, {from}", has::line(&packet));
        let (verdict, by) = passage.run(out)?;
        Ok(Explanation { packet: line, steps: passage.steps, verdict, by, notes: self.notes(ingress) })
    }

    fn notes(&self, ingress: Option<InterfaceId>) -> Vec<String> {
        let mut notes =
            vec!["limits are taken to be kept; TTL, MTU and neighbours are not looked at".to_owned()];
        let filtered = ingress
            .and_then(|id| self.interfaces.get(id))
            .filter(|interface| interface.rp_filter != sluice_engine::world::RpFilter::Off);
        if let Some(interface) = filtered {
            notes.push(format!("the reverse path filter of {} is not asked", interface.name));
        }
        notes
    }
}

/// A packet on its way.
struct Passage<'a> {
    explain: &'a Explain<'a>,
    asked: &'a TestPacket,
    live: Option<&'a OfFlow>,
    ingress: Option<InterfaceId>,
    egress: Option<InterfaceId>,
    packet: Packet,
    mark: u32,
    ct: Option<CtInfo>,
    effects: Effects,
    steps: Vec<Step>,
}

impl Passage<'_> {
    /// Verdict, and who decided.
    fn run(&mut self, out: Option<InterfaceId>) -> Result<(String, String), String> {
        let (before, _) = trial::hooks(if self.ingress.is_some() { Way::Input } else { Way::Output });
        // Of the box's own packets the route is known first.
        if self.ingress.is_none()
            && let Some(end) = self.route(out)?
        {
            return Ok(end);
        }
        for hook in before {
            if let Some(end) = self.hook(*hook) {
                return Ok(end);
            }
        }
        if self.ingress.is_some()
            && let Some(end) = self.route(out)?
        {
            return Ok(end);
        }
        let way = match (self.ingress, self.egress) {
            (None, _) => Way::Output,
            (Some(_), None) => Way::Input,
            (Some(_), Some(_)) => Way::Forward,
        };
        let mut last = ("accept".to_owned(), "the end of its way".to_owned());
        for hook in trial::hooks(way).1 {
            if let Some(end) = self.hook(*hook) {
                return Ok(end);
            }
            // Of a packet that passes them all, the filter is who let it pass.
            if hook.table() == "filter" {
                last.1 = self.decider(*hook);
            }
        }
        Ok(last)
    }

    /// None if the packet goes on.
    fn hook(&mut self, hook: Hook) -> Option<(String, String)> {
        if !matches!(hook, Hook::RawPrerouting | Hook::RawOutput) && self.ct.is_none() {
            self.track();
        }
        if hook.table() == "nat" && self.ct.is_none_or(|ct| ct.state != CtState::New || self.live.is_some()) {
            return None;
        }
        let ruleset = self.explain.ruleset;
        if ruleset.is_empty(hook) {
            self.effects.rule = None;
            return None;
        }
        let mut chain = ExplainedChain {
            table: hook.table().into(),
            chain: hook.chain().into(),
            ..ExplainedChain::default()
        };
        let mut view = View {
            packet: &self.packet,
            ingress: self.ingress,
            egress: self.egress,
            ct: self.ct,
            mark: self.mark,
            interfaces: self.explain.interfaces,
            now: Now::default(),
            worker: WorkerId(0),
            tally: None,
            rehearsed: true,
        };
        let decision = ruleset.explain(hook, &mut view, &mut self.effects, &mut |look, view| {
            if look.matched || chain.rules.len() < ROOM {
                chain.rules.push(told(ruleset, &look, view));
            } else {
                chain.left_out += 1;
            }
        });
        (self.mark, self.ct) = (view.mark, view.ct);
        chain.policy = self.effects.rule.is_none();
        let decided = match decision {
            Decision::Accept => "accept",
            Decision::Drop => "drop",
            Decision::Reject(_) => "reject",
            Decision::Translate(_) => "translate",
        };
        chain.decision = decided.into();
        self.steps.push(Step::Chain(chain));
        if let Decision::Translate(rule) = decision {
            self.translate(rule);
        }
        let ends = matches!(decision, Decision::Drop | Decision::Reject(_));
        ends.then(|| (decided.to_owned(), self.decider(hook)))
    }

    /// Who decided at a hook.
    fn decider(&self, hook: Hook) -> String {
        let place = format!("{}.{}", hook.table(), hook.chain());
        let Some(rule) = self.effects.rule.and_then(|id| self.explain.ruleset.rules().get(id.0 as usize))
        else {
            return format!("the policy of {place}");
        };
        let name = rule.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let within = if rule.table == "chains" { format!(" (chain {})", rule.chain) } else { String::new() };
        format!("rule{name} in line {} at {place}{within}", rule.line)
    }

    fn track(&mut self) {
        let untracked = self.effects.notrack;
        let (info, flow) = match self.live.filter(|_| !untracked) {
            Some(live) => (of_flow(live), Some(live)),
            None => (trial::tracked(self.asked, &self.packet, untracked), None),
        };
        let flow = flow.map(|live| {
            let way = match live.direction {
                Direction::Original => "original direction",
                Direction::Reply => "reply direction",
            };
            format!("{} ({way})", live.flow.line(LineOptions::default()))
        });
        self.ct = Some(info);
        self.steps.push(Step::Track { state: has::state(info.state).into(), flow });
        if let Some(live) = self.live.filter(|_| !untracked) {
            self.translate_back(live);
        }
    }

    /// A live flow is translated as it was when it began.
    fn translate_back(&mut self, live: &OfFlow) {
        if !live.flow.status.is_translated() {
            return;
        }
        let (tuple, answer) = match live.direction {
            Direction::Original => (&live.flow.original, &live.flow.reply),
            Direction::Reply => (&live.flow.reply, &live.flow.original),
        };
        if tuple.dst != answer.src
            && let Some(addrs) = self.packet.addrs.with_dst(answer.src)
        {
            self.packet.addrs = addrs;
            self.say(format!("destination becomes {}, as the flow has it", answer.src));
        }
        if let (Some((_, dport)), Some((sport, _))) = (has::ports(tuple), has::ports(answer))
            && dport != sport
        {
            nat::set_port(&mut self.packet.transport, |_| sport);
            self.say(format!("destination port becomes {sport}, as the flow has it"));
        }
        if tuple.src != answer.dst {
            self.say(format!("source becomes {}, as the flow has it", answer.dst));
        }
    }

    fn translate(&mut self, rule: RuleId) {
        let Some(how) = self.explain.ruleset.translation(rule) else { return };
        let own = |id: Option<InterfaceId>| {
            let interface = self.explain.interfaces.get(id?)?;
            let alike = self.packet.addrs.dst().is_ipv4();
            interface.addresses.iter().map(|(own, _)| *own).find(|own| own.is_ipv4() == alike)
        };
        let what = translation::told(how, &self.packet, own(self.ingress), own(self.egress));
        self.say(what);
        if let Some(changed) = nat::translated(how, &self.packet, self.explain.interfaces, self.ingress) {
            self.packet = changed;
            if let Some(ct) = &mut self.ct {
                ct.status = ct.status.with(Status::DNAT);
            }
        }
    }

    fn say(&mut self, what: String) {
        self.steps.push(Step::Nat { what });
    }

    /// Where it goes; its end if there is no way.
    fn route(&mut self, out: Option<InterfaceId>) -> Result<Option<(String, String)>, String> {
        let dst = self.packet.addrs.dst();
        let for_us = self.explain.interfaces.kind(dst) != AddressKind::Routed;
        let addrs = nat::routed_by(self.explain.ruleset, self.packet.addrs);
        let found = self.explain.fib.and_then(|fib| fib.route(&addrs));
        let hop = match found {
            Some(Target::Via(hop)) => Some(hop),
            _ => None,
        };
        let name = |id: InterfaceId| self.explain.interfaces.get(id).map(|interface| interface.name.clone());
        let local = for_us && out.is_none() && self.ingress.is_some();
        self.egress = if local { None } else { out.or(hop.map(|hop| hop.interface)) };
        if self.egress.is_none() && !for_us {
            return match self.explain.fib {
                Some(_) => Ok(Some(("drop".into(), format!("the routing table: no route to {dst}")))),
                None => Err(unknown_way(dst)),
            };
        }
        let way = match (self.ingress, self.egress) {
            (None, _) => "output",
            (Some(_), None) => "input",
            (Some(_), Some(_)) => "forward",
        };
        let via = hop.filter(|hop| Some(hop.interface) == self.egress).and_then(|hop| hop.gateway);
        self.steps.push(Step::Route {
            way: way.into(),
            out: self.egress.and_then(name),
            via: via.map(|gateway| gateway.to_string()),
        });
        Ok(None)
    }
}

fn unknown_way(dst: IpAddr) -> String {
    format!(
        "without a system file it is unknown whether {dst} is the router's own: say --config FILE, or --out INTERFACE"
    )
}

/// What rules see of a live flow.
fn of_flow(live: &OfFlow) -> CtInfo {
    let flow = &live.flow;
    let answered = flow.status.contains(Status::SEEN_REPLY) || live.direction == Direction::Reply;
    let state = match (answered, flow.status.contains(Status::EXPECTED)) {
        (true, _) => CtState::Established,
        (false, true) => CtState::Related,
        (false, false) => CtState::New,
    };
    let original = crate::recheck::original(&flow.original);
    let (direction, helper) = (live.direction, flow.announced_by);
    CtInfo { state, direction, status: flow.status, mark: flow.mark, original, helper }
}

fn told(ruleset: &Ruleset, look: &Look, view: &View<'_>) -> ExplainedRule {
    let asked = look.asked.iter().map(|asked| ExplainedMatch {
        field: asked.field.name().into(),
        negated: asked.negated,
        holds: asked.holds(),
        has: asked.answer.and_then(|_| has::field(asked.field, view)),
    });
    let Some(info) = ruleset.rules().get(look.rule.0 as usize) else { return ExplainedRule::default() };
    ExplainedRule {
        table: info.table.into(),
        chain: info.chain.to_string(),
        index: info.index,
        line: info.line,
        name: info.name.as_deref().map(str::to_owned),
        text: info.text.clone(),
        matched: look.matched,
        asked: asked.collect(),
    }
}

#[cfg(test)]
mod tests;
