//! TCP: which segments belong to a connection, and how long it lives.
//!
//! First the state table ([`states`]), with the cases that it cannot tell, then the window ([`window`]), then the
//! timeout. What passes without being understood ("ignored") changes no state, but is remembered, because the answer
//! to it tells who is right: the ends or the tracker.
//!
//! Source: RFC 9293, RFC 5961 (challenge ACKs), RFC 1122 section 4.2.2.13; G. van Rooij, "Real Stateful TCP Packet
//! Filtering in IP Filter", 2001; behaviour observed on Linux 6.18.

mod last;
mod states;
mod steady;
mod window;

use sluice_wire::tcp::Segment;

use self::last::Last;
use self::states::{Kind, Transition, transition};
use self::window::{Fit, Sides};
use super::flow::PerDirection;
use super::info::{Direction, Status};
use super::settings::{Settings, TcpTimeouts};
use super::track::{Context, Judged};
use crate::ids::Millis;

pub(super) use self::states::TcpState;
pub(in crate::conntrack) use self::steady::steady;

/// Of a flow picked up in the middle, or whose end is not closed properly: a shorter timeout is not cut further.
const SHORT: Millis = Millis::from_secs(120);

/// What is kept of a connection: 52 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::conntrack) struct TcpTrack {
    sides: Sides,
    /// The last segment: to tell retransmits, and to get in step again when an ignored one turns out to be right.
    last_seq: u32,
    last_ack: u32,
    last_end: u32,
    last_window: u16,
    last_kind: Kind,
    last: Last,
}

/// What the table and its exceptions say of a segment, before the window is looked at.
enum Step {
    /// Passes, and changes nothing.
    Pass,
    Invalid,
    /// Begins another connection with the same tuple.
    Reopen,
    /// On to this state, if it is in the window.
    Check(TcpState),
    /// On to this state: it answers what was let through outside the window.
    Trust(TcpState),
}

/// A segment's numbers.
#[derive(Clone, Copy)]
struct Numbers {
    seq: u32,
    end: u32,
    ack: u32,
    window: u16,
}

impl Numbers {
    #[inline(always)]
    fn of(segment: &Segment<'_>) -> Numbers {
        let end = segment.seq.wrapping_add(segment.sequence_length());
        Numbers { seq: segment.seq, end, ack: segment.ack, window: segment.window }
    }
}

/// What the common part hands over of the flow.
pub(super) struct Flow<'a> {
    pub(super) tcp: &'a mut TcpTrack,
    pub(super) state: &'a mut u8,
    pub(super) status: &'a mut Status,
    /// Until it runs out.
    pub(super) remaining: Millis,
}

/// Judges a segment, and changes the connection.
#[inline]
pub(super) fn judge(flow: Flow<'_>, cx: &Context<'_>) -> Judged {
    let Some(segment) = Segment::of(cx.packet, cx.frame) else { return Judged::INVALID };
    if cx.has_bad_checksum() {
        return Judged::INVALID;
    }
    let kind = Kind::of(segment.flags);
    let numbers = Numbers::of(&segment);
    if !flow.status.contains(Status::CONFIRMED) && !begin(flow.tcp, kind, &numbers, &segment, cx.settings) {
        return Judged::INVALID;
    }
    let old = TcpState::from_number(*flow.state);
    let new = match flow.tcp.step(old, kind, &numbers, &segment, *flow.status, cx) {
        Step::Pass => return Judged::PASS,
        Step::Invalid => return Judged::INVALID,
        Step::Reopen => return Judged::Reopen,
        Step::Trust(new) => new,
        Step::Check(new) => match flow.tcp.check_window(old, kind, &numbers, &segment, cx) {
            Fit::Inside => new,
            Fit::Old | Fit::Above => return Judged::PASS,
            Fit::Outside => {
                let timeout = flow.tcp.shrink_after_invalid_end(kind, *flow.status, flow.remaining, cx);
                return Judged::Invalid { timeout };
            }
        },
    };
    *flow.state = new as u8;
    flow.tcp.enter(old, new, kind, cx.direction);
    settle(flow, old, new, kind, cx)
}

