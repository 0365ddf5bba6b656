//! The short way of a packet that changes nothing of its flow but when that runs out, as nearly all packets do: a
//! plain datagram of UDP, or an ACK of an established TCP connection within its window.
//!
//! It says of such a packet what [`super::track`] would, which stays the way of all others: whatever is unusual about a
//! packet or its flow is answered with None, and then nothing was changed.

use sluice_wire::{Plain, PlainAddress, Protocol, TcpFlags};

use super::Conntrack;
use super::flow::{Flow, Track};
use super::info::{CtState, Direction, FlowHandle, Status, Stored};
use super::settings::Settings;
use super::shared::Shared;
use super::table::Table;
use super::tcp::TcpTrack;
use super::tuple::{Address, FamilyKey, Key, Tuple};
use super::{tcp, udp};
use crate::frame::Frame;
use crate::ids::{Millis, Tick};

/// What a flow may be, beside confirmed, without its packets needing more than this.
const USUAL: Status = Status::SEEN_REPLY
    .with(Status::ASSURED)
    .with(Status::SNAT)
    .with(Status::DNAT)
    .with(Status::ACCOUNTED)
    .with(Status::COUNTED)
    .with(Status::LIMITED);

/// What a flow of UDP is whose packets change nothing of it any more.
const STREAM: Status = Status::SEEN_REPLY.with(Status::ASSURED);

/// The flow that a plain packet was found to be of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    place: u32,
    direction: Direction,
    /// Packets leave with another tuple than they came with.
    translated: bool,
    /// What the pipeline stored for such packets, in the state that this one is in; or nothing.
    pub(crate) stored: Stored,
}

impl Seat {
    /// Does what NAT does to the flow's packets, if it is translated.
    #[inline(always)]
    pub(crate) fn translate<A: Shard>(self, conntrack: &Conntrack, frame: &mut Frame<'_>) {
        if self.translated {
            A::translate(conntrack, frame.bytes_mut(), self.place, self.direction);
        }
    }
}

/// Both ends of a packet, as few numbers: what is compared with those of its flow.
pub(crate) trait Ends: Copy + Default {
    /// `u32` or `u128`.
    type Address;

    /// From addresses and ports in host order.
    fn of(src: Self::Address, dst: Self::Address, sport: u16, dport: u16) -> Self;

    /// Those of a packet of the other direction.
    fn reversed(self) -> Self;

    /// Whether they are the same as others, without a branch for each part: which one differs is nothing that a processor
    /// could learn.
    fn are(self, others: Self) -> bool;
}

/// Of IPv4: both addresses, both ports.
#[derive(Clone, Copy, Default)]
pub(crate) struct EndsV4(u64, u32);

impl Ends for EndsV4 {
    type Address = u32;

    #[inline(always)]
    fn of(src: u32, dst: u32, sport: u16, dport: u16) -> EndsV4 {
        // In the order in which flows have them in memory, so that two loads take all four.
        EndsV4(u64::from(src) | u64::from(dst) << 32, u32::from(sport) | u32::from(dport) << 16)
    }

    #[inline(always)]
    fn reversed(self) -> EndsV4 {
        EndsV4(self.0.rotate_left(32), self.1.rotate_left(16))
    }

    #[inline(always)]
    fn are(self, others: EndsV4) -> bool {
        (self.0 ^ others.0) | u64::from(self.1 ^ others.1) == 0
    }
}

/// Of IPv6: addresses, and both ports.
#[derive(Clone, Copy, Default)]
pub(crate) struct EndsV6(u128, u128, u32);

impl Ends for EndsV6 {
    type Address = u128;

    #[inline(always)]
    fn of(src: u128, dst: u128, sport: u16, dport: u16) -> EndsV6 {
        EndsV6(src, dst, u32::from(sport) | u32::from(dport) << 16)
    }

    #[inline(always)]
    fn reversed(self) -> EndsV6 {
        EndsV6(self.1, self.0, self.2.rotate_left(16))
    }

    #[inline(always)]
    fn are(self, others: EndsV6) -> bool {
        (self.0 ^ others.0) | (self.1 ^ others.1) | u128::from(self.2 ^ others.2) == 0
    }
}

/// What is kept of a plain packet until it is compared with its flow. All else is read again by those who need it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Gist<E> {
    ends: E,
    /// Length of the datagram in bytes, headers included.
    pub(crate) length: u16,
    pub(crate) protocol: Protocol,
}

