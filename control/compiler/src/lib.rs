//! The policy compiler: from the policy file's typed model to the engine's [`Ruleset`].
//!
//! [`check`] is all of it, as `sluice check` and every `apply` want it: [`compile()`], then the policy's own tests
//! against the compiled rules. A policy that asks for what the data plane cannot do yet is refused here, each place
//! with its line; what the policy file says by itself was checked by `sluice-config` before.
//!
//! Not here: publishing a ruleset to workers, and judging packets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sluice_config::{Diagnostics, Policy, System};
use sluice_engine::ruleset::Ruleset;

mod compare;
mod compile;
mod explain;
mod lower;
mod names;
mod owner;
mod problems;
mod recheck;
mod sets;
pub mod settings;
mod text;
mod timeouts;
pub mod topology;
mod trial;

pub use compare::{Change, ChangeKind, compare, covered, range_text};
pub use explain::has::line as packet_line;
pub use explain::{Explain, OfFlow};
pub use names::Names;
pub use owner::port_owners;
pub use recheck::Recheck;
pub use sets::{Difference, NamedSet};
pub use timeouts::{RuleTimeouts, TimeoutRegistry};
pub use topology::Surroundings;

/// A policy that can be run.
#[derive(Debug)]
pub struct Compiled {
    /// For the workers.
    pub ruleset: Ruleset,
    /// Timeouts that its rules give to flows: whoever publishes the ruleset numbers them.
    pub timeouts: RuleTimeouts,
    /// What is valid and cannot do what its author meant.
    pub warnings: Diagnostics,
    /// How many of the policy's own tests passed; 0 if they were not run.
    pub tests: usize,
    /// The named sets.
    pub sets: BTreeMap<String, NamedSet>,
    /// What compiling it took.
    pub took: CompileTimes,
}

/// How long the steps of compiling took.
#[derive(Clone, Copy, Debug, Default)]
pub struct CompileTimes {
    /// Sets.
    pub sets: Duration,
    /// From the typed model to the engine's rules.
    pub rules: Duration,
    /// Chains laid out, and classifiers.
    pub classifiers: Duration,
    /// The policy's own tests.
    pub tests: Duration,
}

/// Compiles a policy, with counters for `workers` workers.
///
/// # Errors
/// One diagnostic for each place that asks for something the data plane cannot do.
pub fn compile(policy: &Policy, names: &Names, workers: usize) -> Result<Compiled, Diagnostics> {
    compile::compile(policy, names, workers)
}

/// Compiles a policy and runs its tests. Without a system file, interface names are taken as given, and whether a
/// test's destination is the router itself is told by what the test says.
///
/// # Errors
/// As [`compile()`]; and one diagnostic for each test that fails.
pub fn check(policy: &Policy, system: Option<&System>, workers: usize) -> Result<Compiled, Diagnostics> {
    let names = system.map_or_else(|| Names::as_given(policy), Names::of);
    let mut compiled = compile(policy, &names, workers)?;
    if !policy.tests.is_empty() {
        let began = Instant::now();
        let (passed, warnings) = trial::run(policy, &compiled.ruleset, &names, system)?;
        compiled.tests = passed;
        compiled.took.tests = began.elapsed();
        compiled.warnings.append(warnings);
    }
    Ok(compiled)
}

#[cfg(test)]
mod tests;
