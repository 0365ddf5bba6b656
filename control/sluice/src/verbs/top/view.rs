//! From two snapshots to what is shown: rates, the busiest first.

use serde::Serialize;
use sluice_api::{Rule, Top};

use super::Snapshot;
use crate::table::Table;
use crate::verbs::conntrack::top::table as talkers;

/// One look. Rates are for a second.
#[derive(Debug, Serialize)]
pub(super) struct View {
    /// Seconds that rates are means of.
    seconds: f64,
    version: String,
    uptime: u64,
    generation: u32,
    flows: u64,
    flows_max: u64,
    new_flows: f64,
    interfaces: Vec<InterfaceRate>,
    workers: Vec<WorkerRate>,
    drops: Vec<DropRate>,
    rules: Vec<RuleRate>,
    talkers: Top,
}

#[derive(Debug, Serialize)]
struct InterfaceRate {
    name: String,
    link_up: bool,
    rx_packets: f64,
    rx_bits: f64,
    tx_packets: f64,
    tx_bits: f64,
    /// Lost by the device before a worker saw them.
    missed: f64,
}

#[derive(Debug, Serialize)]
struct WorkerRate {
    worker: u8,
    core: usize,
    /// Share of cycles spent in polls that found packets, 0 to 1.
    busy: f64,
    packets: f64,
    cycles_per_packet: f64,
    /// Share of packets that took the stored decision of their flow.
    fast_path: f64,
    handed_over: f64,
    flows: u64,
}

#[derive(Debug, Serialize)]
struct DropRate {
    reason: String,
    packets: f64,
    /// Since the start.
    total: u64,
    meaning: String,
}

#[derive(Debug, Serialize)]
struct RuleRate {
    rule: String,
    text: String,
    packets: f64,
    bits: f64,
}

impl View {
    /// What happened from `before` to `now`; at most `n` drop reasons and rules.
    pub(super) fn between(before: &Snapshot, now: &Snapshot, talkers: Top, n: usize) -> View {
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64().max(0.001);
        let rate = |new: u64, old: Option<u64>| new.saturating_sub(old.unwrap_or(new)) as f64 / seconds;
        let inserted = |snapshot: &Snapshot| snapshot.conntrack.iter().map(|s| s.insert).sum::<u64>();
        View {
            seconds,
            version: now.status.version.clone(),
            uptime: now.status.uptime,
            generation: now.status.generation,
            flows: now.flows.count,
            flows_max: now.flows.max,
            new_flows: rate(inserted(now), Some(inserted(before))),
            interfaces: interfaces(before, now, &rate),
            workers: workers(before, now, &rate),
            drops: drops(before, now, &rate, n),
            rules: rules(before, now, &rate, n),
            talkers,
        }
    }

    /// As people read it.
    pub(super) fn lines(&self) -> Vec<String> {
        let share = self.flows as f64 * 100.0 / self.flows_max.max(1) as f64;
        let mut lines = vec![
            format!("sluice {}, up {}, generation {}", self.version, time(self.uptime), self.generation),
            format!(
                "{} of {} flows ({share:.1} %), {} new/s",
                self.flows,
                self.flows_max,
                si(self.new_flows)
            ),
        ];
        let talkers = talkers(&self.talkers.rows, self.talkers.counted, "SOURCE");
        for table in
            [self.interface_table(), self.worker_table(), self.drop_table(), self.rule_table(), talkers]
        {
            if !table.is_empty() {
                lines.push(String::new());
                lines.extend(table.lines());
            }
        }
        lines
    }

    fn interface_table(&self) -> Table {
        let mut table =
            Table::new(&["INTERFACE", "LINK", ">RX P/S", ">RX BIT/S", ">TX P/S", ">TX BIT/S", ">MISSED/S"]);
        for i in &self.interfaces {
            let mut row = vec![i.name.clone(), if i.link_up { "up" } else { "down" }.to_owned()];
            row.extend([i.rx_packets, i.rx_bits, i.tx_packets, i.tx_bits, i.missed].map(si));
            table.row(row);
        }
        table
    }

    fn worker_table(&self) -> Table {
        let mut table = Table::new(&[
            ">WORKER",
            ">CORE",
            ">BUSY",
            ">P/S",
            ">CYCLES/P",
            ">FAST PATH",
            ">HANDED OVER/S",
            ">FLOWS",
        ]);
        for w in &self.workers {
            table.row(vec![
                w.worker.to_string(),
                w.core.to_string(),
                format!("{:.1} %", w.busy * 100.0),
                si(w.packets),
                format!("{:.0}", w.cycles_per_packet),
                format!("{:.1} %", w.fast_path * 100.0),
                si(w.handed_over),
                w.flows.to_string(),
            ]);
        }
        table
    }

