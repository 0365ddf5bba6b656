//! Sequences of packets, the settings that they are played under, and what each side answers.

use std::collections::BTreeMap;

use crate::packet::{Host, Packet};
use crate::seen::Seen;

/// A packet at its turn.
#[derive(Debug, Clone)]
pub struct Step {
    /// The leg that it arrives at.
    pub leg: usize,
    /// Which round of the play it comes in: seconds pass between them, if they pass at all.
    pub round: usize,
    pub packet: Packet,
    /// Only this of it is sent.
    pub piece: Option<Piece>,
}

impl Step {
    /// A packet that comes from where its source is.
    pub fn from_source(packet: Packet) -> Step {
        Step { leg: packet.src.leg(), round: 0, packet, piece: None }
    }

    /// A packet that comes from the same leg as packets of `host`.
    pub fn from_leg_of(host: Host, packet: Packet) -> Step {
        Step { leg: host.leg(), round: 0, packet, piece: None }
    }
}

/// A fragment.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// The same for all fragments of a datagram, in its sequence.
    pub datagram: usize,
    /// Bytes in front of it, a multiple of eight.
    pub offset: u16,
    /// Its bytes.
    pub length: u16,
    /// Whether it says that others follow.
    pub more: bool,
}

/// What is played between hosts of its own.
#[derive(Debug, Clone, Default)]
pub struct Sequence(pub Vec<Step>);

/// The tracker's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub tcp_loose: bool,
    pub tcp_be_liberal: bool,
    pub tcp_ignore_invalid_rst: bool,
    pub tcp_max_retrans: u8,
    pub checksum: bool,
    pub acct: bool,
    /// Rules look at the flow's status too; else at state and direction alone, so that decisions can be kept.
    pub status: bool,
    /// Seconds pass between rounds, and timeouts are short.
    pub time: bool,
}

/// Rounds of a play in which time passes.
pub const ROUNDS: usize = 3;

/// Timeouts in seconds, by the names of the kernel's settings: its own, and those of a play in which time passes.
pub const TIMEOUTS: [(&str, u32, u32); 25] = [
    ("tcp_timeout_syn_sent", 120, 4),
    ("tcp_timeout_syn_recv", 60, 2),
    ("tcp_timeout_established", 432_000, 20),
    ("tcp_timeout_fin_wait", 120, 5),
    ("tcp_timeout_close_wait", 60, 4),
    ("tcp_timeout_last_ack", 30, 2),
    ("tcp_timeout_time_wait", 120, 4),
    ("tcp_timeout_close", 10, 2),
    ("tcp_timeout_max_retrans", 300, 4),
    ("tcp_timeout_unacknowledged", 300, 5),
    ("udp_timeout", 30, 4),
    ("udp_timeout_stream", 120, 9),
    ("icmp_timeout", 30, 2),
    ("icmpv6_timeout", 30, 4),
    ("generic_timeout", 600, 4),
    ("gre_timeout", 30, 2),
    ("gre_timeout_stream", 180, 5),
    ("sctp_timeout_closed", 10, 4),
    ("sctp_timeout_cookie_wait", 3, 4),
    ("sctp_timeout_cookie_echoed", 3, 5),
    ("sctp_timeout_established", 210, 10),
    ("sctp_timeout_shutdown_sent", 3, 4),
    ("sctp_timeout_shutdown_recd", 3, 2),
    ("sctp_timeout_shutdown_ack_sent", 3, 5),
    ("sctp_timeout_heartbeat_sent", 30, 4),
];

/// What one side made of a sequence.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// What came out for each step.
    pub steps: Vec<Vec<Seen>>,
    /// The flows afterwards: each line without its timeout, and the timeouts in seconds.
    pub flows: BTreeMap<String, Vec<u64>>,
}

/// Takes the timeout out of a line of `conntrack -L -o extended`, and what cannot agree: the line, and its timeout.
pub fn split_line(line: &str) -> Option<(String, u64)> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let timeout = words.get(4)?.parse().ok()?;
    words.remove(4);
    words.retain(|word| !word.starts_with("use="));
    Some((words.join(" "), timeout))
}

/// The number of the world that a line's first address is in.
pub fn world_of(line: &str) -> Option<u16> {
    let address = line.split_whitespace().find_map(|word| word.strip_prefix("src="))?.parse().ok()?;
    match address {
        std::net::IpAddr::V4(v4) => v4.octets().starts_with(&[10]).then(|| v4.to_bits() as u16),
        std::net::IpAddr::V6(v6) => matches!(v6.segments()[0], 0xfd01 | 0xfd02).then(|| v6.to_bits() as u16),
    }
}
