//! What programs on the box put on the taps: addresses of a DHCP client, routes of FRR or `ip route`.
//!
//! Read whole and compared, never followed change by change: a notification only says that it is time to look
//! ([`changes`]). Addresses are those of interfaces with `addresses: kernel`; routes are those of the main table that lead
//! over such taps, with `kernel_routes` over any. What the kernel makes of addresses by itself (connected routes), what
//! came from the system file, and what cannot be forwarded by here (tunnels, next hops of the other family) is left out.
//!
//! Source: rtnetlink(7), `include/uapi/linux/rtnetlink.h`.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHopFlags, RouteProtocol, RouteType,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use sluice_config::{IpPrefix, System};
use sluice_engine::ids::InterfaceId;
use sluice_engine::world::{Hop, Interface, Interfaces, Route, RouteKind};
use tokio::sync::Notify;

use super::links::{Links, address_of};
use super::taps::PROTOCOL;
use super::{KernelError, Tried, is_link_local};

/// What the taps have, as far as the router follows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    addresses: BTreeMap<InterfaceId, Vec<(IpAddr, u8)>>,
    routes: Vec<Route>,
}

impl Learned {
    /// Whether anything of this kind is followed.
    pub fn concerns(system: &System) -> bool {
        system.kernel_routes || system.interfaces.iter().any(|interface| interface.kernel_addresses)
    }

    /// Asks the kernel. Blocks for as long as it takes to read its main table.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(system: &System) -> Result<Learned, KernelError> {
        Learned::ask(system).tried(|| "addresses and routes of the kernel".into())
    }

    fn ask(system: &System) -> io::Result<Learned> {
        let mut learned = Learned::default();
        if !Learned::concerns(system) {
            return Ok(learned);
        }
        let mut links = Links::open()?;
        let mut taps = BTreeMap::new();
        for (id, interface) in (0..).map(InterfaceId).zip(&system.interfaces) {
            let Some(tap) = links.find(&interface.name)? else { continue };
            if interface.kernel_addresses {
                for message in links.addresses(tap.index)? {
                    learned.add_address(id, &message);
                }
            }
            if interface.kernel_addresses || system.kernel_routes {
                taps.insert(tap.index, id);
            }
        }
        let routes = links.all_routes()?;
        let followed = |message| route(message, &taps, system.kernel_routes);
        learned.routes.extend(routes.iter().filter_map(followed));
        Ok(learned)
    }

    /// Routes, in the kernel's order.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The same interfaces with the addresses that their taps have.
    pub fn on(&self, interfaces: &Interfaces) -> Interfaces {
        let list = interfaces.iter().map(|(id, interface)| match interface.kernel_addresses {
            true => Interface {
                addresses: self.addresses.get(&id).cloned().unwrap_or_default(),
                ..interface.clone()
            },
            false => interface.clone(),
        });
        Interfaces::new(list.collect())
    }

    /// One with a peer (`ip addr add A peer B`) is the address alone, and a route to the peer.
    fn add_address(&mut self, id: InterfaceId, message: &AddressMessage) {
        let Some(own) = address_of(message).filter(|own| !is_link_local(*own)) else { return };
        if flags(message).intersects(AddressFlags::Dadfailed | AddressFlags::Tentative) {
            return;
        }
        let len = message.header.prefix_len;
        let addresses = self.addresses.entry(id).or_default();
        match peer(message).filter(|peer| *peer != own).and_then(|peer| IpPrefix::new(peer, len)) {
            None => addresses.push((own, len)),
            Some(peer) => {
                addresses.push((own, if own.is_ipv4() { 32 } else { 128 }));
                let hop = Hop { interface: id, gateway: None, weight: 1 };
                self.routes.push(Route {
                    destination: peer.network(),
                    prefix_len: len,
                    kind: RouteKind::Unicast(vec![hop]),
                    metric: 0,
                });
            }
        }
    }
}

fn flags(message: &AddressMessage) -> AddressFlags {
    let found = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    found.unwrap_or(AddressFlags::empty())
}

