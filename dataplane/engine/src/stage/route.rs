//! Where does it go? To the box, to a next hop, or to no one (RFC 1812 section 5.2.4, RFC 4291).
//!
//! Groups and IPv6 link scope are not routed: a group is the box's or it is dropped, to another host's address of link
//! scope there is no route.

use std::net::IpAddr;
use std::ops::ControlFlow;

use sluice_wire::build::IcmpError;
use sluice_wire::{Addrs, Family, LinkCast, MacAddr, Martian, icmp, is_link_local, martian};

use crate::pipeline::Step;
use crate::stage::{answer, nat64};
use crate::trace::Step as Told;
use crate::transit::{Destination, Egress, NextHop, Sender, Transit};
use crate::verdict::{DropReason, Verdict};
use crate::world::{Hop, Target};

/// Routes a packet from the wire.
pub(crate) fn input(t: &mut Transit<'_, '_, '_>) -> Step {
    let Some(ingress) = t.ingress() else { return drop(DropReason::NoRoute) };
    match (martian(&t.packet.addrs), t.packet.family()) {
        (Some(Martian::Source), Family::V4) => return drop(DropReason::MartianSource),
        (Some(Martian::Destination), Family::V4) => return drop(DropReason::MartianDestination),
        _ => {}
    }
    let destination = t.packet.addrs.dst();
    let world = t.bench.world;
    if destination.is_multicast() {
        let ours = world.interfaces.get(ingress).is_some_and(|interface| interface.listens_to(destination));
        return if ours { to_box(t, ingress) } else { drop(DropReason::NotForUs) };
    }
    if let Some(addrs) = nat64::towards(t, destination) {
        return to_ipv4(t, &addrs);
    }
    if nat64::is_lent(world, destination) {
        return drop(DropReason::Nat64Unmapped);
    }
    match world.fib.route(&t.packet.addrs) {
        Some(Target::Local | Target::Broadcast) => to_box(t, ingress),
        _ if t.packet.cast != LinkCast::Unicast => drop(DropReason::NotForUs),
        _ if is_link_local(destination) => nowhere(t, None),
        Some(Target::Via(hop)) => onward(t, hop, destination),
        other => nowhere(t, other),
    }
}

/// Routes what goes to an IPv4 host. Not to the router itself, which speaks IPv6; to a pool, once, back to where it came from.
fn to_ipv4(t: &mut Transit<'_, '_, '_>, addrs: &Addrs) -> Step {
    if nat64::is_of_pool(t.bench.world, addrs.dst()) {
        let Some(interface) = t.ingress().filter(|_| !nat64::is_from_ipv4(t)) else {
            return drop(DropReason::Nat64Unmapped);
        };
        let next = NextHop::Neighbour(addrs.dst());
        t.destination = Destination::Onward(Egress { interface, next });
        return ControlFlow::Continue(());
    }
    match t.bench.world.fib.route(addrs) {
        Some(Target::Via(hop)) => onward(t, hop, addrs.dst()),
        Some(Target::Local | Target::Broadcast) => nowhere(t, None),
        other => nowhere(t, other),
    }
}

/// Routes what the box or the router itself sends.
pub(crate) fn output(t: &mut Transit<'_, '_, '_>) -> Step {
    let destination = t.packet.addrs.dst();
    if t.destination != Destination::Unknown {
        // Control names the link and the station on it; an answer to the box goes to its tap.
        return ControlFlow::Continue(());
    }
    if let Sender::Box(tap) = t.sender
        && let Some(next) = on_link_of_tap(destination)
    {
        t.destination = Destination::Onward(Egress { interface: tap, next });
        return ControlFlow::Continue(());
    }
    let addrs = nat64::towards(t, destination).unwrap_or(t.packet.addrs);
    match (t.bench.world.fib.route(&addrs), t.sender) {
        (Some(Target::Via(hop)), _) => onward(t, hop, addrs.dst()),
        (Some(Target::Broadcast), Sender::Box(tap)) => {
            let next = NextHop::Group(MacAddr::BROADCAST);
            t.destination = Destination::Onward(Egress { interface: tap, next });
            ControlFlow::Continue(())
        }
        (Some(Target::Blackhole), _) => drop(DropReason::Blackhole),
        (Some(Target::Unreachable | Target::Prohibit), _) => drop(DropReason::RouteUnreachable),
        _ => drop(DropReason::NoRoute),
    }
}

/// The next hop of an address that is on whatever link the box chose.
fn on_link_of_tap(destination: IpAddr) -> Option<NextHop> {
    match destination {
        IpAddr::V4(v4) if v4.is_multicast() => Some(NextHop::Group(MacAddr::multicast_v4(v4))),
        IpAddr::V6(v6) if v6.is_multicast() => Some(NextHop::Group(MacAddr::multicast_v6(v6))),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(NextHop::Neighbour(destination)),
        _ => None,
    }
}

fn to_box(t: &mut Transit<'_, '_, '_>, ingress: crate::ids::InterfaceId) -> Step {
    t.destination = Destination::Box(ingress);
    t.bench.note(Told::ToBox(ingress));
    ControlFlow::Continue(())
}

fn onward(t: &mut Transit<'_, '_, '_>, hop: Hop, destination: IpAddr) -> Step {
    let (interface, next) = (hop.interface, hop.gateway.unwrap_or(destination));
    t.destination = Destination::Onward(Egress { interface, next: NextHop::Neighbour(next) });
    t.bench.note(Told::Onward { interface, next: Some(next) });
    ControlFlow::Continue(())
}

/// No way on: answers as the kernel does, whose unreachable routes are "no route" in IPv6.
fn nowhere(t: &mut Transit<'_, '_, '_>, target: Option<Target>) -> Step {
    let family = t.packet.family();
    let (error, reason) = match (target, &t.packet.addrs) {
        (Some(Target::Blackhole), _) => return drop(DropReason::Blackhole),
        (Some(Target::Prohibit), _) => (IcmpError::admin_prohibited(family), DropReason::RouteUnreachable),
        (Some(_), Addrs::V4 { .. }) => (IcmpError::host_unreachable(family), DropReason::RouteUnreachable),
        (Some(_), Addrs::V6 { .. }) => {
            (IcmpError::new(icmp::v6::UNREACHABLE, icmp::v6::NO_ROUTE), DropReason::RouteUnreachable)
        }
        (None, _) => (IcmpError::no_route(family), DropReason::NoRoute),
    };
    ControlFlow::Break(answer::error(t, error, reason))
}

fn drop(reason: DropReason) -> Step {
    ControlFlow::Break(Verdict::Drop(reason))
}
