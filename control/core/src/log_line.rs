//! What a `log` rule or `log_invalid` writes: one line in the format of the kernel's LOG target, which every log analyser knows.
//!
//! Only the first bytes of the frame are at hand, so fields are read where they are rather than through a checked
//! packet: a line ends where the bytes end, as the kernel's does with `INCOMPLETE`.
//!
//! Source: as printed by Linux (`nf_log_syslog`) for the same packets.

use std::fmt::Write;

use sluice_engine::ids::InterfaceId;
use sluice_engine::message::LogRecord;
use sluice_engine::world::Interfaces;

const ETHERNET: usize = 14;
const TAG: usize = 4;

/// The line for `record`, with `prefix` in front.
pub fn log_line(record: &LogRecord, prefix: &str, interfaces: &Interfaces) -> String {
    let name = |id: Option<InterfaceId>| id.and_then(|id| interfaces.get(id)).map_or("", |i| i.name.as_str());
    let mut line = format!("{prefix}IN={} OUT={} ", name(record.ingress), name(record.egress));
    let frame = record.header.bytes();
    // Writing to a String cannot fail, and ends early where bytes are missing.
    let _ = write_frame(&mut line, frame, record.ingress.is_some());
    line.truncate(line.trim_end().len());
    line
}

fn write_frame(line: &mut String, frame: &[u8], received: bool) -> Option<()> {
    let tagged = be16(frame, 12)? == 0x8100;
    let l3 = ETHERNET + if tagged { TAG } else { 0 };
    if received {
        let mac: Vec<String> = frame.get(..ETHERNET)?.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = write!(line, "MAC={} ", mac.join(":"));
    }
    let packet = frame.get(l3..)?;
    match packet.first()? >> 4 {
        4 => write_v4(line, packet),
        6 => write_v6(line, packet),
        _ => None,
    }
}

fn write_v4(line: &mut String, packet: &[u8]) -> Option<()> {
    let address =
        |at| packet.get(at..at + 4)?.try_into().ok().map(<std::net::Ipv4Addr as From<[u8; 4]>>::from);
    let tos = *packet.get(1)?;
    let fragment = be16(packet, 6)?;
    let _ = write!(line, "SRC={} DST={} LEN={} ", address(12)?, address(16)?, be16(packet, 2)?);
    let _ = write!(line, "TOS=0x{:02X} PREC=0x{:02X} ", tos & 0x1e, tos & 0xe0);
    let _ = write!(line, "TTL={} ID={} ", packet.get(8)?, be16(packet, 4)?);
    for (bit, name) in [(0x8000, "CE "), (0x4000, "DF "), (0x2000, "MF ")] {
        if fragment & bit != 0 {
            line.push_str(name);
        }
    }
    if fragment & 0x1fff != 0 {
        let _ = write!(line, "FRAG:{} ", fragment & 0x1fff);
    }
    let header = usize::from(packet.first()? & 0xf) * 4;
    let later = fragment & 0x1fff != 0;
    write_transport(line, *packet.get(9)?, packet.get(header..)?, later)
}

fn write_v6(line: &mut String, packet: &[u8]) -> Option<()> {
    let word = u32::from_be_bytes(packet.get(..4)?.try_into().ok()?);
    let address = |at: usize| {
        let groups: Option<Vec<String>> =
            (0..8).map(|i| Some(format!("{:04x}", be16(packet, at + 2 * i)?))).collect();
        Some(groups?.join(":"))
    };
    let _ = write!(line, "SRC={} DST={} ", address(8)?, address(24)?);
    let _ = write!(line, "LEN={} TC={} ", usize::from(be16(packet, 4)?) + 40, (word >> 20) & 0xff);
    let _ = write!(line, "HOPLIMIT={} FLOWLBL={} ", packet.get(7)?, word & 0xf_ffff);
    let (mut next, mut at, mut later) = (*packet.get(6)?, 40, false);
    while let 0 | 43 | 44 | 60 = next {
        if next == 44 {
            later = be16(packet, at + 2)? >> 3 != 0;
            let _ = write!(line, "FRAG:{} ", be16(packet, at + 2)? >> 3);
        }
        let length = if next == 44 { 8 } else { (usize::from(*packet.get(at + 1)?) + 1) * 8 };
        next = *packet.get(at)?;
        at += length;
        if later {
            break;
        }
    }
    write_transport(line, next, packet.get(at..)?, later)
}

fn write_transport(line: &mut String, protocol: u8, segment: &[u8], later_fragment: bool) -> Option<()> {
    let name = match protocol {
        1 => "ICMP",
        6 => "TCP",
        17 => "UDP",
        58 => "ICMPv6",
        136 => "UDPLITE",
        number => {
            let _ = write!(line, "PROTO={number} ");
            return Some(());
        }
    };
    let _ = write!(line, "PROTO={name} ");
    if later_fragment {
        return Some(());
    }
    match protocol {
        6 => write_tcp(line, segment),
        17 | 136 => {
            let (sport, dport, len) = (be16(segment, 0)?, be16(segment, 2)?, be16(segment, 4)?);
            let _ = write!(line, "SPT={sport} DPT={dport} LEN={len} ");
            Some(())
        }
        _ => {
            let (kind, code) = (*segment.first()?, *segment.get(1)?);
            let _ = write!(line, "TYPE={kind} CODE={code} ");
            if matches!((protocol, kind), (1, 0 | 8) | (58, 128 | 129)) {
                let _ = write!(line, "ID={} SEQ={} ", be16(segment, 4)?, be16(segment, 6)?);
            }
            Some(())
        }
    }
}