/// What the first segment tells; false if no connection can begin with it.
fn begin(tcp: &mut TcpTrack, kind: Kind, n: &Numbers, segment: &Segment<'_>, settings: &Settings) -> bool {
    match transition(Direction::Original, kind, TcpState::None) {
        Transition::To(TcpState::SynSent) => tcp.sides.open(n.end, n.window, segment),
        Transition::To(_) if settings.tcp_loose => tcp.sides.pick_up(n.end, n.window),
        _ => return false,
    }
    true
}

/// The timeout of an accepted segment, and whether the flow is ASSURED now.
#[inline]
fn settle(flow: Flow<'_>, old: TcpState, new: TcpState, kind: Kind, cx: &Context<'_>) -> Judged {
    let timeouts = &cx.timeouts.tcp;
    let mut timeout = flow.tcp.timeout(new, kind, timeouts, cx.settings.tcp_max_retrans);
    if !flow.status.contains(Status::SEEN_REPLY) {
        if kind == Kind::Rst {
            // Nobody listens there, so nothing is to be tracked.
            return Judged::Delete;
        }
        if kind == Kind::Syn && old == TcpState::SynSent {
            // Else a client that tries for ever would keep the entry, with whatever was decided for it, for ever.
            return Judged::PASS;
        }
        if new == TcpState::Established {
            // Picked up in the middle: it may be of a scan, and must not stay for days.
            timeout = timeout.min(timeouts.unacknowledged);
        }
    } else if new == TcpState::Established && matches!(old, TcpState::SynRecv | TcpState::Established) {
        *flow.status = flow.status.with(Status::ASSURED);
    }
    Judged::Accept { timeout }
}

impl TcpTrack {
    /// Whether a connection begins where nothing of one before can be taken for its own.
    pub(in crate::conntrack) fn begins_behind(&self, earlier: &TcpTrack) -> bool {
        self.sides.begins_behind(&earlier.sides)
    }

    fn step(
        &mut self,
        old: TcpState,
        kind: Kind,
        n: &Numbers,
        segment: &Segment<'_>,
        status: Status,
        cx: &Context<'_>,
    ) -> Step {
        let direction = cx.direction;
        match transition(direction, kind, old) {
            Transition::Invalid => Step::Invalid,
            Transition::Ignore => self.ignore(old, kind, n, segment, direction),
            Transition::To(TcpState::SynSent) if matches!(old, TcpState::TimeWait | TcpState::Close) => {
                if self.may_reopen(direction) {
                    Step::Reopen
                } else {
                    self.ignore(old, kind, n, segment, direction)
                }
            }
            Transition::To(TcpState::TimeWait)
                if old == TcpState::LastAck && self.is_challenge(kind, direction) =>
            {
                self.last.set(Last::CHALLENGE, false);
                Step::Pass
            }
            Transition::To(TcpState::SynSent2) => {
                self.last.set(Last::SIMULTANEOUS, true);
                Step::Check(TcpState::SynSent2)
            }
            // The table takes this for the ACK of a normal handshake, which comes from the other side.
            Transition::To(TcpState::SynRecv)
                if direction == Direction::Reply
                    && kind == Kind::Ack
                    && self.last.has(Last::SIMULTANEOUS) =>
            {
                Step::Check(TcpState::Established)
            }
            Transition::To(TcpState::Close) if kind == Kind::Rst => self.reset(old, n, status, cx),
            Transition::To(new) => Step::Check(new),
        }
    }

    /// RFC 1122 section 4.2.2.13: a SYN may begin a connection anew from TIME_WAIT, and after a reset.
    fn may_reopen(&self, direction: Direction) -> bool {
        self.sides.was_closed() || self.last_kind == Kind::Rst && self.last.direction() == direction
    }

