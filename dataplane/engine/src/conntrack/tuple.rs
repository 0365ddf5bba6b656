//! A flow's identity: addresses, ports and protocol of a packet, and the keyed hash that finds it either way round.
//!
//! A flow without NAT is indexed once, under a hash that both directions share. ICMP has no ports to exchange: its
//! tuple is always that of the request (identifier as source port, type and code as destination port), and a reply
//! says of itself that it is one.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sluice_wire::{Addrs, Family, Packet, Protocol, Transport};

use super::icmp;
use super::info::Direction;
use super::template::Zone;

/// An address as a number: `u32` or `u128`.
pub(super) trait Address: Copy + Eq + Ord + Debug {
    /// Which family it is of.
    const FAMILY: Family;

    /// Of no host.
    const ZERO: Self;

    /// As the standard library has it.
    fn ip(self) -> IpAddr;

    /// From what the standard library has; None for the other family.
    fn of(address: IpAddr) -> Option<Self>;

    /// One of the addresses from `first` to `last`, by a hash.
    fn within(first: Self, last: Self, spread: u64) -> Self;

    /// Its first `length` bits, the others 0.
    fn prefix(self, length: u8) -> Self;

    /// A key of its family.
    fn key(key: FamilyKey<Self>) -> Key;

    /// Two endpoints mixed into a hash, whichever comes first.
    fn mix_either(a: (Self, u16), b: (Self, u16), protocol: u8, seeds: &Seeds) -> u64;

    /// Two endpoints mixed into a hash; the order of the arguments matters.
    fn mix(low: (Self, u16), high: (Self, u16), protocol: u8, seeds: &Seeds) -> u64;
}

impl Address for u32 {
    const FAMILY: Family = Family::V4;

    const ZERO: u32 = 0;

    fn ip(self) -> IpAddr {
        Ipv4Addr::from_bits(self).into()
    }

    fn of(address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(v4) => Some(v4.to_bits()),
            IpAddr::V6(_) => None,
        }
    }

    fn within(first: u32, last: u32, spread: u64) -> u32 {
        let count = u64::from(last.saturating_sub(first)) + 1;
        first.wrapping_add((spread % count) as u32)
    }

    fn prefix(self, length: u8) -> u32 {
        self & u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0)
    }

    fn key(key: FamilyKey<u32>) -> Key {
        Key(FamilyKeys::V4(key))
    }

    #[inline(always)]
    fn mix_either(a: (u32, u16), b: (u32, u16), protocol: u8, seeds: &Seeds) -> u64 {
        let (a, b) = (word(a), word(b));
        mix_words(a.min(b), a.max(b), protocol, seeds)
    }

    #[inline(always)]
    fn mix(low: (u32, u16), high: (u32, u16), protocol: u8, seeds: &Seeds) -> u64 {
        mix_words(word(low), word(high), protocol, seeds)
    }
}

/// An endpoint as one number, which is ordered as the pair is.
#[inline(always)]
fn word((address, port): (u32, u16)) -> u64 {
    u64::from(address) << 16 | u64::from(port)
}

#[inline(always)]
fn mix_words(low: u64, high: u64, protocol: u8, seeds: &Seeds) -> u64 {
    fold(fold(low ^ seeds.0, high ^ seeds.1), seeds.2 ^ u64::from(protocol))
}

impl Address for u128 {
    const FAMILY: Family = Family::V6;

    const ZERO: u128 = 0;

    fn ip(self) -> IpAddr {
        Ipv6Addr::from_bits(self).into()
    }

    fn of(address: IpAddr) -> Option<u128> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(v6.to_bits()),
        }
    }

    fn within(first: u128, last: u128, spread: u64) -> u128 {
        // Both halves of the address may differ from the first one's.
        let spread = u128::from(spread) << 64 | u128::from(spread.rotate_left(29));
        let count = last.saturating_sub(first).checked_add(1);
        first.wrapping_add(count.map_or(spread, |count| spread % count))
    }

    fn prefix(self, length: u8) -> u128 {
        self & u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0)
    }

    fn key(key: FamilyKey<u128>) -> Key {
        Key(FamilyKeys::V6(key))
    }

    #[inline(always)]
    fn mix_either(a: (u128, u16), b: (u128, u16), protocol: u8, seeds: &Seeds) -> u64 {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        u128::mix(low, high, protocol, seeds)
    }

    #[inline(always)]
    fn mix(low: (u128, u16), high: (u128, u16), protocol: u8, seeds: &Seeds) -> u64 {
        let end = |(address, port): (u128, u16), seed: u64| {
            fold(address as u64 ^ seed, (address >> 64) as u64 ^ seeds.3).wrapping_add(u64::from(port))
        };
        fold(fold(end(low, seeds.0) ^ seeds.2, end(high, seeds.1)), seeds.2 ^ u64::from(protocol))
    }
}

/// Secrets of the hash, so that nobody outside can aim flows at one bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeds(u64, u64, u64, u64);

impl Seeds {
    /// Spreads one random number to four (splitmix64).
    pub(super) fn new(seed: u64) -> Seeds {
        let nth = |n: u64| {
            let z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ z >> 31) | 1
        };
        Seeds(nth(1), nth(2), nth(3), nth(4))
    }
}

/// Both halves of a 128-bit product: each bit of either factor reaches most of the result.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

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
