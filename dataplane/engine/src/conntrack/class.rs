//! Flows by protocol and state, for the gauges of `/metrics`: [`crate::counters::ConntrackCounters::by_state`].

use super::flow::{Flow, Track};
use super::info::Status;
use super::tuple::Address;

/// The labels `(protocol, state)` of each gauge; empty for gauges that are not used.
pub const CLASSES: [(&str, &str); 32] = [
    ("tcp", "none"),
    ("tcp", "syn_sent"),
    ("tcp", "syn_recv"),
    ("tcp", "established"),
    ("tcp", "fin_wait"),
    ("tcp", "close_wait"),
    ("tcp", "last_ack"),
    ("tcp", "time_wait"),
    ("tcp", "close"),
    ("tcp", "syn_sent2"),
    ("udp", "unreplied"),
    ("udp", "replied"),
    ("udp", "assured"),
    ("icmp", "unreplied"),
    ("icmp", "replied"),
    ("icmpv6", "unreplied"),
    ("icmpv6", "replied"),
    ("sctp", "none"),
    ("sctp", "closed"),
    ("sctp", "cookie_wait"),
    ("sctp", "cookie_echoed"),
    ("sctp", "established"),
    ("sctp", "shutdown_sent"),
    ("sctp", "shutdown_recd"),
    ("sctp", "shutdown_ack_sent"),
    ("sctp", "heartbeat_sent"),
    ("gre", "unreplied"),
    ("gre", "replied"),
    ("generic", "unreplied"),
    ("generic", "replied"),
    ("", ""),
    ("", ""),
];

const TCP: usize = 0;
const UDP: usize = 10;
const ICMP: usize = 13;
const ICMPV6: usize = 15;
const SCTP: usize = 17;
const GRE: usize = 26;
const GENERIC: usize = 28;

impl<A: Address> Flow<A> {
    /// Which gauge counts it. UDP-Lite is counted as UDP.
    #[inline(always)]
    pub(super) fn class(&self) -> usize {
        let replied = usize::from(self.status.contains(Status::SEEN_REPLY));
        match self.track {
            Track::Tcp(_) => TCP + usize::from(self.state),
            Track::Udp { .. } if self.status.contains(Status::ASSURED) => UDP + 2,
            Track::Udp { .. } => UDP + replied,
            Track::Icmp => ICMP + replied,
            Track::Icmpv6 => ICMPV6 + replied,
            Track::Sctp(_) => SCTP + usize::from(self.state),
            Track::Gre => GRE + replied,
            Track::Generic => GENERIC + replied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_has_its_labels_where_its_flows_are_counted() {
        let first = |at: usize| CLASSES[at];
        assert_eq!(first(TCP + 3), ("tcp", "established"));
        assert_eq!(first(UDP), ("udp", "unreplied"));
        assert_eq!(first(ICMP), ("icmp", "unreplied"));
        assert_eq!(first(ICMPV6), ("icmpv6", "unreplied"));
        assert_eq!(first(SCTP + 4), ("sctp", "established"));
        assert_eq!(first(GRE), ("gre", "unreplied"));
        assert_eq!(first(GENERIC), ("generic", "unreplied"));
    }
}
