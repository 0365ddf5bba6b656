//! From the system file to what the engine runs on; and what of it can change while it runs.

pub(crate) use sluice_compiler::settings::{count_for, share_out};
pub use sluice_compiler::settings::{own_timeouts, settings};
use sluice_compiler::topology;
use sluice_config::System;
use sluice_config::system::{self as config, Device};
use sluice_engine::ids::{InterfaceId, PortId};
use sluice_engine::world::{Interfaces, NeighbourKey};
use sluice_wire::MacAddr;

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
            if interface.has_tap() {
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
            // With its first address an interface needs a tap, which is made where devices are. A tap that is the
            // kernel's from now on would keep addresses that nobody there knows of.
            let first = !old.has_tap() && new.has_tap();
            let others = old.kernel_addresses != new.kernel_addresses;
            let list = if first || others { &mut restart } else { &mut changed };
            note(list, others || old.addresses != new.addresses, &key("addresses"));
            note(&mut changed, old.rp_filter != new.rp_filter, &key("rp_filter"));
        }
    } else {
        note(&mut restart, true, "interfaces");
    }
    note(&mut changed, topology::routes(old) != topology::routes(new), "routes");
    note(&mut changed, old.kernel_routes != new.kernel_routes, "kernel_routes");
    note(&mut changed, neighbours(old) != neighbours(new), "neighbours");
    note(&mut changed, old.conntrack != new.conntrack, "conntrack");
    note(&mut changed, old.icmp != new.icmp, "icmp");
    note(&mut changed, old.ipfix != new.ipfix, "ipfix");
    let local = |system: &System| (system.control.api.clone(), system.control.metrics, system.control.page);
    note(&mut restart, local(old) != local(new), "control");
    note(&mut changed, old.control.remote != new.control.remote, "control.remote");
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
    use sluice_compiler::TimeoutRegistry;
    use sluice_engine::ids::Millis;
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
        let cases: [(&str, &str, &[&str], &[&str]); 11] = [
            ("udp: 45s", "udp: 46s", &["conntrack"], &[]),
            ("rp_filter: strict", "rp_filter: off", &["interfaces.wan.rp_filter"], &[]),
            ("[10.0.0.1/24]", "[10.0.0.1/24, 10.0.1.1/24]", &["interfaces.lan.addresses"], &[]),
            ("vlan: 7", "vlan: 7, addresses: [10.7.0.1/24]", &[], &["interfaces.voice.addresses"]),
            ("vlan: 7", "vlan: 8", &[], &["interfaces.voice.vlan"]),
            ("mtu: 9000", "mtu: 1500", &[], &["interfaces.lan.mtu"]),
            ("count: 2", "count: 1", &[], &["workers"]),
            ("routes:", "control: {remote: {listen: \"[::1]:9844\"}}\nroutes:", &["control.remote"], &[]),
            ("routes:", "ipfix: {collector: \"[::1]:4739\"}\nroutes:", &["ipfix"], &[]),
            ("routes:", "control: {metrics: off}\nroutes:", &[], &["control"]),
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
