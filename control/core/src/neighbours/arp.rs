//! ARP: what is believed of a message, what is answered, how is asked (RFC 826, RFC 5227).

use std::net::{IpAddr, Ipv4Addr};

use sluice_engine::ids::InterfaceId;
use sluice_engine::world::{Interface, NeighbourKey};
use sluice_wire::build::{Link, arp_reply, arp_request};
use sluice_wire::{Arp, ArpOperation, MacAddr};

use super::{State, Table, Time, build, has_address};

impl Table {
    pub(super) fn received_arp(&mut self, now: Time, id: InterfaceId, arp: &Arp) {
        let Some(interface) = self.interfaces.get(id) else { return };
        if !arp.sender_mac.is_unicast() || arp.sender_mac == interface.mac {
            return;
        }
        let for_us = has_address(interface, arp.target.into());
        let answers = for_us && arp.operation == ArpOperation::Reply && arp.target_mac == interface.mac;
        if has_address(interface, arp.sender.into()) {
            return self.conflict(now, id, arp.sender.into(), arp.sender_mac);
        }
        if for_us && arp.operation == ArpOperation::Request {
            // The tag is put in where the frame leaves.
            let request = Arp { vlan: None, ..*arp };
            let mac = interface.mac;
            self.send(id, build(|out| arp_reply(out, mac, &request)));
        }
        let key = NeighbourKey { interface: id, address: IpAddr::V4(arp.sender) };
        match self.entries.get(&key).map(|entry| entry.state) {
            None | Some(State::Permanent(_)) => {}
            // Only who was asked can answer.
            Some(State::Incomplete { .. } | State::Probe { .. }) if answers => {
                self.confirmed(now, key, arp.sender_mac);
            }
            Some(_) => self.claimed(now, key, arp.sender_mac),
        }
    }
}

/// Asks everyone, or the station that had the address when it was last seen.
pub(super) fn request(
    interface: &Interface,
    source: Ipv4Addr,
    target: Ipv4Addr,
    station: Option<MacAddr>,
) -> Option<Vec<u8>> {
    let destination = station.unwrap_or(MacAddr::BROADCAST);
    let link = Link { destination, source: interface.mac, vlan: None };
    build(|out| arp_request(out, link, source, target))
}

/// A request for our own address in our own name (RFC 5227 section 3).
pub(super) fn announcement(interface: &Interface, address: Ipv4Addr) -> Option<Vec<u8>> {
    request(interface, address, address, None)
}
