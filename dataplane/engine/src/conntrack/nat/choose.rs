//! Which address and port a flow is translated to, so that no two flows' answers are taken for one another.
//!
//! As the kernel's `get_unique_tuple`: what the flow has already, if that is in the range and free; else, for a
//! source, what another flow of the same source has; else an address of the range by a hash of both ends, with
//! the port kept where it is free; else another port. A port below 512 stays below, one below 1024 stays between 600
//! and 1023, any other becomes one from 1024 on, beginning at random; a port of a given range is looked for there. A
//! destination's port is changed only where a rule gives ports.
//!
//! Where there are several workers, a port that is looked for is one whose answers come to this worker, if such a
//! one is free.
//!
//! Source: Linux `nf_nat_core.c`, as observed on 6.18; RFC 6056 (random ports).

use std::hash::{DefaultHasher, Hasher};

use sluice_wire::Protocol;

use super::super::flow::Track;
use super::super::info::Direction;
use super::super::pending::NewFlow;
use super::super::shared::Shared;
use super::super::table::Table;
use super::super::tcp::TcpState;
use super::super::tuple::{Address, FamilyKey, Seeds, Tuple};
use super::{Manip, NatRange, is_icmp};
use crate::ids::Tick;

/// Ports that are tried in a first round; each further one tries half as many, from another place.
const ATTEMPTS: u32 = 128;
/// With fewer tried in a round, the search ends.
const FEWEST: u32 = 16;
/// So near the end of a round, a TCP flow in TIME_WAIT gives way to a new one.
const HARDER: u32 = 32;

/// Whence random ports come: a keyed hash of a counter, so that a sequence seen tells nothing of what follows.
#[derive(Debug)]
pub(in super::super) struct PortDraw {
    secret: u64,
    drawn: u64,
}

impl PortDraw {
    /// Drawn from a random number.
    pub(in super::super) fn new(secret: u64) -> PortDraw {
        PortDraw { secret, drawn: 0 }
    }

    pub(in super::super) fn draw(&mut self) -> u32 {
        self.drawn = self.drawn.wrapping_add(1);
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.secret);
        hasher.write_u64(self.drawn);
        hasher.finish() as u32
    }
}

/// A range in numbers of one family.
#[derive(Clone, Copy)]
pub(super) struct Wanted<A> {
    addresses: Option<(A, A)>,
    ports: Option<(u16, u16)>,
    manip: Manip,
}

impl<A: Address> Wanted<A> {
    fn new(range: &NatRange, manip: Manip) -> Wanted<A> {
        let addresses = range.addresses.and_then(|(first, last)| Some((A::of(first)?, A::of(last)?)));
        Wanted { addresses, ports: range.ports, manip }
    }

    /// The half of a tuple that is to be changed. ICMP's identifier is its only one.
    fn port(&self, tuple: &Tuple<A>) -> u16 {
        match self.manip {
            Manip::Destination if !is_icmp(tuple.protocol) => tuple.dport,
            _ => tuple.sport,
        }
    }

    pub(super) fn with_port(&self, tuple: &Tuple<A>, port: u16) -> Tuple<A> {
        match self.manip {
            Manip::Destination if !is_icmp(tuple.protocol) => Tuple { dport: port, ..*tuple },
            _ => Tuple { sport: port, ..*tuple },
        }
    }

    /// Whether the half may be changed. A tunnel's call id is where a helper asks for it; no rule does.
    fn may_change_port(&self, protocol: u8) -> bool {
        has_ports(protocol) || Protocol(protocol) == Protocol::GRE && self.ports.is_some()
    }

    fn has_port(&self, port: u16) -> bool {
        self.ports.is_none_or(|(first, last)| first <= port && port <= last)
    }

    /// Whether a source is one of the range already.
    fn has_source(&self, tuple: &Tuple<A>) -> bool {
        let address = self.addresses.is_none_or(|(first, last)| first <= tuple.src && tuple.src <= last);
        address && (!self.may_change_port(tuple.protocol) || self.has_port(tuple.sport))
    }

