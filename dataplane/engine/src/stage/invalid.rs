//! `log_invalid`: a line in the log for a packet that the tracker calls INVALID, as the kernel's
//! `nf_conntrack_log_invalid` has it.
//!
//! Why it is INVALID is found out here, by looking at the packet once more: those who judge carry no reasons along, for
//! the sake of all the packets that nobody asks about. Unlike the kernel's, lines are limited: whoever sends such packets
//! must not fill the disk.

use sluice_wire::icmp::is_error;
use sluice_wire::{Checksum, Packet, verify};

use crate::conntrack::Zone;
use crate::frame::Frame;
use crate::ids::InterfaceId;
use crate::message::{InvalidReason, LogCause, LogRecord, PuntedFrame};
use crate::transit::Bench;

/// Logs an INVALID packet, if such are logged.
#[inline]
pub(crate) fn log(
    bench: &mut Bench<'_>,
    packet: &Packet,
    frame: &Frame<'_>,
    zone: Zone,
    interfaces: (Option<InterfaceId>, Option<InterfaceId>),
) {
    if bench.world.settings.conntrack.log_invalid.is_on() {
        write(bench, packet, frame, zone, interfaces);
    }
}

#[cold]
fn write(
    bench: &mut Bench<'_>,
    packet: &Packet,
    frame: &Frame<'_>,
    zone: Zone,
    (ingress, egress): (Option<InterfaceId>, Option<InterfaceId>),
) {
    let protocol = packet.protocol;
    if !bench.world.settings.conntrack.log_invalid.take(bench.now, protocol) {
        return;
    }
    let cause = LogCause::Invalid { protocol, reason: reason(bench, packet, frame.bytes(), zone) };
    let generation = bench.world.generation;
    let header = PuntedFrame::truncated(frame.ethernet(packet));
    bench.out.log(&LogRecord { cause, generation, ingress, egress, length: packet.length(), header });
}

fn reason(bench: &Bench<'_>, packet: &Packet, bytes: &[u8], zone: Zone) -> InvalidReason {
    if packet.malformed.is_some() {
        return InvalidReason::Malformed;
    }
    if verify(packet, bytes) == Checksum::Bad {
        return InvalidReason::Checksum;
    }
    if is_error(packet) {
        return InvalidReason::Error;
    }
    let key = bench.conntrack.key(packet, zone);
    match key.and_then(|key| bench.conntrack.find(bench.now, &key)) {
        Some(found) => InvalidReason::OfFlow(bench.conntrack.state_name(found.flow)),
        None => InvalidReason::NoFlow,
    }
}
