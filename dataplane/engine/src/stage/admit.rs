//! The first stage: what frame is this, which interface is it for, whose packet is it?
//!
//! Frames for other stations, of no use or malformed end here; ARP goes to control, DHCP of the box past all rules
//! ([`lease`]). Packets that are routed untracked
//! whatever is in them leave here, by whichever worker ([`stateless`]); what comes from IPv4 to a pool of NAT64 becomes IPv6 ([`nat64`]); of the others, a packet that another worker
//! owns is handed over before any rule has seen it, so that each sees it once (docs/adr). What the kernel drops
//! of IPv6 before netfilter is dropped here too: impossible addresses, hop-by-hop options that say so.

use std::ops::ControlFlow;

use sluice_wire::build::IcmpError;
use sluice_wire::options::{HopByHop, hop_by_hop};
use sluice_wire::{
    Family, Kind, LinkCast, Malformed, Martian, Packet, ParseError, Parsed, Transport, destination, icmp,
    martian, parse, parse_into, quoted, shard_hash, symmetric_toeplitz,
};

use crate::conntrack::Zone;
use crate::frame::{Frame, Origin};
use crate::ids::{InterfaceId, WorkerId};
use crate::pipeline::Step;
use crate::ruleset::{Effects, First, Hook, View};
use crate::stage::{answer, lease, nat64, raw, settle, stateless};
use crate::transit::{Bench, Sender, Transit};
use crate::verdict::{DropReason, Verdict};

/// Takes a frame in: writes its packet, and says who sent it, if it goes on.
#[inline]
pub(crate) fn admit(
    bench: &mut Bench<'_>,
    frame: &mut Frame<'_>,
    packet: &mut Packet,
) -> ControlFlow<Verdict, Sender> {
    match frame.origin {
        Origin::Wire | Origin::HandedOver => from_wire(bench, frame, packet),
        Origin::Local(tap) | Origin::LocalHandedOver(tap) => from_box(bench, frame, packet, tap),
    }
}

#[inline]
fn from_wire(
    bench: &mut Bench<'_>,
    frame: &mut Frame<'_>,
    packet: &mut Packet,
) -> ControlFlow<Verdict, Sender> {
    let Ok(Kind::Ip) = parse_into(frame.bytes(), packet) else { return no_packet(bench, frame) };
    let ingress = enter(bench, frame, packet.vlan, packet.cast)?;
    // Padding, or whatever else is behind the datagram, goes no further.
    frame.len = packet.end;
    if let Some(verdict) = lease::answer(bench, frame, packet, ingress) {
        return ControlFlow::Break(verdict);
    }
    match bench.world.ruleset.first() {
        First::Nothing => {}
        first => {
            if first == First::Nat64 {
                nat64::arrive(bench, frame, packet)?;
            }
            if let Some(verdict) = stateless::forward(bench, frame, packet, ingress) {
                return ControlFlow::Break(verdict);
            }
        }
    }
    hand_over(bench, frame, packet)?;
    let sender = Sender::Wire(ingress);
    if packet.family() == Family::V6 {
        ipv6(bench, frame, packet, sender)?;
    }
    ControlFlow::Continue(sender)
}

/// The interface that a frame is for. One with a tag that no interface has is counted where its port is, and
/// dropped; so is one for another station.
#[inline]
fn enter(
    bench: &Bench<'_>,
    frame: &mut Frame<'_>,
    vlan: Option<u16>,
    cast: LinkCast,
) -> ControlFlow<Verdict, InterfaceId> {
    let interfaces = &bench.world.interfaces;
    let Some(ingress) = interfaces.of_port(frame.port, vlan) else {
        arrive(bench, frame, some_interface(bench, frame));
        return drop(DropReason::UnknownVlan);
    };
    arrive(bench, frame, ingress);
    let ours = interfaces.get(ingress).is_some_and(|here| here.mac == destination(frame.bytes()));
    if cast == LinkCast::Unicast && !ours {
        return drop(DropReason::OtherHost);
    }
    ControlFlow::Continue(ingress)
}

