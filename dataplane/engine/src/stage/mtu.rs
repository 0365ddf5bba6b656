//! Does it fit the next link? What does not is answered (IPv6, and IPv4 with Don't Fragment) or marked to be sent in
//! pieces. Source: RFC 1812 section 4.2.2.7, RFC 1191, RFC 8200 section 5.

use std::ops::ControlFlow;

use sluice_wire::Family;
use sluice_wire::build::IcmpError;

use crate::pipeline::Step;
use crate::stage::answer;
use crate::transit::Transit;
use crate::verdict::DropReason;

/// The smallest MTU of an IPv6 link, which no error tells to go below. Source: RFC 8200 section 5.
const SMALLEST_V6: u16 = 1280;

/// Compares the packet's length with the MTU of the link that it leaves by.
pub(crate) fn check(t: &mut Transit<'_, '_, '_>) -> Step {
    let Some(mtu) = t.egress_interface().map(|interface| interface.mtu) else {
        return ControlFlow::Continue(());
    };
    if t.packet.length() <= mtu {
        return ControlFlow::Continue(());
    }
    let told = match t.packet.family() {
        // It came in fragments, which is how it leaves, if each of them fits.
        _ if t.shape.is_some_and(|shape| shape.largest <= mtu) => return ControlFlow::Continue(()),
        Family::V4 if !t.packet.dont_fragment => {
            t.in_pieces = true;
            return ControlFlow::Continue(());
        }
        Family::V4 => mtu,
        Family::V6 => mtu.max(SMALLEST_V6),
    };
    let error = IcmpError::too_big(t.packet.family(), told);
    ControlFlow::Break(answer::error(t, error, DropReason::TooBig))
}
