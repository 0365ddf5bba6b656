//! The short way through the engine: plain packets (see [`Plain`]) that are sent on as a stored decision says. Nothing but
//! what that needs is read of them, each thing once, and what they count is put together for a burst.
//!
//! Whoever takes it is treated as on the whole path (`passes`), which takes everybody else: before anything was done to
//! the packet, so that nothing is undone, whatever turns out to be unusual about it.
//! Source: docs/adr/0024-an-express-lane.md.

use sluice_wire::{
    Checksum, Family, MacAddr, Plain, Protocol, destination, martian, plain_v4, plain_v6, symmetric_toeplitz,
};

use super::passes::Arrival;
use crate::conntrack::{Conntrack, CtState, Shard, may_be_steady};
use crate::counters::WorkerCounters;
use crate::decision::{self, Course};
use crate::engine::BURST;
use crate::frame::{Frame, Origin, RxChecksum};
use crate::ids::InterfaceId;
use crate::ruleset::Hook;
use crate::stage::raw::Raw;
use crate::stage::{admit, settle, stateless};
use crate::transit::{Bench, Sender};
use crate::verdict::Verdict;
use crate::world::World;

/// Ports of DHCP's two ends, whose packets may be the box's own (`stage::lease`).
const DHCP: (u16, u16) = (67, 68);

/// One engine's lane. Memory is fixed.
#[derive(Default)]
pub(super) struct Express {
    /// By port.
    doors: Vec<Option<Door>>,
    /// Packets between the passes.
    v4: Riders<u32>,
    v6: Riders<u128>,
    tally: Tally,
}

/// What of a port decides who may take the short way: frames without a tag to the router's own station.
#[derive(Clone, Copy)]
struct Door {
    mac: MacAddr,
    ingress: InterfaceId,
    /// Programs on the box give this interface its addresses.
    leases: bool,
    /// No rule is asked before the tracker.
    tracks: bool,
    /// The tracker verifies transport checksums.
    verifies: bool,
}

/// A packet that may be of a flow with a stored decision.
#[derive(Clone, Copy)]
struct Rider<A> {
    plain: Plain<A>,
    ingress: InterfaceId,
    /// Where its flow most likely is.
    place: Option<u32>,
    hash: u64,
}

/// Those of one family in a burst, in the order of arrival.
#[derive(Default)]
struct Riders<A> {
    places: Box<[Option<Rider<A>>]>,
    count: u8,
}

/// Which way a frame goes through the passes.
#[derive(Clone, Copy, Default)]
pub(super) enum Way {
    /// It has its verdict.
    #[default]
    Done,
    /// The whole path, by its number among those.
    Whole(u8),
    /// The short one, by its number among those of its family.
    V4(u8),
    V6(u8),
}

/// Packets that took the short way, by where they came in and what they were to the tracker.
#[derive(Clone, Copy, Default)]
struct Tally {
    ingress: Option<InterfaceId>,
    /// Received here, not at another worker.
    received: u64,
    /// Of them, in bytes.
    bytes: u64,
    forwarded: u64,
    dropped: u64,
    established: u64,
    new: u64,
    untracked: u64,
}

impl Express {
    /// A lane into `world`.
    pub(super) fn new(world: &World) -> Express {
        let mut express =
            Express { v4: Riders::of_a_burst(), v6: Riders::of_a_burst(), ..Express::default() };
        express.adopt(world);
        express
    }

    /// Looks anew who may take it.
    pub(super) fn adopt(&mut self, world: &World) {
        self.doors.clear();
        for (id, interface) in world.interfaces.iter().filter(|(_, interface)| interface.vlan.is_none()) {
            let port = usize::from(interface.port.0);
            if self.doors.len() <= port {
                self.doors.resize(port + 1, None);
            }
            if let Some(door) = self.doors.get_mut(port) {
                *door = Some(Door {
                    mac: interface.mac,
                    ingress: id,
                    leases: interface.kernel_addresses,
                    tracks: world.ruleset.is_empty(Hook::RawPrerouting),
                    verifies: world.settings.conntrack.checksum,
                });
            }
        }
    }

