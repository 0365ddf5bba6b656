//! To the box's own sockets by the tap of the interface, or, if it is neighbour discovery, to control, which keeps
//! the neighbours; router advertisements to the box where it is to find its addresses itself. Multicast and broadcast keep the MAC address that they came with. What came in fragments goes on in
//! fragments, since the tap takes no more than the link does.

use std::ops::ControlFlow;

use sluice_wire::{LinkCast, Transport, destination, icmp, source};

use crate::frame::Outlet;
use crate::pipeline::End;
use crate::stage::link::LinkHeader;
use crate::stage::pieces::{self, Way};
use crate::transit::{Destination, Sender, Transit};
use crate::verdict::{DropReason, Verdict};
use crate::world::Interface;

/// Hands the packet to the box.
pub(crate) fn deliver(t: &mut Transit<'_, '_, '_>) -> End {
    let Destination::Box(id) = t.destination else { return drop(DropReason::NotForUs) };
    let Some(interface) = t.bench.world.interfaces.get(id) else { return drop(DropReason::NotForUs) };
    if is_neighbour_discovery(t, interface) {
        if t.shape.is_some() || t.packet.fragment.is_fragment() {
            // RFC 6980: nobody needs fragments for it but to hide from filters.
            return drop(DropReason::NeighbourMessage);
        }
        return match t.bench.out.punt(id, t.frame.bytes()) {
            true => ControlFlow::Break(Verdict::Punt),
            false => drop(DropReason::PuntQueue),
        };
    }
    let bytes = t.ethernet();
    let station = match t.packet.cast {
        LinkCast::Unicast => interface.mac,
        LinkCast::Multicast | LinkCast::Broadcast => destination(bytes),
    };
    let header = LinkHeader::new(station, source(bytes), None);
    if t.shape.is_some() {
        let sent = pieces::send(t, Way { outlet: Outlet::Tap(id), link: header, mtu: interface.mtu });
        return ControlFlow::Break(sent.map_or_else(Verdict::Drop, |()| Verdict::Delivered(id)));
    }
    if !header.write(t.frame, t.packet) {
        return drop(DropReason::NoBuffer);
    }
    ControlFlow::Break(Verdict::Deliver(id))
}

/// Whether control answers it: RFC 4861's five messages, from the wire.
fn is_neighbour_discovery(t: &Transit<'_, '_, '_>, interface: &Interface) -> bool {
    let Transport::Icmpv6 { kind, .. } = t.packet.transport else { return false };
    let discovery = icmp::v6::ROUTER_SOLICITATION..=icmp::v6::REDIRECT;
    let for_the_box = interface.kernel_addresses && kind == icmp::v6::ROUTER_ADVERTISEMENT;
    matches!(t.sender, Sender::Wire(_)) && discovery.contains(&kind) && !for_the_box
}

fn drop(reason: DropReason) -> End {
    ControlFlow::Break(Verdict::Drop(reason))
}
