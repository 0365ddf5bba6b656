//! What became of flows that were to be told to a collector; there only while one is set.

use std::sync::atomic::Ordering;

use super::family::Family;
use crate::control::Control;

pub(super) fn ipfix(control: &Control, families: &mut Vec<Family>) {
    if control.ipfix_config().is_none() {
        return;
    }
    let told = &control.exported;
    for (name, help, counter) in [
        ("records", "Beginnings and ends of flows that were sent to the collector.", &told.records),
        ("messages", "Messages that were sent to the collector, templates among them.", &told.messages),
        (
            "lost",
            "Beginnings and ends of flows that came too fast to be told, or could not be sent.",
            &told.lost,
        ),
    ] {
        let family = Family::counter(&format!("ipfix_{name}_total"), help);
        families.push(family.with(counter.load(Ordering::Relaxed) as f64));
    }
}
