//! The segments that a connection consists of, but for a few at both ends: an ACK, with data or without, of a connection
//! that is established. It is judged here as by [`super::judge`], with what cannot be left out.

use sluice_wire::tcp::Segment;

use super::states::{Kind, TcpState};
use super::{Numbers, TcpTrack};
use crate::conntrack::info::{Direction, Status};
use crate::conntrack::settings::Settings;
use crate::ids::Millis;

/// How long the flow lives after a segment that leaves a connection in its state and is in the window: an ACK of one that is
/// established, both ways, in `flow`'s state and status. None for any other, and nothing was changed.
#[inline(always)]
pub(in crate::conntrack) fn steady(
    tcp: &mut TcpTrack,
    (state, status): (u8, Status),
    segment: &Segment<'_>,
    direction: Direction,
    settings: &Settings,
) -> Option<Millis> {
    const BOTH_WAYS: Status = Status::SEEN_REPLY.with(Status::ASSURED);
    const STATE: TcpState = TcpState::Established;
    if state != STATE as u8 || !status.contains(BOTH_WAYS) || Kind::of(segment.flags) != Kind::Ack {
        return None;
    }
    let numbers = Numbers::of(segment);
    if !tcp.sides.fit_ack(direction, &numbers, segment) {
        return None;
    }
    tcp.count_retransmit(&numbers, direction);
    tcp.note(Kind::Ack, direction);
    Some(tcp.timeout(STATE, Kind::Ack, &settings.timeouts.tcp, settings.tcp_max_retrans))
}
