//! What a router must read in an IP header's options: IPv6's hop-by-hop header, and IPv4's options, which are checked
//! on the way in and filled on the way out (record route, timestamp). Look here only if [`Packet::options`] says so.
//!
//! Source: RFC 8200 sections 4.2 and 4.3, RFC 4942 section 2.1.9.5; RFC 791 section 3.1, RFC 1812 section 5.3.13;
//! observed on Linux 6.18 (recordings `ipv6-ext/hbh-unknown-option`, `malformed/ip-options`).

use std::net::Ipv4Addr;

use crate::bytes::HeaderMut;
use crate::packet::Packet;
use crate::{Addrs, checksum, icmp, ipv4, ipv6};

const V6_PAD1: u8 = 0;
const V6_PADN: u8 = 1;
const V6_ROUTER_ALERT: u8 = 5;
const V6_JUMBO: u8 = 0xc2;
/// More padding in a row than aligns anything.
const V6_LONGEST_PADDING: usize = 7;
/// The kernel's `max_hbh_opts_number`.
const V6_MOST_OPTIONS: usize = 8;

/// What a hop-by-hop header demands of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HopByHop {
    /// Nothing; or there is none.
    Pass,
    /// A bad length, too much or bad padding, too many options, or an unknown one that says: drop.
    Drop,
    /// An unknown option that says: drop and answer with a parameter problem; or a jumbo payload that is none.
    Problem {
        /// The parameter problem's code.
        code: u8,
        /// What it points at, in bytes from the beginning of the IPv6 header.
        pointer: u16,
        /// Whether packets to a multicast address are answered too.
        even_to_multicast: bool,
    },
}

/// Reads the hop-by-hop options of an IPv6 packet, if the first next header says that there are any. The kernel does
/// so before any hook.
pub fn hop_by_hop(packet: &Packet, frame: &[u8]) -> HopByHop {
    let Addrs::V6 { .. } = packet.addrs else { return HopByHop::Pass };
    let datagram = packet.datagram(frame);
    if datagram.get(ipv6::NEXT_HEADER) != Some(&0) {
        return HopByHop::Pass;
    }
    let length = datagram.get(ipv6::HEADER + 1).map_or(0, |units| (usize::from(*units) + 1) * 8);
    match datagram.get(ipv6::HEADER + 2..ipv6::HEADER + length) {
        Some(options) => hop_by_hop_options(options),
        None => HopByHop::Drop,
    }
}

fn hop_by_hop_options(options: &[u8]) -> HopByHop {
    let (mut rest, mut padding, mut count) = (options, 0, 0);
    while let Some((&kind, after)) = rest.split_first() {
        if kind == V6_PAD1 {
            padding += 1;
            rest = after;
        } else {
            let Some((value, after)) =
                after.split_first().and_then(|(length, value)| value.split_at_checked((*length).into()))
            else {
                return HopByHop::Drop;
            };
            if kind == V6_PADN {
                padding += 2 + value.len();
                if value.iter().any(|byte| *byte != 0) {
                    return HopByHop::Drop;
                }
            } else {
                padding = 0;
                count += 1;
                let at = ipv6::HEADER + 2 + (options.len() - rest.len());
                match judge(kind, value, at as u16) {
                    HopByHop::Pass => {}
                    refused => return refused,
                }
            }
            rest = after;
        }
        if padding > V6_LONGEST_PADDING || count > V6_MOST_OPTIONS {
            return HopByHop::Drop;
        }
    }
    HopByHop::Pass
}

/// One option that is no padding, at `pointer`. An unknown one says in its upper two bits what to do.
fn judge(kind: u8, value: &[u8], pointer: u16) -> HopByHop {
    match (kind, kind >> 6) {
        (V6_ROUTER_ALERT, _) if value.len() == 2 => HopByHop::Pass,
        (V6_JUMBO, _) => judge_jumbo(value, pointer),
        (V6_ROUTER_ALERT, _) | (_, 1) => HopByHop::Drop,
        (_, 0) => HopByHop::Pass,
        (_, action) => {
            HopByHop::Problem { code: icmp::v6::UNKNOWN_OPTION, pointer, even_to_multicast: action == 2 }
        }
    }
}

/// A jumbo payload option in a packet that has a payload length, as all have that were parsed: RFC 2675 section 3.
fn judge_jumbo(value: &[u8], pointer: u16) -> HopByHop {
    let code = icmp::v6::ERRONEOUS_FIELD;
    match value {
        _ if pointer % 4 != 2 => HopByHop::Drop,
        [0, 0, _, _] => HopByHop::Problem { code, pointer: pointer + 2, even_to_multicast: false },
        [_, _, _, _] => HopByHop::Problem { code, pointer, even_to_multicast: false },
        _ => HopByHop::Drop,
    }
}

