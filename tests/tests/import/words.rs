//! Packets in words, both ways: `eth0 198.51.100.7:40000 > 203.0.113.2:22 tcp S`.

use std::net::IpAddr;

use serde_json::{Value, json};
use sluice_wire::{Parsed, TcpFlags, Transport, parse};

use crate::packet::build;
use crate::policy::LEGS;

/// The leg that it comes in by, and its bytes.
pub fn read(words: &str) -> (usize, Vec<u8>) {
    let list: Vec<&str> = words.split_whitespace().collect();
    let [leg, src, ">", dst, kind, more @ ..] = list.as_slice() else { panic!("`{words}` is no packet") };
    let leg = LEGS.iter().position(|known| known == leg).unwrap_or_else(|| panic!("{words}: no such leg"));
    let ((src, sport), (dst, dport)) = (end(src), end(dst));
    let mut packet = json!({"src": src.to_string(), "dst": dst.to_string(), "ttl": 64});
    let first = more.first().copied();
    match *kind {
        "tcp" => {
            let flags = first.unwrap_or("S");
            // A handshake: the client counts from 1000, the server from 5000.
            let (seq, ack) = match flags {
                "S" => (1000, 0),
                "SA" => (5000, 1001),
                _ => (1001, 5001),
            };
            packet["tcp"] = json!({"sport": sport, "dport": dport, "flags": flags, "seq": seq, "ack": ack});
        }
        "udp" => packet["udp"] = json!({"sport": sport, "dport": dport}),
        "icmp" | "icmp6" => {
            let kind_of = if *kind == "icmp" { "8" } else { "128" };
            let number: u64 = first.unwrap_or(kind_of).parse().expect("an ICMP type");
            packet[*kind] = json!({"type": number, "code": 0, "id": 7, "seq": 1});
        }
        proto => packet["proto"] = Value::from(proto.parse::<u8>().expect("a protocol's number")),
    }
    (leg, build(&packet))
}

/// An address and a port, the port 0 if there is none; IPv6 in brackets.
fn end(text: &str) -> (IpAddr, u16) {
    let plain = || text.trim_matches(['[', ']']).parse::<IpAddr>();
    if let Ok(addr) = plain() {
        return (addr, 0);
    }
    let (addr, port) = text.rsplit_once(':').unwrap_or_else(|| panic!("`{text}` is no address with a port"));
    (addr.trim_matches(['[', ']']).parse().expect("an address"), port.parse().expect("a port"))
}

/// What came out at a leg, without what differs between two routers that do the same.
pub fn say(leg: usize, datagram: &[u8]) -> String {
    let version = datagram.first().map_or(4, |byte| byte >> 4);
    let kind: [u8; 2] = if version == 6 { [0x86, 0xdd] } else { [8, 0] };
    let frame = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &kind, datagram].concat();
    let Ok(Parsed::Ip(packet)) = parse(&frame) else { return format!("{} something else", LEGS[leg]) };
    let (src, dst) = (packet.addrs.src(), packet.addrs.dst());
    let what = match packet.transport {
        Transport::Tcp { sport, dport, flags } => {
            let reset = if flags.contains(TcpFlags::RST) { " reset" } else { "" };
            format!("tcp {sport} > {dport}{reset}")
        }
        Transport::Udp { sport, dport } => format!("udp {sport} > {dport}"),
        Transport::Icmp { kind, code, .. } => format!("icmp {kind}/{code}"),
        Transport::Icmpv6 { kind, code, .. } => format!("icmpv6 {kind}/{code}"),
        _ => packet.protocol.to_string(),
    };
    format!("{} {src} > {dst} {what}", LEGS[leg])
}
