//! A router on one link, with a host that is spoken to by hand; time is whatever the test says.

use std::net::{Ipv4Addr, Ipv6Addr};

use sluice_engine::ids::PortId;
use sluice_engine::world::{NeighbourState, RpFilter};
use sluice_wire::build::{Link, arp_reply, emit_arp};
use sluice_wire::nd::{Message, Solicitation};
use sluice_wire::{Arp, ArpOperation, LinkCast, nd};

use super::*;

const LAN: InterfaceId = InterfaceId(0);
const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const HOST_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const OTHER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 10]);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const OURS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);

fn interfaces() -> Arc<Interfaces> {
    Arc::new(Interfaces::new(vec![Interface {
        name: "lan".into(),
        port: PortId(0),
        vlan: None,
        mac: OUR_MAC,
        mtu: 1500,
        addresses: vec![(OURS.into(), 24), (OURS6.into(), 64)],
        groups: Vec::new(),
        kernel_addresses: false,
        rp_filter: RpFilter::Off,
    }]))
}

/// A table with a clock, whose announcements are over.
struct Router {
    table: Table,
    now: Time,
}

impl Router {
    fn new() -> Router {
        let mut router = Router { table: Table::new(Time::ZERO, interfaces(), &[]), now: Time::ZERO };
        router.pass(5.0);
        router.sent();
        router
    }

    /// Lets time go by, ticking four times a second.
    fn pass(&mut self, seconds: f64) {
        for _ in 0..(seconds * 4.0) as u32 {
            self.now += Duration::from_millis(250);
            self.table.tick(self.now);
        }
    }

    fn sent(&mut self) -> Vec<Parsed> {
        let frames = self.frames().into_iter();
        frames.map(|frame| sluice_wire::parse(&frame).unwrap()).collect()
    }

    fn frames(&mut self) -> Vec<Vec<u8>> {
        let actions = self.table.take_actions().into_iter();
        let frames = actions.filter_map(|action| match action {
            Action::Send(LAN, frame) => Some(frame),
            _ => None,
        });
        frames.collect()
    }

    fn arp(&mut self, arp: Arp) {
        let link = Link { destination: MacAddr::BROADCAST, source: arp.sender_mac, vlan: None };
        let frame = build(|out| emit_arp(out, link, &arp)).unwrap();
        self.table.received(self.now, LAN, &frame);
    }

    fn host_replies(&mut self, mac: MacAddr) {
        self.arp(Arp { operation: ArpOperation::Reply, target: OURS, target_mac: OUR_MAC, ..host_asks(mac) });
    }

    fn state(&self, address: impl Into<IpAddr>) -> &'static str {
        let key = key(address);
        self.table.view().find(|view| view.key == key).map_or("none", |view| view.state)
    }

    fn published(&mut self) -> Option<Vec<(IpAddr, NeighbourState)>> {
        let list = self.table.take_changed()?;
        Some(list.into_iter().map(|(key, neighbour)| (key.address, neighbour.state)).collect())
    }

    /// A worker sends to the neighbour.
    fn use_it(&mut self) {
        let second = u32::try_from(self.now.as_secs()).unwrap();
        for entry in self.table.entries.values() {
            entry.cell.store(second, Ordering::Relaxed);
        }
    }
}

fn key(address: impl Into<IpAddr>) -> NeighbourKey {
    NeighbourKey { interface: LAN, address: address.into() }
}

/// The host asks for our address.
fn host_asks(mac: MacAddr) -> Arp {
    Arp {
        vlan: None,
        cast: LinkCast::Broadcast,
        operation: ArpOperation::Request,
        sender_mac: mac,
        sender: HOST,
        target_mac: MacAddr::ZERO,
        target: OURS,
    }
}

#[test]
fn an_address_is_asked_for_and_believed() {
    let mut router = Router::new();
    router.published();
    router.table.wanted(router.now, key(HOST));
    router.table.wanted(router.now, key(HOST));
    let sent = router.sent();
    assert!(
        matches!(&sent[..], [Parsed::Arp(arp)] if arp.target == HOST && arp.sender == OURS && arp.sender_mac == OUR_MAC)
    );
    assert_eq!(router.published(), None, "workers need not know that it is being asked for");
    router.host_replies(HOST_MAC);
    assert_eq!(router.published(), Some(vec![(HOST.into(), NeighbourState::Reachable(HOST_MAC))]));
    assert_eq!(router.state(HOST), "reachable");
}

#[test]
fn who_does_not_answer_three_requests_fails_and_is_asked_again_later() {
    let mut router = Router::new();
    router.table.wanted(router.now, key(HOST));
    router.pass(2.9);
    assert_eq!(router.sent().len(), 3);
    assert_eq!(router.state(HOST), "incomplete");
    router.published();
    router.pass(0.5);
    assert_eq!(router.published(), Some(vec![(HOST.into(), NeighbourState::Failed)]));
    assert!(router.sent().is_empty());
    router.pass(3.0);
    assert_eq!(router.published(), Some(vec![]));
    router.table.wanted(router.now, key(HOST));
    assert_eq!(router.sent().len(), 1);
}

