//! Plays sequences through both sides, and compares the answers.
//!
//! The kernel goes first, many sequences in one go; the engine then sees the same packets at the times that the kernel
//! saw them. Each sequence has hosts of its own, so the table is listed once for all.

use std::collections::{BTreeMap, HashMap};

use crate::engine::Router;
use crate::kernel::Kernel;
use crate::known;
use crate::seen::Seen;
use crate::sequence::{Answer, Sequence, Settings, split_line, world_of};

/// Seconds by which the rest of a flow's time may differ: the two are not read at one moment.
const TOLERANCE: u64 = 1;

/// Both answers to a sequence.
pub struct Pair {
    pub kernel: Answer,
    pub engine: Answer,
}

/// Plays sequences, at most as many as there are identifications for their steps.
pub fn play(kernel: &Kernel, settings: &Settings, sequences: &[Sequence]) -> Vec<Pair> {
    kernel.reset(settings);
    let mut times = Vec::new();
    let mut heard = Vec::new();
    let mut steps = HashMap::new();
    for (world, sequence) in sequences.iter().enumerate() {
        for (place, step) in sequence.0.iter().enumerate() {
            let id = u16::try_from(times.len() + 1).expect("few enough steps for 16 bits");
            steps.insert(id, (world, place));
            times.push(kernel.nanos());
            kernel.send(step.leg, &step.packet.bytes(world as u16, id));
            heard.extend(kernel.heard());
        }
    }
    heard.extend(kernel.settle());
    let listed = kernel.nanos();
    let mut pairs: Vec<_> = sequences.iter().map(|sequence| Pair::new(sequence.0.len())).collect();
    for (id, seen) in heard {
        if let Some((world, place)) = steps.get(&id) {
            pairs[*world].kernel.steps[*place].push(seen);
        }
    }
    for (world, flows) in by_world(kernel.flows()) {
        pairs[usize::from(world)].kernel.flows = flows;
    }
    let mut router = Router::new(settings);
    let mut id = 0;
    for (world, (sequence, pair)) in sequences.iter().zip(&mut pairs).enumerate() {
        for (step, out) in sequence.0.iter().zip(&mut pair.engine.steps) {
            let datagram = step.packet.bytes(world as u16, id + 1);
            *out = router.receive(times[usize::from(id)], step.leg, &datagram);
            id += 1;
        }
    }
    for (world, flows) in by_world(router.flows(listed)) {
        pairs[usize::from(world)].engine.flows = flows;
    }
    pairs
}

impl Pair {
    fn new(steps: usize) -> Pair {
        let nothing = Answer { steps: vec![Vec::new(); steps], flows: BTreeMap::new() };
        Pair { kernel: nothing.clone(), engine: nothing }
    }

    /// The first difference: the step, or none for the flows afterwards.
    pub fn difference(&self, sequence: &Sequence, settings: &Settings) -> Option<Option<usize>> {
        let mut steps = sequence.0.iter().zip(self.kernel.steps.iter().zip(&self.engine.steps));
        let differs = steps.position(|(step, (kernel, engine))| {
            let excused = known::excuses_answer(&step.packet).is_some();
            let plain = |seen: &Seen| {
                let mut seen = seen.plain(settings.status);
                if excused && seen.is_of_router() {
                    seen.bytes.clear();
                }
                seen
            };
            !kernel.iter().map(plain).eq(engine.iter().map(plain))
        });
        if differs.is_some() {
            return Some(differs);
        }
        let same = self.kernel.flows.len() == self.engine.flows.len()
            && self.kernel.flows.iter().zip(&self.engine.flows).all(|(kernel, engine)| {
                kernel.0 == engine.0
                    && kernel.1.len() == engine.1.len()
                    && kernel
                        .1
                        .iter()
                        .zip(engine.1)
                        .all(|(kernel, engine)| kernel.abs_diff(*engine) <= TOLERANCE)
            });
        (!same).then_some(None)
    }
}

type Flows = BTreeMap<String, Vec<u64>>;

fn by_world(lines: Vec<String>) -> HashMap<u16, Flows> {
    let mut worlds: HashMap<u16, Flows> = HashMap::new();
    for line in lines {
        if let (Some(world), Some((line, timeout))) = (world_of(&line), split_line(&line)) {
            worlds.entry(world).or_default().entry(line).or_default().push(timeout);
        }
    }
    for timeouts in worlds.values_mut().flat_map(BTreeMap::values_mut) {
        timeouts.sort_unstable();
    }
    worlds
}
