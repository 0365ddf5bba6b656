//! Putting a policy in force, and reading both files again.
//!
//! All or nothing: a policy is checked and compiled whole, then put on disk, then published; only then does anyone hear
//! that it is applied. One change is made at a time.

use std::sync::Arc;
use std::time::Instant;

use sluice_api as api;
use sluice_compiler::ChangeKind;
use sluice_config::{Diagnostics, Policy, PolicySource, System};
use sluice_engine::conntrack::FlowFilter;
use sluice_engine::world::World;
use tokio::task::spawn_blocking;

use crate::actor::Actor;
use crate::boot::{self, Ready};
use crate::confirm::{self, Waiting};
use crate::control::{Control, RunningPolicy, RunningSystem, unix_seconds, unix_time};
use crate::flows;
use crate::history::{Applied, digest};
use crate::learned::Network;
use crate::lock::locked;
use crate::recheck;
use crate::remote::RemoteError;
use crate::sets::LiveSets;
use crate::system;
use crate::workers::WorkerError;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A file is wrong.
    #[error("{}", summary(.0))]
    Refused(Diagnostics),
    /// Keys of the system file that changed and cannot change while running.
    #[error("{} cannot change while running: restart sluiced", .0.join(", "))]
    NeedsRestart(Vec<String>),
    /// A policy waits to be confirmed, for so many seconds more.
    #[error(
        "a policy waits to be confirmed ({0} s left): `sluice confirm` keeps it, `sluice rollback` goes back"
    )]
    Waiting(u64),
    /// No policy waits to be confirmed.
    #[error("no policy waits to be confirmed")]
    NothingWaits,
    /// A time to confirm that is none.
    #[error("{0} s to confirm (limit 1 to 86400)")]
    ConfirmTime(u64),
    /// There is no policy of that number.
    #[error("the history has no policy {0}: `sluice history` lists them")]
    NotInHistory(usize),
    /// There is no policy to go back to.
    #[error("no other policy that was confirmed is in the history")]
    NothingBefore,
    /// What was asked for cannot be: a set or an element that is not there, a packet whose way is not known.
    #[error("{0}")]
    Asked(String),
    /// What this version does not do.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The policy could not be put on disk, so it was not put in force.
    #[error("state folder: {0}")]
    State(std::io::Error),
    /// Other hosts cannot be served as the system file wants it.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The kernel's side of the interfaces could not follow.
    #[error(transparent)]
    Kernel(#[from] crate::kernel_interfaces::KernelError),
    /// A worker does not take it.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// How a policy is kept on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// It must be there before it is put in force.
    Must,
    /// Likewise; and after a restart it runs until this time alone, in seconds since 1970, unless it is confirmed.
    Until(u64),
    /// It is put in force also where it cannot be written.
    IfPossible,
}

impl ApplyError {
    /// All there is to say, in as many lines as there are findings.
    pub fn details(&self) -> String {
        match self {
            ApplyError::Refused(findings) => findings.to_string(),
            other => other.to_string(),
        }
    }
}

impl Control {
    /// Checks, compiles and puts a policy in force.
    ///
    /// # Errors
    /// The running policy stays in all cases but that of a worker that does not answer.
    pub async fn apply(&self, request: api::ApplyRequest, by: &Actor) -> Result<api::ApplyReply, ApplyError> {
        let confirm = confirm::checked(request.confirm)?;
        let _changing = self.changing.lock().await;
        self.nothing_waits()?;
        let (name, text, files) = (request.name, request.text, request.files);
        let result = async {
            let ready = self.compile(PolicySource { name, text, files }).await?;
            if request.strict && ready.compiled.warnings.warnings().next().is_some() {
                return Err(ApplyError::Refused(ready.compiled.warnings));
            }
            self.in_force(ready, confirm, request.flows, by).await
        };
        self.note(result.await)
    }

