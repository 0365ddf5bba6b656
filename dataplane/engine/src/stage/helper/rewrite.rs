//! What a helper changes of a packet of a translated flow: the address and port that are announced, and from then on the
//! sequence numbers of the stream.

use std::ops::{ControlFlow, Range};

use sluice_wire::tcp::Segment;
use sluice_wire::{TcpFlags, rewrite, splice};

use super::{Control, drop};
use crate::conntrack::{Ask, Refused};
use crate::pipeline::Step;
use crate::stage::mtu;
use crate::transit::{InFlow, Transit};
use crate::verdict::DropReason;

/// Ports that are tried before the packet is dropped.
const ATTEMPTS: usize = 128;
/// The lowest port that is tried in place of the announced one.
const FIRST_PORT: u16 = 1024;

/// Expects something that goes through NAT: on the port that was announced, or, if someone else expects that, on another
/// one. The port.
pub(super) fn expect_on_a_port(
    t: &mut Transit<'_, '_, '_>,
    control: &Control,
    mut ask: Ask,
) -> ControlFlow<crate::Verdict, u16> {
    let settings = &t.bench.world.settings.conntrack;
    for _ in 0..ATTEMPTS {
        match t.bench.conntrack.expect(t.bench.now, settings, control.flow, &ask) {
            Ok(()) => return ControlFlow::Continue(ask.dport),
            Err(Refused::Full) => break,
            Err(Refused::Busy | Refused::Same) => ask.dport = t.bench.conntrack.draw_port(FIRST_PORT),
        }
    }
    ControlFlow::Break(crate::Verdict::Drop(DropReason::HelperExpectation))
}

/// Replaces bytes of the frame by others; the stream is shifted from here on. If it cannot be done, what was expected
/// last is taken back, and the packet dropped.
pub(super) fn replace(t: &mut Transit<'_, '_, '_>, control: &Control, at: Range<usize>, with: &[u8]) -> Step {
    t.recut = true;
    let seq = Segment::of(t.packet, t.frame.bytes()).map(|segment| segment.seq);
    let before = t.packet.end;
    let start = usize::from(t.frame.start);
    let room = t.frame.buffer.get_mut(start..).unwrap_or_default();
    if !splice::splice(room, t.packet, at, with) {
        t.bench.conntrack.unexpect_newest(control.flow);
        return drop(DropReason::HelperRewrite);
    }
    t.frame.len = t.packet.end;
    if t.packet.end == before {
        return ControlFlow::Continue(());
    }
    if let Some(seq) = seq {
        let by = i32::from(t.packet.end) - i32::from(before);
        t.bench.conntrack.shift(control.flow, control.direction, seq, by);
    }
    mtu::check(t)
}

/// Puts a segment's numbers right: its own as the other end has them, what it acknowledges as its sender meant them.
pub(super) fn shift_numbers(t: &mut Transit<'_, '_, '_>) {
    let Some(InFlow { flow, direction, .. }) = t.flow else { return };
    let Some(help) = t.bench.conntrack.help(flow) else { return };
    let Some(segment) = Segment::of(t.packet, t.frame.bytes()) else { return };
    let (own, other) = (help.shifts.of(direction), help.shifts.of(direction.opposite()));
    let acknowledges = segment.flags.contains(TcpFlags::ACK);
    let seq = own.forward(segment.seq);
    let ack = if acknowledges { other.back(segment.ack) } else { segment.ack };
    rewrite::tcp_numbers(t.frame.bytes_mut(), t.packet, seq, ack);
    if acknowledges && !other.is_none() {
        splice::map_sack(t.frame.bytes_mut(), t.packet, |edge| other.back(edge));
    }
}