impl<E: Ends> Gist<E> {
    #[inline(always)]
    pub(crate) fn of(plain: &Plain<E::Address>) -> Gist<E>
    where
        E::Address: Copy,
    {
        let &Plain { src, dst, sport, dport, protocol, length, .. } = plain;
        Gist { ends: E::of(src, dst, sport, dport), length, protocol }
    }
}

/// A family's shard, as the short way uses it.
pub(crate) trait Shard: PlainAddress {
    /// What a packet is compared with flows by.
    type Ends: Ends<Address = Self>;

    /// What packets of the flow are found by, in either direction.
    fn hash(conntrack: &Conntrack, plain: &Plain<Self>) -> u64;

    /// What the packet is looked up by on the whole path; `hash` is what [`Shard::hash`] said.
    fn key(plain: &Plain<Self>, hash: u64) -> Key;

    /// Asks for the line of the index that is read first.
    fn prefetch(conntrack: &Conntrack, hash: u64);

    /// The place of the flow that is most likely the packet's, whose memory is asked for.
    fn candidate(conntrack: &Conntrack, protocol: Protocol, hash: u64) -> Option<u32>;

    /// The flow at a place, whichever it is.
    fn handle(place: u32) -> FlowHandle;

    /// The flow at a place, if it is the packet's, alive, and nothing is unusual about it.
    fn find(conntrack: &Conntrack, now: Tick, gist: &Gist<Self::Ends>, place: u32) -> Option<Seat>;

    /// Translates a packet of the flow at a place, which is translated.
    fn translate(conntrack: &Conntrack, frame: &mut [u8], place: u32, direction: Direction);

    /// Has the flow's protocol judge the packet, whose checksum was verified, and gives the flow its next deadline.
    /// None, and nothing was changed, where the flow itself would change.
    fn refresh(
        conntrack: &mut Conntrack,
        times: &Times,
        settings: &Settings,
        packet: (&Gist<Self::Ends>, &Frame<'_>),
        seat: &Seat,
    ) -> Option<()>;
}

/// What of time is the same for all packets of a burst.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) now: Tick,
    /// When a stream of UDP runs out that has a packet now.
    stream: Tick,
    /// By which flows of UDP are known to be young.
    moment: Option<udp::Moment>,
}

impl Conntrack {
    /// Those of now.
    pub(crate) fn times(&self, now: Tick, settings: &Settings) -> Times {
        let stream = now.after(self.shared.factor.of(settings.timeouts.udp_stream));
        Times { now, stream, moment: udp::Moment::now(now, &settings.timeouts) }
    }
}

