//! NAT64: IPv6 hosts speak to IPv4 hosts. What comes from an IPv4 host to a pool becomes IPv6 before anything else is done
//! with it, and what goes to one becomes IPv4 when all else was done. In between there is nothing but a flow of IPv6
//! whose source is translated: rules, tracker and counters do to its packets what they do to any other's.
//!
//! Both steps are arithmetic ([`siit`]); whose a packet is, the flow knows. So a packet from IPv4 that is no flow's is
//! dropped where IPv6 would be routed, and a host of IPv6 that sends as if it were one of IPv4 is refused.
//!
//! A hairpin goes from one IPv6 host by the pool to another: it becomes IPv4, leaves by no link, and comes back as if by the one
//! that it came from. So it is of two flows, one of either host, and none that the other has not begun lets it in.
//!
//! Which rule asks for it is [`crate::stage::nat`]'s affair, as for all translations.
//! Source: RFC 6146 sections 3.4, 3.5 and 3.8, RFC 7915; docs/adr/0021.

use std::net::IpAddr;
use std::ops::ControlFlow;

use sluice_wire::build::IcmpError;
use sluice_wire::siit::{self, Cut, Refusal};
use sluice_wire::{Addrs, Family, Packet, Transport, icmp, martian, quoted};

use crate::conntrack::{Nat64, NatRange};
use crate::engine;
use crate::frame::{Frame, Origin, Outlet};
use crate::ids::WorkerId;
use crate::pipeline::Step;
use crate::reassembly::Reassembly;
use crate::ruleset::First;
use crate::stage::{admit, answer, defrag, nat};
use crate::transit::{Bench, Egress, NextHop, Transit};
use crate::verdict::{DropReason, Verdict};
use crate::world::{AddressKind, World};

/// Takes in a packet from the wire: one for a pool becomes IPv6, at the worker that has its flow.
#[cold]
pub(crate) fn arrive(bench: &Bench<'_>, frame: &mut Frame<'_>, packet: &mut Packet) -> Step {
    let all = bench.world.ruleset.nat64();
    let lends = |address| all.iter().any(|one| one.lends(address));
    let pretends = match packet.addrs {
        Addrs::V4 { src, dst } => lends(src) && lends(dst),
        Addrs::V6 { src, .. } => all.iter().any(|one| one.prefix().contains(src)),
    };
    if pretends && frame.origin == Origin::Wire {
        return drop(DropReason::MartianSource);
    }
    let Some((nat64, answer)) = answered(bench, packet, frame.bytes()) else {
        return ControlFlow::Continue(());
    };
    // The device's hash is that of IPv4.
    frame.rss = None;
    // It is handed over as it came: the other worker parses it again, and its Don't Fragment is not forgotten.
    if frame.origin == Origin::Wire && bench.workers > 1 {
        let owner = admit::owner_of(bench, frame, &answer);
        if owner != bench.worker {
            return ControlFlow::Break(Verdict::HandOver(owner));
        }
    }
    to_ipv6(frame, packet, nat64)
}

/// Whether packets with these addresses may be between IPv6 and IPv4: those take the whole path.
#[inline]
pub(crate) fn concern(world: &World, addrs: &Addrs) -> bool {
    world.ruleset.first() == First::Nat64 && concern_any(world.ruleset.nat64(), addrs)
}

fn concern_any(all: &[Nat64], addrs: &Addrs) -> bool {
    all.iter().any(|one| match *addrs {
        Addrs::V4 { dst, .. } => one.lends(dst),
        Addrs::V6 { src, dst } => one.prefix().contains(src) || one.prefix().contains(dst),
    })
}

/// What a datagram from the wire is to its flow: IPv6, if it is for a pool. Of an error, that is an answer to what it quotes.
pub(crate) fn seen(bench: &Bench<'_>, frame: &Frame<'_>, packet: &Packet) -> Packet {
    answered(bench, packet, frame.bytes()).map_or(*packet, |(_, answer)| answer)
}

