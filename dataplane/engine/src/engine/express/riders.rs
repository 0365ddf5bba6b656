//! The packets of one family on the short way: taken in, looked up, sent on, or handed back to the whole path.

use std::ops::ControlFlow;

use sluice_wire::{Checksum, Family, Plain, Protocol, martian, symmetric_toeplitz};

use super::Door;
use super::tally::Tally;
use crate::conntrack::{Conntrack, CtState, Gist, Shard, Template, may_be_steady};
use crate::decision::{self, Course};
use crate::engine::BURST;
use crate::engine::passes::Arrival;
use crate::frame::{Frame, Origin, RxChecksum};
use crate::ids::InterfaceId;
use crate::stage::raw::{self, Raw};
use crate::stage::stateless::{self, Routed};
use crate::stage::{admit, nat64, settle};
use crate::transit::{Bench, Sender};
use crate::verdict::Verdict;

/// Ports of DHCP's two ends, whose packets may be the box's own (`stage::lease`).
pub(super) const DHCP: (u16, u16) = (67, 68);

/// A packet that may be of a flow with a stored decision.
#[derive(Clone, Copy)]
pub(super) struct Rider<A: Shard> {
    gist: Gist<A::Ends>,
    ingress: InterfaceId,
    /// Bytes by which its frame was moved on, so that it begins as one without a VLAN tag: 4, or 0.
    moved: u16,
    asked: Asked,
    /// Where its flow most likely is.
    place: Option<u32>,
    hash: u64,
}

/// What `raw` said of a packet. That is asked once: what it said goes with a packet that is handed back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// It has nothing to say.
    No,
    /// The packet is tracked as any other.
    Tracked,
    /// It is not, or in a way of its own: to be handed back.
    Special,
}

/// Those of one family in a burst, in the order of arrival.
#[derive(Default)]
pub(super) struct Riders<A: Shard> {
    /// As many are of this burst as `count` says.
    places: Box<[Rider<A>]>,
    /// What `raw` said of those that it was asked about.
    raws: Box<[Raw]>,
    pub(super) count: u8,
}

impl<A: Shard> Rider<A> {
    /// Fills a place that no packet has.
    fn nobody() -> Rider<A> {
        let (gist, ingress) = (Gist::default(), InterfaceId(0));
        Rider { gist, ingress, moved: 0, asked: Asked::No, place: None, hash: 0 }
    }
}

impl<A: Shard + Routed> Riders<A> {
    pub(super) fn of_a_burst() -> Riders<A> {
        let (places, raws) = (vec![Rider::nobody(); BURST], vec![Raw::default(); BURST]);
        Riders { places: places.into(), raws: raws.into(), count: 0 }
    }

    /// Takes a plain packet in, which was verified where all are: its number among the riders, or None if it has its verdict
    /// already. None for one that cannot take the short way.
    #[inline(always)]
    pub(super) fn enter<const SKIPS: bool>(
        &mut self,
        bench: &mut Bench<'_>,
        frame: &mut Frame<'_>,
        (plain, door, moved): (Plain<A>, &Door, u16),
        course: &Course<'_>,
        tally: &mut Tally,
    ) -> Option<Option<u8>> {
        if plain.ttl <= 1 || door.leases && is_lease(&plain) {
            return None;
        }
        let ingress = door.ingress;
        if SKIPS {
            let received = frame.len.saturating_add(moved);
            if let Some(verdict) = stateless::forward_plain(bench, frame, &plain, (ingress, false), course) {
                if let Verdict::Drop(_) = verdict {
                    // Whoever captures what is dropped sees the frame as it came.
                    move_back(frame, moved);
                }
                tally.note(bench.counters, frame, (ingress, received), verdict);
                tally.untracked += 1;
                return Some(None);
            }
        }
        if SKIPS || !door.tracks {
            return self.ask(bench, frame, (door, moved), course, tally);
        }
        if !may_be_steady(&plain) || !is_ours::<A>(bench, frame) {
            return None;
        }
        let hash = A::hash(bench.conntrack, &plain);
        A::prefetch(bench.conntrack, hash);
        let number = self.count;
        let asked = Asked::No;
        let gist = Gist::of(&plain);
        *self.places.get_mut(usize::from(number))? = Rider { gist, ingress, moved, asked, place: None, hash };
        self.count += 1;
        Some(Some(number))
    }

