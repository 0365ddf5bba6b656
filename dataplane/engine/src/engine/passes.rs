//! The passes in which a burst is worked through, so that memory is asked for before it is needed.

use std::ops::ControlFlow;

use sluice_wire::{Packet, icmp};

use super::fragments;
use crate::conntrack::{FlowHandle, Key, TrackHook, Tracked};
use crate::decision;
use crate::frame::Frame;
use crate::pipeline;
use crate::reassembly::Shape;
use crate::stage::raw::{self, Raw};
use crate::stage::related::{self, Met};
use crate::stage::{admit, defrag, invalid, settle, track};
use crate::transit::{Bench, InFlow, Sender, Transit};
use crate::verdict::{DropReason, Verdict};
use crate::world::AddressKind;

/// A packet of a burst between the passes. It is parsed into its place here and stays there: what is copied right after
/// it was written field by field stalls the processor for longer than the parser takes.
pub(super) struct Arrival {
    /// Its frame's place in the burst.
    pub(super) at: usize,
    pub(super) packet: Packet,
    pub(super) sender: Sender,
    pub(super) raw: Raw,
    /// To be put together with the others of its datagram.
    pub(super) fragment: bool,
    pub(super) key: Option<Key>,
    pub(super) hint: Option<FlowHandle>,
}

impl Arrival {
    /// A place for one.
    pub(super) fn none() -> Arrival {
        let sender = Sender::Router;
        Arrival {
            at: 0,
            packet: Packet::NONE,
            sender,
            raw: Raw::default(),
            fragment: false,
            key: None,
            hint: None,
        }
    }
}

/// First pass: frames that are packets of ours and pass `raw` become arrivals, all others end here. Asks for the
/// buckets that their flows would be in. Returns how many arrived.
pub(super) fn admit_all(bench: &mut Bench<'_>, frames: &mut [Frame<'_>], arrivals: &mut [Arrival]) -> usize {
    let mut count = 0;
    for (at, frame) in frames.iter_mut().enumerate() {
        let Some(arrival) = arrivals.get_mut(count) else { break };
        arrival.at = at;
        match admit_one(bench, frame, arrival) {
            ControlFlow::Continue(()) => count += 1,
            ControlFlow::Break(verdict) => settle::settle(bench.counters, frame, verdict),
        }
    }
    count
}

#[inline]
fn admit_one(bench: &mut Bench<'_>, frame: &mut Frame<'_>, arrival: &mut Arrival) -> ControlFlow<Verdict> {
    arrival.sender = admit::admit(bench, frame, &mut arrival.packet)?;
    (arrival.raw, arrival.key, arrival.hint) = (Raw::default(), None, None);
    arrival.fragment = arrival.packet.fragment.is_fragment();
    let Sender::Wire(ingress) = arrival.sender else { return ControlFlow::Continue(()) };
    if arrival.fragment {
        arrival.fragment = !defrag::passes(bench, &arrival.packet, ingress);
        if arrival.fragment {
            return ControlFlow::Continue(());
        }
    }
    arrival.raw = raw::prerouting(bench, &arrival.packet, ingress, frame.ethernet(&arrival.packet))?;
    if !arrival.raw.untracked {
        arrival.key = bench.conntrack.key(&arrival.packet, arrival.raw.template.zone);
        if let Some(key) = &arrival.key {
            bench.conntrack.prefetch(key);
        }
    }
    ControlFlow::Continue(())
}

/// Second pass: asks for the entries of what are most likely the packets' flows.
pub(super) fn look_up_all(bench: &mut Bench<'_>, arrivals: &mut [Arrival]) {
    for arrival in arrivals {
        if let Some(key) = &arrival.key {
            arrival.hint = bench.conntrack.candidate(key);
            if let Some(flow) = arrival.hint {
                bench.conntrack.prefetch_flow(flow);
            }
        }
    }
}

/// Third pass, one by one in the order of arrival.
#[inline]
pub(super) fn judge(bench: &mut Bench<'_>, frame: &mut Frame<'_>, arrival: &mut Arrival) -> Verdict {
    match arrival.fragment {
        false => judge_packet(bench, frame, arrival, None),
        true => fragments::judge(bench, frame, arrival),
    }
}

/// The tracker, then what is stored in the flow, else the whole path. `shape` is that of a datagram that came in fragments.
#[inline]
pub(super) fn judge_packet(
    bench: &mut Bench<'_>,
    frame: &mut Frame<'_>,
    arrival: &mut Arrival,
    shape: Option<&Shape>,
) -> Verdict {
    let Sender::Wire(ingress) = arrival.sender else {
        let mut t = Transit::new(bench, frame, &mut arrival.packet, arrival.sender);
        t.shape = shape;
        let ControlFlow::Break(verdict) = pipeline::sent(&mut t);
        return t.finish(verdict);
    };
    let mut tracked = classify(bench, frame, arrival);
    if matches!(tracked, Tracked::Untracked | Tracked::Invalid)
        && icmp::is_error(&arrival.packet)
        && let Some(about) = related::to_untracked(bench, frame, &arrival.packet, Met::Received(ingress))
    {
        tracked = about;
    }
    track::count(&bench.counters.states, &tracked);
    match tracked {
        Tracked::Drop(reason) => return Verdict::Drop(reason),
        Tracked::Invalid => {
            let zone = arrival.raw.template.zone;
            invalid::log(bench, &arrival.packet, frame, zone, (Some(ingress), None));
        }
        Tracked::Flow { flow, direction, state } if shape.is_none() => {
            let place = InFlow { flow, direction, state };
            if let Some(verdict) = decision::replay(bench, frame, &mut arrival.packet, place, ingress) {
                return verdict;
            }
        }
        _ => {}
    }
    let mut t = Transit::new(bench, frame, &mut arrival.packet, arrival.sender);
    (t.mark, t.shape) = (arrival.raw.mark, shape);
    t.set_tracked(tracked);
    let ControlFlow::Break(verdict) = pipeline::received(&mut t);
    t.finish(verdict)
}

#[inline]
fn classify(bench: &mut Bench<'_>, frame: &Frame<'_>, arrival: &Arrival) -> Tracked {
    if arrival.raw.untracked {
        return Tracked::Untracked;
    }
    if arrival.packet.fragment.is_part() {
        return track::stray(bench);
    }
    let tracked = bench.conntrack.track(
        bench.now,
        &bench.world.settings.conntrack,
        &arrival.packet,
        frame.bytes(),
        TrackHook::Prerouting,
        frame.l4_checksum,
        arrival.raw.template,
        arrival.key.as_ref(),
        arrival.hint,
    );
    // Not a `match` that moves it: a flow that begins is large, and known ones would pay for copying it.
    if matches!(tracked, Tracked::Drop(DropReason::ConntrackFull)) {
        return find_room(bench, frame, arrival);
    }
    tracked
}

/// A packet that found the table full: if it is to the router itself, there may be places kept for it.
#[cold]
fn find_room(bench: &mut Bench<'_>, frame: &Frame<'_>, arrival: &Arrival) -> Tracked {
    let destination = arrival.packet.addrs.dst();
    if bench.world.interfaces.kind(destination) == AddressKind::Routed {
        return Tracked::Drop(DropReason::ConntrackFull);
    }
    bench.conntrack.track_for_router(
        bench.now,
        &bench.world.settings.conntrack,
        &arrival.packet,
        frame.bytes(),
        frame.l4_checksum,
        arrival.raw.template,
        arrival.key.as_ref(),
    )
}
