//! The short way against the whole path: two routers of one policy, one of them without the short way, get the same random
//! bursts and must do the same with them, count the same and keep the same flows.

use proptest::prelude::*;
use sluice_wire::TcpFlags;
use sluice_wire::build::{self, Datagram, Tcp};

use super::riders::DHCP;
use super::*;
use crate::Verdict;
use crate::conntrack::{CtState, FlowFilter, FlowRecord, NatRange};
use crate::ids::Now;
use crate::message::Cursor;
use crate::ruleset::{Action, Match, Policy, PortMatch, StateSet, Test, Translate};
use crate::testing::*;

/// One packet, or time that passes.
#[derive(Clone, Copy, Debug)]
struct Event {
    /// Milliseconds before it.
    wait: u64,
    v6: bool,
    tcp: bool,
    reply: bool,
    client: u8,
    port: u16,
    flags: u8,
    seq: u32,
    ttl: u8,
    length: usize,
    /// A byte that is changed, as often as not beyond the frame.
    damage: usize,
    /// An answer is one to what NAT made of the question.
    translated: bool,
    /// Of another station, or with padding.
    mac: bool,
    padding: usize,
}

fn event() -> impl Strategy<Value = Event> {
    let shape = (any::<bool>(), any::<bool>(), any::<bool>(), 2u8..4, 1u16..4);
    let wait = prop_oneof![9 => Just(0), 1 => Just(700), 1 => Just(40_000)];
    // Mostly ACK, some of all the others.
    let flags = prop_oneof![12 => Just(0x10u8), 2 => Just(0x18), 1 => Just(2), 1 => Just(0x12), 1 => Just(0x11), 1 => Just(4)];
    let ttl = prop_oneof![9 => Just(64u8), 1 => Just(1), 1 => Just(2)];
    let damage = prop_oneof![9 => Just(usize::MAX), 1 => 12usize..70];
    let rest = (
        0u32..4,
        ttl,
        0usize..200,
        damage,
        prop::bool::weighted(0.05),
        prop_oneof![3 => Just(0usize), 1 => Just(18)],
    );
    (shape, wait, flags, rest).prop_map(|((v6, tcp, reply, client, port), wait, flags, rest)| {
        let (seq, ttl, length, damage, mac, padding) = rest;
        let translated = false;
        Event {
            wait,
            v6,
            tcp,
            reply,
            client,
            port,
            flags,
            seq: seq * 1000,
            ttl,
            length,
            damage,
            translated,
            mac,
            padding,
        }
    })
}