const V4_END: u8 = 0;
const V4_NOP: u8 = 1;
const V4_RECORD_ROUTE: u8 = 7;
const V4_TIMESTAMP: u8 = 68;
const V4_LOOSE_SOURCE_ROUTE: u8 = 131;
const V4_STRICT_SOURCE_ROUTE: u8 = 137;
const V4_ROUTER_ALERT: u8 = 148;
/// This option stands in every fragment.
pub(crate) const V4_COPIED: u8 = 0x80;

/// The pointer in a record route or timestamp option counts from one, at the option's first byte.
const POINTER: usize = 2;
const FLAGS: usize = 3;
/// Timestamp: times only, times with addresses, times of addresses that are given.
const TIMES: u8 = 0;
const TIMES_AND_ADDRESSES: u8 = 1;
const TIMES_OF_ADDRESSES: u8 = 3;

/// What IPv4 options ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ipv4Options {
    /// A strict or loose source route, which a router drops unless it is told otherwise: RFC 7126 section 4.3.
    pub source_route: bool,
    /// Routers are to look at this packet: RFC 2113.
    pub router_alert: bool,
    /// A record of the route or of times, to be filled by [`fill_ipv4`].
    pub to_fill: bool,
}

/// Bad IPv4 options, which are answered with a parameter problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bad ipv4 option at byte {pointer}")]
pub struct BadOption {
    /// The byte that is wrong, counted from the beginning of the IPv4 header.
    pub pointer: u8,
}

/// Checks the options of an IPv4 packet. The kernel does so behind the tracker and `prerouting`: a bad one is NEW.
///
/// # Errors
/// A length beyond the header or too short for its kind, a pointer that points into the option's head, a record
/// that has too little room left, or a second one of the same kind.
pub fn check_ipv4(packet: &Packet, frame: &[u8]) -> Result<Ipv4Options, BadOption> {
    let Addrs::V4 { .. } = packet.addrs else { return Ok(Ipv4Options::default()) };
    let header = frame.get(packet.l3.into()..packet.l4.into()).unwrap_or_default();
    let mut seen = Ipv4Options::default();
    let (mut route, mut times) = (false, false);
    let mut walk = Walk { header, at: ipv4::HEADER };
    while let Some(option) = walk.next()? {
        let bad = |offset: usize| Err(BadOption { pointer: (option.at + offset) as u8 });
        match option.kind {
            V4_LOOSE_SOURCE_ROUTE | V4_STRICT_SOURCE_ROUTE => match option.pointer() {
                _ if option.bytes.len() < 3 => return bad(1),
                Some(..4) => return bad(POINTER),
                _ if seen.source_route => return bad(0),
                _ => seen.source_route = true,
            },
            V4_RECORD_ROUTE => match option.pointer() {
                _ if route => return bad(0),
                _ if option.bytes.len() < 3 => return bad(1),
                Some(..4) => return bad(POINTER),
                _ if option.overruns(4) => return bad(POINTER),
                _ => (route, seen.to_fill) = (true, true),
            },
            V4_TIMESTAMP => match (option.pointer(), option.flags()) {
                _ if times => return bad(0),
                _ if option.bytes.len() < 4 => return bad(1),
                (Some(..5), _) => return bad(POINTER),
                (_, (_, 15)) if option.is_full() => return bad(FLAGS),
                (_, (kind, _)) if option.overruns(stamp_length(kind)) => return bad(POINTER),
                _ => (times, seen.to_fill) = (true, true),
            },
            V4_ROUTER_ALERT if option.bytes.len() < 4 => return bad(1),
            V4_ROUTER_ALERT => seen.router_alert |= option.bytes.ends_with(&[0, 0]),
            _ => {}
        }
    }
    Ok(seen)
}

/// Bytes that one record of a timestamp option takes; an unknown kind takes none.
const fn stamp_length(kind: u8) -> usize {
    match kind {
        TIMES => 4,
        TIMES_AND_ADDRESSES | TIMES_OF_ADDRESSES => 8,
        _ => 1,
    }
}

/// What a router writes into the records of IPv4 options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Its address on the side where the packet leaves: into a record of the route.
    pub outgoing: Ipv4Addr,
    /// Its address on the side where the packet came in: beside a time, where an address is asked for.
    pub incoming: Ipv4Addr,
    /// Milliseconds since midnight UT.
    pub milliseconds: u32,
}

