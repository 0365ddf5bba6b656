//! The forwarding information base: longest prefix match for both families (RFC 1812 section 5.2.4.3).
//!
//! One look-up answers "is it for us?" and "by which next hop?": the router's own addresses and broadcast
//! addresses are in the same table, as the kernel's local table goes before its main one. Addresses of IPv6 link
//! scope are not in it: on which link they are is known by where a packet came from.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sluice_wire::Addrs;

use crate::ids::InterfaceId;
use crate::lpm::{Lpm, LpmKey};
use crate::world::interfaces::{Interfaces, broadcast};

/// A route as control knows it, whatever it came from (file, interface address, later netlink).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination prefix; host bits are zero.
    pub destination: IpAddr,
    /// Bits of the prefix.
    pub prefix_len: u8,
    /// What to do.
    pub kind: RouteKind,
    /// Of routes to one prefix, the lowest wins.
    pub metric: u32,
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Forward by one of these, chosen by the hash of both addresses in proportion to weight.
    Unicast(Vec<Hop>),
    /// Answer host unreachable (ICMPv6: no route is code 0, unreachable routes code 3).
    Unreachable,
    /// Answer communication administratively prohibited.
    Prohibit,
    /// Drop silently.
    Blackhole,
}

/// One way of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// Out by this interface.
    pub interface: InterfaceId,
    /// To this router; None: the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// Share among several, at least 1.
    pub weight: u16,
}

/// Where a destination leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// To the box itself.
    Local,
    /// To everyone on a link of ours, the box itself included.
    Broadcast,
    /// To a next hop.
    Via(Hop),
    /// To no one: answer host unreachable.
    Unreachable,
    /// To no one: answer administratively prohibited.
    Prohibit,
    /// To no one, silently.
    Blackhole,
}

/// Compiled routes: those given, and the connected ones that interface addresses imply.
#[derive(Clone, Debug, Default)]
pub struct Fib {
    v4: Lpm<u32>,
    v6: Lpm<u128>,
    /// By the number of a prefix.
    choices: Box<[Choice<TargetId>]>,
    /// Each once, whatever number of prefixes leads there.
    targets: Box<[Target]>,
    routes: Vec<Route>,
}

/// A target by its number among all that the routes lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TargetId(pub u32);

/// What a prefix leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice<T> {
    One(T),
    /// With the sum of the weights up to and including each.
    Several(Box<[(u32, T)]>),
}

/// An address as the table of its family is asked with it: `u32` or `u128`, in host order.
pub trait FibKey: LpmKey {
    /// The routes of its family.
    fn table(fib: &Fib) -> &Lpm<Self>;

    /// What it counts for where one of several hops is chosen.
    fn mixed(self) -> u64;
}

impl FibKey for u32 {
    #[inline(always)]
    fn table(fib: &Fib) -> &Lpm<u32> {
        &fib.v4
    }

    #[inline(always)]
    fn mixed(self) -> u64 {
        self.into()
    }
}

impl FibKey for u128 {
    #[inline(always)]
    fn table(fib: &Fib) -> &Lpm<u128> {
        &fib.v6
    }

    #[inline(always)]
    fn mixed(self) -> u64 {
        (self >> 64) as u64 ^ self as u64
    }
}

impl Fib {
    /// Compiles routes; connected routes of `interfaces` are added here, and win over others of the same metric.
    pub fn new(routes: &[Route], interfaces: &Interfaces) -> Fib {
        let mut all = connected(interfaces);
        all.extend_from_slice(routes);
        let mut table = Table::default();
        for (_, interface) in interfaces.iter() {
            for &(own, len) in &interface.addresses {
                table.offer(own, host_bits(own), 0, Choice::One(Target::Local));
                if let IpAddr::V4(v4) = own
                    && let Some(everyone) = broadcast(v4, len)
                {
                    table.offer(IpAddr::V4(everyone), 32, 0, Choice::One(Target::Broadcast));
                }
            }
            table.offer(IpAddr::V6(interface.link_local()), 128, 0, Choice::One(Target::Local));
        }
        for (address, len, target) in ALWAYS {
            table.offer(address, len, 0, Choice::One(target));
        }
        for route in &all {
            table.offer(route.destination, route.prefix_len, route.metric, Choice::of(&route.kind));
        }
        table.compile(all)
    }

