//! The daemon's state, and the one thread that keeps it.
//!
//! Everything here runs on a current-thread runtime. What workers say comes in as [`Event`]s, what users ask through the
//! API ([`crate::api`]); changes go out through the [`Publisher`]. Nothing a client or a host on the network sends makes
//! this thread wait: compiling is done beside it, listings go a batch at a time, and what comes faster than it can be
//! handled is lost before it gets here, and counted.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Receiver;
use sluice_compiler::TimeoutRegistry;
use sluice_config::system::Ipfix;
use sluice_config::{PolicySource, System};
use sluice_engine::conntrack::FlowBudget;
use sluice_engine::counters::WorkerCounters;
use sluice_engine::ids::{Generation, WorkerId};
use sluice_engine::message::{Command, Event, LogCause, LogRecord};
use sluice_engine::ruleset::{RuleId, Ruleset};
use sluice_wire::MacAddr;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use crate::boot::{Boot, Launch};
use crate::capture::Captures;
use crate::confirm::Waiting;
use crate::devices::Devices;
use crate::history::{History, digest};
use crate::ipfix::{self, Exported};
use crate::kernel_interfaces::{KernelInterfaces, Learned};
use crate::lock::locked;
use crate::log_line::log_line;
use crate::log_output::{About, LogOutput};
use crate::nat_pools::PoolUse;
use crate::neighbours::{Action, Table, Time};
use crate::publisher::Publisher;
use crate::remote::{Remote, Stamps};
use crate::sets::Sets;
use crate::watch::Watchers;
use crate::workers::{WorkerError, Workers};

/// Events between the pump and the runtime; the workers' own queue is behind it.
const EVENTS: usize = 1024;

/// How often neighbours are looked after.
const TICK: Duration = Duration::from_millis(250);

/// Rulesets that late log records may still name.
const RULESETS: usize = 8;

/// What control is given by the program that has both it and the data plane.
pub struct Parts {
    /// What was read.
    pub boot: Boot,
    /// What the workers were started with.
    pub launch: Launch,
    /// The mailbox of each worker.
    pub mailboxes: Vec<crossbeam_channel::Sender<Command>>,
    /// The core of each worker.
    pub cores: Vec<usize>,
    /// MAC addresses of the ports.
    pub macs: Vec<MacAddr>,
    /// Devices as the data plane sees them.
    pub devices: Box<dyn Devices>,
    /// The kernel's side of them.
    pub kernel: Arc<Mutex<KernelInterfaces>>,
}

/// The running daemon.
pub struct Control {
    pub(crate) path: PathBuf,
    pub(crate) system: Mutex<RunningSystem>,
    pub(crate) policy: Mutex<RunningPolicy>,
    pub(crate) history: Mutex<History>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) captures: Captures,
    /// What became of flows that are told to a collector.
    pub(crate) exported: Exported,
    /// A reload may have changed where to.
    pub(crate) ipfix_changed: Notify,
    log_output: LogOutput,
    /// Whether a trace is under way.
    pub(crate) tracing: AtomicBool,
    pub(crate) publisher: Publisher,
    pub(crate) neighbours: Mutex<Table>,
    /// Addresses and routes that came from the kernel.
    pub(crate) learned: Mutex<Arc<Learned>>,
    /// Numbers of the timeouts that rules give to flows.
    pub(crate) timeouts: Mutex<TimeoutRegistry>,
    neighbours_changed: Notify,
    pub(crate) counters: Vec<Arc<WorkerCounters>>,
    pub(crate) budget: Arc<FlowBudget>,
    pub(crate) flow_capacity: u32,
    pub(crate) kernel: Arc<Mutex<KernelInterfaces>>,
    pub(crate) devices: Box<dyn Devices>,
    pub(crate) macs: Vec<MacAddr>,
    pub(crate) cores: Vec<usize>,
    pub(crate) started: Instant,
    /// Held by whoever changes policy or settings, from reading to publishing.
    pub(crate) changing: tokio::sync::Mutex<()>,
    pub(crate) last_reload: Mutex<LastReload>,
    pub(crate) sets: Mutex<Sets>,
    /// How much of what sources may be given is in use.
    pub(crate) pool_use: Mutex<PoolUse>,
    /// The policy that waits to be confirmed.
    pub(crate) waiting: Mutex<Option<Waiting>>,
    pub(crate) waiting_changed: Notify,
    pub(crate) remote: Mutex<Remote>,
    /// Changes that remote clients asked for lately.
    pub(crate) stamps: Mutex<Stamps>,
    rulesets: Mutex<VecDeque<(Generation, Arc<Ruleset>)>>,
}

