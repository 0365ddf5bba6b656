//! The tracker: which flow does the packet belong to? What came in is classified in bulk, see
//! [`crate::Engine::process`]; what the box sends one by one, here.

use std::ops::ControlFlow;

use sluice_wire::icmp;

use crate::conntrack::{CtState, TrackHook, Tracked};
use crate::counters::StateCounters;
use crate::pipeline::Step;
use crate::stage::invalid;
use crate::stage::related::{self, Met};
use crate::transit::{Bench, Transit};
use crate::verdict::Verdict;

/// Tracks what the box or the router sends. An answer that was attached to the flow it is about is not tracked again.
pub(crate) fn output(t: &mut Transit<'_, '_, '_>) -> Step {
    if t.ct.is_some() {
        return ControlFlow::Continue(());
    }
    if t.effects.notrack {
        let tracked = about_untracked(t).unwrap_or(Tracked::Untracked);
        t.set_tracked(tracked);
        return ControlFlow::Continue(());
    }
    match track(t) {
        Tracked::Drop(reason) => ControlFlow::Break(Verdict::Drop(reason)),
        Tracked::Invalid => {
            let about = about_untracked(t);
            if about.is_none() {
                let interfaces = (None, t.egress().map(|egress| egress.interface));
                invalid::log(t.bench, t.packet, t.frame, t.effects.template.zone, interfaces);
            }
            t.set_tracked(about.unwrap_or(Tracked::Invalid));
            ControlFlow::Continue(())
        }
        tracked => {
            t.set_tracked(tracked);
            ControlFlow::Continue(())
        }
    }
}

/// What an error that the box or the router sends is about, if that is a packet that is not tracked.
fn about_untracked(t: &Transit<'_, '_, '_>) -> Option<Tracked> {
    if !icmp::is_error(t.packet) {
        return None;
    }
    let met = Met::Sent(t.egress().map(|egress| egress.interface));
    related::to_untracked(t.bench, t.frame, t.packet, met)
}

/// Shows the tracker a packet that leaves.
pub(crate) fn track(t: &mut Transit<'_, '_, '_>) -> Tracked {
    let bench = &mut *t.bench;
    if t.packet.fragment.is_part() {
        return stray(bench);
    }
    let settings = &bench.world.settings.conntrack;
    let template = t.effects.template;
    let key = bench.conntrack.key(t.packet, template.zone);
    bench.conntrack.track(
        bench.now,
        settings,
        t.packet,
        t.frame.bytes(),
        TrackHook::Output,
        t.frame.l4_checksum,
        template,
        key.as_ref(),
        None,
    )
}

/// A fragment that cannot be put together with others is of no flow.
pub(crate) fn stray(bench: &Bench<'_>) -> Tracked {
    bench.counters.conntrack.invalid.add(1);
    Tracked::Invalid
}

/// Counts how the tracker classified a packet from the wire.
#[inline]
pub(crate) fn count(states: &StateCounters, tracked: &Tracked) {
    let counter = match tracked {
        Tracked::Flow { state: CtState::Established, .. } => &states.established,
        Tracked::Flow { state: CtState::Related, .. } => &states.related,
        Tracked::New(begins) if begins.info().state == CtState::Related => &states.related,
        Tracked::Flow { .. } | Tracked::New(_) => &states.new,
        Tracked::Related { .. } | Tracked::RelatedUntracked(_) => &states.related,
        Tracked::Untracked => &states.untracked,
        Tracked::Invalid => &states.invalid,
        Tracked::Drop(_) => return,
    };
    counter.add(1);
}
