//! TCP's states, and the table that says what a flag does in each.
//!
//! Source: the table that the kernel's `nf_conntrack_proto_tcp.c` documents, checked packet by packet against Linux
//! 6.18; RFC 9293 section 3.3.2 for the states themselves, seen from between the two ends.

use sluice_wire::TcpFlags;

use crate::conntrack::info::Direction;

/// The state of a connection, as far as the packets seen tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub(in crate::conntrack) enum TcpState {
    /// Nothing seen yet.
    #[default]
    None = 0,
    /// SYN.
    SynSent = 1,
    /// SYN, SYN-ACK.
    SynRecv = 2,
    /// Acknowledged.
    Established = 3,
    /// One FIN.
    FinWait = 4,
    /// It was acknowledged.
    CloseWait = 5,
    /// FINs of both sides.
    LastAck = 6,
    /// The last one was acknowledged.
    TimeWait = 7,
    /// RST.
    Close = 8,
    /// SYNs of both sides: simultaneous open.
    SynSent2 = 9,
}

impl TcpState {
    /// How many there are.
    pub(in crate::conntrack) const COUNT: usize = 10;

    /// The state of a number; NONE of one that is none.
    #[inline(always)]
    pub(in crate::conntrack) fn from_number(n: u8) -> TcpState {
        const ALL: [TcpState; TcpState::COUNT] = [
            TcpState::None,
            TcpState::SynSent,
            TcpState::SynRecv,
            TcpState::Established,
            TcpState::FinWait,
            TcpState::CloseWait,
            TcpState::LastAck,
            TcpState::TimeWait,
            TcpState::Close,
            TcpState::SynSent2,
        ];
        ALL.get(usize::from(n)).copied().unwrap_or_default()
    }

    /// As conntrack prints it.
    pub(in crate::conntrack) const fn name(self) -> &'static str {
        match self {
            TcpState::None => "NONE",
            TcpState::SynSent => "SYN_SENT",
            TcpState::SynRecv => "SYN_RECV",
            TcpState::Established => "ESTABLISHED",
            TcpState::FinWait => "FIN_WAIT",
            TcpState::CloseWait => "CLOSE_WAIT",
            TcpState::LastAck => "LAST_ACK",
            TcpState::TimeWait => "TIME_WAIT",
            TcpState::Close => "CLOSE",
            TcpState::SynSent2 => "SYN_SENT2",
        }
    }

    /// Whether a FIN or an RST was seen, so that little is lost if the flow is evicted.
    pub(in crate::conntrack) const fn is_closing(self) -> bool {
        matches!(
            self,
            TcpState::FinWait
                | TcpState::CloseWait
                | TcpState::LastAck
                | TcpState::TimeWait
                | TcpState::Close
        )
    }
}

/// What a segment is, by the first of its flags that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub(super) enum Kind {
    /// SYN.
    Syn = 0,
    /// SYN, ACK.
    SynAck = 1,
    /// FIN.
    Fin = 2,
    /// ACK.
    Ack = 3,
    /// RST.
    Rst = 4,
    /// None of these.
    #[default]
    None = 5,
}

impl Kind {
    #[inline(always)]
    pub(super) const fn of(flags: TcpFlags) -> Kind {
        if flags.contains(TcpFlags::RST) {
            Kind::Rst
        } else if flags.contains(TcpFlags::SYN) {
            if flags.contains(TcpFlags::ACK) { Kind::SynAck } else { Kind::Syn }
        } else if flags.contains(TcpFlags::FIN) {
            Kind::Fin
        } else if flags.contains(TcpFlags::ACK) {
            Kind::Ack
        } else {
            Kind::None
        }
    }
}

/// What a segment does in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    /// The connection is in this state then, if the segment is in the window.
    To(TcpState),
    /// It passes, and changes nothing: the ends may know better.
    Ignore,
    /// INVALID.
    Invalid,
}

