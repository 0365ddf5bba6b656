//! Time to live and hop limit: a packet on its last hop is answered, and so is one with none left (RFC 1812 section
//! 5.3.1, RFC 8200 section 3). Before the filter, as in the kernel: a policy of drop does not hide the router.

use std::ops::ControlFlow;

use sluice_wire::build::IcmpError;
use sluice_wire::rewrite;

use crate::pipeline::Step;
use crate::stage::answer;
use crate::transit::Transit;
use crate::verdict::DropReason;

/// Answers a packet that may not be forwarded once more.
pub(crate) fn check(t: &mut Transit<'_, '_, '_>) -> Step {
    if t.packet.ttl > 1 {
        return ControlFlow::Continue(());
    }
    let error = IcmpError::ttl_exceeded(t.packet.family());
    ControlFlow::Break(answer::error(t, error, DropReason::TtlExceeded))
}

/// Counts this hop: what the filter and a rejected sender see from here on.
pub(crate) fn decrement(t: &mut Transit<'_, '_, '_>) {
    rewrite::decrement_ttl(t.frame.bytes_mut(), t.packet);
}
