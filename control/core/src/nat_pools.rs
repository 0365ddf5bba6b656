//! How much of the ports that sources may be given is in use, for `/metrics`.
//!
//! Nothing is counted where flows are made: that would cost every translated flow something, and several rules may give the
//! same ports. Instead all flows are walked through now and then, a few at a time with a [`PAUSE`] between, as `sluice show
//! nat` does without, and the next walk begins [`REST`] times as long after it as it took.
//!
//! A pool is what a rule gives: of `snat` its addresses, of `masquerade` those of one interface that its packets may leave
//! by. `snat` to a prefix is none, since there every source has one of its own. One port serves flows to any number of
//! destinations, so that a pool with all ports in use still takes flows to others; but from there on some are refused. Those are
//! counted by the workers, rule by rule, as they find none.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use sluice_engine::conntrack::{FlowFilter, Status};
use sluice_engine::ruleset::{RuleId, RuleInfo, Translate};
use sluice_engine::world::World;
use sluice_wire::Protocol;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::control::{Control, unix_time};
use crate::flows::{Task, Translations, Walk};
use crate::lock::locked;
use crate::workers::WorkerError;

/// Pools that are told; those of further rules are not, so that metrics stay few whatever the policy.
pub(crate) const MOST: usize = 256;

/// Between two steps of a walk, each of which is some 20 µs of a worker's time: 1 % of it.
const PAUSE: Duration = Duration::from_millis(2);

/// How much longer than the walk the rest behind it is.
const REST: u32 = 3;

/// The shortest rest, and the longest.
const RESTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Ports that are looked for where a rule names none (`docs/nat.md`, "Which port"); lower ones are given to who has such.
const PORTS: (u16, u16) = (1024, u16::MAX);

/// What was found at the last walk.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolUse {
    /// A line for each pool and protocol.
    pub(crate) pools: Vec<Used>,
    /// Flows that were translated to more addresses than there is room to count.
    pub(crate) uncounted: u64,
    /// Answers that workers have reserved of each other ([`sluice_engine::conntrack::Reservations`]).
    pub(crate) reservations: u64,
    /// When that was, in seconds since 1970; 0: never, since nothing is translated.
    pub(crate) time: f64,
}

/// How much of a pool is in use for one protocol.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Used {
    /// The rule's name, else its chain and place.
    pub(crate) pool: String,
    /// The interface whose addresses it gives, of `masquerade`.
    pub(crate) interface: String,
    pub(crate) family: &'static str,
    pub(crate) protocol: &'static str,
    /// Ports, or ICMP identifiers, of all addresses.
    pub(crate) ports: f64,
    /// Those in use.
    pub(crate) used: u64,
}

/// What one rule gives.
#[derive(Clone, Debug, PartialEq)]
struct Pool {
    rule: String,
    interface: String,
    /// Both included, of one family.
    addresses: Vec<(IpAddr, IpAddr)>,
    ports: Option<(u16, u16)>,
    of: Of,
}

/// Whose a pool's addresses are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Of {
    /// The rule's: all of them.
    Rule,
    /// An interface's, of which only some are lent.
    Interface,
    /// Those of IPv6 that stand for these in flows to IPv4 hosts.
    Ipv4((Ipv4Addr, Ipv4Addr)),
}

impl Control {
    /// Counts again and again; ends with the daemon, or when a worker does.
    pub(crate) async fn follow_pools(self: Arc<Self>) {
        loop {
            let begun = Instant::now();
            match self.count_pools().await {
                Ok(found) => *locked(&self.pool_use) = found,
                Err(error) => tracing::warn!(%error, "use of translated ports could not be counted"),
            }
            sleep((begun.elapsed() * REST).clamp(RESTS.0, RESTS.1)).await;
        }
    }

    async fn count_pools(&self) -> Result<PoolUse, WorkerError> {
        let world = self.publisher.world();
        let pools = pools(&world);
        if pools.is_empty() && !world.ruleset.translates() {
            return Ok(PoolUse::default());
        }
        let mut counted = Translations::default();
        let translated = FlowFilter { status: Status::SNAT, ..FlowFilter::default() };
        let mut walk = Walk::new(Arc::clone(&self.workers), Task::List, translated);
        while let Some((_, batch)) = walk.next().await? {
            batch.iter().for_each(|flow| counted.count(flow));
            sleep(PAUSE).await;
        }
        let reservations = Arc::clone(self.publisher.reservations());
        // Hundreds of megabytes where there are millions of flows.
        let reservations = spawn_blocking(move || reservations.count()).await.unwrap_or_default();
        let pools = pools.iter().flat_map(|pool| pool.used(&counted)).collect();
        Ok(PoolUse { pools, uncounted: counted.left_out(), reservations, time: unix_time() })
    }
}

