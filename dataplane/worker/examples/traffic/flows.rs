//! What the packets of a flow look like, and which flows there are.
//!
//! The nth flow goes from 10.0.0.0/8 to 198.18.0.0/15 (RFC 2544's network for benchmarks), or between two prefixes of
//! 2001:db8::/32. Its packets are a template with addresses, ports and checksums written over, which costs the same for
//! the first flow and the ten millionth.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sluice_wire::build::{self, Datagram, Tcp};
use sluice_wire::checksum::Delta;
use sluice_wire::{Addrs, MacAddr, TcpFlags, symmetric_toeplitz};

/// The longest frame of any kind in bytes, without FCS.
pub(crate) const LONGEST: usize = 1514;

const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 5]);

/// Kinds of packets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of 64 bytes with FCS.
    Udp,
    /// Segments of 64 bytes: ACKs in the middle of connections, so that the first is picked up; live, a SYN begins each.
    Tcp,
    /// Seven of 64, four of 594 and one of 1518 bytes, UDP: the "simple IMIX".
    Imix,
    /// UDP over IPv6, of 66 bytes with FCS: 64 would leave no byte of payload.
    Udp6,
}

impl Kind {
    pub(crate) fn named(name: &str) -> Kind {
        match name {
            "udp" => Kind::Udp,
            "tcp" => Kind::Tcp,
            "imix" => Kind::Imix,
            "udp6" => Kind::Udp6,
            _ => panic!("{name} is no kind of traffic"),
        }
    }
}

/// Which of a flow's packets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The one that begins it.
    First,
    There,
    Back,
}

/// Addresses and ports of one packet.
#[derive(Clone, Copy)]
struct Ends {
    src: IpAddr,
    dst: IpAddr,
    sport: u16,
    dport: u16,
}

/// All packets of one kind.
pub(crate) struct Traffic {
    kind: Kind,
    /// Where replies go if not to the flow's source.
    translated: Option<Ipv4Addr>,
    first: Vec<Template>,
    there: Vec<Template>,
    back: Vec<Template>,
}

impl Traffic {
    pub(crate) fn new(kind: Kind, translated: Option<Ipv4Addr>) -> Traffic {
        let lengths: &[usize] = match kind {
            Kind::Udp | Kind::Tcp => &[60],
            Kind::Imix => &[60, 590, 60, 60, 590, 60, 1514, 60, 590, 60, 60, 590],
            Kind::Udp6 => &[62],
        };
        let ends = ends(kind, 0);
        let templates = |way| lengths.iter().map(|length| Template::new(kind, way, ends, *length)).collect();
        let (first, there, back) = (templates(Way::First), templates(Way::There), templates(Way::Back));
        Traffic { kind, translated, first, there, back }
    }

    /// Writes a packet of a flow to the front of `out`; returns its length.
    ///
    /// `stamp` goes into the payload of UDP, where there is room.
    #[inline]
    pub(crate) fn write(&self, flow: u64, way: Way, stamp: u64, out: &mut [u8]) -> usize {
        let templates = match way {
            Way::First => &self.first,
            Way::There => &self.there,
            Way::Back => &self.back,
        };
        let template = &templates[(flow % templates.len() as u64) as usize];
        template.write(self.ends(flow, way), stamp, out)
    }

    /// Which of so many workers, or queues of a NIC, a flow belongs to.
    pub(crate) fn owner(&self, flow: u64, workers: usize) -> usize {
        let Ends { src, dst, sport, dport } = self.ends(flow, Way::There);
        let addrs = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Addrs::V4 { src, dst },
            (IpAddr::V6(src), IpAddr::V6(dst)) => Addrs::V6 { src, dst },
            _ => unreachable!("both ends are of one family"),
        };
        (symmetric_toeplitz(&addrs, Some((sport, dport))) & 127) as usize % workers
    }

    #[inline]
    fn ends(&self, flow: u64, way: Way) -> Ends {
        let there = ends(self.kind, flow);
        if way != Way::Back {
            return there;
        }
        let home = self.translated.map_or(there.src, IpAddr::V4);
        Ends { src: there.dst, dst: home, sport: there.dport, dport: there.sport }
    }
}

