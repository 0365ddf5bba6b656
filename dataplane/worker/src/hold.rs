//! Packets that wait for their next hop's MAC address (RFC 1122 §2.3.2.2 asks to keep at least the latest).
//!
//! Bounded for each next hop and in all, with memory set aside at the start. Where a next hop's queue is full its oldest
//! packet goes, as in the kernel; where there is no room at all, the new one does.

use std::collections::HashMap;

use sluice_engine::ids::{Millis, Tick};
use sluice_engine::world::NeighbourKey;
use sluice_rte::Mbuf;

use crate::source::Source;

/// Packets for one next hop; the kernel's default (`unres_qlen_bytes`) comes to about a hundred.
const PER_NEIGHBOUR: u32 = 64;

/// How long packets wait. Control gives a next hop up after three tries in three seconds and says so; this is for when
/// control is silent.
const TIMEOUT: Millis = Millis(4000);

/// End of a list of slots.
const NONE: u32 = u32::MAX;

/// The packets of one worker that wait.
pub(crate) struct Hold {
    slots: Vec<Slot>,
    /// Head of the list of free slots.
    free: u32,
    queues: HashMap<NeighbourKey, Queue>,
    packets: usize,
    /// Those of them that were received: what the box made itself is no part of the sum over received packets.
    received: usize,
}

struct Slot {
    mbuf: Option<Mbuf>,
    next: u32,
}

#[derive(Clone, Copy)]
struct Queue {
    head: u32,
    tail: u32,
    count: u32,
    deadline: Tick,
}

impl Hold {
    /// Room for `capacity` packets.
    pub(crate) fn new(capacity: u32) -> Hold {
        let slots = (0..capacity).map(|at| Slot { mbuf: None, next: at + 1 }).collect();
        // Twice the entries, so that the map never grows while it runs.
        let queues = HashMap::with_capacity(capacity as usize * 2);
        let mut hold = Hold { slots, free: 0, queues, packets: 0, received: 0 };
        match hold.slots.last_mut() {
            Some(last) => last.next = NONE,
            None => hold.free = NONE,
        }
        hold
    }

    /// Packets that wait.
    pub(crate) fn len(&self) -> usize {
        self.packets
    }

    /// Packets that wait and came by the wire.
    pub(crate) fn received(&self) -> usize {
        self.received
    }

    /// Keeps a packet, and gives back the one that had to go for it, if any.
    ///
    /// # Errors
    /// The packet itself, where there is no room at all.
    pub(crate) fn push(&mut self, now: Tick, key: NeighbourKey, mbuf: Mbuf) -> Result<Option<Mbuf>, Mbuf> {
        let full = self.queues.get(&key).is_some_and(|queue| queue.count >= PER_NEIGHBOUR);
        let displaced = if full { self.pop(&key) } else { None };
        self.append(now, key, mbuf).map(|()| displaced)
    }

    /// The packet that was kept last for a next hop.
    pub(crate) fn newest_mut(&mut self, key: &NeighbourKey) -> Option<&mut Mbuf> {
        let queue = self.queues.get(key)?;
        self.slots.get_mut(queue.tail as usize)?.mbuf.as_mut()
    }

    /// Takes the oldest packet for a next hop.
    pub(crate) fn pop(&mut self, key: &NeighbourKey) -> Option<Mbuf> {
        let queue = self.queues.get_mut(key)?;
        let at = queue.head;
        let slot = self.slots.get_mut(at as usize)?;
        let mbuf = slot.mbuf.take()?;
        queue.head = slot.next;
        queue.count -= 1;
        slot.next = self.free;
        self.free = at;
        self.packets -= 1;
        self.received -= usize::from(is_received(&mbuf));
        if queue.count == 0 {
            self.queues.remove(key);
        }
        Some(mbuf)
    }

    /// A next hop that packets wait for and that `wanted` says yes to, with how many packets wait for it.
    pub(crate) fn find(&self, mut wanted: impl FnMut(&NeighbourKey) -> bool) -> Option<(NeighbourKey, u32)> {
        self.queues.iter().find(|(key, _)| wanted(key)).map(|(key, queue)| (*key, queue.count))
    }

    /// A next hop that was waited for too long, with how many packets wait for it.
    pub(crate) fn overdue(&self, now: Tick) -> Option<(NeighbourKey, u32)> {
        self.queues
            .iter()
            .find(|(_, queue)| now.is_due(queue.deadline))
            .map(|(key, queue)| (*key, queue.count))
    }

    fn append(&mut self, now: Tick, key: NeighbourKey, mbuf: Mbuf) -> Result<(), Mbuf> {
        let at = self.free;
        let Some(slot) = self.slots.get_mut(at as usize) else { return Err(mbuf) };
        self.free = slot.next;
        slot.next = NONE;
        self.packets += 1;
        self.received += usize::from(is_received(&mbuf));
        slot.mbuf = Some(mbuf);
        let empty = Queue { head: at, tail: at, count: 0, deadline: now.after(TIMEOUT) };
        let queue = self.queues.entry(key).or_insert(empty);
        let previous = std::mem::replace(&mut queue.tail, at);
        queue.count += 1;
        if previous != at
            && let Some(slot) = self.slots.get_mut(previous as usize)
        {
            slot.next = at;
        }
        Ok(())
    }
}

fn is_received(mbuf: &Mbuf) -> bool {
    matches!(Source::of(mbuf), Source::Wire(_))
}
