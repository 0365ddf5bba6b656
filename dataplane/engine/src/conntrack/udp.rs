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

/// A moment in steps of 512 ms, as far as eight bits tell: when a flow began, kept where every packet looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(pub(super) u8);

impl Moment {
    /// A moment looks like one of 131 seconds before. Timeouts below this leave no answered flow that long without a packet, and
    /// its first packet behind two seconds makes it a stream.
    const COMES_AGAIN: Millis = Millis::from_secs(125);

    /// That of a time.
    #[inline]
    fn of(now: Tick) -> Moment {
        Moment((now.0 >> 9) as u8)
    }

    /// That of now, for telling which flows are young; None where timeouts leave flows that are old enough to be mistaken.
    #[inline]
    pub(super) fn now(now: Tick, timeouts: &Timeouts) -> Option<Moment> {
        (timeouts.udp < Moment::COMES_AGAIN).then(|| Moment::of(now))
    }

    /// Whether [`STREAM_AFTER`] has surely not passed since: one and a half seconds have not.
    #[inline(always)]
    fn is_recent(self, now: Moment) -> bool {
        now.0.wrapping_sub(self.0) < 3
    }
}

/// Judges a datagram; `stream_from` is when the flow's packets begin to make it a stream, `began` its beginning's [`Moment`].
#[inline]
pub(super) fn judge(
    (stream_from, began): (&mut Tick, &mut u8),
    status: &mut Status,
    cx: &Context<'_>,
) -> Judged {
    if cx.has_bad_checksum() {
        return Judged::INVALID;
    }
    let timeouts = cx.timeouts;
    if !status.contains(Status::CONFIRMED) {
        *stream_from = cx.now.tick.after(STREAM_AFTER);
        *began = Moment::of(cx.now.tick).0;
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

/// The timeout that a datagram gives a flow of UDP which it changes in nothing else; None for one that makes the flow a
/// stream. `stream_from` lies in another line of memory than the rest, and is read where it does not show that the flow is young.
#[inline(always)]
pub(super) fn steady(
    began: Moment,
    stream_from: impl FnOnce() -> Option<Tick>,
    status: Status,
    (now, moment): (Tick, Option<Moment>),
    timeouts: &Timeouts,
) -> Option<Millis> {
    if !status.contains(Status::SEEN_REPLY) {
        Some(timeouts.udp)
    } else if status.contains(Status::ASSURED) {
        Some(timeouts.udp_stream)
    } else if moment.is_some_and(|moment| began.is_recent(moment)) || !is_past(now, stream_from()?) {
        Some(timeouts.udp)
    } else {
        None
    }
}

#[inline(always)]
fn is_past(now: Tick, from: Tick) -> bool {
    now.is_due(from) && now != from
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_a_stream_from_two_seconds_on_whatever_is_remembered_of_its_beginning() {
        let answered = Status::CONFIRMED.with(Status::SEEN_REPLY);
        for (timeout, step) in [(30, 7), (120, 7), (600, 101)] {
            let timeouts = Timeouts { udp: Millis::from_secs(timeout), ..Timeouts::default() };
            for began in [0, 511, 1999, 123_456, u32::MAX - 1500, u32::MAX].map(Tick) {
                for age in (0..timeout * 1000).step_by(step).chain([1999, 2000, 2001]) {
                    let now = began.after(Millis(age));
                    let moments = (now, Moment::now(now, &timeouts));
                    let stream_from = || Some(began.after(STREAM_AFTER));
                    let steady = steady(Moment::of(began), stream_from, answered, moments, &timeouts);
                    assert_eq!(steady.is_none(), age > 2000, "{age} ms, {timeout} s");
                }
            }
        }
    }

    #[test]
    fn a_young_flow_is_told_by_its_first_line() {
        let timeouts = Timeouts::default();
        let answered = Status::CONFIRMED.with(Status::SEEN_REPLY);
        let (began, now) = (Tick(9000), Tick(10_000));
        let moments = (now, Moment::now(now, &timeouts));
        let steady = steady(Moment::of(began), || panic!("asked"), answered, moments, &timeouts);
        assert_eq!(steady, Some(timeouts.udp));
    }
}
