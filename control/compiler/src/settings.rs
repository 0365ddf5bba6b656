//! From the system file to the engine's settings: the tracker's, and of errors that the router makes.

use std::sync::Arc;

use sluice_config::System;
use sluice_config::system as config;
use sluice_engine::conntrack::{self, FlowBudget};
use sluice_engine::ids::Millis;
use sluice_engine::ruleset::Ruleset;
use sluice_engine::world::{IcmpSettings, Settings};
use sluice_wire::Protocol;

use crate::TimeoutRegistry;

/// Expectations at once, where the file does not say: the kernel's number for as many buckets as it has by default.
const EXPECT_MAX: u32 = 4096;

/// Everything else that workers need and that can change while they run; `own` has the timeouts that rules give.
pub fn settings(system: &System, own: &TimeoutRegistry) -> Settings {
    let icmp = &system.icmp;
    let per_second = icmp.ratelimit.map(|rate| {
        let seconds = u32::try_from(rate.unit.duration().as_secs()).unwrap_or(u32::MAX);
        rate.count.div_ceil(seconds)
    });
    Settings {
        conntrack: conntrack_settings(&system.conntrack, own_timeouts(system, own)),
        icmp: IcmpSettings::new(per_second, icmp.burst, icmp.redirects),
    }
}

/// The timeouts that rules give to flows, by number; where they say nothing, those of the system file.
pub fn own_timeouts(system: &System, own: &TimeoutRegistry) -> Arc<[conntrack::Timeouts]> {
    own.list(&system.conntrack.timeouts).iter().map(timeouts).collect()
}

/// Sets what all workers share of the table: its limit, what of it is kept for the router, room to count sources.
/// `capacity`: flows that there can be.
pub fn share_out(budget: &FlowBudget, from: &config::Conntrack, capacity: u32) {
    budget.set_max(from.max);
    budget.set_buckets(from.buckets.unwrap_or(0));
    budget.set_reserve(from.reserve());
    if from.source_quota.is_some() {
        budget.count_sources(capacity);
    }
}

/// Makes room to count flows before a ruleset asks how many there are.
pub fn count_for(budget: &FlowBudget, ruleset: &Ruleset, capacity: u32) {
    if ruleset.counts_flows() {
        budget.count_connections(capacity);
    }
}

fn conntrack_settings(
    from: &config::Conntrack,
    own_timeouts: Arc<[conntrack::Timeouts]>,
) -> conntrack::Settings {
    conntrack::Settings {
        checksum: from.checksum,
        acct: from.acct,
        timestamp: from.timestamp,
        log_invalid: match from.log_invalid {
            config::LogInvalid::Off => conntrack::LogInvalid::default(),
            config::LogInvalid::Protocol(protocol) => conntrack::LogInvalid::of(Some(Protocol(protocol))),
            config::LogInvalid::All => conntrack::LogInvalid::of(None),
        },
        tcp_loose: from.tcp_loose,
        tcp_be_liberal: from.tcp_be_liberal,
        tcp_ignore_invalid_rst: from.tcp_ignore_invalid_rst,
        tcp_max_retrans: from.tcp_max_retrans,
        expect_max: from.expect_max.unwrap_or(EXPECT_MAX),
        frag_high_thresh: from.frag_high_thresh,
        timeouts: timeouts(&from.timeouts),
        own_timeouts,
        adaptive: from.adaptive.map(|adaptive| conntrack::Adaptive {
            start: adaptive.start.of(from.max),
            end: adaptive.end.of(from.max),
        }),
        source_quota: from.source_quota.map(|quota| conntrack::SourceQuota {
            max: quota.max,
            prefix_v4: quota.prefix_v4,
            prefix_v6: quota.prefix_v6,
        }),
    }
}

fn timeouts(from: &config::Timeouts) -> conntrack::Timeouts {
    let millis = Millis::from;
    conntrack::Timeouts {
        tcp: conntrack::TcpTimeouts {
            syn_sent: millis(from.tcp_syn_sent),
            syn_recv: millis(from.tcp_syn_recv),
            established: millis(from.tcp_established),
            fin_wait: millis(from.tcp_fin_wait),
            close_wait: millis(from.tcp_close_wait),
            last_ack: millis(from.tcp_last_ack),
            time_wait: millis(from.tcp_time_wait),
            close: millis(from.tcp_close),
            syn_sent2: millis(from.tcp_syn_sent2),
            max_retrans: millis(from.tcp_max_retrans),
            unacknowledged: millis(from.tcp_unacknowledged),
        },
        udp: millis(from.udp),
        udp_stream: millis(from.udp_stream),
        icmp: millis(from.icmp),
        icmpv6: millis(from.icmpv6),
        generic: millis(from.generic),
        gre: millis(from.gre),
        gre_stream: millis(from.gre_stream),
        sctp: conntrack::SctpTimeouts {
            closed: millis(from.sctp_closed),
            cookie_wait: millis(from.sctp_cookie_wait),
            cookie_echoed: millis(from.sctp_cookie_echoed),
            established: millis(from.sctp_established),
            shutdown_sent: millis(from.sctp_shutdown_sent),
            shutdown_recd: millis(from.sctp_shutdown_recd),
            shutdown_ack_sent: millis(from.sctp_shutdown_ack_sent),
            heartbeat_sent: millis(from.sctp_heartbeat_sent),
        },
        frag: millis(from.frag),
        frag6: millis(from.frag6),
    }
}
