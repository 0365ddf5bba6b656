//! From the system file to the engine's interfaces and routes.

use std::net::IpAddr;

use sluice_config::System;
use sluice_config::system::{Interface as Described, RouteTarget, RpFilter as Asked};
use sluice_engine::ids::PortId;
use sluice_engine::world::{Fib, Hop, Interface, Interfaces, Route, RouteKind, RpFilter};
use sluice_wire::MacAddr;

use crate::Names;

/// What a system file says of interfaces and routes, without asking devices.
#[derive(Debug)]
pub struct Surroundings {
    /// The box's interfaces, each on a port of its own.
    pub interfaces: Interfaces,
    /// The routing table.
    pub fib: Fib,
}

impl Surroundings {
    /// What this file says. Devices are not asked: link-local addresses derived from their MACs are not known.
    pub fn new(system: &System) -> Surroundings {
        let mut ports = 0..;
        let interfaces = interfaces(system, |interface| {
            (PortId(ports.next().unwrap_or_default()), interface.mac.unwrap_or(MacAddr::ZERO))
        });
        let fib = Fib::new(&routes(system), &interfaces);
        Surroundings { interfaces, fib }
    }
}

/// The interfaces in the order of the file, which is that of their ids. `link` tells the port that an interface is on
/// and its MAC address, which only the data plane knows.
pub fn interfaces(system: &System, mut link: impl FnMut(&Described) -> (PortId, MacAddr)) -> Interfaces {
    let list = system.interfaces.iter().map(|described| {
        let (port, mac) = link(described);
        Interface {
            name: described.name.clone(),
            port,
            vlan: described.vlan.map(|vlan| vlan.get()),
            mac,
            mtu: described.mtu,
            addresses: described.addresses.iter().map(|own| (own.addr(), own.len())).collect(),
            kernel_addresses: described.kernel_addresses,
            groups: Vec::new(),
            rp_filter: match described.rp_filter {
                Asked::Off => RpFilter::Off,
                Asked::Loose => RpFilter::Loose,
                Asked::Strict => RpFilter::Strict,
            },
        }
    });
    Interfaces::new(list.collect())
}

/// Interfaces as a policy names them where there is no system file, with at most one address of the router's.
pub fn as_given(names: &Names, own: Option<IpAddr>) -> Interfaces {
    let mut names: Vec<_> = names.iter().collect();
    names.sort_by_key(|(_, id)| *id);
    let unicast = own.filter(|own| !own.is_unspecified() && !own.is_multicast());
    let addresses = unicast.map(|own| (own, if own.is_ipv4() { 32 } else { 128 }));
    let list = names.into_iter().zip(0..).map(|((name, _), port)| Interface {
        name: name.to_owned(),
        port: PortId(port),
        vlan: None,
        mac: MacAddr::ZERO,
        mtu: u16::MAX,
        addresses: addresses.into_iter().collect(),
        groups: Vec::new(),
        kernel_addresses: false,
        rp_filter: RpFilter::Off,
    });
    Interfaces::new(list.collect())
}

/// The static routes. One by an interface that there is not is left out; the system file has been checked for that.
pub fn routes(system: &System) -> Vec<Route> {
    let names = Names::of(system);
    let hop =
        |name: &str, gateway, weight| names.get(name).map(|interface| Hop { interface, gateway, weight });
    let route = |route: &sluice_config::system::Route| {
        let kind = match &route.target {
            RouteTarget::Via(hops) => RouteKind::Unicast(
                hops.iter().filter_map(|next| hop(&next.dev, Some(next.address), next.weight)).collect(),
            ),
            RouteTarget::Dev(name) => RouteKind::Unicast(hop(name, None, 1).into_iter().collect()),
            RouteTarget::Unreachable => RouteKind::Unreachable,
            RouteTarget::Prohibit => RouteKind::Prohibit,
            RouteTarget::Blackhole => RouteKind::Blackhole,
        };
        let leads_nowhere = matches!(&kind, RouteKind::Unicast(hops) if hops.is_empty());
        (!leads_nowhere).then(|| Route {
            destination: route.to.network(),
            prefix_len: route.to.len(),
            kind,
            metric: route.metric,
        })
    };
    system.routes.iter().filter_map(route).collect()
}
