//! What `nat` makes of a described packet: its destination, before it is routed. A source that would be translated
//! changes nothing that a test asks for, since that comes last; of a range, a test gets the first.

use std::net::IpAddr;

use sluice_engine::ids::InterfaceId;
use sluice_engine::ruleset::{Ruleset, Translate};
use sluice_engine::world::Interfaces;
use sluice_wire::{Addrs, Packet, Transport};

/// The packet with its new destination; None if the rule has none for it.
pub(crate) fn translated(
    how: &Translate,
    packet: &Packet,
    interfaces: &Interfaces,
    ingress: Option<InterfaceId>,
) -> Option<Packet> {
    let address = match how {
        Translate::Dnat(range) => range.of(packet.addrs.dst()).addresses.map(|(first, _)| first),
        Translate::Redirect(_) => own(interfaces, ingress?, packet.addrs.dst()),
        Translate::Snat(_) | Translate::Masquerade(_) | Translate::Blocks(_) | Translate::Nat64(_) => {
            return None;
        }
    };
    let mut changed = *packet;
    if let Some(address) = address {
        changed.addrs = packet.addrs.with_dst(address)?;
    }
    if let Some((first, last)) = how.ports() {
        set_port(&mut changed.transport, |port| if (first..=last).contains(&port) { port } else { first });
    }
    Some(changed)
}

/// The addresses that a packet is routed by: to a host of IPv4, where a prefix of NAT64 stands for it.
pub(crate) fn routed_by(ruleset: &Ruleset, addrs: Addrs) -> Addrs {
    let Addrs::V6 { dst, .. } = addrs else { return addrs };
    let host = ruleset.nat64().iter().find_map(|nat64| {
        let dst = nat64.prefix().extract(dst).filter(|host| nat64.reaches(*host))?;
        Some(Addrs::V4 { src: nat64.pool().0, dst })
    });
    host.unwrap_or(addrs)
}

fn own(interfaces: &Interfaces, ingress: InterfaceId, alike: IpAddr) -> Option<IpAddr> {
    let addresses = &interfaces.get(ingress)?.addresses;
    addresses.iter().map(|(own, _)| *own).find(|own| own.is_ipv4() == alike.is_ipv4())
}

pub(crate) fn set_port(transport: &mut Transport, change: impl Fn(u16) -> u16) {
    match transport {
        Transport::Tcp { dport, .. }
        | Transport::Udp { dport, .. }
        | Transport::UdpLite { dport, .. }
        | Transport::Sctp { dport, .. } => *dport = change(*dport),
        _ => {}
    }
}
