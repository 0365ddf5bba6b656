//! A flow's identity: addresses, ports and protocol of a packet, and the keyed hash that finds it either way round.
//!
//! A flow without NAT is indexed once, under a hash that both directions share. ICMP has no ports to exchange: its
//! tuple is always that of the request (identifier as source port, type and code as destination port), and a reply
//! says of itself that it is one.

mod address;

use sluice_wire::{Addrs, Family, Packet, Protocol, Transport};

pub(super) use self::address::{Address, Seeds};
use super::icmp;
use super::info::Direction;
use super::template::Zone;

/// Addresses, ports and protocol of one direction.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Tuple<A> {
    pub(super) src: A,
    pub(super) dst: A,
    pub(super) sport: u16,
    pub(super) dport: u16,
    pub(super) protocol: u8,
}

impl<A: Address> Tuple<A> {
    /// The other direction.
    #[inline(always)]
    pub(super) fn reversed(&self) -> Tuple<A> {
        Tuple { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, protocol: self.protocol }
    }

    /// Equality without a branch for each field: which one differs is nothing that a processor could learn.
    #[inline(always)]
    pub(super) fn is(&self, other: &Tuple<A>) -> bool {
        (self.src == other.src)
            & (self.dst == other.dst)
            & (self.sport == other.sport)
            & (self.dport == other.dport)
            & (self.protocol == other.protocol)
    }

    /// Whether it comes from where another one does.
    pub(super) fn has_source_of(&self, other: &Tuple<A>) -> bool {
        self.src == other.src && self.sport == other.sport && self.protocol == other.protocol
    }

    /// Of the source alone.
    pub(super) fn source_hash(&self, seeds: &Seeds) -> u64 {
        let source = (self.src, self.sport);
        A::mix(source, source, self.protocol, seeds)
    }

    /// The same for both directions.
    #[inline(always)]
    pub(super) fn hash(&self, seeds: &Seeds) -> u64 {
        A::mix_either((self.src, self.sport), (self.dst, self.dport), self.protocol, seeds)
    }
}

/// Which directions a packet may be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sense {
    /// Either: the flow tells.
    Either,
    /// A request of ICMP.
    Request,
    /// An answer of ICMP; its tuple was turned round already.
    Answer,
}

/// A packet's tuple with its hash, of one family.
#[derive(Clone, Copy, Debug)]
pub(super) struct FamilyKey<A> {
    pub(super) tuple: Tuple<A>,
    /// Of the tuple in the zone of the original direction.
    pub(super) hash: u64,
    pub(super) sense: Sense,
    /// What rules said of the packet's zone, for each direction that it may be of.
    pub(super) zone: Zone,
}

impl<A: Address> FamilyKey<A> {
    #[inline(always)]
    fn new(tuple: Tuple<A>, sense: Sense, seeds: &Seeds) -> FamilyKey<A> {
        FamilyKey { tuple, hash: tuple.hash(seeds), sense, zone: Zone::default() }
    }

    /// As [`FamilyKey::of_tuple`], with the hash known.
    #[inline(always)]
    pub(super) fn hashed(tuple: Tuple<A>, hash: u64) -> FamilyKey<A> {
        FamilyKey { tuple, hash, sense: Sense::Either, zone: Zone::default() }
    }

    /// What packets of a tuple are looked up by, of a protocol whose packets tell no direction.
    pub(super) fn of_tuple(tuple: Tuple<A>, seeds: &Seeds) -> FamilyKey<A> {
        FamilyKey::new(tuple, Sense::Either, seeds)
    }

    /// The same in a zone; it was in none before.
    fn in_zone(mut self, zone: Zone) -> FamilyKey<A> {
        self.zone = zone;
        self.hash ^= zone.of(Direction::Original).spread();
        self
    }

    /// The hash in the zone of the reply direction, if that is another one: a packet may be found under either.
    #[inline(always)]
    pub(super) fn reply_hash(&self) -> Option<u64> {
        let difference = self.zone.of(Direction::Original).spread() ^ self.zone.of(Direction::Reply).spread();
        self.zone.is_directional().then_some(self.hash ^ difference)
    }

    /// What answers to packets of this tuple would be looked up by, in the zone of the flow that has both.
    pub(super) fn answering(tuple: &Tuple<A>, zone: Zone, seeds: &Seeds) -> FamilyKey<A> {
        let key = match Protocol(tuple.protocol) {
            Protocol::ICMP | Protocol::ICMPV6 => FamilyKey::new(*tuple, Sense::Answer, seeds),
            _ => FamilyKey::new(tuple.reversed(), Sense::Either, seeds),
        };
        key.in_zone(zone)
    }

    /// What an answer to the packet would be looked up by.
    pub(super) fn reversed(&self) -> FamilyKey<A> {
        let (tuple, sense) = match self.sense {
            Sense::Either => (self.tuple.reversed(), Sense::Either),
            Sense::Request => (self.tuple, Sense::Answer),
            Sense::Answer => (self.tuple, Sense::Request),
        };
        FamilyKey { tuple, sense, ..*self }
    }

    /// A hash of the tuple, the order of its ends included, for what may be an answer. A request is none. Of a tunnel's call,
    /// only the id that its packets carry counts: not every worker knows the other one.
    pub(super) fn answer_hash(&self, seeds: &Seeds) -> Option<u64> {
        let Tuple { src, dst, mut sport, dport, protocol } = self.tuple;
        if protocol == Protocol::GRE.0 && dport != 0 {
            sport = 0;
        }
        (self.sense != Sense::Request).then(|| A::mix((src, sport), (dst, dport), protocol, seeds))
    }

