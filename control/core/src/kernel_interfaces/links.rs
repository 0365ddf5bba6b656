//! Links, addresses and routes of the kernel by rtnetlink (rtnetlink(7)).

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteProtocol,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::Netlink;

/// What is looked at of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The kernel's number for it.
    pub(super) index: u32,
    /// Up, as an administrator sets it.
    pub(super) up: bool,
    /// Receives all multicast.
    pub(super) allmulti: bool,
    /// Largest IP packet in bytes.
    pub(super) mtu: u32,
}

/// The kernel's links, addresses and routes in the namespace of the process.
pub(super) struct Links {
    netlink: Netlink,
}

impl Links {
    /// Opens a socket.
    ///
    /// # Errors
    /// No more files, or no netlink.
    pub(super) fn open() -> io::Result<Links> {
        Ok(Links { netlink: Netlink::open(NETLINK_ROUTE)? })
    }

    /// The link of that name; None if there is none.
    ///
    /// # Errors
    /// Other than that the link does not exist.
    pub(super) fn find(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut ask = LinkMessage::default();
        ask.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let answers = match self.netlink.request(RouteNetlinkMessage::GetLink(ask), 0) {
            Err(e) if e.raw_os_error() == Some(nix::libc::ENODEV) => return Ok(None),
            answers => answers?,
        };
        Ok(answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(Link {
                index: link.header.index,
                up: link.header.flags.contains(LinkFlags::Up),
                allmulti: link.header.flags.contains(LinkFlags::Allmulti),
                mtu: link.attributes.iter().find_map(mtu_of).unwrap_or(0),
            }),
            _ => None,
        }))
    }

    /// Sets and clears flags of a link.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn set_flags(&mut self, index: u32, flags: LinkFlags, on: bool) -> io::Result<()> {
        let mut change = LinkMessage::default();
        change.header.index = index;
        change.header.change_mask = flags;
        change.header.flags = if on { flags } else { LinkFlags::empty() };
        self.netlink.request(RouteNetlinkMessage::NewLink(change), 0).map(drop)
    }

    /// Sets a link's MTU.
    ///
    /// # Errors
    /// The device cannot.
    pub(super) fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        let mut change = LinkMessage::default();
        change.header.index = index;
        change.attributes.push(LinkAttribute::Mtu(mtu));
        self.netlink.request(RouteNetlinkMessage::NewLink(change), 0).map(drop)
    }

    /// All addresses of a link, in the kernel's order.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn addresses(&mut self, index: u32) -> io::Result<Vec<AddressMessage>> {
        let answers = self.netlink.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        let addresses = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(address) if address.header.index == index => Some(address),
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// Adds an address; one that is there already is no error.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn add_address(&mut self, address: AddressMessage) -> io::Result<()> {
        let order = RouteNetlinkMessage::NewAddress(address);
        exists_is_fine(self.netlink.request(order, NLM_F_CREATE | NLM_F_EXCL)).map(drop)
    }

    /// Removes an address.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn remove_address(&mut self, address: AddressMessage) -> io::Result<()> {
        self.netlink.request(RouteNetlinkMessage::DelAddress(address), 0).map(drop)
    }

    /// Routes over a link that someone set: not those that the kernel makes of addresses.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn routes(&mut self, index: u32) -> io::Result<Vec<RouteMessage>> {
        let set =
            |route: &RouteMessage| route.header.protocol != RouteProtocol::Kernel && uses_link(route, index);
        Ok(self.all_routes()?.into_iter().filter(set).collect())
    }

    /// All routes of both families but those of the local table.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn all_routes(&mut self) -> io::Result<Vec<RouteMessage>> {
        const LOCAL: u8 = 255;
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut ask = RouteMessage::default();
            ask.header.address_family = family;
            let answers = self.netlink.dump(RouteNetlinkMessage::GetRoute(ask))?;
            routes.extend(answers.into_iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) if route.header.table != LOCAL => Some(route),
                _ => None,
            }));
        }
        Ok(routes)
    }

    /// Adds a route; false if the kernel has one to the same destination with the same metric.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn add_route(&mut self, mut route: RouteMessage) -> io::Result<bool> {
        clear_dead(&mut route);
        let order = RouteNetlinkMessage::NewRoute(route);
        Ok(exists_is_fine(self.netlink.request(order, NLM_F_CREATE | NLM_F_EXCL))?.is_some())
    }

    /// Adds a route, or puts it in the place of one to the same destination with the same metric.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn replace_route(&mut self, route: RouteMessage) -> io::Result<()> {
        self.netlink.request(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }

    /// Removes a route.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn remove_route(&mut self, mut route: RouteMessage) -> io::Result<()> {
        clear_dead(&mut route);
        self.netlink.request(RouteNetlinkMessage::DelRoute(route), 0).map(drop)
    }
}

/// The address of a dumped message: `Local` where there is one, which for IPv4 is the interface's own.
pub(super) fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    })
}

fn mtu_of(attribute: &LinkAttribute) -> Option<u32> {
    match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    }
}

fn exists_is_fine<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(e) if e.raw_os_error() == Some(nix::libc::EEXIST) => Ok(None),
        other => other.map(Some),
    }
}

fn uses_link(route: &RouteMessage, index: u32) -> bool {
    route.attributes.iter().any(|attribute| match attribute {
        RouteAttribute::Oif(oif) => *oif == index,
        RouteAttribute::MultiPath(hops) => hops.iter().any(|hop| hop.interface_index == index),
        _ => false,
    })
}

/// A dump says of a next hop whether its link is down; the kernel refuses to be told.
fn clear_dead(route: &mut RouteMessage) {
    route.header.flags.remove(RouteFlags::Dead | RouteFlags::Linkdown);
    for attribute in &mut route.attributes {
        if let RouteAttribute::MultiPath(hops) = attribute {
            for hop in hops {
                hop.flags.remove(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown);
            }
        }
    }
}
