//! From the system file to the engine's interfaces and routes.

use sluice_config::System;
use sluice_config::system::{Interface as Described, RouteTarget, RpFilter as Asked};
use sluice_engine::ids::PortId;
use sluice_engine::world::{Hop, Interface, Interfaces, Route, RouteKind, RpFilter};
use sluice_wire::MacAddr;

use crate::Names;

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