/// ARP is control's; all else that is no packet ends here.
#[cold]
fn no_packet(bench: &mut Bench<'_>, frame: &mut Frame<'_>) -> ControlFlow<Verdict, Sender> {
    let why = match parse(frame.bytes()) {
        Ok(Parsed::Arp(arp)) => {
            let ingress = enter(bench, frame, arp.vlan, arp.cast)?;
            return ControlFlow::Break(match bench.out.punt(ingress, frame.bytes()) {
                true => Verdict::Punt,
                false => Verdict::Drop(DropReason::PuntQueue),
            });
        }
        Ok(_) => DropReason::UnknownEthertype,
        Err(error) => reason(error),
    };
    arrive(bench, frame, some_interface(bench, frame));
    drop(why)
}

/// Any interface of a frame's port.
fn some_interface(bench: &Bench<'_>, frame: &Frame<'_>) -> InterfaceId {
    bench.world.interfaces.any_of_port(frame.port).unwrap_or(InterfaceId(0))
}

/// Counts a frame where it came in, unless another worker did.
#[inline]
pub(crate) fn arrive(bench: &Bench<'_>, frame: &mut Frame<'_>, ingress: InterfaceId) {
    frame.ingress = Some(ingress);
    if frame.origin == Origin::Wire {
        settle::arrived(bench.counters, frame);
    }
}

fn from_box(
    bench: &mut Bench<'_>,
    frame: &mut Frame<'_>,
    packet: &mut Packet,
    tap: InterfaceId,
) -> ControlFlow<Verdict, Sender> {
    match parse_into(frame.bytes(), packet) {
        Ok(Kind::Ip) => {
            if let Some(verdict) = lease::request(bench, frame, packet, tap) {
                return ControlFlow::Break(verdict);
            }
            hand_over(bench, frame, packet)?;
            ControlFlow::Continue(Sender::Box(tap))
        }
        // The tap resolves no neighbours; whatever the kernel asks there is of no use.
        Ok(Kind::Arp | Kind::Other(_)) => drop(DropReason::UnknownEthertype),
        Err(error) => drop(reason(error)),
    }
}

/// Gives the packet to the worker whose shard its flow is in.
#[inline]
fn hand_over(bench: &Bench<'_>, frame: &Frame<'_>, packet: &Packet) -> Step {
    let arrived = matches!(frame.origin, Origin::Wire | Origin::Local(_));
    if bench.workers <= 1 || !arrived {
        return ControlFlow::Continue(());
    }
    let owner = owner_of(bench, frame, packet);
    if owner == bench.worker {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(Verdict::HandOver(owner))
    }
}

/// The worker that a packet belongs to: the one that reserved such answers for a translated flow, else the one that it
/// hashes to.
#[inline]
pub(crate) fn owner_of(bench: &Bench<'_>, frame: &Frame<'_>, packet: &Packet) -> WorkerId {
    let reserved = bench.conntrack.reserved_by(packet, frame.bytes(), || zone_of(bench, frame, packet));
    reserved.unwrap_or_else(|| owner(owner_hash(frame, packet), bench.workers))
}

/// The zone that `raw` will put a packet from the wire into.
#[cold]
fn zone_of(bench: &Bench<'_>, frame: &Frame<'_>, packet: &Packet) -> Zone {
    let from_wire = matches!(frame.origin, Origin::Wire | Origin::HandedOver);
    let Some(ingress) = frame.ingress.filter(|_| from_wire) else { return Zone::default() };
    // It takes nothing from limits, and counts nothing: the packet's owner asks again.
    let mut view = View { rehearsed: true, ..raw::view(bench, packet, ingress) };
    let mut effects = Effects::default();
    bench.world.ruleset.evaluate(Hook::RawPrerouting, &mut view, &mut effects);
    effects.template.zone
}

/// The worker that a hash names: what a NIC with a table of 128 entries does.
pub(crate) fn owner(hash: u32, workers: u8) -> WorkerId {
    let slot = (hash & 127) as u8;
    WorkerId(slot % workers.max(1))
}

