//! Listing, deleting and changing flows in all shards: a bounded step at a time, one worker after the other.
//!
//! Nothing here holds more than one batch in memory, however many flows there are, and no worker does more than one
//! batch between two bursts.

mod describe;
mod expectations;
mod filter;
mod talkers;
mod translations;

use std::sync::Arc;

use sluice_engine::conntrack::{FlowChange, FlowFilter, FlowRecord};
use sluice_engine::ids::WorkerId;
use sluice_engine::message::{Command, Cursor, Event};

use crate::workers::{WorkerError, Workers};

pub(crate) use describe::describe;
pub(crate) use expectations::{ExpectationWalk, describe_expectation, expectation_filter};
pub(crate) use filter::{change, filter, kinds};
pub(crate) use talkers::{By, Count, Key, Talkers};
pub(crate) use translations::{End, Translations};

/// Flows that a worker copies out between two bursts: about 20 µs of its time.
pub(crate) const BATCH: usize = 64;

/// What is done with the flows that match.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// They are told.
    List,
    /// They are deleted, and told.
    Delete,
    /// They are changed, and told as they are then.
    Change(FlowChange),
}

/// A walk through all shards: where it stands.
pub(crate) struct Walk {
    workers: Arc<Workers>,
    task: Task,
    filter: Arc<FlowFilter>,
    worker: WorkerId,
    cursor: Option<Cursor>,
    batch: Vec<FlowRecord>,
    /// Places of the table that are left out behind each batch.
    skip: u32,
}

impl Walk {
    /// A walk that begins with the first flow of the first worker.
    pub(crate) fn new(workers: Arc<Workers>, task: Task, filter: FlowFilter) -> Walk {
        Walk {
            worker: filter.id.map_or(WorkerId(0), |id| id.worker()),
            workers,
            task,
            filter: Arc::new(filter),
            cursor: Some(Cursor::default()),
            batch: Vec::with_capacity(BATCH),
            skip: 0,
        }
    }

    /// Of every `n` batches, only one: a sample that is spread over the table.
    pub(crate) fn one_in(mut self, n: u32) -> Walk {
        self.skip = n.saturating_sub(1).saturating_mul(BATCH as u32);
        self
    }

    /// The next flows with the worker that owns them; None behind the last. May be empty on the way.
    ///
    /// # Errors
    /// A worker does not answer.
    pub(crate) async fn next(&mut self) -> Result<Option<(WorkerId, &[FlowRecord])>, WorkerError> {
        if self.cursor.is_none() {
            if self.filter.id.is_some() {
                return Ok(None);
            }
            self.worker.0 += 1;
            self.cursor = Some(Cursor::default());
        }
        let Some(cursor) = self.cursor else { return Ok(None) };
        if !self.workers.ids().any(|worker| worker == self.worker) {
            return Ok(None);
        }
        let (worker, filter, task) = (self.worker, Arc::clone(&self.filter), self.task);
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        let answer = self.workers.ask(worker, |request| match task {
            Task::List => Command::List { request, cursor, filter, batch },
            Task::Delete => Command::Delete { request, cursor, filter, batch },
            Task::Change(change) => Command::Update { request, cursor, filter, change, batch },
        });
        match answer.await? {
            Event::Listed { next, batch, .. }
            | Event::Deleted { next, batch, .. }
            | Event::Updated { next, batch, .. } => {
                (self.cursor, self.batch) = (next.map(|next| next.skip(self.skip)), batch);
            }
            _ => return Err(WorkerError::Silent(worker.0)),
        }
        Ok(Some((worker, &self.batch)))
    }
}

/// Deletes the flows that match, in all shards; how many there were.
///
/// # Errors
/// A worker does not answer; some flows may be deleted already.
pub(crate) async fn delete(workers: &Workers, filter: FlowFilter) -> Result<u64, WorkerError> {
    let filter = Arc::new(filter);
    let mut total = 0;
    for worker in workers.ids() {
        let mut cursor = Some(Cursor::default());
        while let Some(from) = cursor {
            let (filter, batch) = (Arc::clone(&filter), Vec::new());
            let command = |request| Command::Delete { request, cursor: from, filter, batch };
            let Event::Deleted { next, deleted, .. } = workers.ask(worker, command).await? else {
                return Err(WorkerError::Silent(worker.0));
            };
            total += deleted;
            cursor = next;
        }
    }
    Ok(total)
}