#[cfg(test)]
const NO: Transition = Transition::To(TcpState::None);
const SS: Transition = Transition::To(TcpState::SynSent);
const SR: Transition = Transition::To(TcpState::SynRecv);
const ES: Transition = Transition::To(TcpState::Established);
const FW: Transition = Transition::To(TcpState::FinWait);
const CW: Transition = Transition::To(TcpState::CloseWait);
const LA: Transition = Transition::To(TcpState::LastAck);
const TW: Transition = Transition::To(TcpState::TimeWait);
const CL: Transition = Transition::To(TcpState::Close);
const S2: Transition = Transition::To(TcpState::SynSent2);
const IG: Transition = Transition::Ignore;
const IV: Transition = Transition::Invalid;

type Row = [Transition; TcpState::COUNT];

#[rustfmt::skip]
const ORIGINAL: [Row; 6] = [
    // NO  SS  SR  ES  FW  CW  LA  TW  CL  S2
    // SYN: opens; again while opening, and anew after a close. In between the server must judge it: a live
    // connection answers with a challenge ACK, a dead one with RST or SYN-ACK.
    [SS, SS, IG, IG, IG, IG, IG, SS, SS, S2],
    // SYN-ACK of the side that opened: only after both sent a SYN.
    [IV, IV, SR, IV, IV, IV, IV, IV, IV, SR],
    // FIN: the first, or the second.
    [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV],
    // ACK: completes the handshake, acknowledges a FIN, or is picked up in the middle.
    [ES, IV, ES, ES, CW, CW, TW, TW, CL, IV],
    // RST.
    [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL],
    // None.
    [IV, IV, IV, IV, IV, IV, IV, IV, IV, IV],
];

#[rustfmt::skip]
const REPLY: [Row; 6] = [
    // NO  SS  SR  ES  FW  CW  LA  TW  CL  S2
    // SYN: simultaneous open, or the other side opens anew after TIME_WAIT.
    [IV, S2, IV, IV, IV, IV, IV, SS, IV, S2],
    // SYN-ACK: answers the SYN; a late copy is harmless.
    [IV, SR, IG, IG, IG, IG, IG, IG, IG, SR],
    // FIN: the first, or the second.
    [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV],
    // ACK: in SYN_SENT it may be a challenge to a SYN of a connection that we do not know.
    [IV, IG, SR, ES, CW, CW, TW, TW, CL, IG],
    // RST.
    [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL],
    // None.
    [IV, IV, IV, IV, IV, IV, IV, IV, IV, IV],
];

/// What the table says.
#[inline(always)]
pub(super) fn transition(direction: Direction, kind: Kind, state: TcpState) -> Transition {
    let table = match direction {
        Direction::Original => &ORIGINAL,
        Direction::Reply => &REPLY,
    };
    table.get(kind as usize).and_then(|row| row.get(state as usize)).copied().unwrap_or(IV)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_first_packet_meets_the_state_none() {
        for table in [ORIGINAL, REPLY] {
            assert!(table.iter().flatten().all(|transition| *transition != NO));
        }
        let firsts: Vec<_> = ORIGINAL.iter().map(|row| row[0]).collect();
        assert_eq!(firsts, [SS, IV, IV, ES, IV, IV]);
    }

    #[test]
    fn kinds_are_named_by_the_flag_that_counts() {
        let of = |names: &[TcpFlags]| Kind::of(names.iter().fold(TcpFlags::NONE, |a, b| a.union(*b)));
        assert_eq!(of(&[TcpFlags::RST, TcpFlags::ACK, TcpFlags::SYN]), Kind::Rst);
        assert_eq!(of(&[TcpFlags::SYN, TcpFlags::ECE]), Kind::Syn);
        assert_eq!(of(&[TcpFlags::SYN, TcpFlags::ACK]), Kind::SynAck);
        assert_eq!(of(&[TcpFlags::FIN, TcpFlags::ACK, TcpFlags::PSH]), Kind::Fin);
        assert_eq!(of(&[TcpFlags::PSH, TcpFlags::ACK]), Kind::Ack);
        assert_eq!(of(&[TcpFlags::PSH]), Kind::None);
    }
}
