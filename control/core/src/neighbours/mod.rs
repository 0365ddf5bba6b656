//! The next hops on every link: asked for, believed for a while, verified while in use, forgotten.
//!
//! A state machine without sockets and clock: time comes in as an argument, frames go out as [`Action`]s. Workers see
//! its entries as [`NeighbourState`](sluice_engine::world::NeighbourState) and say through [`Event::Resolve`](sluice_engine::message::Event) whom they miss.
//! One table for ARP (`arp`) and neighbour discovery (`nd`), which differ only in their messages.
//!
//! What a host may claim about itself is limited: messages change entries that the router asked for or already has,
//! they never make new ones, so that nobody fills the table for us.
//!
//! Source: RFC 826, RFC 5227, RFC 4861 section 7.3; timings are RFC 4861 section 10's.

mod arp;
mod nd;
mod state;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sluice_engine::ids::InterfaceId;
use sluice_engine::world::interfaces::AddressKind;
use sluice_engine::world::{Interface, Interfaces, Neighbour, NeighbourKey};
use sluice_wire::{MacAddr, Parsed};

use state::State;

/// Time on the caller's monotonic clock, from any start.
pub type Time = Duration;

/// How long an answer is awaited (RETRANS_TIMER).
const RETRANSMIT: Duration = Duration::from_secs(1);
/// How often is asked, by broadcast and by unicast alike (MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT).
const TRIES: u8 = 3;
/// How long an answer is believed (REACHABLE_TIME).
const REACHABLE: Duration = Duration::from_secs(30);
/// How long an entry stays that nobody uses (Linux: gc_stale_time).
const STALE: Duration = Duration::from_secs(60);
/// How long packets to a host that does not answer are refused before it is asked again.
const FAILED: Duration = Duration::from_secs(3);
/// Between two announcements of an address (RFC 5227: ANNOUNCE_INTERVAL), and how many there are (ANNOUNCE_NUM).
const ANNOUNCE: Duration = Duration::from_secs(2);
const ANNOUNCEMENTS: u8 = 2;
/// Between two defences of an address (RFC 5227: DEFEND_INTERVAL).
const DEFEND: Duration = Duration::from_secs(10);
/// Hosts that are asked for or failed; a scan of a large prefix must not push out those that answer.
const MAX_UNRESOLVED: usize = 1024;
/// All entries.
const MAX_ENTRIES: usize = 16384;

/// What the table wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a frame by this interface.
    Send(InterfaceId, Vec<u8>),
    /// Another station claims an address of ours.
    Conflict {
        /// The interface.
        interface: InterfaceId,
        /// Our address.
        address: IpAddr,
        /// The other station.
        mac: MacAddr,
    },
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// When it last proved to be there.
    confirmed: Option<Time>,
    /// When a worker was last seen to have used it.
    used: Option<Time>,
    /// Where workers note that they use it, and what was last seen there.
    cell: Arc<AtomicU32>,
    seen: u32,
}

/// An entry as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Who.
    pub key: NeighbourKey,
    /// Its MAC address, where known.
    pub mac: Option<MacAddr>,
    /// RFC 4861's name of its state, lower case; `permanent`; `failed`.
    pub state: &'static str,
    /// When it last proved to be there.
    pub confirmed: Option<Time>,
    /// When it was last used.
    pub used: Option<Time>,
}

/// An address of ours that is still to be announced.
#[derive(Debug)]
struct Announcement {
    interface: InterfaceId,
    address: IpAddr,
    left: u8,
    next: Time,
}

/// All next hops, and the box's own addresses on the links.
pub struct Table {
    interfaces: Arc<Interfaces>,
    entries: HashMap<NeighbourKey, Entry>,
    unresolved: usize,
    announcements: Vec<Announcement>,
    defended: HashMap<(InterfaceId, IpAddr), Time>,
    actions: Vec<Action>,
    changed: bool,
}

impl Table {
    /// A table with the entries of the system file, which announces all addresses of `interfaces` from `now` on.
    pub fn new(now: Time, interfaces: Arc<Interfaces>, permanent: &[(NeighbourKey, MacAddr)]) -> Table {
        let mut table = Table {
            interfaces: Arc::default(),
            entries: HashMap::new(),
            unresolved: 0,
            announcements: Vec::new(),
            defended: HashMap::new(),
            actions: Vec::new(),
            changed: true,
        };
        table.configure(now, interfaces, permanent);
        table
    }

