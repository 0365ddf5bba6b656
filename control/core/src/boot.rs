//! From two files to a first world: what is decided before any device is touched.
//!
//! Which policy starts: the file under `policy:` if it is another one than when it was last read, else the policy that was
//! applied last, or the one before if that was to be confirmed and was not in time. A bad file is logged and does not keep
//! the last applied one from running; where there is none, it is a start error.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use sluice_compiler::{Compiled, TimeoutRegistry, topology};
use sluice_config::{Diagnostics, Policy, PolicySource, System};
use sluice_engine::conntrack::{FlowBudget, Reservations};
use sluice_engine::counters::WorkerCounters;
use sluice_engine::ids::Generation;
use sluice_engine::world::{Fib, Neighbours, World};
use sluice_wire::MacAddr;

use crate::control::unix_seconds;
use crate::groups;
use crate::history::{Applied, History, HistoryError, Start, digest};
use crate::neighbours::{Table, Time};
use crate::sets::{self, LiveSets, Sets};
use crate::system;

/// Flows that each shard has room for at least, so that `conntrack.max` can be raised while running.
const LEAST_CAPACITY: u32 = 1 << 20;

/// Why there is nothing to start with.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file is wrong; all errors, one a line.
    #[error("{0}")]
    Refused(Diagnostics),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] HistoryError),
}

/// A policy that is compiled and can be put in force.
pub(crate) struct Ready {
    pub(crate) source: PolicySource,
    pub(crate) compiled: Compiled,
    /// Seconds that reading and compiling took.
    pub(crate) seconds: f64,
    /// The policy's sets, as the compiled rules ask them.
    pub(crate) sets: LiveSets,
}

/// Both files, read and checked.
pub struct Boot {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) system: System,
    pub(crate) history: History,
    pub(crate) policy: Ready,
    pub(crate) sets: Sets,
    origin: Origin,
}

/// Where the policy that starts comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file, which is another one than was read last.
    File,
    /// It was applied last.
    Last,
    /// It was applied last, and has so many seconds left to be confirmed.
    Waiting(u64),
    /// It ran before one that nobody confirmed in time.
    Back,
}

/// What the data plane is started with, beside its devices.
pub struct Launch {
    /// The first world.
    pub world: Arc<World>,
    /// `conntrack.max`.
    pub budget: Arc<FlowBudget>,
    /// One for each worker.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// Flows that each shard has memory for.
    pub flow_capacity: u32,
    /// Whose answers are whose, for workers that translate.
    pub reservations: Arc<Reservations>,
    pub(crate) neighbours: Table,
    pub(crate) timeouts: TimeoutRegistry,
}

impl Boot {
    /// Reads the system file, locks the state folder and settles on a policy. Warnings are logged.
    ///
    /// # Errors
    /// What is wrong, with its place.
    pub fn load(path: &Path) -> Result<Boot, BootError> {
        let (system, text) = read_system(path).map_err(BootError::Refused)?;
        let history = History::open(&system.state)?;
        let (mut policy, origin) = choose(&system, &history)?;
        let mut sets = Sets::load(&system.state);
        sets.changes().settle(&mut policy);
        sets.run(std::mem::take(&mut policy.sets));
        Ok(Boot { path: path.to_owned(), text, system, history, policy, sets, origin })
    }

    /// Remembers the policy, once workers run on it: a start that fails later must not leave behind a policy that never
    /// ran. Where it cannot be written it runs all the same, and is read again at the next start.
    pub fn remember(&mut self) {
        let source = &self.policy.source;
        let kept = match self.origin {
            Origin::Last | Origin::Waiting(_) => Ok(()),
            Origin::Back => self.history.add(source.clone(), None, "not confirmed in time").map(drop),
            Origin::File => {
                let added = self.history.add(source.clone(), None, "policy file, at start").map(drop);
                added.and_then(|()| self.history.note_read(&digest(source)))
            }
        };
        if let Err(error) = kept {
            tracing::error!(%error, "the policy could not be written to the state folder");
        }
        if self.to_be_confirmed().is_none() {
            self.sets.keep();
        }
    }

    /// Seconds that are left to confirm the policy, if it is to be.
    pub(crate) fn to_be_confirmed(&self) -> Option<u64> {
        match self.origin {
            Origin::Waiting(seconds) => Some(seconds),
            Origin::File | Origin::Last | Origin::Back => None,
        }
    }

