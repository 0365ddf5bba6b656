//! What would happen to a packet, by the policy that runs. The packet of a live flow is explained as one of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_api as api;
use sluice_compiler::{Explain, Names, OfFlow};
use sluice_config::policy::TestPacket;
use sluice_engine::conntrack::{Direction, FlowFilter, Prefix, TupleFilter};
use sluice_wire::Protocol;
use tokio::task::spawn_blocking;

use crate::apply::ApplyError;
use crate::control::Control;
use crate::flows::{Task, Walk};
use crate::lock::locked;
use crate::workers::WorkerError;

/// How long the table is searched for the packet's flow.
const PATIENCE: Duration = Duration::from_secs(2);

impl Control {
    /// Tells what would happen to a packet.
    ///
    /// # Errors
    /// There is no such packet or interface, or a worker does not answer.
    pub(crate) async fn explain(&self, request: api::ExplainRequest) -> Result<api::Explanation, ApplyError> {
        let text =
            serde_json::to_string(&request.packet).map_err(|error| ApplyError::Asked(error.to_string()))?;
        let packet = TestPacket::parse("packet", &text).map_err(ApplyError::Refused)?;
        let (live, whole) = self.flow_of(&packet).await?;
        let world = self.publisher.world();
        let system = Arc::clone(&locked(&self.system).model);
        // A chain may have a hundred thousand rules: beside this thread.
        let work = spawn_blocking(move || {
            let names = Names::of(&system);
            let explain = Explain {
                ruleset: &world.ruleset,
                names: &names,
                interfaces: &world.interfaces,
                fib: Some(&world.fib),
            };
            explain.packet(&packet, live.as_ref())
        });
        let done = work.await.map_err(|_| ApplyError::Unsupported("the packet could not be explained"))?;
        let mut told = done.map_err(ApplyError::Asked)?;
        if !whole {
            let seconds = PATIENCE.as_secs();
            told.notes
                .push(format!("the table was searched for its flow for {seconds} s, and not to its end"));
        }
        Ok(told)
    }

    /// The live flow of a packet that says nothing of its state, and whether the table was searched whole.
    async fn flow_of(&self, packet: &TestPacket) -> Result<(Option<OfFlow>, bool), WorkerError> {
        let Some((original, reply)) = tuples(packet).filter(|_| packet.ct.is_none()) else {
            return Ok((None, true));
        };
        let began = Instant::now();
        for (filter, direction) in [(original, Direction::Original), (reply, Direction::Reply)] {
            let mut walk = Walk::new(Arc::clone(&self.workers), Task::List, filter);
            while let Some((_, batch)) = walk.next().await? {
                if let Some(flow) = batch.first() {
                    return Ok((Some(OfFlow { flow: *flow, direction }), true));
                }
                if began.elapsed() > PATIENCE {
                    return Ok((None, false));
                }
            }
        }
        Ok((None, true))
    }
}

/// Flows that the packet would be of, as their original or their reply tuple; None if it does not tell.
fn tuples(packet: &TestPacket) -> Option<(FlowFilter, FlowFilter)> {
    let (src, dst) = (packet.src?, packet.dst?);
    let proto = packet.proto.or(packet.tcp_flags.map(|_| Protocol::TCP))?;
    let host =
        |address: std::net::IpAddr| Some(Prefix { address, len: if address.is_ipv4() { 32 } else { 128 } });
    let tuple = TupleFilter {
        src: host(src),
        dst: host(dst),
        sport: Some(packet.sport?),
        dport: Some(packet.dport?),
        ..TupleFilter::default()
    };
    let filter = FlowFilter { protocol: Some(proto), ..FlowFilter::default() };
    Some((FlowFilter { original: tuple.clone(), ..filter.clone() }, FlowFilter { reply: tuple, ..filter }))
}
