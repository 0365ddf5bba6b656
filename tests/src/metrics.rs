//! The Prometheus text format, as far as tests read it.

use std::collections::{BTreeMap, BTreeSet};

/// All samples of one scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: BTreeMap<String, f64>,
    families: BTreeSet<String>,
}

impl Metrics {
    /// Reads the text format; panics on a line that is none, since that is a failed test.
    pub fn parse(text: &str) -> Metrics {
        let samples = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(|l| {
            let (name, value) = l.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {l}"));
            (name.to_string(), value.parse().unwrap_or_else(|_| panic!("not a number: {l}")))
        });
        let families = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next());
        Metrics { samples: samples.collect(), families: families.map(str::to_owned).collect() }
    }

    /// The families that there are.
    pub fn families(&self) -> impl Iterator<Item = &str> {
        self.families.iter().map(String::as_str)
    }

    /// Sum of all samples of `name` whose labels contain every one of `labels` (`state="new"`).
    pub fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        self.matching(name, labels).map(|v| v as u64).sum()
    }

    /// As [`Metrics::sum`], of what is no whole number.
    pub fn total(&self, name: &str, labels: &[&str]) -> f64 {
        self.matching(name, labels).sum()
    }

    fn matching(&self, name: &str, labels: &[&str]) -> impl Iterator<Item = f64> {
        let matching = self.samples.iter().filter(move |(key, _)| {
            let (n, l) = key.split_once('{').unwrap_or((key, ""));
            n == name && labels.iter().all(|want| l.contains(want))
        });
        matching.map(|(_, v)| *v)
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