#[test]
fn an_entry_in_use_is_verified_by_unicast_and_one_out_of_use_forgotten() {
    let mut router = Router::new();
    router.table.wanted(router.now, key(HOST));
    router.host_replies(HOST_MAC);
    router.sent();
    router.pass(10.0);
    router.use_it();
    router.pass(21.0);
    assert_eq!(router.state(HOST), "probe");
    let frames = router.frames();
    assert_eq!(sluice_wire::destination(&frames[0]), HOST_MAC);
    router.published();
    router.host_replies(HOST_MAC);
    assert_eq!((router.state(HOST), router.published()), ("reachable", None));
    router.pass(31.0);
    assert_eq!(router.state(HOST), "stale");
    router.pass(61.0);
    assert_eq!(router.state(HOST), "none");
    assert_eq!(router.published(), Some(vec![]));
}

#[test]
fn who_moved_is_found_by_broadcast() {
    let mut router = Router::new();
    router.table.wanted(router.now, key(HOST));
    router.host_replies(HOST_MAC);
    router.use_it();
    router.pass(30.25 + 3.0);
    assert_eq!(router.state(HOST), "incomplete");
    let last = router.frames().pop().unwrap();
    assert_eq!(sluice_wire::destination(&last), MacAddr::BROADCAST);
    router.host_replies(OTHER_MAC);
    assert_eq!(router.published(), Some(vec![(HOST.into(), NeighbourState::Reachable(OTHER_MAC))]));
}

#[test]
fn a_request_for_our_address_is_answered_and_makes_no_entry() {
    let mut router = Router::new();
    router.arp(host_asks(HOST_MAC));
    let sent = router.sent();
    assert!(matches!(&sent[..], [Parsed::Arp(arp)] if arp.operation == ArpOperation::Reply
            && arp.sender == OURS && arp.sender_mac == OUR_MAC && arp.target_mac == HOST_MAC));
    assert_eq!(router.state(HOST), "none");
    router.arp(Arp { target: Ipv4Addr::new(10, 0, 0, 77), ..host_asks(HOST_MAC) });
    assert!(router.sent().is_empty());
    router.arp(Arp { sender: Ipv4Addr::UNSPECIFIED, ..host_asks(HOST_MAC) });
    assert_eq!(router.sent().len(), 1, "a probe (RFC 5227) for an address that is taken");
}

#[test]
fn a_claim_changes_only_entries_that_are_there() {
    let mut router = Router::new();
    router.arp(Arp { target: HOST, ..host_asks(OTHER_MAC) });
    assert_eq!(router.state(HOST), "none");
    router.table.wanted(router.now, key(HOST));
    router.arp(Arp { target: HOST, ..host_asks(HOST_MAC) });
    assert_eq!(router.state(HOST), "stale");
    router.sent();
    router.pass(1.0);
    router.use_it();
    router.pass(1.0);
    assert_eq!(router.state(HOST), "probe");
    for bad in [MacAddr::BROADCAST, MacAddr::ZERO, OUR_MAC] {
        router.host_replies(bad);
        assert_eq!(router.state(HOST), "probe", "{bad}");
    }
}

#[test]
fn a_conflict_is_said_and_defended_once_in_ten_seconds() {
    let mut router = Router::new();
    let claim = Arp { sender: OURS, target: OURS, ..host_asks(OTHER_MAC) };
    router.arp(claim);
    router.arp(claim);
    let actions = router.table.take_actions();
    let conflict = Action::Conflict { interface: LAN, address: OURS.into(), mac: OTHER_MAC };
    assert_eq!(actions.len(), 2);
    assert_eq!(actions[0], conflict);
    router.pass(10.5);
    router.arp(claim);
    assert_eq!(router.table.take_actions()[0], conflict);
}

#[test]
fn own_addresses_are_announced_twice() {
    let mut table = Table::new(Time::ZERO, interfaces(), &[]);
    for tick in 0..40 {
        table.tick(Duration::from_millis(250) * tick);
    }
    assert_eq!(table.take_actions().len(), 4);
    table.configure(Duration::from_secs(20), interfaces(), &[]);
    table.tick(Duration::from_secs(20));
    assert!(table.take_actions().is_empty(), "none is new");
}

#[test]
fn permanent_entries_are_neither_asked_for_nor_changed() {
    let mut router = Router::new();
    router.table.configure(router.now, interfaces(), &[(key(HOST), HOST_MAC)]);
    assert_eq!(router.published(), Some(vec![(HOST.into(), NeighbourState::Reachable(HOST_MAC))]));
    router.table.wanted(router.now, key(HOST));
    router.host_replies(OTHER_MAC);
    router.pass(200.0);
    assert_eq!((router.state(HOST), router.published(), router.sent()), ("permanent", None, vec![]));
    router.table.configure(router.now, interfaces(), &[]);
    assert_eq!(router.published(), Some(vec![]));
}

