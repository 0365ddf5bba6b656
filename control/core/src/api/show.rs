//! The running state, read from where it is kept: nothing here asks a worker, and nothing waits.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use sluice_api as api;
use sluice_config::IpPrefix;
use sluice_engine::counters::{Counter, InterfaceCounters};
use sluice_engine::ids::InterfaceId;
use sluice_engine::ruleset::{Hook, Policy as ChainPolicy, RuleId, RuleInfo, Ruleset};
use sluice_engine::verdict::DropReason;
use sluice_engine::world::{Interface, Interfaces, Route, RouteKind, RpFilter};

use super::{Json, Refusal, Shared};
use crate::control::Control;
use crate::lock::locked;

pub(crate) async fn status(State(control): Shared) -> Json<api::Status> {
    Json(api::Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        uptime: control.started.elapsed().as_secs(),
        generation: control.publisher.world().generation.0,
        cores: control.cores.clone(),
        policy_digest: locked(&control.policy).digest.clone(),
    })
}

pub(super) async fn policy(State(control): Shared) -> Json<api::PolicyView> {
    let policy = locked(&control.policy).clone();
    Json(api::PolicyView {
        name: policy.source.name.clone(),
        text: policy.source.text.clone(),
        digest: policy.digest,
        applied: policy.applied,
        generation: control.publisher.world().generation.0,
        confirm: locked(&control.waiting).map(|waiting| waiting.left()),
    })
}

pub(super) async fn history(State(control): Shared) -> Json<Vec<api::HistoryEntry>> {
    let history = locked(&control.history);
    let entries = history.iter().enumerate().map(|(index, applied)| api::HistoryEntry {
        index,
        confirmed: applied.confirm_by.is_none(),
        name: applied.source.name.clone(),
        digest: applied.digest.clone(),
        applied: applied.time,
        by: Some(applied.by.clone()).filter(|by| !by.is_empty()),
    });
    Json(entries.collect())
}

pub(super) async fn rules(State(control): Shared) -> Json<Vec<api::Rule>> {
    let ruleset = control.publisher.world().ruleset.clone();
    let all: Vec<api::Rule> =
        (0..).map(RuleId).zip(ruleset.rules()).map(|(id, rule)| describe_rule(&ruleset, id, rule)).collect();
    let mut list = Vec::new();
    for hook in Hook::ALL {
        let of_hook = all.iter().filter(|rule| rule.table == hook.table() && rule.chain == hook.chain());
        let before = list.len();
        list.extend(of_hook.cloned());
        let (policy, packets, bytes) = ruleset.policy(hook);
        // A chain that was left out has neither rules nor a policy of its own.
        if list.len() > before || policy != ChainPolicy::Accept {
            let text = match policy {
                ChainPolicy::Accept => "policy: accept".into(),
                ChainPolicy::Drop => "policy: drop".into(),
            };
            let (table, chain) = (hook.table().to_owned(), hook.chain().to_owned());
            let index = list.len() - before + 1;
            list.push(api::Rule { table, chain, index, text, packets, bytes, ..api::Rule::default() });
        }
    }
    let user_chains = all.into_iter().filter(|rule| rule.table == "chains");
    list.extend(user_chains);
    Json(list)
}

pub(super) fn describe_rule(ruleset: &Ruleset, id: RuleId, rule: &RuleInfo) -> api::Rule {
    let (packets, bytes) = ruleset.rule_counters(id);
    api::Rule {
        table: rule.table.into(),
        chain: rule.chain.to_string(),
        index: rule.index as usize,
        name: rule.name.as_deref().map(str::to_owned),
        comment: rule.comment.as_deref().map(str::to_owned),
        text: rule.text.clone(),
        packets,
        bytes,
    }
}

pub(crate) async fn interfaces(State(control): Shared) -> Json<Vec<api::Interface>> {
    let ports = control.devices.ports();
    let world = control.publisher.world();
    let list = world.interfaces.iter().map(|(id, interface)| {
        let port = ports.get(usize::from(interface.port.0)).cloned().unwrap_or_default();
        describe_interface(&control, id, interface, port)
    });
    Json(list.collect())
}

fn describe_interface(
    control: &Control,
    id: InterfaceId,
    interface: &Interface,
    port: api::Port,
) -> api::Interface {
    let sum = |field: fn(&InterfaceCounters) -> &Counter| {
        let workers = control.counters.iter().filter_map(|worker| worker.interfaces.get(usize::from(id.0)));
        workers.map(|counters| field(counters).get()).sum()
    };
    let given = interface.addresses.iter().map(|(address, len)| format!("{address}/{len}"));
    api::Interface {
        name: interface.name.clone(),
        id: id.0,
        port,
        vlan: interface.vlan,
        mac: interface.mac.to_string(),
        mtu: interface.mtu,
        addresses: given.chain([format!("{}/64", interface.link_local())]).collect(),
        rp_filter: match interface.rp_filter {
            RpFilter::Off => "off".into(),
            RpFilter::Loose => "loose".into(),
            RpFilter::Strict => "strict".into(),
        },
        rx_packets: sum(|c| &c.rx_packets),
        rx_bytes: sum(|c| &c.rx_bytes),
        tx_packets: sum(|c| &c.tx_packets),
        tx_bytes: sum(|c| &c.tx_bytes),
        forwarded: sum(|c| &c.forwarded),
        delivered: sum(|c| &c.delivered),
        answered: sum(|c| &c.answered),
        consumed: sum(|c| &c.consumed),
    }
}