    /// With an address of the range: always the same for the same two ends.
    fn with_address(&self, tuple: &Tuple<A>) -> Tuple<A> {
        self.with_address_by(tuple, A::mix((tuple.src, 0), (tuple.dst, 0), 0, &Seeds::new(0)))
    }

    /// With an address of the range: always the same for the same source (RFC 4787 REQ-2: paired).
    pub(super) fn with_paired_address(&self, tuple: &Tuple<A>) -> Tuple<A> {
        self.with_address_by(tuple, A::mix((tuple.src, 0), (tuple.src, 0), 0, &Seeds::new(0)))
    }

    fn with_address_by(&self, tuple: &Tuple<A>, spread: u64) -> Tuple<A> {
        let Some((first, last)) = self.addresses else { return *tuple };
        let address = A::within(first, last, spread);
        match self.manip {
            Manip::Source => Tuple { src: address, ..*tuple },
            Manip::Destination => Tuple { dst: address, ..*tuple },
        }
    }

    /// Where ports are looked for: the first, and how many. None: the port is not to be changed.
    pub(super) fn search(&self, tuple: &Tuple<A>) -> Option<(u16, u32)> {
        let span = |first: u16, last: u16| (first, u32::from(last - first) + 1);
        match self.ports {
            _ if !self.may_change_port(tuple.protocol) => None,
            Some((first, last)) => Some(span(first.min(last), first.max(last))),
            None if is_icmp(tuple.protocol) => Some(span(0, u16::MAX)),
            None if self.manip == Manip::Destination => None,
            None => Some(match self.port(tuple) {
                0..512 => span(1, 511),
                512..1024 => span(600, 1023),
                _ => span(1024, u16::MAX),
            }),
        }
    }
}

/// Whether a protocol has a half that may be changed.
fn has_ports(protocol: u8) -> bool {
    let protocol = Protocol(protocol);
    matches!(
        protocol,
        Protocol::TCP
            | Protocol::UDP
            | Protocol::UDPLITE
            | Protocol::SCTP
            | Protocol::ICMP
            | Protocol::ICMPV6
    )
}

impl<A: Address> Table<A> {
    /// Binds one end of a flow that begins.
    pub(in crate::conntrack) fn bind(
        &mut self,
        shared: &mut Shared,
        now: Tick,
        new: &mut NewFlow<A>,
        manip: Manip,
        range: &NatRange,
    ) {
        let wanted = Wanted::new(range, manip);
        let mut search = Search { table: self, shared, now, new };
        let (outward, free, endpoint) = match range.endpoint_independent {
            true => search.by_endpoint(&wanted),
            false => {
                let (outward, free) = search.unique(&wanted);
                (outward, free, None)
            }
        };
        let translated = new.rebind(manip, outward, free);
        new.refused |= range.endpoint_independent && !free;
        // A flow that stays as it is keeps nothing: nobody would give it back.
        match endpoint {
            Some(slot) if !translated => shared.endpoints.release(slot),
            endpoint => new.endpoint = endpoint,
        }
    }
}

pub(super) struct Search<'a, A> {
    pub(super) table: &'a mut Table<A>,
    pub(super) shared: &'a mut Shared,
    now: Tick,
    pub(super) new: &'a NewFlow<A>,
}

