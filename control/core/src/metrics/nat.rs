//! How much of what translations may give is in use, as it was counted last ([`crate::nat_pools`]), and for how many packets
//! nothing was left.

use super::family::Family;
use crate::control::Control;
use crate::lock::locked;
use crate::nat_pools::{self, Used};

/// A value of a pool.
type Field = fn(&Used) -> f64;

/// Families of translation.
pub(super) fn pools(control: &Control, families: &mut Vec<Family>) {
    let found = locked(&control.pool_use).clone();
    let fields: [(&str, &str, Field); 2] = [
        (
            "nat_pool_ports",
            "Ports (of ICMP: identifiers) of all addresses that a rule gives to sources.",
            |used| used.ports,
        ),
        ("nat_pool_ports_used", "Different ports of a pool that live flows have.", |used| used.used as f64),
    ];
    for (name, help, field) in fields {
        let mut family = Family::gauge(name, help);
        for used in &found.pools {
            let labels = [
                ("pool", used.pool.as_str()),
                ("interface", &used.interface),
                ("family", used.family),
                ("protocol", used.protocol),
            ];
            family.add(&labels, field(used));
        }
        families.push(family);
    }
    let help = "Packets dropped because a rule that gives sources had no free port for their flow.";
    let mut exhausted = Family::counter("nat_pool_exhausted_total", help);
    for (pool, packets) in nat_pools::exhausted(&control.publisher.world()) {
        exhausted.add(&[("pool", &pool)], packets as f64);
    }
    families.push(exhausted);
    let gauges = [
        (
            "nat_uncounted_flows",
            "Flows whose ports are not counted, since they have too many different addresses.",
            found.uncounted as f64,
        ),
        (
            "nat_reservations",
            "Answers to flows that workers have told each other of; 0 with one worker.",
            found.reservations as f64,
        ),
        (
            "nat_counted_timestamp_seconds",
            "When the use of ports was counted last; 0 while nothing is translated.",
            found.time,
        ),
    ];
    families.extend(gauges.map(|(name, help, value)| Family::gauge(name, help).with(value)));
}
