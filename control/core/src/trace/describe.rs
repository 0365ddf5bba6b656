//! A packet's way in words: rules by chain, place and name, stages by the names of the policy file.

use sluice_api as api;
use sluice_engine::conntrack::{CtState, Direction, Ends};
use sluice_engine::ids::InterfaceId;
use sluice_engine::ruleset::{Counts, Decision, Policy, Rejection, Ruleset};
use sluice_engine::trace::{Met, Step, Trace};
use sluice_engine::world::Interfaces;
use sluice_engine::{Origin, Verdict};
use sluice_wire::{Fragment, Packet, Transport};

use crate::control::Control;
use crate::flows;

/// Whether another worker handed the packet over.
pub(super) fn is_handed_over(trace: &Trace) -> bool {
    matches!(trace.origin, Origin::HandedOver | Origin::LocalHandedOver(_))
}

/// A trace as the API has it; `time` in microseconds since 1970.
pub(super) fn describe(control: &Control, trace: &Trace, time: u64) -> api::Trace {
    let world = control.publisher.world();
    let ruleset = control.ruleset_of(trace.generation);
    let words = Words { interfaces: &world.interfaces, ruleset: ruleset.as_deref(), trace };
    api::Trace {
        id: trace.id,
        time,
        worker: trace.worker.0,
        ingress: trace.ingress.map(|id| words.name(id)),
        handed_over: is_handed_over(trace),
        bytes: trace.length,
        packet: trace.packet.as_ref().map_or_else(|| "no ip packet".into(), packet),
        steps: trace.steps().iter().map(|step| words.step(step)).collect(),
        flow: trace.flow.as_ref().map(|flow| flows::describe(flow, trace.worker)),
        verdict: words.verdict(),
        reason: match trace.verdict {
            Verdict::Drop(reason) => Some(reason.label().into()),
            _ => None,
        },
        more: trace.more,
    }
}

struct Words<'a> {
    interfaces: &'a Interfaces,
    /// None if so many policies came since that it is forgotten.
    ruleset: Option<&'a Ruleset>,
    trace: &'a Trace,
}

impl Words<'_> {
    fn name(&self, id: InterfaceId) -> String {
        self.interfaces.get(id).map_or_else(|| id.0.to_string(), |interface| interface.name.clone())
    }

    fn step(&self, step: &Step) -> api::TraceStep {
        let (stage, text, rules) = match step {
            Step::Hook { hook, met, rule, decision, mark } => {
                let by = if rule.is_none() && *decision != Decision::Accept { ", by its policy" } else { "" };
                let mark = if *mark == 0 { String::new() } else { format!(", mark {mark:#x}") };
                let stage = format!("{}.{}", hook.table(), hook.chain());
                return api::TraceStep {
                    stage,
                    text: format!("{}{by}{mark}", decided(*decision)),
                    rules: self.rules(*met, false),
                };
            }
            Step::Tracked { state, direction, begins } => {
                ("tracked", tracked(*state, *direction, *begins), Vec::new())
            }
            Step::Stored { met } => {
                ("stored", "as decided for an earlier packet of the flow".into(), self.rules(*met, true))
            }
            Step::Stateless { met } => {
                let text = "not tracked: as for all such packets to this next hop".into();
                ("stateless", text, self.rules(*met, true))
            }
            Step::ToBox(interface) => {
                ("route", format!("to the box, by {}", self.name(*interface)), Vec::new())
            }
            Step::Onward { interface, next } => {
                let next = next.map(|next| format!(", next hop {next}")).unwrap_or_default();
                ("route", format!("out by {}{next}", self.name(*interface)), Vec::new())
            }
            Step::Translated(Ends { src, dst, sport, dport }) => {
                ("nat", format!("now {} > {}", end(*src, *sport), end(*dst, *dport)), Vec::new())
            }
            Step::Entered => ("confirmed", "the flow is in the table".into(), Vec::new()),
            Step::Answer => {
                ("answer", "the router answers; what follows is the answer's way".into(), Vec::new())
            }
        };
        api::TraceStep { stage: stage.into(), text, rules }
    }

    /// The rules that were met; policies of chains too, if it is not clear which chains were walked.
    fn rules(&self, met: Met, policies: bool) -> Vec<api::TraceRule> {
        let Some(ruleset) = self.ruleset else { return Vec::new() };
        let counted = self.trace.met(met).iter().filter_map(|id| ruleset.counts(*id));
        let rules = counted.filter_map(|counts| match counts {
            Counts::Rule(rule) => Some(api::TraceRule {
                chain: match rule.table {
                    "chains" => rule.chain.to_string(),
                    table => format!("{table}.{}", rule.chain),
                },
                index: rule.index,
                name: rule.name.as_deref().map(str::to_owned),
                line: rule.line,
                text: rule.text.clone(),
            }),
            Counts::Policy(hook) if policies => Some(api::TraceRule {
                chain: format!("{}.{}", hook.table(), hook.chain()),
                text: match ruleset.policy(hook).0 {
                    Policy::Accept => "policy: accept".into(),
                    Policy::Drop => "policy: drop".into(),
                },
                ..api::TraceRule::default()
            }),
            Counts::Policy(_) => None,
        });
        rules.collect()
    }

    fn verdict(&self) -> String {
        let out = || self.trace.egress.map_or_else(|| "?".into(), |id| self.name(id));
        match self.trace.verdict {
            Verdict::Transmit(_) => format!("sent, by {}", out()),
            Verdict::Copied => format!("sent in pieces, by {}", out()),
            Verdict::Deliver(id) => format!("delivered to the box, by {}", self.name(id)),
            Verdict::Delivered(id) => format!("delivered to the box in pieces, by {}", self.name(id)),
            Verdict::HandOver(worker) => format!("handed over to worker {}", worker.0),
            Verdict::Punt => "given to the control thread".into(),
            Verdict::Hold(key) => {
                format!("held until the address of {} on {} is known", key.address, self.name(key.interface))
            }
            Verdict::Answered => "dropped, and answered with an error or a reset".into(),
            Verdict::Collected => "kept until its datagram is whole".into(),
            Verdict::Drop(reason) => format!("dropped: {} ({})", reason.label(), reason.sentence()),
            Verdict::Pending => String::new(),
        }
    }
}

