//! Frames for the tests of this crate, as bytes and built.

use std::net::IpAddr;

use crate::build::Datagram;
use crate::packet::{Packet, Parsed};
use crate::parse;

/// The two Ethernet addresses of a frame.
pub(crate) const MACS: &str = "020000000102 020000000101";

/// Bytes of a hexadecimal text; spaces are nothing.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// A frame with an IPv4 or IPv6 datagram, which is given.
pub(crate) fn frame(datagram: &str) -> Vec<u8> {
    let ethertype = if datagram.starts_with('4') { "0800" } else { "86dd" };
    hex(&format!("{MACS} {ethertype} {datagram}"))
}

/// An IPv4 frame with a good header checksum, from 10.1.0.2 to 10.2.0.2, with Don't Fragment.
pub(crate) fn v4(protocol: u8, payload: &str) -> Vec<u8> {
    with_payload("10.1.0.2", "10.2.0.2", protocol, &hex(payload))
}

/// An IPv6 frame from fd00:1::2 to fd00:2::2.
pub(crate) fn v6(next: u8, payload: &str) -> Vec<u8> {
    with_payload("fd00:1::2", "fd00:2::2", next, &hex(payload))
}

fn with_payload(src: &str, dst: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let datagram = between(src, dst);
    built(|out| crate::build::other(out, &datagram, crate::Protocol(protocol), payload))
}

/// What all built packets of a test have in common.
pub(crate) fn between(src: &str, dst: &str) -> Datagram {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    Datagram::between(ip(src), ip(dst)).unwrap()
}

/// The frame that a builder writes.
pub(crate) fn built<E: std::fmt::Debug>(build: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Vec<u8> {
    let mut out = vec![0xaa; 65535];
    let length = build(&mut out).unwrap();
    out.truncate(length);
    out
}

/// The packet in a frame that holds one.
pub(crate) fn packet(frame: &[u8]) -> Packet {
    match parse(frame) {
        Ok(Parsed::Ip(packet)) => packet,
        other => panic!("no packet: {other:?}"),
    }
}
