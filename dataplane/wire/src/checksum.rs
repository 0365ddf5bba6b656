//! The Internet checksum, whole and incremental, and SCTP's CRC32c.
//!
//! Whether a packet with a bad checksum is INVALID is for the tracker; here it is only computed, as the kernel's
//! `nf_checksum` does: over all bytes behind the IP headers, whatever a UDP length says.
//! Source: RFC 1071, RFC 1624, RFC 3828, RFC 9260 appendix A.

use std::net::IpAddr;

use crate::bytes::Header;
use crate::packet::{Packet, Transport};
use crate::transport::{SCTP_CHECKSUM, SCTP_HEADER, UDP_CHECKSUM, UDP_HEADER, UDP_LENGTH};
use crate::{Addrs, Protocol, ipv4};

/// What a transport checksum says about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// It is right.
    Good,
    /// It is wrong.
    Bad,
    /// There is none to verify: a protocol without, UDP with the field zero, part of a datagram, or a header that
    /// is not there. Zero in UDP over IPv6 counts as none too, as netfilter has it, although RFC 8200 section
    /// 8.1 lets only tunnels send it: the receiver judges.
    Absent,
}

/// Verifies the transport checksum of a packet. Reads all of it, so ask only where the hardware did not.
#[inline]
pub fn verify(packet: &Packet, frame: &[u8]) -> Checksum {
    if packet.fragment.is_part() {
        return Checksum::Absent;
    }
    let segment = packet.segment(frame);
    match packet.transport {
        Transport::Tcp { .. } => internet(packet, packet.protocol, segment, segment.len()),
        Transport::Udp { .. } => match Header::<UDP_HEADER>::at(segment, 0) {
            Some(header) if header.be16::<UDP_CHECKSUM>() == 0 => Checksum::Absent,
            // A header that is cut has none to be left out: what is there is summed, as the kernel does.
            _ => internet(packet, packet.protocol, segment, segment.len()),
        },
        Transport::Icmpv6 { .. } => internet(packet, packet.protocol, segment, segment.len()),
        Transport::Icmp { .. } => judge(sum(segment)),
        // As the kernel's tracker does it, with UDP's number in the pseudo-header: what ends send is Bad, see docs.
        Transport::UdpLite { .. } => {
            let coverage = Header::<UDP_HEADER>::at(segment, 0).map_or(0, |udp| udp.be16::<UDP_LENGTH>());
            let covered = if coverage == 0 { segment.len() } else { usize::from(coverage) };
            internet(packet, Protocol::UDP, segment, covered)
        }
        Transport::Sctp { .. } => match Header::<SCTP_HEADER>::at(segment, 0) {
            Some(header) if header.bytes::<SCTP_CHECKSUM, 4>() == sctp(segment) => Checksum::Good,
            _ => Checksum::Bad,
        },
        _ => Checksum::Absent,
    }
}

/// With a pseudo-header, over the first `covered` bytes.
#[inline(always)]
fn internet(packet: &Packet, protocol: Protocol, segment: &[u8], covered: usize) -> Checksum {
    let covered = segment.get(..covered).unwrap_or(segment);
    judge(pseudo_header(&packet.addrs, protocol, segment.len()) + sum(covered))
}

#[inline(always)]
fn judge(sum: u64) -> Checksum {
    if fold(sum) == 0xffff { Checksum::Good } else { Checksum::Bad }
}

/// Sum of 16-bit words in memory order, not yet folded; an odd last byte counts as if a zero followed. Sums of
/// pieces may be added if each but the last has an even length.
///
/// One's complement sums care neither for byte order, so none is converted, nor for the length of the words that are added
/// (RFC 1071 section 2). Long packets go by blocks, which the compiler makes vectors of; short ones, the most, would pay
/// for its preparations, and go by words of eight bytes.
#[inline(always)]
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    if bytes.len() < 128 { sum_on(0, bytes) } else { sum_long(bytes) }
}

fn sum_long(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    sum_on(blocks.iter().flat_map(|block| block.as_chunks().0).map(word).sum(), rest)
}

