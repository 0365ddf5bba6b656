//! Tells a host of a nearer router on its own link, if the operator wants that (RFC 1812 section 5.2.7.2). The packet
//! itself goes on. IPv6's redirects are neighbour discovery's and are not sent.

use std::net::IpAddr;

use sluice_wire::build::IcmpError;
use sluice_wire::icmp;

use crate::stage::answer;
use crate::transit::Transit;
use crate::verdict::DropReason;

/// Sends a redirect for a packet that leaves by the interface it came in by.
pub(crate) fn tell(t: &mut Transit<'_, '_, '_>) {
    if !t.bench.world.settings.icmp.redirects {
        return;
    }
    let Some(key) = t.neighbour() else { return };
    let source = t.packet.addrs.src();
    let same_link = t.ingress() == Some(key.interface)
        && t.egress_interface().is_some_and(|interface| interface.is_on_link(source));
    if let (true, IpAddr::V4(gateway), IpAddr::V4(_)) = (same_link, key.address, source) {
        let (kind, code) = (icmp::v4::REDIRECT, icmp::v4::REDIRECT_HOST);
        // Whether it could be told changes nothing for the packet.
        let _ = answer::error(t, IcmpError { kind, code, rest: gateway.to_bits() }, DropReason::NoRoute);
    }
}
