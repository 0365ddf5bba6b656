//! A flow as it is listed: everything that `conntrack -L -o extended,id,timestamp` prints, and its printing.

use std::fmt;
use std::net::IpAddr;

use sluice_wire::{Family, Protocol};

use super::info::{Direction, Status};
use super::template::{Zone, ZoneId};
use crate::helper::Helper;
use crate::ids::{InterfaceId, Millis, WorkerId};

/// A flow's id, unique while the process runs: worker, place and how often the place was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u64);

impl FlowId {
    /// The worker whose flow it is.
    pub fn worker(self) -> WorkerId {
        WorkerId((self.0 >> 56) as u8)
    }

    /// The 32 bits that `-o id` prints; the kernel's id is as short, and as unlike a counter.
    pub fn printed(self) -> u32 {
        (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }
}

/// A flow, copied out of the table. Addresses and ports are as packets carry them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// Names it.
    pub id: FlowId,
    /// Address family.
    pub family: Family,
    /// Protocol number.
    pub protocol: Protocol,
    /// State by its name, of protocols that have states.
    pub state: Option<&'static str>,
    /// Until it runs out, if no packet comes.
    pub timeout: Millis,
    /// As the first packet had it.
    pub original: TupleRecord,
    /// As answers have it.
    pub reply: TupleRecord,
    /// What became of it so far.
    pub status: Status,
    /// Its mark.
    pub mark: u32,
    /// Its zone.
    pub zone: Zone,
    /// Its helper.
    pub helper: Option<Helper>,
    /// The helper that announced it.
    pub announced_by: Option<Helper>,
    /// Where its first packet came in, as far as a stored decision tells.
    pub ingress: Option<InterfaceId>,
    /// Packets and bytes, where accounting is on.
    pub accounting: Option<Accounting>,
    /// When it was confirmed, in nanoseconds of [`crate::ids::Now`], where timestamps are on.
    pub start: Option<u64>,
    /// Nanoseconds since then.
    pub age: Option<u64>,
}

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TupleRecord {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// What the protocol adds.
    pub transport: TupleTransport,
}

/// What a protocol adds to the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TupleTransport {
    /// TCP, UDP, UDP-Lite, SCTP.
    Ports {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// ICMP and ICMPv6.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Identifier.
        id: u16,
    },
    /// GRE.
    Gre {
        /// Source key.
        srckey: u16,
        /// Destination key: the call id of PPTP.
        dstkey: u16,
    },
    /// Protocols without.
    None,
}

/// Packets and bytes of a flow, by direction (0 original, 1 reply). Bytes are those of IP datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Accounting {
    /// Packets.
    pub packets: [u64; 2],
    /// Bytes.
    pub bytes: [u64; 2],
}

/// Which columns a line has: the values of `conntrack -o`. (`-o timestamp` is for events; the age is shown wherever it is
/// known.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LineOptions {
    /// The address family in front.
    pub extended: bool,
    /// The id behind.
    pub id: bool,
}

impl FlowRecord {
    /// The flow as `conntrack -L` prints it, without a line end.
    pub fn line(&self, options: LineOptions) -> impl fmt::Display + '_ {
        Line { record: self, options }
    }

    /// The protocol's name in that line.
    pub fn protocol_name(&self) -> &'static str {
        protocol_name(self.protocol)
    }
}

/// A protocol's name as `conntrack -L` prints it.
pub fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::TCP => "tcp",
        Protocol::UDP => "udp",
        Protocol::UDPLITE => "udplite",
        Protocol::ICMP => "icmp",
        Protocol::ICMPV6 => "icmpv6",
        Protocol::SCTP => "sctp",
        Protocol::GRE => "gre",
        Protocol::DCCP => "dccp",
        _ => "unknown",
    }
}

