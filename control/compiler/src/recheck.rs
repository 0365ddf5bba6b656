//! A live flow against a policy that does not run yet, or ran not yet when the flow began: would its first packet be let
//! in, and would its next ones pass?
//!
//! Of its packets a flow knows no more than its tuple. What the rules may ask beside is taken as of a usual packet: SYN
//! first and ACK later, no mark but a child's that it has from its master, TTL 64, every limit within its rate. Where it
//! came in is taken from its stored decision, else from the route back to its source.
//!
//! Not here: which flows there are, and what becomes of those that fail.

use std::net::IpAddr;

use sluice_config::policy::{IcmpMatch, TestPacket};
use sluice_engine::conntrack::{
    CtInfo, CtState, Direction, FlowRecord, OriginalTuple, Status, TupleRecord, TupleTransport,
};
use sluice_engine::ids::InterfaceId;
use sluice_engine::ruleset::{Effects, Rehearsal, Ruleset, Way};
use sluice_engine::world::fib::Target;
use sluice_engine::world::{AddressKind, Fib, Interfaces};
use sluice_wire::{Addrs, Family, Packet, TcpFlags};

use crate::trial::packet;

/// What flows are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Recheck<'a> {
    /// The policy.
    pub ruleset: &'a Ruleset,
    /// The box's addresses.
    pub interfaces: &'a Interfaces,
    /// The ways of packets.
    pub fib: &'a Fib,
}

/// Interfaces that a flow's packets come in and leave by, in one direction.
#[derive(Clone, Copy)]
struct Path {
    way: Way,
    ingress: Option<InterfaceId>,
    egress: Option<InterfaceId>,
}

impl Recheck<'_> {
    /// Whether the policy would let the flow's first packet pass.
    pub fn admits(&self, flow: &FlowRecord) -> bool {
        let Some(path) = self.path(&flow.original, &flow.reply, flow.ingress) else { return true };
        let expected = flow.status.contains(Status::EXPECTED);
        let info = CtInfo {
            state: if expected { CtState::Related } else { CtState::New },
            direction: Direction::Original,
            status: Status(flow.status.0 & FROM_THE_BEGINNING.0),
            mark: if expected { flow.mark } else { 0 },
            original: original(&flow.original),
            helper: flow.announced_by,
        };
        self.passes(flow, Direction::Original, path, TcpFlags::SYN, info)
    }

    /// Whether the flow's next packets, of each direction that it has packets of, would pass.
    pub fn lets_go_on(&self, flow: &FlowRecord) -> bool {
        let answered = flow.status.contains(Status::SEEN_REPLY);
        let there = self.path(&flow.original, &flow.reply, flow.ingress);
        let back = self.path(&flow.reply, &flow.original, None).filter(|_| answered);
        let goes = |direction, path: Option<Path>| {
            let state = match (answered, flow.status.contains(Status::EXPECTED)) {
                (true, _) => CtState::Established,
                (false, true) => CtState::Related,
                (false, false) => CtState::New,
            };
            let flags = if answered { TcpFlags::ACK } else { TcpFlags::SYN };
            let (status, mark, original) = (flow.status, flow.mark, original(&flow.original));
            let helper = flow.announced_by;
            let info = CtInfo { state, direction, status, mark, original, helper };
            path.is_none_or(|path| self.passes(flow, direction, path, flags, info))
        };
        goes(Direction::Original, there) && goes(Direction::Reply, back)
    }

    fn passes(
        &self,
        flow: &FlowRecord,
        direction: Direction,
        path: Path,
        flags: TcpFlags,
        info: CtInfo,
    ) -> bool {
        let (tuple, answer) = match direction {
            Direction::Original => (&flow.original, &flow.reply),
            Direction::Reply => (&flow.reply, &flow.original),
        };
        let sent = first(flow, tuple, flags);
        let translated = first(flow, &towards(tuple, answer), flags);
        let Path { way, ingress, egress } = path;
        let (ruleset, interfaces) = (self.ruleset, self.interfaces);
        let rehearsal = Rehearsal { ruleset, interfaces, way, ingress, egress };
        rehearsal.passes(&sent, &translated, |effects: &Effects| {
            Some(if effects.notrack { CtInfo::without_flow(CtState::Untracked) } else { info })
        })
    }

    /// The path of packets with this tuple; None if no route leads to their destination, which is not the policy's
    /// doing.
    fn path(&self, tuple: &TupleRecord, answer: &TupleRecord, known: Option<InterfaceId>) -> Option<Path> {
        let to = towards(tuple, answer);
        let by_route = |src, dst| match self.fib.route(&addrs(src, dst)?) {
            Some(Target::Via(hop)) => Some(hop.interface),
            _ => None,
        };
        if self.interfaces.kind(tuple.src) == AddressKind::Local {
            return Some(Path { way: Way::Output, ingress: None, egress: Some(by_route(to.src, to.dst)?) });
        }
        let ingress = known.or_else(|| by_route(tuple.dst, tuple.src));
        if self.interfaces.kind(to.dst) != AddressKind::Routed {
            return Some(Path { way: Way::Input, ingress, egress: None });
        }
        Some(Path { way: Way::Forward, ingress, egress: Some(by_route(to.src, to.dst)?) })
    }
}

