//! Translation of addresses and ports: what a flow is bound to by its first packet, and what that makes of all others.
//!
//! A flow keeps two tuples: the one of its first packet, and the *outward* one, with which packets of that direction
//! leave. The reply tuple of `conntrack -L` is the outward one turned round. A flow that is not translated has one
//! tuple only, and nothing here is read for it but two bits of its status.
//!
//! | file | what |
//! |---|---|
//! | `range` | what a rule lets choose from |
//! | `choose` | which address and port a flow gets (the kernel's `get_unique_tuple`) |
//! | `mapping`, `endpoints` | the same for all destinations, where a rule asks for that |
//! | `blocks` | which ports are a subscriber's, by arithmetic alone |
//! | `nat64` | who an IPv6 flow to an IPv4 host is there |
//! | `translations` | where outward tuples lie, and who finds a flow by them |
//! | `reservations`, `answers` | whose answers are whose, where there are several workers |
//!
//! Which rule asks for a translation, and when in a packet's way it is done, is [`crate::stage::nat`]'s.
//! Source: Linux `net/netfilter/nf_nat_core.c`, `nf_nat_proto.c`, as observed on 6.18; RFC 3022.

mod answers;
mod blocks;
mod choose;
mod endpoints;
mod mapping;
mod nat64;
mod range;
mod reservations;
mod translations;

use std::net::IpAddr;

use sluice_wire::rewrite::Translation;
use sluice_wire::{Addrs, Family, Packet, Protocol, Transport};

pub(super) use self::answers::Answers;
pub use self::blocks::{Block, PortBlocks};
pub(super) use self::choose::PortDraw;
pub(super) use self::endpoints::{Endpoints, Slot};
pub use self::nat64::Nat64;
pub use self::range::NatRange;
pub use self::reservations::Reservations;
pub(super) use self::translations::Translations;

use super::Conntrack;
use super::flow::Flow;
use super::info::{Direction, FlowHandle, Found, Status};
use super::pending::{NewFlow, Pending, PendingFlow};
use super::shared::Shared;
use super::table::Table;
use super::template::Zone;
use super::tuple::{Address, Tuple};
use super::walk::{Position, STEP};
use crate::ids::{InterfaceId, Now};
use crate::message::Cursor;

/// Which end of a packet is translated (the kernel's `nf_nat_manip_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manip {
    /// The source: in postrouting, and of what is for the box.
    Source,
    /// The destination: in prerouting and output.
    Destination,
}

/// A packet's two ends: addresses, and the two 16-bit halves of its tuple in host order (of ICMP the identifier is
/// the first).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    addrs: Addrs,
    ports: (u16, u16),
}

/// A translated flow's two tuples by value: what to do with its packets, and with errors about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    original: Ends,
    outward: Ends,
    /// Whether the first half is an identifier, which is the same in both directions.
    icmp: bool,
    status: Status,
    masquerade: Option<InterfaceId>,
}

impl Mapping {
    /// The interface whose address the flow borrowed: there its packets must leave.
    pub fn masquerade(&self) -> Option<InterfaceId> {
        self.masquerade
    }

    /// The source that its packets leave with.
    pub fn source(&self) -> IpAddr {
        self.outward.addrs.src()
    }

    /// How packets of a direction leave.
    fn leaving(&self, direction: Direction) -> Ends {
        match direction {
            Direction::Original => self.outward,
            Direction::Reply => {
                let (first, second) = self.original.ports;
                let ports = if self.icmp { (first, second) } else { (second, first) };
                Ends { addrs: self.original.addrs.reversed(), ports }
            }
        }
    }

    /// Whether anything is done at a hook to packets of a direction: a reply has its destination translated where
    /// the first packet had its source.
    fn does(&self, manip: Manip, direction: Direction) -> bool {
        let bit = match (manip, direction) {
            (Manip::Source, Direction::Original) | (Manip::Destination, Direction::Reply) => Status::SNAT,
            (Manip::Destination, Direction::Original) | (Manip::Source, Direction::Reply) => Status::DNAT,
        };
        self.status.contains(bit)
    }

    /// What is done at a hook to one end of `packet`, which goes in `direction`.
    pub fn at(&self, manip: Manip, direction: Direction, packet: &Packet) -> Option<Translation> {
        let old = Ends::of(&packet.addrs, &packet.transport);
        self.does(manip, direction).then(|| self.end(manip, self.leaving(direction), old))?
    }