/// The hash that chooses a packet's worker: the device's where it gave one; of an ICMP error that of the packet it
/// quotes, since it belongs to that packet's flow. Of fragments devices do not all take the same fields.
fn owner_hash(frame: &Frame<'_>, packet: &Packet) -> u32 {
    if icmp::is_error(packet)
        && let Some(inner) = quoted(packet, frame.bytes())
    {
        let ports = match inner.transport {
            Transport::Tcp { sport, dport, .. } | Transport::Udp { sport, dport } => Some((sport, dport)),
            _ => None,
        };
        return symmetric_toeplitz(&inner.addrs, ports);
    }
    // Of fragments, and behind extension headers, devices differ in what they hash: the two directions would part.
    let alike = !packet.options && !packet.fragment.is_fragment();
    frame.rss.filter(|_| alike).unwrap_or_else(|| shard_hash(packet))
}

/// What IPv6 says before any rule.
fn ipv6(bench: &mut Bench<'_>, frame: &mut Frame<'_>, packet: &mut Packet, sender: Sender) -> Step {
    match martian(&packet.addrs) {
        Some(Martian::Source) => return drop(DropReason::MartianSource),
        Some(Martian::Destination) => return drop(DropReason::MartianDestination),
        None => {}
    }
    // As Linux drops what it fails to put together, `nf_ct_frag6_gather`.
    if packet.malformed == Some(Malformed::FragmentShort) {
        return drop(DropReason::FragmentInvalid);
    }
    if !packet.options {
        return ControlFlow::Continue(());
    }
    match hop_by_hop(packet, frame.bytes()) {
        HopByHop::Pass => ControlFlow::Continue(()),
        HopByHop::Problem { code, pointer, even_to_multicast }
            if even_to_multicast || !packet.addrs.dst().is_multicast() =>
        {
            let error = IcmpError::parameter_problem(Family::V6, code, pointer);
            let mut t = Transit::new(bench, frame, packet, sender);
            ControlFlow::Break(answer::error(&mut t, error, DropReason::IpOptions))
        }
        HopByHop::Drop | HopByHop::Problem { .. } => drop(DropReason::IpOptions),
    }
}

/// The counter of a frame that does not parse.
fn reason(error: ParseError) -> DropReason {
    match error {
        ParseError::EthernetShort | ParseError::FrameTooLong | ParseError::VlanShort => {
            DropReason::FrameTruncated
        }
        ParseError::VlanReserved => DropReason::UnknownVlan,
        ParseError::Ipv4Checksum => DropReason::IpChecksum,
        ParseError::Ipv6HopByHopBeyond => DropReason::IpExtension,
        ParseError::ArpShort | ParseError::ArpKind | ParseError::ArpOperation => DropReason::NeighbourMessage,
        ParseError::Ipv4Short
        | ParseError::Ipv4Version
        | ParseError::Ipv4HeaderLength
        | ParseError::Ipv4HeaderBeyond
        | ParseError::Ipv4LengthBelowHeader
        | ParseError::Ipv4LengthBeyond
        | ParseError::Ipv6Short
        | ParseError::Ipv6Version
        | ParseError::Ipv6LengthBeyond
        | ParseError::Ipv6Jumbo => DropReason::IpHeader,
    }
}

fn drop<T>(reason: DropReason) -> ControlFlow<Verdict, T> {
    ControlFlow::Break(Verdict::Drop(reason))
}

#[cfg(test)]
mod tests {
    use sluice_wire::Fragment;

    use super::*;
    use crate::testing::{CLI, between, parsed, udp, with_frame};

    #[test]
    fn a_devices_hash_is_used_where_all_devices_hash_alike() {
        let bytes = udp(&between(CLI, "10.1.0.2", "10.2.0.2"), (5000, 53), b"query");
        let whole = parsed(&bytes);
        with_frame(&bytes, |frame| {
            frame.rss = Some(7);
            assert_eq!(owner_hash(frame, &whole), 7);
            for other in [
                Packet { options: true, ..whole },
                Packet { fragment: Fragment::First { id: 1 }, ..whole },
                Packet { fragment: Fragment::Later { offset: 8, more: true, id: 1 }, ..whole },
            ] {
                assert_eq!(owner_hash(frame, &other), shard_hash(&other), "{other:?}");
            }
        });
    }
}
