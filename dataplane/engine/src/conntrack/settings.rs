//! What the kernel's `nf_conntrack_*` sysctls set, with its defaults; can change while running.
//!
//! A flow keeps the deadline that it got under older settings until its next packet.
//! Source: Linux Documentation/networking/nf_conntrack-sysctl.rst.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use sluice_wire::Protocol;

use super::adaptive::Adaptive;
use super::quota::SourceQuota;
use super::template::TimeoutsId;
use crate::ids::{Millis, Now};
use crate::limit::{Limit, LimitPer};

/// `conntrack:` of the system file, but for the table's size (see [`super::FlowBudget`]).
#[derive(Clone, Debug)]
pub struct Settings {
    /// A bad transport checksum in prerouting makes a packet INVALID.
    pub checksum: bool,
    /// Count packets and bytes of flows that begin from now on.
    pub acct: bool,
    /// Note when a flow began.
    pub timestamp: bool,
    /// Which INVALID packets are logged.
    pub log_invalid: LogInvalid,
    /// TCP: flows are picked up in the middle.
    pub tcp_loose: bool,
    /// TCP: only resets are INVALID for being out of window.
    pub tcp_be_liberal: bool,
    /// TCP: a reset below the window is no reason to call it INVALID.
    pub tcp_ignore_invalid_rst: bool,
    /// TCP: so many retransmits without an answer shorten the timeout to [`TcpTimeouts::max_retrans`].
    pub tcp_max_retrans: u8,
    /// Most expectations of all workers together.
    pub expect_max: u32,
    /// Bytes of fragments' payload that are kept while their datagrams are not complete, by all workers together
    /// (`ipfrag_high_thresh`, which the kernel has for each family).
    pub frag_high_thresh: u32,
    /// How long flows live without a packet.
    pub timeouts: Timeouts,
    /// Timeouts that rules give to flows (`ct_timeout`), by [`TimeoutsId`]. A number keeps its meaning as long as flows
    /// may bear it.
    pub own_timeouts: Arc<[Timeouts]>,
    /// Whether timeouts shrink as the table fills; netfilter's do not.
    pub adaptive: Option<Adaptive>,
    /// Most flows of one source prefix; netfilter has no such limit. Needs [`super::FlowBudget::count_sources`].
    pub source_quota: Option<SourceQuota>,
}

impl Settings {
    /// The timeouts of a number; those of all flows for 0, and for a number that has none.
    #[inline]
    pub fn timeouts_of(&self, id: TimeoutsId) -> &Timeouts {
        let place = usize::from(id.0).checked_sub(1);
        place.and_then(|place| self.own_timeouts.get(place)).unwrap_or(&self.timeouts)
    }
}

/// `log_invalid`: which INVALID packets are logged, and how many.
#[derive(Clone, Debug, Default)]
pub struct LogInvalid(Option<LoggedProtocols>);

#[derive(Clone, Debug)]
struct LoggedProtocols {
    /// One; None: all.
    protocol: Option<Protocol>,
    limit: Arc<Limit>,
}

impl LogInvalid {
    /// Lines a second over all workers. The kernel has no limit here; but whoever can send a packet can cause a line.
    pub const RATE: u32 = 10;
    /// Lines at once.
    pub const BURST: u32 = 20;

    /// Those of one protocol, or all for None.
    pub fn of(protocol: Option<Protocol>) -> LogInvalid {
        let limit = Limit::new(Self::RATE, Duration::from_secs(1), Self::BURST, LimitPer::Rule);
        LogInvalid(Some(LoggedProtocols { protocol, limit: Arc::new(limit) }))
    }

    /// Whether any are.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a packet of this protocol is, now.
    pub(crate) fn take(&self, now: Now, protocol: Protocol) -> bool {
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        self.0.as_ref().is_some_and(|logged| {
            logged.protocol.is_none_or(|wanted| wanted == protocol)
                && logged.limit.take(now.nanos, nobody, nobody)
        })
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            checksum: true,
            acct: false,
            timestamp: false,
            log_invalid: LogInvalid::default(),
            tcp_loose: true,
            tcp_be_liberal: false,
            tcp_ignore_invalid_rst: false,
            tcp_max_retrans: 3,
            expect_max: 4096,
            frag_high_thresh: 4 << 20,
            timeouts: Timeouts::default(),
            own_timeouts: Arc::default(),
            adaptive: None,
            source_quota: None,
        }
    }
}