    fn drop_table(&self) -> Table {
        let mut table = Table::new(&["DROP REASON", ">P/S", ">TOTAL", "MEANING"]);
        for drop in &self.drops {
            let total = drop.total.to_string();
            table.row(vec![drop.reason.clone(), si(drop.packets), total, drop.meaning.clone()]);
        }
        table
    }

    fn rule_table(&self) -> Table {
        let mut table = Table::new(&["RULE", ">P/S", ">BIT/S", "TEXT"]);
        for rule in &self.rules {
            table.row(vec![rule.rule.clone(), si(rule.packets), si(rule.bits), rule.text.clone()]);
        }
        table
    }
}

/// The mean rate of a counter, from its new value and the old one, if it was there.
type Rate<'a> = &'a dyn Fn(u64, Option<u64>) -> f64;

fn interfaces(before: &Snapshot, now: &Snapshot, rate: Rate<'_>) -> Vec<InterfaceRate> {
    let of = |i: &sluice_api::Interface| {
        let old = before.interfaces.iter().find(|old| old.name == i.name);
        InterfaceRate {
            name: i.name.clone(),
            link_up: i.port.link_up,
            rx_packets: rate(i.rx_packets, old.map(|old| old.rx_packets)),
            rx_bits: 8.0 * rate(i.rx_bytes, old.map(|old| old.rx_bytes)),
            tx_packets: rate(i.tx_packets, old.map(|old| old.tx_packets)),
            tx_bits: 8.0 * rate(i.tx_bytes, old.map(|old| old.tx_bytes)),
            missed: rate(i.port.rx_missed, old.map(|old| old.port.rx_missed)),
        }
    };
    now.interfaces.iter().map(of).collect()
}

fn workers(before: &Snapshot, now: &Snapshot, rate: Rate<'_>) -> Vec<WorkerRate> {
    let of = |w: &sluice_api::Worker| {
        let old = before.workers.iter().find(|old| old.worker == w.worker);
        let busy = rate(w.busy_cycles, old.map(|old| old.busy_cycles));
        let idle = rate(w.idle_cycles, old.map(|old| old.idle_cycles));
        let packets = rate(w.packets, old.map(|old| old.packets));
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        WorkerRate {
            worker: w.worker,
            core: w.core,
            busy: share(busy, busy + idle),
            packets,
            cycles_per_packet: share(busy, packets),
            fast_path: share(rate(w.fast_path, old.map(|old| old.fast_path)), packets),
            handed_over: rate(w.handed_over, old.map(|old| old.handed_over)),
            flows: w.flows,
        }
    };
    now.workers.iter().map(of).collect()
}

/// Reasons for which anything was ever dropped, the busiest now first.
fn drops(before: &Snapshot, now: &Snapshot, rate: Rate<'_>, n: usize) -> Vec<DropRate> {
    let total = |drop: &sluice_api::Drop| drop.received.iter().chain(&drop.local).sum::<u64>();
    let of = |drop: &sluice_api::Drop| {
        let old = before.drops.iter().find(|old| old.reason == drop.reason);
        let packets = rate(total(drop), old.map(total));
        let (reason, meaning) = (drop.reason.clone(), drop.meaning.clone());
        DropRate { reason, packets, total: total(drop), meaning }
    };
    let mut drops: Vec<DropRate> = now.drops.iter().filter(|drop| total(drop) > 0).map(of).collect();
    drops.sort_by(|a, b| b.packets.total_cmp(&a.packets).then(b.total.cmp(&a.total)));
    drops.truncate(n);
    drops
}

