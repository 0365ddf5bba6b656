//! A datagram that leaves in pieces: one too long for the next link (IPv4 without Don't Fragment, RFC 791), or one that came
//! in fragments, and leaves as it came where it can. Sent by the outbox, piece by piece.
//!
//! What came in fragments leaves cut as it was, if no piece is too long for the link, the first one's headers are no
//! longer than the others' were, and no helper wrote in it; else evenly, in pieces as long as the longest fragment or as the link allows. IPv4's Don't
//! Fragment is in the pieces of the second kind alone, and IPv6's identification is a new one.
//!
//! Source: recordings `fragment/` of Linux 6.18.

use sluice_wire::split::Split;
use sluice_wire::{Family, Packet, Protocol};

use crate::frame::Outlet;
use crate::ids::InterfaceId;
use crate::reassembly::Shape;
use crate::stage::link::LinkHeader;
use crate::stage::settle;
use crate::transit::{Bench, Transit};
use crate::verdict::DropReason;

/// The smallest MTU of an IPv6 link: fragments are cut anew to no less. Source: RFC 8200 section 5.
const SMALLEST_V6: u16 = 1280;

/// Where pieces go, with the header that each gets.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub outlet: Outlet,
    pub link: LinkHeader,
    pub mtu: u16,
}

/// Sends the packet on its way.
///
/// # Errors
/// Why it cannot leave. One piece that finds no buffer makes the datagram useless, so the rest is not sent.
pub(crate) fn send(t: &mut Transit<'_, '_, '_>, way: Way) -> Result<(), DropReason> {
    let Some(shape) = t.shape else {
        // Of IPv6, what came as IPv4 and may be cut.
        let id = if t.packet.family() == Family::V6 { t.bench.reassembly.fresh_id() } else { 0 };
        let split = Split::of(t.packet, t.frame.bytes(), id).ok_or(DropReason::TooBig)?;
        return each(t.bench, (t.frame.egress, way), &split, split.pieces(way.mtu));
    };
    let family = t.packet.family();
    if family == Family::V6 && t.packet.length() <= way.mtu.min(shape.largest) {
        return one(t, way);
    }
    let id = t.bench.reassembly.fresh_id();
    let split = Split::of(t.packet, t.frame.bytes(), id).ok_or(DropReason::TooBig)?;
    let verified = t.bench.world.settings.conntrack.checksum;
    let keeps = !t.recut && keeps_its_cuts((t.packet.protocol, verified), shape, &split);
    if keeps && shape.largest <= way.mtu {
        let split = split.without_dont_fragment();
        return each(t.bench, (t.frame.egress, way), &split, shape.cuts());
    }
    let longest = match family {
        Family::V4 => shape.largest,
        Family::V6 => shape.largest.max(SMALLEST_V6),
    };
    each(t.bench, (t.frame.egress, way), &split, split.pieces(longest.min(way.mtu)))
}

/// Whether the fragments' own lengths can be used again. The kernel looks at some headers in one piece, and what it so joins
/// to the first fragment must still end at a multiple of eight; and it needs room for the first one's headers before each.
/// SCTP's it looks at so only where checksums are `verified`.
fn keeps_its_cuts((protocol, verified): (Protocol, bool), shape: &Shape, split: &Split<'_>) -> bool {
    let joined = match protocol {
        Protocol::TCP => 20,
        Protocol::SCTP if verified => 12,
        _ => 0,
    };
    let first = shape.lengths.first().copied().unwrap_or_default();
    let head = split.head() as u16;
    first.max(joined).is_multiple_of(8) && head == shape.head && head <= shape.shortest
}

/// Sends it as it is.
fn one(t: &mut Transit<'_, '_, '_>, way: Way) -> Result<(), DropReason> {
    let datagram = t.packet.datagram(t.frame.bytes());
    let room = t.bench.out.frame(way.outlet, way.link.length() + datagram.len());
    let room = room.and_then(|room| way.link.emit(room, t.packet.family())).ok_or(DropReason::NoBuffer)?;
    room.iter_mut().zip(datagram).for_each(|(to, from)| *to = *from);
    count(t.bench, t.frame.egress, way, datagram.len());
    Ok(())
}

fn each(
    bench: &mut Bench<'_>,
    (egress, way): (Option<InterfaceId>, Way),
    split: &Split<'_>,
    pieces: impl Iterator<Item = (u16, u16)>,
) -> Result<(), DropReason> {
    for piece in pieces {
        let length = split.length(piece.1);
        let room = bench.out.frame(way.outlet, way.link.length() + length);
        let room = room.and_then(|room| way.link.emit(room, split.family())).ok_or(DropReason::NoBuffer)?;
        split.write(room, piece).map_err(|_| DropReason::TooBig)?;
        count(bench, egress, way, length);
    }
    Ok(())
}

/// Hands the datagram to another worker, cut as it came; that worker puts it together again. Returns how many pieces found
/// room; the others are lost.
pub(crate) fn hand_over(
    bench: &mut Bench<'_>,
    (packet, datagram): (&Packet, &[u8]),
    shape: &Shape,
    (outlet, link): (Outlet, LinkHeader),
) -> u16 {
    let Some(split) = Split::of(packet, datagram, shape.id) else { return 0 };
    let (split, way) = (split.with_head(shape.head), Way { outlet, link, mtu: u16::MAX });
    let mut sent = 0;
    for cut in shape.cuts() {
        if each(bench, (None, way), &split, std::iter::once(cut)).is_err() {
            break;
        }
        sent += 1;
    }
    sent
}

/// Counts a piece of `length` bytes, without Ethernet, that leaves by the wire.
fn count(bench: &Bench<'_>, egress: Option<InterfaceId>, way: Way, length: usize) {
    if let Outlet::Wire(_) = way.outlet {
        settle::piece(bench.counters, egress, way.link.length() + length);
    }
}
