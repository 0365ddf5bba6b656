//! The passes in which a burst is worked through, so that memory is asked for before it is needed.

use std::ops::ControlFlow;

use sluice_wire::{Packet, icmp};

use super::express::{Express, Way};
use super::{BURST, fragments};
use crate::conntrack::{FlowHandle, Key, TrackHook, Tracked};
use crate::decision::{self, Course};
use crate::frame::{Frame, Origin};
use crate::ids::InterfaceId;
use crate::pipeline;
use crate::reassembly::Shape;
use crate::stage::raw::{self, Raw};
use crate::stage::related::{self, Met};
use crate::stage::{admit, defrag, invalid, nat64, settle, track};
use crate::transit::{Bench, InFlow, Sender, Transit};
use crate::verdict::{DropReason, Verdict};
use crate::world::AddressKind;

/// A packet of a burst between the passes. It is parsed into its place here and stays there: what is copied right after
/// it was written field by field stalls the processor for longer than the parser takes.
pub(super) struct Arrival {
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
        Arrival { packet: Packet::NONE, sender, raw: Raw::default(), fragment: false, key: None, hint: None }
    }
}

/// Works through a burst. `express` is None where no frame is to take the short way. There is room for one arrival more than
/// there are frames: that of whoever turns out late to need the whole path.
#[inline]
pub(super) fn run(
    bench: &mut Bench<'_>,
    frames: &mut [Frame<'_>],
    arrivals: &mut [Arrival],
    mut express: Option<&mut Express>,
) {
    let Some((late, arrivals)) = arrivals.split_first_mut() else { return };
    let mut ways = [Way::Whole(0); BURST];
    if let Some(express) = express.as_deref_mut() {
        express.admit(bench, frames, &mut ways);
        express.look_up(bench);
    }
    let count = admit_all(bench, frames, arrivals, &mut ways);
    look_up_all(bench, arrivals.get_mut(..count).unwrap_or_default());
    let course = Course::of(bench);
    for (frame, way) in frames.iter_mut().zip(ways) {
        if let Way::Whole(number) = way {
            if let Some(arrival) = arrivals.get_mut(usize::from(number)) {
                judge_whole(bench, frame, arrival);
            }
        } else if let Some(express) = express.as_deref_mut()
            && !express.judge(bench, frame, way, &course)
        {
            match express.hand_back(bench, frame, way, late) {
                true => judge_whole(bench, frame, late),
                false => judge_late(bench, frame, late),
            }
        }
    }
    if let Some(express) = express {
        express.end(bench);
    }
}

/// First pass: frames that are packets of ours and pass `raw` become arrivals, all others end here. Asks for the
/// buckets that their flows would be in. Returns how many arrived.
fn admit_all(
    bench: &mut Bench<'_>,
    frames: &mut [Frame<'_>],
    arrivals: &mut [Arrival],
    ways: &mut [Way; BURST],
) -> usize {
    let mut count = 0u8;
    for (frame, way) in frames.iter_mut().zip(ways) {
        if !matches!(way, Way::Whole(_)) {
            continue;
        }
        let Some(arrival) = arrivals.get_mut(usize::from(count)) else { break };
        match admit_one(bench, frame, arrival) {
            ControlFlow::Continue(()) => {
                *way = Way::Whole(count);
                count += 1;
            }
            ControlFlow::Break(verdict) => {
                *way = Way::Done;
                settle::settle(bench.counters, frame, verdict);
            }
        }
    }
    usize::from(count)
}

/// All passes for one frame that could not take the short way after all.
#[inline(never)]
fn judge_late(bench: &mut Bench<'_>, frame: &mut Frame<'_>, arrival: &mut Arrival) {
    match admit_one(bench, frame, arrival) {
        ControlFlow::Continue(()) => {
            look_up_all(bench, std::slice::from_mut(arrival));
            judge_whole(bench, frame, arrival);
        }
        ControlFlow::Break(verdict) => settle::settle(bench.counters, frame, verdict),
    }
}

/// Third pass, one by one in the order of arrival.
#[inline(never)]
fn judge_whole(bench: &mut Bench<'_>, frame: &mut Frame<'_>, arrival: &mut Arrival) {
    let verdict = judge(bench, frame, arrival);
    settle::settle(bench.counters, frame, verdict);
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
fn look_up_all(bench: &mut Bench<'_>, arrivals: &mut [Arrival]) {
    for arrival in arrivals {
        if let Some(key) = &arrival.key {
            arrival.hint = bench.conntrack.candidate(key);
            if let Some(flow) = arrival.hint {
                bench.conntrack.prefetch_flow(flow);
            }
        }
    }
}

#[inline]
fn judge(bench: &mut Bench<'_>, frame: &mut Frame<'_>, arrival: &mut Arrival) -> Verdict {
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

/// A hairpin: a packet that became IPv4 for an address of ours, judged as if it came from there. Its datagram, if it came in
/// fragments, has `shape`. See [`nat64`].
#[cold]
pub(crate) fn judge_hairpin(
    bench: &mut Bench<'_>,
    frame: &mut Frame<'_>,
    (packet, ingress): (&Packet, InterfaceId),
    shape: Option<&Shape>,
) -> Verdict {
    frame.origin = Origin::HandedOver;
    let mut arrival = Arrival { packet: *packet, sender: Sender::Wire(ingress), ..Arrival::none() };
    judge_anew(bench, frame, &mut arrival, shape)
}

/// The first two passes and the third, for a packet that no pass has seen as it is now.
pub(super) fn judge_anew(
    bench: &mut Bench<'_>,
    frame: &mut Frame<'_>,
    arrival: &mut Arrival,
    shape: Option<&Shape>,
) -> Verdict {
    (arrival.raw, arrival.key, arrival.hint) = (Raw::default(), None, None);
    if let Sender::Wire(ingress) = arrival.sender {
        let raw = match nat64::arrive(bench, frame, &mut arrival.packet) {
            ControlFlow::Continue(()) => {
                raw::prerouting(bench, &arrival.packet, ingress, frame.ethernet(&arrival.packet))
            }
            ControlFlow::Break(verdict) => ControlFlow::Break(verdict),
        };
        match raw {
            ControlFlow::Continue(raw) => arrival.raw = raw,
            ControlFlow::Break(verdict) => return verdict,
        }
        arrival.key = bench.conntrack.key(&arrival.packet, arrival.raw.template.zone);
    }
    judge_packet(bench, frame, arrival, shape)
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
    match tracked {
        Tracked::Drop(DropReason::ConntrackFull) => find_room(bench, frame, arrival),
        tracked => tracked,
    }
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