impl Event {
    /// Client 3 is behind a VLAN of the port where the server is.
    fn link(&self) -> InterfaceId {
        match (self.reply, self.client) {
            (true, _) => SRV,
            (false, 3) => DMZ,
            (false, _) => CLI,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let net = if self.client == 3 { 3 } else { 1 };
        let client = match self.v6 {
            true => format!("fd00:{net}::{}", self.client),
            false => format!("10.{net}.0.{}", self.client),
        };
        let server = if self.v6 { "fd00:2::2" } else { "10.2.0.2" };
        let answer = match (self.translated, self.port, self.v6) {
            (true, 1, false) => (server, "10.2.0.1", 1),
            (true, 1, true) => (server, "fd00:2::1", 1),
            (true, 2, false) => ("10.2.0.3", &client[..], 4000),
            _ => (server, &client[..], self.port),
        };
        let (from, to, ports) = match self.reply {
            true => (answer.0, answer.1, (answer.2, 5000)),
            false => (&client[..], server, (5000, self.port)),
        };
        let datagram = Datagram { ttl: self.ttl, ..between(self.link(), from, to) };
        let payload = vec![self.seq as u8; self.length];
        let mut bytes = built(|out| match self.tcp {
            false => build::udp(out, &datagram, ports, &payload),
            true => {
                let (seq, ack) = if self.reply { (9000, self.seq) } else { (self.seq, 9000) };
                let tcp = Tcp { flags: TcpFlags::from_bits(self.flags), seq, ack, window: 60_000 };
                build::tcp(out, &datagram, ports, tcp, &payload)
            }
        });
        if let Some(byte) = bytes.get_mut(self.damage) {
            *byte ^= 1;
        }
        if self.mac {
            bytes[5] ^= 0x40;
        }
        bytes.extend(vec![0; self.padding]);
        bytes
    }
}

/// The policies that make packets go different ways.
fn policies() -> [Router; 5] {
    let known = |states: &[CtState]| {
        let states = states.iter().fold(StateSet::default(), |set, state| set.with(*state));
        Test::is(Match::Ct { states, status: Default::default() })
    };
    let port = |port| Test::is(Match::DestinationPort(PortMatch::of([(port, port)])));
    let notrack = || Action::Notrack { related: false };
    let inside = NatRange { ports: Some((4000, 4000)), ..NatRange::address(ip("10.2.0.3")) };
    [
        Router::new()
            .policy(Hook::FilterForward, Policy::Drop)
            .rule(Hook::FilterForward, vec![known(&[CtState::Established])], Action::Accept)
            .rule(Hook::FilterForward, vec![known(&[CtState::Invalid])], Action::Drop)
            .rule(Hook::FilterForward, vec![port(1)], Action::Accept)
            .rule(Hook::FilterForward, vec![port(2)], Action::Accept),
        Router::new().rule(Hook::RawPrerouting, vec![], notrack()),
        Router::new()
            .rule(Hook::RawPrerouting, vec![], notrack())
            .rule(Hook::FilterForward, vec![port(1)], Action::Drop)
            .rule(Hook::FilterForward, vec![port(2)], Action::Count),
        Router::new().rule(Hook::RawPrerouting, vec![port(1)], notrack()),
        Router::new()
            .rule(Hook::NatPrerouting, vec![port(2)], Action::Translate(Translate::Dnat(inside)))
            .rule(
                Hook::NatPostrouting,
                vec![port(1)],
                Action::Translate(Translate::Masquerade(NatRange::default())),
            ),
    ]
    .map(Router::ready)
}

fn flows(router: &mut Router, now: Now) -> Vec<FlowRecord> {
    let mut all = Vec::new();
    let mut cursor = Some(Cursor::default());
    while let Some(at) = cursor {
        let mut batch = Vec::with_capacity(64);
        cursor = router.engine.conntrack().list(now, at, &FlowFilter::default(), &mut batch);
        all.extend(batch);
    }
    all
}

/// Sends all bursts through both; how many packets took the short way or a stored decision.
fn compare(mut short: Router, mut whole: Router, bursts: &[Vec<Event>]) -> u64 {
    whole.engine.close_lane();
    let mut fast = 0;
    for burst in bursts {
        let wait = burst.iter().map(|event| event.wait).max().unwrap_or(0);
        let Some(link) = burst.first().map(Event::link) else { continue };
        // A burst comes from one port.
        let same = |event: &&Event| (event.link() == CLI) == (link == CLI);
        let frames: Vec<_> = burst.iter().filter(same).map(Event::bytes).collect();
        let done = [&mut short, &mut whole].map(|router| {
            router.nanos += wait * 1_000_000;
            router.receive_all(link, &frames)
        });
        assert_eq!(done[0], done[1], "{burst:#?}");
        // Which way packets took is all that may differ.
        fast += short.counters.fast_path.get();
        let counted = [&short, &whole].map(|router| {
            router.counters.fast_path.set(0);
            format!("{:?}", router.counters)
        });
        assert_eq!(counted[0], counted[1], "{burst:#?}");
        let now = Now::from_nanos(short.nanos);
        assert_eq!(
            format!("{:?}", flows(&mut short, now)),
            format!("{:?}", flows(&mut whole, now)),
            "{burst:#?}"
        );
    }
    for rule in 0..4 {
        let of = |router: &Router| router.world.ruleset.rule_counters(crate::ruleset::RuleId(rule));
        assert_eq!(of(&short), of(&whole), "rule {rule}");
    }
    fast
}

proptest! {
    #[test]
    fn the_short_way_is_the_whole_one(
        mut bursts in prop::collection::vec(prop::collection::vec(event(), 1..8), 1..40),
        policy in 0usize..5,
    ) {
        bursts.iter_mut().flatten().for_each(|event| event.translated = policy == 4);
        let [short, whole] = [policies(), policies()].map(|policies| policies.into_iter().nth(policy).unwrap());
        compare(short, whole, &bursts);
    }
}

#[test]
fn most_packets_of_known_flows_take_it() {
    let packet = |policy, client, reply, tcp, v6| Event {
        wait: 700,
        v6,
        tcp,
        reply,
        client,
        port: 1,
        flags: 0x10,
        seq: 1000,
        ttl: 64,
        length: 18,
        damage: usize::MAX,
        translated: policy == 4,
        mac: false,
        padding: 0,
    };
    for (policy, least) in [(0, 14), (1, 20), (3, 8), (4, 14)] {
        for bits in 0..8 {
            let (tcp, v6, client) = (bits & 1 != 0, bits & 2 != 0, 2 + (bits >> 2));
            let bursts: Vec<_> = (0..20).map(|n| vec![packet(policy, client, n % 2 == 1, tcp, v6)]).collect();
            let [short, whole] = [policies(), policies()].map(|all| all.into_iter().nth(policy).unwrap());
            let fast = compare(short, whole, &bursts);
            assert!(fast >= least, "{fast} of 20, policy {policy}, tcp {tcp}, v6 {v6}, {client}");
        }
    }
}

#[test]
fn dhcp_of_the_box_is_left_to_its_stage() {
    assert_eq!(DHCP, (67, 68));
    let mut router = Router::new();
    let mut links: Vec<_> = router.world.interfaces.iter().map(|(_, link)| link.clone()).collect();
    links[usize::from(CLI.0)].kernel_addresses = true;
    router.world.interfaces = crate::world::Interfaces::new(links).into();
    router.publish();
    let offer = built(|out| build::udp(out, &between(CLI, "10.1.0.2", "10.2.0.2"), DHCP, b"offer"));
    for _ in 0..2 {
        assert_eq!(router.receive(CLI, &offer).verdict, Verdict::Deliver(CLI));
    }
}
