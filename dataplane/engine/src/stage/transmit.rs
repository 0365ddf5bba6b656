//! Out to the next hop: its MAC address, the link header, and the verdict; or held while the address is asked for.
//! What leaves in pieces goes by the outbox, see [`crate::stage::pieces`].

use std::ops::ControlFlow;

use sluice_wire::build::IcmpError;
use sluice_wire::{MacAddr, destination};

use crate::frame::Outlet;
use crate::pipeline::End;
use crate::stage::link::LinkHeader;
use crate::stage::pieces::{self, Way};
use crate::stage::{answer, nat};
use crate::transit::{Egress, NextHop, Transit};
use crate::verdict::{DropReason, Verdict};
use crate::world::{NeighbourKey, NeighbourState};

/// Sends the packet to its next hop.
pub(crate) fn transmit(t: &mut Transit<'_, '_, '_>) -> End {
    let (Some(egress), Some(interface)) = (t.egress(), t.egress_interface()) else {
        return drop(DropReason::NoRoute);
    };
    t.frame.egress = Some(egress.interface);
    let (mac, outlet) = match station(t, egress) {
        Station::Known(mac) => (mac, Outlet::Wire(interface.port)),
        Station::Wanted(key) => {
            t.bench.out.resolve(key);
            (MacAddr::ZERO, Outlet::Hold(key))
        }
        Station::Failed => {
            nat::undo(t);
            let error = IcmpError::host_unreachable(t.packet.family());
            return ControlFlow::Break(answer::error(t, error, DropReason::NeighbourFailed));
        }
    };
    let link = LinkHeader::new(mac, interface.mac, interface.vlan);
    if t.in_pieces || t.shape.is_some() {
        let sent = pieces::send(t, Way { outlet, link, mtu: interface.mtu });
        return ControlFlow::Break(sent.map_or_else(Verdict::Drop, |()| Verdict::Copied));
    }
    if !link.write(t.frame, t.packet) {
        return drop(DropReason::NoBuffer);
    }
    ControlFlow::Break(match outlet {
        Outlet::Hold(key) => Verdict::Hold(key),
        _ => Verdict::Transmit(interface.port),
    })
}

/// What is known of the station that the packet is for.
enum Station {
    Known(MacAddr),
    Wanted(NeighbourKey),
    Failed,
}

fn station(t: &Transit<'_, '_, '_>, egress: Egress) -> Station {
    let address = match egress.next {
        NextHop::Given => return Station::Known(destination(t.frame.bytes())),
        NextHop::Group(mac) => return Station::Known(mac),
        NextHop::Neighbour(address) => address,
    };
    let key = NeighbourKey { interface: egress.interface, address };
    match t.bench.world.neighbours.get(&key) {
        Some(neighbour) => match neighbour.state {
            NeighbourState::Reachable(mac) => {
                neighbour.touch(t.bench.now.tick);
                Station::Known(mac)
            }
            NeighbourState::Failed => Station::Failed,
        },
        None => Station::Wanted(key),
    }
}

fn drop(reason: DropReason) -> End {
    ControlFlow::Break(Verdict::Drop(reason))
}
