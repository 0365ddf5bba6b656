//! Datagrams whose fragments are still coming (netfilter's `nf_defrag`, hook priority −400).
//!
//! Fragments' bytes are copied to memory of the engine's own, bounded and set aside at the start, so that a flood of them
//! holds no buffer of a device. When the last one is there the datagram is written in one piece to an [`Assembly`], judged
//! like any other packet, and cut again on its way out ([`crate::stage::pieces`]). A fragment costs the same however many
//! came before it; time is kept by one list for each family, oldest first, so that expiry costs what it expires.
//!
//! Where memory runs out, the datagram goes whose time is up first. (The kernel refuses every fragment then, until timeouts have made room:
//! with that, a trickle of forged fragments keeps all others out for good.)
//!
//! Not here: which packets are to be put together, and what becomes of them ([`crate::stage::defrag`]).
//! Source: RFC 791 section 3.2, RFC 8200 section 4.5; docs/adr/0007.

mod assembly;
mod blocks;
mod datagram;
#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash, Hasher};

use sluice_wire::fragment::Part;
use sluice_wire::{Addrs, Family, Fragment, Packet};

use crate::ids::{InterfaceId, Millis, Tick};
use crate::verdict::DropReason;
pub(crate) use assembly::{Assembly, Shape};
use blocks::Blocks;
pub(crate) use datagram::Arrived;
use datagram::{Datagram, Incoming, Placed};

/// End of a list.
const NONE: u32 = u32::MAX;

/// What fragments of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub addrs: Addrs,
    pub id: u32,
    /// Of IPv4 alone; IPv6's fragments may differ in it.
    protocol: u8,
    /// The link, where addresses mean something on one link alone.
    link: Option<InterfaceId>,
    /// Whether the box sent it.
    pub local: bool,
}

impl Key {
    /// The key of a fragment that came in by `ingress`, or that the box sent.
    pub fn of(packet: &Packet, ingress: Option<InterfaceId>, local: bool) -> Option<Key> {
        let id = match packet.fragment {
            Fragment::Whole => return None,
            Fragment::Atomic { id } | Fragment::First { id } | Fragment::Later { id, .. } => id,
        };
        let (protocol, on_link) = match packet.addrs {
            Addrs::V4 { .. } => (packet.protocol.0, false),
            Addrs::V6 { dst, .. } => (0, dst.is_multicast() || dst.is_unicast_link_local()),
        };
        Some(Key { addrs: packet.addrs, id, protocol, link: ingress.filter(|_| on_link), local })
    }
}

/// What became of a fragment that was shown to [`Reassembly::collect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collected {
    /// Kept until the others are there.
    Kept,
    /// The last that lacked: the datagram is in the assembly.
    Whole,
    /// Not kept, and `others` of the same datagram that were are gone too.
    Dropped { reason: DropReason, others: u16 },
    /// To go on by itself, which the tracker calls INVALID; `others` that were kept are gone.
    Stray { others: u16 },
}

/// Fragments that went because of another datagram or of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// From the wire.
    pub received: u32,
    /// From the box.
    pub local: u32,
}

/// All unfinished datagrams of one worker.
pub(crate) struct Reassembly {
    limit: u32,
    blocks: Blocks,
    slots: Vec<Slot>,
    /// Heads of chains by hash.
    chains: Box<[u32]>,
    /// Slots that are free.
    free: u32,
    /// IPv4's and IPv6's, since their timeouts differ.
    ages: [Ages; 2],
    seed: u64,
    /// Identifications given so far.
    ids: u64,
    held: Lost,
    evicted: Lost,
}

struct Slot {
    datagram: Datagram,
    /// The next one in the chain, or the next free one.
    next: u32,
    older: u32,
    newer: u32,
}

/// A list by age.
#[derive(Clone, Copy)]
struct Ages {
    oldest: u32,
    newest: u32,
}

impl Reassembly {
    /// Memory for `limit` bytes of fragments; `seed` is random.
    pub fn new(limit: u32, seed: u64) -> Reassembly {
        let blocks = Blocks::new(limit as usize);
        let count = blocks.count();
        let none = Ages { oldest: NONE, newest: NONE };
        Reassembly {
            limit,
            slots: Vec::with_capacity(count),
            chains: vec![NONE; count.next_power_of_two()].into_boxed_slice(),
            blocks,
            free: NONE,
            ages: [none; 2],
            seed,
            ids: 0,
            held: Lost::default(),
            evicted: Lost::default(),
        }
    }

