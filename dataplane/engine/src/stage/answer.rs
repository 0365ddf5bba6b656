//! What the router itself says about a packet that goes no further: ICMP errors and TCP resets. Built in a scratch
//! buffer and sent as the box's own packets are, through the output hooks; a policy that drops them silences the
//! router.
//!
//! An answer belongs to the flow of the packet that it is about (RELATED), as far as there is one; else the tracker
//! judges it. An answer is never answered.
//!
//! Source: RFC 1812 section 4.3.2, RFC 4443 section 2.4; observed on Linux (`icmp_send`, `nf_send_reset`),
//! recordings `reject/`, `routing/`, `seed-rules/seed1-output-drop-silences-router`.

use std::net::IpAddr;
use std::ops::ControlFlow;

use sluice_wire::build::{self, BuildError, IcmpError, Link};
use sluice_wire::{Checksum, MacAddr, Packet, Parsed, Transport, icmp, is_link_local, parse, verify};

use crate::conntrack::{CtInfo, CtState, Mapping};
use crate::frame::{Frame, Origin, Outlet, RxChecksum};
use crate::ids::{InterfaceId, PortId};
use crate::pipeline;
use crate::stage::{nat64, settle};
use crate::trace::Step;
use crate::transit::{Bench, Destination, Egress, InFlow, NextHop, Sender, Transit};
use crate::verdict::{DropReason, Verdict};
use crate::world::{AddressKind, Target};

/// Bytes before a packet in the scratch buffer, for its link header.
pub(crate) const HEADROOM: usize = 64;
/// Bytes of the scratch buffer: the longest error, 1280 bytes of IPv6.
pub(crate) const SCRATCH: usize = 2048;

/// To be filled in when the packet leaves.
const NO_LINK: Link = Link { destination: MacAddr::ZERO, source: MacAddr::ZERO, vlan: None };

/// Answers the packet with an ICMP error, or drops it for `reason` if it may not or cannot be answered.
pub(crate) fn error(t: &mut Transit<'_, '_, '_>, error: IcmpError, reason: DropReason) -> Verdict {
    let told = build::may_answer(t.packet, error)
        && addressed_to_one(t)
        && match back(t) {
            Some(way) => {
                within_limit(t, error)
                    && send(t, way.destination, |room, about| {
                        build::icmp_error(room, NO_LINK, way.source, error, about)
                    })
            }
            None => false,
        };
    if told { Verdict::Answered } else { Verdict::Drop(reason) }
}

/// Answers a TCP segment with a reset, or drops it for `reason`. The rate of resets is not limited, as in the kernel.
pub(crate) fn reset(t: &mut Transit<'_, '_, '_>, reason: DropReason) -> Verdict {
    let answerable = matches!(t.packet.transport, Transport::Tcp { .. })
        && addressed_to_one(t)
        && t.sender != Sender::Router
        && checksum_holds(t);
    let told = answerable
        && back(t).is_some_and(|way| {
            send(t, way.destination, |room, about| build::tcp_reset(room, NO_LINK, about))
        });
    if !told {
        return Verdict::Drop(reason);
    }
    if let Some(InFlow { flow, state: CtState::New | CtState::Established, .. }) = t.flow {
        t.bench.conntrack.close(t.bench.now, &t.bench.world.settings.conntrack, flow);
    }
    Verdict::Answered
}

/// Whether the transport checksum is good, or there is none: what was damaged may not be from whom it says.
pub(crate) fn checksum_holds(t: &Transit<'_, '_, '_>) -> bool {
    match t.frame.l4_checksum {
        RxChecksum::Good => true,
        RxChecksum::Bad => false,
        RxChecksum::Unknown => verify(t.packet, t.frame.bytes()) != Checksum::Bad,
    }
}

/// Whether neither address is a subnet's broadcast address, nor the source one of ours.
fn addressed_to_one(t: &Transit<'_, '_, '_>) -> bool {
    let interfaces = &t.bench.world.interfaces;
    let ours = matches!(t.sender, Sender::Box(_));
    let from = interfaces.kind(t.packet.addrs.src());
    let to = interfaces.kind(t.packet.addrs.dst());
    let one = matches!(to, AddressKind::Routed | AddressKind::Local)
        || (to == AddressKind::Multicast && t.packet.addrs.dst().is_ipv6());
    one && (from == AddressKind::Routed || ours)
}

/// The way back to the sender of a packet.
struct Way {
    source: IpAddr,
    destination: Destination,
}

