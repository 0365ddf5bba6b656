//! Who owns a packet: the hash that a NIC computes with the symmetric RSS key, `6d5a` repeated.
//!
//! TCP and UDP count addresses and ports, everything else and every fragment its addresses alone, so that all
//! packets of a flow, in both directions, have one hash wherever it is computed.
//! The key has 16 bits of entropy: share work with it, never index a table of flows by it.
//!
//! Source: Microsoft, "RSS hashing functions"; Woo and Park, "Scalable TCP Session Monitoring with Symmetric
//! Receive-side Scaling" (the key).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::Addrs;
use crate::packet::{Fragment, Malformed, Packet, Transport};

/// The period of the symmetric key.
const KEY: u16 = 0x6d5a;

/// The hash by which a packet's worker is chosen.
#[inline]
pub fn shard_hash(packet: &Packet) -> u32 {
    let ports = match (packet.transport, packet.fragment) {
        (Transport::Tcp { sport, dport, .. } | Transport::Udp { sport, dport }, Fragment::Whole)
            if !packet.malformed.is_some_and(Malformed::is_short) =>
        {
            Some((sport, dport))
        }
        _ => None,
    };
    symmetric_toeplitz(&packet.addrs, ports)
}

/// The same hash of addresses, and of source and destination port where they count; ports in host order.
///
/// A key with a period of 16 bits gives each 16-bit word of the input the same hash wherever it stands, so that of
/// the whole is that of the words' exclusive or; and the two halves of a 32-bit window of such a key are equal.
#[inline]
pub fn symmetric_toeplitz(addrs: &Addrs, ports: Option<(u16, u16)>) -> u32 {
    let word = match addrs {
        Addrs::V4 { src, dst } => fold_v4(*src, *dst),
        Addrs::V6 { src, dst } => fold_v6(*src, *dst),
    };
    let [high, low] = match ports {
        Some((sport, dport)) => word ^ sport ^ dport,
        None => word,
    }
    .to_be_bytes();
    let half = look_up(&HIGH, high) ^ look_up(&LOW, low);
    u32::from(half) << 16 | u32::from(half)
}

#[inline(always)]
fn fold_v4(src: Ipv4Addr, dst: Ipv4Addr) -> u16 {
    let both = src.to_bits() ^ dst.to_bits();
    (both >> 16) as u16 ^ both as u16
}

#[inline(always)]
fn fold_v6(src: Ipv6Addr, dst: Ipv6Addr) -> u16 {
    let both = src.to_bits() ^ dst.to_bits();
    let both = (both >> 64) as u64 ^ both as u64;
    let both = (both >> 32) as u32 ^ both as u32;
    (both >> 16) as u16 ^ both as u16
}

#[inline(always)]
fn look_up(table: &[u16; 256], byte: u8) -> u16 {
    // A byte is always below 256, which the compiler sees.
    table.get(usize::from(byte)).copied().unwrap_or_default()
}

const HIGH: [u16; 256] = table(0);
const LOW: [u16; 256] = table(8);

/// Hash of each byte that begins `offset` bits into a word.
const fn table(offset: u32) -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            if byte >> (7 - bit) & 1 != 0 {
                table[byte] ^= KEY.rotate_left(offset + bit);
            }
            bit += 1;
        }
        byte += 1;
    }
    table
}