    /// Puts a policy in force as it was asked for.
    pub(crate) async fn in_force(
        &self,
        ready: Ready,
        confirm: Option<u64>,
        flows: api::FlowHandling,
        by: &Actor,
    ) -> Result<api::ApplyReply, ApplyError> {
        let keep = confirm.map_or(Keep::Must, |seconds| Keep::Until(unix_seconds() + seconds));
        let mut reply = self.put_in_force(ready, keep, by).await?;
        if let Some(seconds) = confirm {
            let number = locked(&self.history).last().map_or(0, |last| last.number);
            self.set_waiting(Some(Waiting::new(number, seconds)));
            reply.confirm = confirm;
        }
        reply.flows_deleted = match flows {
            api::FlowHandling::Keep => 0,
            api::FlowHandling::Recheck => recheck::cut(&self.workers, self.publisher.world()).await?,
            api::FlowHandling::Flush => flows::delete(&self.workers, FlowFilter::default()).await?,
        };
        reply.flows_kept = self.flow_count();
        Ok(reply)
    }

    /// Tells what a policy would change, and changes nothing.
    ///
    /// # Errors
    /// The policy is refused, or a worker does not answer.
    pub async fn diff(&self, request: api::ApplyRequest) -> Result<api::PolicyDiff, ApplyError> {
        let (name, text, files) = (request.name, request.text, request.files);
        let Ready { source, compiled, seconds, sets } =
            self.compile(PolicySource { name, text, files }).await?;
        let sets_reset = locked(&self.sets).ended_by(&sets);
        let rules = compiled.ruleset.rules().len();
        let running = Arc::clone(&locked(&self.policy).source);
        let compared = spawn_blocking(move || {
            let changes = changes(&running, &source)?;
            Ok((digest(&source), changes))
        });
        let compared =
            compared.await.map_err(|_| ApplyError::Unsupported("the policies could not be compared"))?;
        let (digest, changes) = compared.map_err(ApplyError::Refused)?;
        let world = World { ruleset: Arc::new(compiled.ruleset), ..World::clone(&self.publisher.world()) };
        let standing = recheck::count(&self.workers, Arc::new(world)).await?;
        Ok(api::PolicyDiff {
            digest,
            rules,
            compile_seconds: seconds,
            changes,
            flows: api::FlowsAhead {
                live: standing.examined.max(self.flow_count()),
                examined: standing.examined,
                refused: standing.refused,
                stopped: standing.stopped,
            },
            warnings: describe(&compiled.warnings),
            sets_reset,
        })
    }

    /// Reads both files again. What of the system file can change while running does; if anything else changed, nothing
    /// does. The policy file is applied if it was changed since it was last read.
    ///
    /// # Errors
    /// What is wrong with either file, or needs a restart; what runs stays.
    pub async fn reload(&self, by: &Actor) -> Result<api::ReloadReply, ApplyError> {
        let _changing = self.changing.lock().await;
        let result = self.reload_files(by).await;
        self.note(result)
    }

    /// Flows in all shards.
    pub(crate) fn flow_count(&self) -> u64 {
        self.counters.iter().map(|counters| counters.conntrack.entries.get()).sum()
    }

    /// Reading and compiling take seconds for large policies, so they are done beside the control thread.
    async fn compile(&self, source: PolicySource) -> Result<Ready, ApplyError> {
        let system = locked(&self.system).model.clone();
        let changes = locked(&self.sets).changes();
        let work = spawn_blocking(move || {
            let began = Instant::now();
            let (policy, found) = Policy::from_source(&source, Some(&system.interface_names()))?;
            let mut ready = boot::compile(&system, policy, found, began)?;
            changes.settle(&mut ready);
            Ok(ready)
        });
        // A panic in the compiler is a bug, and no reason to end the daemon.
        let result = work.await.map_err(|_| ApplyError::Unsupported("the compiler failed on this policy"))?;
        result.map_err(ApplyError::Refused)
    }