/// The pool that an IPv4 packet is an answer to, or an error about a packet of, and that answer as IPv6. A port of an address
/// that is the router's too may be another flow's; so there the flow is looked for.
fn answered<'a>(bench: &Bench<'a>, packet: &Packet, frame: &[u8]) -> Option<(&'a Nat64, Packet)> {
    let (world, Addrs::V4 { dst, .. }) = (bench.world, packet.addrs) else { return None };
    let all = world.ruleset.nat64();
    if packet.fragment.is_part() || packet.malformed.is_some() || !all.iter().any(|one| one.lends(dst)) {
        return None;
    }
    let answer = if icmp::is_error(packet) { answer_to_quoted(packet, frame)? } else { *packet };
    let port = lent_port(&answer)?;
    let nat64 = all.iter().find(|one| one.lends_port(dst, port))?;
    if martian(&packet.addrs).is_some() || answer.addrs.dst() != IpAddr::V4(dst) {
        return None;
    }
    let answer = siit::seen_as_ipv6(&answer, nat64.prefix())?;
    let shared = world.interfaces.kind_v4(dst) == AddressKind::Local;
    (!shared || bench.conntrack.awaits(bench.now, &answer)).then_some((nat64, answer))
}

/// What an answer to the packet that an error quotes would be, as far as a flow knows it.
fn answer_to_quoted(packet: &Packet, frame: &[u8]) -> Option<Packet> {
    let quote = quoted(packet, frame)?;
    let transport = match quote.transport {
        Transport::Tcp { sport, dport, flags } => Transport::Tcp { sport: dport, dport: sport, flags },
        Transport::Udp { sport, dport } => Transport::Udp { sport: dport, dport: sport },
        Transport::Icmp { kind: icmp::v4::ECHO_REQUEST, code, id } => {
            Transport::Icmp { kind: icmp::v4::ECHO_REPLY, code, id }
        }
        _ => return None,
    };
    Some(Packet { addrs: quote.addrs.reversed(), protocol: quote.protocol, transport, ..*packet })
}

/// The port of a pool that a packet from an IPv4 host is to.
fn lent_port(packet: &Packet) -> Option<u16> {
    match packet.transport {
        Transport::Tcp { dport, .. } | Transport::Udp { dport, .. } => Some(dport),
        Transport::Icmp { kind: icmp::v4::ECHO_REPLY, id, .. } => Some(id),
        _ => None,
    }
}

fn to_ipv6(frame: &mut Frame<'_>, packet: &mut Packet, nat64: &Nat64) -> Step {
    match siit::to_ipv6(frame.buffer, frame.start, packet, nat64.prefix()) {
        Ok(start) => {
            (frame.start, frame.len) = (start, packet.end);
            ControlFlow::Continue(())
        }
        Err(refusal) => drop(reason(refusal)),
    }
}

/// What the source of a flow becomes that a rule translates so.
pub(crate) fn range(t: &Transit<'_, '_, '_>, nat64: &Nat64) -> ControlFlow<Verdict, NatRange> {
    let refused = ControlFlow::Break(Verdict::Drop(DropReason::Nat64Refused));
    let Addrs::V6 { src, dst } = t.packet.addrs else { return refused };
    let translatable = matches!(
        t.packet.transport,
        Transport::Tcp { .. }
            | Transport::Udp { .. }
            | Transport::Icmpv6 { kind: icmp::v6::ECHO_REQUEST, .. }
    );
    let from_ipv4 = nat64.prefix().contains(src);
    let port = t.packet.ports().map(|(_, dport)| dport);
    let all = t.bench.world.ruleset.nat64();
    let is_hairpin = |host| port.is_some_and(|port| all.iter().any(|one| one.lends_port(host, port)));
    match nat64.prefix().extract(dst) {
        Some(host) if from_ipv4 && nat64.lends(host) => {
            ControlFlow::Break(Verdict::Drop(DropReason::Nat64Unmapped))
        }
        Some(host) if translatable && !from_ipv4 && (nat64.reaches(host) || is_hairpin(host)) => {
            ControlFlow::Continue(nat64.range(src))
        }
        _ => refused,
    }
}

