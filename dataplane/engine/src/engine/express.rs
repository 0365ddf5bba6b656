//! The short way through the engine: plain packets (see [`sluice_wire::Plain`]) that are sent on as a stored decision says. Nothing but
//! what that needs is read of them, each thing once, and what they count is put together for a burst.
//!
//! Whoever takes it is treated as on the whole path (`passes`), which takes everybody else: before anything was done to
//! the packet, so that nothing is undone, whatever turns out to be unusual about it.
//! Source: docs/adr/0024-an-express-lane.md.

mod riders;
mod tally;

use sluice_wire::{Plain, PlainAddress, Station, vlan_id};

use self::riders::{Riders, move_back};
use self::tally::Tally;
use super::passes::Arrival;
use crate::decision::{self, Course};
use crate::engine::BURST;
use crate::frame::{Frame, Origin, RxChecksum};
use crate::ids::InterfaceId;
use crate::ruleset::Hook;
use crate::transit::Bench;
use crate::world::World;

/// Bytes of a VLAN tag.
const TAG: u16 = 4;

/// One engine's lane. Memory is fixed.
#[derive(Default)]
pub(super) struct Express {
    /// By port.
    doors: Vec<Doors>,
    /// Packets between the passes.
    v4: Riders<u32>,
    v6: Riders<u128>,
    tally: Tally,
}

/// Those of a port's interfaces.
#[derive(Clone, Default)]
struct Doors {
    untagged: Option<Door>,
    /// By VLAN id, in order.
    tagged: Vec<(u16, Door)>,
}

/// What of an interface decides who may take the short way: frames to the router's own station.
#[derive(Clone, Copy)]
struct Door {
    station: Station,
    ingress: InterfaceId,
    /// Programs on the box give this interface its addresses.
    leases: bool,
    /// Nothing is asked before the tracker: no rule, nor whether a packet is for a pool of NAT64.
    tracks: bool,
    /// The tracker verifies transport checksums.
    verifies: bool,
    /// And all packets are tracked.
    verifies_at_once: bool,
}

impl Door {
    /// What is plain of a family in a frame, verified if all that enters is tracked.
    #[inline(always)]
    fn plain<A: PlainAddress>(&self, frame: &[u8], checksum: RxChecksum) -> Option<Plain<A>> {
        let verify = self.verifies_at_once && checksum != RxChecksum::Good;
        if A::is_plain(frame, verify) { Plain::read(frame) } else { None }
    }
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
        for (id, interface) in world.interfaces.iter() {
            let port = usize::from(interface.port.0);
            if self.doors.len() <= port {
                self.doors.resize(port + 1, Doors::default());
            }
            let Some(doors) = self.doors.get_mut(port) else { continue };
            let tracks = world.ruleset.is_empty(Hook::RawPrerouting) && world.ruleset.nat64().is_empty();
            let verifies = world.settings.conntrack.checksum;
            let door = Door {
                station: interface.mac.into(),
                ingress: id,
                leases: interface.kernel_addresses,
                tracks,
                verifies,
                verifies_at_once: tracks && verifies,
            };
            match interface.vlan {
                None => doors.untagged = Some(door),
                Some(vlan) => doors.tagged.push((vlan, door)),
            }
        }
        for doors in &mut self.doors {
            doors.tagged.sort_unstable_by_key(|(vlan, _)| *vlan);
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
        let doors = doors.get(usize::from(frame.port.0))?;
        let bytes = frame.bytes();
        if let Some(door) = &doors.untagged
            && door.station.receives(bytes)
            && let Some(plain) = door.plain(bytes, frame.l4_checksum)
        {
            let entered = v4.enter::<SKIPS>(bench, frame, (plain, door, 0), course, tally)?;
            return Some(entered.map_or(Way::Done, Way::V4));
        }
        admit_other::<SKIPS>(bench, frame, doors, (v4, v6), course, tally)
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
        if !self.tally.is_empty() {
            self.tally.settle(bench.counters);
            decision::count_runs(bench);
        }
    }
}

/// Takes in a frame that holds no plain packet of IPv4 without a tag. Apart, so that those have the registers.
#[inline(never)]
fn admit_other<const SKIPS: bool>(
    bench: &mut Bench<'_>,
    frame: &mut Frame<'_>,
    doors: &Doors,
    (v4, v6): (&mut Riders<u32>, &mut Riders<u128>),
    course: &Course<'_>,
    tally: &mut Tally,
) -> Option<Way> {
    let (door, moved) = match vlan_id(frame.bytes()) {
        None => (doors.untagged.as_ref()?, 0),
        Some(id) => {
            let at = doors.tagged.binary_search_by_key(&id, |(vlan, _)| *vlan).ok()?;
            (&doors.tagged.get(at)?.1, TAG)
        }
    };
    if !door.station.receives(frame.bytes()) {
        return None;
    }
    // What stands before the EtherType is written anew anyway, so a tag is left behind by beginning later.
    (frame.start, frame.len) = (frame.start.saturating_add(moved), frame.len.saturating_sub(moved));
    let way = if let Some(plain) = door.plain(frame.bytes(), frame.l4_checksum) {
        let entered = v4.enter::<SKIPS>(bench, frame, (plain, door, moved), course, tally);
        entered.map(|entered| entered.map_or(Way::Done, Way::V4))
    } else if let Some(plain) = door.plain(frame.bytes(), frame.l4_checksum) {
        let entered = v6.enter::<SKIPS>(bench, frame, (plain, door, moved), course, tally);
        entered.map(|entered| entered.map_or(Way::Done, Way::V6))
    } else {
        None
    };
    if way.is_none() {
        move_back(frame, moved);
    }
    way
}

#[cfg(test)]
mod tests;
