//! Multicast groups that programs on the box joined on the taps: OSPF, mDNS and the like. Workers deliver what is sent to
//! them, and drop other multicast.
//!
//! Read from `/proc/net`, which has no notifications, every few seconds: a routing protocol's hellos are as far apart.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use sluice_engine::world::{Interface, Interfaces};

use crate::control::Control;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// Groups by the interface's name, in order.
type Groups = BTreeMap<String, Vec<IpAddr>>;

/// Keeps the workers' groups as the kernel has them, until the runtime ends.
pub async fn follow(control: Arc<Control>) {
    loop {
        let joined = read();
        let world = control.publisher.world();
        let differs = |interface: &Interface| {
            joined.get(&interface.name).map_or(&[][..], Vec::as_slice) != interface.groups
        };
        if world.interfaces.iter().any(|(_, interface)| differs(interface)) {
            let change =
                |world: &mut sluice_engine::World| world.interfaces = with_groups(&world.interfaces, &joined);
            if let Err(error) = control.publisher.publish(change).await {
                tracing::error!(%error, "multicast groups could not be published");
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The same interfaces with the groups that are joined now.
pub(crate) fn with_groups(interfaces: &Interfaces, joined: &Groups) -> Arc<Interfaces> {
    let list = interfaces.iter().map(|(_, interface)| {
        let groups = joined.get(&interface.name).cloned().unwrap_or_default();
        Interface { groups, ..interface.clone() }
    });
    Arc::new(Interfaces::new(list.collect()))
}

/// All groups of all links.
pub(crate) fn read() -> Groups {
    let file =
        |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    let mut groups = Groups::new();
    for (name, group) in parse_igmp(&file("igmp")).chain(parse_igmp6(&file("igmp6"))) {
        groups.entry(name.to_owned()).or_default().push(group);
    }
    for list in groups.values_mut() {
        list.sort();
    }
    groups
}

/// A line for each link, under it an indented one for each group: its address in hexadecimal, in the byte order of the
/// machine.
fn parse_igmp(text: &str) -> impl Iterator<Item = (&str, IpAddr)> {
    let mut link = None;
    text.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_whitespace();
        if !line.starts_with('\t') {
            link = words.nth(1);
            return None;
        }
        let bits = u32::from_str_radix(words.next()?, 16).ok()?;
        Some((link?, IpAddr::V4(Ipv4Addr::from(bits.to_ne_bytes()))))
    })
}

/// A line for each group: the link's number, its name, the address in hexadecimal.
fn parse_igmp6(text: &str) -> impl Iterator<Item = (&str, IpAddr)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let link = words.next()?;
        let bits = u128::from_str_radix(words.next()?, 16).ok()?;
        Some((link, IpAddr::V6(Ipv6Addr::from_bits(bits))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_as_the_kernel_shows_them() {
        let igmp = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
            1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n\
            5\tlan0      :     2      V3\n\t\t\t\t050000E0     1 0:00000000\t\t0\n\t\t\t\t010000E0     1 0:00000000\t\t0\n";
        let found: Vec<_> = parse_igmp(igmp).map(|(link, group)| format!("{link} {group}")).collect();
        assert_eq!(found, ["lo 224.0.0.1", "lan0 224.0.0.5", "lan0 224.0.0.1"]);
        let igmp6 = "1    lo              ff020000000000000000000000000001     1 0000000C 0\n\
            5    lan0            ff0200000000000000000001ff000001     1 00000004 0\nnonsense\n";
        let found: Vec<_> = parse_igmp6(igmp6).map(|(link, group)| format!("{link} {group}")).collect();
        assert_eq!(found, ["lo ff02::1", "lan0 ff02::1:ff00:1"]);
    }
}
