//! TCP's window, seen from between the two ends: which sequence numbers a segment may have.
//!
//! For each side: the end of what it sent, the end of what it may send, the largest window it offered, and the last
//! number it acknowledged. Four bounds hold for a segment from a sender to a receiver:
//!
//! 1. it begins no later than what the receiver's window allows;
//! 2. it ends no earlier than a window before what was sent: else it is an old copy;
//! 3. it acknowledges nothing that was not sent;
//! 4. it acknowledges no less than [`ACK_WINDOW`] before that: else it is an old copy.
//!
//! Over an upper bound is INVALID; under a lower bound passes, but changes nothing; so does what is over the first
//! bound by no more than the largest window that the receiver offered.
//!
//! Source: G. van Rooij, "Real Stateful TCP Packet Filtering in IP Filter", 2001; RFC 7323 (scaling), RFC 2018
//! (SACK); the tolerance above the window as observed on Linux 6.18.

use sluice_wire::TcpFlags;
use sluice_wire::tcp::{Segment, TcpOption};

use super::states::TcpState;
use super::{Numbers, PerDirection};
use crate::conntrack::info::Direction;

/// How far an acknowledgement may lag behind, at least.
const ACK_WINDOW: u32 = 66_000;

/// RFC 7323 section 2.3.
const MAX_SCALE: u8 = 14;

/// Is `a` before `b`, modulo 2^32?
#[inline(always)]
pub(super) const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

#[inline(always)]
const fn after(a: u32, b: u32) -> bool {
    before(b, a)
}

/// How a segment fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// In the window.
    Inside,
    /// Below it: an old copy.
    Old,
    /// Above it, but no farther than the largest window that was offered.
    Above,
    /// Above it, or an acknowledgement of what was never sent.
    Outside,
}

/// What is known of one side.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Side {
    /// Behind the last byte it sent.
    end: u32,
    /// Behind the last byte it may send.
    max_end: u32,
    /// The largest window it offered, scaled; 0: nothing is known of it yet.
    max_window: u32,
    /// The last number it acknowledged, see [`Flags::ACKNOWLEDGED`].
    acknowledged: u32,
}

/// Bits of what is known of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags(u8);

impl Flags {
    /// It scales its window.
    const SCALES: u8 = 1 << 0;
    /// It may be sent selective acknowledgements.
    const SACK: u8 = 1 << 1;
    /// It sent the first FIN.
    const CLOSED: u8 = 1 << 2;
    /// Its window is not known well: nothing is INVALID for the window's sake.
    const LIBERAL: u8 = 1 << 3;
    /// It sent what is not acknowledged yet.
    const UNACKNOWLEDGED: u8 = 1 << 4;
    /// [`Side::acknowledged`] is known.
    const ACKNOWLEDGED: u8 = 1 << 5;

    #[inline(always)]
    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// What is known of both sides; flags and scales apart, so that nothing is padded.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Sides {
    side: PerDirection<Side>,
    flags: PerDirection<Flags>,
    /// Bits that windows are shifted: the original side's in the low four bits.
    scales: u8,
    /// Retransmits of the last ACK without an answer. Here since this is where a byte is free.
    pub(super) retransmits: u8,
}

/// What a SYN offers: window scale and SACK.
pub(super) fn offered(segment: &Segment<'_>) -> (Option<u8>, bool) {
    let (mut scale, mut sack) = (None, false);
    if segment.has_options() {
        for option in segment.options() {
            match option {
                TcpOption::WindowScale(shift) => scale = Some(shift.min(MAX_SCALE)),
                TcpOption::SackPermitted => sack = true,
                _ => {}
            }
        }
    }
    (scale, sack)
}

/// The highest number that a segment acknowledges, by SACK or else by `ack`.
#[inline]
fn highest_acknowledged(segment: &Segment<'_>, ack: u32) -> u32 {
    if !segment.has_options() || segment.timestamps_only() {
        return ack;
    }
    let mut highest = ack;
    for option in segment.options() {
        if let TcpOption::Sack(blocks) = option {
            for (_, right) in blocks.iter() {
                if after(right, highest) {
                    highest = right;
                }
            }
        }
    }
    highest
}

impl Sides {
    /// By the SYN of a connection that begins.
    pub(super) fn open(&mut self, end: u32, window: u16, segment: &Segment<'_>) {
        *self = Sides::default();
        self.side.original =
            Side { end, max_end: end, max_window: u32::from(window).max(1), acknowledged: 0 };
        self.take_offer(Direction::Original, offered(segment));
    }

    /// Whether the opener's numbers lie behind those of a connection before, so that nothing of that one can be taken for
    /// this one's.
    pub(super) fn begins_behind(&self, earlier: &Sides) -> bool {
        after(self.side.original.end, earlier.side.original.end)
    }