/// The textbook hash of any input under any key: for each set bit, the 32 bits of the key that begin there. Slow;
/// it is what NICs are specified by, and what the fast one is checked against. A short key is repeated.
pub fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let key_bit = |at: usize| {
        let byte = key.get(at / 8 % key.len().max(1)).copied().unwrap_or_default();
        u32::from(byte >> (7 - at % 8) & 1)
    };
    let window = |start: usize| (start..start + 32).fold(0, |window, at| window << 1 | key_bit(at));
    let bits = input
        .iter()
        .enumerate()
        .flat_map(|(at, byte)| (0..8).map(move |bit| (at * 8 + bit, byte >> (7 - bit) & 1)));
    bits.filter(|(_, set)| *set != 0).fold(0, |hash, (at, _)| hash ^ window(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::build;
    use crate::samples::{between, built, packet, v4, v6};

    /// The symmetric key as a NIC is given it, 40 bytes.
    const SYMMETRIC: [u8; 40] = {
        let mut key = [0x6d; 40];
        let mut at = 1;
        while at < 40 {
            key[at] = 0x5a;
            at += 2;
        }
        key
    };

    /// The key of Microsoft's specification.
    const MICROSOFT: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn input(addrs: &Addrs, ports: Option<(u16, u16)>) -> Vec<u8> {
        let mut input = match addrs {
            Addrs::V4 { src, dst } => [src.octets(), dst.octets()].concat(),
            Addrs::V6 { src, dst } => [src.octets(), dst.octets()].concat(),
        };
        if let Some((sport, dport)) = ports {
            input.extend(sport.to_be_bytes());
            input.extend(dport.to_be_bytes());
        }
        input
    }

    /// Microsoft's "verifying the RSS hash calculation".
    #[test]
    fn textbook_vectors() {
        let v4 = between("66.9.149.187", "161.142.100.80").addrs;
        assert_eq!(toeplitz(&MICROSOFT, &input(&v4, None)), 0x323e_8fc2);
        assert_eq!(toeplitz(&MICROSOFT, &input(&v4, Some((2794, 1766)))), 0x51cc_c178);
        let v6 = between("3ffe:2501:200:1fff::7", "3ffe:2501:200:3::1").addrs;
        assert_eq!(toeplitz(&MICROSOFT, &input(&v6, None)), 0x2cc1_8cd5);
        assert_eq!(toeplitz(&MICROSOFT, &input(&v6, Some((2794, 1766)))), 0x4020_7d3d);
    }

    #[test]
    fn ports_count_in_whole_tcp_and_udp_alone() {
        let datagram = between("10.1.0.2", "10.2.0.2");
        let addresses = symmetric_toeplitz(&datagram.addrs, None);
        let ports = Some((5000, 53));
        let tcp = built(|out| build::tcp(out, &datagram, (5000, 53), build::Tcp::default(), &[]));
        for (name, bytes, expected) in [
            ("tcp", tcp, symmetric_toeplitz(&datagram.addrs, ports)),
            ("udp", v4(17, "1388003500080000"), symmetric_toeplitz(&datagram.addrs, ports)),
            ("udp that is INVALID", v4(17, "1388003500ff0000"), symmetric_toeplitz(&datagram.addrs, ports)),
            ("sctp", v4(132, "1388003500000000 00000000"), addresses),
            ("icmp", v4(1, "0800f7fe00010000"), addresses),
            ("tcp cut short", v4(6, "13880035"), addresses),
        ] {
            assert_eq!(shard_hash(&packet(&bytes)), expected, "{name}");
        }
        let v6_addresses = symmetric_toeplitz(&between("fd00:1::2", "fd00:2::2").addrs, None);
        let first = v6(44, "1100000100000005 1388003500090000 71");
        assert_eq!(shard_hash(&packet(&first)), v6_addresses, "a first fragment, which shows its ports");
    }

    proptest! {
        #[test]
        fn equals_toeplitz_and_is_symmetric(
            v4 in any::<(u32, u32)>(),
            v6 in any::<(u128, u128)>(),
            ports in proptest::option::of(any::<(u16, u16)>()),
        ) {
            for addrs in [
                Addrs::V4 { src: v4.0.into(), dst: v4.1.into() },
                Addrs::V6 { src: v6.0.into(), dst: v6.1.into() },
            ] {
                let hash = symmetric_toeplitz(&addrs, ports);
                prop_assert_eq!(hash, toeplitz(&SYMMETRIC, &input(&addrs, ports)));
                let back = ports.map(|(sport, dport)| (dport, sport));
                prop_assert_eq!(hash, symmetric_toeplitz(&addrs.reversed(), back));
            }
        }
    }
}
