//! To the box's own sockets by the tap of the interface, or, if it is neighbour discovery, to control, which keeps
//! the neighbours. Multicast and broadcast keep the MAC address that they came with.

use std::ops::ControlFlow;

use sluice_wire::{LinkCast, Transport, destination, icmp, source};

use crate::pipeline::End;
use crate::stage::link::LinkHeader;
use crate::transit::{Destination, Sender, Transit};
use crate::verdict::{DropReason, Verdict};

/// Hands the packet to the box.
pub(crate) fn deliver(t: &mut Transit<'_, '_, '_>) -> End {
    let Destination::Box(id) = t.destination else { return drop(DropReason::NotForUs) };
    let Some(interface) = t.bench.world.interfaces.get(id) else { return drop(DropReason::NotForUs) };
    if is_neighbour_discovery(t) {
        return match t.bench.out.punt(id, t.frame.bytes()) {
            true => ControlFlow::Break(Verdict::Punt),
            false => drop(DropReason::PuntQueue),
        };
    }
    let bytes = t.frame.bytes();
    let station = match t.packet.cast {
        LinkCast::Unicast => interface.mac,
        LinkCast::Multicast | LinkCast::Broadcast => destination(bytes),
    };
    let header = LinkHeader::new(station, source(bytes), None);
    if !header.write(t.frame, t.packet) {
        return drop(DropReason::NoBuffer);
    }
    ControlFlow::Break(Verdict::Deliver(id))
}

/// Whether control answers it: RFC 4861's five messages, from the wire.
fn is_neighbour_discovery(t: &Transit<'_, '_, '_>) -> bool {
    let discovery = icmp::v6::ROUTER_SOLICITATION..=icmp::v6::REDIRECT;
    let from_wire = matches!(t.sender, Sender::Wire(_));
    from_wire && matches!(t.packet.transport, Transport::Icmpv6 { kind, .. } if discovery.contains(&kind))
}

fn drop(reason: DropReason) -> End {
    ControlFlow::Break(Verdict::Drop(reason))
}