    /// An ACK right after a SYN that was let through in LAST_ACK: RFC 5961 section 4. It is no ACK of the last FIN.
    fn is_challenge(&self, kind: Kind, direction: Direction) -> bool {
        kind == Kind::Ack
            && self.last_kind == Kind::Syn
            && self.last.direction() != direction
            && self.last.has(Last::CHALLENGE)
    }

    /// A segment that the table cannot place: it passes, and what it said is kept for the answer to it. If that is
    /// a SYN-ACK of the SYN which was ignored, the ends agree on a new connection, and so does the tracker now.
    fn ignore(
        &mut self,
        old: TcpState,
        kind: Kind,
        n: &Numbers,
        segment: &Segment<'_>,
        direction: Direction,
    ) -> Step {
        let answers_ignored_syn = kind == Kind::SynAck
            && self.last_kind == Kind::Syn
            && self.last.direction() != direction
            && n.ack == self.last_end;
        if answers_ignored_syn {
            self.last.set(Last::CHALLENGE, false);
            let sack = self.last.has(Last::SACK);
            self.sides.restart(direction, self.last_end, self.last_window, self.last.scale(), sack);
            return Step::Check(TcpState::SynRecv);
        }
        self.note(kind, direction);
        self.last_seq = n.seq;
        self.last_end = n.end;
        self.last_window = n.window;
        if kind == Kind::Syn && direction == Direction::Original {
            let (scale, sack) = window::offered(segment);
            self.last.forget();
            self.last.set_scale(scale);
            self.last.set(Last::SACK, sack);
            self.last.set(Last::CHALLENGE, old == TcpState::LastAck);
        }
        if old == TcpState::SynSent && kind == Kind::Ack && direction == Direction::Reply {
            self.last_ack = n.ack;
        }
        Step::Pass
    }

    /// RFC 5961 section 3: a reset closes an established connection only if its number is exactly the next one.
    fn reset(&self, old: TcpState, n: &Numbers, status: Status, cx: &Context<'_>) -> Step {
        let direction = cx.direction;
        let established = old == TcpState::Established && status.contains(Status::ASSURED);
        if old.is_closing() {
            // Any reset ends what is ending: the side that closed first often does not take part any more.
            return Step::Trust(TcpState::Close);
        }
        let mut new = TcpState::Close;
        // Right behind a SYN that was let through, the reset may answer it, or a challenge ACK: the ends' numbers are
        // not those of the connection that is known here.
        let expected = self.sides.acknowledged(direction.opposite()).filter(|_| self.last_kind != Kind::Syn);
        if let Some(expected) = expected {
            // Number 0 is most likely an answer to a SYN that was let through.
            if n.seq == 0 && !established {
                return Step::Check(new);
            }
            if window::before(n.seq, expected) && !cx.settings.tcp_ignore_invalid_rst {
                return Step::Invalid;
            }
            let continues =
                self.last_kind == Kind::Ack && self.last.direction() == direction && n.seq == self.last_end;
            if !established || n.seq == expected || continues {
                return Step::Check(new);
            }
            // Near enough for the receiver to send a challenge ACK: it decides.
            new = old;
        }
        let from_other_side = self.last.direction() != direction;
        // After an ACK whichever way that went: a reset of the same side may give back a number that it made up itself.
        let after_ignored =
            status.contains(Status::SEEN_REPLY) && self.last_kind == Kind::Syn && from_other_side
                || !status.contains(Status::ASSURED) && self.last_kind == Kind::Ack;
        let answers_last = n.ack == self.last_end;
        let answers_challenge = old == TcpState::SynSent
            && self.last_kind == Kind::Ack
            && self.last.direction() == Direction::Reply
            && n.seq == self.last_ack;
        if after_ignored && answers_last || answers_challenge { Step::Trust(new) } else { Step::Check(new) }
    }

