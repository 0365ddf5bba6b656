//! Neighbour discovery: what is believed of a message, what is answered, how is asked (RFC 4861 section 7.2).
//!
//! Messages come here validated (RFC 4861 section 7.1): that is done where they are parsed. Router advertisements are
//! not made, and redirects not heard: this is a router.

use std::net::{IpAddr, Ipv6Addr};

use sluice_engine::ids::InterfaceId;
use sluice_engine::world::{Interface, NeighbourKey};
use sluice_wire::MacAddr;
use sluice_wire::build::Link;
use sluice_wire::nd::{self, Advertisement, Message, Solicitation};

use super::{State, Table, Time, build, has_address};

impl Table {
    pub(super) fn received_nd(&mut self, now: Time, id: InterfaceId, message: &Message, sender: MacAddr) {
        let Some(interface) = self.interfaces.get(id) else { return };
        if sender == interface.mac {
            return;
        }
        match message {
            Message::Solicitation(asked) => self.received_solicitation(now, id, asked, sender),
            Message::Advertisement(answer) => self.received_advertisement(now, id, answer, sender),
        }
    }

    fn received_solicitation(&mut self, now: Time, id: InterfaceId, asked: &Solicitation, sender: MacAddr) {
        let Some(interface) = self.interfaces.get(id) else { return };
        if has_address(interface, asked.source.into()) {
            return self.conflict(now, id, asked.source.into(), sender);
        }
        if has_address(interface, asked.target.into()) {
            let mac = interface.mac;
            let link = Link { destination: asked.mac.unwrap_or(sender), source: mac, vlan: None };
            self.send(id, build(|out| nd::answer(out, link, mac, asked)));
        }
        if let Some(mac) = asked.mac {
            self.claimed(now, NeighbourKey { interface: id, address: IpAddr::V6(asked.source) }, mac);
        }
    }

    fn received_advertisement(
        &mut self,
        now: Time,
        id: InterfaceId,
        answer: &Advertisement,
        sender: MacAddr,
    ) {
        let Some(interface) = self.interfaces.get(id) else { return };
        let address = IpAddr::V6(answer.target);
        if has_address(interface, address) {
            return self.conflict(now, id, address, answer.mac.unwrap_or(sender));
        }
        let key = NeighbourKey { interface: id, address };
        let Some(state) = self.entries.get(&key).map(|entry| entry.state) else { return };
        // Without the option it speaks of the address that is known already: a unicast solicitation is answered so.
        let Some(mac) = answer.mac.or(state.mac()) else { return };
        let same = state.mac() == Some(mac);
        match state {
            State::Permanent(_) => {}
            State::Incomplete { .. } if answer.solicited => self.confirmed(now, key, mac),
            State::Incomplete { .. } | State::Failed { .. } => self.claimed(now, key, mac),
            // RFC 4861 section 7.2.5 I: another address without the override flag only shakes what is believed.
            State::Reachable { mac: known, .. } if !same && !answer.overrides => {
                self.put(key, State::Stale { mac: known, since: now });
            }
            State::Stale { .. } | State::Probe { .. } if !same && !answer.overrides => {}
            _ if answer.solicited => self.confirmed(now, key, mac),
            _ => self.claimed(now, key, mac),
        }
    }
}

/// Asks the solicited-node group, or the station that had the address when it was last seen.
pub(super) fn solicitation(
    interface: &Interface,
    source: Ipv6Addr,
    target: Ipv6Addr,
    station: Option<MacAddr>,
) -> Option<Vec<u8>> {
    build(|out| nd::solicitation(out, (interface.mac, None), source, target, station))
}

/// Tells all nodes an address of ours (RFC 4861 section 7.2.6).
pub(super) fn announcement(interface: &Interface, address: Ipv6Addr) -> Option<Vec<u8>> {
    build(|out| nd::announcement(out, (interface.mac, None), address))
}
