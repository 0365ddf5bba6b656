//! Expectations of helpers in all shards: listed and deleted a bounded step at a time, one worker after the other.

use std::sync::Arc;

use sluice_api as api;
use sluice_engine::conntrack::{ExpectationFilter, ExpectationRecord, protocol_name};
use sluice_engine::helper::Helper;
use sluice_engine::ids::WorkerId;
use sluice_engine::message::{Command, Cursor, Event};
use sluice_wire::Protocol;

use super::BATCH;
use super::describe::tuple;
use super::filter::{family, prefix, protocol};
use crate::workers::{WorkerError, Workers};

/// A walk through all shards: where it stands.
pub(crate) struct ExpectationWalk {
    workers: Arc<Workers>,
    filter: Arc<ExpectationFilter>,
    delete: bool,
    worker: WorkerId,
    cursor: Option<Cursor>,
    batch: Vec<ExpectationRecord>,
}

impl ExpectationWalk {
    /// One that begins with the first worker; with `delete`, what matches is deleted.
    pub(crate) fn new(workers: Arc<Workers>, filter: ExpectationFilter, delete: bool) -> ExpectationWalk {
        ExpectationWalk {
            workers,
            filter: Arc::new(filter),
            delete,
            worker: WorkerId(0),
            cursor: Some(Cursor::default()),
            batch: Vec::with_capacity(BATCH),
        }
    }

    /// The next expectations with the worker that has them; None behind the last. May be empty on the way.
    ///
    /// # Errors
    /// A worker does not answer.
    pub(crate) async fn next(&mut self) -> Result<Option<(WorkerId, &[ExpectationRecord])>, WorkerError> {
        if self.cursor.is_none() {
            self.worker.0 += 1;
            self.cursor = Some(Cursor::default());
        }
        let Some(cursor) = self.cursor.filter(|_| self.workers.ids().any(|id| id == self.worker)) else {
            return Ok(None);
        };
        let (worker, delete, filter) = (self.worker, self.delete, Arc::clone(&self.filter));
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        let command = |request| Command::Expectations { request, cursor, filter, delete, batch };
        let Event::Expectations { next, batch, .. } = self.workers.ask(worker, command).await? else {
            return Err(WorkerError::Silent(worker.0));
        };
        (self.cursor, self.batch) = (next, batch);
        Ok(Some((worker, &self.batch)))
    }
}

/// What the API's filter means.
///
/// # Errors
/// The value that means nothing, in one line.
pub(crate) fn expectation_filter(from: &api::ExpectationFilter) -> Result<ExpectationFilter, String> {
    let prefix = |text: &Option<String>| text.as_deref().map(prefix).transpose();
    let helper = |name: &str| {
        let found = Helper::ALL.into_iter().find(|helper| helper.name() == name);
        found.ok_or_else(|| format!("unknown helper {name}"))
    };
    Ok(ExpectationFilter {
        id: from.id,
        family: from.family.as_deref().map(family).transpose()?,
        protocol: from.proto.as_deref().map(protocol).transpose()?,
        src: prefix(&from.src)?,
        dst: prefix(&from.dst)?,
        dport: from.dport,
        master_src: prefix(&from.master_src)?,
        master_dst: prefix(&from.master_dst)?,
        helper: from.helper.as_deref().map(helper).transpose()?,
    })
}

/// An expectation as the API has it.
pub(crate) fn describe_expectation(from: &ExpectationRecord, worker: WorkerId) -> api::Expectation {
    let (family, none, all) = match from.dst {
        std::net::IpAddr::V4(_) => ("ipv4", "0.0.0.0", "255.255.255.255"),
        std::net::IpAddr::V6(_) => ("ipv6", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    };
    let ends = |src: String, dst: String, sport, dport| {
        let (ends, sport, dport) = (api::FlowTuple::default(), Some(sport), Some(dport));
        match from.protocol {
            Protocol::GRE => api::FlowTuple { src, dst, srckey: sport, dstkey: dport, ..ends },
            _ => api::FlowTuple { src, dst, sport, dport, ..ends },
        }
    };
    let src = from.src.map_or_else(|| none.to_owned(), |src| src.to_string());
    let mask_src = if from.src.is_some() { all } else { none }.to_owned();
    let mask_sport = if from.sport.is_some() { u16::MAX } else { 0 };
    api::Expectation {
        id: from.id,
        family: family.to_owned(),
        proto: protocol_name(from.protocol).to_owned(),
        protonum: from.protocol.0,
        timeout: from.timeout.0 / 1000,
        tuple: ends(src, from.dst.to_string(), from.sport.unwrap_or_default(), from.dport),
        mask: ends(mask_src, all.to_owned(), mask_sport, u16::MAX),
        master: tuple(&from.master_tuple, None, None),
        master_id: from.master.0,
        zone: Some(from.zone).filter(|zone| *zone != 0),
        class: from.class.0,
        helper: from.helper.name().to_owned(),
        translated: from.translated,
        worker: worker.0,
    }
}
