//! From the system file to what the engine runs on; and what of it can change while it runs.

use std::sync::Arc;

use sluice_compiler::{TimeoutRegistry, topology};
use sluice_config::System;
use sluice_config::system::{self as config, Device};
use sluice_engine::conntrack::{self, FlowBudget};
use sluice_engine::ids::{InterfaceId, Millis, PortId};
use sluice_engine::ruleset::Ruleset;
use sluice_engine::world::{IcmpSettings, Interfaces, NeighbourKey, Settings};
use sluice_wire::{MacAddr, Protocol};

/// Expectations at once, where the file does not say: the kernel's number for as many buckets as it has by default.
const EXPECT_MAX: u32 = 4096;

/// A device of the system file with what is on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan {
    /// The device.
    pub device: Device,
    /// The largest MTU of its interfaces.
    pub mtu: u16,
    /// A MAC address in place of the device's own.
    pub mac: Option<MacAddr>,
    /// Its interfaces in the order of the file; never empty.
    pub interfaces: Vec<(InterfaceId, String)>,
    /// Those of them that have a tap for local traffic: those with addresses.
    pub taps: Vec<(InterfaceId, String)>,
}

/// The devices of a system file in the order in which they first occur: the data plane numbers its ports so.
pub fn ports(system: &System) -> Vec<PortPlan> {
    let mut ports: Vec<PortPlan> = Vec::new();
    for (id, interface) in numbered(system) {
        let found = ports.iter().position(|port| port.device == interface.device);
        let at = found.unwrap_or_else(|| {
            let device = interface.device.clone();
            ports.push(PortPlan { device, mtu: 0, mac: None, interfaces: Vec::new(), taps: Vec::new() });
            ports.len() - 1
        });
        if let Some(port) = ports.get_mut(at) {
            port.mtu = port.mtu.max(interface.mtu);
            port.mac = port.mac.or(interface.mac);
            port.interfaces.push((id, interface.name.clone()));
            if !interface.addresses.is_empty() {
                port.taps.push((id, interface.name.clone()));
            }
        }
    }
    ports
}

/// The interfaces, on ports with these MAC addresses (by [`PortId`]).
pub fn interfaces(system: &System, macs: &[MacAddr]) -> Interfaces {
    let ports = ports(system);
    topology::interfaces(system, |interface| {
        let place = ports.iter().position(|port| port.device == interface.device).unwrap_or(0);
        let mac = interface.mac.or(macs.get(place).copied()).unwrap_or(MacAddr::ZERO);
        (PortId(u16::try_from(place).unwrap_or(u16::MAX)), mac)
    })
}

/// The neighbours that the file gives.
pub fn neighbours(system: &System) -> Vec<(NeighbourKey, MacAddr)> {
    let key = |neighbour: &config::Neighbour| {
        Some(NeighbourKey { interface: interface_id(system, &neighbour.dev)?, address: neighbour.address })
    };
    system.neighbours.iter().filter_map(|neighbour| Some((key(neighbour)?, neighbour.mac))).collect()
}

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

/// Sets what all workers share of the table: its limit, what of it is kept for the router, room to count sources.
pub(crate) fn share_out(budget: &FlowBudget, from: &config::Conntrack, capacity: u32) {
    budget.set_max(from.max);
    budget.set_buckets(from.buckets.unwrap_or(0));
    budget.set_reserve(from.reserve());
    if from.source_quota.is_some() {
        budget.count_sources(capacity);
    }
}