    /// Goes on with other addresses and other permanent entries; announces addresses that are new.
    pub fn configure(
        &mut self,
        now: Time,
        interfaces: Arc<Interfaces>,
        permanent: &[(NeighbourKey, MacAddr)],
    ) {
        for (id, interface) in interfaces.iter() {
            for &(address, _) in &interface.addresses {
                let had = self.interfaces.get(id).is_some_and(|old| has_address(old, address));
                if !had && !interface.mac.is_multicast() {
                    self.announcements.push(Announcement {
                        interface: id,
                        address,
                        left: ANNOUNCEMENTS,
                        next: now,
                    });
                }
            }
        }
        self.interfaces = interfaces;
        let interfaces = &self.interfaces;
        self.announcements.retain(|a| {
            interfaces.get(a.interface).is_some_and(|interface| has_address(interface, a.address))
        });
        self.entries.retain(|_, entry| !matches!(entry.state, State::Permanent(_)));
        for &(key, mac) in permanent {
            self.put(key, State::Permanent(mac));
        }
        self.changed = true;
    }

    /// A worker has a packet for a next hop that the table does not have.
    pub fn wanted(&mut self, now: Time, key: NeighbourKey) {
        let room = self.unresolved < MAX_UNRESOLVED && self.entries.len() < MAX_ENTRIES;
        if self.entries.contains_key(&key) || !room || !self.can_be_neighbour(&key) {
            return;
        }
        self.put(key, State::Incomplete { asked: 1, until: now + RETRANSMIT });
        self.ask(key, None);
    }

    /// An ARP or neighbour discovery frame that came in by `interface`.
    pub fn received(&mut self, now: Time, interface: InterfaceId, frame: &[u8]) {
        match sluice_wire::parse(frame) {
            Ok(Parsed::Arp(arp)) => self.received_arp(now, interface, &arp),
            Ok(Parsed::Ip(packet)) => {
                if let Some(message) = sluice_wire::nd::parse(&packet, frame) {
                    self.received_nd(now, interface, &message, sluice_wire::source(frame));
                }
            }
            _ => {}
        }
    }

    /// Does what is due. To be called a few times a second.
    pub fn tick(&mut self, now: Time) {
        let keys: Vec<NeighbourKey> = self.entries.keys().copied().collect();
        for key in keys {
            self.tick_entry(now, key);
        }
        for mut announcement in std::mem::take(&mut self.announcements) {
            if now >= announcement.next {
                self.announce(announcement.interface, announcement.address);
                announcement.left -= 1;
                announcement.next = now + ANNOUNCE;
            }
            if announcement.left > 0 {
                self.announcements.push(announcement);
            }
        }
        self.defended.retain(|_, at| now < *at + DEFEND);
    }

    /// What is to be done since the last call.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Whether workers need the entries anew.
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// The entries that workers need, if they changed since the last call.
    pub fn take_changed(&mut self) -> Option<Vec<(NeighbourKey, Neighbour)>> {
        std::mem::take(&mut self.changed).then(|| {
            let published = self.entries.iter().filter_map(|(key, entry)| {
                let state = entry.state.published()?;
                Some((*key, Neighbour::new(state, Arc::clone(&entry.cell))))
            });
            published.collect()
        })
    }

    /// All entries, in no order.
    pub fn view(&self) -> impl Iterator<Item = View> {
        self.entries.iter().map(|(key, entry)| View {
            key: *key,
            mac: entry.state.mac(),
            state: entry.state.name(),
            confirmed: entry.confirmed,
            used: entry.used,
        })
    }

