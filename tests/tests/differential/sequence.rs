//! Sequences of packets, the settings that they are played under, and what each side answers.

use std::collections::BTreeMap;

use crate::packet::{Host, Packet};
use crate::seen::Seen;

/// A packet at its turn.
#[derive(Debug, Clone)]
pub struct Step {
    /// The leg that it arrives at.
    pub leg: usize,
    pub packet: Packet,
}

impl Step {
    /// A packet that comes from where its source is.
    pub fn from_source(packet: Packet) -> Step {
        Step { leg: packet.src.leg(), packet }
    }

    /// A packet that comes from the same leg as packets of `host`.
    pub fn from_leg_of(host: Host, packet: Packet) -> Step {
        Step { leg: host.leg(), packet }
    }
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
}

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
