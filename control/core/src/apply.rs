//! Putting a policy in force, and reading both files again.
//!
//! All or nothing: a policy is checked and compiled whole, then put on disk, then published; only then does anyone hear
//! that it is applied. One change is made at a time.

use std::sync::Arc;
use std::time::Instant;

use sluice_api as api;
use sluice_compiler::topology;
use sluice_config::{Diagnostics, Policy, PolicySource, System};
use sluice_engine::conntrack::FlowFilter;
use sluice_engine::world::Fib;
use tokio::task::spawn_blocking;

use crate::boot::{self, Ready};
use crate::control::{Control, RunningPolicy, RunningSystem, unix_time};
use crate::flows;
use crate::groups;
use crate::history::digest;
use crate::lock::locked;
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
    /// What this version does not do.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The policy could not be put on disk, so it was not put in force.
    #[error("state folder: {0}")]
    State(std::io::Error),
    /// The kernel's side of the interfaces could not follow.
    #[error(transparent)]
    Kernel(#[from] crate::kernel_interfaces::KernelError),
    /// A worker does not take it.
    #[error(transparent)]
    Worker(#[from] WorkerError),
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
    pub async fn apply(&self, request: api::ApplyRequest) -> Result<api::ApplyReply, ApplyError> {
        if request.confirm.is_some() {
            return Err(ApplyError::Unsupported("--confirm is not supported by this version"));
        }
        if request.flows == api::FlowHandling::Recheck {
            return Err(ApplyError::Unsupported(
                "--flows recheck is not supported by this version: keep or flush",
            ));
        }
        let _changing = self.changing.lock().await;
        let (name, text, files) = (request.name, request.text, request.files);
        let result = async {
            let ready = self.compile(PolicySource { name, text, files }).await?;
            if request.strict && ready.compiled.warnings.warnings().next().is_some() {
                return Err(ApplyError::Refused(ready.compiled.warnings));
            }
            let mut reply = self.put_in_force(ready).await?;
            if request.flows == api::FlowHandling::Flush {
                reply.flows_deleted = flows::delete(&self.workers, FlowFilter::default()).await?;
            }
            reply.flows_kept = self.flow_count();
            Ok(reply)
        };
        self.note(result.await)
    }

    /// Reads both files again. What of the system file can change while running does; if anything else changed, nothing
    /// does. The policy file is applied if it was changed since it was last read.
    ///
    /// # Errors
    /// What is wrong with either file, or needs a restart; what runs stays.
    pub async fn reload(&self) -> Result<api::ReloadReply, ApplyError> {
        let _changing = self.changing.lock().await;
        let result = self.reload_files().await;
        self.note(result)
    }

    /// Flows in all shards.
    pub(crate) fn flow_count(&self) -> u64 {
        self.counters.iter().map(|counters| counters.conntrack.entries.get()).sum()
    }

    /// Reading and compiling take seconds for large policies, so they are done beside the control thread.
    async fn compile(&self, source: PolicySource) -> Result<Ready, ApplyError> {
        let system = locked(&self.system).model.clone();
        let work = spawn_blocking(move || {
            let began = Instant::now();
            let (policy, found) = Policy::from_source(&source, Some(&system.interface_names()))?;
            boot::compile(&system, policy, found, began)
        });
        // A panic in the compiler is a bug, and no reason to end the daemon.
        let result = work.await.map_err(|_| ApplyError::Unsupported("the compiler failed on this policy"))?;
        result.map_err(ApplyError::Refused)
    }

    async fn put_in_force(&self, ready: Ready) -> Result<api::ApplyReply, ApplyError> {
        let Ready { source, compiled, seconds } = ready;
        let applied = {
            let mut history = locked(&self.history);
            let applied = history.add(source).map_err(ApplyError::State)?;
            applied.clone()
        };
        let mut ruleset = compiled.ruleset;
        let own_timeouts = {
            let mut registry = locked(&self.timeouts);
            ruleset.number_timeouts(registry.adopt(&compiled.timeouts));
            system::own_timeouts(&locked(&self.system).model, &registry)
        };
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
            ..api::ApplyReply::default()
        })
    }

    async fn reload_files(&self) -> Result<api::ReloadReply, ApplyError> {
        let (new, text) = boot::read_system(&self.path).map_err(ApplyError::Refused)?;
        let old = locked(&self.system).model.clone();
        let (changed, mut restart) = system::differences(&old, &new);
        if new.conntrack.max > self.flow_capacity {
            restart.push(format!("conntrack.max above {}", self.flow_capacity));
        }
        if !restart.is_empty() {
            return Err(ApplyError::NeedsRestart(restart));
        }
        // The policy first: if it is refused, nothing changes. It is compiled for the interfaces that the files name,
        // and those are the same.
        let ready = self.changed_policy(&new).await?;
        if !changed.is_empty() {
            self.put_system_in_force(new, text).await?;
            tracing::info!(changed = changed.join(", "), "system file reloaded");
        }
        let mut reply = api::ReloadReply { changed, ..api::ReloadReply::default() };
        if let Some(ready) = ready {
            let read = digest(&ready.source);
            reply.warnings = self.put_in_force(ready).await?.warnings;
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
        let interfaces = groups::with_groups(&system::interfaces(&new, &self.macs), &groups::read());
        let fib = Arc::new(Fib::new(&topology::routes(&new), &interfaces));
        let settings = Arc::new(system::settings(&new, &locked(&self.timeouts)));
        let permanent = system::neighbours(&new);
        locked(&self.neighbours).configure(self.now(), Arc::clone(&interfaces), &permanent);
        self.neighbour_work();
        *locked(&self.system) = RunningSystem { model: Arc::new(new), text: text.into() };
        let change = |world: &mut sluice_engine::World| {
            world.interfaces = interfaces;
            world.fib = fib;
            world.settings = settings;
        };
        self.publisher.publish(change).await?;
        Ok(())
    }

    /// Notes for the metrics how a change went.
    fn note<T>(&self, result: Result<T, ApplyError>) -> Result<T, ApplyError> {
        let mut last = locked(&self.last_reload);
        (last.success, last.time) = (result.is_ok(), unix_time());
        result
    }
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
