//! Follows the addresses and routes that programs on the box put on the taps, into the world of the workers.
//!
//! Between two looks lies at least a second, for with each new world every flow's next packet is decided anew, and three
//! times as long as the last one took, so that a routing daemon that learns a full table costs a quarter of control's
//! core.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_compiler::topology;
use sluice_config::System;
use sluice_engine::world::{Fib, Interfaces, World};
use sluice_wire::MacAddr;
use tokio::task::spawn_blocking;

use crate::apply::ApplyError;
use crate::control::Control;
use crate::kernel_interfaces::{self, KernelError, Learned};
use crate::lock::locked;
use crate::{groups, system};

/// Between two looks: routes that flap must not keep flows from their stored decisions.
const REST: Duration = Duration::from_secs(1);

/// A DHCP client removes and adds, a routing daemon sends what belongs together: wait for the end of it.
const SETTLING: Duration = Duration::from_millis(50);

/// Interfaces and routes, from the file and from the kernel.
pub(crate) struct Network {
    pub(crate) learned: Learned,
    pub(crate) interfaces: Arc<Interfaces>,
    pub(crate) fib: Arc<Fib>,
}

impl Network {
    /// What `system` says, with what the kernel has now where it says so. Blocks: with a full table, for seconds.
    pub(crate) fn of(system: &System, macs: &[MacAddr]) -> Network {
        let learned = Learned::read(system).unwrap_or_else(|error| {
            tracing::error!(%error, "the kernel's addresses and routes could not be read");
            Learned::default()
        });
        Network::with(system, macs, learned)
    }

    fn with(system: &System, macs: &[MacAddr], learned: Learned) -> Network {
        let interfaces = groups::with_groups(&learned.on(&system::interfaces(system, macs)), &groups::read());
        // Of two routes that are alike, the first counts: the file's.
        let mut routes = topology::routes(system);
        routes.extend_from_slice(learned.routes());
        let fib = Arc::new(Fib::new(&routes, &interfaces));
        Network { learned, interfaces, fib }
    }
}

/// Keeps the workers' addresses and routes as the kernel has them, until the runtime ends.
pub async fn follow(control: Arc<Control>) {
    let changes = match kernel_interfaces::changes() {
        Ok(changes) => changes,
        Err(error) => {
            tracing::error!(%error, "the kernel's addresses and routes cannot be followed");
            return;
        }
    };
    loop {
        let began = Instant::now();
        if let Err(error) = control.follow_kernel().await {
            tracing::error!("the kernel's addresses and routes could not be taken over: {error}");
        }
        tokio::time::sleep(REST.max(began.elapsed() * 3)).await;
        // Changes since the look above are told by now, and all of them at once.
        changes.notified().await;
        tokio::time::sleep(SETTLING).await;
    }
}

impl Control {
    /// Takes over what the kernel has now, if it is something else than before.
    async fn follow_kernel(&self) -> Result<(), ApplyError> {
        if !Learned::concerns(&locked(&self.system).model) {
            return Ok(());
        }
        let _changing = self.changing.lock().await;
        let system = locked(&self.system).model.clone();
        let (asked, before, macs) = (Arc::clone(&system), locked(&self.learned).clone(), self.macs.clone());
        let work = spawn_blocking(move || {
            let learned = Learned::read(&asked)?;
            let news = *before != learned;
            Ok(news.then(|| Network::with(&asked, &macs, learned)))
        });
        let work: Result<Option<Network>, KernelError> =
            work.await.map_err(|_| ApplyError::Unsupported("reading the kernel's routes failed"))?;
        let Some(network) = work? else { return Ok(()) };
        let routes = network.learned.routes().len();
        self.put_network_in_force(&system, network, |_| {}).await?;
        tracing::info!(routes, "addresses and routes of the kernel taken over");
        Ok(())
    }

    /// Publishes interfaces and routes, together with another change.
    pub(crate) async fn put_network_in_force(
        &self,
        system: &System,
        network: Network,
        also: impl FnOnce(&mut World),
    ) -> Result<(), ApplyError> {
        let Network { learned, interfaces, fib } = network;
        let permanent = system::neighbours(system);
        locked(&self.neighbours).configure(self.now(), Arc::clone(&interfaces), &permanent);
        self.neighbour_work();
        *locked(&self.learned) = Arc::new(learned);
        let change = |world: &mut World| {
            world.interfaces = interfaces;
            world.fib = fib;
            also(world);
        };
        self.publisher.publish(change).await?;
        Ok(())
    }
}
