//! DHCP of the box itself, on interfaces whose addresses programs on the box give it (`addresses: kernel`).
//!
//! A client that has no address yet speaks through a packet socket, which no rule of netfilter sees, in either direction;
//! so neither do rules here. What a server answers is for an address that is not the router's yet, and would be routed:
//! it goes to the tap. Renewals, which a client sends from its address by an ordinary socket, pass all rules on the way
//! out. DHCPv6 and router advertisements have ordinary sockets and addresses of link scope, and pass rules as on Linux.
//!
//! Source: RFC 2131 section 4.1 (ports, and where answers go); packet(7).

use std::net::Ipv4Addr;

use sluice_wire::{Addrs, Fragment, Packet, Transport, destination, source};

use crate::frame::Frame;
use crate::ids::InterfaceId;
use crate::stage::link::LinkHeader;
use crate::transit::Bench;
use crate::verdict::{DropReason, Verdict};

/// `bootps` and `bootpc`.
const SERVER: u16 = 67;
const CLIENT: u16 = 68;

/// Gives the box what a server answers; None if the packet is no answer, or not on such an interface.
#[inline]
pub(crate) fn answer(
    bench: &Bench<'_>,
    frame: &mut Frame<'_>,
    packet: &mut Packet,
    ingress: InterfaceId,
) -> Option<Verdict> {
    // First what is false of nearly all packets, and known already.
    if packet.transport != (Transport::Udp { sport: SERVER, dport: CLIENT }) {
        return None;
    }
    let interface = bench.world.interfaces.get(ingress)?;
    if !interface.kernel_addresses || !is_whole_v4(packet) {
        return None;
    }
    let bytes = frame.ethernet(packet);
    let header = LinkHeader::new(destination(bytes), source(bytes), None);
    Some(match header.write(frame, packet) {
        true => Verdict::Deliver(ingress),
        false => Verdict::Drop(DropReason::NoBuffer),
    })
}

/// Sends what a client without an address asks; None if the packet is another.
pub(crate) fn request(
    bench: &Bench<'_>,
    frame: &mut Frame<'_>,
    packet: &mut Packet,
    tap: InterfaceId,
) -> Option<Verdict> {
    if packet.transport != (Transport::Udp { sport: CLIENT, dport: SERVER }) {
        return None;
    }
    let interface = bench.world.interfaces.get(tap)?;
    let nobody = matches!(packet.addrs, Addrs::V4 { src: Ipv4Addr::UNSPECIFIED, .. });
    if !interface.kernel_addresses || !nobody || !is_whole_v4(packet) {
        return None;
    }
    let header = LinkHeader::new(destination(frame.ethernet(packet)), interface.mac, interface.vlan);
    frame.egress = Some(tap);
    Some(match header.write(frame, packet) {
        true => Verdict::Transmit(interface.port),
        false => Verdict::Drop(DropReason::NoBuffer),
    })
}

fn is_whole_v4(packet: &Packet) -> bool {
    matches!(packet.addrs, Addrs::V4 { .. }) && packet.fragment == Fragment::Whole
}

#[cfg(test)]
mod tests {
    use sluice_wire::build::Datagram;

    use super::*;
    use crate::ruleset::{Hook, Policy};
    use crate::testing::{CLI, Router, SRV, between, udp};
    use crate::world::{Interface, Interfaces};

    /// A router that drops everything, with its addresses on `CLI` given by programs.
    fn closed() -> Router {
        let hooks = [Hook::RawPrerouting, Hook::FilterInput, Hook::FilterOutput, Hook::FilterForward];
        let mut router =
            hooks.into_iter().fold(Router::new(), |router, hook| router.policy(hook, Policy::Drop));
        let given = |(id, interface): (InterfaceId, &Interface)| Interface {
            kernel_addresses: id == CLI,
            ..interface.clone()
        };
        let interfaces = router.world.interfaces.iter().map(given).collect();
        router.world.interfaces = Interfaces::new(interfaces).into();
        router.ready()
    }

    fn from_server(dst: &str) -> Datagram {
        between(CLI, "10.1.0.2", dst)
    }

    #[test]
    fn answers_of_servers_reach_the_box_past_all_rules_whatever_address_they_are_for() {
        for dst in ["255.255.255.255", "10.1.0.77", "10.1.0.1"] {
            let mut router = closed();
            let fate = router.receive(CLI, &udp(&from_server(dst), (67, 68), b"offer"));
            assert_eq!(fate.verdict, Verdict::Deliver(CLI), "{dst}");
            assert_eq!(fate.packet().addrs.dst().to_string(), dst);
        }
        for (interface, ports) in [(SRV, (67, 68)), (CLI, (68, 67)), (CLI, (67, 69)), (CLI, (53, 68))] {
            let datagram = between(interface, "10.1.0.2", "255.255.255.255");
            let fate = closed().receive(interface, &udp(&datagram, ports, b"other"));
            assert!(matches!(fate.verdict, Verdict::Drop(_)), "{interface:?} {ports:?}: {:?}", fate.verdict);
        }
    }

    #[test]
    fn a_client_without_an_address_is_heard_past_all_rules() {
        for (src, tap, sent) in [
            ("0.0.0.0", CLI, true),
            // A renewal has an address, and passes the filter.
            ("10.1.0.1", CLI, false),
            ("0.0.0.0", SRV, false),
        ] {
            let mut router = closed();
            let fate = router.send(tap, &udp(&between(tap, src, "255.255.255.255"), (68, 67), b"discover"));
            let transmitted = matches!(fate.verdict, Verdict::Transmit(_));
            assert_eq!(transmitted, sent, "{src} by {tap:?}: {:?}", fate.verdict);
        }
    }
}
