//! One life of the daemon: files, devices, workers, control; and back in the opposite order.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use sd_notify::NotifyState;
use sluice_config::System;
use sluice_control::api::{self, ApiSocket};
use sluice_control::metrics::{self, MetricsServer};
use sluice_control::{Actor, Boot, Control, KernelInterfaces, Parts};
use sluice_control::{groups, learned};
use sluice_engine::message::Event;
use sluice_wire::MacAddr;
use sluice_worker::{Dataplane, StartConfig};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Arguments;
use crate::dataplane::{self, Running};
use crate::{confine, watchdog};

/// How often, and how many times, the taps are looked at before the router is ready without them.
const SETTLING: (Duration, u32) = (Duration::from_millis(20), 100);

/// The kernel has reported the groups of an address twice within this time, at the interval that taps are set up with.
const REPORTING: Duration = Duration::from_millis(60);

/// Starts, runs until told to stop, and puts everything back.
///
/// # Errors
/// What kept it from starting, or ended it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // From here on a signal is kept until it can be obeyed: a start that is half done is undone.
    let signals = runtime.block_on(async { Signals::new() })?;
    permitted()?;
    let boot = Boot::load(&arguments.config)?;
    let system = boot.system().clone();
    let kernel = Arc::new(Mutex::new(KernelInterfaces::prepare(&system, arguments.force)?));
    let started = start(arguments, boot, &system, &kernel)?;
    let result = runtime.block_on(serve(&started, &system, &kernel, signals));
    // Tasks first, they hold what is taken apart; then workers and ports; then the kernel gets its interfaces back.
    drop(runtime);
    started.dataplane.stop();
    drop(started);
    drop(kernel);
    result
}

/// Interfaces, raw sockets and sysctls need rights; without them, this is said before anything is touched.
fn permitted() -> Result<()> {
    /// CAP_NET_ADMIN and CAP_NET_RAW (capabilities(7)).
    const NEEDED: u64 = 1 << 12 | 1 << 13;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    // Where the kernel does not say, it will refuse what is not permitted by itself.
    if effective.is_some_and(|held| held & NEEDED != NEEDED) {
        anyhow::bail!("not permitted: root, or CAP_NET_ADMIN and CAP_NET_RAW, are needed");
    }
    Ok(())
}

/// A data plane with control beside it.
struct Started {
    dataplane: Running,
    control: Arc<Control>,
    events: crossbeam_channel::Receiver<Event>,
}

fn start(
    arguments: &Arguments,
    mut boot: Boot,
    system: &System,
    kernel: &Arc<Mutex<KernelInterfaces>>,
) -> Result<Started> {
    let config = dataplane::config(system, arguments.debug_dpdk)?;
    let cores = config.workers.clone();
    let opened = Dataplane::open(config)?;
    if let Ok(mut kernel) = kernel.lock() {
        kernel.configure_taps(system)?;
    }
    let macs: Vec<MacAddr> = opened.ports().iter().map(|port| port.mac).collect();
    let launch = boot.launch(&macs, cores.len());
    let dataplane = opened.start(StartConfig {
        world: Arc::clone(&launch.world),
        budget: Arc::clone(&launch.budget),
        counters: launch.counters.clone(),
        flow_capacity: launch.flow_capacity,
        resident_flows: dataplane::resident_flows(system, launch.flow_capacity),
        reservations: Arc::clone(&launch.reservations),
        seed: RandomState::new().hash_one(std::process::id()),
    })?;
    dataplane::keep_off(&cores);
    boot.remember();
    let mailboxes = dataplane.commands().to_vec();
    let events = dataplane.events().clone();
    let dataplane = Running::new(dataplane);
    let devices = Box::new(dataplane.clone());
    let kernel = Arc::clone(kernel);
    let control = Control::new(Parts { boot, launch, mailboxes, cores, macs, devices, kernel });
    Ok(Started { dataplane, control, events })
}

/// Everything that runs beside the workers, until a signal ends it.
async fn serve(
    started: &Started,
    system: &System,
    kernel: &Mutex<KernelInterfaces>,
    mut signals: Signals,
) -> Result<()> {
    let control = &started.control;
    let socket = ApiSocket::open(&system.control.api)?;
    if let Some(address) = system.control.metrics {
        let server = MetricsServer::open(address).await?;
        tokio::spawn(metrics::serve(Arc::clone(control), server));
    }
    tokio::spawn(api::serve(Arc::clone(control), socket));
    tokio::spawn(api::serve_remote(Arc::clone(control)));
    tokio::spawn(groups::follow(Arc::clone(control)));
    tokio::spawn(learned::follow(Arc::clone(control)));
    let workers = Arc::clone(control).serve_workers(started.events.clone());
    tokio::pin!(workers);
    tokio::select! {
        ended = &mut workers => return Ok(ended?),
        () = settled(kernel, system) => {}
    }
    if let Err(error) = confine::confine() {
        tracing::warn!("system calls that are not needed are not refused: {error:#}");
    }
    tracing::info!("ready");
    notify(&[NotifyState::Ready]);
    tokio::spawn(watchdog::feed(Arc::clone(control)));
    loop {
        tokio::select! {
            ended = &mut workers => return Ok(ended?),
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hangup.recv() => {
                tokio::spawn(reload(Arc::clone(control)));
            }
        }
    }
    tracing::info!("stopping");
    notify(&[NotifyState::Stopping]);
    Ok(())
}

/// Waits until the kernel has given the taps their link-local addresses and reported their groups (RFC 3810 §6.1):
/// whoever waits for this router finds it settled.
async fn settled(kernel: &Mutex<KernelInterfaces>, system: &System) {
    for _ in 0..SETTLING.1 {
        if kernel.lock().is_ok_and(|mut kernel| kernel.taps_are_settled(system)) {
            break;
        }
        tokio::time::sleep(SETTLING.0).await;
    }
    tokio::time::sleep(REPORTING).await;
}

async fn reload(control: Arc<Control>) {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
    if let Err(error) = control.reload(&Actor::Signal).await {
        tracing::error!("not reloaded: {}", error.details());
    }
    notify(&[NotifyState::Ready]);
}

/// Tells systemd, if it is there.
pub(crate) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not notified");
    }
}

/// The signals that mean something.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}