    /// The system file's model.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// What workers start with, on ports with these MAC addresses; `count` workers.
    pub fn launch(&mut self, macs: &[MacAddr], count: usize) -> Launch {
        let interfaces = groups::with_groups(&system::interfaces(&self.system, macs), &groups::read());
        let permanent = system::neighbours(&self.system);
        let mut neighbours = Table::new(Time::ZERO, Arc::clone(&interfaces), &permanent);
        let known = neighbours.take_changed().unwrap_or_default();
        let compiled = &mut self.policy.compiled;
        let mut timeouts = TimeoutRegistry::default();
        let mut ruleset = std::mem::take(&mut compiled.ruleset);
        ruleset.number_timeouts(timeouts.adopt(&compiled.timeouts));
        let world = World {
            generation: Generation(1),
            fib: Arc::new(Fib::new(&topology::routes(&self.system), &interfaces)),
            neighbours: Arc::new(Neighbours::new(1, known)),
            ruleset: Arc::new(ruleset),
            settings: Arc::new(system::settings(&self.system, &timeouts)),
            interfaces: Arc::clone(&interfaces),
        };
        let flow_capacity = self.system.conntrack.max.max(LEAST_CAPACITY);
        let budget = FlowBudget::default();
        system::share_out(&budget, &self.system.conntrack, flow_capacity);
        system::count_for(&budget, &world.ruleset, flow_capacity);
        let reservations = Reservations::new(flow_capacity);
        if count > 1 && world.ruleset.moves_flows() {
            reservations.prepare();
        }
        if world.ruleset.lends_endpoints() {
            reservations.prepare_endpoints();
        }
        Launch {
            world: Arc::new(world),
            budget: Arc::new(budget),
            counters: (0..count).map(|_| Arc::new(WorkerCounters::new(interfaces.len()))).collect(),
            flow_capacity,
            reservations: Arc::new(reservations),
            neighbours,
            timeouts,
        }
    }
}

/// Reads and checks a system file; its warnings are logged.
pub(crate) fn read_system(path: &Path) -> Result<(System, String), Diagnostics> {
    let (system, warnings) = System::load(path)?;
    warn(&warnings);
    // The text is only shown; the model is what counts.
    let text = std::fs::read_to_string(path).unwrap_or_default();
    Ok((system, text))
}

/// Logs what a file's author should look at.
pub(crate) fn warn(warnings: &Diagnostics) {
    for warning in warnings.warnings() {
        tracing::warn!("{warning}");
    }
}

/// Reads the file under `policy:` with its set files.
pub(crate) fn read_policy(system: &System) -> Result<(Policy, Diagnostics), Diagnostics> {
    Policy::load(&system.policy, Some(&system.interface_names()))
}

/// Compiles a policy and runs its tests; what was found when it was read goes in front of the warnings.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn compile(
    system: &System,
    policy: Policy,
    found: Diagnostics,
    began: Instant,
) -> Result<Ready, Diagnostics> {
    let mut compiled = sluice_compiler::check(&policy, Some(system), system.workers.placement.count())?;
    let mut warnings = found;
    warnings.append(std::mem::take(&mut compiled.warnings));
    compiled.warnings = warnings;
    let sets = sets::as_defined(std::mem::take(&mut compiled.sets));
    Ok(Ready { source: policy.source, compiled, seconds: began.elapsed().as_secs_f64(), sets })
}

/// Compiles a policy that ran before. Its tests are not run: the system file may have changed since, and a router that
/// has accepted a policy must be able to go back to it.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn compile_again(system: &System, source: &PolicySource) -> Result<Ready, Diagnostics> {
    let began = Instant::now();
    let (mut policy, found) = Policy::from_source(source, Some(&system.interface_names()))?;
    policy.tests.clear();
    compile(system, policy, found, began)
}

/// The policy that starts, and where it comes from.
fn choose(system: &System, history: &History) -> Result<(Ready, Origin), BootError> {
    let read = read_policy(system);
    let is_new = read.as_ref().map_or(true, |(policy, _)| history.is_new(&digest(&policy.source)));
    let start = history.starts(unix_seconds());
    let mut refused = None;
    if is_new || start.is_none() {
        match read.and_then(|(policy, found)| compile(system, policy, found, Instant::now())) {
            Ok(ready) => {
                warn(&ready.compiled.warnings);
                return Ok((ready, Origin::File));
            }
            Err(errors) => refused = Some(errors),
        }
    }
    let Some(start) = start else {
        return Err(BootError::Refused(refused.unwrap_or_default()));
    };
    if let Some(errors) = refused {
        tracing::error!(
            "{} is refused, the policy applied last runs instead:\n{errors}",
            system.policy.display()
        );
    }
    match start {
        Start::Last(last) => Ok((again(system, last)?, Origin::Last)),
        Start::Back(before) => {
            tracing::warn!(
                digest = before.digest.get(..12),
                "the policy applied last was not confirmed in time: back to the one before"
            );
            Ok((again(system, before)?, Origin::Back))
        }
        Start::Waiting(last, seconds) => {
            tracing::warn!(seconds, "the policy is to be confirmed with `sluice confirm`");
            // One that cannot even be compiled will not be confirmed.
            match (again(system, last), history.before_unconfirmed()) {
                (Ok(ready), _) => Ok((ready, Origin::Waiting(seconds))),
                (Err(_), Some(before)) => Ok((again(system, before)?, Origin::Back)),
                (Err(error), None) => Err(error),
            }
        }
    }
}

fn again(system: &System, applied: &Applied) -> Result<Ready, BootError> {
    compile_again(system, &applied.source).map_err(BootError::Refused)
}

#[cfg(test)]
mod tests;
