//! What translations use: translated flows, counted as they come from the workers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{Path, State};
use sluice_api as api;
use sluice_engine::conntrack::{FlowFilter, Status};
use sluice_engine::counters::Counter;
use sluice_engine::verdict::DropReason;

use super::top::protocol_text;
use super::{Answer, Json, Shared};
use crate::flows::{End, Task, Translations, Walk};
use crate::nat_pools;

pub(super) async fn nat(State(control): Shared) -> Answer<api::Nat> {
    let mut counted = Translations::default();
    // Every translated flow is met once: of those with both ends changed, with the first.
    let source = FlowFilter { status: Status::SNAT, ..FlowFilter::default() };
    let destination =
        FlowFilter { status: Status::DNAT, status_clear: Status::SNAT, ..FlowFilter::default() };
    for filter in [source, destination] {
        let mut walk = Walk::new(Arc::clone(&control.workers), Task::List, filter);
        while let Some((_, batch)) = walk.next().await? {
            batch.iter().for_each(|flow| counted.count(flow));
        }
    }
    let drops = |reason: DropReason| {
        let of = |counters: &[_; DropReason::COUNT]| counters.get(reason as usize).map_or(0, Counter::get);
        control.counters.iter().map(|worker| of(&worker.drops) + of(&worker.local_drops)).sum()
    };
    let world = control.publisher.world();
    // Of flows to IPv4 hosts, whom they see.
    let outer = |address: IpAddr| {
        let lent = world.ruleset.nat64().iter().find_map(|nat64| nat64.lent(address));
        lent.map_or(address, IpAddr::V4)
    };
    Ok(Json(api::Nat {
        sources: counted
            .sources()
            .into_iter()
            .map(|((address, protocol), flows, ports)| api::NatSource {
                address: outer(address).to_string(),
                protocol: protocol_text(protocol),
                flows,
                ports,
            })
            .collect(),
        destinations: counted
            .destinations()
            .into_iter()
            .map(|((asked, protocol, given), flows)| api::NatDestination {
                asked: end_text(asked),
                protocol: protocol_text(protocol),
                given: end_text(given),
                flows,
            })
            .collect(),
        left_out: counted.left_out(),
        exhausted: drops(DropReason::NatExhausted),
        exhausted_pools: nat_pools::exhausted(&world)
            .into_iter()
            .filter(|(_, packets)| *packets > 0)
            .map(|(pool, packets)| api::NatExhausted { pool, packets })
            .collect(),
        no_address: drops(DropReason::NatNoAddress),
    }))
}

pub(super) async fn owner(
    State(control): Shared,
    Path((address, port)): Path<(Ipv4Addr, u16)>,
) -> Answer<Vec<api::PortOwner>> {
    Ok(Json(sluice_compiler::port_owners(&control.publisher.world().ruleset, address, port)))
}

fn end_text((address, port): End) -> String {
    match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}
