//! IPv4 options, which few packets have: refused, or filled in on the way out. IPv6's hop-by-hop options are read
//! before any rule, in [`crate::stage::admit`], as the kernel does.
//! Source: RFC 791 section 3.1, RFC 1812 section 5.3.13, RFC 7126; recordings `malformed/ip-options`.

use std::net::IpAddr;
use std::ops::ControlFlow;

use sluice_wire::build::IcmpError;
use sluice_wire::options::{self, Record};
use sluice_wire::{Addrs, Family};

use crate::pipeline::Step;
use crate::stage::answer;
use crate::transit::Transit;
use crate::verdict::{DropReason, Verdict};

/// Refuses source routes (RFC 7126 section 4.3), and answers options that do not parse.
pub(crate) fn check(t: &mut Transit<'_, '_, '_>) -> Step {
    if !t.packet.options || t.packet.family() != Family::V4 {
        return ControlFlow::Continue(());
    }
    match options::check_ipv4(t.packet, t.frame.bytes()) {
        Ok(asked) if asked.source_route => ControlFlow::Break(Verdict::Drop(DropReason::IpOptions)),
        Ok(_) => ControlFlow::Continue(()),
        Err(bad) => {
            let error = IcmpError::parameter_problem(Family::V4, 0, bad.pointer.into());
            ControlFlow::Break(answer::error(t, error, DropReason::IpOptions))
        }
    }
}

/// Writes the router's addresses and time where a packet that is forwarded asks for them.
pub(crate) fn fill(t: &mut Transit<'_, '_, '_>) {
    // The engine does not know the time of day; with this bit the stamp says that it is another clock's.
    const OTHER_CLOCK: u32 = 1 << 31;
    let (Some(ingress), Some(egress), Addrs::V4 { src, dst }) = (t.ingress(), t.egress(), t.packet.addrs)
    else {
        return;
    };
    if !t.packet.options {
        return;
    }
    let interfaces = &t.bench.world.interfaces;
    let outgoing = interfaces.source_for(egress.interface, IpAddr::V4(dst));
    let incoming = interfaces.source_for(ingress, IpAddr::V4(src));
    if let (Some(IpAddr::V4(outgoing)), Some(IpAddr::V4(incoming))) = (outgoing, incoming) {
        let milliseconds = t.bench.now.tick.0 | OTHER_CLOCK;
        options::fill_ipv4(t.packet, t.frame.bytes_mut(), &Record { outgoing, incoming, milliseconds });
    }
}