    /// Memory for `limit` bytes from now on. Where that is another amount, all fragments go; returns how many.
    pub fn resize(&mut self, limit: u32) -> Lost {
        if limit == self.limit {
            return Lost::default();
        }
        let lost = self.held;
        let ids = self.ids;
        *self = Reassembly { ids, ..Reassembly::new(limit, self.seed) };
        lost
    }

    /// Fragments that are kept.
    pub fn held(&self) -> Lost {
        self.held
    }

    /// Fragments that went for lack of memory since this was asked last.
    pub fn take_evicted(&mut self) -> Lost {
        std::mem::take(&mut self.evicted)
    }

    /// An identification for a datagram that leaves in fragments: unpredictable, as RFC 7739 asks for.
    pub fn fresh_id(&mut self) -> u32 {
        self.ids = self.ids.wrapping_add(1);
        let mut hasher = DefaultHasher::new();
        (self.seed, "identification", self.ids).hash(&mut hasher);
        hasher.finish() as u32
    }

    /// Takes a fragment in. A datagram that is not complete `timeout` after its first fragment came is given up.
    pub fn collect(
        &mut self,
        (now, timeout): (Tick, Millis),
        key: Key,
        packet: &Packet,
        part: Part<'_>,
        arrived: Arrived,
        assembly: &mut Assembly,
    ) -> Collected {
        let incoming = Incoming { part, tos: packet.tos, dont_fragment: packet.dont_fragment, arrived };
        let at = match self.find(&key) {
            Some(at) => at,
            None => match self.begin(Datagram::new(key, now.after(timeout), arrived)) {
                Some(at) => at,
                None => return Collected::Dropped { reason: DropReason::FragmentMemory, others: 0 },
            },
        };
        let placed = self.place(at, &incoming);
        let kept = self.slots.get(at as usize).map_or(0, |slot| slot.datagram.fragments);
        match placed {
            Placed::Kept => {
                self.count(key.local, 1);
                Collected::Kept
            }
            Placed::Complete => {
                let others = kept.saturating_sub(1);
                let slot = self.slots.get(at as usize);
                let whole = slot.is_some_and(|slot| assembly.write(&slot.datagram, &self.blocks));
                self.end(at, others);
                match whole {
                    true => Collected::Whole,
                    false => Collected::Dropped { reason: DropReason::FragmentInvalid, others },
                }
            }
            Placed::Refused(reason) => {
                // One of IPv6 without bytes tells where the datagram ends, and is gone: the kernel remembers.
                if self.slots.get(at as usize).is_some_and(|slot| slot.datagram.end == 0) {
                    self.end(at, kept);
                }
                Collected::Dropped { reason, others: 0 }
            }
            Placed::NoRoom => {
                self.end(at, kept);
                Collected::Dropped { reason: DropReason::FragmentMemory, others: kept }
            }
            Placed::Killed(reason) => {
                self.end(at, kept);
                Collected::Dropped { reason, others: kept }
            }
            Placed::Stray => {
                self.end(at, kept);
                Collected::Stray { others: kept }
            }
        }
    }

    /// Whether the time of a datagram has come.
    #[inline]
    pub fn is_overdue(&self, now: Tick) -> bool {
        self.overdue(now).is_some()
    }

    #[inline]
    fn overdue(&self, now: Tick) -> Option<u32> {
        let due = |ages: &Ages| {
            let slot = self.slots.get(ages.oldest as usize)?;
            now.is_due(slot.datagram.deadline).then_some(ages.oldest)
        };
        self.ages.iter().find_map(due)
    }

    /// Gives up a datagram whose time has come. Its first fragment, if it came, is written to the assembly as it
    /// was, for its sender to be told.
    pub fn expire(&mut self, now: Tick, assembly: &mut Assembly) -> Option<Expired> {
        let at = self.overdue(now)?;
        let datagram = &self.slots.get(at as usize)?.datagram;
        let expired =
            Expired { key: datagram.key, fragments: datagram.fragments, first: datagram.header_length != 0 };
        if expired.first {
            assembly.write_first(datagram, &self.blocks);
        }
        self.end(at, expired.fragments);
        Some(expired)
    }

    /// Places a fragment, and makes room for it as long as there are older datagrams.
    fn place(&mut self, at: u32, incoming: &Incoming<'_>) -> Placed {
        loop {
            let Some(slot) = self.slots.get_mut(at as usize) else { return Placed::NoRoom };
            match slot.datagram.place(&mut self.blocks, incoming) {
                Placed::NoRoom if self.evict(Some(at)) => {}
                placed => return placed,
            }
        }
    }