    fn tick_entry(&mut self, now: Time, key: NeighbourKey) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let stamp = entry.cell.load(Ordering::Relaxed);
        if stamp != entry.seen {
            entry.seen = stamp;
            entry.used = Some(now);
        }
        let used = entry.used;
        let used_since = |time: Option<Time>| used.is_some_and(|used| time.is_none_or(|time| used >= time));
        match entry.state {
            State::Incomplete { asked, until } if now >= until => {
                if asked < TRIES {
                    entry.state = State::Incomplete { asked: asked + 1, until: now + RETRANSMIT };
                    self.ask(key, None);
                } else {
                    self.put(key, State::Failed { until: now + FAILED });
                }
            }
            State::Reachable { mac, until } if now >= until => {
                if used_since(entry.confirmed) {
                    self.probe(now, key, mac);
                } else {
                    entry.state = State::Stale { mac, since: now };
                }
            }
            State::Stale { mac, since } => {
                if used_since(Some(since)) {
                    self.probe(now, key, mac);
                } else if now >= since + STALE {
                    self.remove(key);
                }
            }
            State::Probe { mac, asked, until } if now >= until => {
                if asked < TRIES {
                    entry.state = State::Probe { mac, asked: asked + 1, until: now + RETRANSMIT };
                    self.ask(key, Some(mac));
                } else {
                    // It may have moved: everyone is asked before packets are refused.
                    self.put(key, State::Incomplete { asked: 1, until: now + RETRANSMIT });
                    self.ask(key, None);
                }
            }
            State::Failed { until } if now >= until => self.remove(key),
            _ => {}
        }
    }

    fn probe(&mut self, now: Time, key: NeighbourKey, mac: MacAddr) {
        self.put(key, State::Probe { mac, asked: 1, until: now + RETRANSMIT });
        self.ask(key, Some(mac));
    }

    /// A station proved that it has `key`'s address: it answered what it was asked.
    fn confirmed(&mut self, now: Time, key: NeighbourKey, mac: MacAddr) {
        self.put(key, State::Reachable { mac, until: now + REACHABLE });
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.confirmed = Some(now);
        }
    }

    /// A station claims unasked that it has `key`'s address. Believed for want of better, verified once used.
    fn claimed(&mut self, now: Time, key: NeighbourKey, mac: MacAddr) {
        match self.entries.get(&key).map(|entry| entry.state) {
            None | Some(State::Permanent(_)) => {}
            Some(state) if state.mac() == Some(mac) => {}
            Some(_) => self.put(key, State::Stale { mac, since: now }),
        }
    }

    /// Somebody else speaks with one of our addresses: said, and defended once in a while.
    fn conflict(&mut self, now: Time, interface: InterfaceId, address: IpAddr, mac: MacAddr) {
        if self.defended.contains_key(&(interface, address)) {
            return;
        }
        self.defended.insert((interface, address), now);
        self.actions.push(Action::Conflict { interface, address, mac });
        self.announce(interface, address);
    }

    fn put(&mut self, key: NeighbourKey, state: State) {
        let was = self.entries.get(&key).map(|entry| entry.state);
        self.changed |= was.and_then(State::published) != state.published();
        self.unresolved += usize::from(state.mac().is_none());
        self.unresolved -= usize::from(was.is_some_and(|was| was.mac().is_none()));
        let new = || Entry {
            state,
            confirmed: None,
            used: None,
            cell: Arc::new(AtomicU32::new(NEVER)),
            seen: NEVER,
        };
        self.entries.entry(key).or_insert_with(new).state = state;
    }

    fn remove(&mut self, key: NeighbourKey) {
        if let Some(entry) = self.entries.remove(&key) {
            self.unresolved -= usize::from(entry.state.mac().is_none());
            self.changed |= entry.state.published().is_some();
        }
    }

    /// Whether the address can be a station on that link at all.
    fn can_be_neighbour(&self, key: &NeighbourKey) -> bool {
        !key.address.is_unspecified() && self.interfaces.kind(key.address) == AddressKind::Routed
    }

    fn ask(&mut self, key: NeighbourKey, station: Option<MacAddr>) {
        let Some(interface) = self.interfaces.get(key.interface) else { return };
        let source = self.interfaces.source_for(key.interface, key.address);
        let frame = match (key.address, source) {
            (IpAddr::V4(target), Some(IpAddr::V4(source))) => {
                arp::request(interface, source, target, station)
            }
            (IpAddr::V6(target), Some(IpAddr::V6(source))) => {
                nd::solicitation(interface, source, target, station)
            }
            // No address of the family to ask from.
            _ => None,
        };
        self.send(key.interface, frame);
    }

    fn announce(&mut self, id: InterfaceId, address: IpAddr) {
        let Some(interface) = self.interfaces.get(id) else { return };
        let frame = match address {
            IpAddr::V4(address) => arp::announcement(interface, address),
            IpAddr::V6(address) => nd::announcement(interface, address),
        };
        self.send(id, frame);
    }

    fn send(&mut self, interface: InterfaceId, frame: Option<Vec<u8>>) {
        self.actions.extend(frame.map(|frame| Action::Send(interface, frame)));
    }
}

/// A stamp that no worker writes: they write seconds of a clock of milliseconds in 32 bits.
const NEVER: u32 = u32::MAX;

/// The longest frame that is made here: a solicitation with its option.
const FRAME: usize = 96;

/// Makes a frame with one of wire's builders.
fn build<E>(emit: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Option<Vec<u8>> {
    let mut frame = vec![0; FRAME];
    let len = emit(&mut frame).ok()?;
    frame.truncate(len);
    Some(frame)
}

fn has_address(interface: &Interface, address: IpAddr) -> bool {
    address == IpAddr::V6(interface.link_local())
        || interface.addresses.iter().any(|(own, _)| *own == address)
}

#[cfg(test)]
mod tests;