    /// By a segment of a connection that has been going on: neither scale nor SACK is known.
    pub(super) fn pick_up(&mut self, end: u32, window: u16) {
        let max_window = u32::from(window).max(1);
        *self = Sides::default();
        self.side.original = Side { end, max_end: end.wrapping_add(max_window), max_window, acknowledged: 0 };
        self.flags = PerDirection::both(Flags(Flags::SACK | Flags::LIBERAL));
    }

    /// By a SYN that was ignored, and is answered now by a SYN-ACK in `direction`.
    pub(super) fn restart(
        &mut self,
        direction: Direction,
        end: u32,
        window: u16,
        scale: Option<u8>,
        sack: bool,
    ) {
        let opener = direction.opposite();
        let side = self.side.of_mut(opener);
        (side.end, side.max_end, side.max_window) = (end, end, u32::from(window).max(1));
        *self.flags.of_mut(opener) = Flags::default();
        self.take_offer(opener, (scale, sack));
        *self.side.of_mut(direction) = Side::default();
        self.flags.of_mut(direction).0 &= Flags::LIBERAL;
        self.set_scale(direction, 0);
    }

    /// Whether one side sent a FIN when none had been seen.
    pub(super) fn was_closed(&self) -> bool {
        self.flags.original.has(Flags::CLOSED) || self.flags.reply.has(Flags::CLOSED)
    }

    /// This side sent the first FIN.
    pub(super) fn closed_by(&mut self, direction: Direction) {
        self.flags.of_mut(direction).0 |= Flags::CLOSED;
    }

    /// Whether a side waits for an acknowledgement.
    #[inline(always)]
    pub(super) fn has_unacknowledged(&self) -> bool {
        (self.flags.original.0 | self.flags.reply.0) & Flags::UNACKNOWLEDGED != 0
    }

    /// The last number that a side acknowledged.
    pub(super) fn acknowledged(&self, direction: Direction) -> Option<u32> {
        let known = self.flags.of(direction).has(Flags::ACKNOWLEDGED);
        known.then_some(self.side.of(direction).acknowledged)
    }

    /// Looks whether a segment in `direction` fits, and learns from it if it does. The numbers that it was taken to
    /// have come back where it fits in the ordinary way, which is what tells retransmits.
    #[inline]
    pub(super) fn fit(
        &mut self,
        state: TcpState,
        direction: Direction,
        n: &Numbers,
        segment: &Segment<'_>,
        (liberal, shift): (bool, u32),
    ) -> (Fit, Option<Numbers>) {
        let mut n = *n;
        let mut sack = n.ack;
        if self.flags.of(direction.opposite()).has(Flags::SACK) {
            sack = highest_acknowledged(segment, n.ack);
        }
        // What acknowledges a stream that a helper made longer, as the stream's sender has it.
        (n.ack, sack) = (n.ack.wrapping_sub(shift), sack.wrapping_sub(shift));
        if self.begins_here(state, direction, &n, sack, segment) {
            return (Fit::Inside, None);
        }
        let (sender, receiver) = self.side.split(direction);
        let with_ack = segment.flags.contains(TcpFlags::ACK);
        // Some stacks set ACK in a reset, and leave the number 0.
        if !with_ack || n.ack == 0 && segment.flags.contains(TcpFlags::RST) {
            n.ack = receiver.end;
            sack = receiver.end;
        }
        // A reset that answers a SYN has number 0.
        if n.seq == 0 && segment.flags.contains(TcpFlags::RST) && state == TcpState::SynSent {
            n.seq = sender.end;
            n.end = sender.end;
        }
        let fit = bounds(sender, receiver, &n, sack);
        if fit == Fit::Above {
            // Nothing else is learnt from it, but its acknowledgement must not be one of what was never sent.
            sender.end = n.end;
            self.flags.of_mut(direction).0 |= Flags::UNACKNOWLEDGED;
        }
        if fit != Fit::Inside {
            let passes = liberal || self.flags.of(direction).has(Flags::LIBERAL);
            return (if passes { Fit::Inside } else { fit }, None);
        }
        self.learn(direction, &n, sack, with_ack, segment.flags.contains(TcpFlags::SYN));
        (Fit::Inside, Some(n))
    }

    /// As [`Sides::fit`], of an ACK without SYN, FIN or RST, where the sender is known already and no helper changed what it
    /// sends. False, and nothing was learnt, for one that is not [`Fit::Inside`].
    #[inline(always)]
    pub(super) fn fit_ack(&mut self, direction: Direction, n: &Numbers, segment: &Segment<'_>) -> bool {
        let mut sack = n.ack;
        if self.flags.of(direction.opposite()).has(Flags::SACK) {
            sack = highest_acknowledged(segment, n.ack);
        }
        let (sender, receiver) = self.side.split(direction);
        if sender.max_window == 0 || bounds(sender, receiver, n, sack) != Fit::Inside {
            return false;
        }
        self.learn(direction, n, sack, true, false);
        true
    }

