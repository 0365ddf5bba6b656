//! UDP and UDP-Lite: a flow that goes both ways for two seconds is a stream, which lives longer and is ASSURED. One of
//! UDP-Lite is a stream as soon as it was answered.
//!
//! Source: `nf_conntrack_proto_udp.c`, as observed on Linux 6.18.

use sluice_wire::Protocol;

use super::info::Status;
use super::settings::Timeouts;
use super::track::{Context, Judged};
use crate::ids::{Millis, Tick};

/// A single question and its answer are over by then.
const STREAM_AFTER: Millis = Millis::from_secs(2);

/// Judges a datagram; `stream_from` is when the flow's packets begin to make it a stream.
#[inline]
pub(super) fn judge(stream_from: &mut Tick, status: &mut Status, cx: &Context<'_>) -> Judged {
    if cx.has_bad_checksum() {
        return Judged::INVALID;
    }
    let timeouts = cx.timeouts;
    if !status.contains(Status::CONFIRMED) {
        *stream_from = cx.now.tick.after(STREAM_AFTER);
    }
    // What is ASSURED was a stream before: after 24 days its first packet would look to be yet to come.
    let is_stream = cx.packet.protocol == Protocol::UDPLITE
        || status.contains(Status::ASSURED)
        || is_past(cx.now.tick, *stream_from);
    if !status.contains(Status::SEEN_REPLY) || !is_stream {
        return Judged::Accept { timeout: timeouts.udp };
    }
    *status = status.with(Status::ASSURED);
    Judged::Accept { timeout: timeouts.udp_stream }
}

/// The timeout that a datagram gives a flow which it changes in nothing else; None for one that makes the flow a stream.
#[inline(always)]
pub(super) fn steady(stream_from: Tick, status: Status, now: Tick, timeouts: &Timeouts) -> Option<Millis> {
    if !status.contains(Status::SEEN_REPLY) {
        Some(timeouts.udp)
    } else if status.contains(Status::ASSURED) {
        Some(timeouts.udp_stream)
    } else if is_past(now, stream_from) {
        None
    } else {
        Some(timeouts.udp)
    }
}

#[inline(always)]
fn is_past(now: Tick, from: Tick) -> bool {
    now.is_due(from) && now != from
}
