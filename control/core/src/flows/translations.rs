//! What translated flows use: ports of each address that sources were given, and which destinations became which. In
//! bounded memory: [`ROOM`] addresses of each kind, the first that are met; flows of others are only counted.

use std::collections::HashMap;
use std::net::IpAddr;

use sluice_engine::conntrack::{FlowRecord, Status, TupleTransport};
use sluice_wire::Protocol;

/// Different addresses that are kept: of sources with a bit for each port, 8 MB in all.
const ROOM: usize = 1024;

/// An address with a port, where there are ports.
pub(crate) type End = (IpAddr, Option<u16>);

/// Counts of translations.
#[derive(Debug, Default)]
pub(crate) struct Translations {
    sources: HashMap<(IpAddr, Protocol), Source>,
    destinations: HashMap<(End, Protocol, End), u64>,
    left_out: u64,
}

#[derive(Debug, Default)]
struct Source {
    flows: u64,
    /// A bit for each port; empty for protocols without.
    ports: Vec<u64>,
}

impl Translations {
    /// Counts a flow, if it is translated.
    pub(crate) fn count(&mut self, flow: &FlowRecord) {
        let mut kept = true;
        if flow.status.contains(Status::SNAT) {
            kept &= self.count_source(flow);
        }
        if flow.status.contains(Status::DNAT) {
            kept &= self.count_destination(flow);
        }
        self.left_out += u64::from(!kept);
    }

    fn count_source(&mut self, flow: &FlowRecord) -> bool {
        let key = (flow.reply.dst, flow.protocol);
        if self.sources.len() >= ROOM && !self.sources.contains_key(&key) {
            return false;
        }
        let source = self.sources.entry(key).or_default();
        source.flows += 1;
        if let Some(port) = answered_port(flow.reply.transport) {
            source.ports.resize(1024, 0);
            if let Some(word) = source.ports.get_mut(usize::from(port >> 6)) {
                *word |= 1 << (port & 63);
            }
        }
        true
    }

    fn count_destination(&mut self, flow: &FlowRecord) -> bool {
        let port_of = |transport, pick: fn((u16, u16)) -> u16| match transport {
            TupleTransport::Ports { sport, dport } => Some(pick((sport, dport))),
            _ => None,
        };
        let asked = (flow.original.dst, port_of(flow.original.transport, |(_, dport)| dport));
        let given = (flow.reply.src, port_of(flow.reply.transport, |(sport, _)| sport));
        let key = (asked, flow.protocol, given);
        if self.destinations.len() >= ROOM && !self.destinations.contains_key(&key) {
            return false;
        }
        *self.destinations.entry(key).or_default() += 1;
        true
    }

    /// Sources with their flows and different ports, most ports first.
    pub(crate) fn sources(&self) -> Vec<((IpAddr, Protocol), u64, u32)> {
        let ports = |source: &Source| source.ports.iter().map(|word| word.count_ones()).sum::<u32>();
        let mut list: Vec<_> =
            self.sources.iter().map(|(key, source)| (*key, source.flows, ports(source))).collect();
        list.sort_by_key(|&((address, protocol), flows, ports)| {
            (std::cmp::Reverse((ports, flows)), address, protocol)
        });
        list
    }

    /// Of the addresses between these two, both included: how many flows were given, and how many different ports of those
    /// between the other two.
    pub(crate) fn used(&self, protocol: Protocol, of: (IpAddr, IpAddr), among: (u16, u16)) -> (u64, u64) {
        let mut used = (0, 0);
        let (first, last) = (usize::from(among.0), usize::from(among.1));
        let within = |&(address, of_flow): &(IpAddr, Protocol)| {
            of_flow == protocol && (of.0..=of.1).contains(&address)
        };
        for (_, source) in self.sources.iter().filter(|(key, _)| within(key)) {
            let bits = source.ports.iter().enumerate().map(|(at, word)| {
                let from = first.saturating_sub(at * 64).min(64) as u32;
                let to = (last + 1).saturating_sub(at * 64).min(64) as u32;
                let below = |bit: u32| 1_u64.checked_shl(bit).map_or(u64::MAX, |one| one - 1);
                u64::from((word & below(to) & !below(from)).count_ones())
            });
            used = (used.0 + 1, used.1 + bits.sum::<u64>());
        }
        used
    }

    /// Destinations as asked for and as given, with their flows, most flows first.
    pub(crate) fn destinations(&self) -> Vec<((End, Protocol, End), u64)> {
        let mut list: Vec<_> = self.destinations.iter().map(|(key, flows)| (*key, *flows)).collect();
        list.sort_by_key(|&(key, flows)| (std::cmp::Reverse(flows), key));
        list
    }

    /// Translated flows that there was no room for.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }
}

/// The port, or identifier, that answers come to.
fn answered_port(transport: TupleTransport) -> Option<u16> {
    match transport {
        TupleTransport::Ports { dport, .. } => Some(dport),
        TupleTransport::Icmp { id, .. } => Some(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::flow;

    fn translated(status: Status, to: (IpAddr, u16), from: (IpAddr, u16)) -> FlowRecord {
        let mut flow = flow(0);
        flow.status = status;
        (flow.reply.src, flow.reply.dst) = (from.0, to.0);
        flow.reply.transport = TupleTransport::Ports { sport: from.1, dport: to.1 };
        flow
    }

    #[test]
    fn ports_are_counted_once_and_flows_each() {
        let mut all = Translations::default();
        let outer = |last: u8| IpAddr::from([203, 0, 113, last]);
        for (last, port) in [(1, 1000), (1, 1000), (1, 1001), (2, 65_535)] {
            all.count(&translated(Status::SNAT, (outer(last), port), ([192, 0, 2, 7].into(), 80)));
        }
        all.count(&translated(Status::DNAT, ([10, 0, 0, 9].into(), 1000), ([10, 9, 9, 9].into(), 8080)));
        all.count(&flow(0));
        assert_eq!(all.sources(), [((outer(1), Protocol::TCP), 3, 2), ((outer(2), Protocol::TCP), 1, 1)]);
        for (of, among, expected) in [
            ((1, 2), (0, 65_535), (2, 3)),
            ((1, 2), (1001, 65_535), (2, 2)),
            ((1, 1), (1, 1000), (1, 1)),
            ((2, 9), (0, 65_534), (1, 0)),
            ((3, 9), (0, 65_535), (0, 0)),
        ] {
            let used = all.used(Protocol::TCP, (outer(of.0), outer(of.1)), among);
            assert_eq!(used, expected, "{of:?} {among:?}");
        }
        assert_eq!(all.used(Protocol::UDP, (outer(1), outer(2)), (0, 65_535)), (0, 0));
        let asked = (IpAddr::from([192, 0, 2, 7]), Some(80));
        let given = (IpAddr::from([10, 9, 9, 9]), Some(8080));
        assert_eq!(all.destinations(), [((asked, Protocol::TCP, given), 1)]);
    }

    #[test]
    fn addresses_without_end_take_no_memory_without_end() {
        let mut all = Translations::default();
        for n in 0..2 * ROOM as u32 {
            let address = IpAddr::V4((0x0a00_0000 + n).into());
            all.count(&translated(Status::SNAT, (address, 1), ([192, 0, 2, 7].into(), 80)));
        }
        assert_eq!((all.sources().len(), all.left_out()), (ROOM, ROOM as u64));
    }
}