/// Fills in the records of a packet whose options were checked, on its way out. Times of given addresses are left to
/// those who have them.
pub fn fill_ipv4(packet: &Packet, frame: &mut [u8], ours: &Record) {
    let Addrs::V4 { .. } = packet.addrs else { return };
    let Some(header) = frame.get_mut(packet.l3.into()..packet.l4.into()) else { return };
    let time = ours.milliseconds.to_be_bytes();
    let mut at = ipv4::HEADER;
    loop {
        let mut walk = Walk { header, at };
        let Ok(Some(option)) = walk.next() else { break };
        let (start, next) = (option.at, walk.at);
        let (kind, full, pointer, (stamp, overflow)) =
            (option.kind, option.is_full(), option.pointer().unwrap_or(0), option.flags());
        let Some(bytes) = header.get_mut(start..next) else { break };
        match (kind, stamp) {
            (V4_RECORD_ROUTE, _) if !full => record(bytes, pointer, &[ours.outgoing.octets()]),
            (V4_TIMESTAMP, TIMES) if !full => record(bytes, pointer, &[time]),
            (V4_TIMESTAMP, TIMES_AND_ADDRESSES) if !full => {
                record(bytes, pointer, &[ours.incoming.octets(), time]);
            }
            (V4_TIMESTAMP, _) if full => {
                if let Some(flags) = bytes.get_mut(FLAGS) {
                    *flags = overflow.saturating_add(1).min(15) << 4 | stamp;
                }
            }
            _ => {}
        }
        at = next;
    }
    seal(header);
}

/// Writes words where the pointer points, and moves it on.
fn record(option: &mut [u8], pointer: u8, words: &[[u8; 4]]) {
    let at = usize::from(pointer).saturating_sub(1);
    let length = words.len() * 4;
    let Some(room) = option.get_mut(at..at + length) else { return };
    for (to, from) in room.iter_mut().zip(words.iter().flatten()) {
        *to = *from;
    }
    if let Some(pointer) = option.get_mut(POINTER) {
        *pointer = pointer.saturating_add(length as u8);
    }
}

/// Computes the checksum of an IPv4 header with options anew.
pub(crate) fn seal(header: &mut [u8]) {
    let Some(mut fixed) = HeaderMut::<{ ipv4::HEADER }>::at(header, 0) else { return };
    fixed.set_be16::<{ ipv4::CHECKSUM }>(0);
    let sum = checksum::plain(header);
    if let Some(mut fixed) = HeaderMut::<{ ipv4::HEADER }>::at(header, 0) {
        fixed.set_bytes::<{ ipv4::CHECKSUM }, 2>(&sum);
    }
}

/// The options of an IPv4 header, one by one; no-operations are passed over, and the end ends it.
pub(crate) struct Walk<'a> {
    pub(crate) header: &'a [u8],
    /// The next one's place in the header.
    pub(crate) at: usize,
}

/// An IPv4 option of at least two bytes.
pub(crate) struct V4Option<'a> {
    pub(crate) kind: u8,
    /// Its place in the header.
    pub(crate) at: usize,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Walk<'a> {
    pub(crate) fn next(&mut self) -> Result<Option<V4Option<'a>>, BadOption> {
        loop {
            let at = self.at;
            let bad = BadOption { pointer: at as u8 };
            let rest = self.header.get(at..).unwrap_or_default();
            match rest.split_first() {
                None | Some((&V4_END, _)) => return Ok(None),
                Some((&V4_NOP, _)) => self.at += 1,
                Some((&kind, after)) => {
                    let length = usize::from(*after.first().ok_or(bad)?);
                    let bytes = rest.get(..length).filter(|bytes| bytes.len() >= 2).ok_or(bad)?;
                    self.at += length;
                    return Ok(Some(V4Option { kind, at, bytes }));
                }
            }
        }
    }
}

