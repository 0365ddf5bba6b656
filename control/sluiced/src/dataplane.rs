//! From the system file to the data plane's own configuration, and from the data plane to what control asks of it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use sluice_config::System;
use sluice_config::system::{self as config, Placement};
use sluice_control::Devices;
use sluice_control::system::{PortPlan, ports};
use sluice_worker::{Dataplane, DataplaneConfig, Device, Hugepages, Idle, PortSpec, TapSpec};

/// What to open.
///
/// # Errors
/// More workers than cores, or a core that the process may not use.
pub(crate) fn config(system: &System, debug_eal: bool) -> Result<DataplaneConfig> {
    Ok(DataplaneConfig {
        workers: cores(&system.workers.placement)?,
        idle: match system.workers.idle {
            config::Idle::Poll => Idle::Poll,
            config::Idle::Yield => Idle::Yield,
        },
        hugepages: match system.memory.hugepages {
            config::Hugepages::Auto => Hugepages::Auto,
            config::Hugepages::Required => Hugepages::Required,
            config::Hugepages::Off => Hugepages::Off,
        },
        mbufs: system.memory.mbufs,
        ports: ports(system).iter().map(port).collect(),
        debug_eal,
    })
}

/// Flows that each worker has memory for from the start: its share of all, and a quarter more, since hashes are not even.
/// None where memory is to be saved.
pub(crate) fn resident_flows(system: &System, capacity: u32) -> u32 {
    if system.memory.hugepages == config::Hugepages::Off {
        return 0;
    }
    let all = if system.conntrack.max == 0 { capacity } else { system.conntrack.max };
    let workers = u32::try_from(system.workers.placement.count()).unwrap_or(u32::MAX).max(1);
    let share = all.div_ceil(workers);
    share.saturating_add(share / 4).min(capacity)
}

/// The core of each worker.
fn cores(placement: &Placement) -> Result<Vec<usize>> {
    let usable: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    match placement {
        Placement::Cores(cores) => {
            let cores: Vec<usize> = cores.iter().copied().map(usize::from).collect();
            if let Some(core) = cores.iter().find(|core| !usable.contains(core)) {
                bail!("workers: core {core} is not one that this process may use ({usable:?})");
            }
            Ok(cores)
        }
        Placement::Count(count) => {
            let count = usize::from(*count);
            if count > usable.len() {
                bail!("workers: count {count}, but there are {} cores to use", usable.len());
            }
            Ok(usable.into_iter().take(count).collect())
        }
    }
}

/// Keeps the calling thread, and those that it starts from now on, off the workers' cores, where the process may use others:
/// the scheduler would give control half of a core that a worker polls on, for milliseconds at a time.
pub(crate) fn keep_off(workers: &[usize]) {
    let this = Pid::from_raw(0);
    let Ok(mut cores) = sched_getaffinity(this) else { return };
    for core in workers {
        // There is none beyond what the set has room for.
        let _ = cores.unset(*core);
    }
    let others = (0..CpuSet::count()).any(|core| cores.is_set(core).unwrap_or_default());
    if others && let Err(error) = sched_setaffinity(this, &cores) {
        tracing::warn!(%error, "control shares the workers' cores");
    }
}

fn port(plan: &PortPlan) -> PortSpec {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    PortSpec {
        name: plan.interfaces.first().map(|(_, name)| name.clone()).unwrap_or_default(),
        device: match &plan.device {
            config::Device::Pci(address) => Device::Pci(address.clone()),
            config::Device::Kernel(name) => Device::Kernel(name.clone()),
            config::Device::Xdp(name) => Device::Xdp(name.clone()),
            config::Device::Tap(name) => Device::Tap(name.clone()),
            config::Device::Memif(path) => Device::Memif(text(path)),
            config::Device::Pcap { input, output } => {
                Device::Pcap { input: text(input), output: output.as_deref().map(text) }
            }
            config::Device::Vdev(arguments) => Device::Vdev(arguments.clone()),
        },
        mtu: plan.mtu,
        mac: plan.mac,
        taps: plan
            .taps
            .iter()
            .map(|(interface, name)| TapSpec { interface: *interface, name: name.clone() })
            .collect(),
    }
}

/// The running data plane, shared with control for as long as it runs.
#[derive(Clone)]
pub(crate) struct Running(Arc<Mutex<Option<Dataplane>>>);

impl Running {
    pub(crate) fn new(dataplane: Dataplane) -> Running {
        Running(Arc::new(Mutex::new(Some(dataplane))))
    }

    /// Stops the workers and closes the ports.
    pub(crate) fn stop(&self) {
        if let Some(dataplane) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            dataplane.stop();
        }
    }

    fn ask<T: Default>(&self, question: impl FnOnce(&Dataplane) -> T) -> T {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(question).unwrap_or_default()
    }
}

impl Devices for Running {
    fn ports(&self) -> Vec<sluice_control::Port> {
        self.ask(|dataplane| {
            let ports = dataplane.ports().iter().zip(dataplane.port_stats());
            ports
                .map(|(info, stats)| sluice_control::Port {
                    device: info.device.clone(),
                    driver: info.driver.clone(),
                    link_up: stats.link_up,
                    speed: stats.link_mbps,
                    rx_queues: info.rx_queues,
                    tx_queues: info.tx_queues,
                    rss_queue: info.rss_queue,
                    rss_hash: info.rss_hash,
                    rx_missed: stats.rx_missed,
                    rx_nombuf: stats.rx_no_buffer,
                    rx_errors: stats.rx_errors,
                    tx_errors: stats.tx_errors,
                })
                .collect()
        })
    }

    fn buffers(&self) -> (u32, u32) {
        self.ask(Dataplane::buffers)
    }

    fn nanos(&self) -> u64 {
        self.ask(|dataplane| dataplane.now().nanos)
    }

    fn cycles_per_second(&self) -> u64 {
        self.ask(Dataplane::tsc_hz)
    }
}