impl<A: Address> Search<'_, A> {
    /// The tuple, and whether its answers are nobody else's.
    fn unique(&mut self, wanted: &Wanted<A>) -> (Tuple<A>, bool) {
        let current = self.new.outward;
        if wanted.manip == Manip::Source {
            if wanted.has_source(&current) {
                if self.is_free(&current) {
                    return (current, true);
                }
            } else if let Some(alike) = self.as_kin(wanted, &current)
                && self.is_free(&alike)
            {
                return (alike, true);
            }
        }
        let tuple = wanted.with_address(&current);
        let one_port = wanted.ports.is_some_and(|(first, last)| first == last);
        if wanted.may_change_port(tuple.protocol) && one_port && wanted.has_port(wanted.port(&tuple)) {
            let free = self.is_free(&tuple);
            return (tuple, free);
        }
        if wanted.has_port(wanted.port(&tuple)) && self.is_free(&tuple) {
            return (tuple, true);
        }
        match wanted.search(&tuple) {
            Some(span) => self.look_for_port(wanted, tuple, span),
            None => {
                // A destination keeps its port: the source may make the flow unique later on.
                let free = wanted.manip == Manip::Destination || self.is_free(&tuple);
                (tuple, free)
            }
        }
    }

    /// What another flow of the same source is translated to, if that is in the range.
    fn as_kin(&self, wanted: &Wanted<A>, current: &Tuple<A>) -> Option<Tuple<A>> {
        let tuple_of = |place| self.table.original_at(place);
        // As the kernel has it, a source is the same in its zone alone.
        let zone = self.new.key.zone.of(Direction::Original);
        self.table.translations().kin(current, tuple_of, |place, outward| {
            self.table.zone_at(place).filter(|kin| kin.of(Direction::Original) == zone)?;
            let alike = Tuple { src: outward.src, sport: outward.sport, ..*current };
            wanted.has_source(&alike).then_some(alike)
        })
    }

    fn look_for_port(
        &mut self,
        wanted: &Wanted<A>,
        tuple: Tuple<A>,
        (first, count): (u16, u32),
    ) -> (Tuple<A>, bool) {
        let mut offset = match wanted.manip {
            Manip::Source => self.shared.ports.draw(),
            Manip::Destination => 0,
        };
        if let Some(home) = self.look_at_home(wanted, &tuple, (first, count), offset) {
            return (home, true);
        }
        let nth = |offset: u32| wanted.with_port(&tuple, first.wrapping_add((offset % count) as u16));
        let mut last = tuple;
        let mut attempts = count.min(ATTEMPTS);
        loop {
            for left in (1..=attempts).rev() {
                last = nth(offset);
                if self.is_free(&last) || left <= HARDER && self.gives_way(&last) {
                    return (last, true);
                }
                offset = offset.wrapping_add(1);
            }
            if attempts >= count || attempts < FEWEST {
                return (last, false);
            }
            attempts /= 2;
            offset = self.shared.ports.draw();
        }
    }

    /// A free port whose answers come to this worker; None where it is alone, or there is none.
    fn look_at_home(
        &self,
        wanted: &Wanted<A>,
        tuple: &Tuple<A>,
        (first, count): (u16, u32),
        from: u32,
    ) -> Option<Tuple<A>> {
        let answers = &self.shared.answers;
        let attempts = count.min(ATTEMPTS * u32::from(answers.workers()));
        let offsets = (0..attempts).map(|n| from.wrapping_add(n) % count);
        let tuples = offsets.map(|offset| wanted.with_port(tuple, first.wrapping_add(offset as u16)));
        match answers.is_shared() {
            true => tuples.filter(|tuple| answers.come_home(tuple)).find(|tuple| self.is_free(tuple)),
            false => None,
        }
    }

    /// Whether no flow has these answers. If nothing was changed and flows have answers of their own, one with these
    /// would have been found for the packet itself.
    pub(super) fn is_free(&self, outward: &Tuple<A>) -> bool {
        let unchanged = outward.is(&self.new.flow.original()) && !self.table.may_share_answers(self.new);
        let key = self.answering(outward);
        (unchanged || self.table.find(self.now, &key).is_none())
            && self.shared.answers.are_free(&key, self.table.seeds())
    }

    /// What answers are looked up by, if the flow's packets leave so.
    fn answering(&self, outward: &Tuple<A>) -> FamilyKey<A> {
        FamilyKey::answering(outward, self.new.key.zone, self.table.seeds())
    }

    /// Ends a TCP flow in TIME_WAIT that a new connection with a higher sequence number may follow.
    fn gives_way(&mut self, outward: &Tuple<A>) -> bool {
        let key = self.answering(outward);
        let Some((place, Direction::Reply)) = self.table.find(self.now, &key) else { return false };
        let Some(old) = self.table.flow(place) else { return false };
        let (Track::Tcp(before), Track::Tcp(after)) = (&old.track, &self.new.flow.track) else {
            return false;
        };
        let opens = self.new.flow.state == TcpState::SynSent as u8 && old.state == TcpState::TimeWait as u8;
        if !opens || !after.begins_behind(before) {
            return false;
        }
        self.table.remove(self.shared, place);
        true
    }
}