/// The system file in force.
#[derive(Clone)]
pub(crate) struct RunningSystem {
    pub(crate) model: Arc<System>,
    pub(crate) text: Arc<str>,
}

/// The policy in force.
#[derive(Clone)]
pub(crate) struct RunningPolicy {
    pub(crate) source: Arc<PolicySource>,
    pub(crate) digest: String,
    /// Seconds since 1970.
    pub(crate) applied: u64,
}

/// How the last change of policy or system file went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastReload {
    pub(crate) success: bool,
    /// Seconds since 1970.
    pub(crate) time: f64,
    /// Of the policy in force.
    pub(crate) compile_seconds: f64,
}

impl Control {
    /// Takes over workers that are running.
    pub fn new(parts: Parts) -> Arc<Control> {
        let Parts { boot, launch, mailboxes, cores, macs, devices, kernel } = parts;
        let workers = Arc::new(Workers::new(mailboxes));
        let to_be_confirmed = boot.to_be_confirmed();
        let policy = RunningPolicy {
            digest: digest(&boot.policy.source),
            applied: boot.history.last().map_or_else(unix_seconds, |last| last.time),
            source: Arc::new(boot.policy.source),
        };
        let reload = LastReload { success: true, time: unix_time(), compile_seconds: boot.policy.seconds };
        let number = boot.history.last().map_or(0, |last| last.number);
        let waiting = to_be_confirmed.map(|seconds| Waiting::new(number, seconds));
        let ruleset = (launch.world.generation, Arc::clone(&launch.world.ruleset));
        Arc::new(Control {
            path: boot.path,
            system: Mutex::new(RunningSystem { model: Arc::new(boot.system), text: boot.text.into() }),
            policy: Mutex::new(policy),
            history: Mutex::new(boot.history),
            publisher: Publisher::new(Arc::clone(&workers), launch.world, launch.reservations),
            watchers: Watchers::new(Arc::clone(&workers)),
            captures: Captures::default(),
            exported: Exported::default(),
            ipfix_changed: Notify::new(),
            log_output: LogOutput::new(),
            tracing: AtomicBool::new(false),
            workers,
            neighbours: Mutex::new(launch.neighbours),
            learned: Mutex::default(),
            timeouts: Mutex::new(launch.timeouts),
            neighbours_changed: Notify::new(),
            counters: launch.counters,
            budget: launch.budget,
            flow_capacity: launch.flow_capacity,
            kernel,
            devices,
            macs,
            cores,
            started: Instant::now(),
            changing: tokio::sync::Mutex::default(),
            last_reload: Mutex::new(reload),
            sets: Mutex::new(boot.sets),
            pool_use: Mutex::default(),
            waiting: Mutex::new(waiting),
            waiting_changed: Notify::new(),
            remote: Mutex::new(Remote::new()),
            stamps: Mutex::new(Stamps::new(unix_seconds())),
            rulesets: Mutex::new([ruleset].into()),
        })
    }