    /// Where the side is not known yet, takes the segment for its beginning. True if nothing more is to be checked.
    #[inline]
    fn begins_here(
        &mut self,
        state: TcpState,
        direction: Direction,
        n: &Numbers,
        sack: u32,
        segment: &Segment<'_>,
    ) -> bool {
        let sender = self.side.of(direction);
        let syn = segment.flags.contains(TcpFlags::SYN);
        let with_ack = segment.flags.contains(TcpFlags::ACK);
        if sender.max_window != 0 {
            // A SYN with a higher number than the one before: the client began anew, with other options too.
            let again =
                syn && after(n.end, sender.end) && matches!(state, TcpState::SynSent | TcpState::SynRecv);
            if !again {
                return false;
            }
            self.begin_side(direction, n, segment);
            return direction == Direction::Reply && !with_ack;
        }
        if syn {
            self.begin_side(direction, n, segment);
            return !with_ack;
        }
        self.pick_up_side(direction, n, sack);
        false
    }

    fn begin_side(&mut self, direction: Direction, n: &Numbers, segment: &Segment<'_>) {
        let side = self.side.of_mut(direction);
        (side.end, side.max_end, side.max_window) = (n.end, n.end, u32::from(n.window).max(1));
        self.take_offer(direction, offered(segment));
        // RFC 7323 section 2.2: only if both offer it. The opener's offer waits for the answer.
        let both = self.flags.original.has(Flags::SCALES) && self.flags.reply.has(Flags::SCALES);
        if direction == Direction::Reply && !both {
            self.scales = 0;
        }
    }

    fn pick_up_side(&mut self, direction: Direction, n: &Numbers, sack: u32) {
        let window = (u32::from(n.window) << self.scale(direction)).max(1);
        let (sender, receiver) = self.side.split(direction);
        (sender.end, sender.max_window, sender.max_end) = (n.end, window, n.end.wrapping_add(window));
        if receiver.max_window == 0 {
            (receiver.end, receiver.max_end) = (sack, sack);
        } else if sack == receiver.end.wrapping_add(1) {
            // Most likely the answer to a keepalive, whose one byte was not seen.
            receiver.end = receiver.end.wrapping_add(1);
        }
    }

    #[inline]
    fn learn(&mut self, direction: Direction, n: &Numbers, sack: u32, with_ack: bool, syn: bool) {
        let scale = if syn { 0 } else { self.scale(direction) };
        let window = u32::from(n.window) << scale;
        let (flags, other_flags) = self.flags.split(direction);
        let (sender, receiver) = self.side.split(direction);
        sender.max_window = sender.max_window.max(window.wrapping_add(sack.wrapping_sub(n.ack)));
        if after(n.end, sender.end) {
            sender.end = n.end;
            flags.0 |= Flags::UNACKNOWLEDGED;
        }
        if with_ack && (!flags.has(Flags::ACKNOWLEDGED) || after(n.ack, sender.acknowledged)) {
            sender.acknowledged = n.ack;
            flags.0 |= Flags::ACKNOWLEDGED;
        }
        if receiver.max_window != 0 && after(n.end, sender.max_end) {
            receiver.max_window = receiver.max_window.wrapping_add(n.end.wrapping_sub(sender.max_end));
        }
        let allowed = sack.wrapping_add(window);
        if after(allowed, receiver.max_end.wrapping_sub(1)) {
            // A closed window may still be probed with one byte.
            receiver.max_end = allowed.wrapping_add(u32::from(window == 0));
        }
        if n.ack == receiver.end {
            other_flags.0 &= !Flags::UNACKNOWLEDGED;
        }
    }

    fn take_offer(&mut self, direction: Direction, (scale, sack): (Option<u8>, bool)) {
        let flags = self.flags.of_mut(direction);
        flags.0 &= Flags::LIBERAL;
        if scale.is_some() {
            flags.0 |= Flags::SCALES;
        }
        if sack {
            flags.0 |= Flags::SACK;
        }
        self.set_scale(direction, scale.unwrap_or(0));
    }

    #[inline(always)]
    fn scale(&self, direction: Direction) -> u8 {
        self.scales >> (4 * direction.index()) & 0x0f
    }

    fn set_scale(&mut self, direction: Direction, scale: u8) {
        let shift = 4 * direction.index();
        self.scales = self.scales & !(0x0f << shift) | (scale & 0x0f) << shift;
    }
}

/// The four bounds.
#[inline]
fn bounds(sender: &Side, receiver: &Side, n: &Numbers, sack: u32) -> Fit {
    if after(sack, receiver.end) {
        return Fit::Outside;
    }
    let window_begin = sender.end.wrapping_sub(receiver.max_window);
    let lag = sender.max_window.max(ACK_WINDOW);
    let old = receiver.max_window != 0 && before(n.end, window_begin)
        || before(sack, receiver.end.wrapping_sub(lag));
    if after(n.seq, sender.max_end) {
        // A sender may overshoot a window that shrank, and the receiver may take it all the same.
        let overshoot = n.end.wrapping_sub(sender.max_end).wrapping_add(1);
        return if overshoot > receiver.max_window || old { Fit::Outside } else { Fit::Above };
    }
    if old { Fit::Old } else { Fit::Inside }
}
