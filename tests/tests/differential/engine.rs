//! The engine's side: a router of config, compiler and engine with two ports.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use serde_json::{Value, json};
use sluice_compiler::{Names, TimeoutRegistry, topology};
use sluice_config::{Diagnostics, Policy, System};
use sluice_control::system;
use sluice_engine::conntrack::FlowBudget;
use sluice_engine::counters::WorkerCounters;
use sluice_engine::engine::EngineConfig;
use sluice_engine::ids::{Generation, Now, PortId, WorkerId};
use sluice_engine::ruleset::RuleId;
use sluice_engine::world::{Fib, Neighbour, NeighbourState, Neighbours, World};
use sluice_engine::{Engine, Origin, Outlet, Verdict};
use sluice_wire::MacAddr;

use crate::bare_engine;
use crate::kernel::{HOST_MAC, ROUTER_MAC};
use crate::packet::MTU;
use crate::rules;
use crate::seen::{Class, Seen, told};
use crate::sequence::{Settings, TIMEOUTS};

const LEGS: [&str; 2] = ["cli", "srv"];

/// The router.
pub struct Router {
    engine: Engine,
    world: World,
    /// Of each rule by its number.
    classes: Vec<Option<Class>>,
    hits: Vec<u64>,
}

impl Router {
    /// A router with an empty table.
    pub fn new(settings: &Settings) -> Router {
        let (system, _) =
            System::parse("sluice.yaml", &system_file(settings)).unwrap_or_else(|why| refused(&why));
        let names = Names::of(&system);
        let interfaces = system::interfaces(&system, &ROUTER_MAC.map(MacAddr));
        let neighbours = system::neighbours(&system).into_iter().map(|(key, mac)| {
            (key, Neighbour::new(NeighbourState::Reachable(mac), Arc::new(AtomicU32::new(0))))
        });
        let (text, classes) = rules::policy(settings.status);
        let (policy, _) = Policy::parse("policy.yaml", &text, None).unwrap_or_else(|why| refused(&why));
        let compiled = sluice_compiler::compile(&policy, &names, 1).unwrap_or_else(|why| refused(&why));
        let world = World {
            generation: Generation(1),
            fib: Arc::new(Fib::new(&topology::routes(&system), &interfaces)),
            interfaces: Arc::new(interfaces),
            neighbours: Arc::new(Neighbours::new(1, neighbours)),
            ruleset: Arc::new(compiled.ruleset),
            settings: Arc::new(system::settings(&system, &TimeoutRegistry::default())),
        };
        let config = EngineConfig {
            worker: WorkerId(0),
            workers: 1,
            flow_capacity: 1 << 15,
            seed: 42,
            budget: Arc::new(FlowBudget::new(1 << 16)),
            counters: Arc::new(WorkerCounters::new(LEGS.len())),
            reservations: None,
        };
        let engine = Engine::new(config, Arc::new(world.clone()));
        Router { engine, world, hits: vec![0; classes.len()], classes }
    }

    /// Hands a datagram to the router at a time, and returns what comes out.
    pub fn receive(&mut self, nanos: u64, leg: usize, datagram: &[u8]) -> Vec<(u16, Seen)> {
        let kind = if datagram[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
        let bytes = [&ROUTER_MAC[leg][..], &HOST_MAC[leg], &kind, datagram].concat();
        let now = now(nanos);
        let port = PortId(leg as u16);
        let frame = bare_engine::judge(&mut self.engine, now, port, Origin::Wire, &bytes);
        self.engine.tick(now);
        let mut out = Vec::new();
        let transmitted = match frame.verdict {
            Verdict::Transmit(port) => Some((Outlet::Wire(port), frame.bytes)),
            _ => None,
        };
        let class = self.hit();
        for (outlet, bytes) in transmitted.into_iter().chain(frame.sent) {
            let Outlet::Wire(port) = outlet else { continue };
            let (id, seen) = told(port.0.into(), &bytes[14..]);
            out.push((id, Seen { class: if seen.is_of_router() { Class(0) } else { class }, ..seen }));
        }
        out
    }

    /// The table as `conntrack -L -o extended` prints it at a time.
    pub fn flows(&mut self, nanos: u64) -> Vec<String> {
        bare_engine::flows(&mut self.engine, now(nanos))
    }

    /// The class of the rule that counted since the last call.
    fn hit(&mut self) -> Class {
        let mut hit = Class(0);
        for (rule, (class, before)) in self.classes.iter().zip(&mut self.hits).enumerate() {
            let (packets, _) = self.world.ruleset.rule_counters(RuleId(rule as u32));
            if packets != *before {
                *before = packets;
                hit = class.unwrap_or(hit);
            }
        }
        hit
    }
}

fn refused(diagnostics: &Diagnostics) -> ! {
    panic!("refused: {diagnostics}");
}

/// Time begins late enough for a flow to have begun before.
fn now(nanos: u64) -> Now {
    Now::from_nanos((1 << 40) + nanos)
}

fn system_file(settings: &Settings) -> String {
    let mac = |leg: usize| MacAddr(HOST_MAC[leg]).to_string();
    let timeout = |(key, usual, short): (&str, u32, u32)| {
        (key.replace("_timeout", ""), Value::from(if settings.time { short } else { usual }))
    };
    let timeouts: serde_json::Map<_, _> = TIMEOUTS.into_iter().map(timeout).collect();
    json!({
        "workers": {"cores": [0]},
        "interfaces": {
            "cli": {"device": "kernel:cli0", "mtu": MTU[0], "addresses": ["192.0.2.1/30", "fd0a::1/64"]},
            "srv": {"device": "kernel:srv0", "mtu": MTU[1], "addresses": ["198.51.100.1/30", "fd0b::1/64"]},
        },
        "routes": [
            {"to": "10.0.0.0/9", "via": "192.0.2.2"},
            {"to": "10.128.0.0/9", "via": "198.51.100.2"},
            {"to": "fd01::/16", "via": "fd0a::2"},
            {"to": "fd02::/16", "via": "fd0b::2"},
        ],
        "neighbours": [
            {"address": "192.0.2.2", "mac": mac(0)},
            {"address": "198.51.100.2", "mac": mac(1)},
            {"address": "fd0a::2", "mac": mac(0)},
            {"address": "fd0b::2", "mac": mac(1)},
        ],
        "icmp": {"ratelimit": 0},
        "conntrack": {
            "tcp_loose": settings.tcp_loose,
            "tcp_be_liberal": settings.tcp_be_liberal,
            "tcp_ignore_invalid_rst": settings.tcp_ignore_invalid_rst,
            "tcp_max_retrans": settings.tcp_max_retrans,
            "checksum": settings.checksum,
            "acct": settings.acct,
            "timeouts": timeouts,
        },
        "control": {"api": "/run/sluice/sluice.sock", "metrics": "127.0.0.1:9843"},
        "policy": "/etc/sluice/policy.yaml",
        "state": "/var/lib/sluice",
    })
    .to_string()
}
