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
use super::tuple::{Address, FamilyKey, FamilyKeys, Key, Seeds, Tuple};
use super::{tcp, udp};
use crate::ids::{Millis, Tick};

/// What a flow may be without its packets needing more than this.
const USUAL: Status = Status::CONFIRMED
    .with(Status::SEEN_REPLY)
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
    /// What the pipeline stored for such packets, in the state that this one is in.
    pub(crate) stored: Stored,
}

impl Seat {
    /// Does what NAT does to the flow's packets, if it is translated.
    #[inline(always)]
    pub(crate) fn translate<A: Shard>(&self, conntrack: &Conntrack, frame: &mut [u8], plain: &Plain<A>) {
        if self.translated {
            self.translate_by(conntrack, frame, plain, A::handle(self.place));
        }
    }

    #[inline(never)]
    fn translate_by<A: PlainAddress>(
        &self,
        conntrack: &Conntrack,
        frame: &mut [u8],
        plain: &Plain<A>,
        flow: FlowHandle,
    ) {
        let mut packet = plain.packet(frame);
        if let Some(translation) = conntrack.translation(flow, self.direction, &packet) {
            translation.apply(frame, &mut packet);
        }
    }
}

/// A family's shard, as the short way uses it.
pub(crate) trait Shard: PlainAddress {
    /// What packets of the flow are found by, in either direction.
    fn hash(conntrack: &Conntrack, plain: &Plain<Self>) -> u64;

    /// What the packet is looked up by on the whole path; `hash` is what [`Shard::hash`] said.
    fn key(plain: &Plain<Self>, hash: u64) -> Key;

    /// Asks for the line of the index that is read first.
    fn prefetch(conntrack: &Conntrack, hash: u64);

    /// The place of the flow that is most likely the packet's, whose memory is asked for.
    fn candidate(conntrack: &Conntrack, plain: &Plain<Self>, hash: u64) -> Option<u32>;

    /// The flow at a place, whichever it is.
    fn handle(place: u32) -> FlowHandle;

    /// The flow at a place, if it is the packet's, alive, with something stored, and nothing is unusual about it.
    fn find(conntrack: &Conntrack, now: Tick, plain: &Plain<Self>, place: u32) -> Option<Seat>;

    /// Has the flow's protocol judge the packet, whose checksum was verified, and gives the flow its next deadline.
    /// None, and nothing was changed, where the flow itself would change.
    fn refresh(
        conntrack: &mut Conntrack,
        now: Tick,
        settings: &Settings,
        packet: (&Plain<Self>, &[u8]),
        seat: &Seat,
    ) -> Option<()>;
}

impl Shard for u32 {
    #[inline(always)]
    fn hash(conntrack: &Conntrack, plain: &Plain<u32>) -> u64 {
        hash(plain, &conntrack.seeds)
    }

    #[inline]
    fn key(plain: &Plain<u32>, hash: u64) -> Key {
        Key(FamilyKeys::V4(FamilyKey::hashed(tuple(plain), hash)))
    }

    #[inline(always)]
    fn prefetch(conntrack: &Conntrack, hash: u64) {
        conntrack.v4.prefetch(hash);
    }

    #[inline(always)]
    fn candidate(conntrack: &Conntrack, plain: &Plain<u32>, hash: u64) -> Option<u32> {
        conntrack.v4.ask_for(plain.protocol, hash)
    }

    #[inline]
    fn handle(place: u32) -> FlowHandle {
        FlowHandle { family: u32::FAMILY, index: place }
    }

    #[inline(always)]
    fn find(conntrack: &Conntrack, now: Tick, plain: &Plain<u32>, place: u32) -> Option<Seat> {
        conntrack.v4.seat(now, plain, place)
    }

    #[inline(always)]
    fn refresh(
        conntrack: &mut Conntrack,
        now: Tick,
        settings: &Settings,
        packet: (&Plain<u32>, &[u8]),
        seat: &Seat,
    ) -> Option<()> {
        conntrack.v4.refresh_plain(&conntrack.shared, now, settings, packet, seat)
    }
}

impl Shard for u128 {
    #[inline(always)]
    fn hash(conntrack: &Conntrack, plain: &Plain<u128>) -> u64 {
        hash(plain, &conntrack.seeds)
    }

    #[inline]
    fn key(plain: &Plain<u128>, hash: u64) -> Key {
        Key(FamilyKeys::V6(FamilyKey::hashed(tuple(plain), hash)))
    }