/// Makes room to count flows before a ruleset asks how many there are.
pub(crate) fn count_for(budget: &FlowBudget, ruleset: &Ruleset, capacity: u32) {
    if ruleset.counts_flows() {
        budget.count_connections(capacity);
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

/// Keys of the file that differ, in its order: first those that are in force after a reload, then those that need a
/// restart.
pub fn differences(old: &System, new: &System) -> (Vec<String>, Vec<String>) {
    let mut changed = Vec::new();
    let mut restart = Vec::new();
    let note = |list: &mut Vec<String>, differs: bool, key: &str| {
        if differs {
            list.push(key.to_owned());
        }
    };
    note(&mut restart, old.workers != new.workers, "workers");
    note(&mut restart, old.memory != new.memory, "memory");
    let names = |system: &System| system.interfaces.iter().map(|i| i.name.clone()).collect::<Vec<_>>();
    if names(old) == names(new) {
        for (old, new) in old.interfaces.iter().zip(&new.interfaces) {
            let key = |field: &str| format!("interfaces.{}.{field}", new.name);
            note(&mut restart, old.device != new.device, &key("device"));
            note(&mut restart, old.mtu != new.mtu, &key("mtu"));
            note(&mut restart, old.vlan != new.vlan, &key("vlan"));
            note(&mut restart, old.mac != new.mac, &key("mac"));
            // With its first address an interface needs a tap, which is made where devices are.
            let first = old.addresses.is_empty() && !new.addresses.is_empty();
            let list = if first { &mut restart } else { &mut changed };
            note(list, old.addresses != new.addresses, &key("addresses"));
            note(&mut changed, old.rp_filter != new.rp_filter, &key("rp_filter"));
        }
    } else {
        note(&mut restart, true, "interfaces");
    }
    note(&mut changed, topology::routes(old) != topology::routes(new), "routes");
    note(&mut changed, neighbours(old) != neighbours(new), "neighbours");
    note(&mut changed, old.conntrack != new.conntrack, "conntrack");
    note(&mut changed, old.icmp != new.icmp, "icmp");
    note(&mut restart, old.control != new.control, "control");
    note(&mut changed, old.policy != new.policy, "policy");
    note(&mut restart, old.state != new.state, "state");
    (changed, restart)
}

fn numbered(system: &System) -> impl Iterator<Item = (InterfaceId, &config::Interface)> {
    (0..).map(InterfaceId).zip(&system.interfaces)
}

fn interface_id(system: &System, name: &str) -> Option<InterfaceId> {
    numbered(system).find(|(_, interface)| interface.name == name).map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use sluice_engine::world::{Hop, RouteKind};

    use super::*;

    const FILE: &str = r#"
workers: {count: 2}
interfaces:
  wan: {device: "kernel:eth0", addresses: [203.0.113.2/24, "2001:db8::2/64"], rp_filter: strict}
  lan: {device: "kernel:eth1", addresses: [10.0.0.1/24], mtu: 9000}
  voice: {device: "kernel:eth1", vlan: 7}
routes:
  - {to: default, via: 203.0.113.1}
  - {to: 192.0.2.0/24, type: blackhole}
neighbours:
  - {address: 10.0.0.9, mac: "02:00:00:00:00:09"}
conntrack: {timeouts: {udp: 45s}}
icmp: {ratelimit: 600/minute, burst: 5}
"#;

    fn parse(text: &str) -> System {
        System::parse("sluice.yaml", text).unwrap_or_else(|errors| panic!("{errors}")).0
    }

    #[test]
    fn vlans_share_the_port_of_their_device() {
        let ports = ports(&parse(FILE));
        assert_eq!(ports.len(), 2);
        assert_eq!((ports[1].mtu, ports[1].interfaces.len(), ports[1].taps.len()), (9000, 2, 1));
        let macs = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
        let interfaces = interfaces(&parse(FILE), &macs);
        let voice = interfaces.get(InterfaceId(2)).unwrap();
        assert_eq!((voice.port, voice.vlan, voice.mac), (PortId(1), Some(7), macs[1]));
    }

    #[test]
    fn what_the_engine_gets_is_what_the_file_says() {
        let system = parse(FILE);
        let routes = topology::routes(&system);
        let hop = Hop { interface: InterfaceId(0), gateway: Some("203.0.113.1".parse().unwrap()), weight: 1 };
        assert_eq!(routes[0].kind, RouteKind::Unicast(vec![hop]));
        assert_eq!((routes[0].prefix_len, &routes[1].kind), (0, &RouteKind::Blackhole));
        let settings = settings(&system, &TimeoutRegistry::default());
        assert_eq!(settings.conntrack.timeouts.udp, Millis::from_secs(45));
        assert_eq!((settings.icmp.ratelimit, settings.icmp.burst), (Some(10), 5));
        let key = NeighbourKey { interface: InterfaceId(1), address: "10.0.0.9".parse().unwrap() };
        assert_eq!(neighbours(&system), [(key, MacAddr([2, 0, 0, 0, 0, 9]))]);
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let cases: [(&str, &str, &[&str], &[&str]); 8] = [
            ("udp: 45s", "udp: 46s", &["conntrack"], &[]),
            ("rp_filter: strict", "rp_filter: off", &["interfaces.wan.rp_filter"], &[]),
            ("[10.0.0.1/24]", "[10.0.0.1/24, 10.0.1.1/24]", &["interfaces.lan.addresses"], &[]),
            ("vlan: 7", "vlan: 7, addresses: [10.7.0.1/24]", &[], &["interfaces.voice.addresses"]),
            ("vlan: 7", "vlan: 8", &[], &["interfaces.voice.vlan"]),
            ("mtu: 9000", "mtu: 1500", &[], &["interfaces.lan.mtu"]),
            ("count: 2", "count: 1", &[], &["workers"]),
            ("  voice:", "  speech:", &[], &["interfaces"]),
        ];
        for (from, to, changed, restart) in cases {
            let found = differences(&parse(FILE), &parse(&FILE.replace(from, to)));
            assert_eq!((found.0, found.1), (strings(changed), strings(restart)), "{from} → {to}");
        }
        assert_eq!(differences(&parse(FILE), &parse(FILE)), (vec![], vec![]));
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }
}