/// Adds bytes to a sum.
#[inline(always)]
fn sum_on(mut sum: u64, bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        for pair in block.as_chunks().0 {
            sum = add(sum, u64::from_ne_bytes(*pair));
        }
    }
    let (pairs, rest) = rest.as_chunks::<8>();
    for pair in pairs {
        sum = add(sum, u64::from_ne_bytes(*pair));
    }
    // What is left of a pair: read with what stands before it, which is shifted out.
    let rest = match bytes.last_chunk() {
        Some(last) => u64::from_le_bytes(*last).unbounded_shr(64 - 8 * rest.len() as u32),
        None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    sum = add(sum, rest.to_le());
    (sum >> 32) + (sum & 0xffff_ffff)
}

/// One's complement addition: a carry out of the top is one more at the bottom.
#[inline(always)]
fn add(sum: u64, word: u64) -> u64 {
    let (added, carry) = sum.overflowing_add(word);
    added + u64::from(carry)
}

#[inline(always)]
fn word(bytes: &[u8; 4]) -> u64 {
    u64::from(u32::from_ne_bytes(*bytes))
}

/// As [`sum`], of an IPv4 header without options.
#[inline(always)]
pub(crate) fn sum_header(header: &[u8; ipv4::HEADER]) -> u64 {
    let (words, _) = header.as_chunks::<4>();
    words.iter().map(word).sum()
}

/// Folds a sum to 16 bits, in memory order.
#[inline(always)]
pub(crate) const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// Whether a sum with the checksum in it says that all is well: it folds to ffff. The sum is never 0, since a version or a
/// protocol is in it; so it folds to that where 65,535 divides it, which takes a multiplication instead of four foldings.
#[inline(always)]
pub(crate) const fn is_whole(sum: u64) -> bool {
    sum.is_multiple_of(0xffff)
}

/// The bytes to store for a sum.
#[inline(always)]
pub(crate) const fn finish(sum: u64) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

/// Sum of the pseudo-header for `length` bytes of transport header and payload.
/// Source: RFC 9293 section 3.1, RFC 8200 section 8.1. Both families have the same sum over their words.
#[inline(always)]
pub(crate) fn pseudo_header(addrs: &Addrs, protocol: Protocol, length: usize) -> u64 {
    // A length fits 16 bits, so it is one word of the sum, as the protocol is.
    sum_addresses(addrs) + u64::from((length as u16).to_be()) + u64::from(u16::from(protocol.0).to_be())
}

/// As [`sum`], of both addresses.
#[inline(always)]
fn sum_addresses(addrs: &Addrs) -> u64 {
    match addrs {
        Addrs::V4 { src, dst } => sum(&src.octets()) + sum(&dst.octets()),
        Addrs::V6 { src, dst } => sum(&src.octets()) + sum(&dst.octets()),
    }
}

/// The checksum of a header or message without pseudo-header, its checksum field being zero; to be stored as it is.
#[inline]
pub fn plain(bytes: &[u8]) -> [u8; 2] {
    finish(sum(bytes))
}

/// The checksum of a transport header and payload, its checksum field being zero; to be stored as it is.
/// For UDP, 0 is stored as ffff: [`never_zero`].
#[inline]
pub fn transport(addrs: &Addrs, protocol: Protocol, segment: &[u8]) -> [u8; 2] {
    finish(pseudo_header(addrs, protocol, segment.len()) + sum(segment))
}

/// UDP's checksum where 0 would say that there is none. Source: RFC 768.
#[inline]
pub const fn never_zero(checksum: [u8; 2]) -> [u8; 2] {
    match checksum {
        [0, 0] => [0xff, 0xff],
        other => other,
    }
}

/// What a change of some words does to a checksum over them. It can be kept and applied to every packet of a flow:
/// equation 3 of RFC 1624, `HC' = ~(~HC + ~m + m')`, with the sum of all `~m + m'` kept.
///
/// The words are those at even offsets in what the checksum covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delta(u16);

impl Delta {
    /// Nothing changes.
    pub const NONE: Self = Self(0);

    /// And a 16-bit word, in host order.
    #[inline]
    #[must_use]
    pub const fn word(self, old: u16, new: u16) -> Self {
        let sum = self.0 as u32 + !old as u32 + new as u32;
        let sum = (sum >> 16) + (sum & 0xffff);
        Self((sum + (sum >> 16)) as u16)
    }