/// How long a flow lives without a packet, by protocol and state.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// TCP, by state.
    pub tcp: TcpTimeouts,
    /// UDP and UDP-Lite, until the flow is a stream.
    pub udp: Millis,
    /// UDP and UDP-Lite that went both ways for two seconds.
    pub udp_stream: Millis,
    /// ICMP echo and its like.
    pub icmp: Millis,
    /// ICMPv6 echo and its like.
    pub icmpv6: Millis,
    /// Protocols without a tracker of their own.
    pub generic: Millis,
    /// GRE, until a reply is seen.
    pub gre: Millis,
    /// GRE in both directions.
    pub gre_stream: Millis,
    /// SCTP, by state.
    pub sctp: SctpTimeouts,
    /// Reassembly of IPv4 datagrams.
    pub frag: Millis,
    /// Reassembly of IPv6 datagrams.
    pub frag6: Millis,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            tcp: TcpTimeouts::default(),
            udp: Millis::from_secs(30),
            udp_stream: Millis::from_secs(120),
            icmp: Millis::from_secs(30),
            icmpv6: Millis::from_secs(30),
            generic: Millis::from_secs(600),
            gre: Millis::from_secs(30),
            gre_stream: Millis::from_secs(180),
            sctp: SctpTimeouts::default(),
            frag: Millis::from_secs(30),
            frag6: Millis::from_secs(60),
        }
    }
}

/// TCP's timeouts (`nf_conntrack_tcp_timeout_*`).
#[derive(Clone, Debug)]
pub struct TcpTimeouts {
    /// A SYN was seen.
    pub syn_sent: Millis,
    /// A SYN and a SYN-ACK were seen.
    pub syn_recv: Millis,
    /// Established.
    pub established: Millis,
    /// A FIN was seen.
    pub fin_wait: Millis,
    /// A FIN was acknowledged.
    pub close_wait: Millis,
    /// FINs of both sides were seen.
    pub last_ack: Millis,
    /// FINs of both sides were acknowledged.
    pub time_wait: Millis,
    /// A reset was seen.
    pub close: Millis,
    /// SYNs of both sides were seen.
    pub syn_sent2: Millis,
    /// At most this after [`Settings::tcp_max_retrans`] retransmits.
    pub max_retrans: Millis,
    /// At most this while data is not acknowledged.
    pub unacknowledged: Millis,
}

impl Default for TcpTimeouts {
    fn default() -> TcpTimeouts {
        TcpTimeouts {
            syn_sent: Millis::from_secs(120),
            syn_recv: Millis::from_secs(60),
            established: Millis::from_secs(432_000),
            fin_wait: Millis::from_secs(120),
            close_wait: Millis::from_secs(60),
            last_ack: Millis::from_secs(30),
            time_wait: Millis::from_secs(120),
            close: Millis::from_secs(10),
            syn_sent2: Millis::from_secs(120),
            max_retrans: Millis::from_secs(300),
            unacknowledged: Millis::from_secs(300),
        }
    }
}

/// SCTP's timeouts (`nf_conntrack_sctp_timeout_*`).
#[derive(Clone, Debug)]
pub struct SctpTimeouts {
    /// No association, or an aborted one.
    pub closed: Millis,
    /// INIT-ACK seen.
    pub cookie_wait: Millis,
    /// COOKIE-ECHO seen.
    pub cookie_echoed: Millis,
    /// COOKIE-ACK seen.
    pub established: Millis,
    /// SHUTDOWN of the side that began the flow.
    pub shutdown_sent: Millis,
    /// SHUTDOWN of the other side.
    pub shutdown_recd: Millis,
    /// SHUTDOWN-ACK seen.
    pub shutdown_ack_sent: Millis,
    /// HEARTBEAT on a path that is not known.
    pub heartbeat_sent: Millis,
}

impl Default for SctpTimeouts {
    fn default() -> SctpTimeouts {
        SctpTimeouts {
            closed: Millis::from_secs(10),
            cookie_wait: Millis::from_secs(3),
            cookie_echoed: Millis::from_secs(3),
            established: Millis::from_secs(210),
            shutdown_sent: Millis::from_secs(3),
            shutdown_recd: Millis::from_secs(3),
            shutdown_ack_sent: Millis::from_secs(3),
            heartbeat_sent: Millis::from_secs(30),
        }
    }
}
