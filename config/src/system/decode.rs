//! From the system file's tree to its model. Interfaces, routes and conntrack settings have files of their own; what needs
//! more than one entry to judge is in `check`.

use std::path::{Path, PathBuf};

use super::interface::interfaces;
use super::route::{RawRoute, neighbour, route};
use super::{
    Control, Hugepages, Icmp, Idle, MAX_WORKERS, Memory, Placement, Remote, System, Workers, conntrack, ipfix,
};
use crate::decode::{Reader, boolean, number};
use crate::diagnostics::ValueError;
use crate::rate::{Rate, RateUnit};
use crate::yaml::Node;

pub(super) const KEYS: [&str; 12] = [
    "workers",
    "memory",
    "interfaces",
    "routes",
    "kernel_routes",
    "neighbours",
    "conntrack",
    "icmp",
    "ipfix",
    "control",
    "policy",
    "state",
];

/// The file as written, before entries are checked against each other.
pub(super) struct RawSystem {
    pub(super) system: System,
    pub(super) routes: Vec<RawRoute>,
}

/// Reads the whole file. Relative paths are resolved against `folder`.
pub(super) fn system<'a>(reader: &mut Reader<'a>, root: &Node<'a>, folder: &Path) -> Option<RawSystem> {
    let fields = reader.fields(root, "the system file", &KEYS)?;
    let path = |reader: &mut Reader<'a>, key: &str, default: &str| {
        let given = fields.get(key).and_then(|node| reader.text(node, key));
        folder.join(given.unwrap_or(default))
    };
    let (policy, state) =
        (path(reader, "policy", "/etc/sluice/policy.yaml"), path(reader, "state", "/var/lib/sluice"));
    let system = System {
        workers: fields.get("workers").map_or_else(default_workers, |node| workers(reader, node)),
        memory: fields.get("memory").map_or_else(default_memory, |node| memory(reader, node)),
        interfaces: match fields.require(reader, "the system file", "interfaces") {
            Some(node) => interfaces(reader, node, folder),
            None => Vec::new(),
        },
        routes: Vec::new(),
        kernel_routes: fields
            .get("kernel_routes")
            .and_then(|node| reader.boolean(node, "`kernel_routes`"))
            .unwrap_or(false),
        neighbours: items(reader, fields.get("neighbours"), "neighbours", neighbour),
        conntrack: fields
            .get("conntrack")
            .map_or_else(Default::default, |node| conntrack::decode(reader, node)),
        icmp: fields.get("icmp").map_or_else(default_icmp, |node| icmp(reader, node)),
        ipfix: fields.get("ipfix").and_then(|node| ipfix::decode(reader, node)),
        control: control(reader, fields.get("control"), folder),
        policy,
        state,
    };
    let routes = items(reader, fields.get("routes"), "routes", route);
    Some(RawSystem { system, routes })
}

/// The items of a list that may be left out, each read by `read`.
pub(super) fn items<'a, T>(
    reader: &mut Reader<'a>,
    node: Option<&Node<'a>>,
    what: &str,
    mut read: impl FnMut(&mut Reader<'a>, &Node<'a>) -> Option<T>,
) -> Vec<T> {
    let items = node.and_then(|node| reader.list(node, what)).unwrap_or_default();
    items.iter().filter_map(|item| read(reader, item)).collect()
}

const fn default_workers() -> Workers {
    Workers { placement: Placement::Count(1), idle: Idle::Poll }
}

fn workers<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Workers {
    let mut workers = default_workers();
    let Some(fields) = reader.fields(node, "`workers`", &["cores", "count", "idle"]) else { return workers };
    match (fields.get("cores"), fields.get("count")) {
        (Some(node), None) => {
            if let Some(cores) = cores(reader, node) {
                workers.placement = Placement::Cores(cores);
            }
        }
        (None, Some(node)) => {
            let max = u16::try_from(MAX_WORKERS).unwrap_or(u16::MAX);
            if let Some(count) = reader.number16(node, "`count`", 1, max) {
                workers.placement = Placement::Count(count);
            }
        }
        (Some(_), Some(node)) => reader.error(node.span, "`workers` takes `cores` or `count`, not both"),
        (None, None) => {}
    }
    if let Some(node) = fields.get("idle") {
        let idle = reader.keyword(node, "`idle`", &[("poll", Idle::Poll), ("yield", Idle::Yield)]);
        workers.idle = idle.unwrap_or_default();
    }
    workers
}

/// Core numbers: `[2, 3]`, `2` or `"2-5"`.
fn cores<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<Vec<u16>> {
    let ranges = reader.values(node, "`cores`", |reader, node| {
        let text = reader.text(node, "a core")?;
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let core = |text| number(text).and_then(|n| u16::try_from(n).ok()).filter(|n| *n < 1024);
        match (core(first), core(last)) {
            (Some(first), Some(last)) if first <= last => Some((node.span, first..=last)),
            _ => {
                reader.error(node.span, format!("`{text}` is no core number (0 to 1023)"));
                None
            }
        }
    })?;
    let mut cores = Vec::new();
    for (span, range) in ranges {
        for core in range {
            if cores.contains(&core) {
                reader.error(span, format!("core {core} is given twice"));
            } else {
                cores.push(core);
            }
        }
    }
    if cores.len() > MAX_WORKERS {
        reader.error(node.span, format!("{} workers are too many (limit {MAX_WORKERS})", cores.len()));
    }
    Some(cores)
}

