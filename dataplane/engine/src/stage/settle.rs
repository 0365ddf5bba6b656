//! The end of every path: counts each packet in exactly one place. What is held, or belongs to another worker, has
//! not ended; a datagram put together counts its fragments.

use crate::counters::{Counter, InterfaceCounters, WorkerCounters};
use crate::frame::{Frame, Origin};
use crate::ids::InterfaceId;
use crate::reassembly::Lost;
use crate::ruleset::Effects;
use crate::transit::Bench;
use crate::verdict::{DropReason, Verdict};

/// Writes a frame's verdict into it and counts it.
#[inline]
pub(crate) fn settle(counters: &WorkerCounters, frame: &mut Frame<'_>, verdict: Verdict) {
    frame.verdict = verdict;
    match frame.origin {
        Origin::Wire | Origin::HandedOver => from_wire(counters, frame, verdict),
        Origin::Local(_) | Origin::LocalHandedOver(_) => from_box(counters, frame, verdict),
    }
}

#[inline]
fn from_wire(counters: &WorkerCounters, frame: &Frame<'_>, verdict: Verdict) {
    let Some(here) = of(counters, frame.ingress) else { return };
    match verdict {
        Verdict::Transmit(_) => {
            here.forwarded.add(1);
            piece(counters, frame.egress, usize::from(frame.len));
        }
        Verdict::Copied => here.forwarded.add(1),
        Verdict::Deliver(_) | Verdict::Delivered(_) => here.delivered.add(1),
        Verdict::Punt => here.consumed.add(1),
        Verdict::Answered => here.answered.add(1),
        Verdict::Drop(reason) => dropped(&counters.drops, reason, 1),
        Verdict::Pending | Verdict::HandOver(_) | Verdict::Hold(_) | Verdict::Collected => {}
    }
}

fn from_box(counters: &WorkerCounters, frame: &Frame<'_>, verdict: Verdict) {
    let there = of(counters, frame.egress);
    match (verdict, there) {
        (Verdict::Transmit(_), Some(there)) => {
            there.local_tx.add(1);
            piece(counters, frame.egress, usize::from(frame.len));
        }
        (Verdict::Copied, Some(there)) => there.local_tx.add(1),
        (Verdict::Drop(reason), _) => dropped(&counters.local_drops, reason, 1),
        _ => {}
    }
}

/// Counts `count` fragments more that share the fate of a frame's datagram. What went by an interface is counted there
/// already, piece by piece.
pub(crate) fn others(counters: &WorkerCounters, frame: &Frame<'_>, verdict: Verdict, count: u16) {
    let count = u64::from(count);
    let (here, there) = (of(counters, frame.ingress), of(counters, frame.egress));
    let local = matches!(frame.origin, Origin::Local(_) | Origin::LocalHandedOver(_));
    let counter = match (verdict, local) {
        (Verdict::Drop(reason), true) => return dropped(&counters.local_drops, reason, count),
        (Verdict::Drop(reason), false) => return dropped(&counters.drops, reason, count),
        (Verdict::Copied, true) => there.map(|there| &there.local_tx),
        (Verdict::Copied, false) => here.map(|here| &here.forwarded),
        (Verdict::Deliver(_) | Verdict::Delivered(_), false) => here.map(|here| &here.delivered),
        (Verdict::Answered, false) => here.map(|here| &here.answered),
        _ => None,
    };
    if let Some(counter) = counter {
        counter.add(count);
    }
}

/// Counts fragments that were kept, and are gone without a frame at hand.
pub(crate) fn lost(counters: &WorkerCounters, lost: Lost, reason: DropReason) {
    dropped(&counters.drops, reason, lost.received.into());
    dropped(&counters.local_drops, reason, lost.local.into());
}

/// Counts fragments that were answered in the end.
pub(crate) fn answered(counters: &WorkerCounters, ingress: InterfaceId, count: u32) {
    if let Some(here) = of(counters, Some(ingress)) {
        here.answered.add(count.into());
    }
}

/// Counts `count` packets that were dropped.
pub(crate) fn dropped(counters: &[Counter; DropReason::COUNT], reason: DropReason, count: u64) {
    if let Some(counter) = counters.get(reason as usize) {
        counter.add(count);
    }
}

/// Counts a frame of `length` bytes that leaves by an interface.
#[inline]
pub(crate) fn piece(counters: &WorkerCounters, egress: Option<InterfaceId>, length: usize) {
    if let Some(there) = of(counters, egress) {
        there.tx_packets.add(1);
        there.tx_bytes.add(length as u64);
    }
}

/// Counts frames of `bytes` bytes together that leave by an interface.
pub(crate) fn sent(counters: &WorkerCounters, egress: InterfaceId, packets: u64, bytes: u64) {
    if let Some(there) = of(counters, Some(egress)) {
        there.tx_packets.add(packets);
        there.tx_bytes.add(bytes);
    }
}

/// Counts a frame's arrival.
#[inline]
pub(crate) fn arrived(counters: &WorkerCounters, frame: &Frame<'_>) {
    if let Some(here) = of(counters, frame.ingress) {
        here.rx_packets.add(1);
        here.rx_bytes.add(u64::from(frame.len));
    }
}

/// Counts a packet of `length` bytes for the rules that it met.
#[inline]
pub(crate) fn rules(bench: &Bench<'_>, effects: &Effects, length: u16) {
    for &rule in effects.counted.ids() {
        bench.world.ruleset.count(bench.worker, rule, 1, u64::from(length));
    }
}

#[inline]
fn of(counters: &WorkerCounters, interface: Option<InterfaceId>) -> Option<&InterfaceCounters> {
    counters.interfaces.get(usize::from(interface?.0))
}