/// Whether an address of IPv6 stands for one of a pool.
pub(crate) fn is_lent(world: &World, address: IpAddr) -> bool {
    world.ruleset.nat64().iter().any(|one| one.lent(address).is_some())
}

/// Whether an address of IPv4 is a pool's.
pub(crate) fn is_of_pool(world: &World, address: IpAddr) -> bool {
    let IpAddr::V4(address) = address else { return false };
    world.ruleset.nat64().iter().any(|one| one.lends(address))
}

/// Whether a packet came from IPv4, be it as a hairpin.
pub(crate) fn is_from_ipv4(t: &Transit<'_, '_, '_>) -> bool {
    let Addrs::V6 { src, .. } = t.packet.addrs else { return true };
    t.bench.world.ruleset.nat64().iter().any(|one| one.prefix().contains(src))
}

/// The addresses by which a packet of a flow to an IPv4 host is routed towards `destination`, that host; None for any other.
pub(crate) fn towards(t: &Transit<'_, '_, '_>, destination: IpAddr) -> Option<Addrs> {
    let (source, IpAddr::V6(destination)) = (t.mapping?.source(), destination) else { return None };
    t.bench.world.ruleset.nat64().iter().find_map(|one| {
        let (src, dst) = (one.lent(source)?, one.prefix().extract(destination)?);
        Some(Addrs::V4 { src, dst })
    })
}

/// The IPv4 host that an address stands for, else the address.
pub(crate) fn host(world: &World, address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let host = world.ruleset.nat64().iter().find_map(|one| one.prefix().extract(v6));
    host.map_or(address, IpAddr::V4)
}

/// Whether a packet of IPv6 is on its way to an IPv4 host.
pub(crate) fn crosses(t: &Transit<'_, '_, '_>) -> bool {
    let next = t.egress().map(|Egress { next, .. }| next);
    t.packet.family() == Family::V6 && matches!(next, Some(NextHop::Neighbour(IpAddr::V4(_))))
}

/// Makes IPv4 of a packet that goes to an IPv4 host, behind all rules.
#[inline]
pub(crate) fn leave(t: &mut Transit<'_, '_, '_>) -> Step {
    if crosses(t) { leave_as_ipv4(t) } else { ControlFlow::Continue(()) }
}

#[cold]
fn leave_as_ipv4(t: &mut Transit<'_, '_, '_>) -> Step {
    let before = t.packet.length();
    let in_fragments = t.shape.is_some();
    if let Err(reason) = to_ipv4(t.bench.world, t.bench.reassembly, t.frame, t.packet, in_fragments) {
        return drop(reason);
    }
    t.lost = before.saturating_sub(t.packet.length());
    if let Some(trace) = &mut t.bench.trace {
        trace.became(t.packet);
    }
    if is_of_pool(t.bench.world, t.packet.addrs.dst()) { turn_back(t) } else { ControlFlow::Continue(()) }
}