    /// Gives up the datagram whose time is up first, but for one; false where there is no other.
    fn evict(&mut self, but: Option<u32>) -> bool {
        let oldest = |ages: &Ages| {
            let first = self.slots.get(ages.oldest as usize)?;
            let at = if Some(ages.oldest) == but { first.newer } else { ages.oldest };
            Some((at, self.slots.get(at as usize)?.datagram.deadline))
        };
        let [v4, v6] = &self.ages;
        let at = match (oldest(v4), oldest(v6)) {
            (Some((v4, by)), Some((v6, by6))) => {
                if by6.is_due(by) {
                    v4
                } else {
                    v6
                }
            }
            (Some((at, _)), None) | (None, Some((at, _))) => at,
            (None, None) => return false,
        };
        let Some(Slot { datagram: Datagram { key, fragments, .. }, .. }) = self.slots.get(at as usize) else {
            return false;
        };
        let (local, fragments) = (key.local, *fragments);
        match local {
            true => self.evicted.local += u32::from(fragments),
            false => self.evicted.received += u32::from(fragments),
        }
        self.end(at, fragments);
        true
    }

    fn find(&self, key: &Key) -> Option<u32> {
        let mut at = *self.chains.get(self.chain(key))?;
        while let Some(slot) = self.slots.get(at as usize) {
            if slot.datagram.key == *key {
                return Some(at);
            }
            at = slot.next;
        }
        None
    }

    fn chain(&self, key: &Key) -> usize {
        let mut hasher = DefaultHasher::new();
        (self.seed, key).hash(&mut hasher);
        hasher.finish() as usize & (self.chains.len().saturating_sub(1))
    }

    /// Enters a datagram. There are as many slots as blocks, and each datagram has a block.
    fn begin(&mut self, datagram: Datagram) -> Option<u32> {
        let chain = self.chain(&datagram.key);
        let family = datagram.key.addrs.family();
        while self.free == NONE && self.slots.len() == self.slots.capacity() {
            if !self.evict(None) {
                return None;
            }
        }
        let next = *self.chains.get(chain)?;
        let older = self.ages(family).newest;
        let slot = Slot { datagram, next, older, newer: NONE };
        let at = match self.slots.get_mut(self.free as usize) {
            Some(place) => {
                let at = std::mem::replace(&mut self.free, place.next);
                *place = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        };
        *self.chains.get_mut(chain)? = at;
        match self.slots.get_mut(older as usize) {
            Some(before) => before.newer = at,
            None => self.ages(family).oldest = at,
        }
        self.ages(family).newest = at;
        Some(at)
    }

    /// Forgets a datagram of which `kept` fragments were counted.
    fn end(&mut self, at: u32, kept: u16) {
        let Some(slot) = self.slots.get_mut(at as usize) else { return };
        slot.datagram.release(&mut self.blocks);
        let (key, next, older, newer) = (slot.datagram.key, slot.next, slot.older, slot.newer);
        slot.next = std::mem::replace(&mut self.free, at);
        self.count(key.local, -i64::from(kept));
        self.unchain(&key, at, next);
        let family = key.addrs.family();
        match self.slots.get_mut(older as usize) {
            Some(before) => before.newer = newer,
            None => self.ages(family).oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(behind) => behind.older = older,
            None => self.ages(family).newest = older,
        }
    }

    fn unchain(&mut self, key: &Key, gone: u32, next: u32) {
        let chain = self.chain(key);
        let Some(head) = self.chains.get_mut(chain) else { return };
        if *head == gone {
            *head = next;
            return;
        }
        let mut at = *head;
        while let Some(slot) = self.slots.get_mut(at as usize) {
            if slot.next == gone {
                slot.next = next;
                return;
            }
            at = slot.next;
        }
    }

    fn ages(&mut self, family: Family) -> &mut Ages {
        let [v4, v6] = &mut self.ages;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    fn count(&mut self, local: bool, change: i64) {
        let held = if local { &mut self.held.local } else { &mut self.held.received };
        *held = u32::try_from(i64::from(*held) + change).unwrap_or(0);
    }
}

/// A datagram that was given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expired {
    pub key: Key,
    pub fragments: u16,
    /// Whether its first fragment is in the assembly.
    pub first: bool,
}
