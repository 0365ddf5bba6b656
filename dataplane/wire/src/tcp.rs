//! The TCP header: flags, sequence numbers, options. What they mean to a connection is for the tracker.
//! Source: RFC 9293 section 3.1; RFC 7323 (window scale, timestamps); RFC 2018 (SACK).

use std::fmt;

use crate::bytes::Header;
use crate::packet::{Packet, Transport};

/// Length of a header without options, in bytes.
pub(crate) const HEADER: usize = 20;
pub(crate) const SEQUENCE: usize = 4;
pub(crate) const ACKNOWLEDGEMENT: usize = 8;
pub(crate) const DATA_OFFSET: usize = 12;
pub(crate) const FLAGS: usize = 13;
pub(crate) const WINDOW: usize = 14;
pub(crate) const CHECKSUM: usize = 16;
/// The data offset byte of a header without options.
pub(crate) const PLAIN: u8 = ((HEADER / 4) << 4) as u8;

pub(crate) const OPTION_END: u8 = 0;
pub(crate) const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
const OPTION_WINDOW_SCALE: u8 = 3;
const OPTION_SACK_PERMITTED: u8 = 4;
pub(crate) const OPTION_SACK: u8 = 5;
const OPTION_TIMESTAMPS: u8 = 8;

/// A SACK option has room for no more, 40 bytes of options being the most.
const SACK_BLOCKS: usize = 4;

/// The eight flags of TCP.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement field is significant.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is significant.
    pub const URG: Self = Self(0x20);
    /// ECN echo: RFC 3168.
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced: RFC 3168.
    pub const CWR: Self = Self(0x80);
    /// All of them.
    pub const ALL: Self = Self(0xff);

    /// The flags of a header's 14th byte.
    #[inline]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// A header's 14th byte.
    #[inline]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of `flags` are set.
    #[inline]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether any of `flags` is set.
    #[inline]
    pub const fn intersects(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    /// These flags and `other`.
    #[inline]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a connection can bring them together: SYN, SYN+URG, SYN+ACK, RST, RST+ACK, FIN+ACK, FIN+ACK+URG,
    /// ACK, ACK+URG; PSH, ECE and CWR may be there or not.
    /// Source: observed on Linux 6.18 (recordings `tcp-flags/`).
    #[inline]
    pub const fn is_valid(self) -> bool {
        const JUDGED: u8 =
            TcpFlags::FIN.0 | TcpFlags::SYN.0 | TcpFlags::RST.0 | TcpFlags::ACK.0 | TcpFlags::URG.0;
        VALID_FLAGS >> (self.0 & JUDGED) & 1 != 0
    }
}

/// One bit for each valid combination, by its value without PSH, ECE and CWR.
const VALID_FLAGS: u64 = {
    const fn bit(flags: &[TcpFlags]) -> u64 {
        let (mut all, mut at) = (TcpFlags::NONE, 0);
        while at < flags.len() {
            all = all.union(flags[at]);
            at += 1;
        }
        1 << all.0
    }
    use TcpFlags as F;
    bit(&[F::SYN])
        | bit(&[F::SYN, F::URG])
        | bit(&[F::SYN, F::ACK])
        | bit(&[F::RST])
        | bit(&[F::RST, F::ACK])
        | bit(&[F::FIN, F::ACK])
        | bit(&[F::FIN, F::ACK, F::URG])
        | bit(&[F::ACK])
        | bit(&[F::ACK, F::URG])
};

/// Names in the order of the bits, as iptables writes them.
const FLAG_NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

impl TcpFlags {
    /// The flag of a name in small letters, such as `syn`.
    pub fn from_name(name: &str) -> Option<Self> {
        FLAG_NAMES.iter().position(|known| *known == name).map(|bit| Self(1 << bit))
    }
}