fn write_tcp(line: &mut String, segment: &[u8]) -> Option<()> {
    const FLAGS: [(u8, &str); 8] = [
        (0x80, "CWR "),
        (0x40, "ECE "),
        (0x20, "URG "),
        (0x10, "ACK "),
        (0x08, "PSH "),
        (0x04, "RST "),
        (0x02, "SYN "),
        (0x01, "FIN "),
    ];
    let _ = write!(line, "SPT={} DPT={} ", be16(segment, 0)?, be16(segment, 2)?);
    let (reserved, flags) = (*segment.get(12)? & 0x0f, *segment.get(13)?);
    let _ = write!(line, "WINDOW={} RES=0x{:02x} ", be16(segment, 14)?, reserved << 2);
    for (_, name) in FLAGS.iter().filter(|(bit, _)| flags & bit != 0) {
        line.push_str(name);
    }
    let _ = write!(line, "URGP={} ", be16(segment, 18)?);
    Some(())
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use sluice_engine::ids::{Generation, PortId};
    use sluice_engine::message::{LogCause, PuntedFrame};
    use sluice_engine::ruleset::RuleId;
    use sluice_engine::world::{Interface, RpFilter};
    use sluice_wire::MacAddr;
    use sluice_wire::build::{Datagram, Link, Tcp, icmp_echo, tcp, udp};
    use sluice_wire::{Addrs, TcpFlags};

    use super::*;

    fn interfaces() -> Interfaces {
        Interfaces::new(vec![Interface {
            name: "wan".into(),
            port: PortId(0),
            vlan: None,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            addresses: Vec::new(),
            groups: Vec::new(),
            kernel_addresses: false,
            rp_filter: RpFilter::Off,
        }])
    }

    fn line(frame: &[u8], received: bool) -> String {
        let wan = Some(InterfaceId(0));
        let record = LogRecord {
            cause: LogCause::Rule(RuleId(0)),
            generation: Generation(1),
            ingress: wan.filter(|_| received),
            egress: wan.filter(|_| !received),
            length: 0,
            header: PuntedFrame::new(frame).unwrap(),
        };
        log_line(&record, "drop: ", &interfaces())
    }

    fn built<E: std::fmt::Debug>(build: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Vec<u8> {
        let mut frame = vec![0; 200];
        let len = build(&mut frame).unwrap();
        frame.truncate(len);
        frame
    }

    #[test]
    fn a_line_has_the_kernels_format() {
        let addrs = Addrs::V4 { src: [10, 0, 0, 9].into(), dst: [192, 0, 2, 7].into() };
        let datagram = Datagram { addrs, tos: 0xb8, ..Datagram::default() };
        let syn = Tcp { flags: TcpFlags::SYN, window: 64240, ..Tcp::default() };
        let mac = "MAC=02:00:00:00:00:02:02:00:00:00:00:01:08:00";
        assert_eq!(
            line(&built(|out| tcp(out, &datagram, (1234, 80), syn, b"")), true),
            format!(
                "drop: IN=wan OUT= {mac} SRC=10.0.0.9 DST=192.0.2.7 LEN=40 TOS=0x18 PREC=0xA0 TTL=64 ID=0 DF PROTO=TCP \
                 SPT=1234 DPT=80 WINDOW=64240 RES=0x00 SYN URGP=0"
            )
        );
        assert_eq!(
            line(&built(|out| udp(out, &datagram, (5, 53), b"abc")), false),
            "drop: IN= OUT=wan SRC=10.0.0.9 DST=192.0.2.7 LEN=31 TOS=0x18 PREC=0xA0 TTL=64 ID=0 DF PROTO=UDP \
             SPT=5 DPT=53 LEN=11"
        );
    }

    #[test]
    fn ipv6_and_vlan_tags_too() {
        let (src, dst) = ("2001:db8::9".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let link = Link { vlan: Some(7), ..Datagram::default().link };
        let datagram = Datagram { addrs: Addrs::V6 { src, dst }, link, ..Datagram::default() };
        let seen = line(&built(|out| icmp_echo(out, &datagram, (128, 0), (7, 1), b"")), true);
        assert!(seen.contains("SRC=2001:0db8:0000:0000:0000:0000:0000:0009 DST="), "{seen}");
        assert!(
            seen.ends_with("LEN=48 TC=0 HOPLIMIT=64 FLOWLBL=0 PROTO=ICMPv6 TYPE=128 CODE=0 ID=7 SEQ=1"),
            "{seen}"
        );
    }

    #[test]
    fn whatever_is_cut_off_is_left_out() {
        let datagram = Datagram::default();
        let frame = built(|out| tcp(out, &datagram, (1, 2), Tcp::default(), b""));
        for cut in 0..frame.len() {
            assert!(line(&frame[..cut], true).starts_with("drop: IN=wan OUT="));
        }
        assert_eq!(line(&frame[..12], true), "drop: IN=wan OUT=");
    }
}