    /// Answers the workers and looks after neighbours; ends when the workers are gone.
    ///
    /// # Errors
    /// A worker stopped that nobody had stopped.
    pub async fn serve_workers(self: Arc<Self>, events: Receiver<Event>) -> Result<(), WorkerError> {
        let mut events = pump(events);
        let publishing = tokio::spawn(Arc::clone(&self).publish_neighbours());
        let waiting = tokio::spawn(Arc::clone(&self).watch_waiting());
        let pools = tokio::spawn(Arc::clone(&self).follow_pools());
        let exporting = tokio::spawn(ipfix::run(Arc::clone(&self)));
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let result = loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(Event::Stopped(worker)) => break Err(WorkerError::Gone(worker.0)),
                    Some(event) => self.handle(event),
                    None => break Ok(()),
                },
                _ = tick.tick() => locked(&self.neighbours).tick(self.now()),
            }
            self.neighbour_work();
        };
        publishing.abort();
        waiting.abort();
        pools.abort();
        exporting.abort();
        result
    }

    /// How often each worker has polled.
    pub fn polls(&self) -> Vec<u64> {
        self.counters.iter().map(|of| of.busy_polls.get().wrapping_add(of.idle_polls.get())).collect()
    }

    /// Where flows are told to, if the system file says so.
    pub(crate) fn ipfix_config(&self) -> Option<Ipfix> {
        locked(&self.system).model.ipfix.clone()
    }

    /// Time on the clock of the neighbour table.
    pub(crate) fn now(&self) -> Time {
        self.started.elapsed()
    }

    /// Remembers a ruleset that workers may log rules of.
    pub(crate) fn remember_ruleset(&self, generation: Generation, ruleset: Arc<Ruleset>) {
        let mut rulesets = locked(&self.rulesets);
        rulesets.push_back((generation, ruleset));
        while rulesets.len() > RULESETS {
            rulesets.pop_front();
        }
    }

    fn handle(&self, event: Event) {
        match self.workers.deliver(event) {
            Some(Event::Adopted { worker, generation, old }) => {
                drop(old);
                self.publisher.adopted(worker, generation);
            }
            Some(Event::Punted { interface, frame }) => {
                locked(&self.neighbours).received(self.now(), interface, frame.bytes());
            }
            Some(Event::Resolve(key)) => locked(&self.neighbours).wanted(self.now(), key),
            Some(Event::Log(record)) => self.log(&record),
            _ => {}
        }
    }

    /// Does what the neighbour table wants done.
    pub(crate) fn neighbour_work(&self) {
        let (actions, changed) = {
            let mut table = locked(&self.neighbours);
            (table.take_actions(), table.has_changed())
        };
        for action in actions {
            match action {
                // A full mailbox loses it, as a full link would: it is asked again.
                Action::Send(interface, frame) => {
                    self.workers.try_send(WorkerId(0), Command::Originate(interface, frame.into()));
                }
                Action::Conflict { interface, address, mac } => {
                    let world = self.publisher.world();
                    let name = world.interfaces.get(interface).map_or("?", |i| i.name.as_str());
                    tracing::warn!("{mac} on {name} uses {address}, which is an address of this router");
                }
            }
        }
        if changed {
            self.neighbours_changed.notify_one();
        }
    }

    /// A task of its own, for publishing waits for mailboxes and events must not.
    async fn publish_neighbours(self: Arc<Self>) {
        loop {
            self.neighbours_changed.notified().await;
            let changed = locked(&self.neighbours).take_changed();
            if let Some(list) = changed
                && let Err(error) = self.publisher.publish_neighbours(list).await
            {
                tracing::error!(%error, "neighbours could not be published");
            }
        }
    }

    fn log(&self, record: &LogRecord) {
        let (rule, prefix) = match record.cause {
            LogCause::Rule(rule) => self.logging_rule(record.generation, rule),
            LogCause::Invalid { protocol, reason } => {
                (String::new(), format!("nf_ct_proto_{}: {reason} ", protocol.0))
            }
            LogCause::Block { subscriber, block } => {
                let (first, last) = block.ports;
                let given = format!("nat_block: {subscriber} has {} ports {first}-{last} ", block.address);
                (String::new(), given)
            }
        };
        let line = log_line(record, &prefix, &self.publisher.world().interfaces);
        let must = matches!(record.cause, LogCause::Block { .. });
        self.log_output.write(unix_seconds(), &line, About { rule: &rule, prefix: &prefix, must });
    }

    /// A rule's name, or else its chain and place, and what its lines begin with.
    fn logging_rule(&self, generation: Generation, rule: RuleId) -> (String, String) {
        let ruleset = self.ruleset_of(generation);
        let Some(rule) = ruleset.as_ref().and_then(|ruleset| ruleset.rules().get(rule.0 as usize)) else {
            return (String::new(), String::new());
        };
        let named = rule.name.as_deref().map(str::to_owned);
        let name = named.unwrap_or_else(|| format!("{}.{} {}", rule.table, rule.chain, rule.index));
        (name, rule.log_prefix.as_deref().unwrap_or_default().to_owned())
    }

    /// The ruleset of a generation, if it is not too long ago.
    pub(crate) fn ruleset_of(&self, generation: Generation) -> Option<Arc<Ruleset>> {
        let rulesets = locked(&self.rulesets);
        // Generations of other changes lie between those of policies.
        rulesets.iter().rev().find(|(of, _)| *of <= generation).map(|(_, ruleset)| Arc::clone(ruleset))
    }
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Seconds since 1970, with their fraction.
pub(crate) fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Workers send over a channel that cannot be awaited; a thread carries events over.
fn pump(events: Receiver<Event>) -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(EVENTS);
    std::thread::spawn(move || {
        for event in events {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
pub(crate) mod tests;