/// The pools of the running policy, in the order of its rules.
fn pools(world: &World) -> Vec<Pool> {
    let mut pools = Vec::new();
    for (id, how) in world.ruleset.source_translations() {
        let Some(info) = world.ruleset.rules().get(id.0 as usize) else { continue };
        match how {
            Translate::Snat(range) => {
                let addresses = range.addresses.filter(|_| range.prefix.is_none());
                pools.extend(addresses.map(|addresses| Pool {
                    rule: label(info),
                    interface: String::new(),
                    addresses: vec![addresses],
                    ports: range.ports,
                    of: Of::Rule,
                }));
            }
            Translate::Blocks(blocks) => pools.push(Pool {
                rule: label(info),
                interface: String::new(),
                addresses: vec![blocks.addresses()],
                ports: Some(blocks.ports()),
                of: Of::Rule,
            }),
            Translate::Nat64(nat64) => pools.push(Pool {
                rule: label(info),
                interface: String::new(),
                addresses: vec![nat64.addresses()],
                ports: Some(nat64.ports()),
                of: Of::Ipv4(nat64.pool()),
            }),
            Translate::Masquerade(range) => {
                let left =
                    world.interfaces.iter().filter(|(egress, _)| world.ruleset.may_leave_by(id, *egress));
                for (_, interface) in left {
                    let own = interface.addresses.iter().map(|&(address, _)| (address, address));
                    let (v4, v6): (Vec<_>, Vec<_>) = own.partition(|(address, _)| address.is_ipv4());
                    pools.extend([v4, v6].into_iter().filter(|own| !own.is_empty()).map(|addresses| Pool {
                        rule: label(info),
                        interface: interface.name.clone(),
                        addresses,
                        ports: range.ports,
                        of: Of::Interface,
                    }));
                }
            }
            Translate::Dnat(_) | Translate::Redirect(_) => {}
        }
        if pools.len() >= MOST {
            break;
        }
    }
    pools.truncate(MOST);
    pools
}

/// Packets for whose flows a rule that gives sources had no free port, by its label as that of a pool.
pub(crate) fn exhausted(world: &World) -> Vec<(String, u64)> {
    let of = |rule: RuleId| {
        Some((label(world.ruleset.rules().get(rule.0 as usize)?), world.ruleset.exhausted(rule)))
    };
    world.ruleset.source_translations().filter_map(|(rule, _)| of(rule)).take(MOST).collect()
}

fn label(rule: &RuleInfo) -> String {
    rule.name.as_deref().map_or_else(|| format!("{} {}", rule.chain, rule.index), str::to_owned)
}

impl Pool {
    /// Its use, protocol by protocol.
    fn used(&self, counted: &Translations) -> Vec<Used> {
        let is_v4 = self.addresses.first().is_some_and(|(first, _)| first.is_ipv4());
        let is_nat64 = matches!(self.of, Of::Ipv4(_));
        let icmp = if is_v4 { Protocol::ICMP } else { Protocol::ICMPV6 };
        let among = self.ports.unwrap_or(PORTS);
        // A rule that names ports does not hold for protocols without, but for NAT64's.
        let identifiers = match self.ports {
            None => Some((0, u16::MAX)),
            ports => ports.filter(|_| is_nat64),
        };
        let identifiers = identifiers.map(|among| ("icmp", icmp, among));
        let protocols = [("tcp", Protocol::TCP, among), ("udp", Protocol::UDP, among)];
        let protocols = protocols.into_iter().chain(identifiers);
        let of_protocol = |(name, protocol, among): (&'static str, Protocol, (u16, u16))| {
            let found = self.addresses.iter().map(|of| counted.used(protocol, *of, among));
            let (addresses, used) = found.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
            let addresses = if self.of == Of::Interface { addresses.max(1) as f64 } else { self.width() };
            Used {
                pool: self.rule.clone(),
                interface: self.interface.clone(),
                family: if is_v4 || is_nat64 { "ipv4" } else { "ipv6" },
                protocol: name,
                ports: addresses * (f64::from(among.1) - f64::from(among.0) + 1.0),
                used,
            }
        };
        protocols.map(of_protocol).collect()
    }

    /// How many addresses it has.
    fn width(&self) -> f64 {
        let one = |(first, last): &(IpAddr, IpAddr)| match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                f64::from(last.to_bits()) - f64::from(first.to_bits()) + 1.0
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                last.to_bits().wrapping_sub(first.to_bits()) as f64 + 1.0
            }
            _ => 0.0,
        };
        match self.of {
            Of::Ipv4((first, last)) => one(&(first.into(), last.into())),
            Of::Rule | Of::Interface => self.addresses.iter().map(one).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(first: &str, last: &str, ports: Option<(u16, u16)>, of: Of) -> Pool {
        let addresses = vec![(first.parse().unwrap(), last.parse().unwrap())];
        Pool { rule: "out".into(), interface: String::new(), addresses, ports, of }
    }

    #[test]
    fn a_pool_is_as_large_as_its_addresses_and_ports() {
        let nat64 = Of::Ipv4((Ipv4Addr::new(192, 0, 2, 0), Ipv4Addr::new(192, 0, 2, 3)));
        let cases = [
            (pool("192.0.2.0", "192.0.2.3", None, Of::Rule), ("ipv4", 4.0 * 64_512.0, Some(4.0 * 65_536.0))),
            (pool("192.0.2.9", "192.0.2.9", Some((5000, 5099)), Of::Rule), ("ipv4", 100.0, None)),
            (pool("2001:db8::", "2001:db8::ff", Some((1, 2)), Of::Rule), ("ipv6", 512.0, None)),
            (pool("192.0.2.1", "192.0.2.1", None, Of::Interface), ("ipv4", 64_512.0, Some(65_536.0))),
            (
                pool("64:ff9b::c000:200", "64:ff9b::c000:203", Some((1, 100)), nat64),
                ("ipv4", 400.0, Some(400.0)),
            ),
        ];
        for (pool, (family, ports, identifiers)) in cases {
            let used = pool.used(&Translations::default());
            let of = |protocol| used.iter().find(|used| used.protocol == protocol).map(|used| used.ports);
            assert_eq!(
                (of("tcp"), of("udp"), of("icmp")),
                (Some(ports), Some(ports), identifiers),
                "{pool:?}"
            );
            assert!(used.iter().all(|used| used.family == family && used.used == 0), "{used:?}");
        }
    }
}
