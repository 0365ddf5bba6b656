//! Settings of connection tracking: the kernel's `nf_conntrack_*` sysctls without that prefix, with its defaults.
//!
//! Source: Linux Documentation/networking/nf_conntrack-sysctl.rst.

use std::time::Duration;

use crate::decode::{Reader, boolean};
use crate::diagnostics::ValueError;
use crate::rate::parse_duration;
use crate::yaml::Node;

/// `conntrack:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// Most flows in the table.
    pub max: u32,
    /// Hash buckets: a hint.
    pub buckets: Option<u32>,
    /// Most expectations; `None`: as many as the buckets give.
    pub expect_max: Option<u32>,
    /// Packets with a bad checksum are INVALID.
    pub checksum: bool,
    /// Count packets and bytes of flows.
    pub acct: bool,
    /// Note when a flow began.
    pub timestamp: bool,
    /// Report changes of flows to those who watch.
    pub events: bool,
    /// Log INVALID packets.
    pub log_invalid: LogInvalid,
    /// TCP: out-of-window packets are not INVALID, except resets.
    pub tcp_be_liberal: bool,
    /// TCP: flows are picked up in the middle.
    pub tcp_loose: bool,
    /// TCP: a reset outside the window is ignored rather than INVALID.
    pub tcp_ignore_invalid_rst: bool,
    /// TCP: so many retransmits without an answer shorten the timeout to `tcp_max_retrans`.
    pub tcp_max_retrans: u8,
    /// `timeouts:`.
    pub timeouts: Timeouts,
}

impl Default for Conntrack {
    fn default() -> Self {
        Self {
            max: 262_144,
            buckets: None,
            expect_max: None,
            checksum: true,
            acct: false,
            timestamp: false,
            events: true,
            log_invalid: LogInvalid::Off,
            tcp_be_liberal: false,
            tcp_loose: true,
            tcp_ignore_invalid_rst: false,
            tcp_max_retrans: 3,
            timeouts: Timeouts::default(),
        }
    }
}

/// `log_invalid`: which INVALID packets are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LogInvalid {
    /// None: 0 or off.
    #[default]
    Off,
    /// Of this protocol.
    Protocol(u8),
    /// All: 255 or on.
    All,
}

/// `timeouts:`: how long an entry lives without a packet. In whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each is the kernel's timeout of that state; the states' names say all there is to say
pub struct Timeouts {
    pub tcp_syn_sent: Duration,
    pub tcp_syn_recv: Duration,
    pub tcp_established: Duration,
    pub tcp_fin_wait: Duration,
    pub tcp_close_wait: Duration,
    pub tcp_last_ack: Duration,
    pub tcp_time_wait: Duration,
    pub tcp_close: Duration,
    pub tcp_syn_sent2: Duration,
    pub tcp_max_retrans: Duration,
    pub tcp_unacknowledged: Duration,
    pub udp: Duration,
    pub udp_stream: Duration,
    pub icmp: Duration,
    pub icmpv6: Duration,
    pub generic: Duration,
    pub gre: Duration,
    pub gre_stream: Duration,
    pub sctp_closed: Duration,
    pub sctp_cookie_wait: Duration,
    pub sctp_cookie_echoed: Duration,
    pub sctp_established: Duration,
    pub sctp_shutdown_sent: Duration,
    pub sctp_shutdown_recd: Duration,
    pub sctp_shutdown_ack_sent: Duration,
    pub sctp_heartbeat_sent: Duration,
    /// Reassembly, IPv4.
    pub frag: Duration,
    /// Reassembly, IPv6; `timeouts.frag` sets both.
    pub frag6: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        const fn s(seconds: u64) -> Duration {
            Duration::from_secs(seconds)
        }
        Self {
            tcp_syn_sent: s(120),
            tcp_syn_recv: s(60),
            tcp_established: s(432_000),
            tcp_fin_wait: s(120),
            tcp_close_wait: s(60),
            tcp_last_ack: s(30),
            tcp_time_wait: s(120),
            tcp_close: s(10),
            tcp_syn_sent2: s(120),
            tcp_max_retrans: s(300),
            tcp_unacknowledged: s(300),
            udp: s(30),
            udp_stream: s(120),
            icmp: s(30),
            icmpv6: s(30),
            generic: s(600),
            gre: s(30),
            gre_stream: s(180),
            sctp_closed: s(10),
            sctp_cookie_wait: s(3),
            sctp_cookie_echoed: s(3),
            sctp_established: s(210),
            sctp_shutdown_sent: s(3),
            sctp_shutdown_recd: s(3),
            sctp_shutdown_ack_sent: s(3),
            sctp_heartbeat_sent: s(30),
            frag: s(30),
            frag6: s(60),
        }
    }
}

