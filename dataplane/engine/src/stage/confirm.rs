//! The last hook: a flow enters the table only now, when no rule has dropped its first packet.

use std::ops::ControlFlow;

use crate::conntrack::{CtState, Direction};
use crate::pipeline::Step;
use crate::trace::Step as Told;
use crate::transit::{Destination, InFlow, Transit};
use crate::verdict::{DropReason, Verdict};

/// Enters a new flow.
#[inline]
pub(crate) fn confirm(t: &mut Transit<'_, '_, '_>) -> Step {
    if t.begins.is_none() {
        return ControlFlow::Continue(());
    }
    enter(t)
}

fn enter(t: &mut Transit<'_, '_, '_>) -> Step {
    let Some(pending) = t.begins.take() else { return ControlFlow::Continue(()) };
    if pending.is_reserved() && t.ingress().is_some() && matches!(t.destination, Destination::Onward(_)) {
        // To an address of the router, and yet not for it: what is kept for its own traffic is not for this.
        t.bench.conntrack.abandon(pending);
        t.bench.counters.conntrack.drop.add(1);
        return ControlFlow::Break(Verdict::Drop(DropReason::ConntrackFull));
    }
    let settings = &t.bench.world.settings.conntrack;
    match t.bench.conntrack.confirm(t.bench.now, settings, pending) {
        Ok(flow) => {
            t.flow = Some(InFlow { flow, direction: Direction::Original, state: CtState::New });
            t.bench.note(Told::Entered);
            ControlFlow::Continue(())
        }
        Err(reason) => ControlFlow::Break(Verdict::Drop(reason)),
    }
}