fn peer(message: &AddressMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    })
}

/// A route of the kernel as the data plane has it; None for one that is not followed. `everywhere`: also those that lead
/// nowhere, which are over no tap.
fn route(message: &RouteMessage, taps: &BTreeMap<u32, InterfaceId>, everywhere: bool) -> Option<Route> {
    let header = &message.header;
    let ours = matches!(header.protocol, PROTOCOL | RouteProtocol::Kernel);
    if ours || table(message) != u32::from(RouteHeader::RT_TABLE_MAIN) || header.source_prefix_length != 0 {
        return None;
    }
    let mut route = Route {
        destination: match header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        },
        prefix_len: header.destination_prefix_length,
        kind: RouteKind::Blackhole,
        metric: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => route.destination = address(to)?,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Encap(_) | RouteAttribute::Via(_) => return None,
            _ => {}
        }
    }
    route.kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast(hops(message, taps)?),
        RouteType::Unreachable if everywhere => RouteKind::Unreachable,
        RouteType::Prohibit if everywhere => RouteKind::Prohibit,
        RouteType::BlackHole if everywhere => RouteKind::Blackhole,
        _ => return None,
    };
    Some(route)
}

/// Tables above 255 have their number in an attribute.
fn table(message: &RouteMessage) -> u32 {
    let number = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    number.unwrap_or(u32::from(message.header.table))
}

/// The ways of a route; None if one leads over something else than the taps, or none is alive.
fn hops(message: &RouteMessage, taps: &BTreeMap<u32, InterfaceId>) -> Option<Vec<Hop>> {
    let gateway = |attributes: &[RouteAttribute]| {
        attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Gateway(gateway) => address(gateway),
            _ => None,
        })
    };
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => hops.push(Hop {
                interface: *taps.get(index)?,
                gateway: gateway(&message.attributes),
                weight: 1,
            }),
            RouteAttribute::MultiPath(ways) => {
                for way in ways {
                    let unusable = way.attributes.iter().any(|attribute| {
                        matches!(attribute, RouteAttribute::Via(_) | RouteAttribute::Encap(_))
                    });
                    if unusable {
                        return None;
                    }
                    if way.flags.intersects(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown) {
                        continue;
                    }
                    hops.push(Hop {
                        interface: *taps.get(&way.interface_index)?,
                        gateway: gateway(&way.attributes),
                        weight: u16::from(way.hops) + 1,
                    });
                }
            }
            _ => {}
        }
    }
    (!hops.is_empty()).then_some(hops)
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

/// Says whenever addresses or routes of the kernel have changed. A thread of its own waits for that; it ends at the first
/// change that nobody wants to know of any more.
///
/// # Errors
/// No netlink, or no more files or threads.
pub fn changes() -> io::Result<Arc<Notify>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in [
        nix::libc::RTNLGRP_IPV4_IFADDR,
        nix::libc::RTNLGRP_IPV6_IFADDR,
        nix::libc::RTNLGRP_IPV4_ROUTE,
        nix::libc::RTNLGRP_IPV6_ROUTE,
    ] {
        socket.add_membership(group)?;
    }
    let told = Arc::new(Notify::new());
    let listener = Arc::downgrade(&told);
    let wait = move || {
        while changed(&socket) {
            match listener.upgrade() {
                Some(listener) => listener.notify_one(),
                None => return,
            }
        }
        tracing::error!("the kernel's addresses and routes are not followed any more");
    };
    std::thread::Builder::new().name("kernel-changes".into()).spawn(wait)?;
    Ok(told)
}

/// Waits for a notification, whatever it is; false when there will be none. That some were lost says the same as they.
fn changed(socket: &Socket) -> bool {
    let mut buffer = [0; 64];
    loop {
        match socket.recv(&mut &mut buffer[..], 0).map_err(|error| error.raw_os_error()) {
            Ok(_) | Err(Some(nix::libc::ENOBUFS)) => return true,
            Err(Some(nix::libc::EINTR)) => {}
            Err(_) => return false,
        }
    }
}
