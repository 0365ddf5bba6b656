//! A flow as it lies in memory: 96 bytes for IPv4, so that two cache lines always hold it. The hot fields come first, and are
//! of 32 bytes, so that one line has them wherever the flow begins.
//!
//! Links of the timer wheel and of the free list, and how often the place was used, lie beside it (`wheel.rs`): they
//! are needed only when a flow comes or goes.

use std::mem::offset_of;

use sluice_wire::Protocol;

use super::info::{ActionId, CtInfo, CtState, Direction, OriginalTuple, Status, Stored};
use super::sctp::{SctpState, SctpTrack};
use super::tcp::{TcpState, TcpTrack};
use super::tuple::{Address, Tuple};
use crate::ids::{Generation, InterfaceId, Tick};

/// One flow. Where it is translated, its other tuple lies beside it (`nat`).
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(super) struct Flow<A> {
    // Tuple, spelt out so that state and status fill the rest of its sixteen bytes.
    src: A,
    dst: A,
    sport: u16,
    dport: u16,
    protocol: u8,
    /// The protocol's own state by its number ([`TcpState`], [`SctpState`]); of UDP when the flow began
    /// ([`super::udp::Moment`]); 0 for all others.
    pub(super) state: u8,
    pub(super) status: Status,
    /// Runs out then; while not confirmed, relative to confirmation.
    pub(super) deadline: Tick,
    stored_generation: Generation,
    stored: PerDirection<Packed>,
    stored_ingress: PerDirection<InterfaceId>,
    // Here the hot part ends.
    pub(super) mark: u32,
    /// Where the timer wheel holds it.
    pub(super) filed: u16,
    pub(super) track: Track,
}

/// Two of something, one for each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct PerDirection<T> {
    pub(crate) original: T,
    pub(crate) reply: T,
}

impl<T> PerDirection<T> {
    /// The same for both.
    pub(super) fn both(value: T) -> PerDirection<T>
    where
        T: Copy,
    {
        PerDirection { original: value, reply: value }
    }

    /// That of a direction.
    #[inline(always)]
    pub(crate) fn of(&self, direction: Direction) -> &T {
        match direction {
            Direction::Original => &self.original,
            Direction::Reply => &self.reply,
        }
    }

    /// That of a direction.
    #[inline(always)]
    pub(crate) fn of_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Original => &mut self.original,
            Direction::Reply => &mut self.reply,
        }
    }

    /// That of a direction, and that of the opposite one.
    #[inline(always)]
    pub(super) fn split(&mut self, direction: Direction) -> (&mut T, &mut T) {
        match direction {
            Direction::Original => (&mut self.original, &mut self.reply),
            Direction::Reply => (&mut self.reply, &mut self.original),
        }
    }
}

/// An action with the state that it is for, NEW or ESTABLISHED; 0 is none.
#[derive(Clone, Copy, Debug, Default)]
struct Packed(u16);

impl Packed {
    const ESTABLISHED: u16 = 1 << 15;

    /// Nothing, if the state is another one, or the number too large: there are no such decisions.
    fn new(ActionId(number): ActionId, state: CtState) -> Packed {
        let state = match state {
            CtState::New => 0,
            CtState::Established => Self::ESTABLISHED,
            CtState::Related | CtState::Invalid | CtState::Untracked => return Packed(0),
        };
        match u16::try_from(number) {
            Ok(number) if number < Self::ESTABLISHED => Packed(number | state),
            _ => Packed(0),
        }
    }

    #[inline(always)]
    fn action(self) -> ActionId {
        ActionId((self.0 & !Self::ESTABLISHED).into())
    }

    #[inline(always)]
    fn state(self) -> CtState {
        if self.0 & Self::ESTABLISHED == 0 { CtState::New } else { CtState::Established }
    }
}

