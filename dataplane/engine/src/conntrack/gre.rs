//! GRE: once answered, a tunnel lives longer and is ASSURED. Keys of version 0 play no part; version 1 is PPTP's, and its
//! packets carry the call id of who receives them.
//!
//! Which id the sender has for the same call, only the control connection tells. [`Calls`] keeps what its helper read, so that
//! a packet's tuple has both, and answers are found to be answers; of a tunnel that nobody announced, the sender's id is 0,
//! and its answers are flows of their own.
//!
//! Source: `nf_conntrack_proto_gre.c`, as observed on Linux 6.18.

use sluice_wire::{Addrs, Family, Protocol, Transport};

use super::Conntrack;
use super::info::{FlowHandle, Status};
use super::shared::Shared;
use super::table::Table;
use super::track::{Context, Judged};
use super::tuple::{Address, FamilyKey, FamilyKeys, Key, Seeds, Tuple};
use crate::helper::Helper;
use crate::helper::pptp::{Session, Tunnel};

/// Judges a packet of a tunnel.
pub(super) fn judge(status: &mut Status, cx: &Context<'_>) -> Judged {
    let timeouts = cx.timeouts;
    if !status.contains(Status::SEEN_REPLY) {
        return Judged::Accept { timeout: timeouts.gre };
    }
    *status = status.with(Status::ASSURED);
    Judged::Accept { timeout: timeouts.gre_stream }
}

/// Places for ids: one for each direction of a call. A power of two.
const PLACES: usize = 8192;
/// How many of them are looked at for one.
const DEEPEST: usize = 16;
/// Calls whose tunnels wait for their end; those of more end by themselves.
const ENDED: usize = 512;

/// The ids of calls, by the packets of their tunnels.
#[derive(Debug)]
pub(super) struct Calls {
    /// The hash of a packet's addresses and its id, under the shard's secret; and one more than the place of the control
    /// connection, with the sender's id behind. A second packet of the same hash is not to be had on purpose.
    places: Vec<[u64; 2]>,
    count: u32,
    /// Tunnels of calls that are over.
    ended: Vec<Key>,
}

impl Calls {
    /// None.
    pub(super) fn new() -> Calls {
        Calls { places: vec![[0; 2]; PLACES], count: 0, ended: Vec::with_capacity(ENDED) }
    }

    /// The sender's id of the call of a packet with this hash.
    fn peer(&self, hash: u64) -> Option<u16> {
        let (_, [_, value]) = self.at(hash).find(|(_, [known, value])| *value != 0 && *known == hash)?;
        Some(value as u16)
    }

    /// Enters what packets of this hash have; false if others have that, or there is no room.
    fn insert(&mut self, hash: u64, master: u32, peer: u16) -> bool {
        let value = (u64::from(master) + 1) << 16 | u64::from(peer);
        if let Some((_, [_, known])) = self.at(hash).find(|(_, [known, value])| *value != 0 && *known == hash)
        {
            return known == value;
        }
        let free = self.at(hash).find(|(_, [_, value])| *value == 0).map(|(at, _)| at);
        let Some(place) = free.and_then(|at| self.places.get_mut(at)) else { return false };
        *place = [hash, value];
        self.count += 1;
        true
    }

    /// Takes out what a control connection entered.
    fn remove(&mut self, hash: u64, master: u32) {
        let of_master = |value: u64| value >> 16 == u64::from(master) + 1;
        let found = self.at(hash).find(|(_, [known, value])| *known == hash && of_master(*value));
        if let Some(place) = found.and_then(|(at, _)| self.places.get_mut(at)) {
            *place = [0; 2];
            self.count -= 1;
        }
    }

    fn at(&self, hash: u64) -> impl Iterator<Item = (usize, [u64; 2])> {
        (0..DEEPEST).filter_map(move |n| {
            let at = ((hash >> 32) as usize).wrapping_add(n) % PLACES;
            Some((at, *self.places.get(at)?))
        })
    }
}

/// The hash of a tunnel's packet; the sender's id, which it does not carry, plays no part.
fn hash_of<A: Address>(tuple: &Tuple<A>, seeds: &Seeds) -> u64 {
    A::mix((tuple.src, 0), (tuple.dst, tuple.dport), tuple.protocol, seeds)
}

impl Conntrack {
    /// What packets between these ends are looked up by; `None` if no flow can have such a packet.
    pub(super) fn key_between(
        &self,
        addrs: &Addrs,
        protocol: Protocol,
        transport: &Transport,
    ) -> Option<Key> {
        let key = Key::of(addrs, protocol, transport, &self.seeds)?;
        Some(if protocol == Protocol::GRE { self.with_call(key) } else { key })
    }