/// Addresses and ports of the nth flow, unlike those of any other of the next four thousand million.
#[inline]
fn ends(kind: Kind, flow: u64) -> Ends {
    let (src, dst) = match kind {
        Kind::Udp6 => {
            let [src, dst] = [1u128, 2].map(|net| 0x2001_0db8 << 96 | net << 80 | u128::from(flow + 1));
            (IpAddr::V6(Ipv6Addr::from_bits(src)), IpAddr::V6(Ipv6Addr::from_bits(dst)))
        }
        _ => {
            let src = 0x0a00_0000 | ((1 + flow.wrapping_mul(7)) & 0x00ff_ffff) as u32;
            let dst = 0xc612_0000 | ((1 + flow.wrapping_mul(13)) & 0x1_ffff) as u32;
            (IpAddr::V4(Ipv4Addr::from_bits(src)), IpAddr::V4(Ipv4Addr::from_bits(dst)))
        }
    };
    // Sources are as many as 24 bits tell apart; then it is the destination's port.
    Ends { src, dst, sport: 1024 + (flow % 60000) as u16, dport: 53 + (flow >> 24) as u16 }
}

/// A packet to write over.
struct Template {
    bytes: Vec<u8>,
    ends: Ends,
    tcp: bool,
}

impl Template {
    fn new(kind: Kind, way: Way, ends: Ends, length: usize) -> Template {
        let link = build::Link { destination: ROUTER, source: HOST, vlan: None };
        let of = Datagram { link, ..Datagram::between(ends.src, ends.dst).expect("one family") };
        let mut bytes = vec![0; length];
        let ports = (ends.sport, ends.dport);
        let tcp = kind == Kind::Tcp;
        if tcp {
            let (flags, seq, ack) = match way {
                Way::First => (TcpFlags::SYN, 999, 0),
                Way::There => (TcpFlags::ACK, 1000, 5000),
                Way::Back => (TcpFlags::ACK, 5000, 1000),
            };
            let header = Tcp { flags, seq, ack, window: 8192 };
            // Ethernet's padding makes up the rest.
            build::tcp(&mut bytes, &of, ports, header, &[]).expect("room for a segment");
        } else {
            let headers = if ends.src.is_ipv6() { 14 + 40 + 8 } else { 14 + 20 + 8 };
            build::udp(&mut bytes, &of, ports, &vec![0; length - headers]).expect("room for a datagram");
        }
        Template { bytes, ends, tcp }
    }

    #[inline]
    fn write(&self, ends: Ends, stamp: u64, out: &mut [u8]) -> usize {
        let out = &mut out[..self.bytes.len()];
        out.copy_from_slice(&self.bytes);
        let addresses = Delta::NONE.address(self.ends.src, ends.src).address(self.ends.dst, ends.dst);
        let mut all = addresses.word(self.ends.sport, ends.sport).word(self.ends.dport, ends.dport);
        let l4 = match (ends.src, ends.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                change(out, 24, |sum| addresses.apply(sum));
                out[26..30].copy_from_slice(&src.octets());
                out[30..34].copy_from_slice(&dst.octets());
                34
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                out[22..38].copy_from_slice(&src.octets());
                out[38..54].copy_from_slice(&dst.octets());
                54
            }
            _ => unreachable!("both ends are of one family"),
        };
        out[l4..l4 + 2].copy_from_slice(&ends.sport.to_be_bytes());
        out[l4 + 2..l4 + 4].copy_from_slice(&ends.dport.to_be_bytes());
        if self.tcp {
            change(out, l4 + 16, |sum| all.apply(sum));
        } else {
            if stamp != 0
                && let Some(place) = out.get_mut(STAMP)
            {
                place.copy_from_slice(&stamp.to_be_bytes());
                all = all.double_word(0, (stamp >> 32) as u32).double_word(0, stamp as u32);
            }
            change(out, l4 + 6, |sum| all.apply_udp(sum));
        }
        out.len()
    }
}

/// Where the time of sending stands, in UDP over IPv4.
const STAMP: std::ops::Range<usize> = 44..52;

/// The stamp of a packet; 0: it has none.
#[inline]
pub(crate) fn stamp(frame: &[u8]) -> u64 {
    // EtherType and protocol say whether it is one of ours; the box's own neighbour discovery is not.
    let ours = frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&17);
    let bytes = frame.get(STAMP).filter(|_| ours).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_be_bytes)
}

#[inline]
fn change(out: &mut [u8], at: usize, new: impl FnOnce(u16) -> u16) {
    let sum = u16::from_be_bytes([out[at], out[at + 1]]);
    out[at..at + 2].copy_from_slice(&new(sum).to_be_bytes());
}
