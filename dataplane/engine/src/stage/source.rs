//! May this source be believed? Addresses that cannot be one (RFC 1812 section 5.3.7), the router's own coming from
//! outside, and the reverse path filter (RFC 3704). Behind the route, whose answer it is compared with, and so
//! behind the tracker; for IPv6 the kernel looks at impossible addresses first of all, see
//! [`crate::stage::admit`].

use std::net::IpAddr;
use std::ops::ControlFlow;

use sluice_wire::build::IcmpError;
use sluice_wire::{Addrs, icmp};

use crate::pipeline::Step;
use crate::stage::{answer, nat64};
use crate::transit::{Destination, Transit};
use crate::verdict::{DropReason, Verdict};
use crate::world::{AddressKind, RpFilter};

/// Checks the source of a packet from the wire.
pub(crate) fn check(t: &mut Transit<'_, '_, '_>) -> Step {
    let forwarded = matches!(t.destination, Destination::Onward(_));
    match t.packet.addrs {
        Addrs::V4 { src, .. } if t.bench.world.interfaces.kind_v4(src) == AddressKind::Local => {
            return drop(DropReason::MartianSource);
        }
        Addrs::V6 { src, .. } if forwarded && src.is_unspecified() => return drop(DropReason::MartianSource),
        Addrs::V6 { src, .. } if forwarded && src.is_unicast_link_local() => {
            // RFC 4291 section 2.5.6, RFC 4443 section 3.1.
            let error = IcmpError::new(icmp::v6::UNREACHABLE, icmp::v6::BEYOND_SCOPE);
            return ControlFlow::Break(answer::error(t, error, DropReason::MartianSource));
        }
        // A hairpin: looked at when it came in, and nobody outside can say to be one.
        Addrs::V6 { src, .. } if nat64::is_lent(t.bench.world, src.into()) => {
            return ControlFlow::Continue(());
        }
        Addrs::V6 { src, .. } => {
            let host = nat64::host(t.bench.world, src.into());
            if host.is_ipv4() && t.bench.world.interfaces.kind(host) == AddressKind::Local {
                return drop(DropReason::MartianSource);
            }
        }
        Addrs::V4 { .. } => {}
    }
    reverse_path(t)
}

fn reverse_path(t: &Transit<'_, '_, '_>) -> Step {
    let Some(ingress) = t.ingress() else { return ControlFlow::Continue(()) };
    let world = t.bench.world;
    let interface = world.interfaces.get(ingress);
    let by = match interface.map_or(RpFilter::Off, |interface| interface.rp_filter) {
        RpFilter::Off => return ControlFlow::Continue(()),
        RpFilter::Loose => None,
        RpFilter::Strict => Some(ingress),
    };
    let source = nat64::host(world, t.packet.addrs.src());
    let of_this_link = match source {
        IpAddr::V4(v4) => v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_unicast_link_local(),
    };
    if of_this_link || world.fib.reaches(source, by) {
        ControlFlow::Continue(())
    } else {
        drop(DropReason::ReversePath)
    }
}

fn drop(reason: DropReason) -> Step {
    ControlFlow::Break(Verdict::Drop(reason))
}
