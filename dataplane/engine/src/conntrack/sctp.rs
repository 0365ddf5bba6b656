//! SCTP: a packet is a bundle of chunks; some of them move the association on, and the verification tag tells
//! whether the packet is of this association at all.
//!
//! Source: RFC 9260, section 4 for states, sections 8.4, 8.5 for out-of-the-blue packets and tags; the table as the
//! kernel's `nf_conntrack_proto_sctp.c` documents it; behaviour observed on Linux 6.18.

mod chunks;

use self::chunks::{Chunk, Chunks, Kinds};
use super::flow::PerDirection;
use super::info::{Direction, Status};
use super::settings::SctpTimeouts;
use super::track::{Context, Judged};
use crate::ids::Millis;

/// The state of an association, as far as the packets seen tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub(super) enum SctpState {
    /// Nothing seen yet.
    #[default]
    None = 0,
    /// INIT, or ABORT, or it is over.
    Closed = 1,
    /// INIT-ACK.
    CookieWait = 2,
    /// COOKIE-ECHO.
    CookieEchoed = 3,
    /// COOKIE-ACK.
    Established = 4,
    /// SHUTDOWN of the side that opened.
    ShutdownSent = 5,
    /// SHUTDOWN of the other side.
    ShutdownRecd = 6,
    /// SHUTDOWN-ACK.
    ShutdownAckSent = 7,
    /// HEARTBEAT on a path that is not known.
    HeartbeatSent = 8,
}

use SctpState as S;

impl SctpState {
    const ALL: [SctpState; 9] = [
        S::None,
        S::Closed,
        S::CookieWait,
        S::CookieEchoed,
        S::Established,
        S::ShutdownSent,
        S::ShutdownRecd,
        S::ShutdownAckSent,
        S::HeartbeatSent,
    ];

    /// The state of a number; NONE of one that is none.
    pub(super) fn from_number(n: u8) -> SctpState {
        SctpState::ALL.get(usize::from(n)).copied().unwrap_or_default()
    }

    /// As conntrack prints it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            S::None => "NONE",
            S::Closed => "CLOSED",
            S::CookieWait => "COOKIE_WAIT",
            S::CookieEchoed => "COOKIE_ECHOED",
            S::Established => "ESTABLISHED",
            S::ShutdownSent => "SHUTDOWN_SENT",
            S::ShutdownRecd => "SHUTDOWN_RECD",
            S::ShutdownAckSent => "SHUTDOWN_ACK_SENT",
            S::HeartbeatSent => "HEARTBEAT_SENT",
        }
    }

    /// Whether it is being shut down, so that little is lost if the flow is evicted.
    pub(super) const fn is_closing(self) -> bool {
        matches!(self, S::ShutdownSent | S::ShutdownRecd | S::ShutdownAckSent)
    }

    pub(super) fn timeout(self, timeouts: &SctpTimeouts) -> Millis {
        match self {
            S::None | S::Closed => timeouts.closed,
            S::CookieWait => timeouts.cookie_wait,
            S::CookieEchoed => timeouts.cookie_echoed,
            S::Established => timeouts.established,
            S::ShutdownSent => timeouts.shutdown_sent,
            S::ShutdownRecd => timeouts.shutdown_recd,
            S::ShutdownAckSent => timeouts.shutdown_ack_sent,
            S::HeartbeatSent => timeouts.heartbeat_sent,
        }
    }
}

/// Where a chunk leads; `None` is INVALID.
type Row = [Option<SctpState>; SctpState::ALL.len()];

const CL: Option<SctpState> = Some(S::Closed);
const CW: Option<SctpState> = Some(S::CookieWait);
const CE: Option<SctpState> = Some(S::CookieEchoed);
const ES: Option<SctpState> = Some(S::Established);
const SS: Option<SctpState> = Some(S::ShutdownSent);
const SR: Option<SctpState> = Some(S::ShutdownRecd);
const SA: Option<SctpState> = Some(S::ShutdownAckSent);
const HS: Option<SctpState> = Some(S::HeartbeatSent);
const IV: Option<SctpState> = None;

#[rustfmt::skip]
const ORIGINAL: [Row; Chunk::ROWS] = [
    // NO  CL  CW  CE  ES  SS  SR  SA  HS
    [CL, CL, CW, CE, ES, CL, CL, SA, CW], // INIT
    [CL, CL, CW, CE, ES, SS, SR, SA, CL], // INIT-ACK
    [CL, CL, CL, CL, CL, CL, CL, CL, CL], // ABORT
    [CL, CL, CW, CE, SS, SS, SR, SA, CL], // SHUTDOWN
    [SA, CL, CW, CE, ES, SA, SA, SA, SA], // SHUTDOWN-ACK
    [CL, CL, CW, CE, ES, SS, SR, SA, CL], // ERROR: a stale cookie comes from the other side
    [CL, CL, CE, CE, ES, SS, SR, SA, CL], // COOKIE-ECHO
    [CL, CL, CW, ES, ES, SS, SR, SA, CL], // COOKIE-ACK: comes from the other side as a rule
    [CL, CL, CW, CE, ES, SS, SR, CL, CL], // SHUTDOWN-COMPLETE
    [HS, CL, CW, CE, ES, SS, SR, SA, HS], // HEARTBEAT
    [CL, CL, CW, CE, ES, SS, SR, SA, HS], // HEARTBEAT-ACK
];

