//! Settings of connection tracking: the kernel's `nf_conntrack_*` sysctls without that prefix, with its defaults.
//!
//! Source: Linux Documentation/networking/nf_conntrack-sysctl.rst.

use super::capacity::{self, Adaptive, Share, SourceQuota};
use crate::decode::{Reader, boolean};
use crate::diagnostics::ValueError;
use crate::yaml::Node;

use super::timeouts::{self, Timeouts};

/// `conntrack:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// Most flows in the table; 0: no limit but memory.
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
    /// Bytes of fragments that are kept while their datagrams are not complete.
    pub frag_high_thresh: u32,
    /// `timeouts:`.
    pub timeouts: Timeouts,
    /// `reserve_local`; None: a default part of `max`, see [`Conntrack::reserve`].
    pub reserve_local: Option<Share>,
    /// `quota.per_source`.
    pub source_quota: Option<SourceQuota>,
    /// `adaptive`.
    pub adaptive: Option<Adaptive>,
}

impl Conntrack {
    /// Places that are kept for flows to and from the router itself.
    pub fn reserve(&self) -> u32 {
        capacity::reserve(self.reserve_local, self.max)
    }
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
            frag_high_thresh: 4 << 20,
            timeouts: Timeouts::default(),
            reserve_local: None,
            source_quota: None,
            adaptive: None,
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

pub(super) const KEYS: [&str; 17] = [
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
    "frag_high_thresh",
    "timeouts",
    "reserve_local",
    "quota",
    "adaptive",
];

/// Reads `conntrack:`. Booleans may be written as the sysctls are, `0` and `1`.
pub(super) fn decode<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Conntrack {
    let mut settings = Conntrack::default();
    let Some(fields) = reader.fields_or(node, "`conntrack`", &KEYS, instead) else { return settings };
    let flags: [(&str, &mut bool); 6] = [
        ("checksum", &mut settings.checksum),
        ("acct", &mut settings.acct),
        ("timestamp", &mut settings.timestamp),
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
    settings.max = number(reader, "max", 0, MAX_FLOWS).unwrap_or(settings.max);
    settings.buckets = number(reader, "buckets", 1, MAX_FLOWS);
    settings.expect_max = number(reader, "expect_max", 1, MAX_FLOWS);
    let retrans = number(reader, "tcp_max_retrans", 0, 255).and_then(|n| u8::try_from(n).ok());
    settings.tcp_max_retrans = retrans.unwrap_or(settings.tcp_max_retrans);
    let memory = number(reader, "frag_high_thresh", 0, MAX_FRAGMENTS);
    settings.frag_high_thresh = memory.unwrap_or(settings.frag_high_thresh);
    if let Some(node) = fields.get("events") {
        settings.events = events(reader, node).unwrap_or(settings.events);
    }
    if let Some(node) = fields.get("log_invalid") {
        settings.log_invalid = log_invalid(reader, node).unwrap_or_default();
    }
    if let Some(node) = fields.get("timeouts") {
        settings.timeouts = Timeouts::decode(reader, node);
    }
    let max = settings.max;
    settings.reserve_local =
        fields.get("reserve_local").and_then(|node| capacity::reserve_local(reader, node, max));
    settings.source_quota = fields.get("quota").and_then(|node| capacity::quota(reader, node));
    settings.adaptive = fields.get("adaptive").and_then(|node| capacity::adaptive(reader, node, max));
    settings
}

/// More flows than this would not fit into memory on any machine; a typing error, surely.
const MAX_FLOWS: u32 = 1 << 28;

/// Bytes that fragments may take, at most: a gigabyte of them waits for nothing that will come.
const MAX_FRAGMENTS: u32 = 1 << 30;

fn flag<'a>(reader: &mut Reader<'a>, node: &Node<'a>, key: &str) -> Option<bool> {
    match reader.text(node, key)? {
        "0" => Some(false),
        "1" => Some(true),
        _ => reader.boolean(node, &format!("`{key}`")),
    }
}

/// The kernel's 2 notes events for those who watch, and that is what 1 does here too.
fn events<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<bool> {
    match reader.text(node, "`events`")? {
        "2" => Some(true),
        _ => flag(reader, node, "events"),
    }
}

/// What a name that is none here should be: those of sysctls as they are, and sysctls that have no meaning here.
fn instead(key: &str) -> Option<String> {
    let name = key.strip_prefix("nf_conntrack_").unwrap_or(key);
    if KEYS.contains(&name) {
        return Some(format!("write it without nf_conntrack_: `{name}`"));
    }
    let timeout = name.replacen("_timeout", "", 1);
    if timeout != name && timeouts::is_timeout(&timeout) {
        return Some(format!("write it as `timeouts: {{{timeout}: ...}}`"));
    }
    let why = match name {
        "count" => "it is only read: `sluice conntrack count`",
        "helper" => "a helper is assigned by rules alone: `action: {helper: ftp}`",
        _ if name.starts_with("dccp_") => {
            "DCCP has no tracker of its own, as in Linux since 6.17: it is `timeouts: {generic: ...}`"
        }
        _ => return None,
    };
    Some(why.to_owned())
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