/// A timeout's name and where it is kept.
type Timeout = (&'static str, fn(&mut Timeouts) -> &mut Duration);

const TIMEOUTS: [Timeout; 26] = [
    ("tcp_syn_sent", |t| &mut t.tcp_syn_sent),
    ("tcp_syn_recv", |t| &mut t.tcp_syn_recv),
    ("tcp_established", |t| &mut t.tcp_established),
    ("tcp_fin_wait", |t| &mut t.tcp_fin_wait),
    ("tcp_close_wait", |t| &mut t.tcp_close_wait),
    ("tcp_last_ack", |t| &mut t.tcp_last_ack),
    ("tcp_time_wait", |t| &mut t.tcp_time_wait),
    ("tcp_close", |t| &mut t.tcp_close),
    ("tcp_syn_sent2", |t| &mut t.tcp_syn_sent2),
    ("tcp_max_retrans", |t| &mut t.tcp_max_retrans),
    ("tcp_unacknowledged", |t| &mut t.tcp_unacknowledged),
    ("udp", |t| &mut t.udp),
    ("udp_stream", |t| &mut t.udp_stream),
    ("icmp", |t| &mut t.icmp),
    ("icmpv6", |t| &mut t.icmpv6),
    ("generic", |t| &mut t.generic),
    ("gre", |t| &mut t.gre),
    ("gre_stream", |t| &mut t.gre_stream),
    ("sctp_closed", |t| &mut t.sctp_closed),
    ("sctp_cookie_wait", |t| &mut t.sctp_cookie_wait),
    ("sctp_cookie_echoed", |t| &mut t.sctp_cookie_echoed),
    ("sctp_established", |t| &mut t.sctp_established),
    ("sctp_shutdown_sent", |t| &mut t.sctp_shutdown_sent),
    ("sctp_shutdown_recd", |t| &mut t.sctp_shutdown_recd),
    ("sctp_shutdown_ack_sent", |t| &mut t.sctp_shutdown_ack_sent),
    ("sctp_heartbeat_sent", |t| &mut t.sctp_heartbeat_sent),
];

const KEYS: [&str; 13] = [
    "max",
    "buckets",
    "expect_max",
    "checksum",
    "acct",
    "timestamp",
    "events",
    "log_invalid",
    "tcp_be_liberal",
    "tcp_loose",
    "tcp_ignore_invalid_rst",
    "tcp_max_retrans",
    "timeouts",
];

/// Reads `conntrack:`. Booleans may be written as the sysctls are, `0` and `1`.
pub(super) fn decode<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Conntrack {
    let mut settings = Conntrack::default();
    let Some(fields) = reader.fields(node, "`conntrack`", &KEYS) else { return settings };
    let flags: [(&str, &mut bool); 7] = [
        ("checksum", &mut settings.checksum),
        ("acct", &mut settings.acct),
        ("timestamp", &mut settings.timestamp),
        ("events", &mut settings.events),
        ("tcp_be_liberal", &mut settings.tcp_be_liberal),
        ("tcp_loose", &mut settings.tcp_loose),
        ("tcp_ignore_invalid_rst", &mut settings.tcp_ignore_invalid_rst),
    ];
    for (key, place) in flags {
        if let Some(value) = fields.get(key).and_then(|node| flag(reader, node, key)) {
            *place = value;
        }
    }
    let number = |reader: &mut Reader<'a>, key: &str, min: u32, max: u32| {
        fields.get(key).and_then(|node| reader.number(node, &format!("`{key}`"), min, max))
    };
    settings.max = number(reader, "max", 1, MAX_FLOWS).unwrap_or(settings.max);
    settings.buckets = number(reader, "buckets", 1, MAX_FLOWS);
    settings.expect_max = number(reader, "expect_max", 1, MAX_FLOWS);
    let retrans = number(reader, "tcp_max_retrans", 0, 255).and_then(|n| u8::try_from(n).ok());
    settings.tcp_max_retrans = retrans.unwrap_or(settings.tcp_max_retrans);
    if let Some(node) = fields.get("log_invalid") {
        settings.log_invalid = log_invalid(reader, node).unwrap_or_default();
    }
    if let Some(node) = fields.get("timeouts") {
        timeouts(reader, node, &mut settings.timeouts);
    }
    settings
}

/// More flows than this would not fit into memory on any machine; a typing error, surely.
const MAX_FLOWS: u32 = 1 << 28;

fn flag<'a>(reader: &mut Reader<'a>, node: &Node<'a>, key: &str) -> Option<bool> {
    match reader.text(node, key)? {
        "0" => Some(false),
        "1" => Some(true),
        _ => reader.boolean(node, &format!("`{key}`")),
    }
}

fn log_invalid<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<LogInvalid> {
    reader.parsed(node, "`log_invalid`", |text| match (boolean(text), text.parse::<u8>()) {
        (Some(false), _) | (None, Ok(0)) => Ok(LogInvalid::Off),
        (Some(true), _) | (None, Ok(255)) => Ok(LogInvalid::All),
        (None, Ok(protocol)) => Ok(LogInvalid::Protocol(protocol)),
        (None, Err(_)) => Err(ValueError::new(format!(
            "`log_invalid` must be a protocol number, 255 (all) or off, not `{text}`"
        ))),
    })
}

fn timeouts<'a>(reader: &mut Reader<'a>, node: &Node<'a>, timeouts: &mut Timeouts) {
    let Some(entries) = reader.map(node, "`timeouts`") else { return };
    for (key, node) in entries {
        let known = TIMEOUTS.iter().find(|(name, _)| *name == key.text);
        if known.is_none() && key.text != "frag" && key.text != "frag6" {
            let names: Vec<&str> = TIMEOUTS.iter().map(|(name, _)| *name).chain(["frag", "frag6"]).collect();
            reader.unknown_key(key, "`timeouts`", &names);
            continue;
        }
        let Some(value) = reader.parsed(node, "a timeout", parse_duration) else { continue };
        match known {
            Some((_, place)) => *place(timeouts) = value,
            None => {
                timeouts.frag6 = value;
                if key.text == "frag" {
                    timeouts.frag = value;
                }
            }
        }
    }
}