    /// All routes, the connected ones first.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Where packets with these addresses go; None without a route. Groups have none: see
    /// [`crate::world::Interface::listens_to`].
    #[inline]
    pub fn route(&self, addrs: &Addrs) -> Option<Target> {
        self.target(self.route_id(addrs)?)
    }

    /// As [`Fib::route`], by number.
    #[inline]
    pub fn route_id(&self, addrs: &Addrs) -> Option<TargetId> {
        match *addrs {
            Addrs::V4 { src, dst } => self.route_id_of(src.to_bits(), dst.to_bits()),
            Addrs::V6 { src, dst } => self.route_id_of(src.to_bits(), dst.to_bits()),
        }
    }

    /// As [`Fib::route_id`], of addresses of one family.
    #[inline(always)]
    pub fn route_id_of<K: FibKey>(&self, src: K, dst: K) -> Option<TargetId> {
        match self.choices.get(K::table(self).lookup(dst)? as usize)? {
            Choice::One(target) => Some(*target),
            Choice::Several(hops) => spread(hops, src.mixed(), dst.mixed()),
        }
    }

    /// A target by its number.
    #[inline]
    pub fn target(&self, id: TargetId) -> Option<Target> {
        self.targets.get(id.0 as usize).copied()
    }

    /// How many targets there are; their numbers are below.
    pub fn targets(&self) -> usize {
        self.targets.len()
    }

    /// Whether packets to `address` would leave by `interface` (any, if None): the reverse path filter's
    /// question, asked with a source.
    pub fn reaches(&self, address: IpAddr, interface: Option<InterfaceId>) -> bool {
        let leaves = |id: &TargetId| match self.target(*id) {
            Some(Target::Via(hop)) => interface.is_none_or(|wanted| wanted == hop.interface),
            _ => false,
        };
        match self.choice(address) {
            Some(Choice::One(target)) => leaves(target),
            Some(Choice::Several(hops)) => hops.iter().any(|(_, hop)| leaves(hop)),
            None => false,
        }
    }

    #[inline]
    fn choice(&self, destination: IpAddr) -> Option<&Choice<TargetId>> {
        let number = match destination {
            IpAddr::V4(v4) => self.v4.lookup(u32::from(v4)),
            IpAddr::V6(v6) => self.v6.lookup(u128::from(v6)),
        };
        self.choices.get(number? as usize)
    }
}

/// Prefixes that mean the same on every router; the kernel has them in its local table.
const ALWAYS: [(IpAddr, u8, Target); 3] = [
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8, Target::Local),
    (IpAddr::V4(Ipv4Addr::BROADCAST), 32, Target::Broadcast),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128, Target::Local),
];

/// The routes that interface addresses imply. A host prefix implies none beside the address itself.
fn connected(interfaces: &Interfaces) -> Vec<Route> {
    let mut routes = Vec::new();
    for (id, interface) in interfaces.iter() {
        for &(own, len) in &interface.addresses {
            let destination = masked(own, len);
            let hop = Hop { interface: id, gateway: None, weight: 1 };
            let route =
                Route { destination, prefix_len: len, kind: RouteKind::Unicast(vec![hop]), metric: 0 };
            if len < host_bits(own) && !routes.contains(&route) {
                routes.push(route);
            }
        }
    }
    routes
}

/// `address` with the bits behind the prefix zeroed.
fn masked(address: IpAddr, len: u8) -> IpAddr {
    let len = u32::from(len);
    match address {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4) & !u32::MAX.checked_shr(len).unwrap_or(0))),
        IpAddr::V6(v6) => {
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & !u128::MAX.checked_shr(len).unwrap_or(0)))
        }
    }
}

/// The length of a prefix that is a single address.
const fn host_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Picks a hop by both addresses, so that all packets of a flow, its fragments and its other protocols
/// between two hosts take one path (Linux's default, `fib_multipath_hash_policy` 0).
#[inline(never)]
fn spread<T: Copy>(hops: &[(u32, T)], src: u64, dst: u64) -> Option<T> {
    let mixed = (src.rotate_left(32) ^ dst).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 32;
    let &(total, last) = hops.last()?;
    let point = (mixed * u64::from(total)) >> 32;
    let hop = hops.iter().find(|(upto, _)| point < u64::from(*upto)).map(|&(_, hop)| hop);
    Some(hop.unwrap_or(last))
}