impl fmt::Display for TcpFlags {
    /// `syn,ack`; `none` for no flag.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("none");
        }
        let mut separator = "";
        for (bit, name) in FLAG_NAMES.iter().enumerate() {
            if self.0 >> bit & 1 != 0 {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Length in bytes that the header's 13th byte tells.
#[inline(always)]
pub(crate) const fn header_length(data_offset: u8) -> usize {
    (data_offset >> 4) as usize * 4
}

/// A TCP segment, read. Numbers are in host order.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Sequence number of the first byte, or of SYN.
    pub seq: u32,
    /// Acknowledgement number; meaningless without ACK.
    pub ack: u32,
    /// Window, not scaled.
    pub window: u16,
    /// Flags.
    pub flags: TcpFlags,
    /// The bytes behind the header.
    pub payload: &'a [u8],
    options: &'a [u8],
}

impl<'a> Segment<'a> {
    /// The segment in a packet, or `None` if it holds no whole TCP segment, or one whose header lies.
    #[inline]
    pub fn of(packet: &Packet, frame: &'a [u8]) -> Option<Self> {
        let (Transport::Tcp { flags, .. }, false) = (packet.transport, packet.fragment.is_part()) else {
            return None;
        };
        Self::read(packet.segment(frame), flags)
    }

    /// The segment that is all of `segment`, with the flags that its header has.
    #[inline]
    pub(crate) fn read(segment: &'a [u8], flags: TcpFlags) -> Option<Self> {
        let header = Header::<HEADER>::at(segment, 0)?;
        let length = header_length(header.byte::<DATA_OFFSET>());
        Some(Self {
            seq: header.be32::<SEQUENCE>(),
            ack: header.be32::<ACKNOWLEDGEMENT>(),
            window: header.be16::<WINDOW>(),
            flags,
            payload: segment.get(length..)?,
            options: segment.get(HEADER..length)?,
        })
    }

    /// Sequence numbers that it takes: its payload's bytes, and one each for SYN and FIN.
    #[inline]
    pub const fn sequence_length(&self) -> u32 {
        let syn = self.flags.contains(TcpFlags::SYN) as u32;
        let fin = self.flags.contains(TcpFlags::FIN) as u32;
        self.payload.len() as u32 + syn + fin
    }

    /// Whether there are options at all; almost every segment of a bulk flow has just [`Segment::timestamps_only`].
    #[inline]
    pub const fn has_options(&self) -> bool {
        !self.options.is_empty()
    }

    /// Whether the options are the usual NOP, NOP, timestamps and no more, so that there is no SACK to look for.
    #[inline]
    pub fn timestamps_only(&self) -> bool {
        self.options.len() == 12 && self.options.starts_with(&[OPTION_NOP, OPTION_NOP, OPTION_TIMESTAMPS, 10])
    }

    /// The options, one by one.
    #[inline]
    pub const fn options(&self) -> Options<'a> {
        Options { rest: self.options }
    }
}

/// A TCP option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpOption {
    /// Maximum segment size in bytes.
    MaximumSegment(u16),
    /// How many bits the window is shifted; the receiver caps it at 14.
    WindowScale(u8),
    /// Selective acknowledgements may be sent.
    SackPermitted,
    /// Selective acknowledgements.
    Sack(SackBlocks),
    /// Timestamps.
    Timestamps {
        /// The sender's.
        value: u32,
        /// The one that is echoed.
        echo: u32,
    },
    /// Any other, or one whose length is not its kind's.
    Other(u8),
}

/// The blocks of a SACK option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [(u32, u32); SACK_BLOCKS],
    count: usize,
}

impl SackBlocks {
    /// Left and right edge of each block; the right edge is behind its last byte.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.blocks.iter().copied().take(self.count)
    }
}

/// Iterator over TCP options. It ends at the end-of-options option, at the header's end, and before an option whose
/// length is below two or beyond the header, as the kernel does.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    rest: &'a [u8],
}

impl Iterator for Options<'_> {
    type Item = TcpOption;

    fn next(&mut self) -> Option<TcpOption> {
        loop {
            let (&kind, after) = self.rest.split_first()?;
            match kind {
                OPTION_END => {
                    self.rest = &[];
                    return None;
                }
                OPTION_NOP => self.rest = after,
                _ => {
                    let length = usize::from(*after.first()?);
                    let (option, rest) = self.rest.split_at_checked(length)?;
                    let value = option.get(2..)?;
                    self.rest = rest;
                    return Some(read_option(kind, value));
                }
            }
        }
    }
}