    /// And a 32-bit word, in host order.
    #[inline]
    #[must_use]
    pub const fn double_word(self, old: u32, new: u32) -> Self {
        self.word((old >> 16) as u16, (new >> 16) as u16).word(old as u16, new as u16)
    }

    /// And the addresses of a pseudo-header, be they of different families: the rest of it has one sum in both.
    #[inline]
    #[must_use]
    pub fn addresses(self, old: &Addrs, new: &Addrs) -> Self {
        self.sum(sum_addresses(old), sum_addresses(new))
    }

    /// And what was added up, in memory order.
    #[inline]
    #[must_use]
    pub(crate) const fn sum(self, old: u64, new: u64) -> Self {
        self.word(u16::from_be(fold(old)), u16::from_be(fold(new)))
    }

    /// And an address. Two addresses of different families change nothing.
    #[inline]
    #[must_use]
    pub fn address(self, old: IpAddr, new: IpAddr) -> Self {
        match (old, new) {
            (IpAddr::V4(old), IpAddr::V4(new)) => self.double_word(old.to_bits(), new.to_bits()),
            (IpAddr::V6(old), IpAddr::V6(new)) => {
                let words = old.segments().into_iter().zip(new.segments());
                words.fold(self, |delta, (old, new)| delta.word(old, new))
            }
            _ => self,
        }
    }

    /// This change and another one.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        let sum = self.0 as u32 + other.0 as u32;
        Self((sum + (sum >> 16)) as u16)
    }

    /// The checksum after the change, in host order as the old one is.
    #[inline]
    pub const fn apply(self, checksum: u16) -> u16 {
        let sum = !checksum as u32 + self.0 as u32;
        !((sum + (sum >> 16)) as u16)
    }

    /// As [`Self::apply`], for UDP: no checksum stays none, and none comes out of one.
    #[inline]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        match (checksum, self.apply(checksum)) {
            (0, _) => 0,
            (_, 0) => 0xffff,
            (_, new) => new,
        }
    }
}

/// The CRC32c of an SCTP packet, whose checksum field counts as zero; to be stored as it is.
/// Source: RFC 9260 appendix A (reflected, so its bytes are least significant first).
pub fn sctp(segment: &[u8]) -> [u8; 4] {
    let (before, rest) = segment.split_at_checked(SCTP_CHECKSUM).unwrap_or((segment, &[]));
    let crc = crc32c(!0, before);
    let crc = crc32c(crc, rest.first_chunk::<4>().map_or(&[], |_| &[0; 4]));
    let crc = crc32c(crc, rest.get(4..).unwrap_or_default());
    (!crc).to_le_bytes()
}

fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, &byte| {
        let [low, ..] = (crc ^ u32::from(byte)).to_le_bytes();
        CRC32C.get(usize::from(low)).copied().unwrap_or_default() ^ (crc >> 8)
    })
}