    /// First pass: tells which frames may take the short way, and asks for the buckets that their flows would be in. To all
    /// others it does nothing.
    pub(super) fn admit(&mut self, bench: &mut Bench<'_>, frames: &mut [Frame<'_>], ways: &mut [Way; BURST]) {
        (self.v4.count, self.v6.count) = (0, 0);
        // Twice the code, so that where all packets are tracked the other half takes no registers.
        match bench.world.ruleset.may_notrack() {
            true => self.admit_all::<true>(bench, frames, ways),
            false => self.admit_all::<false>(bench, frames, ways),
        }
    }

    #[inline(never)]
    fn admit_all<const SKIPS: bool>(
        &mut self,
        bench: &mut Bench<'_>,
        frames: &mut [Frame<'_>],
        ways: &mut [Way; BURST],
    ) {
        let course = Course::of(bench);
        for (frame, way) in frames.iter_mut().zip(ways) {
            *way = self.admit_one::<SKIPS>(bench, frame, &course).unwrap_or(Way::Whole(0));
        }
    }

    #[inline(always)]
    fn admit_one<const SKIPS: bool>(
        &mut self,
        bench: &mut Bench<'_>,
        frame: &mut Frame<'_>,
        course: &Course<'_>,
    ) -> Option<Way> {
        let Express { doors, v4, v6, tally } = self;
        if !matches!(frame.origin, Origin::Wire | Origin::HandedOver) {
            return None;
        }
        let door = doors.get(usize::from(frame.port.0))?.as_ref()?;
        let bytes = frame.bytes();
        if destination(bytes) != door.mac {
            return None;
        }
        let entered = if let Some(plain) = plain_v4(bytes) {
            v4.enter::<SKIPS>(bench, frame, (plain, door, course), tally)?.map(Way::V4)
        } else {
            v6.read::<SKIPS>(bench, frame, (door, course), tally)?.map(Way::V6)
        };
        Some(entered.unwrap_or(Way::Done))
    }

    /// Second pass: asks for the flows that the packets are most likely of.
    #[inline(never)]
    pub(super) fn look_up(&mut self, bench: &Bench<'_>) {
        self.v4.look_up(bench.conntrack);
        self.v6.look_up(bench.conntrack);
    }

    /// Third pass, one by one in the order of arrival: true for a frame that is done with, false for one that is to take the
    /// whole path from its beginning.
    #[inline(always)]
    pub(super) fn judge(
        &mut self,
        bench: &mut Bench<'_>,
        frame: &mut Frame<'_>,
        way: Way,
        course: &Course<'_>,
    ) -> bool {
        let Express { v4, v6, tally, .. } = self;
        match way {
            Way::V4(number) => v4.ride(bench, frame, (number, course), tally),
            Way::V6(number) => v6.ride(bench, frame, (number, course), tally),
            Way::Done | Way::Whole(_) => true,
        }
    }

    /// Makes an arrival of a packet that found no flow in the lane, with what is known of it already; false if it is to be
    /// admitted as any other.
    pub(super) fn hand_back(
        &self,
        bench: &Bench<'_>,
        frame: &mut Frame<'_>,
        way: Way,
        arrival: &mut Arrival,
    ) -> bool {
        match way {
            Way::V4(number) => self.v4.hand_back(bench, frame, number, arrival),
            Way::V6(number) => self.v6.hand_back(bench, frame, number, arrival),
            Way::Done | Way::Whole(_) => false,
        }
    }

    /// Behind a burst: counts what took the short way.
    #[inline]
    pub(super) fn end(&mut self, bench: &mut Bench<'_>) {
        if self.tally.ingress.is_some() {
            self.tally.settle(bench.counters);
            decision::count_runs(bench);
        }
    }
}

impl<A: Shard> Riders<A> {
    fn of_a_burst() -> Riders<A> {
        Riders { places: vec![None; BURST].into_boxed_slice(), count: 0 }
    }

