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
use crate::packet::{Fragment, Packet, Transport};

/// The period of the symmetric key.
const KEY: u16 = 0x6d5a;

/// The hash by which a packet's worker is chosen.
#[inline]
pub fn shard_hash(packet: &Packet) -> u32 {
    let ports = match (packet.transport, packet.fragment) {
        (Transport::Tcp { sport, dport, .. } | Transport::Udp { sport, dport }, Fragment::Whole) => {
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
