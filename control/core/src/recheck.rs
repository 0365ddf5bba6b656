//! Live flows against a policy: counted before it is in force, and cut once it is.
//!
//! Flows come a batch at a time and are judged beside the control thread, some thousands at once; no more than these are
//! ever in memory, and no worker does more than a batch between two bursts. Flows that begin meanwhile need no second
//! look: cutting starts when every worker runs on the policy, and what begins from then on was let in by it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_compiler::Recheck;
use sluice_engine::conntrack::{FlowFilter, FlowId, FlowRecord};
use sluice_engine::ids::WorkerId;
use sluice_engine::message::{Command, Event};
use sluice_engine::world::World;
use tokio::task::spawn_blocking;

use crate::flows::{BATCH, Task, Walk};
use crate::workers::{WorkerError, Workers};

/// Flows that are judged at once: some milliseconds of a thread's time, a megabyte.
const CHUNK: usize = 4096;

/// How long counting may take; what it saw by then is the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a policy would do to live flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Flows that were looked at.
    pub(crate) examined: u64,
    /// Of these, flows whose first packet it would not accept.
    pub(crate) refused: u64,
    /// Of these, flows whose next packets it would drop.
    pub(crate) stopped: u64,
}

/// A flow and the worker that owns it.
type Owned = (WorkerId, FlowRecord);

/// Counts what the policy of `world` would do to live flows.
///
/// # Errors
/// A worker does not answer.
pub(crate) async fn count(workers: &Arc<Workers>, world: Arc<World>) -> Result<Standing, WorkerError> {
    let mut listing = Walk::new(Arc::clone(workers), Task::List, FlowFilter::default());
    let began = Instant::now();
    let mut standing = Standing::default();
    while let Some(chunk) = next_chunk(&mut listing).await?
        && began.elapsed() < PATIENCE
    {
        let world = Arc::clone(&world);
        let judged = spawn_blocking(move || {
            let recheck = recheck(&world);
            let mut seen = Standing { examined: chunk.len() as u64, ..Standing::default() };
            for (_, flow) in &chunk {
                seen.refused += u64::from(!recheck.admits(flow));
                seen.stopped += u64::from(!recheck.lets_go_on(flow));
            }
            seen
        });
        // A panic there is a bug, and no reason to end the daemon: those flows count as not looked at.
        let seen = judged.await.unwrap_or_default();
        standing.examined += seen.examined;
        standing.refused += seen.refused;
        standing.stopped += seen.stopped;
    }
    Ok(standing)
}

/// Deletes flows whose first packet the policy of `world`, which runs, would not accept; how many there were.
///
/// # Errors
/// A worker does not answer; some flows may be deleted already.
pub(crate) async fn cut(workers: &Arc<Workers>, world: Arc<World>) -> Result<u64, WorkerError> {
    let mut listing = Walk::new(Arc::clone(workers), Task::List, FlowFilter::default());
    let mut total = 0;
    while let Some(mut chunk) = next_chunk(&mut listing).await? {
        let world = Arc::clone(&world);
        let judged = spawn_blocking(move || {
            let recheck = recheck(&world);
            chunk.retain(|(_, flow)| !recheck.admits(flow));
            chunk
        });
        let refused = judged.await.unwrap_or_default();
        for of_one in refused.chunk_by(|(a, _), (b, _)| a == b) {
            for batch in of_one.chunks(BATCH) {
                total += delete(workers, batch).await?;
            }
        }
    }
    Ok(total)
}

fn recheck(world: &World) -> Recheck<'_> {
    Recheck { ruleset: &world.ruleset, interfaces: &world.interfaces, fib: &world.fib }
}

/// The next flows, as many as are judged at once; None behind the last.
async fn next_chunk(listing: &mut Walk) -> Result<Option<Vec<Owned>>, WorkerError> {
    let mut chunk = Vec::new();
    while chunk.len() + BATCH <= CHUNK {
        let Some((worker, batch)) = listing.next().await? else {
            return Ok((!chunk.is_empty()).then_some(chunk));
        };
        chunk.extend(batch.iter().map(|flow| (worker, *flow)));
    }
    Ok(Some(chunk))
}

/// Deletes flows of one worker.
async fn delete(workers: &Workers, batch: &[Owned]) -> Result<u64, WorkerError> {
    let Some((worker, _)) = batch.first().copied() else { return Ok(0) };
    let flows: Vec<FlowId> = batch.iter().map(|(_, flow)| flow.id).collect();
    match workers.ask(worker, |request| Command::DeleteListed { request, flows }).await? {
        Event::Deleted { deleted, .. } => Ok(deleted),
        _ => Err(WorkerError::Silent(worker.0)),
    }
}
