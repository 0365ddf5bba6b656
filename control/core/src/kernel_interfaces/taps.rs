//! The taps that give the box's own sockets their traffic: one for each interface of `sluice.yaml` that has addresses,
//! named as it is, with its addresses (unless programs give it those) and the static routes over it.
//!
//! Routes carry a protocol number of our own, so that a reload replaces those and leaves alone what FRR or an
//! administrator put there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::LinkFlags;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteProtocol, RouteScope, RouteType,
};
use sluice_config::system::{Interface, Route, RouteTarget};
use sluice_config::{IpPrefix, System};

use super::links::{Link, Links, address_of};
use super::{KernelError, Tried, is_link_local, sysctl};

/// Free in rtnetlink(7) and in iproute2's rt_protos.
pub(super) const PROTOCOL: RouteProtocol = RouteProtocol::Other(83);

/// What the kernel calls an IPv6 route without a metric.
const IPV6_DEFAULT_METRIC: u32 = 1024;

/// The data plane resolves neighbours, detects duplicates and hears no router advertisements; the kernel, behind a link
/// without ARP, need not. `addr_gen_mode` 0 makes the same link-local address as the data plane's, from the MAC.
const SYSCTLS: [(&str, &str, &str); 17] = [
    ("ipv6", "accept_dad", "0"),
    ("ipv6", "accept_ra", "0"),
    ("ipv6", "accept_redirects", "0"),
    ("ipv6", "autoconf", "0"),
    ("ipv6", "router_solicitations", "0"),
    // Also the longest that the kernel waits before it takes a link-local address for its own.
    ("ipv6", "router_solicitation_delay", "0"),
    ("ipv6", "addr_gen_mode", "0"),
    // Reports of the groups of its own addresses are repeated at once, and not in the middle of what follows.
    ("ipv6", "mldv2_unsolicited_report_interval", "10"),
    ("ipv4", "igmpv3_unsolicited_report_interval", "10"),
    ("ipv6", "forwarding", "0"),
    ("ipv6", "disable_ipv6", "0"),
    ("ipv4", "forwarding", "0"),
    ("ipv4", "accept_redirects", "0"),
    ("ipv4", "secure_redirects", "0"),
    ("ipv4", "send_redirects", "0"),
    ("ipv4", "accept_source_route", "0"),
    ("ipv4", "arp_ignore", "8"),
];

/// With `addresses: kernel` the kernel hears router advertisements, as a host does.
const HOST_SYSCTLS: [(&str, &str, &str); 3] =
    [("ipv6", "accept_ra", "1"), ("ipv6", "autoconf", "1"), ("ipv6", "router_solicitations", "3")];

/// Sets all taps up as `system` has them.
///
/// # Errors
/// What the kernel refused.
pub(super) fn configure(links: &mut Links, system: &System) -> Result<(), KernelError> {
    let mut indexes = BTreeMap::new();
    for interface in &system.interfaces {
        if let Some(tap) = links.find(&interface.name).tried(|| interface.name.clone())? {
            configure_tap(links, tap, interface)?;
            indexes.insert(interface.name.as_str(), tap.index);
        }
    }
    configure_routes(links, system, &indexes)
}

/// Whether every tap has its link-local address, or no IPv6. What the kernel does not answer counts as settled.
pub(super) fn are_settled(links: &mut Links, system: &System) -> bool {
    system.interfaces.iter().all(|interface| {
        if !sysctl::read("ipv6", &interface.name, "disable_ipv6").is_ok_and(|disabled| disabled == "0") {
            return true;
        }
        let Ok(Some(tap)) = links.find(&interface.name) else { return true };
        links.addresses(tap.index).map_or(true, |list| list.iter().filter_map(address_of).any(is_link_local))
    })
}

fn configure_tap(links: &mut Links, tap: Link, interface: &Interface) -> Result<(), KernelError> {
    let name = &interface.name;
    let step = |what: &'static str| move || format!("tap {name}: {what}");
    // The driver brings a new tap up as the kernel's defaults have it: looking for duplicates of its link-local address,
    // for a second in which that cannot be used. IPv6 begins anew there, once the settings below are made.
    if sysctl::read("ipv6", name, "accept_dad").is_ok_and(|dad| dad != "0") {
        let _ = sysctl::write("ipv6", name, "disable_ipv6", "1");
    }
    let of_a_host = HOST_SYSCTLS.iter().filter(|_| interface.kernel_addresses);
    let others = SYSCTLS.iter().filter(|(_, key, _)| !of_a_host.clone().any(|(_, own, _)| own == key));
    for &(family, key, value) in of_a_host.clone().chain(others) {
        // A kernel built without IPv6, or without one of the settings, has nothing to set there.
        let _ = sysctl::write(family, name, key, value);
    }
    // The larger of this and that of all interfaces counts; strict would refuse what came in by another interface, which
    // is for rp_filter in sluice.yaml to decide. Loose is as far as it can be relaxed.
    let all = sysctl::read("ipv4", "all", "rp_filter").unwrap_or_default();
    let _ = sysctl::write("ipv4", name, "rp_filter", if all == "0" { "0" } else { "2" });
    links.set_mtu(tap.index, u32::from(interface.mtu)).tried(step("mtu"))?;
    links.set_flags(tap.index, LinkFlags::Noarp | LinkFlags::Up, true).tried(step("up"))?;
    let present = links.addresses(tap.index).tried(step("addresses"))?;
    for message in present {
        let prefix = address_of(&message).and_then(|ip| IpPrefix::new(ip, message.header.prefix_len));
        let leave = |own: IpPrefix| is_link_local(own.addr()) || interface.addresses.contains(&own);
        if !interface.kernel_addresses && prefix.is_some_and(|own| !leave(own)) {
            links.remove_address(message).tried(step("removing an address"))?;
        }
    }
    for address in &interface.addresses {
        let what = || format!("tap {name}: address {address}");
        links.add_address(address_message(tap.index, *address)).tried(what)?;
    }
    Ok(())
}