    pub(crate) async fn put_in_force(
        &self,
        ready: Ready,
        keep: Keep,
        by: &Actor,
    ) -> Result<api::ApplyReply, ApplyError> {
        let Ready { source, compiled, seconds, sets } = ready;
        let applied = self.keep(source, keep, by)?;
        let mut ruleset = compiled.ruleset;
        let own_timeouts = {
            let mut registry = locked(&self.timeouts);
            ruleset.number_timeouts(registry.adopt(&compiled.timeouts));
            system::own_timeouts(&locked(&self.system).model, &registry)
        };
        system::count_for(&self.budget, &ruleset, self.flow_capacity);
        let ruleset = Arc::new(ruleset);
        let rules = ruleset.rules().len();
        let change = |world: &mut sluice_engine::World| {
            world.ruleset = Arc::clone(&ruleset);
            Arc::make_mut(&mut world.settings).conntrack.own_timeouts = own_timeouts;
        };
        let published = self.publisher.publish(change).await;
        let (generation, old) = match published {
            Ok(published) => published,
            Err(error) => {
                locked(&self.history).take_back(applied.number);
                return Err(error.into());
            }
        };
        // No worker counts in the old one any more.
        ruleset.carry(&old.ruleset);
        self.remember_ruleset(generation, ruleset);
        let sets_reset = self.run_sets(sets, keep);
        *locked(&self.policy) = RunningPolicy {
            digest: applied.digest.clone(),
            applied: applied.time,
            source: Arc::new(applied.source),
        };
        locked(&self.last_reload).compile_seconds = seconds;
        boot::warn(&compiled.warnings);
        tracing::info!(generation = generation.0, digest = applied.digest.get(..12), rules, "policy applied");
        Ok(api::ApplyReply {
            generation: generation.0,
            digest: applied.digest,
            rules,
            compile_seconds: seconds,
            warnings: describe(&compiled.warnings),
            sets_reset,
            ..api::ApplyReply::default()
        })
    }

    /// The sets of the policy that runs now; whose changes ended with the one before.
    fn run_sets(&self, live: LiveSets, keep: Keep) -> Vec<String> {
        let mut sets = locked(&self.sets);
        let ended = sets.ended_by(&live);
        sets.run(live);
        if !matches!(keep, Keep::Until(_)) {
            sets.keep();
        }
        if !ended.is_empty() {
            let sets = ended.join(", ");
            tracing::info!(sets, "as the policy defines them again, which is otherwise than before");
        }
        ended
    }

    /// Puts a policy on disk.
    fn keep(&self, source: PolicySource, keep: Keep, by: &Actor) -> Result<Applied, ApplyError> {
        let confirm_by = match keep {
            Keep::Until(time) => Some(time),
            Keep::Must | Keep::IfPossible => None,
        };
        let by = by.to_string();
        let mut history = locked(&self.history);
        let kept = match keep {
            Keep::IfPossible => history.add(source.clone(), confirm_by, &by),
            Keep::Must | Keep::Until(_) => {
                return Ok(history.add(source, confirm_by, &by).map_err(ApplyError::State)?.clone());
            }
        };
        if let Err(error) = &kept {
            tracing::error!(%error, "the policy could not be written to the state folder");
        }
        Ok(kept.cloned().unwrap_or_else(|_| Applied {
            digest: digest(&source),
            time: unix_seconds(),
            source,
            ..Applied::default()
        }))
    }

    async fn reload_files(&self, by: &Actor) -> Result<api::ReloadReply, ApplyError> {
        let (new, text) = boot::read_system(&self.path).map_err(ApplyError::Refused)?;
        let old = locked(&self.system).model.clone();
        let (changed, mut restart) = system::differences(&old, &new);
        if new.conntrack.max > self.flow_capacity {
            restart.push(format!("conntrack.max above {}", self.flow_capacity));
        }
        if !restart.is_empty() {
            return Err(ApplyError::NeedsRestart(restart));
        }
        let remote = locked(&self.remote).prepare(new.control.remote.as_ref())?;
        // The policy first: if it is refused, nothing changes. It is compiled for the interfaces that the files name,
        // and those are the same.
        let ready = self.changed_policy(&new).await?;
        if ready.is_some() {
            self.nothing_waits()?;
        }
        if !changed.is_empty() {
            self.put_system_in_force(new, text).await?;
            tracing::info!(changed = changed.join(", "), "system file reloaded");
        }
        // Whether the file changed or not: its certificates may have.
        locked(&self.remote).put(remote)?;
        let mut reply = api::ReloadReply { changed, ..api::ReloadReply::default() };
        if let Some(ready) = ready {
            let read = digest(&ready.source);
            reply.warnings = self.put_in_force(ready, Keep::Must, by).await?.warnings;
            reply.policy_applied = true;
            locked(&self.history).note_read(&read).map_err(ApplyError::State)?;
        }
        reply.generation = self.publisher.world().generation.0;
        Ok(reply)
    }