    #[inline(always)]
    fn prefetch(conntrack: &Conntrack, hash: u64) {
        conntrack.v6.prefetch(hash);
    }

    #[inline(always)]
    fn candidate(conntrack: &Conntrack, plain: &Plain<u128>, hash: u64) -> Option<u32> {
        conntrack.v6.ask_for(plain.protocol, hash)
    }

    #[inline]
    fn handle(place: u32) -> FlowHandle {
        FlowHandle { family: u128::FAMILY, index: place }
    }

    #[inline(always)]
    fn find(conntrack: &Conntrack, now: Tick, plain: &Plain<u128>, place: u32) -> Option<Seat> {
        conntrack.v6.seat(now, plain, place)
    }

    #[inline(always)]
    fn refresh(
        conntrack: &mut Conntrack,
        now: Tick,
        settings: &Settings,
        packet: (&Plain<u128>, &[u8]),
        seat: &Seat,
    ) -> Option<()> {
        conntrack.v6.refresh_plain(&conntrack.shared, now, settings, packet, seat)
    }
}

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

#[inline(always)]
fn hash<A: Address>(plain: &Plain<A>, seeds: &Seeds) -> u64 {
    tuple(plain).hash(seeds)
}

impl<A: Address + PlainAddress> Table<A> {
    #[inline(always)]
    fn ask_for(&self, protocol: Protocol, hash: u64) -> Option<u32> {
        let place = self.candidate(hash)?;
        match protocol {
            Protocol::TCP => self.prefetch_flow(place),
            _ => self.prefetch_head(place),
        }
        Some(place)
    }

    #[inline(always)]
    fn seat(&self, now: Tick, plain: &Plain<A>, place: u32) -> Option<Seat> {
        let flow: &Flow<A> = self.flow(place)?;
        let (packet, original, status) = (tuple(plain), flow.original(), flow.status);
        let translated = status.is_translated();
        let outward = if translated { self.outward_at(place)? } else { original };
        let direction = if packet.is(&original) {
            Direction::Original
        } else if packet.reversed().is(&outward) {
            Direction::Reply
        } else {
            return None;
        };
        let replied = status.contains(Status::SEEN_REPLY);
        let first_answer = direction == Direction::Reply && !replied;
        if status.without(USUAL) != Status::default() || first_answer || !flow.is_live(now) {
            return None;
        }
        let stored = flow.stored(direction)?;
        let state = if replied { CtState::Established } else { CtState::New };
        (stored.state == state).then_some(Seat { place, direction, translated, stored })
    }

    #[inline(always)]
    fn refresh_plain(
        &mut self,
        shared: &Shared,
        now: Tick,
        settings: &Settings,
        (plain, frame): (&Plain<A>, &[u8]),
        &Seat { place, direction, .. }: &Seat,
    ) -> Option<()> {
        let flow = self.flow_mut(place)?;
        let status = flow.status;
        // Nothing but the head of a stream's flow is looked at.
        let is_stream = plain.protocol == Protocol::UDP && status.contains(STREAM);
        let timeout = match &mut flow.track {
            _ if is_stream => settings.timeouts.udp_stream,
            Track::Udp { stream_from } => udp::steady(*stream_from, status, now, &settings.timeouts)?,
            Track::Tcp(track) => {
                steady_tcp(track, (flow.state, status), (plain, frame), direction, settings)?
            }
            _ => return None,
        };
        let deadline = now.after(shared.factor.of(timeout));
        if deadline.is_due(flow.deadline) {
            // No sooner than before, so where the wheel has it is good enough.
            flow.deadline = deadline;
        } else {
            self.refresh(place, deadline);
        }
        if status.contains(Status::ACCOUNTED) {
            self.aside.account_bytes(place, direction, u64::from(plain.length));
        }
        Some(())
    }
}

/// Has a connection judge a segment, see [`tcp::steady`]. Apart, so that datagrams have the registers.
#[inline(never)]
fn steady_tcp<A: PlainAddress>(
    track: &mut TcpTrack,
    flow: (u8, Status),
    (plain, frame): (&Plain<A>, &[u8]),
    direction: Direction,
    settings: &Settings,
) -> Option<Millis> {
    let (next, timeout) = tcp::steady(track, flow, &plain.segment(frame)?, direction, settings)?;
    *track = next;
    Some(timeout)
}