    /// What is done at a hook to the packet that an error of `direction` quotes: the other end of it, since the quote
    /// goes the other way.
    pub fn quoted_at(
        &self,
        manip: Manip,
        direction: Direction,
        addrs: &Addrs,
        transport: &Transport,
    ) -> Option<Translation> {
        if !self.does(manip, direction) {
            return None;
        }
        let leaving = self.leaving(direction);
        let (first, second) = leaving.ports;
        let ports = if self.icmp { (first, second) } else { (second, first) };
        let inner = Ends { addrs: leaving.addrs.reversed(), ports };
        let other = match manip {
            Manip::Source => Manip::Destination,
            Manip::Destination => Manip::Source,
        };
        self.end(other, inner, Ends::of(addrs, transport))
    }

    /// Takes a packet that has left in `direction` back to how it came.
    pub fn undo(&self, direction: Direction, packet: &Packet) -> Translation {
        let arrived = match direction {
            Direction::Original => self.original,
            Direction::Reply => {
                let (first, second) = self.outward.ports;
                let ports = if self.icmp { (first, second) } else { (second, first) };
                Ends { addrs: self.outward.addrs.reversed(), ports }
            }
        };
        let old = Ends::of(&packet.addrs, &packet.transport);
        Translation::new((old.addrs, old.ports), (arrived.addrs, arrived.ports))
    }

    /// One end of `old` replaced by that of `new`.
    fn end(&self, manip: Manip, new: Ends, old: Ends) -> Option<Translation> {
        let addrs = match manip {
            Manip::Source => old.addrs.with_src(new.addrs.src())?,
            Manip::Destination => old.addrs.with_dst(new.addrs.dst())?,
        };
        let ports = match (self.icmp, manip) {
            (true, _) => (new.ports.0, old.ports.1),
            (false, Manip::Source) => (new.ports.0, old.ports.1),
            (false, Manip::Destination) => (old.ports.0, new.ports.1),
        };
        Some(Translation::new((old.addrs, old.ports), (addrs, ports)))
    }
}

impl Ends {
    #[inline]
    fn of(addrs: &Addrs, transport: &Transport) -> Ends {
        let ports = match *transport {
            Transport::Icmp { id, .. } | Transport::Icmpv6 { id, .. } => (id, 0),
            Transport::Gre { call_id, .. } => (0, call_id),
            _ => transport.ports().unwrap_or((0, 0)),
        };
        Ends { addrs: *addrs, ports }
    }

    fn of_tuple<A: Address>(tuple: &Tuple<A>) -> Option<Ends> {
        let addrs = match (tuple.src.ip(), tuple.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Addrs::V4 { src, dst },
            (IpAddr::V6(src), IpAddr::V6(dst)) => Addrs::V6 { src, dst },
            _ => return None,
        };
        Some(Ends { addrs, ports: (tuple.sport, tuple.dport) })
    }
}

fn is_icmp(protocol: u8) -> bool {
    matches!(Protocol(protocol), Protocol::ICMP | Protocol::ICMPV6)
}

fn mapping<A: Address>(
    flow: &Flow<A>,
    outward: &Tuple<A>,
    masquerade: Option<InterfaceId>,
) -> Option<Mapping> {
    flow.status.is_translated().then_some(())?;
    let original = flow.original();
    Some(Mapping {
        original: Ends::of_tuple(&original)?,
        outward: Ends::of_tuple(outward)?,
        icmp: is_icmp(original.protocol),
        status: flow.status,
        masquerade,
    })
}

impl Conntrack {
    /// Binds one end of a flow that begins (the kernel's `nf_nat_setup_info`). Where no port is free, the flow is bound
    /// all the same, and [`Conntrack::confirm`] refuses it.
    pub fn bind(&mut self, now: Now, pending: &mut Pending, manip: Manip, range: &NatRange) {
        let shared = &mut self.shared;
        match &mut pending.0 {
            PendingFlow::V4(new) => self.v4.bind(shared, now.tick, new, manip, range),
            PendingFlow::V6(new) => self.v6.bind(shared, now.tick, new, manip, range),
        }
    }

    /// The tuples of a translated flow; None for one that is not.
    pub fn mapping(&self, flow: FlowHandle) -> Option<Mapping> {
        match flow.family {
            Family::V4 => self.v4.mapping(flow.index),
            Family::V6 => self.v6.mapping(flow.index),
        }
    }

    /// All that is done to a packet of a translated flow on its way, at once; None for a flow that is not.
    #[inline(always)]
    pub fn translation(
        &self,
        flow: FlowHandle,
        direction: Direction,
        packet: &Packet,
    ) -> Option<Translation> {
        let translated = match flow.family {
            Family::V4 => self.v4.flow(flow.index)?.status.is_translated(),
            Family::V6 => self.v6.flow(flow.index)?.status.is_translated(),
        };
        if translated { self.whole(flow, direction, packet) } else { None }
    }