/// Where a hairpin goes, which became IPv4: to the worker of the flow that it answers. That is judged once more here if it
/// is this one's; another one gets a copy.
fn turn_back(t: &mut Transit<'_, '_, '_>) -> Step {
    if t.packet.ttl <= 1 {
        nat::undo(t);
        let error = IcmpError::ttl_exceeded(t.packet.family());
        return ControlFlow::Break(answer::error(t, error, DropReason::TtlExceeded));
    }
    let Some((_, answer)) = answered(t.bench, t.packet, t.frame.bytes()) else {
        return drop(DropReason::Nat64Unmapped);
    };
    t.frame.rss = None;
    let owner = match t.bench.workers {
        0 | 1 => t.bench.worker,
        _ => admit::owner_of(t.bench, t.frame, &answer),
    };
    // What becomes of it is another flow's, and must not be stored for this one.
    t.once_only = true;
    ControlFlow::Break(match t.shape {
        _ if owner == t.bench.worker => {
            let Some(ingress) = t.ingress() else { return drop(DropReason::Nat64Unmapped) };
            engine::judge_hairpin(t.bench, t.frame, (t.packet, ingress), t.shape)
        }
        Some(shape) => defrag::hand_over_to(t.bench, t.frame, t.packet, shape, owner),
        None => hand_over_copy(t, owner),
    })
}

/// Hands a frame over that is not as it came.
fn hand_over_copy(t: &mut Transit<'_, '_, '_>, worker: WorkerId) -> Verdict {
    let outlet = Outlet::Worker { worker, from: Origin::Wire, port: t.frame.port };
    match t.bench.out.frame(outlet, usize::from(t.frame.len)) {
        Some(room) if room.len() == usize::from(t.frame.len) => {
            room.copy_from_slice(t.frame.bytes());
            Verdict::Collected
        }
        _ => Verdict::Drop(DropReason::HandoverRing),
    }
}

/// Makes IPv4 of a packet whose addresses are those of an IPv4 host and of a pool.
///
/// # Errors
/// It has no counterpart.
#[cold]
pub(crate) fn to_ipv4(
    world: &World,
    ids: &mut Reassembly,
    frame: &mut Frame<'_>,
    packet: &mut Packet,
    in_fragments: bool,
) -> Result<(), DropReason> {
    let (src, IpAddr::V6(dst)) = (packet.addrs.src(), packet.addrs.dst()) else {
        return Err(DropReason::Nat64Refused);
    };
    let by = |one: &&Nat64| one.lent(src).is_some() && one.prefix().contains(dst);
    let nat64 = world.ruleset.nat64().iter().find(by).ok_or(DropReason::Nat64Refused)?;
    let cut = Cut { id: ids.fresh_id() as u16, in_fragments };
    let start = siit::to_ipv4(frame.buffer, frame.start, packet, nat64.prefix(), cut).map_err(reason)?;
    (frame.start, frame.len) = (start, packet.end);
    Ok(())
}

/// Takes a packet back that left as IPv4, so that its sender can be told about it.
pub(crate) fn undo(t: &mut Transit<'_, '_, '_>) {
    let Addrs::V4 { src, .. } = t.packet.addrs else { return };
    let port = match t.packet.transport {
        Transport::Icmp { id, .. } => Some(id),
        ref transport => transport.ports().map(|(sport, _)| sport),
    };
    let lends = |one: &&Nat64| port.is_some_and(|port| one.lends_port(src, port));
    let Some(nat64) = t.bench.world.ruleset.nat64().iter().find(lends) else { return };
    // Flows of IPv4 may have the address too.
    let conntrack = &t.bench.conntrack;
    let seen = siit::seen_as_ipv6(t.packet, nat64.prefix());
    if seen.is_some_and(|seen| conntrack.left_as(t.bench.now, &seen).is_some()) {
        // What has no counterpart is not told about.
        let _ = to_ipv6(t.frame, t.packet, nat64);
        t.lost = 0;
    }
}

/// How long a packet to an IPv4 host will be, in bytes.
pub(crate) fn length_as_ipv4(packet: &Packet) -> u16 {
    packet.end.saturating_sub(packet.l4).saturating_add(siit::IPV4_HEADER)
}

fn reason(refusal: Refusal) -> DropReason {
    match refusal {
        Refusal::NoRoom => DropReason::NoBuffer,
        _ => DropReason::Nat64Refused,
    }
}

fn drop(reason: DropReason) -> Step {
    ControlFlow::Break(Verdict::Drop(reason))
}