    #[inline]
    fn check_window(
        &mut self,
        old: TcpState,
        kind: Kind,
        n: &Numbers,
        segment: &Segment<'_>,
        cx: &Context<'_>,
    ) -> Fit {
        let shift = cx.shift.map_or(0, |shift| shift.of_acknowledgement(n.ack));
        let (fit, seen) = self.sides.fit(old, cx.direction, n, segment, (cx.settings.tcp_be_liberal, shift));
        if let (Fit::Inside, Kind::Ack, Some(seen)) = (fit, kind, seen) {
            self.count_retransmit(&seen, cx.direction);
        }
        fit
    }

    /// The same ACK again means that its answer is lost, or that there is none.
    #[inline]
    fn count_retransmit(&mut self, n: &Numbers, direction: Direction) {
        let same = self.last.direction() == direction
            && self.last_seq == n.seq
            && self.last_ack == n.ack
            && self.last_end == n.end
            && self.last_window == n.window;
        if same {
            self.sides.retransmits = self.sides.retransmits.saturating_add(1);
            return;
        }
        self.last.set(Last::REPLY, direction == Direction::Reply);
        self.last_seq = n.seq;
        self.last_ack = n.ack;
        self.last_end = n.end;
        self.last_window = n.window;
        self.sides.retransmits = 0;
    }

    /// A segment was accepted.
    #[inline]
    fn enter(&mut self, old: TcpState, new: TcpState, kind: Kind, direction: Direction) {
        self.note(kind, direction);
        if new == TcpState::FinWait && old != new {
            self.sides.closed_by(direction);
        }
    }

    #[inline]
    fn note(&mut self, kind: Kind, direction: Direction) {
        self.last_kind = kind;
        self.last.set(Last::REPLY, direction == Direction::Reply);
    }

    #[inline]
    fn timeout(&self, state: TcpState, kind: Kind, timeouts: &TcpTimeouts, max_retrans: u8) -> Millis {
        let usual = of_state(timeouts, state);
        if self.sides.retransmits >= max_retrans && usual > timeouts.max_retrans {
            timeouts.max_retrans
        } else if kind == Kind::Rst {
            timeouts.close
        } else if self.sides.has_unacknowledged() && usual > timeouts.unacknowledged {
            timeouts.unacknowledged
        } else if self.last_window == 0 && usual > timeouts.max_retrans {
            timeouts.max_retrans
        } else {
            usual
        }
    }

    /// A FIN or RST out of window is INVALID, but if both sides end like that, or the other side did, the tracker is
    /// likely out of step, and the entry should not stay for days.
    fn shrink_after_invalid_end(
        &mut self,
        kind: Kind,
        status: Status,
        remaining: Millis,
        cx: &Context<'_>,
    ) -> Option<Millis> {
        let ends = |kind| matches!(kind, Kind::Fin | Kind::Rst);
        if !ends(kind) || !status.contains(Status::ASSURED) || status.contains(Status::FIXED_TIMEOUT) {
            return None;
        }
        if self.last.direction() != cx.direction && ends(self.last_kind) {
            let timeout = cx.timeouts.tcp.unacknowledged;
            return (remaining >= SHORT && remaining > timeout).then_some(timeout);
        }
        self.note(kind, cx.direction);
        None
    }
}

impl TcpState {
    /// The timeout of a segment that leaves a flow in this state, if nothing makes it shorter.
    pub(super) fn timeout(self, timeouts: &TcpTimeouts) -> Millis {
        of_state(timeouts, self)
    }
}

/// The timeout of a state.
#[inline(always)]
fn of_state(timeouts: &TcpTimeouts, state: TcpState) -> Millis {
    match state {
        TcpState::None | TcpState::SynSent => timeouts.syn_sent,
        TcpState::SynRecv => timeouts.syn_recv,
        TcpState::Established => timeouts.established,
        TcpState::FinWait => timeouts.fin_wait,
        TcpState::CloseWait => timeouts.close_wait,
        TcpState::LastAck => timeouts.last_ack,
        TcpState::TimeWait => timeouts.time_wait,
        TcpState::Close => timeouts.close,
        TcpState::SynSent2 => timeouts.syn_sent2,
    }
}