/// Where an answer goes and whom it is from: the address that the packet was for if that is ours, else that of the
/// interface on the way back. To a program on the box, the far end itself seems to answer, since the kernel believes
/// no packet from outside that bears an address of its own.
fn back(t: &Transit<'_, '_, '_>) -> Option<Way> {
    let world = t.bench.world;
    let (sender, asked) = (t.packet.addrs.src(), t.packet.addrs.dst());
    let ingress = match t.sender {
        Sender::Router => return None,
        Sender::Box(tap) => return Some(Way { source: asked, destination: Destination::Box(tap) }),
        Sender::Wire(ingress) => ingress,
    };
    if nat64::is_lent(world, sender) {
        // A hairpin on its way back: where it came from, nobody would know what it quotes.
        return None;
    }
    let (interface, destination) = if is_link_local(sender) {
        let egress = Egress { interface: ingress, next: NextHop::Neighbour(sender) };
        (ingress, Destination::Onward(egress))
    } else {
        let back = nat64::towards(t, sender).unwrap_or(t.packet.addrs.reversed());
        match world.fib.route(&back)? {
            Target::Via(hop) => (hop.interface, Destination::Unknown),
            _ => return None,
        }
    };
    let source = match world.interfaces.kind(asked) {
        AddressKind::Local => asked,
        _ => world.interfaces.source_for(interface, sender)?,
    };
    Some(Way { source, destination })
}

/// Takes a token for an error. What path MTU discovery needs is not limited (RFC 1812 section 4.3.2.8 allows it, and
/// the kernel does so).
fn within_limit(t: &Transit<'_, '_, '_>, error: IcmpError) -> bool {
    let too_big = match t.packet.addrs.src() {
        IpAddr::V4(_) => (error.kind, error.code) == (icmp::v4::UNREACHABLE, icmp::v4::FRAGMENTATION_NEEDED),
        IpAddr::V6(_) => error.kind == icmp::v6::PACKET_TOO_BIG,
    };
    too_big || t.bench.world.settings.icmp.take(t.bench.now)
}

/// Builds an answer and sends it; whether it left.
fn send(
    t: &mut Transit<'_, '_, '_>,
    destination: Destination,
    build: impl FnOnce(&mut [u8], (&Packet, &[u8])) -> Result<usize, BuildError>,
) -> bool {
    let attached = attached(t);
    let mut scratch = std::mem::take(t.bench.scratch);
    let length = scratch
        .get_mut(HEADROOM..)
        .and_then(|room| build(room, (&*t.packet, t.frame.bytes())).ok())
        .and_then(|length| u16::try_from(length).ok());
    let sent = length.is_some_and(|length| {
        let mut frame = own_frame(&mut scratch, length, InterfaceId(0));
        dispatch(t.bench, &mut frame, destination, attached)
    });
    *t.bench.scratch = scratch;
    sent
}

/// A frame of the router's own, in a buffer.
pub(crate) fn own_frame(buffer: &mut [u8], len: u16, interface: InterfaceId) -> Frame<'_> {
    Frame {
        buffer,
        start: HEADROOM as u16,
        len,
        port: PortId(0),
        origin: Origin::LocalHandedOver(interface),
        ingress: None,
        egress: None,
        rss: None,
        ip_checksum: RxChecksum::Good,
        l4_checksum: RxChecksum::Good,
        verdict: Verdict::Pending,
    }
}

/// What an answer has of the flow whose packet it is about, even of one that has not begun: it is RELATED, and goes the
/// other way. What was translated of the packet is translated back.
#[derive(Clone, Copy)]
pub(crate) struct Attached {
    ct: CtInfo,
    mapping: Option<Mapping>,
}

fn attached(t: &Transit<'_, '_, '_>) -> Option<Attached> {
    let about = t.ct.filter(CtInfo::has_flow)?;
    let ct = CtInfo { state: CtState::Related, direction: about.direction.opposite(), ..about };
    Some(Attached { ct, mapping: t.mapping })
}

/// Sends the router's own packet on its path. With `attached`, it belongs to a flow already and is not tracked.
pub(crate) fn dispatch(
    bench: &mut Bench<'_>,
    frame: &mut Frame<'_>,
    destination: Destination,
    attached: Option<Attached>,
) -> bool {
    let Ok(Parsed::Ip(mut packet)) = parse(frame.bytes()) else { return false };
    bench.note(Step::Answer);
    let mut t = Transit::new(bench, frame, &mut packet, Sender::Router);
    t.destination = destination;
    t.ct = attached.map(|about| about.ct);
    t.mapping = attached.and_then(|about| about.mapping);
    let ControlFlow::Break(verdict) = pipeline::sent(&mut t);
    let verdict = t.finish(verdict);
    emit(bench, frame, verdict)
}

/// Puts a frame of the router's own into the outbox; whether there was room, and the policy let it pass.
fn emit(bench: &mut Bench<'_>, frame: &mut Frame<'_>, verdict: Verdict) -> bool {
    let outlet = match verdict {
        Verdict::Transmit(port) => Outlet::Wire(port),
        Verdict::Hold(key) => Outlet::Hold(key),
        Verdict::Deliver(interface) => Outlet::Tap(interface),
        Verdict::Copied => {
            settle::settle(bench.counters, frame, verdict);
            return true;
        }
        _ => {
            settle::settle(bench.counters, frame, verdict);
            return false;
        }
    };
    let verdict = match bench.out.frame(outlet, usize::from(frame.len)) {
        Some(room) if room.len() == usize::from(frame.len) => {
            room.copy_from_slice(frame.bytes());
            verdict
        }
        _ => Verdict::Drop(DropReason::NoBuffer),
    };
    settle::settle(bench.counters, frame, verdict);
    !matches!(verdict, Verdict::Drop(_))
}
