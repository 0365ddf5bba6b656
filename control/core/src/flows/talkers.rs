//! Who fills the table: flows counted by one of their properties, in bounded memory however many there are.
//!
//! Up to [`ROOM`] different keys are counted exactly. Beyond that the rarest gives its place, and its count, to the one
//! that comes (the "space-saving" sketch: A. Metwally et al., "Efficient Computation of Frequent and Top-k Elements in
//! Data Streams", 2005): a count is then too high by at most the flows divided by [`ROOM`], and who really has more than
//! that is never missed. A flood from random sources so cannot hide who else fills the table, nor fill memory.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use sluice_api::{TopKey, TopRequest};
use sluice_engine::conntrack::{FlowRecord, Prefix, Status, TupleTransport};
use sluice_wire::Protocol;

/// Keys that are counted at once: some 1 MB.
const ROOM: usize = 4096;

/// What flows are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    /// An address or prefix: its bits and their number.
    Net(IpAddr, u8),
    /// A protocol, and its destination port where it has ports.
    Service(Protocol, Option<u16>),
    /// A protocol and a state.
    State(Protocol, Option<&'static str>),
}

/// How a key is got from a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct By {
    key: TopKey,
    /// Leading bits of an address that count, of IPv4 and IPv6.
    lengths: (u8, u8),
}

/// What is counted of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) flows: u64,
    /// How much too high `flows` may be.
    pub(crate) error: u64,
    pub(crate) unreplied: u64,
    pub(crate) assured: u64,
    /// Of both directions, where flows are counted.
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// Counts of keys.
#[derive(Debug)]
pub(crate) struct Talkers {
    by: By,
    room: usize,
    counts: HashMap<Key, Count>,
    /// The same keys by their flows, rarest first.
    order: BTreeSet<(u64, Key)>,
    flows: u64,
}

impl By {
    pub(crate) fn new(request: &TopRequest) -> By {
        By { key: request.by, lengths: (request.prefix4.min(32), request.prefix6.min(128)) }
    }

    fn of(&self, flow: &FlowRecord) -> Key {
        let net = |address: IpAddr| {
            let len = if address.is_ipv4() { self.lengths.0 } else { self.lengths.1 };
            Key::Net(Prefix { address, len }.masked(), len)
        };
        match self.key {
            TopKey::Src => net(flow.original.src),
            TopKey::Dst => net(flow.original.dst),
            TopKey::Dport => match flow.original.transport {
                TupleTransport::Ports { dport, .. } => Key::Service(flow.protocol, Some(dport)),
                _ => Key::Service(flow.protocol, None),
            },
            TopKey::Proto => Key::Service(flow.protocol, None),
            TopKey::State => Key::State(flow.protocol, flow.state),
        }
    }
}

impl Talkers {
    /// Nothing counted yet.
    pub(crate) fn new(by: By) -> Talkers {
        Talkers { by, room: ROOM, counts: HashMap::new(), order: BTreeSet::new(), flows: 0 }
    }

    /// Counts a flow.
    pub(crate) fn count(&mut self, flow: &FlowRecord) {
        self.flows += 1;
        let key = self.by.of(flow);
        let before = match self.counts.get(&key) {
            Some(count) => *count,
            None if self.counts.len() < self.room => Count::default(),
            None => self.make_room(),
        };
        self.order.remove(&(before.flows, key));
        let mut count = before;
        count.flows += 1;
        count.unreplied += u64::from(!flow.status.contains(Status::SEEN_REPLY));
        count.assured += u64::from(flow.status.contains(Status::ASSURED));
        if let Some(accounting) = &flow.accounting {
            count.packets += accounting.packets.iter().sum::<u64>();
            count.bytes += accounting.bytes.iter().sum::<u64>();
        }
        self.order.insert((count.flows, key));
        self.counts.insert(key, count);
    }

    /// The rarest gives way; what is counted of it is the most that the next one may have had before.
    fn make_room(&mut self) -> Count {
        let Some((flows, key)) = self.order.pop_first() else { return Count::default() };
        self.counts.remove(&key);
        Count { flows, error: flows, ..Count::default() }
    }

    /// Flows that were counted.
    pub(crate) fn flows(&self) -> u64 {
        self.flows
    }

    /// The `n` keys with most flows, most first.
    pub(crate) fn top(&self, n: usize) -> Vec<(Key, Count)> {
        let keys = self.order.iter().rev().take(n);
        keys.filter_map(|(_, key)| Some((*key, *self.counts.get(key)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::flow;

    fn from(last: u8) -> FlowRecord {
        let mut flow = flow(0);
        flow.original.src = [10, 0, 0, last].into();
        flow
    }

    fn by(key: TopKey, v4: u8) -> By {
        By { key, lengths: (v4, 64) }
    }

    #[test]
    fn each_property_has_its_key() {
        let net = |octets: [u8; 4], len| Key::Net(octets.into(), len);
        let cases = [
            (TopKey::Src, 32, net([10, 0, 0, 9], 32)),
            (TopKey::Src, 24, net([10, 0, 0, 0], 24)),
            (TopKey::Src, 0, net([0, 0, 0, 0], 0)),
            (TopKey::Dst, 16, net([192, 0, 0, 0], 16)),
            (TopKey::Dport, 32, Key::Service(Protocol::TCP, Some(80))),
            (TopKey::Proto, 32, Key::Service(Protocol::TCP, None)),
            (TopKey::State, 32, Key::State(Protocol::TCP, Some("ESTABLISHED"))),
        ];
        for (key, len, expected) in cases {
            assert_eq!(by(key, len).of(&flow(0)), expected, "{key:?}/{len}");
        }
    }

    #[test]
    fn few_keys_are_counted_exactly() {
        let mut talkers = Talkers::new(by(TopKey::Src, 32));
        for last in 0..100 {
            (0..=last).for_each(|_| talkers.count(&from(last)));
        }
        let top = talkers.top(2);
        let counts: Vec<_> = top.iter().map(|(_, count)| (count.flows, count.error, count.assured)).collect();
        assert_eq!(counts, [(100, 0, 100), (99, 0, 99)]);
        assert_eq!(talkers.flows(), 5050);
    }

    #[test]
    fn a_flood_of_keys_hides_nobody_and_takes_no_room() {
        let mut talkers = Talkers { room: 8, ..Talkers::new(by(TopKey::Src, 32)) };
        for round in 0..100u32 {
            talkers.count(&from(250));
            for n in 0..3 {
                let mut flow = from(0);
                flow.original.src = std::net::Ipv4Addr::from_bits(round * 3 + n).into();
                talkers.count(&flow);
            }
        }
        let [(key, count)] = talkers.top(1)[..] else { panic!("one") };
        assert_eq!(key, Key::Net([10, 0, 0, 250].into(), 32));
        assert!(count.flows >= 100 && count.flows - count.error <= 100, "{count:?}");
        assert!(count.error <= 400 / 8, "{count:?}");
        assert_eq!((talkers.counts.len(), talkers.order.len()), (8, 8));
    }
}