    /// Whether no flow can begin with it.
    #[inline(always)]
    pub(super) fn is_answer(&self) -> bool {
        self.sense == Sense::Answer
    }

    /// Which way the packet goes in the flow that `original` began; `None` if it is not of that flow. Where both
    /// ends are the same, it is the original direction.
    #[inline(always)]
    pub(super) fn direction_in(&self, original: &Tuple<A>) -> Option<Direction> {
        self.direction_between(original, original)
    }

    /// The same in a flow whose packets leave translated, as `outward`: its answers answer that.
    #[inline(always)]
    pub(super) fn direction_between(&self, original: &Tuple<A>, outward: &Tuple<A>) -> Option<Direction> {
        match self.sense {
            Sense::Either if self.tuple.is(original) => Some(Direction::Original),
            Sense::Either => self.tuple.reversed().is(outward).then_some(Direction::Reply),
            Sense::Request => self.tuple.is(original).then_some(Direction::Original),
            Sense::Answer => self.tuple.is(outward).then_some(Direction::Reply),
        }
    }

    /// The same where packet or flow is in a zone: that of the direction must be the same.
    pub(super) fn direction_in_zone(
        &self,
        original: &Tuple<A>,
        outward: &Tuple<A>,
        zone: Zone,
    ) -> Option<Direction> {
        let fits = |direction| self.zone.of(direction) == zone.of(direction);
        let direction = self.direction_between(original, outward)?;
        if fits(direction) {
            return Some(direction);
        }
        // Where both ends are the same, the packet may be of either direction.
        let either = self.sense == Sense::Either && self.tuple.reversed().is(outward);
        (either && fits(Direction::Reply)).then_some(Direction::Reply)
    }
}

/// What a packet is looked up by: its tuple, and a hash that both directions of a flow share.
#[derive(Clone, Copy, Debug)]
pub struct Key(pub(super) FamilyKeys);

impl Key {
    /// What an answer to the packet would be looked up by.
    pub(super) fn reversed(&self) -> Key {
        Key(match &self.0 {
            FamilyKeys::V4(key) => FamilyKeys::V4(key.reversed()),
            FamilyKeys::V6(key) => FamilyKeys::V6(key.reversed()),
        })
    }
}

/// A key of either family.
#[derive(Clone, Copy, Debug)]
pub(super) enum FamilyKeys {
    V4(FamilyKey<u32>),
    V6(FamilyKey<u128>),
}

impl Key {
    /// The same in a zone; it was in none before.
    #[inline(always)]
    pub(crate) fn in_zone(self, zone: Zone) -> Key {
        if zone.is_default() {
            return self;
        }
        Key(match self.0 {
            FamilyKeys::V4(key) => FamilyKeys::V4(key.in_zone(zone)),
            FamilyKeys::V6(key) => FamilyKeys::V6(key.in_zone(zone)),
        })
    }

    /// The key of a packet or of a quoted one; `None` if no flow can have such a packet.
    #[inline(always)]
    pub(super) fn of(addrs: &Addrs, protocol: Protocol, transport: &Transport, seeds: &Seeds) -> Option<Key> {
        let ends = Ends::of(addrs.family(), transport)?;
        Some(Key(match *addrs {
            Addrs::V4 { src, dst } => {
                FamilyKeys::V4(ends.key(src.to_bits(), dst.to_bits(), protocol.0, seeds))
            }
            Addrs::V6 { src, dst } => {
                FamilyKeys::V6(ends.key(src.to_bits(), dst.to_bits(), protocol.0, seeds))
            }
        }))
    }

    /// The key of a whole packet; `None` for what only quotes a flow, or cannot be of any.
    #[inline(always)]
    pub(super) fn of_packet(packet: &Packet, seeds: &Seeds) -> Option<Key> {
        if packet.malformed.is_some() || packet.fragment.is_part() {
            return None;
        }
        Key::of(&packet.addrs, packet.protocol, &packet.transport, seeds)
    }
}

/// What the transport adds to the addresses.
struct Ends {
    sport: u16,
    dport: u16,
    sense: Sense,
}

impl Ends {
    #[inline(always)]
    fn of(family: Family, transport: &Transport) -> Option<Ends> {
        let either = |sport, dport| Some(Ends { sport, dport, sense: Sense::Either });
        match *transport {
            Transport::Tcp { sport, dport, .. }
            | Transport::Udp { sport, dport }
            | Transport::UdpLite { sport, dport }
            | Transport::Sctp { sport, dport } => either(sport, dport),
            Transport::Icmp { kind, code, id } | Transport::Icmpv6 { kind, code, id } => {
                let (request, sense) = icmp::request_type(family, kind)?;
                Some(Ends { sport: id, dport: u16::from_be_bytes([request, code]), sense })
            }
            // Version 0 is tracked by addresses alone, whatever its key; PPTP's answers have a call id of their own.
            Transport::Gre { call_id, .. } => either(0, call_id),
            Transport::Dccp { .. } | Transport::Other => either(0, 0),
            Transport::Fragment | Transport::Malformed(_) => None,
        }
    }

    #[inline(always)]
    fn key<A: Address>(&self, src: A, dst: A, protocol: u8, seeds: &Seeds) -> FamilyKey<A> {
        let (src, dst) = if self.sense == Sense::Answer { (dst, src) } else { (src, dst) };
        FamilyKey::new(Tuple { src, dst, sport: self.sport, dport: self.dport, protocol }, self.sense, seeds)
    }
}