/// Status bits that a flow has with its first packet.
const FROM_THE_BEGINNING: Status = Status::EXPECTED.with(Status::SNAT).with(Status::DNAT);

/// The tuple as the filter sees it: its destination is who answers.
fn towards(tuple: &TupleRecord, answer: &TupleRecord) -> TupleRecord {
    let transport = match (tuple.transport, answer.transport) {
        (TupleTransport::Ports { sport, .. }, TupleTransport::Ports { sport: dport, .. }) => {
            TupleTransport::Ports { sport, dport }
        }
        (transport, _) => transport,
    };
    TupleRecord { src: tuple.src, dst: answer.src, transport }
}

/// A usual packet with this tuple.
fn first(flow: &FlowRecord, tuple: &TupleRecord, flags: TcpFlags) -> Packet {
    let mut like = TestPacket {
        src: Some(tuple.src),
        dst: Some(tuple.dst),
        proto: Some(flow.protocol),
        tcp_flags: Some(flags.bits()),
        ..TestPacket::default()
    };
    match tuple.transport {
        TupleTransport::Ports { sport, dport } => (like.sport, like.dport) = (Some(sport), Some(dport)),
        TupleTransport::Icmp { kind, code, .. } => {
            let icmp = Some(IcmpMatch { kind, code: Some(code) });
            match flow.family {
                Family::V4 => like.icmp = icmp,
                Family::V6 => like.icmpv6 = icmp,
            }
        }
        TupleTransport::Gre { .. } | TupleTransport::None => {}
    }
    packet::build(&like)
}

pub(crate) fn original(tuple: &TupleRecord) -> OriginalTuple {
    let (sport, dport) = match tuple.transport {
        TupleTransport::Ports { sport, dport } => (sport, dport),
        _ => (0, 0),
    };
    OriginalTuple { src: tuple.src, dst: tuple.dst, sport, dport }
}

