//! The Prometheus text format, as far as tests read it.

use std::collections::BTreeMap;

/// All samples of one scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    /// Reads the text format; panics on a line that is none, since that is a failed test.
    pub fn parse(text: &str) -> Metrics {
        let samples = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(|l| {
            let (name, value) = l.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {l}"));
            (name.to_string(), value.parse().unwrap_or_else(|_| panic!("not a number: {l}")))
        });
        Metrics { samples: samples.collect() }
    }

    /// Sum of all samples of `name` whose labels contain every one of `labels` (`state="new"`).
    pub fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let matching = self.samples.iter().filter(|(key, _)| {
            let (n, l) = key.split_once('{').unwrap_or((key, ""));
            n == name && labels.iter().all(|want| l.contains(want))
        });
        matching.map(|(_, v)| *v as u64).sum()
    }

    /// The samples whose name ends so that rose since `before`, and by how much.
    pub fn rises<'a>(&'a self, before: &'a Metrics, ending: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let ends = move |key: &str| key.split('{').next().is_some_and(|name| name.ends_with(ending));
        let rise = |(key, now): (&'a String, &f64)| {
            (key.as_str(), now - before.samples.get(key).copied().unwrap_or_default())
        };
        self.samples.iter().filter(move |(key, _)| ends(key)).map(rise).filter(|(_, rise)| *rise > 0.0)
    }

    /// Whether there is such a metric.
    pub fn has(&self, name: &str) -> bool {
        self.samples.keys().any(|k| k.split('{').next() == Some(name))
    }

    /// Packets received, and the sum of all ends that a received packet can come to.
    pub fn received_and_ended(&self) -> (u64, u64) {
        let ends = ["forwarded", "delivered", "answered", "consumed"];
        let ended: u64 = ends.iter().map(|e| self.sum(&format!("sluice_{e}_packets_total"), &[])).sum();
        let ended = ended + self.sum("sluice_drops_total", &[]) + self.sum("sluice_held_packets", &[]);
        (self.sum("sluice_rx_packets_total", &[]), ended)
    }
}