/// Rules that matched anything since the look before, the busiest first. A policy that changed meanwhile has none.
fn rules(before: &Snapshot, now: &Snapshot, rate: Rate<'_>, n: usize) -> Vec<RuleRate> {
    let name = |rule: &Rule| {
        let place = format!("{}.{} {}", rule.table, rule.chain, rule.index);
        rule.name.as_ref().map_or(place.clone(), |name| format!("{place} {name}"))
    };
    let of = |rule: &Rule| {
        let is_it =
            |old: &&Rule| (&old.table, &old.chain, old.index) == (&rule.table, &rule.chain, rule.index);
        let old = before.rules.iter().find(is_it).filter(|old| old.text == rule.text)?;
        let (packets, bits) =
            (rate(rule.packets, Some(old.packets)), 8.0 * rate(rule.bytes, Some(old.bytes)));
        (packets > 0.0).then(|| RuleRate { rule: name(rule), text: rule.text.clone(), packets, bits })
    };
    let mut rules: Vec<RuleRate> = now.rules.iter().filter_map(of).collect();
    rules.sort_by(|a, b| b.packets.total_cmp(&a.packets));
    rules.truncate(n);
    rules
}

/// Three digits and a letter for the power of a thousand.
fn si(value: f64) -> String {
    let (scaled, unit) = [(1e9, "G"), (1e6, "M"), (1e3, "k")]
        .iter()
        .find(|(power, _)| value >= *power)
        .map_or((value, ""), |(power, unit)| (value / power, *unit));
    match scaled {
        _ if scaled >= 99.95 || unit.is_empty() && scaled >= 10.0 || scaled == 0.0 => {
            format!("{scaled:.0}{unit}")
        }
        _ if scaled >= 9.995 => format!("{scaled:.1}{unit}"),
        _ => format!("{scaled:.2}{unit}"),
    }
}

/// Days, hours and minutes, the two that matter.
fn time(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min {} s", seconds % 60),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use sluice_api::{Drop, FlowCount, Interface, Status, Worker};

    use super::*;

    fn snapshot(at: Instant, n: u64) -> Snapshot {
        let rule = |index, packets| Rule {
            table: "filter".into(),
            chain: "forward".into(),
            index,
            packets,
            bytes: 100 * packets,
            text: "accept".into(),
            ..Rule::default()
        };
        let interface = Interface {
            name: "lan".into(),
            rx_packets: 1000 * n,
            rx_bytes: 125_000 * n,
            ..Interface::default()
        };
        let worker = Worker {
            packets: 500 * n,
            busy_cycles: 50_000 * n,
            idle_cycles: 150_000 * n,
            ..Worker::default()
        };
        let drop = |reason: &str, received| Drop {
            reason: reason.into(),
            received: vec![received],
            ..Drop::default()
        };
        Snapshot {
            at,
            status: Status::default(),
            interfaces: vec![interface],
            workers: vec![worker],
            drops: vec![drop("ttl", 9), drop("policy_input", n), drop("never", 0)],
            rules: vec![rule(1, 5), rule(2, 40 * n)],
            flows: FlowCount { count: 1, max: 100 },
            conntrack: Vec::new(),
        }
    }

    #[test]
    fn rates_are_differences_by_time_busiest_first() {
        let start = Instant::now();
        let (before, now) = (snapshot(start, 1), snapshot(start + Duration::from_secs(2), 3));
        let view = View::between(&before, &now, Top::default(), 5);
        assert_eq!((view.interfaces[0].rx_packets, view.interfaces[0].rx_bits), (1000.0, 1e6));
        assert_eq!((view.workers[0].busy, view.workers[0].cycles_per_packet), (0.25, 100.0));
        let drops: Vec<&str> = view.drops.iter().map(|drop| drop.reason.as_str()).collect();
        assert_eq!(drops, ["policy_input", "ttl"]);
        assert_eq!(view.rules.len(), 1);
        assert_eq!((view.rules[0].rule.as_str(), view.rules[0].packets), ("filter.forward 2", 40.0));
        let lines = view.lines();
        assert_eq!(lines[1], "1 of 100 flows (1.0 %), 0 new/s");
        assert!(lines.iter().any(|line| line.starts_with("lan        down   1.00k     1.00M")), "{lines:#?}");
    }

    #[test]
    fn numbers_have_three_digits() {
        let cases = [
            (0.0, "0"),
            (0.5, "0.50"),
            (12.0, "12"),
            (999.0, "999"),
            (1000.0, "1.00k"),
            (12_345.0, "12.3k"),
            (999_400.0, "999k"),
            (1.5e6, "1.50M"),
            (2.5e10, "25.0G"),
        ];
        for (value, text) in cases {
            assert_eq!(si(value), text);
        }
        assert_eq!(
            (time(59), time(3700), time(100_000)),
            ("0 min 59 s".into(), "1 h 1 min".into(), "1 d 3 h".into())
        );
    }
}