    /// The rest of [`Riders::enter`] where `raw` has rules: they judge the packet, which goes the one way or the other. Or
    /// where there is NAT64, whose packets take the whole path.
    #[inline(never)]
    fn ask(
        &mut self,
        bench: &mut Bench<'_>,
        frame: &mut Frame<'_>,
        (door, moved): (&Door, u16),
        course: &Course<'_>,
        tally: &mut Tally,
    ) -> Option<Option<u8>> {
        let plain = Plain::<A>::read(frame.bytes())?;
        let number = self.count;
        let place = self.places.get_mut(usize::from(number))?;
        let said = self.raws.get_mut(usize::from(number))?;
        // Its zone, which may tell its owner, is asked for by where it came in.
        frame.ingress = Some(door.ingress);
        // Whoever is judged is never judged again, so all that may refuse a packet comes first. A rule that logs shows the
        // frame as it came.
        let crosses = nat64::concern(bench.world, &plain.addrs());
        if moved != 0 || is_martian_v6(&plain) || crosses || !is_ours::<A>(bench, frame) {
            return None;
        }
        let (ingress, received) = (door.ingress, frame.len);
        let whole = frame.bytes().get(..usize::from(plain.end())).unwrap_or_default();
        let raw = match raw::prerouting(bench, &plain.packet(whole), ingress, whole) {
            ControlFlow::Continue(raw) => raw,
            ControlFlow::Break(verdict) => {
                admit::arrive(bench, frame, ingress);
                settle::settle(bench.counters, frame, verdict);
                return Some(None);
            }
        };
        if raw.untracked
            && let Some(verdict) = stateless::forward_plain(bench, frame, &plain, (ingress, true), course)
        {
            tally.note(bench.counters, frame, (ingress, received), verdict);
            tally.untracked += 1;
            return Some(None);
        }
        let unverified = door.verifies && frame.l4_checksum != RxChecksum::Good;
        let usual = !raw.untracked
            && raw.mark == 0
            && raw.template == Template::default()
            && may_be_steady(&plain)
            && !(unverified && plain.verify(frame.bytes()) == Checksum::Bad);
        let asked = if usual { Asked::Tracked } else { Asked::Special };
        let hash = A::hash(bench.conntrack, &plain);
        A::prefetch(bench.conntrack, hash);
        let gist = Gist::of(&plain);
        (*place, *said) = (Rider { gist, ingress, moved, asked, place: None, hash }, raw);
        self.count += 1;
        Some(Some(number))
    }

    #[inline(always)]
    pub(super) fn look_up(&mut self, conntrack: &Conntrack) {
        let riders = self.places.iter_mut().take(usize::from(self.count));
        for rider in riders.filter(|rider| rider.asked != Asked::Special) {
            rider.place = A::candidate(conntrack, rider.gist.protocol, rider.hash);
        }
    }

    #[inline(never)]
    pub(super) fn ride(
        &mut self,
        bench: &mut Bench<'_>,
        frame: &mut Frame<'_>,
        (number, course): (u8, &Course<'_>),
        tally: &mut Tally,
    ) -> bool {
        let Some(rider) = self.places.get(usize::from(number)) else { return false };
        let (received, ingress) = (frame.len.wrapping_add(rider.moved), rider.ingress);
        let tables = (&mut *bench.conntrack, &mut *bench.decisions);
        let replayed = rider.place.and_then(|place| {
            decision::replay_plain::<A>(tables, frame, &rider.gist, (ingress, place), course)
        });
        let Some((verdict, state)) = replayed else {
            move_back(frame, rider.moved);
            return false;
        };
        tally.note(bench.counters, frame, (ingress, received), verdict);
        tally.established += u64::from(state == CtState::Established);
        true
    }
}

impl<A: Shard> Riders<A> {
    pub(super) fn hand_back(
        &self,
        bench: &Bench<'_>,
        frame: &mut Frame<'_>,
        number: u8,
        arrival: &mut Arrival,
    ) -> bool {
        let number = usize::from(number);
        let Some(Rider { ingress, moved: 0, asked, place, hash, .. }) = self.places.get(number) else {
            return false;
        };
        let Some(plain) = &Plain::<A>::read(frame.bytes()) else { return false };
        if *asked == Asked::No && is_martian_v6(plain) {
            return false;
        }
        arrival.raw = match asked {
            Asked::No => Raw::default(),
            Asked::Tracked | Asked::Special => self.raws.get(number).copied().unwrap_or_default(),
        };
        arrival.packet = plain.packet(frame.bytes());
        admit::arrive(bench, frame, *ingress);
        frame.len = plain.end();
        (arrival.sender, arrival.fragment) = (Sender::Wire(*ingress), false);
        let key = A::key(plain, *hash).in_zone(arrival.raw.template.zone);
        arrival.key = (!arrival.raw.untracked).then_some(key);
        arrival.hint = place.map(|place| A::handle(place));
        true
    }
}

/// Whether a packet may be an answer to the box's own client of DHCP.
fn is_lease<A>(plain: &Plain<A>) -> bool {
    plain.protocol == Protocol::UDP && (plain.sport, plain.dport) == DHCP
}

/// What is dropped of IPv6 before netfilter.
fn is_martian_v6<A: Shard>(plain: &Plain<A>) -> bool {
    let addrs = plain.addrs();
    addrs.family() == Family::V6 && martian(&addrs).is_some()
}

/// A frame begins where it began.
#[inline(always)]
pub(super) fn move_back(frame: &mut Frame<'_>, moved: u16) {
    (frame.start, frame.len) = (frame.start.saturating_sub(moved), frame.len.saturating_add(moved));
}

/// Whether a packet's flow would be in this worker's shard.
#[inline(always)]
fn is_ours<A: Shard>(bench: &Bench<'_>, frame: &Frame<'_>) -> bool {
    bench.workers <= 1 || frame.origin == Origin::HandedOver || is_ours_of_many::<A>(bench, frame)
}

#[inline(never)]
fn is_ours_of_many<A: Shard>(bench: &Bench<'_>, frame: &Frame<'_>) -> bool {
    let Some(plain) = &Plain::<A>::read(frame.bytes()) else { return false };
    let addrs = plain.addrs();
    if bench.conntrack.may_be_reserved(&addrs) {
        return admit::owner_of(bench, frame, &plain.packet(frame.bytes())) == bench.worker;
    }
    let hash = frame.rss.unwrap_or_else(|| symmetric_toeplitz(&addrs, Some((plain.sport, plain.dport))));
    admit::owner(hash, bench.workers) == bench.worker
}