pub(super) async fn routes(State(control): Shared) -> Json<Vec<api::Route>> {
    let world = control.publisher.world();
    let connected = connected_routes(&world.interfaces);
    let fixed = sluice_compiler::topology::routes(&locked(&control.system).model);
    let fixed = fixed.iter().map(|route| describe_route(route, &world.interfaces, "static"));
    let learned = locked(&control.learned).clone();
    let learned = learned.routes().iter().map(|route| describe_route(route, &world.interfaces, "kernel"));
    Json(connected.into_iter().chain(fixed).chain(learned).collect())
}

/// Those that addresses imply.
fn connected_routes(interfaces: &Interfaces) -> Vec<api::Route> {
    let of_address = |(_, interface): (InterfaceId, &Interface)| {
        let name = interface.name.clone();
        let prefixes: Vec<IpPrefix> =
            interface.addresses.iter().filter_map(|&(address, len)| IpPrefix::new(address, len)).collect();
        prefixes.into_iter().map(move |prefix| api::Route {
            to: prefix.masked().to_string(),
            kind: "unicast".into(),
            hops: vec![api::RouteHop { via: None, dev: name.clone(), weight: 1 }],
            metric: 0,
            source: "connected".into(),
        })
    };
    interfaces.iter().flat_map(of_address).collect()
}

fn describe_route(route: &Route, interfaces: &Interfaces, source: &str) -> api::Route {
    let (kind, hops) = match &route.kind {
        RouteKind::Unicast(hops) => ("unicast", hops.as_slice()),
        RouteKind::Unreachable => ("unreachable", &[][..]),
        RouteKind::Prohibit => ("prohibit", &[][..]),
        RouteKind::Blackhole => ("blackhole", &[][..]),
    };
    let hops = hops.iter().map(|hop| api::RouteHop {
        via: hop.gateway.map(|gateway| gateway.to_string()),
        dev: name(interfaces, hop.interface),
        weight: hop.weight,
    });
    api::Route {
        to: format!("{}/{}", route.destination, route.prefix_len),
        kind: kind.into(),
        hops: hops.collect(),
        metric: route.metric,
        source: source.into(),
    }
}

pub(super) async fn neighbours(State(control): Shared) -> Json<Vec<api::Neighbour>> {
    let world = control.publisher.world();
    let now = control.now();
    let ago = |time: Option<crate::neighbours::Time>| time.map(|time| now.saturating_sub(time).as_secs());
    let mut views: Vec<_> = locked(&control.neighbours).view().collect();
    views.sort_by_key(|view| (view.key.interface, view.key.address));
    let list = views.into_iter().map(|view| api::Neighbour {
        address: view.key.address.to_string(),
        dev: name(&world.interfaces, view.key.interface),
        mac: view.mac.map(|mac| mac.to_string()),
        state: view.state.into(),
        confirmed: ago(view.confirmed),
        used: ago(view.used),
    });
    Json(list.collect())
}

pub(crate) async fn workers(State(control): Shared) -> Json<Vec<api::Worker>> {
    let progress = control.publisher.progress();
    let list = (0..).zip(&control.counters).zip(&control.cores).zip(progress).map(
        |(((worker, c), core), adopted)| api::Worker {
            worker,
            core: *core,
            generation: adopted.generation.0,
            packets: c.polled_packets.get(),
            fast_path: c.fast_path.get(),
            handed_over: c.handed_over.get(),
            device_hashed: c.device_hashed.get(),
            held: c.held.get() + c.reassembling.get(),
            flows: c.conntrack.entries.get(),
            busy_polls: c.busy_polls.get(),
            idle_polls: c.idle_polls.get(),
            busy_cycles: c.busy_cycles.get(),
            idle_cycles: c.idle_cycles.get(),
        },
    );
    Json(list.collect())
}

pub(crate) async fn drops(State(control): Shared) -> Json<Vec<api::Drop>> {
    let list = DropReason::ALL.iter().enumerate().map(|(at, reason)| {
        let of = |counters: &[Counter]| counters.get(at).map_or(0, Counter::get);
        api::Drop {
            reason: reason.label().into(),
            received: control.counters.iter().map(|worker| of(&worker.drops)).collect(),
            local: control.counters.iter().map(|worker| of(&worker.local_drops)).collect(),
            meaning: reason.sentence().into(),
            advice: reason.advice().into(),
        }
    });
    Json(list.collect())
}

pub(super) async fn sets(State(control): Shared) -> Json<Vec<api::Set>> {
    Json(locked(&control.sets).list())
}

pub(super) async fn set(State(control): Shared, Path(name): Path<String>) -> Result<Json<api::Set>, Refusal> {
    let set = control.whole_set(name.clone()).await;
    let lacks = || Refusal::new(StatusCode::NOT_FOUND, locked(&control.sets).lacks(&name));
    set.map(Json).ok_or_else(lacks)
}

pub(super) async fn config(State(control): Shared) -> Json<api::ConfigView> {
    let text = locked(&control.system).text.to_string();
    Json(api::ConfigView { path: control.path.display().to_string(), text })
}

fn name(interfaces: &Interfaces, id: InterfaceId) -> String {
    interfaces.get(id).map_or_else(|| id.0.to_string(), |interface| interface.name.clone())
}
