//! Fragments are put together before any rule sees them, as netfilter does at priority −400: what follows judges the whole
//! datagram, once, and it leaves in fragments again ([`crate::stage::pieces`]).
//!
//! Two kinds go on by themselves. Where `raw.prerouting` asks for nothing that only the whole has and says NOTRACK, nothing
//! needs the whole. And an IPv6 fragment that cannot be part of one, for it lacks headers or has an odd length, is INVALID.
//!
//! The worker that owns the addresses puts a datagram together, and hands it, cut again, to the one that owns its flow.
//! Which stage a fragment from another worker is at needs no mark: the owner of its addresses is never handed one twice.
//!
//! Source: recordings `fragment/` of Linux 6.18; docs/adr.

use sluice_wire::build::IcmpError;
use sluice_wire::fragment::{Part, lacks_headers};
use sluice_wire::{Family, Packet, icmp, parse_datagram};

use crate::frame::{Frame, Origin, Outlet, RxChecksum};
use crate::ids::{InterfaceId, WorkerId};
use crate::reassembly::{Arrived, Assembly, Collected, Expired, Key, Lost, Shape};
use crate::ruleset::{Decision, Effects, Hook};
use crate::stage::link::LinkHeader;
use crate::stage::{admit, answer, pieces, raw, settle};
use crate::transit::{Bench, Sender, Transit};
use crate::verdict::{DropReason, Verdict};
use crate::world::AddressKind;

/// Datagrams that are given up in one step, so that many at once hold up no packet.
const EXPIRED_AT_ONCE: usize = 16;

/// What is to be done about a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// Nothing more: this became of it.
    Done(Verdict),
    /// It goes on by itself.
    Alone,
    /// Its datagram, which is in the assembly now, goes on.
    Whole,
}

/// Whether a fragment from the wire needs not be put together with the others of its datagram: `raw` says NOTRACK, and would
/// say the same of all of them.
pub(crate) fn passes(bench: &Bench<'_>, packet: &Packet, ingress: InterfaceId) -> bool {
    let hook = Hook::RawPrerouting;
    let ruleset = &bench.world.ruleset;
    if ruleset.is_empty(hook) || ruleset.asks_for_whole(hook) {
        return false;
    }
    let (mut view, mut effects) = (raw::view(bench, packet, ingress), Effects::default());
    ruleset.evaluate(hook, &mut view, &mut effects) == Decision::Accept && effects.notrack
}

/// Takes in a fragment.
pub(crate) fn collect(
    bench: &mut Bench<'_>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    sender: Sender,
) -> Course {
    let local = !matches!(sender, Sender::Wire(_));
    let (Some(key), Some(part)) = (Key::of(packet, frame.ingress, local), Part::of(packet, frame.bytes()))
    else {
        return Course::Done(Verdict::Drop(DropReason::FragmentInvalid));
    };
    if lacks_headers(packet) {
        return Course::Alone;
    }
    let timeouts = &bench.world.settings.conntrack.timeouts;
    let timeout = match packet.family() {
        Family::V4 => timeouts.frag,
        Family::V6 => timeouts.frag6,
    };
    let arrived = Arrived::of(frame, packet.vlan, packet.cast);
    let time = (bench.now.tick, timeout);
    let collected = bench.reassembly.collect(time, key, packet, part, arrived, bench.assembly);
    let evicted = bench.reassembly.take_evicted();
    lose(bench, evicted, DropReason::FragmentMemory);
    gauge(bench);
    match collected {
        Collected::Kept => Course::Done(Verdict::Collected),
        Collected::Whole => Course::Whole,
        Collected::Stray { others } => {
            let verdict = Verdict::Drop(DropReason::FragmentInvalid);
            settle::others(bench.counters, frame, verdict, others);
            Course::Alone
        }
        Collected::Dropped { reason, others } => {
            settle::others(bench.counters, frame, Verdict::Drop(reason), others);
            Course::Done(Verdict::Drop(reason))
        }
    }
}

/// The frame of the datagram in the assembly, which the frame of its last fragment completed, and its packet.
pub(crate) fn whole<'a>(
    buffer: &'a mut [u8],
    shape: &Shape,
    last: &Frame<'_>,
    family: Family,
) -> Option<(Frame<'a>, Packet)> {
    let arrived = shape.arrived?;
    let frame = Frame {
        buffer,
        start: Assembly::START,
        len: shape.length,
        port: last.port,
        origin: last.origin,
        ingress: last.ingress,
        egress: None,
        rss: None,
        ip_checksum: RxChecksum::Good,
        l4_checksum: RxChecksum::Unknown,
        verdict: Verdict::Pending,
    };
    let mut packet = Packet::NONE;
    parse_datagram(frame.bytes(), family, (arrived.vlan, arrived.cast), &mut packet).ok()?;
    Some((frame, packet))
}

/// Hands a datagram to the worker that owns its flow, which knows it as `seen`, if that is another one.
pub(crate) fn hand_over(
    bench: &mut Bench<'_>,
    frame: &Frame<'_>,
    (packet, seen): (&Packet, &Packet),
    shape: &Shape,
) -> Option<Verdict> {
    let worker = owner_elsewhere(bench, frame, (packet, seen))?;
    Some(hand_over_to(bench, frame, packet, shape, worker))
}