    /// The key of a tunnel's packet, with both ids of its call, if that was announced.
    #[cold]
    pub(super) fn with_call(&self, key: Key) -> Key {
        if self.shared.calls.count == 0 {
            return key;
        }
        let calls = &self.shared.calls;
        Key(match key.0 {
            FamilyKeys::V4(key) => FamilyKeys::V4(key.of_call(calls, &self.seeds)),
            FamilyKeys::V6(key) => FamilyKeys::V6(key.of_call(calls, &self.seeds)),
        })
    }

    /// Has the tunnel's packets known by both ids from now on; false if others are known by the same. A control connection
    /// has one call: of another one, the ids are refused until the first has ended.
    pub(crate) fn begin_call(&mut self, master: FlowHandle, tunnel: Tunnel) -> bool {
        match master.family {
            Family::V4 => self.v4.begin_call(&mut self.shared, master.index, tunnel),
            Family::V6 => self.v6.begin_call(&mut self.shared, master.index, tunnel),
        }
    }

    /// The call of a control connection is over, and its tunnel.
    pub(crate) fn hang_up(&mut self, master: FlowHandle) {
        self.unexpect_classes(master, |_| true);
        match master.family {
            Family::V4 => self.v4.end_call(&mut self.shared, master.index),
            Family::V6 => self.v6.end_call(&mut self.shared, master.index),
        }
        self.end_tunnels();
    }

    /// Removes the tunnels of calls that are over. Not done where a control connection goes, since the wheel may have the
    /// tunnel in hand at the same time.
    #[inline]
    pub(super) fn end_tunnels(&mut self) {
        while let Some(Key(key)) = self.shared.calls.ended.pop() {
            match &key {
                FamilyKeys::V4(key) => self.v4.remove_known(&mut self.shared, key),
                FamilyKeys::V6(key) => self.v6.remove_known(&mut self.shared, key),
            }
        }
    }
}

impl<A: Address> FamilyKey<A> {
    fn of_call(self, calls: &Calls, seeds: &Seeds) -> FamilyKey<A> {
        match calls.peer(hash_of(&self.tuple, seeds)) {
            Some(sport) => FamilyKey::of_tuple(Tuple { sport, ..self.tuple }, seeds),
            None => self,
        }
    }
}

impl<A: Address> Table<A> {
    /// How the client's packets come in a tunnel, and how the server's do.
    fn ends_of(&self, master: u32, tunnel: &Tunnel) -> Option<[Tuple<A>; 2]> {
        let protocol = Protocol::GRE.0;
        let (up, down) = (self.original_at(master)?, self.outward_at(master)?.reversed());
        let (client, server) = (tunnel.client.0, tunnel.server.0);
        let outer = if tunnel.translated { down.dport } else { client };
        Some([
            Tuple { sport: client, dport: server, protocol, ..up },
            Tuple { sport: server, dport: outer, protocol, ..down },
        ])
    }

    fn begin_call(&mut self, shared: &mut Shared, master: u32, tunnel: Tunnel) -> bool {
        let mut help = self.aside.help(master);
        let session = Session::from_words(help.memory);
        let Some([up, down]) = self.ends_of(master, &tunnel) else { return false };
        if session.tunnel.is_some_and(|opened| opened != tunnel) {
            return false;
        }
        let (there, back) = (hash_of(&up, self.seeds()), hash_of(&down, self.seeds()));
        if !shared.calls.insert(there, master, up.sport) {
            return false;
        }
        if !shared.calls.insert(back, master, down.sport) {
            shared.calls.remove(there, master);
            return false;
        }
        help.memory = session.with_tunnel(Some(tunnel)).to_words();
        self.aside.set_help(master, &help);
        true
    }

    /// Forgets the ids of a control connection's call, if it has one, and has its tunnel end.
    #[cold]
    pub(super) fn end_call(&mut self, shared: &mut Shared, master: u32) {
        let mut help = self.aside.help(master);
        if help.assigned.is_none_or(|assigned| assigned.helper != Helper::Pptp) {
            return;
        }
        let session = Session::from_words(help.memory);
        let Some(tunnel) = session.tunnel else { return };
        let Some([up, down]) = self.ends_of(master, &tunnel) else { return };
        for tuple in [&up, &down] {
            shared.calls.remove(hash_of(tuple, self.seeds()), master);
        }
        help.memory = session.with_tunnel(None).to_words();
        self.aside.set_help(master, &help);
        let zone = self.zone_at(master).unwrap_or_default();
        if shared.calls.ended.len() < ENDED {
            shared.calls.ended.push(A::key(FamilyKey::of_tuple(up, self.seeds())).in_zone(zone));
        }
    }

    fn remove_known(&mut self, shared: &mut Shared, key: &FamilyKey<A>) {
        if let Some((place, _)) = self.known(key) {
            self.remove(shared, place);
        }
    }
}