struct Line<'a> {
    record: &'a FlowRecord,
    options: LineOptions,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = self.record;
        if self.options.extended {
            match r.family {
                Family::V4 => f.write_str("ipv4     2 ")?,
                Family::V6 => f.write_str("ipv6     10 ")?,
            }
        }
        write!(f, "{:<8} {} {} ", r.protocol_name(), r.protocol.0, r.timeout.0 / 1000)?;
        if let Some(state) = r.state {
            write!(f, "{state} ")?;
        }
        write!(f, "{} ", r.original)?;
        self.one_way(f, "zone-orig", Direction::Original)?;
        if !r.status.contains(Status::SEEN_REPLY) {
            f.write_str("[UNREPLIED] ")?;
        }
        write!(f, "{} ", r.reply)?;
        self.one_way(f, "zone-reply", Direction::Reply)?;
        if r.status.contains(Status::ASSURED) {
            f.write_str("[ASSURED] ")?;
        }
        write!(f, "mark={} ", r.mark)?;
        if let Some(ZoneId(zone @ 1..)) = r.zone.whole() {
            write!(f, "zone={zone} ")?;
        }
        if let Some(age) = r.age {
            write!(f, "delta-time={} ", age / 1_000_000_000)?;
        }
        if let Some(helper) = r.helper {
            write!(f, "helper={} ", helper.name())?;
        }
        f.write_str("use=1")?;
        if self.options.id {
            write!(f, " id={}", r.id.printed())?;
        }
        Ok(())
    }
}

impl Line<'_> {
    /// What stands behind the tuple of a direction.
    fn one_way(&self, f: &mut fmt::Formatter<'_>, zone: &str, direction: Direction) -> fmt::Result {
        if let (None, ZoneId(number @ 1..)) = (self.record.zone.whole(), self.record.zone.of(direction)) {
            write!(f, "{zone}={number} ")?;
        }
        let Some(accounting) = &self.record.accounting else { return Ok(()) };
        let packets = accounting.packets.get(direction.index()).copied().unwrap_or_default();
        let bytes = accounting.bytes.get(direction.index()).copied().unwrap_or_default();
        write!(f, "packets={packets} bytes={bytes} ")
    }
}