fn addrs(src: IpAddr, dst: IpAddr) -> Option<Addrs> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Some(Addrs::V4 { src, dst }),
        (IpAddr::V6(src), IpAddr::V6(dst)) => Some(Addrs::V6 { src, dst }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use sluice_config::{Policy, System};
    use sluice_engine::conntrack::FlowId;
    use sluice_engine::ids::{Millis, PortId};
    use sluice_wire::{MacAddr, Protocol};

    use super::*;
    use crate::topology;

    const SYSTEM: &str = "
interfaces:
  lan: {device: \"kernel:e1\", addresses: [10.0.0.1/24]}
  wan: {device: \"kernel:e2\", addresses: [192.0.2.1/24]}
routes: [{to: default, via: 192.0.2.254}]
policy: p.yaml
state: s
";

    /// An answered TCP flow.
    fn flow(src: &str, dst: &str, dport: u16) -> FlowRecord {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        let ports = |sport, dport| TupleTransport::Ports { sport, dport };
        FlowRecord {
            id: FlowId(1),
            family: Family::V4,
            protocol: Protocol::TCP,
            state: Some("ESTABLISHED"),
            timeout: Millis(1000),
            original: TupleRecord { src, dst, transport: ports(5000, dport) },
            reply: TupleRecord { src: dst, dst: src, transport: ports(dport, 5000) },
            status: Status::SEEN_REPLY.with(Status::ASSURED).with(Status::CONFIRMED),
            mark: 0,
            zone: sluice_engine::conntrack::Zone::default(),
            helper: None,
            announced_by: None,
            ingress: None,
            accounting: None,
            start: None,
            age: None,
        }
    }

    /// Whether a policy admits a flow, and whether it lets it go on.
    fn judge(policy: &str, flow: &FlowRecord) -> (bool, bool) {
        let (system, _) = System::parse("s.yaml", SYSTEM).unwrap();
        let (policy, _) = Policy::parse("p.yaml", policy, Some(&system.interface_names())).unwrap();
        let compiled = crate::check(&policy, Some(&system), 1).unwrap();
        let mut ports = 0..;
        let interfaces = topology::interfaces(&system, |_| (PortId(ports.next().unwrap()), MacAddr([0; 6])));
        let fib = Fib::new(&topology::routes(&system), &interfaces);
        let recheck = Recheck { ruleset: &compiled.ruleset, interfaces: &interfaces, fib: &fib };
        (recheck.admits(flow), recheck.lets_go_on(flow))
    }

    fn forward(rules: &str) -> String {
        format!("filter: {{forward: {{policy: drop, rules: [{rules}]}}}}")
    }

    #[test]
    fn a_flow_is_judged_as_its_first_packet_and_as_its_next_ones() {
        let out = flow("10.0.0.2", "198.51.100.7", 443);
        let established = "{ct: established, action: accept}";
        let syn =
            "{ct: new, tcp_flags: \"syn/fin,syn,rst,ack\", in: lan, out: wan, dport: 443, action: accept}";
        let cases = [
            ("no rules", "{}".into(), (true, true)),
            ("dropped", forward(""), (false, false)),
            ("what is established goes on", forward(established), (false, true)),
            ("new", forward(&format!("{established}, {syn}")), (true, true)),
            ("another port", forward("{dport: 80, action: accept}"), (false, false)),
            ("one direction", forward("{in: lan, action: accept}"), (true, false)),
            ("limits hold", forward("{limit: {rate: 1/day, burst: 1}, action: accept}"), (true, true)),
            ("not tracked any more", "raw: {prerouting: [{action: notrack}]}".into(), (true, true)),
            (
                "not tracked, and dropped",
                format!(
                    "raw: {{prerouting: [{{action: notrack}}]}}\n{}",
                    forward("{ct: new, action: accept}")
                ),
                (false, false),
            ),
            ("raw", "raw: {prerouting: [{dport: 443, action: drop}]}".into(), (false, false)),
            (
                "marked on its way",
                format!(
                    "mangle: {{prerouting: [{{in: lan, action: {{ct_mark: 7}}}}]}}\n{}",
                    forward("{ct_mark: 7, action: accept}")
                ),
                (true, false),
            ),
        ];
        let mut wrong = String::new();
        for (name, policy, expected) in cases {
            let judged = judge(&policy, &out);
            if judged != expected {
                writeln!(wrong, "{name}: {judged:?}").unwrap();
            }
        }
        assert_eq!(wrong, "");
    }

    #[test]
    fn a_flow_takes_the_way_that_its_addresses_say() {
        let drop = |hook: &str| format!("filter: {{{hook}: {{policy: drop, rules: []}}}}");
        let (through, to, from) = (
            flow("10.0.0.2", "198.51.100.7", 443),
            flow("10.0.0.2", "10.0.0.1", 22),
            flow("192.0.2.1", "198.51.100.7", 443),
        );
        for (hook, of) in [("forward", &through), ("input", &to), ("output", &from)] {
            for (name, other) in [("forward", &through), ("input", &to), ("output", &from)] {
                assert_eq!(judge(&drop(hook), other).0, hook != name, "{hook} of {name}: {of:?}");
            }
        }
    }

    #[test]
    fn a_translated_flow_is_judged_by_both_destinations() {
        let mut redirected = flow("198.51.100.7", "192.0.2.1", 8080);
        redirected.reply.src = "10.0.0.9".parse().unwrap();
        redirected.reply.transport = TupleTransport::Ports { sport: 80, dport: 5000 };
        redirected.status = redirected.status.with(Status::DNAT);
        let rule = forward("{in: wan, out: lan, dst: 10.0.0.9, dport: 80, action: accept}");
        assert!(judge(&rule, &redirected).0);
        assert!(!judge(&forward("{dport: 8080, action: accept}"), &redirected).0);
        let raw = "raw: {prerouting: [{dst: 192.0.2.1, dport: 8080, action: drop}]}";
        assert!(!judge(raw, &redirected).0);
    }

    #[test]
    fn where_a_flow_came_in_is_believed_before_its_route() {
        let mut asymmetric = flow("198.51.100.9", "198.51.100.7", 443);
        let lan = forward("{in: lan, action: accept}");
        assert!(!judge(&lan, &asymmetric).0);
        asymmetric.ingress = Some(InterfaceId(0));
        assert!(judge(&lan, &asymmetric).0);
    }
}
