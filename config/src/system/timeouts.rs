//! How long flows live: `timeouts:` of the system file, and the timeouts that a policy gives to flows of its choice.
//!
//! Names are those of the kernel's `nf_conntrack_*_timeout*` sysctls, without what all of them have in common. In a policy
//! those of one protocol may also be written under it, with the names that nft's `ct timeout` objects have.
//!
//! Source: Linux Documentation/networking/nf_conntrack-sysctl.rst; nft(8), "CT TIMEOUT".

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::decode::Reader;
use crate::rate::parse_duration;
use crate::yaml::{Key, Node, Value};

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

/// Of nft's objects: protocol, state, and the timeout that it is here.
const NFT_NAMES: [(&str, &str, &str); 6] = [
    ("udp", "unreplied", "udp"),
    ("udp", "replied", "udp_stream"),
    ("gre", "unreplied", "gre"),
    ("gre", "replied", "gre_stream"),
    ("tcp", "retrans", "tcp_max_retrans"),
    ("tcp", "unack", "tcp_unacknowledged"),
];

fn known(name: &str) -> Option<&'static Timeout> {
    TIMEOUTS.iter().find(|(known, _)| *known == name)
}

/// Whether `timeouts:` of the system file has this name.
pub(super) fn is_timeout(name: &str) -> bool {
    known(name).is_some() || matches!(name, "frag" | "frag6")
}

/// All names that `timeouts:` of the system file has.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TIMEOUTS.iter().map(|(name, _)| *name).chain(["frag", "frag6"])
}

impl Timeouts {
    /// Reads `timeouts:` of the system file; what is left out has its default.
    pub(super) fn decode<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Timeouts {
        let mut timeouts = Timeouts::default();
        for (key, node) in reader.map(node, "`timeouts`").unwrap_or_default() {
            let place = known(&key.text);
            if !is_timeout(&key.text) {
                let names: Vec<&str> =
                    TIMEOUTS.iter().map(|(name, _)| *name).chain(["frag", "frag6"]).collect();
                reader.unknown_key(key, "`timeouts`", &names);
                continue;
            }
            let Some(value) = reader.parsed(node, "a timeout", parse_duration) else { continue };
            match place {
                Some((_, place)) => *place(&mut timeouts) = value,
                None => {
                    timeouts.frag6 = value;
                    if key.text == "frag" {
                        timeouts.frag = value;
                    }
                }
            }
        }
        timeouts
    }
}

/// Some timeouts, in place of those that the system file gives: `ct_timeout` of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeoutOverrides(BTreeMap<&'static str, Duration>);

impl TimeoutOverrides {
    /// All timeouts of a flow that has these, where `system` has those of all flows.
    pub fn over(&self, system: &Timeouts) -> Timeouts {
        let mut timeouts = *system;
        for (name, value) in &self.0 {
            if let Some((_, place)) = known(name) {
                *place(&mut timeouts) = *value;
            }
        }
        timeouts
    }

    /// Reads `{tcp_established: 1h, udp: 10s}`, or by protocol `{tcp: {established: 1h}}`.
    pub(crate) fn decode<'a>(reader: &mut Reader<'a>, node: &Node<'a>, what: &str) -> Option<Self> {
        let before = reader.errors();
        let mut own = Self::default();
        for (key, node) in reader.map(node, what)? {
            match &node.value {
                Value::Map(entries) => {
                    for (state, node) in entries {
                        own.read(reader, what, Some(&key.text), state, node);
                    }
                }
                Value::Scalar(_) | Value::List(_) => own.read(reader, what, None, key, node),
            }
        }
        if own.0.is_empty() && reader.errors() == before {
            reader.error(node.span, format!("{what} gives no timeout"));
        }
        (reader.errors() == before).then_some(own)
    }

    fn read<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        what: &str,
        protocol: Option<&str>,
        key: &Key<'a>,
        node: &Node<'a>,
    ) {
        let name = match protocol {
            None => key.text.to_string(),
            Some(protocol) => {
                let of_nft = NFT_NAMES.iter().find(|(of, state, _)| *of == protocol && *state == key.text);
                of_nft.map_or_else(|| format!("{protocol}_{}", key.text), |(.., name)| (*name).to_owned())
            }
        };
        let Some((name, _)) = known(&name) else {
            let prefix = protocol.map(|protocol| format!("{protocol}_"));
            let in_group = |name: &&'static str| prefix.as_deref().is_none_or(|p| name.starts_with(p));
            let names: Vec<&str> = TIMEOUTS
                .iter()
                .map(|(name, _)| *name)
                .filter(in_group)
                .map(|name| prefix.as_deref().and_then(|p| name.strip_prefix(p)).unwrap_or(name))
                .collect();
            reader.unknown_key(key, what, &names);
            return;
        };
        if let Some(value) = reader.parsed(node, "a timeout", parse_duration)
            && self.0.insert(*name, value).is_some()
        {
            reader.error(key.span, format!("`{name}` is given twice"));
        }
    }
}

impl fmt::Display for TimeoutOverrides {
    /// As the policy language has it, in seconds: `{tcp_established: 3600, udp: 10}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> =
            self.0.iter().map(|(name, value)| format!("{name}: {}", value.as_secs())).collect();
        write!(f, "{{{}}}", all.join(", "))
    }
}