impl fmt::Display for TupleRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src={} dst={}", self.src, self.dst)?;
        match self.transport {
            TupleTransport::Ports { sport, dport } => write!(f, " sport={sport} dport={dport}"),
            TupleTransport::Icmp { kind, code, id } => write!(f, " type={kind} code={code} id={id}"),
            TupleTransport::Gre { srckey, dstkey } => write!(f, " srckey=0x{srckey:x} dstkey=0x{dstkey:x}"),
            TupleTransport::None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(protocol: Protocol, transport: [TupleTransport; 2]) -> FlowRecord {
        let [a, b] = ["10.1.0.2", "10.2.0.2"].map(|address| address.parse().unwrap());
        FlowRecord {
            id: FlowId(7),
            family: Family::V4,
            protocol,
            state: None,
            timeout: Millis(29_999),
            original: TupleRecord { src: a, dst: b, transport: transport[0] },
            reply: TupleRecord { src: b, dst: a, transport: transport[1] },
            status: Status::CONFIRMED,
            mark: 0,
            zone: Zone::default(),
            helper: None,
            announced_by: None,
            ingress: None,
            accounting: None,
            start: None,
            age: None,
        }
    }

    /// As conntrack-tools 1.4.7 prints them.
    #[test]
    fn lines_are_those_of_conntrack() {
        let ports = |sport, dport| TupleTransport::Ports { sport, dport };
        let icmp = |kind| TupleTransport::Icmp { kind, code: 0, id: 7 };
        let gre = |srckey, dstkey| TupleTransport::Gre { srckey, dstkey };
        let seen = Status::CONFIRMED.with(Status::SEEN_REPLY);
        let tcp = FlowRecord {
            state: Some("ESTABLISHED"),
            timeout: Millis(431_999_000),
            status: seen.with(Status::ASSURED),
            ..record(Protocol::TCP, [ports(40206, 80), ports(80, 40206)])
        };
        let counted = FlowRecord {
            accounting: Some(Accounting { packets: [5, 3], bytes: [271, 164] }),
            age: Some(1_900_000_000),
            mark: 5,
            ..tcp
        };
        let lines = [
            (
                tcp,
                "tcp      6 431999 ESTABLISHED src=10.1.0.2 dst=10.2.0.2 sport=40206 dport=80 src=10.2.0.2 dst=10.1.0.2 sport=80 dport=40206 [ASSURED] mark=0 use=1",
            ),
            (
                counted,
                "tcp      6 431999 ESTABLISHED src=10.1.0.2 dst=10.2.0.2 sport=40206 dport=80 packets=5 bytes=271 src=10.2.0.2 dst=10.1.0.2 sport=80 dport=40206 packets=3 bytes=164 [ASSURED] mark=5 delta-time=1 use=1",
            ),
            (
                FlowRecord { zone: Zone::both(ZoneId(5)), ..counted },
                "tcp      6 431999 ESTABLISHED src=10.1.0.2 dst=10.2.0.2 sport=40206 dport=80 packets=5 bytes=271 src=10.2.0.2 dst=10.1.0.2 sport=80 dport=40206 packets=3 bytes=164 [ASSURED] mark=5 zone=5 delta-time=1 use=1",
            ),
            (
                FlowRecord { zone: Zone::original(ZoneId(5)), ..counted },
                "tcp      6 431999 ESTABLISHED src=10.1.0.2 dst=10.2.0.2 sport=40206 dport=80 zone-orig=5 packets=5 bytes=271 src=10.2.0.2 dst=10.1.0.2 sport=80 dport=40206 packets=3 bytes=164 [ASSURED] mark=5 delta-time=1 use=1",
            ),
            (
                FlowRecord {
                    zone: Zone::reply(ZoneId(7)),
                    ..record(Protocol::UDP, [ports(1, 2), ports(2, 1)])
                },
                "udp      17 29 src=10.1.0.2 dst=10.2.0.2 sport=1 dport=2 [UNREPLIED] src=10.2.0.2 dst=10.1.0.2 sport=2 dport=1 zone-reply=7 mark=0 use=1",
            ),
            (
                record(Protocol::UDP, [ports(1, 2), ports(2, 1)]),
                "udp      17 29 src=10.1.0.2 dst=10.2.0.2 sport=1 dport=2 [UNREPLIED] src=10.2.0.2 dst=10.1.0.2 sport=2 dport=1 mark=0 use=1",
            ),
            (
                FlowRecord { status: seen, ..record(Protocol::ICMP, [icmp(8), icmp(0)]) },
                "icmp     1 29 src=10.1.0.2 dst=10.2.0.2 type=8 code=0 id=7 src=10.2.0.2 dst=10.1.0.2 type=0 code=0 id=7 mark=0 use=1",
            ),
            (
                FlowRecord { status: seen, ..record(Protocol::GRE, [gre(0, 0x7a), gre(0x7a, 0)]) },
                "gre      47 29 src=10.1.0.2 dst=10.2.0.2 srckey=0x0 dstkey=0x7a src=10.2.0.2 dst=10.1.0.2 srckey=0x7a dstkey=0x0 mark=0 use=1",
            ),
            (
                FlowRecord { status: seen, ..record(Protocol(253), [TupleTransport::None; 2]) },
                "unknown  253 29 src=10.1.0.2 dst=10.2.0.2 src=10.2.0.2 dst=10.1.0.2 mark=0 use=1",
            ),
        ];
        for (record, line) in lines {
            assert_eq!(record.line(LineOptions::default()).to_string(), line);
        }
        let options = LineOptions { extended: true, id: true };
        let line = tcp.line(options).to_string();
        assert!(line.starts_with("ipv4     2 tcp      6 431999 ESTABLISHED src="), "{line}");
        assert!(line.ends_with(&format!(" use=1 id={}", FlowId(7).printed())), "{line}");
        let v6 = FlowRecord { family: Family::V6, ..tcp };
        assert!(v6.line(options).to_string().starts_with("ipv6     10 tcp      6 "));
    }
}
