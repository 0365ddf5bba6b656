//! Link-layer addresses of next hops, as control resolved them (ARP, RFC 826; neighbour discovery, RFC 4861).
//!
//! A version of the table is immutable; control publishes a new one with every change. It does not decide
//! whether an entry is still believed: control does, from when it was last used.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sluice_wire::MacAddr;

use crate::ids::Tick;
use crate::world::NeighbourKey;

/// What is known of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Its MAC address may be used.
    Reachable(MacAddr),
    /// It was asked for and did not answer: packets to it are answered with host unreachable.
    Failed,
}

/// One next hop.
#[derive(Debug, Clone)]
pub struct Neighbour {
    /// What is known.
    pub state: NeighbourState,
    /// When a worker last sent to it, in seconds of [`Tick`]; shared by all versions of the table.
    used: Arc<AtomicU32>,
}

impl Neighbour {
    /// A neighbour; `used` is where workers note the second of their last packet to it.
    pub fn new(state: NeighbourState, used: Arc<AtomicU32>) -> Neighbour {
        Neighbour { state, used }
    }

    /// Notes that a packet was sent to it; writes at most once a second.
    #[inline]
    pub fn touch(&self, now: Tick) {
        let second = now.0 / 1000;
        if self.used.load(Ordering::Relaxed) != second {
            self.used.store(second, Ordering::Relaxed);
        }
    }
}

/// All next hops that control knows. `epoch` rises with every version.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    /// Version of this table.
    pub epoch: u32,
    /// Secret and new with every version: hosts on the link choose their addresses, and must not choose those
    /// that collide.
    seed: u64,
    /// A power of two of slots, half of them empty at least; or none at all.
    slots: Box<[Option<(NeighbourKey, Neighbour)>]>,
}

impl Neighbours {
    /// Indexes the table. Of two entries with one key, the later is kept.
    pub fn new(epoch: u32, list: impl IntoIterator<Item = (NeighbourKey, Neighbour)>) -> Neighbours {
        let list: Vec<_> = list.into_iter().collect();
        let slots = match list.len() {
            0 => Box::default(),
            n => vec![None; (n * 2).next_power_of_two()].into_boxed_slice(),
        };
        let mut table = Neighbours { epoch, seed: RandomState::new().hash_one(epoch), slots };
        for (key, neighbour) in list {
            let at = table.place(&key);
            if let Some(slot) = table.slots.get_mut(at) {
                *slot = Some((key, neighbour));
            }
        }
        table
    }

    /// What is known of a next hop.
    #[inline]
    pub fn get(&self, key: &NeighbourKey) -> Option<&Neighbour> {
        match self.slots.get(self.place(key)) {
            Some(Some((_, neighbour))) => Some(neighbour),
            _ => None,
        }
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&NeighbourKey, &Neighbour)> {
        self.slots.iter().flatten().map(|(key, neighbour)| (key, neighbour))
    }

    /// Where `key` is, or would be.
    #[inline]
    fn place(&self, key: &NeighbourKey) -> usize {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = self.spread(key) as usize & mask;
        while let Some(Some((other, _))) = self.slots.get(at) {
            if other == key {
                break;
            }
            at = (at + 1) & mask;
        }
        at
    }

    /// Multiply and fold (wyhash's step), keyed.
    #[inline]
    fn spread(&self, key: &NeighbourKey) -> u64 {
        let interface = u64::from(key.interface.0);
        let (high, low) = match key.address {
            IpAddr::V4(v4) => (interface, u64::from(u32::from(v4))),
            IpAddr::V6(v6) => {
                let bits = u128::from(v6);
                ((bits >> 64) as u64 ^ interface, bits as u64)
            }
        };
        let product = u128::from(low ^ self.seed) * u128::from(high ^ self.seed.rotate_left(32) | 1);
        (product as u64) ^ (product >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::InterfaceId;

    fn key(interface: u16, address: &str) -> NeighbourKey {
        NeighbourKey { interface: InterfaceId(interface), address: address.parse().unwrap() }
    }

    fn reachable(last: u8) -> Neighbour {
        Neighbour::new(NeighbourState::Reachable(MacAddr([2, 0, 0, 0, 0, last])), Arc::default())
    }

    #[test]
    fn what_was_put_in_is_found_by_interface_and_address() {
        let mut list: Vec<_> = (0..=255u8).map(|n| (key(1, &format!("10.0.0.{n}")), reachable(n))).collect();
        list.push((key(2, "10.0.0.7"), reachable(99)));
        list.push((key(1, "fe80::7"), reachable(100)));
        let table = Neighbours::new(3, list);
        assert_eq!(table.iter().count(), 258);
        for (key, expected) in [
            (key(1, "10.0.0.7"), Some(7)),
            (key(2, "10.0.0.7"), Some(99)),
            (key(3, "10.0.0.7"), None),
            (key(1, "fe80::7"), Some(100)),
            (key(1, "10.0.1.7"), None),
        ] {
            let found = table.get(&key).map(|n| n.state);
            let expected = expected.map(|n| NeighbourState::Reachable(MacAddr([2, 0, 0, 0, 0, n])));
            assert_eq!(found, expected, "{key:?}");
        }
        assert!(Neighbours::default().get(&key(1, "10.0.0.7")).is_none());
        assert!(Neighbours::new(1, []).get(&key(1, "10.0.0.7")).is_none());
    }

    #[test]
    fn use_is_noted_once_a_second() {
        let used = Arc::new(AtomicU32::new(0));
        let neighbour = Neighbour::new(NeighbourState::Failed, used.clone());
        neighbour.touch(Tick(5_999));
        assert_eq!(used.load(Ordering::Relaxed), 5);
    }
}