impl V4Option<'_> {
    fn pointer(&self) -> Option<u8> {
        self.bytes.get(POINTER).copied()
    }

    /// Kind and overflow count of a timestamp option.
    fn flags(&self) -> (u8, u8) {
        self.bytes.get(FLAGS).map_or((0, 0), |flags| (flags & 0xf, flags >> 4))
    }

    /// Whether no record is left to fill.
    fn is_full(&self) -> bool {
        self.pointer().is_none_or(|pointer| usize::from(pointer) > self.bytes.len())
    }

    /// Whether there is some room left, but not enough for a record of `length` bytes.
    fn overruns(&self, length: usize) -> bool {
        let last = usize::from(self.pointer().unwrap_or(0)) + length - 1;
        !self.is_full() && last > self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{hex, packet, v4, v6};

    /// A frame with these IPv4 options, filled up with end-of-options.
    fn with_options(options: &str) -> Vec<u8> {
        let mut options = hex(options);
        options.resize(options.len().next_multiple_of(4), 0);
        let udp = hex("1388003500090000 71");
        let payload: String = options.iter().chain(&udp).map(|byte| format!("{byte:02x}")).collect();
        let mut frame = v4(17, &payload);
        frame[14] = 0x45 + (options.len() / 4) as u8;
        seal(&mut frame[14..34 + options.len()]);
        frame
    }

    /// Recorded from the kernel, pointers included.
    #[test]
    fn ipv4_options() {
        let fill = Ipv4Options { to_fill: true, ..Default::default() };
        let bad = |pointer| Err(BadOption { pointer });
        for (options, expected) in [
            ("01010101", Ok(Ipv4Options::default())),
            ("0707040000000000", Ok(fill)),
            ("07030400", Ok(fill)),
            ("0707080000000000", Ok(fill)),
            ("0707010000000000", bad(22)),
            ("0707050000000000", bad(22)),
            ("0703040703040000", bad(23)),
            ("4408050000000000", Ok(fill)),
            ("4408050200000000", Ok(fill)),
            ("440c05010000000000000000", Ok(fill)),
            ("4408090000000000", Ok(fill)),
            ("440809f000000000", bad(23)),
            ("4408050100000000", bad(22)),
            ("8307040a02000200", Ok(Ipv4Options { source_route: true, ..Default::default() })),
            ("8902", bad(21)),
            ("94040000", Ok(Ipv4Options { router_alert: true, ..Default::default() })),
            ("0101940400000000", Ok(Ipv4Options { router_alert: true, ..Default::default() })),
            ("94030000", bad(21)),
            ("820b0000000000000000000000", Ok(Ipv4Options::default())),
            ("00940300", Ok(Ipv4Options::default())),
            ("07", bad(20)),
            ("0700", bad(20)),
            ("4500", bad(20)),
            ("020b00", bad(20)),
        ] {
            let frame = with_options(options);
            assert_eq!(check_ipv4(&packet(&frame), &frame), expected, "{options}");
        }
    }

    /// Recorded: `malformed/ip-options`.
    #[test]
    fn records() {
        let ours = Record {
            outgoing: [10, 2, 0, 1].into(),
            incoming: [10, 1, 0, 1].into(),
            milliseconds: 0x04cb_9c0c,
        };
        for (before, after) in [
            ("0707040000000000", "0707080a02000100"),
            ("0707080000000000", "0707080000000000"),
            ("4408050000000000", "4408090004cb9c0c"),
            ("440c05010000000000000000", "440c0d010a01000104cb9c0c"),
            ("4408090000000000", "4408091000000000"),
            ("4408050200000000", "4408050200000000"),
            ("4408050300000000", "4408050300000000"),
            ("01010707040000000000", "01010707080a02000100"),
        ] {
            let mut frame = with_options(before);
            let parsed = packet(&frame);
            fill_ipv4(&parsed, &mut frame, &ours);
            let expected = hex(after);
            assert_eq!(&frame[34..34 + expected.len()], expected, "{before}");
            assert_eq!(packet(&frame), parsed, "{before}: the header is good");
        }
    }

    /// Recorded from the kernel: `ipv6-ext/hbh-unknown-option`, and more of its kind.
    #[test]
    fn hop_by_hop_options() {
        let problem =
            |code, pointer, even_to_multicast| HopByHop::Problem { code, pointer, even_to_multicast };
        for (options, expected) in [
            ("010400000000", HopByHop::Pass),
            ("000000000000", HopByHop::Pass),
            ("0104000000010000000000000000", HopByHop::Drop),
            ("0000000000000000000000000000", HopByHop::Drop),
            ("01000100010000001e0401020304", HopByHop::Drop),
            ("050200000100", HopByHop::Pass),
            ("050100000100", HopByHop::Drop),
            ("1e0400000000", HopByHop::Pass),
            ("5e0400000000", HopByHop::Drop),
            ("9e0400000000", problem(2, 42, true)),
            ("de0400000000", problem(2, 42, false)),
            ("c20400010000", problem(0, 42, false)),
            ("c20400000100", problem(0, 44, false)),
            ("00c204000100", HopByHop::Drop),
            ("1e001e001e001e001e001e000100", HopByHop::Pass),
            ("1e001e001e001e001e001e001e001e001e0001000000", HopByHop::Drop),
            ("1e021122c202", HopByHop::Drop),
        ] {
            let units = (2 + options.len() / 2) / 8 - 1;
            let frame = v6(0, &format!("11{units:02x}{options} 1388003500090000 71"));
            assert_eq!(hop_by_hop(&packet(&frame), &frame), expected, "{options}");
        }
        let frame = v6(60, "11005e0400000000 1388003500090000 71");
        assert_eq!(hop_by_hop(&packet(&frame), &frame), HopByHop::Pass, "destination options are not ours");
    }
}
