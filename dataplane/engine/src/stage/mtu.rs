//! Does it fit the next link? What does not is answered (IPv6, and IPv4 with Don't Fragment) or marked to be sent in
//! pieces. Source: RFC 1812 section 4.2.2.7, RFC 1191, RFC 8200 section 5.

use std::ops::ControlFlow;

use sluice_wire::Family;
use sluice_wire::build::IcmpError;

use crate::pipeline::Step;
use crate::stage::{answer, nat64};
use crate::transit::Transit;
use crate::verdict::DropReason;

/// The smallest MTU of an IPv6 link, which no error tells to go below. Source: RFC 8200 section 5.
const SMALLEST_V6: u16 = 1280;

/// Compares the packet's length with the MTU of the link that it leaves by.
pub(crate) fn check(t: &mut Transit<'_, '_, '_>) -> Step {
    let Some(mtu) = t.egress_interface().map(|interface| interface.mtu) else {
        return ControlFlow::Continue(());
    };
    if nat64::crosses(t) {
        return check_as_ipv4(t, mtu);
    }
    if t.packet.length() <= mtu {
        return ControlFlow::Continue(());
    }
    let told = match t.packet.family() {
        // It came in fragments, which is how it leaves, if each of them fits.
        _ if t.shape.is_some_and(|shape| shape.largest <= mtu) => return ControlFlow::Continue(()),
        // Of IPv6, what came as IPv4.
        _ if !t.packet.dont_fragment => {
            t.in_pieces = true;
            return ControlFlow::Continue(());
        }
        Family::V4 => mtu,
        Family::V6 => mtu.max(SMALLEST_V6),
    };
    let error = IcmpError::too_big(t.packet.family(), told);
    ControlFlow::Break(answer::error(t, error, DropReason::TooBig))
}

/// Of a packet that leaves as IPv4. IPv6 knows no MTU below its smallest; so what is no longer is cut.
/// Source: RFC 7915 sections 5.1 and 1.4.
fn check_as_ipv4(t: &mut Transit<'_, '_, '_>, mtu: u16) -> Step {
    let length = nat64::length_as_ipv4(t.packet);
    let shorter = t.packet.length().saturating_sub(length);
    if length <= mtu || t.shape.is_some() {
        return ControlFlow::Continue(());
    }
    if t.packet.length() <= SMALLEST_V6 {
        t.in_pieces = true;
        return ControlFlow::Continue(());
    }
    let error = IcmpError::too_big(Family::V6, mtu.saturating_add(shorter).max(SMALLEST_V6));
    ControlFlow::Break(answer::error(t, error, DropReason::TooBig))
}
