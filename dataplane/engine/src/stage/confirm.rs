//! The last hook: a flow enters the table only now, when no rule has dropped its first packet.

use std::ops::ControlFlow;

use crate::conntrack::{CtState, Direction, Tracked};
use crate::pipeline::Step;
use crate::transit::Transit;
use crate::verdict::Verdict;

/// Enters a new flow.
pub(crate) fn confirm(t: &mut Transit<'_, '_, '_>) -> Step {
    match t.tracked.take() {
        Some(Tracked::New(pending)) => {
            let settings = &t.bench.world.settings.conntrack;
            match t.bench.conntrack.confirm(t.bench.now, settings, pending) {
                Ok(flow) => {
                    t.tracked =
                        Some(Tracked::Flow { flow, direction: Direction::Original, state: CtState::New });
                    ControlFlow::Continue(())
                }
                Err(reason) => ControlFlow::Break(Verdict::Drop(reason)),
            }
        }
        other => {
            t.tracked = other;
            ControlFlow::Continue(())
        }
    }
}