#[test]
fn what_cannot_be_a_neighbour_is_not_asked_for() {
    let mut router = Router::new();
    for address in
        ["10.0.0.1", "10.0.0.255", "224.0.0.1", "255.255.255.255", "0.0.0.0", "ff02::1", "::", "2001:db8::1"]
    {
        router.table.wanted(router.now, key(address.parse::<IpAddr>().unwrap()));
    }
    assert!(router.sent().is_empty());
}

#[test]
fn a_scan_does_not_grow_the_table_without_bound() {
    let mut router = Router::new();
    for i in 0..20_000u32 {
        router.table.wanted(router.now, key(Ipv4Addr::from_bits(0x0a01_0000 + i)));
    }
    assert_eq!(router.table.view().count(), MAX_UNRESOLVED);
    router.pass(10.0);
    assert_eq!((router.table.view().count(), router.table.unresolved), (0, 0));
}

fn advertisement(target: Ipv6Addr, mac: MacAddr) -> Vec<u8> {
    let asked = Solicitation {
        source: OURS6,
        destination: sluice_wire::solicited_node(target),
        target,
        mac: Some(OUR_MAC),
    };
    let link = Link { destination: OUR_MAC, source: mac, vlan: None };
    build(|out| nd::answer(out, link, mac, &asked)).unwrap()
}

#[test]
fn neighbour_discovery_is_the_same_story() {
    let mut router = Router::new();
    router.published();
    router.table.wanted(router.now, key(HOST6));
    let frame = router.frames().pop().unwrap();
    let Ok(Parsed::Ip(packet)) = sluice_wire::parse(&frame) else { panic!("{frame:?}") };
    let Some(Message::Solicitation(asked)) = nd::parse(&packet, &frame) else { panic!("{packet:?}") };
    assert_eq!((asked.target, asked.mac), (HOST6, Some(OUR_MAC)));
    router.table.received(router.now, LAN, &advertisement(HOST6, HOST_MAC));
    assert_eq!(router.published(), Some(vec![(HOST6.into(), NeighbourState::Reachable(HOST_MAC))]));
    assert_eq!(router.state(HOST6), "reachable");
    // Unasked: believed, but to be verified.
    let news = build(|out| nd::announcement(out, (OTHER_MAC, None), HOST6)).unwrap();
    router.table.received(router.now, LAN, &news);
    assert_eq!(router.state(HOST6), "stale");
    assert_eq!(router.published(), Some(vec![(HOST6.into(), NeighbourState::Reachable(OTHER_MAC))]));
}

#[test]
fn solicitations_for_our_addresses_are_answered() {
    let mut router = Router::new();
    let link_local = sluice_engine::world::interfaces::link_local(OUR_MAC);
    for (source, target) in [(HOST6, OURS6), (HOST6, link_local), (Ipv6Addr::UNSPECIFIED, OURS6)] {
        let frame = build(|out| nd::solicitation(out, (HOST_MAC, None), source, target, None)).unwrap();
        router.table.received(router.now, LAN, &frame);
        let frame = router.frames().pop().unwrap();
        let Ok(Parsed::Ip(packet)) = sluice_wire::parse(&frame) else { panic!("{frame:?}") };
        let Some(Message::Advertisement(answer)) = nd::parse(&packet, &frame) else { panic!("{packet:?}") };
        assert_eq!((answer.target, answer.mac, answer.router), (target, Some(OUR_MAC), true));
        assert_eq!(answer.solicited, !source.is_unspecified());
    }
    let frame = build(|out| nd::solicitation(out, (HOST_MAC, None), HOST6, HOST6, None)).unwrap();
    router.table.received(router.now, LAN, &frame);
    assert!(router.frames().is_empty());
    assert_eq!(router.state(HOST6), "none");
}

#[test]
fn somebody_elses_advertisement_of_our_address_is_a_conflict() {
    let mut router = Router::new();
    router.table.received(router.now, LAN, &advertisement(OURS6, OTHER_MAC));
    let conflict = Action::Conflict { interface: LAN, address: OURS6.into(), mac: OTHER_MAC };
    assert_eq!(router.table.take_actions()[0], conflict);
}

#[test]
fn a_reply_for_another_family_or_link_changes_nothing() {
    let mut router = Router::new();
    router.table.wanted(router.now, key(HOST));
    let link = Link { destination: OUR_MAC, source: HOST_MAC, vlan: None };
    let asked = Arp { sender_mac: OUR_MAC, sender: OURS, target: HOST, ..host_asks(HOST_MAC) };
    let frame = build(|out| arp_reply(out, HOST_MAC, &asked)).unwrap();
    router.table.received(router.now, InterfaceId(7), &frame);
    assert_eq!(router.state(HOST), "incomplete");
    assert_eq!(sluice_wire::destination(&frame), link.destination);
    for cut in 0..frame.len() {
        router.table.received(router.now, LAN, &frame[..cut]);
    }
    router.table.received(router.now, LAN, &frame);
    assert_eq!(router.state(HOST), "reachable");
}