/// Hands a datagram to another worker, which counts its fragments. What finds no room there is counted here.
pub(crate) fn hand_over_to(
    bench: &mut Bench<'_>,
    frame: &Frame<'_>,
    packet: &Packet,
    shape: &Shape,
    worker: WorkerId,
) -> Verdict {
    let Some(arrived) = shape.arrived else { return Verdict::Drop(DropReason::FragmentInvalid) };
    let from = match frame.origin {
        Origin::Wire | Origin::HandedOver => Origin::Wire,
        Origin::Local(tap) | Origin::LocalHandedOver(tap) => Origin::Local(tap),
    };
    let outlet = Outlet::Worker { worker, from, port: arrived.port };
    let link = LinkHeader::new(arrived.destination, arrived.source, arrived.vlan);
    let sent = pieces::hand_over(bench, (packet, frame.bytes()), shape, (outlet, link));
    let lost = shape.fragments().saturating_sub(sent);
    settle::others(bench.counters, frame, Verdict::Drop(DropReason::HandoverRing), lost);
    Verdict::Collected
}

fn owner_elsewhere(
    bench: &Bench<'_>,
    frame: &Frame<'_>,
    (packet, seen): (&Packet, &Packet),
) -> Option<WorkerId> {
    let of_addresses = admit::owner(sluice_wire::symmetric_toeplitz(&packet.addrs, None), bench.workers);
    let of_flow = admit::owner_of(bench, frame, seen);
    (of_addresses == bench.worker && of_flow != bench.worker).then_some(of_flow)
}

/// Gives up datagrams that were not complete in time. Their senders are told, of IPv4 by the destination alone, which is
/// what the kernel's tracker does.
pub(crate) fn expire(bench: &mut Bench<'_>) {
    for _ in 0..EXPIRED_AT_ONCE {
        if !bench.reassembly.is_overdue(bench.now.tick) {
            return;
        }
        let mut assembly = std::mem::take(bench.assembly);
        if let Some(expired) = bench.reassembly.expire(bench.now.tick, &mut assembly) {
            give_up(bench, &expired, &mut assembly);
        }
        *bench.assembly = assembly;
    }
}

fn give_up(bench: &mut Bench<'_>, expired: &Expired, assembly: &mut Assembly) {
    gauge(bench);
    let count = u32::from(expired.fragments);
    let ingress = assembly.shape.arrived.filter(|_| expired.first).and_then(|arrived| arrived.ingress);
    let told = match (expired.key.addrs.family(), ingress) {
        (_, None) => false,
        (Family::V4, _) => bench.world.interfaces.kind(expired.key.addrs.dst()) == AddressKind::Local,
        (Family::V6, _) => true,
    };
    let verdict = match ingress {
        Some(ingress) if told && !expired.key.local => tell(bench, expired, assembly, ingress),
        _ => None,
    };
    match verdict {
        Some((ingress, Verdict::Answered)) => settle::answered(bench.counters, ingress, count),
        _ if expired.key.local => {
            lose(bench, Lost { local: count, received: 0 }, DropReason::FragmentTimeout);
        }
        _ => lose(bench, Lost { received: count, local: 0 }, DropReason::FragmentTimeout),
    }
}

/// Tells the sender of a first fragment that the others did not come.
fn tell(
    bench: &mut Bench<'_>,
    expired: &Expired,
    assembly: &mut Assembly,
    ingress: InterfaceId,
) -> Option<(InterfaceId, Verdict)> {
    let family = expired.key.addrs.family();
    let arrived = assembly.shape.arrived?;
    let mut frame = answer::own_frame(&mut assembly.buffer, assembly.shape.length, ingress);
    (frame.start, frame.origin, frame.ingress) = (Assembly::START, Origin::HandedOver, Some(ingress));
    let mut packet = Packet::NONE;
    parse_datagram(frame.bytes(), family, (arrived.vlan, arrived.cast), &mut packet).ok()?;
    let mut t = Transit::new(bench, &mut frame, &mut packet, Sender::Wire(ingress));
    let (kind, code) = match family {
        Family::V4 => (icmp::v4::TIME_EXCEEDED, icmp::v4::REASSEMBLY_EXCEEDED),
        Family::V6 => (icmp::v6::TIME_EXCEEDED, icmp::v6::REASSEMBLY_EXCEEDED),
    };
    let verdict = answer::error(&mut t, IcmpError::new(kind, code), DropReason::FragmentTimeout);
    Some((ingress, verdict))
}

/// Counts fragments that were kept and are gone.
pub(crate) fn lose(bench: &Bench<'_>, lost: Lost, reason: DropReason) {
    settle::lost(bench.counters, lost, reason);
}

fn gauge(bench: &Bench<'_>) {
    bench.counters.reassembling.set(u64::from(bench.reassembly.held().received));
}

#[cfg(test)]
mod tests;