#[rustfmt::skip]
const REPLY: [Row; Chunk::ROWS] = [
    // NO  CL  CW  CE  ES  SS  SR  SA  HS
    [IV, CL, CW, CE, ES, SS, SR, SA, IV], // INIT
    [IV, CW, CW, CE, ES, SS, SR, SA, IV], // INIT-ACK
    [IV, CL, CL, CL, CL, CL, CL, CL, IV], // ABORT
    [IV, CL, CW, CE, SR, SS, SR, SA, IV], // SHUTDOWN
    [IV, CL, CW, CE, ES, SA, SA, SA, IV], // SHUTDOWN-ACK
    [IV, CL, CW, CL, ES, SS, SR, SA, IV], // ERROR: the cookie was stale
    [IV, CL, CE, CE, ES, SS, SR, SA, IV], // COOKIE-ECHO: comes from the side that opened
    [IV, CL, CW, ES, ES, SS, SR, SA, IV], // COOKIE-ACK
    [IV, CL, CW, CE, ES, SS, SR, CL, IV], // SHUTDOWN-COMPLETE
    [IV, CL, CW, CE, ES, SS, SR, SA, HS], // HEARTBEAT
    [IV, CL, CW, CE, ES, SS, SR, SA, ES], // HEARTBEAT-ACK: the path is known now
];

fn transition(direction: Direction, chunk: Chunk, state: SctpState) -> Option<SctpState> {
    let Some(row) = chunk.row() else { return Some(state) };
    let table = match direction {
        Direction::Original => &ORIGINAL,
        Direction::Reply => &REPLY,
    };
    table.get(row).and_then(|row| row.get(state as usize)).copied().flatten()
}

/// What is kept of an association.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SctpTrack {
    /// Verification tag that packets of each direction must bear; 0: not known yet.
    tags: PerDirection<u32>,
    /// INIT was seen in this direction.
    init: PerDirection<bool>,
    /// A heartbeat with another tag passed in this direction: if it is answered, the association was restarted.
    strange_heartbeat: Option<Direction>,
}

/// Judges a packet, and changes the association.
pub(super) fn judge(track: &mut SctpTrack, state: &mut u8, status: &mut Status, cx: &Context<'_>) -> Judged {
    if cx.has_bad_checksum() {
        return Judged::INVALID;
    }
    let Some(chunks) = Chunks::of(cx.packet, cx.frame) else { return Judged::INVALID };
    let Some(kinds) = chunks.kinds() else { return Judged::INVALID };
    if !status.contains(Status::CONFIRMED) && !track.begin(&chunks, kinds) {
        return Judged::INVALID;
    }
    if !kinds.has_own_tag_rule() && chunks.tag() != *track.tags.of(cx.direction) {
        return Judged::INVALID;
    }
    let confirmed = status.contains(Status::CONFIRMED);
    let mut walk = Walk { state: SctpState::from_number(*state), ..Walk::default() };
    let judged = track.walk(&chunks, kinds, &mut walk, confirmed, cx.direction);
    // What the chunks before an invalid one did, they did.
    *state = walk.state as u8;
    if walk.assured {
        *status = status.with(Status::ASSURED);
    }
    match judged {
        None => Judged::INVALID,
        Some(()) if walk.ignore => Judged::PASS,
        Some(()) => Judged::Accept { timeout: walk.new.timeout(&cx.timeouts.sctp) },
    }
}

/// What the chunks of a packet did one after another.
#[derive(Default)]
struct Walk {
    state: SctpState,
    /// The state behind the last chunk that was looked at.
    new: SctpState,
    /// Some chunk established the association.
    assured: bool,
    /// The packet passes, and refreshes nothing.
    ignore: bool,
}

