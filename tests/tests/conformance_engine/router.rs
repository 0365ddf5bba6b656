//! A router made of config, compiler and engine, with three ports and nothing behind them.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use serde_json::Value;
use sluice_compiler::{Names, TimeoutRegistry, topology};
use sluice_config::{Diagnostics, Policy, System};
use sluice_control::system;
use sluice_engine::conntrack::{ExpectationFilter, ExpectationRecord, FlowBudget, FlowFilter};
use sluice_engine::counters::WorkerCounters;
use sluice_engine::engine::EngineConfig;
use sluice_engine::ids::{Generation, InterfaceId, Now, PortId, WorkerId};
use sluice_engine::message::Cursor;
use sluice_engine::ruleset::Ruleset;
use sluice_engine::world::{Fib, Neighbour, NeighbourState, Neighbours, World};
use sluice_engine::{Engine, Origin, Outlet, Verdict};
use sluice_wire::MacAddr;

use crate::bare_engine;
use crate::policy::{self, LEGS, NUMBERS};

const MILLISECOND: u64 = 1_000_000;

/// What came out by a port, or was handed to the box or to control; IP datagrams, without Ethernet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    Forwarded(usize, Vec<u8>),
    Answered(usize, Vec<u8>),
    Delivered(InterfaceId),
    Punted,
}

pub struct Router {
    engine: Engine,
    world: World,
    counters: Arc<WorkerCounters>,
    names: Names,
    states: [u64; 5],
    nanos: u64,
    received: u64,
}

fn refused(diagnostics: Diagnostics) -> String {
    format!("refused: {diagnostics}")
}

impl Router {
    pub fn new(scenario: &Value) -> Result<Router, String> {
        let (system, _) = System::parse("sluice.yaml", &policy::system(scenario)).map_err(refused)?;
        let names = Names::of(&system);
        let macs: Vec<_> = NUMBERS.into_iter().map(|n| MacAddr([2, 0, 0, 0, n, 1])).collect();
        let interfaces = system::interfaces(&system, &macs);
        let neighbours = system::neighbours(&system).into_iter().map(|(key, mac)| {
            (key, Neighbour::new(NeighbourState::Reachable(mac), Arc::new(AtomicU32::new(0))))
        });
        let world = World {
            generation: Generation(1),
            fib: Arc::new(Fib::new(&topology::routes(&system), &interfaces)),
            interfaces: Arc::new(interfaces),
            neighbours: Arc::new(Neighbours::new(1, neighbours)),
            ruleset: Arc::new(ruleset(&scenario["ruleset"], &names)?),
            settings: Arc::new(system::settings(&system, &TimeoutRegistry::default())),
        };
        let counters = Arc::new(WorkerCounters::new(LEGS.len()));
        let max = scenario["params"]["conntrack_max"].as_u64().unwrap_or(65536);
        let config = EngineConfig {
            worker: WorkerId(0),
            workers: 1,
            flow_capacity: 4096,
            seed: 42,
            budget: Arc::new(FlowBudget::new(u32::try_from(max).unwrap())),
            counters: counters.clone(),
            reservations: None,
        };
        let engine = Engine::new(config, Arc::new(world.clone()));
        Ok(Router { engine, world, counters, names, states: [0; 5], nanos: 1 << 40, received: 0 })
    }

    pub fn reload(&mut self, rules: &Value) -> Result<(), String> {
        self.world.ruleset = Arc::new(ruleset(rules, &self.names)?);
        self.forget();
        Ok(())
    }

    /// Begins a generation, in which no stored decision holds.
    pub fn forget(&mut self) {
        self.world.generation.0 += 1;
        self.engine.adopt(Arc::new(self.world.clone()));
    }

    pub fn flush(&mut self) {
        let (now, mut cursor) = (self.now(), Some(Cursor::default()));
        while let Some(at) = cursor {
            (_, cursor) =
                self.engine.conntrack().delete(now, at, &FlowFilter::default(), 64, &mut Vec::new());
        }
    }

    /// Lets time pass, as it does while the harness waits for packets; returns what leaves meanwhile.
    pub fn wait(&mut self, milliseconds: u64) -> Vec<Out> {
        self.nanos += milliseconds * MILLISECOND;
        let (now, mut sent) = (self.now(), bare_engine::Sent::default());
        for _ in 0..200 {
            self.engine.tick(now);
            self.engine.expire_fragments(now, &mut sent);
        }
        let on_wire = sent.0.into_iter().filter_map(|(outlet, bytes)| match outlet {
            Outlet::Wire(port) => Some(Out::Answered(port.0.into(), bytes[14..].to_vec())),
            _ => None,
        });
        on_wire.collect()
    }