/// What a protocol's tracker keeps.
#[derive(Clone, Copy, Debug)]
pub(super) enum Track {
    /// TCP.
    Tcp(TcpTrack),
    /// UDP and UDP-Lite: from then on a packet makes it a stream.
    Udp { stream_from: Tick },
    /// SCTP.
    Sctp(SctpTrack),
    /// GRE.
    Gre,
    /// ICMP.
    Icmp,
    /// ICMPv6.
    Icmpv6,
    /// Protocols without a tracker of their own.
    Generic,
}

// What two cache lines hold is what the fast path reads: PERFORMANCE.md P8.
const _: () = assert!(size_of::<Flow<u32>>() == 96);
const _: () = assert!(offset_of!(Flow<u32>, mark) == 32);

impl<A: Address> Flow<A> {
    /// A flow that `tuple`'s packet begins, in no state yet.
    pub(super) fn new(tuple: Tuple<A>) -> Flow<A> {
        let track = match Protocol(tuple.protocol) {
            Protocol::TCP => Track::Tcp(TcpTrack::default()),
            Protocol::UDP | Protocol::UDPLITE => Track::Udp { stream_from: Tick(0) },
            Protocol::SCTP => Track::Sctp(SctpTrack::default()),
            Protocol::GRE => Track::Gre,
            Protocol::ICMP => Track::Icmp,
            Protocol::ICMPV6 => Track::Icmpv6,
            _ => Track::Generic,
        };
        Flow {
            src: tuple.src,
            dst: tuple.dst,
            sport: tuple.sport,
            dport: tuple.dport,
            protocol: tuple.protocol,
            state: 0,
            status: Status::default(),
            deadline: Tick(0),
            stored_generation: Generation(0),
            stored: PerDirection::default(),
            stored_ingress: PerDirection::both(InterfaceId(0)),
            mark: 0,
            filed: 0,
            track,
        }
    }

    /// Its protocol's number.
    #[inline(always)]
    pub(super) fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The tuple of its first packet.
    #[inline(always)]
    pub(super) fn original(&self) -> Tuple<A> {
        Tuple { src: self.src, dst: self.dst, sport: self.sport, dport: self.dport, protocol: self.protocol }
    }

    /// Whether it is in the table, and has not run out.
    #[inline(always)]
    pub(super) fn is_live(&self, now: Tick) -> bool {
        self.status.contains(Status::CONFIRMED) && !now.is_due(self.deadline)
    }

    /// What rules look at.
    pub(super) fn info(&self, direction: Direction, state: CtState) -> CtInfo {
        CtInfo {
            state,
            direction,
            status: self.status,
            mark: self.mark,
            original: OriginalTuple {
                src: self.src.ip(),
                dst: self.dst.ip(),
                sport: self.sport,
                dport: self.dport,
            },
            helper: None,
        }
    }

    /// What the pipeline stored for a direction: action 0 if that is nothing.
    #[inline(always)]
    pub(super) fn stored(&self, direction: Direction) -> Stored {
        let stored = self.stored.of(direction);
        Stored {
            generation: self.stored_generation,
            ingress: *self.stored_ingress.of(direction),
            state: stored.state(),
            action: stored.action(),
        }
    }

    /// Keeps `stored` for a direction.
    pub(super) fn store(&mut self, direction: Direction, stored: Stored) {
        if self.stored_generation != stored.generation {
            self.stored_generation = stored.generation;
            self.stored = PerDirection::default();
        }
        *self.stored_ingress.of_mut(direction) = stored.ingress;
        *self.stored.of_mut(direction) = Packed::new(stored.action, stored.state);
    }

    /// The state's name, of protocols that have states.
    pub(super) fn state_name(&self) -> Option<&'static str> {
        match self.track {
            Track::Tcp(_) => Some(TcpState::from_number(self.state).name()),
            Track::Sctp(_) => Some(SctpState::from_number(self.state).name()),
            _ => None,
        }
    }

    /// Whether it is being closed, so that little is lost if it is evicted.
    pub(super) fn is_closing(&self) -> bool {
        match self.track {
            Track::Tcp(_) => TcpState::from_number(self.state).is_closing(),
            Track::Sctp(_) => SctpState::from_number(self.state).is_closing(),
            _ => false,
        }
    }
}
