//! `/metrics` in the Prometheus text format: workers' plain counters, summed and named when someone asks.
//!
//! Names and labels are a contract with dashboards and alerts. Every packet received ends in exactly one of
//! `sluice_{forwarded,delivered,answered,consumed}_packets_total` and `sluice_drops_total`, or is in
//! `sluice_held_packets`. No label holds an address, a port or anything else that the network says, so that their number
//! is bounded by the configuration (`docs/metrics.md`, "How many"). Counters are read one after the other while workers count on, so that sums of a busy router
//! agree to within the packets of that moment.

mod family;
mod ipfix;
mod nat;
mod remote;
mod server;
mod workers;

use std::sync::Arc;

use prometheus::proto::MetricFamily;
use sluice_engine::conntrack::CLASSES;
use sluice_engine::counters::{ConntrackCounters, Counter, InterfaceCounters, WorkerCounters};
use sluice_engine::ids::InterfaceId;
use sluice_engine::ruleset::RuleId;
use sluice_engine::verdict::DropReason;
use sluice_engine::world::World;

use crate::control::Control;
use crate::lock::locked;
use family::Family;

#[cfg(test)]
pub(crate) use server::text;
pub use server::{MetricsError, MetricsServer, serve};

/// A value of one interface or worker.
type Field<T> = fn(&T) -> &Counter;

/// A value that a device tells.
type DeviceField = fn(&sluice_api::Port) -> u64;

/// Counters of one worker by drop reason.
type Drops = fn(&WorkerCounters) -> &[Counter];

/// Rules that are told, so that a policy of a hundred thousand named rules does not choke whoever asks.
const MOST_RULES: usize = 10_000;

/// A family's name, its help, and where its value is.
type Row<F> = (&'static str, &'static str, F);

/// All families, as they are now.
pub(crate) fn collect(control: &Control) -> Vec<MetricFamily> {
    let world = control.publisher.world();
    let mut families = Vec::new();
    interfaces(control, &world, &mut families);
    devices(control, &world, &mut families);
    packets(control, &mut families);
    conntrack(control, &mut families);
    rules(&world, &mut families);
    nat::pools(control, &mut families);
    workers::collect(control, &mut families);
    policy(control, &world, &mut families);
    neighbours(control, &mut families);
    ipfix::ipfix(control, &mut families);
    remote::remote(control, &mut families);
    families.into_iter().map(Family::finish).collect()
}

fn interfaces(control: &Control, world: &World, families: &mut Vec<Family>) {
    let fields: [(&str, &str, &str, Field<InterfaceCounters>); 9] = [
        ("rx_packets", "queue", "Packets received from the wire.", |c| &c.rx_packets),
        ("rx_bytes", "queue", "Bytes received, Ethernet header included.", |c| &c.rx_bytes),
        ("tx_packets", "queue", "Packets sent to the wire, of whatever origin.", |c| &c.tx_packets),
        ("tx_bytes", "queue", "Bytes sent, Ethernet header included.", |c| &c.tx_bytes),
        ("forwarded_packets", "worker", "Packets received here and sent to a next hop.", |c| &c.forwarded),
        ("delivered_packets", "worker", "Packets received here and handed to the box's own sockets.", |c| {
            &c.delivered
        }),
        (
            "answered_packets",
            "worker",
            "Packets received here, dropped and answered with an error or a reset.",
            |c| &c.answered,
        ),
        ("consumed_packets", "worker", "Packets received here and used up: ARP, neighbour discovery.", |c| {
            &c.consumed
        }),
        ("local_tx_packets", "worker", "Packets of the box itself sent out by this interface.", |c| {
            &c.local_tx
        }),
    ];
    for (name, label, help, field) in fields {
        let mut family = Family::counter(&format!("{name}_total"), help);
        for (InterfaceId(id), interface) in world.interfaces.iter() {
            for (worker, counters) in control.counters.iter().enumerate() {
                let value = counters.interfaces.get(usize::from(id)).map_or(0, |c| field(c).get());
                family.add(&[("interface", &interface.name), (label, &worker.to_string())], value as f64);
            }
        }
        families.push(family);
    }
}

