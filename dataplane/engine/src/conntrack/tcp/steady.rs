//! The segments that a connection consists of, but for a few at both ends: an ACK, with data or without, of a connection
//! that is established. It is judged here as by [`super::judge`], with what cannot be left out.

use sluice_wire::tcp::Segment;

use super::states::{Kind, TcpState};
use super::window::Fit;
use super::{Numbers, TcpTrack};
use crate::conntrack::info::{Direction, Status};
use crate::conntrack::settings::Settings;
use crate::ids::Millis;

/// What becomes of a connection by a segment that leaves it in its state and is in the window, and how long the flow
/// lives then: an ACK of one that is established, both ways, in `flow`'s state and status. None for any other.
#[inline(always)]
pub(in crate::conntrack) fn steady(
    tcp: &TcpTrack,
    (state, status): (u8, Status),
    segment: &Segment<'_>,
    direction: Direction,
    settings: &Settings,
) -> Option<(TcpTrack, Millis)> {
    const BOTH_WAYS: Status = Status::SEEN_REPLY.with(Status::ASSURED);
    const STATE: TcpState = TcpState::Established;
    if state != STATE as u8 || !status.contains(BOTH_WAYS) || Kind::of(segment.flags) != Kind::Ack {
        return None;
    }
    let mut next = *tcp;
    let numbers = Numbers::of(segment);
    let liberal = settings.tcp_be_liberal;
    let (Fit::Inside, seen) = next.sides.fit(STATE, direction, &numbers, segment, (liberal, 0)) else {
        return None;
    };
    if let Some(seen) = seen {
        next.count_retransmit(&seen, direction);
    }
    next.note(Kind::Ack, direction);
    let timeout = next.timeout(STATE, Kind::Ack, &settings.timeouts.tcp, settings.tcp_max_retrans);
    Some((next, timeout))
}