/// Both families differ in nothing but their table.
macro_rules! shard {
    ($address:ty, $ends:ty, $table:ident) => {
        impl Shard for $address {
            type Ends = $ends;

            #[inline(always)]
            fn hash(conntrack: &Conntrack, plain: &Plain<$address>) -> u64 {
                tuple(plain).hash(&conntrack.seeds)
            }

            #[inline]
            fn key(plain: &Plain<$address>, hash: u64) -> Key {
                Address::key(FamilyKey::hashed(tuple(plain), hash))
            }

            #[inline(always)]
            fn prefetch(conntrack: &Conntrack, hash: u64) {
                conntrack.$table.prefetch(hash);
            }

            #[inline(always)]
            fn candidate(conntrack: &Conntrack, protocol: Protocol, hash: u64) -> Option<u32> {
                conntrack.$table.ask_for(protocol, hash)
            }

            #[inline]
            fn handle(place: u32) -> FlowHandle {
                FlowHandle { family: <$address>::FAMILY, index: place }
            }

            #[inline(always)]
            fn find(conntrack: &Conntrack, now: Tick, gist: &Gist<$ends>, place: u32) -> Option<Seat> {
                conntrack.$table.seat(now, gist, place)
            }

            #[inline(never)]
            fn translate(conntrack: &Conntrack, frame: &mut [u8], place: u32, direction: Direction) {
                if let Some(leaving) = conntrack.$table.leaving_at(place, direction) {
                    let Tuple { src, dst, sport, dport, protocol } = leaving;
                    Self::readdress(frame, Protocol(protocol), (src, dst), (sport, dport));
                }
            }

            #[inline(always)]
            fn refresh(
                conntrack: &mut Conntrack,
                times: &Times,
                settings: &Settings,
                packet: (&Gist<$ends>, &Frame<'_>),
                seat: &Seat,
            ) -> Option<()> {
                conntrack.$table.refresh_plain(&conntrack.shared, times, settings, packet, seat)
            }
        }
    };
}

shard!(u32, EndsV4, v4);
shard!(u128, EndsV6, v6);

/// Whether a packet may leave its flow as it is: every datagram of UDP, and of TCP what neither opens nor closes.
#[inline(always)]
pub(crate) fn may_be_steady<A>(plain: &Plain<A>) -> bool {
    const ENDS: TcpFlags = TcpFlags::SYN.union(TcpFlags::FIN).union(TcpFlags::RST);
    plain.protocol != Protocol::TCP || plain.flags.contains(TcpFlags::ACK) && !plain.flags.intersects(ENDS)
}

#[inline(always)]
fn tuple<A: Address>(plain: &Plain<A>) -> Tuple<A> {
    let &Plain { src, dst, sport, dport, protocol, .. } = plain;
    Tuple { src, dst, sport, dport, protocol: protocol.0 }
}

impl<A: Address + Shard> Table<A> {
    #[inline(always)]
    fn ask_for(&self, protocol: Protocol, hash: u64) -> Option<u32> {
        let place = self.candidate(hash)?;
        self.translations().prefetch_entry(place);
        match protocol {
            Protocol::TCP => self.prefetch_flow(place),
            _ => self.prefetch_head(place),
        }
        Some(place)
    }

    #[inline(always)]
    fn seat(&self, now: Tick, gist: &Gist<A::Ends>, place: u32) -> Option<Seat> {
        let flow: &Flow<A> = self.flow(place)?;
        let status = flow.status;
        let translated = status.is_translated();
        let original = ends(&flow.original());
        let direction = if gist.ends.are(original) {
            Direction::Original
        } else if match translated {
            false => gist.ends.reversed().are(original),
            true => self.is_answered_by(place, gist.ends),
        } {
            Direction::Reply
        } else {
            return None;
        };
        if flow.protocol() != gist.protocol.0
            || status.without(USUAL) != Status::CONFIRMED
            || now.is_due(flow.deadline)
        {
            return None;
        }
        // Nothing is stored for answers before the first of them, so that one takes the whole path.
        let replied = status.contains(Status::SEEN_REPLY);
        let state = if replied { CtState::Established } else { CtState::New };
        let stored = flow.stored(direction);
        (stored.state == state).then_some(Seat { place, direction, translated, stored })
    }

    /// Whether a packet is an answer to those of the translated flow at a place.
    #[inline(never)]
    fn is_answered_by(&self, place: u32, answer: A::Ends) -> bool {
        self.outward_at(place).is_some_and(|outward| answer.reversed().are(ends(&outward)))
    }

    #[inline(always)]
    fn refresh_plain(
        &mut self,
        shared: &Shared,
        times: &Times,
        settings: &Settings,
        (gist, frame): (&Gist<A::Ends>, &Frame<'_>),
        &Seat { place, direction, .. }: &Seat,
    ) -> Option<()> {
        let flow = self.flow_mut(place)?;
        let (now, status) = (times.now, flow.status);
        let deadline = if gist.protocol == Protocol::UDP && status.contains(STREAM) {
            // Nothing but the head of a stream's flow is looked at.
            times.stream
        } else {
            let timeout = if gist.protocol == Protocol::UDP {
                let stream_from = || match flow.track {
                    Track::Udp { stream_from } => Some(stream_from),
                    _ => None,
                };
                let began = udp::Moment(flow.state);
                udp::steady(began, stream_from, status, (now, times.moment), &settings.timeouts)?
            } else if let Track::Tcp(track) = &mut flow.track {
                steady_tcp::<A>(track, (flow.state, status), frame.bytes(), direction, settings)?
            } else {
                return None;
            };
            now.after(shared.factor.of(timeout))
        };
        if deadline.is_due(flow.deadline) {
            // No sooner than before, so where the wheel has it is good enough.
            flow.deadline = deadline;
        } else {
            self.refresh(place, deadline);
        }
        if status.contains(Status::ACCOUNTED) {
            self.aside.account_bytes(place, direction, u64::from(gist.length));
        }
        Some(())
    }
}

#[inline(always)]
fn ends<A: Shard>(tuple: &Tuple<A>) -> A::Ends {
    A::Ends::of(tuple.src, tuple.dst, tuple.sport, tuple.dport)
}

/// Has a connection judge a segment, see [`tcp::steady`]. Apart, so that datagrams have the registers.
#[inline(never)]
fn steady_tcp<A: PlainAddress>(
    track: &mut TcpTrack,
    flow: (u8, Status),
    frame: &[u8],
    direction: Direction,
    settings: &Settings,
) -> Option<Millis> {
    let segment = Plain::<A>::read(frame)?.segment(frame)?;
    tcp::steady(track, flow, &segment, direction, settings)
}