/// Castagnoli's polynomial, reflected.
const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples::{between, built, frame, packet, v4, v6};
    use crate::{Family, build};

    #[test]
    fn verified() {
        use Checksum::{Absent, Bad, Good};
        // Recorded from the kernel: `malformed/`, `other-protocols/sctp-association`.
        let short = "45000030000100003f1167b60a0100020a020002138a00350014dcb7\
                     0d141b222930373e454c535a61686f767d848b92";
        for (name, bytes, expected) in [
            ("udp", frame("4500001d000100003f1167c90a0100020a020002 1388003500096718 71"), Good),
            ("udp, wrong", frame("4500001d000100003f1167c90a0100020a020002 1388003500096719 71"), Bad),
            (
                "tcp, wrong",
                frame("45000028000100003f0667c90a0100020a020002 13880035000003e8000000005002ffff96030000"),
                Bad,
            ),
            ("udp shorter than ip", frame(short), Good),
            ("udp without, over ipv4", v4(17, "138800350009000071"), Absent),
            ("udp without, over ipv6", v6(17, "138800350009000071"), Absent),
            ("icmp", v4(1, "0800f7fe00010000"), Good),
            ("icmp, wrong", v4(1, "0800f7fd00010000"), Bad),
            ("sctp, wrong", v4(132, "1388003500000000 00000000"), Bad),
            ("udp with a length that lies", v4(17, "13880035000a123471"), Bad),
            ("udp that ends within its header", v4(17, "13880035000a"), Bad),
            ("esp", v4(50, "0000000100000001"), Absent),
        ] {
            assert_eq!(verify(&packet(&bytes), &bytes), expected, "{name}");
        }
    }

    #[test]
    fn udp_lite_covers_what_it_says() {
        let datagram = between("10.1.0.2", "10.2.0.2");
        let mut bytes = v4(136, "1388003500080000 112233445566");
        let covered = [&bytes[34..42]].concat();
        let sum = finish(pseudo_header(&datagram.addrs, Protocol::UDP, 14) + sum(&covered));
        bytes[40..42].copy_from_slice(&sum);
        assert_eq!(verify(&packet(&bytes), &bytes), Checksum::Good);
        bytes[45] ^= 1;
        assert_eq!(verify(&packet(&bytes), &bytes), Checksum::Good, "beyond the coverage");
        bytes[35] ^= 1;
        assert_eq!(verify(&packet(&bytes), &bytes), Checksum::Bad, "within the coverage");
    }

    #[test]
    fn crc32c_vectors() {
        // RFC 3720 appendix B.4.
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, expected) in [
            (vec![0u8; 32], [0xaa, 0x36, 0x91, 0x8a]),
            (vec![0xff; 32], [0x43, 0xab, 0xa8, 0x62]),
            (ascending, [0x4e, 0x79, 0xdd, 0x46]),
        ] {
            assert_eq!((!crc32c(!0, &bytes)).to_le_bytes(), expected);
        }
    }

    #[test]
    fn zero_in_udp_means_none() {
        assert_eq!(never_zero([0, 0]), [0xff, 0xff]);
        let delta = Delta::NONE.word(1, 2);
        assert_eq!(delta.apply_udp(0), 0);
        // 0001 becomes 0000, which is said as ffff.
        assert_eq!((delta.apply(1), delta.apply_udp(1)), (0, 0xffff));
    }

    /// The sum as RFC 1071 writes it down: 16 bits at a time, big-endian.
    fn slow(bytes: &[u8]) -> u16 {
        let words =
            bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        let sum = words.fold(0, |sum, word| {
            let sum = sum + word;
            (sum >> 16) + (sum & 0xffff)
        });
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn equals_the_rfc(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(u16::from_be_bytes(plain(&bytes)), slow(&bytes));
        }

        #[test]
        fn incremental_equals_full(
            mut bytes in proptest::collection::vec(any::<u8>(), 16..64),
            changes in proptest::collection::vec((0..8usize, any::<u16>()), 1..8),
        ) {
            bytes[0] = 0x45; // never all zeros, where the two zeros of one's complement differ
            let before = u16::from_be_bytes(plain(&bytes));
            let mut delta = Delta::NONE;
            for (word, new) in changes {
                let at = 2 + word / 2 * 2;
                let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
                bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
                delta = delta.word(old, new);
            }
            prop_assert_eq!(delta.apply(before), u16::from_be_bytes(plain(&bytes)));
        }

        #[test]
        fn built_checksums_are_good_and_any_other_bit_is_not(
            payload in proptest::collection::vec(any::<u8>(), 0..64),
            bit in any::<prop::sample::Index>(),
            v6 in any::<bool>(),
        ) {
            let datagram = if v6 { between("fd00:1::2", "fd00:2::2") } else { between("10.1.0.2", "10.2.0.2") };
            let mut bytes = built(|out| build::tcp(out, &datagram, (1, 2), build::Tcp::default(), &payload));
            let good = packet(&bytes);
            prop_assert_eq!(verify(&good, &bytes), Checksum::Good);
            prop_assert_eq!(good.family() == Family::V6, v6);
            let l4 = usize::from(good.l4);
            let at = l4 * 8 + bit.index((bytes.len() - l4) * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(verify(&good, &bytes), Checksum::Bad);
        }
    }
}