impl Choice<Target> {
    fn of(kind: &RouteKind) -> Choice<Target> {
        match kind {
            RouteKind::Unreachable => Choice::One(Target::Unreachable),
            RouteKind::Prohibit => Choice::One(Target::Prohibit),
            RouteKind::Blackhole => Choice::One(Target::Blackhole),
            RouteKind::Unicast(hops) => match hops.as_slice() {
                [] => Choice::One(Target::Unreachable),
                [hop] => Choice::One(Target::Via(*hop)),
                several => {
                    let mut sum = 0;
                    let summed = several.iter().map(|hop| {
                        sum += u32::from(hop.weight.max(1));
                        (sum, Target::Via(*hop))
                    });
                    Choice::Several(summed.collect())
                }
            },
        }
    }
}

/// The best choice for each prefix, while the routes are gone through.
#[derive(Default)]
struct Table {
    best: BTreeMap<(IpAddr, u8), (u32, Choice<Target>)>,
}

impl Table {
    /// Of choices with the same metric, the first offered stays.
    fn offer(&mut self, address: IpAddr, len: u8, metric: u32, choice: Choice<Target>) {
        let len = len.min(host_bits(address));
        let best = self.best.entry((masked(address, len), len));
        best.and_modify(|held| {
            if metric < held.0 {
                *held = (metric, choice.clone());
            }
        })
        .or_insert((metric, choice));
    }

    fn compile(self, routes: Vec<Route>) -> Fib {
        let mut choices = Vec::with_capacity(self.best.len());
        let mut targets = Targets::default();
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for ((address, len), (_, choice)) in self.best {
            let number = u32::try_from(choices.len()).unwrap_or(u32::MAX);
            match address {
                IpAddr::V4(a) => v4.push((u32::from(a), len, number)),
                IpAddr::V6(a) => v6.push((u128::from(a), len, number)),
            }
            choices.push(match choice {
                Choice::One(target) => Choice::One(targets.number(target)),
                Choice::Several(hops) => {
                    Choice::Several(hops.iter().map(|(sum, hop)| (*sum, targets.number(*hop))).collect())
                }
            });
        }
        let (v4, v6) = (Lpm::build(v4), Lpm::build(v6));
        Fib { v4, v6, choices: choices.into(), targets: targets.list.into(), routes }
    }
}

/// Gives each target one number.
#[derive(Default)]
struct Targets {
    list: Vec<Target>,
    numbers: HashMap<Target, TargetId>,
}

impl Targets {
    fn number(&mut self, target: Target) -> TargetId {
        *self.numbers.entry(target).or_insert_with(|| {
            self.list.push(target);
            TargetId(u32::try_from(self.list.len() - 1).unwrap_or(u32::MAX))
        })
    }
}

#[cfg(test)]
mod tests {
    use sluice_wire::MacAddr;