    /// Takes a packet in: its number among the riders, or None if it has its verdict already. None for one that cannot take
    /// the short way.
    #[inline(always)]
    fn enter<const SKIPS: bool>(
        &mut self,
        bench: &mut Bench<'_>,
        frame: &mut Frame<'_>,
        (plain, door, course): (Plain<A>, &Door, &Course<'_>),
        tally: &mut Tally,
    ) -> Option<Option<u8>> {
        let leased = door.leases && plain.protocol == Protocol::UDP && (plain.sport, plain.dport) == DHCP;
        if plain.ttl <= 1 || leased {
            return None;
        }
        let ingress = door.ingress;
        if SKIPS {
            let received = frame.len;
            if let Some(verdict) = stateless::forward_plain(bench, frame, &plain, ingress, course) {
                tally.note(bench.counters, frame, (ingress, received), verdict);
                tally.untracked += 1;
                return Some(None);
            }
        }
        if !door.tracks || !may_be_steady(&plain) || !is_ours(bench, frame, &plain) {
            return None;
        }
        let unverified = door.verifies && frame.l4_checksum != RxChecksum::Good;
        if unverified && plain.verify(frame.bytes()) == Checksum::Bad {
            return None;
        }
        let hash = A::hash(bench.conntrack, &plain);
        A::prefetch(bench.conntrack, hash);
        let number = self.count;
        *self.places.get_mut(usize::from(number))? = Some(Rider { plain, ingress, place: None, hash });
        self.count += 1;
        Some(Some(number))
    }

    #[inline(always)]
    fn look_up(&mut self, conntrack: &Conntrack) {
        for rider in self.places.iter_mut().take(usize::from(self.count)).flatten() {
            rider.place = A::candidate(conntrack, &rider.plain, rider.hash);
        }
    }

    #[inline(never)]
    fn ride(
        &mut self,
        bench: &mut Bench<'_>,
        frame: &mut Frame<'_>,
        (number, course): (u8, &Course<'_>),
        tally: &mut Tally,
    ) -> bool {
        let Some(Some(rider)) = self.places.get(usize::from(number)) else { return false };
        let Some(place) = rider.place else { return false };
        let (received, ingress) = (frame.len, rider.ingress);
        let tables = (&mut *bench.conntrack, &mut *bench.decisions);
        let replayed = decision::replay_plain(tables, frame, &rider.plain, (ingress, place), course);
        let Some((verdict, state)) = replayed else { return false };
        tally.note(bench.counters, frame, (ingress, received), verdict);
        let established = u64::from(state == CtState::Established);
        tally.established += established;
        tally.new += 1 - established;
        true
    }
}

impl<A: Shard> Riders<A> {
    fn hand_back(&self, bench: &Bench<'_>, frame: &mut Frame<'_>, number: u8, arrival: &mut Arrival) -> bool {
        let Some(Some(Rider { plain, ingress, place, hash })) = self.places.get(usize::from(number)) else {
            return false;
        };
        let addrs = plain.addrs();
        if addrs.family() == Family::V6 && martian(&addrs).is_some() {
            return false;
        }
        arrival.packet = plain.packet(frame.bytes());
        admit::arrive(bench, frame, *ingress);
        frame.len = plain.end();
        arrival.sender = Sender::Wire(*ingress);
        (arrival.raw, arrival.fragment) = (Raw::default(), false);
        arrival.key = Some(A::key(plain, *hash));
        arrival.hint = place.map(|place| A::handle(place));
        true
    }
}

impl Riders<u128> {
    /// As [`Riders::enter`], for a frame that is no plain packet of IPv4. Apart, so that those have the registers.
    #[inline(never)]
    fn read<const SKIPS: bool>(
        &mut self,
        bench: &mut Bench<'_>,
        frame: &mut Frame<'_>,
        (door, course): (&Door, &Course<'_>),
        tally: &mut Tally,
    ) -> Option<Option<u8>> {
        let plain = plain_v6(frame.bytes())?;
        self.enter::<SKIPS>(bench, frame, (plain, door, course), tally)
    }
}

/// Whether a packet's flow would be in this worker's shard.
#[inline(always)]
fn is_ours<A: Shard>(bench: &Bench<'_>, frame: &Frame<'_>, plain: &Plain<A>) -> bool {
    if bench.workers <= 1 || frame.origin == Origin::HandedOver {
        return true;
    }
    let addrs = plain.addrs();
    if bench.conntrack.may_be_reserved(&addrs) {
        return admit::owner_of(bench, frame, &plain.packet(frame.bytes())) == bench.worker;
    }
    let hash = frame.rss.unwrap_or_else(|| symmetric_toeplitz(&addrs, Some((plain.sport, plain.dport))));
    admit::owner(hash, bench.workers) == bench.worker
}

impl Tally {
    /// Writes a frame's verdict into it and counts it; `received` is the length that it came with, in bytes.
    #[inline(always)]
    fn note(
        &mut self,
        counters: &WorkerCounters,
        frame: &mut Frame<'_>,
        (ingress, received): (InterfaceId, u16),
        verdict: Verdict,
    ) {
        if self.ingress != Some(ingress) {
            self.settle(counters);
            self.ingress = Some(ingress);
        }
        frame.ingress = Some(ingress);
        frame.verdict = verdict;
        let here = u64::from(frame.origin == Origin::Wire);
        self.received += here;
        self.bytes += here * u64::from(received);
        match verdict {
            Verdict::Drop(reason) => {
                settle::dropped(&counters.drops, reason, 1);
                self.dropped += 1;
            }
            _ => self.forwarded += 1,
        }
    }

    fn settle(&mut self, counters: &WorkerCounters) {
        let Tally { ingress, received, bytes, forwarded, dropped, established, new, untracked } =
            std::mem::take(self);
        if let Some(here) = ingress.and_then(|ingress| counters.interfaces.get(usize::from(ingress.0))) {
            here.rx_packets.add(received);
            here.rx_bytes.add(bytes);
            here.forwarded.add(forwarded);
        }
        counters.states.established.add(established);
        counters.states.new.add(new);
        counters.states.untracked.add(untracked);
        counters.conntrack.found.add(established + new);
        counters.fast_path.add(forwarded + dropped);
    }
}

#[cfg(test)]
mod tests;
