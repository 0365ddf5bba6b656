//! `sluice check --stats`: where the time of compiling a policy and its memory go, and what a packet may cost at the worst.

use std::time::Duration;

use serde::Serialize;
use sluice_compiler::Compiled;
use sluice_config::Policy;
use sluice_engine::ruleset::{IndexStats, Memory};

use crate::Outcome;
use crate::print::print_line;

/// What compiling one policy took and made.
#[derive(Debug, Serialize)]
pub(crate) struct Stats {
    rules: usize,
    /// Each step, in the order of their turn.
    seconds: Vec<(&'static str, f64)>,
    /// What the compiled policy keeps, in bytes.
    bytes: Vec<(&'static str, usize)>,
    /// Long chains.
    classifiers: Vec<Classifier>,
}

#[derive(Debug, Serialize)]
struct Classifier {
    chain: String,
    rules: usize,
    bytes: usize,
    nodes: usize,
    entries: usize,
    /// Leaves and entries that one packet may meet, at the most.
    leaves: usize,
    longest: usize,
    /// Rules that are found by the named sets that they ask for.
    by_sets: usize,
}

impl Stats {
    pub(crate) fn of(policy: &Policy, compiled: &Compiled) -> Stats {
        let (read, made) = (policy.took, compiled.took);
        let seconds = [
            ("read YAML", read.tree),
            ("check", read.model),
            ("look for what cannot have been meant", read.warnings),
            ("compile sets", made.sets),
            ("compile rules", made.rules),
            ("grow classifiers", made.classifiers),
            ("run the policy's tests", made.tests),
        ];
        let Memory { rules, shown, counters, classifiers, sets } = compiled.ruleset.memory();
        Stats {
            rules: compiled.ruleset.rules().len(),
            seconds: seconds.map(|(step, took)| (step, Duration::as_secs_f64(&took))).to_vec(),
            bytes: vec![
                ("rules", rules),
                ("rules as they are shown", shown),
                ("counters of a worker", counters),
                ("classifiers", classifiers),
                ("sets", sets),
            ],
            classifiers: compiled.ruleset.indexes().map(Classifier::of).collect(),
        }
    }

    pub(crate) fn print(&self) -> Outcome {
        let total: f64 = self.seconds.iter().map(|(_, seconds)| seconds).sum();
        print_line(&format!("{} rules, {:.0} ms", self.rules, total * 1000.0))?;
        for (step, seconds) in &self.seconds {
            print_line(&format!("{:10.1} ms   {step}", seconds * 1000.0))?;
        }
        let total: usize = self.bytes.iter().map(|(_, bytes)| bytes).sum();
        print_line(&format!("{} KiB", total / 1024))?;
        for (what, bytes) in &self.bytes {
            print_line(&format!("{:10} KiB  {what}", bytes / 1024))?;
        }
        for classifier in &self.classifiers {
            let Classifier { chain, rules, entries, nodes, leaves, longest, by_sets, .. } = classifier;
            let listed =
                if *by_sets == 0 { String::new() } else { format!(", {by_sets} rules by their sets") };
            print_line(&format!(
                "{chain}: {rules} rules{listed}, {nodes} nodes, {entries} entries; a packet meets at the most {longest} \
                 entries in {leaves} leaves"
            ))?;
        }
        Ok(())
    }
}

impl Classifier {
    fn of((table, chain, rules, stats): (&str, &str, usize, IndexStats)) -> Classifier {
        let IndexStats { nodes, entries, bytes, leaves, longest, by_sets } = stats;
        Classifier {
            chain: format!("{table}.{chain}"),
            rules,
            bytes,
            nodes,
            entries,
            leaves,
            longest,
            by_sets,
        }
    }
}