    fn now(&self) -> Now {
        Now::from_nanos(self.nanos)
    }

    /// A datagram from a host on a leg, to the router's MAC address or another one.
    pub fn receive(&mut self, leg: usize, to: Option<MacAddr>, datagram: &[u8]) -> Vec<Out> {
        self.received += 1;
        let out = self.judge(leg, Origin::Wire, to, datagram);
        self.assert_counted();
        out
    }

    /// A datagram from the box itself.
    pub fn send(&mut self, tap: InterfaceId, datagram: &[u8]) -> Vec<Out> {
        let outs = self.judge(usize::from(tap.0), Origin::Local(tap), None, datagram);
        let answered = |out| match out {
            Out::Forwarded(leg, bytes) => Out::Answered(leg, bytes),
            other => other,
        };
        outs.into_iter().map(answered).collect()
    }

    fn judge(&mut self, leg: usize, origin: Origin, to: Option<MacAddr>, datagram: &[u8]) -> Vec<Out> {
        let n = NUMBERS[leg];
        let version = datagram.first().map_or(4, |byte| byte >> 4);
        let kind = if datagram.len() >= 40 && version == 6 { [0x86, 0xdd] } else { [8, 0] };
        let mut bytes = to.unwrap_or(MacAddr([2, 0, 0, 0, n, 1])).0.to_vec();
        bytes.extend([2, 0, 0, 0, n, 2, kind[0], kind[1]]);
        bytes.extend(datagram);
        let now = Now::from_nanos(self.nanos);
        let frame = bare_engine::judge(&mut self.engine, now, PortId(leg as u16), origin, &bytes);
        let mut outs = Vec::new();
        match frame.verdict {
            Verdict::Transmit(port) => outs.push(Out::Forwarded(port.0.into(), frame.bytes[14..].to_vec())),
            Verdict::Deliver(tap) | Verdict::Delivered(tap) => outs.push(Out::Delivered(tap)),
            Verdict::Punt => outs.push(Out::Punted),
            Verdict::Hold(_) => self.received -= 1,
            _ => {}
        }
        for (outlet, bytes) in frame.sent {
            let (Outlet::Wire(port), datagram) = (outlet, bytes[14..].to_vec()) else { continue };
            outs.push(match frame.verdict {
                Verdict::Copied => Out::Forwarded(port.0.into(), datagram),
                _ => Out::Answered(port.0.into(), datagram),
            });
        }
        outs
    }

    /// Packets classified since the last call, by state: as the harness reads it from the metrics.
    pub fn states(&mut self) -> Value {
        let states = &self.counters.states;
        let counters = [
            ("new", &states.new),
            ("established", &states.established),
            ("related", &states.related),
            ("invalid", &states.invalid),
            ("untracked", &states.untracked),
        ];
        let mut out = serde_json::Map::new();
        for ((name, counter), before) in counters.into_iter().zip(&mut self.states) {
            let now = counter.get();
            if now != *before {
                out.insert(name.into(), (now - *before).into());
            }
            *before = now;
        }
        out.into()
    }

    /// The table as `conntrack -L -o extended` prints it.
    pub fn flows(&mut self) -> Vec<String> {
        let now = self.now();
        bare_engine::flows(&mut self.engine, now)
    }

    /// What helpers expect.
    pub fn expectations(&mut self) -> Vec<ExpectationRecord> {
        let (mut batch, now) = (Vec::with_capacity(64), self.now());
        let all = ExpectationFilter::default();
        self.engine.conntrack().expectations(now, Cursor::default(), &all, false, &mut batch);
        batch
    }

    /// Every packet received ended in exactly one place.
    fn assert_counted(&self) {
        let of_interfaces = self.counters.interfaces.iter().map(|here| {
            here.forwarded.get() + here.delivered.get() + here.answered.get() + here.consumed.get()
        });
        let drops = self.counters.drops.iter().map(|count| count.get());
        let held = self.counters.reassembling.get();
        assert_eq!(of_interfaces.chain(drops).chain([held]).sum::<u64>(), self.received);
    }
}

fn ruleset(rules: &Value, names: &Names) -> Result<Ruleset, String> {
    let (policy, _) = Policy::parse("policy.yaml", &policy::policy(rules), None).map_err(refused)?;
    let compiled = sluice_compiler::compile(&policy, names, 1).map_err(refused)?;
    Ok(compiled.ruleset)
}