fn decided(decision: Decision) -> String {
    match decision {
        Decision::Accept => "accept".into(),
        Decision::Translate(_) => "translate".into(),
        Decision::Drop => "drop".into(),
        Decision::Reject(Rejection::TcpReset) => "reject with a reset".into(),
        Decision::Reject(Rejection::Icmp(code)) => format!("reject with icmp unreachable, code {code}"),
        Decision::Reject(Rejection::Icmpv6(code)) => format!("reject with icmpv6 unreachable, code {code}"),
    }
}

fn tracked(state: CtState, direction: Direction, begins: bool) -> String {
    let name = match state {
        CtState::New => "new",
        CtState::Established => "established",
        CtState::Related => "related",
        CtState::Invalid => return "invalid".into(),
        CtState::Untracked => return "untracked".into(),
    };
    let direction = match direction {
        Direction::Original => "original",
        Direction::Reply => "reply",
    };
    format!("{name}, {direction} direction{}", if begins { ", begins a flow" } else { "" })
}

/// Protocol, addresses and what else tells packets apart.
fn packet(packet: &Packet) -> String {
    let (src, dst) = (packet.addrs.src(), packet.addrs.dst());
    let (sport, dport) = packet.ports().unwrap_or_default();
    let mut text = format!("{} {} > {}", packet.protocol, end(src, sport), end(dst, dport));
    match packet.transport {
        Transport::Tcp { flags, .. } => text.push_str(&format!(" {flags}")),
        Transport::Icmp { kind, code, .. } | Transport::Icmpv6 { kind, code, .. } => {
            text.push_str(&format!(" type {kind} code {code}"));
        }
        _ => {}
    }
    if let Fragment::First { id } | Fragment::Later { id, .. } = packet.fragment {
        text.push_str(&format!(" fragment of {id}"));
    }
    text.push_str(&format!(" ttl {} length {}", packet.ttl, packet.length()));
    text
}

fn end(address: std::net::IpAddr, port: u16) -> String {
    match (address, port) {
        (address, 0) => address.to_string(),
        (std::net::IpAddr::V6(address), port) => format!("[{address}]:{port}"),
        (address, port) => format!("{address}:{port}"),
    }
}
