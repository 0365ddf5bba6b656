//! Settings of connection tracking: the kernel's `nf_conntrack_*` sysctls without that prefix, with its defaults.
//!
//! Source: Linux Documentation/networking/nf_conntrack-sysctl.rst.

use std::time::Duration;

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