    /// The policy file, compiled, if it was changed since it was last read.
    async fn changed_policy(&self, system: &System) -> Result<Option<Ready>, ApplyError> {
        let (policy, _) = boot::read_policy(system).map_err(ApplyError::Refused)?;
        if !locked(&self.history).is_new(&digest(&policy.source)) {
            return Ok(None);
        }
        Ok(Some(self.compile(policy.source).await?))
    }

    async fn put_system_in_force(&self, new: System, text: String) -> Result<(), ApplyError> {
        locked(&self.kernel).configure_taps(&new)?;
        system::share_out(&self.budget, &new.conntrack, self.flow_capacity);
        let settings = Arc::new(system::settings(&new, &locked(&self.timeouts)));
        let (new, macs) = (Arc::new(new), self.macs.clone());
        let asked = Arc::clone(&new);
        let network = spawn_blocking(move || Network::of(&asked, &macs)).await;
        let network = network.map_err(|_| ApplyError::Unsupported("reading the kernel's routes failed"))?;
        *locked(&self.system) = RunningSystem { model: Arc::clone(&new), text: text.into() };
        self.ipfix_changed.notify_one();
        self.put_network_in_force(&new, network, |world| world.settings = settings).await
    }

    /// Notes for the metrics how a change went.
    pub(crate) fn note<T>(&self, result: Result<T, ApplyError>) -> Result<T, ApplyError> {
        let mut last = locked(&self.last_reload);
        (last.success, last.time) = (result.is_ok(), unix_time());
        result
    }
}

/// What differs between two policies, as the API has it.
fn changes(old: &PolicySource, new: &PolicySource) -> Result<Vec<api::PolicyChange>, Diagnostics> {
    let [old, new] = [old, new].map(|source| Policy::from_source(source, None));
    let describe = |change: sluice_compiler::Change| {
        let (kind, from, to, before) = match change.kind {
            ChangeKind::Added(to) => ("added", None, to, None),
            ChangeKind::Removed(from) => ("removed", from, None, None),
            ChangeKind::Moved { from, to } => ("moved", Some(from), Some(to), None),
            ChangeKind::Changed { before, to } => ("changed", None, to, Some(before)),
        };
        api::PolicyChange { place: change.place, kind: kind.into(), from, to, before, text: change.text }
    };
    Ok(sluice_compiler::compare(&old?.0, &new?.0).into_iter().map(describe).collect())
}

/// Findings as the API has them.
pub(crate) fn describe(findings: &Diagnostics) -> Vec<api::Diagnostic> {
    let describe = |finding: &sluice_config::Diagnostic| api::Diagnostic {
        severity: match finding.severity {
            sluice_config::Severity::Error => "error".into(),
            sluice_config::Severity::Warning => "warning".into(),
        },
        file: finding.file.clone(),
        line: finding.line as usize,
        column: finding.column as usize,
        message: finding.message.clone(),
        hint: finding.hint.clone(),
        rule: finding.rule.clone(),
        rendered: finding.to_string(),
    };
    findings.iter().map(describe).collect()
}

fn summary(findings: &Diagnostics) -> String {
    let (errors, warnings) = (findings.errors().count(), findings.warnings().count());
    match (errors, warnings) {
        (0, 1) => "refused: 1 warning".into(),
        (0, n) => format!("refused: {n} warnings"),
        (1, _) => "refused: 1 error".into(),
        (n, _) => format!("refused: {n} errors"),
    }
}