    use super::*;
    use crate::ids::PortId;
    use crate::world::interfaces::{Interface, RpFilter};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn addrs(src: &str, dst: &str) -> Addrs {
        match (ip(src), ip(dst)) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Addrs::V4 { src, dst },
            (IpAddr::V6(src), IpAddr::V6(dst)) => Addrs::V6 { src, dst },
            _ => panic!("families differ"),
        }
    }

    fn interface(port: u16, addresses: &[(&str, u8)]) -> Interface {
        Interface {
            name: format!("p{port}"),
            port: PortId(port),
            vlan: None,
            mac: MacAddr([2, 0, 0, 0, port as u8, 1]),
            mtu: 1500,
            addresses: addresses.iter().map(|&(a, len)| (ip(a), len)).collect(),
            groups: vec![],
            kernel_addresses: false,
            rp_filter: RpFilter::Off,
        }
    }

    fn hop(interface: u16, gateway: Option<&str>) -> Hop {
        Hop { interface: InterfaceId(interface), gateway: gateway.map(ip), weight: 1 }
    }

    fn route(prefix: &str, metric: u32, kind: RouteKind) -> Route {
        let (address, len) = prefix.split_once('/').unwrap();
        Route { destination: ip(address), prefix_len: len.parse().unwrap(), kind, metric }
    }

    fn fib(routes: &[Route]) -> Fib {
        let interfaces = Interfaces::new(vec![
            interface(0, &[("10.1.0.1", 24), ("fd00:1::1", 64)]),
            interface(1, &[("10.2.0.1", 24), ("10.9.0.1", 32), ("fd00:2::1", 64)]),
        ]);
        Fib::new(routes, &interfaces)
    }

    #[test]
    fn the_longest_prefix_wins_and_own_addresses_before_all() {
        let fib = fib(&[
            route("0.0.0.0/0", 0, RouteKind::Unicast(vec![hop(1, Some("10.2.0.254"))])),
            route("10.2.0.128/25", 0, RouteKind::Unicast(vec![hop(0, Some("10.1.0.7"))])),
            route("198.51.100.0/24", 5, RouteKind::Blackhole),
            route("198.51.100.0/24", 3, RouteKind::Prohibit),
            route("198.51.100.0/24", 3, RouteKind::Unreachable),
            route("10.2.0.1/32", 0, RouteKind::Blackhole),
            route("2001:db8::/32", 0, RouteKind::Unreachable),
        ]);
        for (dst, expected) in [
            ("10.1.0.2", Some(Target::Via(hop(0, None)))),
            ("10.1.0.0", Some(Target::Via(hop(0, None)))),
            ("10.1.0.255", Some(Target::Broadcast)),
            ("10.2.0.1", Some(Target::Local)),
            ("10.9.0.1", Some(Target::Local)),
            ("127.9.9.9", Some(Target::Local)),
            ("10.2.0.200", Some(Target::Via(hop(0, Some("10.1.0.7"))))),
            ("8.8.8.8", Some(Target::Via(hop(1, Some("10.2.0.254"))))),
            ("198.51.100.9", Some(Target::Prohibit)),
        ] {
            assert_eq!(fib.route(&addrs("10.1.0.9", dst)), expected, "{dst}");
        }
        for (dst, expected) in [
            ("fd00:2::9", Some(Target::Via(hop(1, None)))),
            ("fd00:2::1", Some(Target::Local)),
            ("::1", Some(Target::Local)),
            ("fe80::ff:fe00:101", Some(Target::Local)),
            ("fe80::9", None),
            ("2001:db8::1", Some(Target::Unreachable)),
            ("2001:db9::1", None),
        ] {
            assert_eq!(fib.route(&addrs("fd00:1::9", dst)), expected, "{dst}");
        }
    }

    #[test]
    fn several_ways_share_by_weight_and_keep_a_pair_of_hosts_together() {
        let mut ways = vec![hop(0, Some("10.1.0.7")), hop(1, Some("10.2.0.7"))];
        ways[1].weight = 3;
        let fib = fib(&[route("0.0.0.0/0", 0, RouteKind::Unicast(ways.clone()))]);
        let mut by_second = 0;
        for n in 0..4000u32 {
            let pair =
                Addrs::V4 { src: Ipv4Addr::from(0x0a01_0002 + n), dst: Ipv4Addr::from(0x0808_0000 + n * 7) };
            let target = fib.route(&pair);
            assert_eq!(target, fib.route(&pair));
            by_second += u32::from(target == Some(Target::Via(ways[1])));
        }
        assert!((2800..3200).contains(&by_second), "{by_second} of 4000 by a hop of weight 3 in 4");
    }

    #[test]
    fn reverse_path() {
        let fib = fib(&[
            route("198.51.100.0/24", 0, RouteKind::Unicast(vec![hop(0, Some("10.1.0.7")), hop(1, None)])),
            route("203.0.113.0/24", 0, RouteKind::Unreachable),
        ]);
        for (source, interface, expected) in [
            ("10.1.0.2", Some(0), true),
            ("10.1.0.2", Some(1), false),
            ("10.1.0.2", None, true),
            ("198.51.100.1", Some(1), true),
            ("203.0.113.1", None, false),
            ("8.8.8.8", None, false),
            ("10.1.0.1", Some(0), false),
        ] {
            assert_eq!(
                fib.reaches(ip(source), interface.map(InterfaceId)),
                expected,
                "{source} {interface:?}"
            );
        }
    }
}