fn devices(control: &Control, world: &World, families: &mut Vec<Family>) {
    let ports = control.devices.ports();
    let fields: [Row<DeviceField>; 4] = [
        ("rx_missed", "Packets that the device lost because no worker fetched them in time.", |p| {
            p.rx_missed
        }),
        ("rx_nombuf", "Packets that were lost because no packet buffer was free.", |p| p.rx_nombuf),
        ("rx_errors", "Packets that the device received with errors.", |p| p.rx_errors),
        ("tx_errors", "Packets that the device failed to send.", |p| p.tx_errors),
    ];
    // By its first interface, as everywhere: VLANs share a device.
    let named: Vec<_> = (0..)
        .map(sluice_engine::ids::PortId)
        .zip(&ports)
        .filter_map(|(id, port)| {
            Some((world.interfaces.get(world.interfaces.any_of_port(id)?)?.name.as_str(), port))
        })
        .collect();
    for (name, help, field) in fields {
        let mut family = Family::counter(&format!("device_{name}_total"), help);
        for (interface, port) in &named {
            family.add(&[("interface", interface)], field(port) as f64);
        }
        families.push(family);
    }
    let mut up = Family::gauge("device_up", "1 if the device's link is up.");
    for (interface, port) in &named {
        up.add(&[("interface", interface)], f64::from(u8::from(port.link_up)));
    }
    families.push(up);
    let (used, all) = control.devices.buffers();
    families.push(Family::gauge("packet_buffers", "Packet buffers that there are.").with(f64::from(all)));
    families.push(Family::gauge("packet_buffers_used", "Packet buffers in use.").with(f64::from(used)));
}

fn packets(control: &Control, families: &mut Vec<Family>) {
    let drops: [Row<Drops>; 2] = [
        (
            "drops_total",
            "Received packets dropped, by reason; docs/drops.md and `sluice show drops` say what each means.",
            |c| &c.drops,
        ),
        ("local_drops_total", "Packets of the box itself dropped.", |c| &c.local_drops),
    ];
    for (name, help, field) in drops {
        let mut family = Family::counter(name, help);
        for (at, reason) in DropReason::ALL.iter().enumerate() {
            for (worker, counters) in control.counters.iter().enumerate() {
                let value = field(counters).get(at).map_or(0, Counter::get);
                family.add(&[("reason", reason.label()), ("worker", &worker.to_string())], value as f64);
            }
        }
        families.push(family);
    }
    families.push(by_worker(
        control,
        Family::gauge("held_packets", "Received packets that wait for a neighbour or for reassembly."),
        |c| (c.held.get() + c.reassembling.get()) as f64,
    ));
}

fn conntrack(control: &Control, families: &mut Vec<Family>) {
    let mut states = Family::counter("conntrack_packets_total", "Packets by state, just behind the tracker.");
    let fields: [(&str, Field<WorkerCounters>); 5] = [
        ("new", |c| &c.states.new),
        ("established", |c| &c.states.established),
        ("related", |c| &c.states.related),
        ("invalid", |c| &c.states.invalid),
        ("untracked", |c| &c.states.untracked),
    ];
    for (state, field) in fields {
        states.add(&[("state", state)], sum(control, field));
    }
    families.push(states);
    let statistics: [Row<Field<ConntrackCounters>>; 14] = [
        ("found", "Look-ups that found an entry.", |c| &c.found),
        ("invalid", "Packets that could not be tracked.", |c| &c.invalid),
        ("insert", "Entries made.", |c| &c.insert),
        ("insert_failed", "Entries that could not be put in.", |c| &c.insert_failed),
        ("drop", "Packets dropped because no entry could be made.", |c| &c.drop),
        ("early_drop", "Entries evicted to make room.", |c| &c.early_drop),
        ("swept", "Entries removed from a table that had refused a packet.", |c| &c.swept),
        ("reserved", "Entries in places kept for the router's own traffic.", |c| &c.reserved),
        ("quota_uncounted", "Entries not counted for their source's quota.", |c| &c.quota_uncounted),
        ("expect_create", "Expectations of helpers made.", |c| &c.expect_create),
        ("expect_delete", "Expectations used up, run out or deleted.", |c| &c.expect_delete),
        ("expect_new", "Flows that a helper expected.", |c| &c.expect_new),
        ("error", "Packets with errors in ICMP.", |c| &c.error),
        ("search_restart", "Look-ups begun again; always 0.", |c| &c.search_restart),
    ];
    for (name, help, field) in statistics {
        let family = Family::counter(&format!("conntrack_{name}_total"), help);
        families.push(by_worker(control, family, |c| field(&c.conntrack).get() as f64));
    }
    let new = sum(control, |c| &c.conntrack.insert);
    families.push(Family::counter("conntrack_new_flows_total", "Flows that began.").with(new));
    let entries = Family::gauge("conntrack_entries", "Flows in the table.");
    families.push(entries.with(control.flow_count() as f64));
    let expected =
        Family::gauge("conntrack_expectations", "Connections that helpers announced and that have not come.");
    families.push(expected.with(sum(control, |c| &c.conntrack.expectations)));
    let max = Family::gauge(
        "conntrack_max",
        "Flows that the table may hold; +Inf: as many as there is memory for.",
    );
    families.push(max.with(match control.budget.max() {
        u64::MAX => f64::INFINITY,
        max => max as f64,
    }));
    let reserve = Family::gauge("conntrack_reserve", "Places kept for flows to and from the router itself.");
    families.push(reserve.with(f64::from(locked(&control.system).model.conntrack.reserve())));
    let help = "What timeouts are multiplied by: 1, or less while they shrink as the table fills.";
    let factors = control.counters.iter().map(|c| c.conntrack.timeout_factor.get() as f64 / 65_536.0);
    families.push(Family::gauge("conntrack_timeout_factor", help).with(factors.fold(1.0, f64::min)));
    let mut classes = Family::gauge("conntrack_flows", "Flows in the table by protocol and state.");
    for (at, (protocol, state)) in
        CLASSES.iter().enumerate().filter(|(_, (protocol, _))| !protocol.is_empty())
    {
        let shards = control.counters.iter().filter_map(|c| c.conntrack.by_state.get(at));
        // A shard's gauge may lie below zero for a moment, since it wraps.
        let value = shards.fold(0u64, |sum, gauge| sum.wrapping_add(gauge.get()));
        classes.add(&[("protocol", protocol), ("state", state)], (value as i64).max(0) as f64);
    }
    families.push(classes);
}