fn address_message(index: u32, prefix: IpPrefix) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(prefix.addr());
    message.header.prefix_len = prefix.len();
    message.header.index = index;
    message.header.flags = AddressHeaderFlags::Nodad;
    message.header.scope =
        if is_link_local(prefix.addr()) { AddressScope::Link } else { AddressScope::Universe };
    message.attributes.push(AddressAttribute::Local(prefix.addr()));
    message.attributes.push(AddressAttribute::Address(prefix.addr()));
    if let (IpAddr::V4(broadcast), true) = (prefix.last(), prefix.len() < 31) {
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    message
}

/// Destination, prefix length and metric: the kernel has one route for each.
type RouteKey = (IpAddr, u8, u32);

fn configure_routes(
    links: &mut Links,
    system: &System,
    taps: &BTreeMap<&str, u32>,
) -> Result<(), KernelError> {
    let mut ours = BTreeMap::new();
    let mut foreign = BTreeSet::new();
    for route in links.all_routes().tried(|| "reading routes".into())? {
        let key = key_of(&route);
        if route.header.protocol == PROTOCOL {
            ours.insert(key, route);
        } else {
            foreign.insert(key);
        }
    }
    let without = system.interfaces.iter().filter(|interface| interface.kernel_addresses);
    let addressless: BTreeSet<&str> = without.map(|interface| interface.name.as_str()).collect();
    for route in &system.routes {
        let Some(message) = route_message(route, taps, &addressless) else { continue };
        let key = key_of(&message);
        ours.remove(&key);
        if foreign.contains(&key) {
            tracing::warn!(to = %route.to, "the kernel has such a route already, the box's own traffic keeps to it");
            continue;
        }
        links.replace_route(message).tried(|| format!("route to {}", route.to))?;
    }
    for (key, route) in ours {
        links.remove_route(route).tried(|| format!("removing the route to {}/{}", key.0, key.1))?;
    }
    Ok(())
}

fn key_of(route: &RouteMessage) -> RouteKey {
    let unspecified: IpAddr = match route.header.address_family {
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => std::net::Ipv4Addr::UNSPECIFIED.into(),
    };
    let mut key = (unspecified, route.header.destination_prefix_length, 0);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => key.0 = (*ip).into(),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => key.0 = (*ip).into(),
            RouteAttribute::Priority(metric) => key.2 = *metric,
            _ => {}
        }
    }
    key
}

/// The kernel's form of a route; None for those that lead nowhere (the data plane refuses such packets itself) and those
/// over interfaces without a tap. Next hops over `addressless` taps are believed to be on their link.
fn route_message(
    route: &Route,
    taps: &BTreeMap<&str, u32>,
    addressless: &BTreeSet<&str>,
) -> Option<RouteMessage> {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.to.addr());
    message.header.destination_prefix_length = route.to.len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = PROTOCOL;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Destination(route_address(route.to.addr())));
    let metric = match route.to.addr() {
        IpAddr::V6(_) if route.metric == 0 => IPV6_DEFAULT_METRIC,
        _ => route.metric,
    };
    message.attributes.push(RouteAttribute::Priority(metric));
    match &route.target {
        RouteTarget::Dev(name) => {
            message.header.scope = RouteScope::Link;
            message.attributes.push(RouteAttribute::Oif(*taps.get(name.as_str())?));
        }
        RouteTarget::Via(hops) => {
            let mut ways = Vec::new();
            for hop in hops {
                let mut way = RouteNextHop::default();
                way.interface_index = *taps.get(hop.dev.as_str())?;
                way.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
                way.attributes.push(RouteAttribute::Gateway(route_address(hop.address)));
                if addressless.contains(hop.dev.as_str()) {
                    way.flags.insert(RouteNextHopFlags::Onlink);
                }
                ways.push(way);
            }
            match <[RouteNextHop; 1]>::try_from(ways) {
                Ok([way]) => {
                    if way.flags.contains(RouteNextHopFlags::Onlink) {
                        message.header.flags.insert(RouteFlags::Onlink);
                    }
                    message.attributes.push(RouteAttribute::Oif(way.interface_index));
                    message.attributes.extend(way.attributes);
                }
                Err(ways) => message.attributes.push(RouteAttribute::MultiPath(ways)),
            }
        }
        RouteTarget::Unreachable | RouteTarget::Prohibit | RouteTarget::Blackhole => return None,
    }
    Some(message)
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    }
}