const fn default_memory() -> Memory {
    Memory { hugepages: Hugepages::Auto, mbufs: 65536 }
}

fn memory<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Memory {
    let mut memory = default_memory();
    let Some(fields) = reader.fields(node, "`memory`", &["hugepages", "mbufs"]) else { return memory };
    if let Some(node) = fields.get("hugepages") {
        let words = [("auto", Hugepages::Auto), ("required", Hugepages::Required), ("off", Hugepages::Off)];
        memory.hugepages = reader.keyword(node, "`hugepages`", &words).unwrap_or_default();
    }
    if let Some(node) = fields.get("mbufs") {
        memory.mbufs = reader.number(node, "`mbufs`", 1024, 1 << 26).unwrap_or(memory.mbufs);
    }
    memory
}

/// The kernel's global limit of ICMP messages. Source: Linux `icmp_msgs_per_sec`, `icmp_msgs_burst`.
fn default_icmp() -> Icmp {
    Icmp { ratelimit: Some(Rate { count: 1000, unit: RateUnit::Second }), burst: 50, redirects: false }
}

fn icmp<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Icmp {
    let mut icmp = default_icmp();
    let Some(fields) = reader.fields(node, "`icmp`", &["ratelimit", "burst", "redirects"]) else {
        return icmp;
    };
    if let Some(node) = fields.get("ratelimit") {
        let rate = reader.parsed(node, "`ratelimit`", |text| match text {
            "0" => Ok(None),
            _ if boolean(text) == Some(false) => Ok(None),
            _ => text.parse().map(Some),
        });
        icmp.ratelimit = rate.unwrap_or(icmp.ratelimit);
    }
    if let Some(node) = fields.get("burst") {
        icmp.burst = reader.number(node, "`burst`", 1, 1 << 20).unwrap_or(icmp.burst);
    }
    if let Some(node) = fields.get("redirects") {
        icmp.redirects = reader.boolean(node, "`redirects`").unwrap_or(icmp.redirects);
    }
    icmp
}

fn control<'a>(reader: &mut Reader<'a>, node: Option<&Node<'a>>, folder: &Path) -> Control {
    let metrics = Some(std::net::SocketAddr::from(([127, 0, 0, 1], 9843)));
    let mut control =
        Control { api: PathBuf::from("/run/sluice/sluice.sock"), metrics, page: None, remote: None };
    let fields =
        node.and_then(|node| reader.fields(node, "`control`", &["api", "metrics", "page", "remote"]));
    let Some(fields) = fields else { return control };
    if let Some(text) = fields.get("api").and_then(|node| reader.text(node, "`api`")) {
        control.api = folder.join(text);
    }
    if let Some(node) = fields.get("metrics") {
        let metrics = reader.parsed(node, "`metrics`", |text| match text.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) if boolean(text) == Some(false) => Ok(None),
            Err(_) => {
                Err(ValueError::new(format!("`{text}` is no ADDRESS:PORT (127.0.0.1:9843) and not off")))
            }
        });
        control.metrics = metrics.unwrap_or(control.metrics);
    }
    control.page = fields.get("page").and_then(|node| reader.boolean(node, "`page`"));
    control.remote = fields.get("remote").and_then(|node| remote(reader, node, folder));
    control
}

fn remote<'a>(reader: &mut Reader<'a>, node: &Node<'a>, folder: &Path) -> Option<Remote> {
    if reader.is_off(node) {
        return None;
    }
    let keys = ["listen", "certificate", "key", "ca", "revoked"];
    let fields = reader.fields(node, "`remote`", &keys)?;
    let listen = fields.require(reader, "`remote`", "listen").and_then(|node| {
        reader.parsed(node, "`listen`", |text| {
            let wrong = || ValueError::new(format!("`{text}` is no ADDRESS:PORT (192.0.2.1:9844)"));
            text.parse().map_err(|_| wrong())
        })
    });
    let path = |reader: &mut Reader<'a>, key: &str, default: &str| {
        let given = fields.get(key).and_then(|node| reader.text(node, key));
        folder.join(given.unwrap_or(default))
    };
    let (certificate, key) =
        (path(reader, "certificate", "tls/server.crt"), path(reader, "key", "tls/server.key"));
    let ca = path(reader, "ca", "tls/ca.crt");
    let off = fields.get("revoked").is_some_and(|node| reader.is_off(node));
    let revoked = (!off).then(|| path(reader, "revoked", "tls/revoked.crl"));
    Some(Remote { listen: listen?, certificate, key, ca, revoked })
}