fn read_option(kind: u8, value: &[u8]) -> TcpOption {
    match (kind, value) {
        (OPTION_MSS, &[a, b]) => TcpOption::MaximumSegment(u16::from_be_bytes([a, b])),
        (OPTION_WINDOW_SCALE, &[shift]) => TcpOption::WindowScale(shift),
        (OPTION_SACK_PERMITTED, []) => TcpOption::SackPermitted,
        (OPTION_SACK, _) if !value.is_empty() && value.len().is_multiple_of(8) => {
            let mut sack = SackBlocks { blocks: [(0, 0); SACK_BLOCKS], count: 0 };
            for (slot, &[a, b, c, d, e, f, g, h]) in sack.blocks.iter_mut().zip(value.as_chunks().0) {
                *slot = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
                sack.count += 1;
            }
            TcpOption::Sack(sack)
        }
        (OPTION_TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => TcpOption::Timestamps {
            value: u32::from_be_bytes([a, b, c, d]),
            echo: u32::from_be_bytes([e, f, g, h]),
        },
        _ => TcpOption::Other(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{packet, v4};

    fn options(hex: &str) -> Vec<TcpOption> {
        let words = hex.chars().filter(char::is_ascii_hexdigit).count() / 8;
        let segment = format!("1388 0035 00000001 00000002 {:x}018 1234 0000 0000 {hex} 61626364", 5 + words);
        let frame = v4(6, &segment);
        let segment = Segment::of(&packet(&frame), &frame).unwrap();
        assert_eq!((segment.seq, segment.ack, segment.window), (1, 2, 0x1234));
        assert_eq!((segment.payload, segment.sequence_length()), (&b"abcd"[..], 4));
        segment.options().collect()
    }

    #[test]
    fn options_by_kind() {
        use TcpOption::*;
        assert_eq!(
            options("020405b4 0402080a 00000007 00000009 01030309"),
            [MaximumSegment(1460), SackPermitted, Timestamps { value: 7, echo: 9 }, WindowScale(9)]
        );
        assert_eq!(options("02030500"), [Other(2)], "a wrong length");
        assert_eq!(options("fd040102"), [Other(253)]);
        assert_eq!(options("01010101"), []);
        assert_eq!(options("00020405"), [], "behind the end");
        assert_eq!(options("030a0000"), [], "beyond the header");
        assert_eq!(options("03000000"), [], "no length");
        assert_eq!(options("01010103"), [], "no length byte");
        let [Sack(sack)] = options("0101 0512 00000001 00000002 00000003 00000004")[..] else {
            panic!("no sack")
        };
        assert_eq!(sack.iter().collect::<Vec<_>>(), [(1, 2), (3, 4)]);
        assert_eq!(options("0101 0506 00000001"), [Other(5)], "half a block");
    }

    #[test]
    fn the_usual_options_are_known_at_a_glance() {
        let frame = v4(6, "1388 0035 00000001 00000002 8010 1234 0000 0000 0101080a 00000007 00000009");
        assert!(Segment::of(&packet(&frame), &frame).unwrap().timestamps_only());
        let frame = v4(6, "1388 0035 00000001 00000002 5010 1234 0000 0000");
        let segment = Segment::of(&packet(&frame), &frame).unwrap();
        assert!(!segment.timestamps_only() && !segment.has_options());
    }

    #[test]
    fn no_segment() {
        for (name, frame) in [
            ("udp", v4(17, "1388003500080000")),
            ("a data offset that lies", v4(6, "1388 0035 00000001 00000002 f010 1234 0000 0000")),
            ("one below its header", v4(6, "1388 0035 00000001 00000002 4010 1234 0000 0000")),
        ] {
            assert!(Segment::of(&packet(&frame), &frame).is_none(), "{name}");
        }
    }

    #[test]
    fn flags() {
        let valid =
            ["syn", "syn,urg", "syn,ack", "rst", "rst,ack", "fin,ack", "fin,ack,urg", "ack", "ack,urg"];
        for bits in 0..=255u8 {
            let flags = TcpFlags::from_bits(bits);
            let judged = TcpFlags::from_bits(bits & 0x37).to_string();
            assert_eq!(flags.is_valid(), valid.contains(&judged.as_str()), "{flags}");
        }
        assert_eq!(TcpFlags::ALL.to_string(), "fin,syn,rst,psh,ack,urg,ece,cwr");
        assert_eq!(TcpFlags::from_name("psh"), Some(TcpFlags::PSH));
        assert_eq!(TcpFlags::from_name("all"), None);
        assert_eq!(TcpFlags::NONE.to_string(), "none");
    }
}