fn rules(world: &World, families: &mut Vec<Family>) {
    let mut packets = Family::counter("rule_packets_total", "Packets that a rule matched.");
    let mut bytes = Family::counter("rule_bytes_total", "Bytes of packets that a rule matched.");
    let ruleset = &world.ruleset;
    let exported = (0..).map(RuleId).zip(ruleset.rules()).filter(|(_, rule)| rule.exported);
    for (id, rule) in exported.take(MOST_RULES) {
        let place = rule.index.to_string();
        let name = rule.name.as_deref().unwrap_or(&place);
        let labels = [("table", rule.table), ("chain", &rule.chain), ("rule", name)];
        let counted = ruleset.rule_counters(id);
        packets.add(&labels, counted.0 as f64);
        bytes.add(&labels, counted.1 as f64);
    }
    families.extend([packets, bytes]);
}

fn policy(control: &Control, world: &World, families: &mut Vec<Family>) {
    let last = *locked(&control.last_reload);
    let waiting = *locked(&control.waiting);
    let gauges = [
        ("policy_generation", "Generation that workers run on.", f64::from(world.generation.0)),
        (
            "policy_last_reload_success",
            "1 if the last change was put in force.",
            f64::from(u8::from(last.success)),
        ),
        ("policy_last_reload_timestamp_seconds", "When the last change was tried.", last.time),
        ("policy_compile_seconds", "Time that compiling the running policy took.", last.compile_seconds),
        ("policy_rules", "Rules of the running policy.", world.ruleset.rules().len() as f64),
        (
            "policy_confirm_pending",
            "1 while a policy waits to be confirmed, and goes if it is not.",
            f64::from(u8::from(waiting.is_some())),
        ),
        (
            "policy_confirm_remaining_seconds",
            "Time that is left to confirm the policy that waits; 0 if none does.",
            waiting.map_or(0.0, |waiting| waiting.left() as f64),
        ),
        ("uptime_seconds", "Time since the daemon was ready.", control.started.elapsed().as_secs_f64()),
    ];
    families.extend(gauges.map(|(name, help, value)| Family::gauge(name, help).with(value)));
    let mut build = Family::gauge("build_info", "Version of the daemon; always 1.");
    build.add(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    families.push(build);
}

fn neighbours(control: &Control, families: &mut Vec<Family>) {
    const STATES: [&str; 6] = ["permanent", "incomplete", "reachable", "stale", "probe", "failed"];
    let mut counts = [0u32; STATES.len()];
    for view in locked(&control.neighbours).view() {
        if let Some(count) =
            STATES.iter().position(|state| *state == view.state).and_then(|at| counts.get_mut(at))
        {
            *count += 1;
        }
    }
    let mut family = Family::gauge("neighbours", "Next hops by state.");
    for (state, count) in STATES.iter().zip(counts) {
        family.add(&[("state", state)], f64::from(count));
    }
    families.push(family);
}

fn by_worker(control: &Control, mut family: Family, value: impl Fn(&WorkerCounters) -> f64) -> Family {
    for (worker, counters) in control.counters.iter().enumerate() {
        family.add(&[("worker", &worker.to_string())], value(counters));
    }
    family
}

fn sum(control: &Control, field: Field<WorkerCounters>) -> f64 {
    let of = |counters: &Arc<WorkerCounters>| field(counters).get() as f64;
    control.counters.iter().map(of).sum()
}