    #[inline(never)]
    fn whole(&self, flow: FlowHandle, direction: Direction, packet: &Packet) -> Option<Translation> {
        let leaving = self.mapping(flow)?.leaving(direction);
        let old = Ends::of(&packet.addrs, &packet.transport);
        Some(Translation::new((old.addrs, old.ports), (leaving.addrs, leaving.ports)))
    }

    /// The flow that a packet has left by, as it left; of flows in zone 0 alone, since nobody knows any more which rule it
    /// met.
    pub fn left_as(&self, now: Now, packet: &Packet) -> Option<Found> {
        let answered = self.find(now, &self.key(packet, Zone::default())?.reversed())?;
        Some(Found { direction: answered.direction.opposite(), ..answered })
    }

    /// A step of a search for flows that borrowed an address which is the router's no more: removes them. Looks at a
    /// bounded number of flows from `cursor` on; where to go on, if not at the end.
    pub fn end_borrowed(&mut self, cursor: Cursor, still_ours: impl Fn(IpAddr) -> bool) -> Option<Cursor> {
        let Position { family, place } = Position::from_cursor(cursor);
        let shared = &mut self.shared;
        let next = match family {
            Family::V4 => self.v4.end_borrowed(shared, place, still_ours),
            Family::V6 => self.v6.end_borrowed(shared, place, still_ours),
        };
        Position::following(family, next)
    }

    /// A random port from `first` on.
    pub(crate) fn draw_port(&mut self, first: u16) -> u16 {
        let ports = u32::from(u16::MAX - first) + 1;
        first.wrapping_add((self.shared.ports.draw() % ports) as u16)
    }

    /// Removes a flow: it can go on no more.
    pub fn kill(&mut self, flow: FlowHandle) {
        match flow.family {
            Family::V4 => self.v4.remove(&mut self.shared, flow.index),
            Family::V6 => self.v6.remove(&mut self.shared, flow.index),
        }
    }
}

impl Pending {
    /// The tuples of a flow that begins, if it is translated.
    pub fn mapping(&self) -> Option<Mapping> {
        match &self.0 {
            PendingFlow::V4(new) => mapping(&new.flow, &new.outward, new.masquerade),
            PendingFlow::V6(new) => mapping(&new.flow, &new.outward, new.masquerade),
        }
    }

    /// Notes whose address the flow borrows.
    pub fn set_masquerade(&mut self, interface: InterfaceId) {
        match &mut self.0 {
            PendingFlow::V4(new) => new.masquerade = Some(interface),
            PendingFlow::V6(new) => new.masquerade = Some(interface),
        }
    }

    /// Whether no port was free for the flow.
    pub(crate) fn is_exhausted(&self) -> bool {
        match &self.0 {
            PendingFlow::V4(new) => new.exhausted,
            PendingFlow::V6(new) => new.exhausted,
        }
    }
}

impl<A: Address> Table<A> {
    fn end_borrowed(
        &mut self,
        shared: &mut Shared,
        from: u32,
        still_ours: impl Fn(IpAddr) -> bool,
    ) -> Option<u32> {
        if self.translations().is_empty() {
            return None;
        }
        let end = self.places().min(from.saturating_add(STEP));
        for place in from..end {
            let Some(flow) = self.flow(place).filter(|flow| flow.status.contains(Status::SNAT)) else {
                continue;
            };
            let lent = self.translations().get(place, flow.protocol());
            if let Some((outward, Some(_))) = lent
                && !still_ours(outward.src.ip())
            {
                self.remove(shared, place);
            }
        }
        (end < self.places()).then_some(end)
    }

    fn mapping(&self, place: u32) -> Option<Mapping> {
        let flow = self.flow(place)?;
        let (outward, masquerade) = self.translations().get(place, flow.protocol())?;
        mapping(flow, &outward, masquerade)
    }
}

impl<A: Address> NewFlow<A> {
    /// Takes a chosen tuple over; false if it is what the flow had.
    fn rebind(&mut self, manip: Manip, outward: Tuple<A>, free: bool) -> bool {
        self.bound = true;
        self.exhausted = !free;
        if outward.is(&self.outward) {
            return false;
        }
        self.outward = outward;
        self.flow.status = self.flow.status.with(match manip {
            Manip::Source => Status::SNAT,
            Manip::Destination => Status::DNAT,
        });
        true
    }
}