impl SctpTrack {
    /// RFC 9260 section 8.4: what comes out of the blue and may begin a flow.
    fn begin(&mut self, chunks: &Chunks<'_>, kinds: Kinds) -> bool {
        if kinds.has(Chunk::ABORT) || kinds.has(Chunk::SHUTDOWN_COMPLETE) || kinds.has(Chunk::COOKIE_ACK) {
            return false;
        }
        *self = SctpTrack::default();
        for (chunk, body) in chunks.iter() {
            if matches!(transition(Direction::Original, chunk, S::None), None | Some(S::None)) {
                return false;
            }
            match chunk {
                Chunk::INIT => {
                    let (0, Some(tag)) = (chunks.tag(), body.initiate_tag()) else { return false };
                    self.tags.reply = tag;
                }
                Chunk::HEARTBEAT => self.tags.original = chunks.tag(),
                // It is answered with a SHUTDOWN-COMPLETE of the same tag (section 8.4, rule 5).
                Chunk::SHUTDOWN_ACK => self.tags.reply = chunks.tag(),
                _ => {}
            }
        }
        true
    }

    /// Chunk by chunk; None: INVALID.
    fn walk(
        &mut self,
        chunks: &Chunks<'_>,
        kinds: Kinds,
        walk: &mut Walk,
        confirmed: bool,
        direction: Direction,
    ) -> Option<()> {
        let tag = chunks.tag();
        for (chunk, body) in chunks.iter() {
            if matches!(chunk, Chunk::HEARTBEAT | Chunk::HEARTBEAT_ACK) {
                let exclusive = !kinds.has(Chunk::DATA) && !walk.ignore;
                if !self.check_heartbeat(chunk, tag, exclusive, direction)? {
                    walk.ignore = true;
                    continue;
                }
            } else if !self.is_tag_right(chunk, body.flags(), tag, direction) {
                return None;
            }
            walk.new = transition(direction, chunk, walk.state)?;
            walk.assured |= walk.state != S::Established && walk.new == S::Established;
            match chunk {
                Chunk::INIT => {
                    self.note_init(body.initiate_tag()?, confirmed, direction);
                    // As with a SYN: repeating it does not keep the entry.
                    walk.ignore |= confirmed && (walk.state, walk.new) == (S::Closed, S::Closed);
                }
                Chunk::INIT_ACK => self.note_init_ack(body.initiate_tag()?, direction)?,
                Chunk::COOKIE_ACK => self.init = PerDirection::default(),
                _ => {}
            }
            walk.state = walk.new;
        }
        Some(())
    }

    /// RFC 9260 section 8.5.1: chunks with a rule of their own for the tag.
    fn is_tag_right(&self, chunk: Chunk, flags: u8, tag: u32, direction: Direction) -> bool {
        match chunk {
            Chunk::INIT => tag == 0,
            // The sender knows no association, and gives back the tag that it was sent.
            Chunk::ABORT | Chunk::SHUTDOWN_COMPLETE if flags & Chunk::FLAG_T != 0 => {
                tag == *self.tags.of(direction.opposite())
            }
            Chunk::ABORT | Chunk::SHUTDOWN_COMPLETE => tag == *self.tags.of(direction),
            Chunk::COOKIE_ECHO => tag == *self.tags.of(direction),
            _ => true,
        }
    }

    /// A heartbeat may come on a path whose tags are not known, or after a restart that was not seen: its answer
    /// tells. Some(false): it passes unjudged.
    fn check_heartbeat(
        &mut self,
        chunk: Chunk,
        tag: u32,
        exclusive: bool,
        direction: Direction,
    ) -> Option<bool> {
        let known = self.tags.of_mut(direction);
        if *known == 0 {
            *known = tag;
            return Some(true);
        }
        if *known == tag {
            self.strange_heartbeat = None;
            return Some(true);
        }
        if !exclusive {
            return None;
        }
        if chunk == Chunk::HEARTBEAT {
            self.strange_heartbeat = Some(direction);
            return Some(false);
        }
        if self.strange_heartbeat.take() != Some(direction.opposite()) {
            return None;
        }
        let (own, other) = self.tags.split(direction);
        (*own, *other) = (tag, 0);
        Some(true)
    }

    /// An INIT that says what is known already is a copy of an older one, and opens nothing.
    fn note_init(&mut self, tag: u32, confirmed: bool, direction: Direction) {
        let known = self.tags.of_mut(direction.opposite());
        if confirmed && *known == tag {
            return;
        }
        *known = tag;
        let (own, other) = self.init.split(direction);
        if *own && *other {
            *other = false;
        }
        *own = true;
    }

    /// An INIT-ACK that contradicts what the INIT of its sender said is of another association: RFC 9260 section
    /// 5.2.1, when both sides open at once.
    fn note_init_ack(&mut self, tag: u32, direction: Direction) -> Option<()> {
        let (own, other) = (*self.init.of(direction), *self.init.of(direction.opposite()));
        let known = self.tags.of_mut(direction.opposite());
        if *known != tag && (!other && *known != 0 || own && other) {
            return None;
        }
        *known = tag;
        Some(())
    }
}
