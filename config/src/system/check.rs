//! Checks of the system file that need several entries: names, devices and addresses used twice, next hops and
//! neighbours that are on no link.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use sluice_wire::is_link_local;

use super::decode::RawSystem;
use super::route::RawRoute;
use super::{Device, Interface, Neighbour, Route, RouteTarget, System};
use crate::decode::{Reader, nearest};
use crate::source::Span;

/// Checks the entries against each other, and finds the interfaces of next hops and neighbours.
pub(super) fn system(reader: &mut Reader<'_>, raw: RawSystem) -> System {
    let RawSystem { mut system, routes } = raw;
    devices(reader, &system.interfaces);
    addresses(reader, &system.interfaces);
    system.routes = self::routes(reader, &system.interfaces, routes);
    let neighbours = std::mem::take(&mut system.neighbours);
    system.neighbours = self::neighbours(reader, &system.interfaces, neighbours);
    system
}

/// The kernel's link that a device is or makes, whose name no interface can have: the tap for local traffic needs it.
fn link_of(device: &Device) -> Option<&str> {
    match device {
        Device::Kernel(name) | Device::Xdp(name) | Device::Tap(name) => Some(name),
        Device::Pci(_) | Device::Memif(_) | Device::Pcap { .. } | Device::Vdev(_) => None,
    }
}

fn devices(reader: &mut Reader<'_>, interfaces: &[Interface]) {
    let links: HashMap<&str, &Interface> =
        interfaces.iter().filter_map(|i| link_of(&i.device).map(|link| (link, i))).collect();
    let mut used = BTreeMap::new();
    for interface in interfaces {
        if links.contains_key(interface.name.as_str()) {
            let message =
                format!("interface `{0}` needs another name: a link named `{0}` is there", interface.name);
            reader.error(interface.span, message);
        }
        if let Some(other) = used.insert((&interface.device, interface.vlan), &interface.name) {
            let message =
                format!("interfaces `{other}` and `{}` are both on {}", interface.name, interface.device);
            let hint = Some("give each its own `vlan`".to_string());
            reader.error_with(interface.span, message, hint);
        }
    }
}

fn addresses(reader: &mut Reader<'_>, interfaces: &[Interface]) {
    let mut used: HashMap<IpAddr, &str> = HashMap::new();
    for interface in interfaces {
        for prefix in &interface.addresses {
            // A link-local address means something on its link only.
            if is_link_local(prefix.addr()) {
                continue;
            }
            if let Some(other) = used.insert(prefix.addr(), &interface.name) {
                let message = match other == interface.name {
                    true => format!("interface `{other}` has address {} twice", prefix.addr()),
                    false => {
                        format!("interfaces `{other}` and `{}` both have {}", interface.name, prefix.addr())
                    }
                };
                reader.error(interface.span, message);
            }
        }
    }
}

fn routes(reader: &mut Reader<'_>, interfaces: &[Interface], routes: Vec<RawRoute>) -> Vec<Route> {
    let mut seen = BTreeMap::new();
    let mut checked = Vec::with_capacity(routes.len());
    for RawRoute { mut route, hops } in routes {
        match &mut route.target {
            RouteTarget::Via(list) => {
                for (hop, (span, given)) in list.iter_mut().zip(hops) {
                    let dev = given.then_some(hop.dev.as_str());
                    hop.dev = link_to(reader, interfaces, hop.address, dev, span).unwrap_or_default();
                }
            }
            RouteTarget::Dev(dev) => {
                known(reader, interfaces, dev, route.span);
            }
            RouteTarget::Unreachable | RouteTarget::Prohibit | RouteTarget::Blackhole => {}
        }
        if let Some(first) = seen.insert((route.to, route.metric), route.span) {
            let message = format!("a second route to {} with metric {}", route.to, route.metric);
            let hint = format!("the first is at {first}; for several next hops give `via` a list");
            reader.error_with(route.span, message, Some(hint));
        }
        checked.push(route);
    }
    checked
}

fn neighbours(reader: &mut Reader<'_>, interfaces: &[Interface], mut list: Vec<Neighbour>) -> Vec<Neighbour> {
    let mut seen = HashMap::new();
    for neighbour in &mut list {
        let given = (!neighbour.dev.is_empty()).then_some(neighbour.dev.as_str());
        let dev = link_to(reader, interfaces, neighbour.address, given, neighbour.span);
        neighbour.dev = dev.unwrap_or_default();
        if let Some(first) = seen.insert((neighbour.dev.clone(), neighbour.address), neighbour.span) {
            let hint = Some(format!("the first is at {first}"));
            reader.error_with(
                neighbour.span,
                format!("neighbour {} is given twice", neighbour.address),
                hint,
            );
        }
    }
    list
}

fn known(reader: &mut Reader<'_>, interfaces: &[Interface], name: &str, span: Span) -> bool {
    let known = interfaces.iter().any(|interface| interface.name == name);
    if !known {
        let hint = nearest(name, interfaces.iter().map(|interface| interface.name.as_str()));
        reader.error_with(span, format!("unknown interface `{name}`"), hint);
    }
    known
}

fn on_kernel_terms(interfaces: &[Interface], name: &str) -> bool {
    interfaces.iter().any(|interface| interface.name == name && interface.kernel_addresses)
}

/// The interface on whose link `address` is: the one given, or that with the longest prefix around it.
fn link_to(
    reader: &mut Reader<'_>,
    interfaces: &[Interface],
    address: IpAddr,
    given: Option<&str>,
    span: Span,
) -> Option<String> {
    if interfaces.iter().flat_map(|i| &i.addresses).any(|prefix| prefix.addr() == address) {
        reader.error(span, format!("{address} is one of the router's own addresses"));
        return None;
    }
    if is_link_local(address) {
        let Some(dev) = given else {
            reader.error(span, format!("link-local address {address} needs `dev`"));
            return None;
        };
        return known(reader, interfaces, dev, span).then(|| dev.to_string());
    }
    if let Some(dev) = given
        && !known(reader, interfaces, dev, span)
    {
        return None;
    }
    let on_link = interfaces.iter().filter(|i| given.is_none_or(|dev| dev == i.name));
    let around = on_link.flat_map(|i| i.addresses.iter().map(move |prefix| (prefix, i)));
    let nearest =
        around.filter(|(prefix, _)| prefix.contains(address)).max_by_key(|(prefix, _)| prefix.len());
    match (nearest, given) {
        (Some((_, interface)), _) => Some(interface.name.clone()),
        // What is on its link will be known when it has addresses.
        (None, Some(dev)) if on_kernel_terms(interfaces, dev) => Some(dev.to_string()),
        (None, Some(dev)) => {
            reader.error(
                span,
                format!("{address} is not on the link of `{dev}`: none of its addresses' prefixes has it"),
            );
            None
        }
        (None, None) => {
            let kernel = interfaces.iter().find(|interface| interface.kernel_addresses);
            let hint = kernel.map(|i| format!("if it is behind `{0}`, say `dev: {0}`", i.name));
            reader.error_with(span, format!("{address} is on no interface's link"), hint);
            None
        }
    }
}
