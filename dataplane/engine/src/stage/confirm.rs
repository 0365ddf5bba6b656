//! The last hook: a flow enters the table only now, when no rule has dropped its first packet.

use std::ops::ControlFlow;

use crate::conntrack::{CtState, Direction};
use crate::pipeline::Step;
use crate::transit::{InFlow, Transit};
use crate::verdict::Verdict;

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
    let settings = &t.bench.world.settings.conntrack;
    match t.bench.conntrack.confirm(t.bench.now, settings, pending) {
        Ok(flow) => {
            t.flow = Some(InFlow { flow, direction: Direction::Original, state: CtState::New });
            ControlFlow::Continue(())
        }
        Err(reason) => ControlFlow::Break(Verdict::Drop(reason)),
    }
}
