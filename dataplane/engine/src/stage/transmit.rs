//! Out to the next hop: its MAC address, the link header, and the verdict; or held while the address is asked for.
//! A packet too long for the link leaves in pieces by the outbox (IPv4 without Don't Fragment, RFC 791).

use std::ops::ControlFlow;

use sluice_wire::build::IcmpError;
use sluice_wire::split::Split;
use sluice_wire::{MacAddr, destination};

use crate::frame::Outlet;
use crate::pipeline::End;
use crate::stage::answer;
use crate::stage::link::LinkHeader;
use crate::stage::settle;
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
            let error = IcmpError::host_unreachable(t.packet.family());
            return ControlFlow::Break(answer::error(t, error, DropReason::NeighbourFailed));
        }
    };
    if !LinkHeader::new(mac, interface.mac, interface.vlan).write(t.frame, t.packet) {
        return drop(DropReason::NoBuffer);
    }
    ControlFlow::Break(match outlet {
        _ if t.in_pieces => pieces(t, outlet, interface.mtu),
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

/// Sends the packet as fragments. One that finds no buffer makes the datagram useless, so the rest is not sent.
fn pieces(t: &mut Transit<'_, '_, '_>, outlet: Outlet, mtu: u16) -> Verdict {
    let bytes = t.frame.bytes();
    let Some(split) = Split::of(t.packet, bytes, 0) else { return Verdict::Drop(DropReason::TooBig) };
    for piece in split.pieces(mtu) {
        let length = usize::from(t.packet.l4) + usize::from(piece.1);
        let Some(room) = t.bench.out.frame(outlet, length) else {
            return Verdict::Drop(DropReason::NoBuffer);
        };
        if split.write(room, piece).is_err() {
            return Verdict::Drop(DropReason::TooBig);
        }
        if let Outlet::Wire(_) = outlet {
            settle::piece(t.bench.counters, t.frame.egress, length);
        }
    }
    Verdict::Copied
}

fn drop(reason: DropReason) -> End {
    ControlFlow::Break(Verdict::Drop(reason))
}
