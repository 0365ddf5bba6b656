//! What workers do with their time: packets, polls, cycles, and how long things take.

use sluice_engine::counters::{Counter, DURATION_BOUNDS, DurationCounters, WorkerCounters};

use super::family::Family;
use super::{Field, Row, by_worker};
use crate::control::Control;

/// How long something took at one worker.
type Durations = fn(&WorkerCounters) -> &DurationCounters;

/// Families of the workers, by worker.
pub(super) fn collect(control: &Control, families: &mut Vec<Family>) {
    let counters: [Row<Field<WorkerCounters>>; 8] = [
        ("packets", "Packets that the worker's polls returned.", |c| &c.polled_packets),
        ("fast_path_packets", "Packets that took the stored decision of their flow.", |c| &c.fast_path),
        ("handed_over_packets", "Packets given to the worker that owns their flow.", |c| &c.handed_over),
        ("device_hashed_packets", "Received packets that brought the device's hash along.", |c| {
            &c.device_hashed
        }),
        ("busy_polls", "Polls that found packets.", |c| &c.busy_polls),
        ("idle_polls", "Polls that found none.", |c| &c.idle_polls),
        ("busy_cycles", "Cycles spent in polls that found packets.", |c| &c.busy_cycles),
        ("idle_cycles", "Cycles spent in polls that found none.", |c| &c.idle_cycles),
    ];
    for (name, help, field) in counters {
        let family = Family::counter(&format!("worker_{name}_total"), help);
        families.push(by_worker(control, family, |c| field(c).get() as f64));
    }
    let ratio = |above: &Counter, below: &Counter| above.get() as f64 / below.get().max(1) as f64;
    let family =
        Family::gauge("worker_cycles_per_packet", "Cycles of busy polls for each packet, since the start.");
    families.push(by_worker(control, family, |c| ratio(&c.busy_cycles, &c.polled_packets)));
    let family =
        Family::gauge("worker_packets_per_poll", "Packets for each poll that found any, since the start.");
    families.push(by_worker(control, family, |c| ratio(&c.polled_packets, &c.busy_polls)));
    let hertz = control.devices.cycles_per_second() as f64;
    families.push(Family::gauge("cycles_per_second", "Clock that cycles are counted by.").with(hertz));
    durations(control, hertz, families);
}

/// Histograms of time, and the longest poll.
fn durations(control: &Control, hertz: f64, families: &mut Vec<Family>) {
    let seconds = |cycles: &Counter| if hertz > 0.0 { cycles.get() as f64 / hertz } else { 0.0 };
    let histograms: [Row<Durations>; 2] = [
        (
            "worker_poll_seconds",
            "How long polls took, with packets and without; pauses of an idle worker are left out.",
            |c| &c.polls,
        ),
        (
            "worker_latency_seconds",
            "How long packets took from the worker's hands to the device, of about one in 128.",
            |c| &c.latency,
        ),
    ];
    for (name, help, field) in histograms {
        let mut family = Family::histogram(name, help);
        for (worker, counters) in control.counters.iter().enumerate() {
            let durations = field(counters);
            let counts: Vec<u64> = durations.by_duration.iter().map(Counter::get).collect();
            let bounds = DURATION_BOUNDS.map(|micros| f64::from(micros) / 1e6);
            let labels = [("worker", &*worker.to_string())];
            family.add_distribution(&labels, bounds, &counts, seconds(&durations.cycles));
        }
        families.push(family);
    }
    let longest = Family::gauge("worker_longest_poll_seconds", "The longest poll since the start.");
    families.push(by_worker(control, longest, |c| seconds(&c.polls.longest)));
}
