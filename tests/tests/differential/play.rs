//! Plays sequences through both sides, and compares the answers.
//!
//! The kernel goes first, many sequences in one go; the engine then sees the same packets at the times that the kernel
//! saw them. Each sequence has hosts of its own, so the table is listed once for all.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::engine::Router;
use crate::kernel::Kernel;
use crate::known;
use crate::packet::cut;
use crate::seen::Seen;
use crate::sequence::{Answer, Sequence, Settings, Step, split_line, world_of};

/// What passes between rounds.
const PAUSE: Duration = Duration::from_millis(2700);
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
    let order = Order::of(sequences, kernel);
    let mut pairs: Vec<_> = sequences.iter().map(|sequence| Pair::new(sequence.0.len())).collect();
    let mut times = Vec::new();
    let mut round = 0;
    let mut note = |heard: Vec<(u16, Seen)>, last: usize| {
        for (id, seen) in heard {
            if let Some((world, place)) = order.sender(id, last) {
                pairs[world].kernel.steps[place].push(seen);
            }
        }
    };
    for (at, (world, place)) in order.steps.iter().enumerate() {
        let step = &sequences[*world].0[*place];
        if settings.time && step.round != round {
            note(kernel.settle(), at.saturating_sub(1));
            std::thread::sleep(PAUSE);
            round = step.round;
        }
        times.push(kernel.nanos());
        kernel.send(step.leg, &order.datagram(at, step));
        let heard = kernel.heard();
        // What is answered, and not forwarded, may tell no identification: let it come out now.
        let late = if heard.is_empty() { kernel.settle() } else { Vec::new() };
        note(heard, at);
        note(late, at);
    }
    note(kernel.settle(), order.steps.len().saturating_sub(1));
    let listed = kernel.nanos();
    for (world, flows) in by_world(kernel.flows()) {
        pairs[usize::from(world)].kernel.flows = flows;
    }
    let mut router = Router::new(settings);
    for (at, (world, place)) in order.steps.iter().enumerate() {
        let step = &sequences[*world].0[*place];
        for (id, seen) in router.receive(times[at], step.leg, &order.datagram(at, step)) {
            if let Some((world, place)) = order.sender(id, at) {
                pairs[world].engine.steps[place].push(seen);
            }
        }
    }
    for (world, flows) in by_world(router.flows(listed)) {
        pairs[usize::from(world)].engine.flows = flows;
    }
    pairs
}

/// The steps of a play in the order in which they are sent.
struct Order {
    /// World, and place in its sequence: round by round, sequence by sequence.
    steps: Vec<(usize, usize)>,
    /// The step whose identification each bears: its own, or that of its datagram's first fragment.
    bears: Vec<usize>,
    /// The first step's identification.
    first: u16,
}

impl Order {
    fn of(sequences: &[Sequence], kernel: &Kernel) -> Order {
        let mut steps = Vec::new();
        for (world, sequence) in sequences.iter().enumerate() {
            steps.extend(sequence.0.iter().enumerate().map(|(place, step)| (step.round, world, place)));
        }
        steps.sort_by_key(|(round, world, _)| (*round, *world));
        let steps: Vec<_> = steps.into_iter().map(|(_, world, place)| (world, place)).collect();
        let mut begun = HashMap::new();
        let bears =
            steps.iter().enumerate().map(|(at, (world, place))| match sequences[*world].0[*place].piece {
                Some(piece) => *begun.entry((*world, piece.datagram)).or_insert(at),
                None => at,
            });
        let bears = bears.collect();
        Order { first: kernel.identifications(steps.len()), steps, bears }
    }

    fn datagram(&self, at: usize, step: &Step) -> Vec<u8> {
        let (world, _) = self.steps[at];
        let id = self.first + self.bears[at] as u16;
        let datagram = step.packet.bytes(world as u16, id);
        step.piece.map_or(datagram.clone(), |piece| cut(&datagram, id, &piece))
    }

    /// The step that something is an answer to. What tells no identification is to the step just sent.
    fn sender(&self, id: u16, last: usize) -> Option<(usize, usize)> {
        let at = if id == 0 { last } else { usize::from(id.checked_sub(self.first)?) };
        self.steps.get(at).copied()
    }
}

/// Why a difference is meant, if it is: the reason of the first packet that has one, up to where the answers differ.
pub fn excuse(sequence: &Sequence, pair: &Pair, differs: Option<usize>) -> Option<&'static str> {
    if let Some(at) = differs
        && pair.kernel.steps[at].iter().chain(&pair.engine.steps[at]).all(Seen::is_of_router)
        && let Some(reason) = known::excuse_answer(&sequence.0[at].packet)
    {
        return Some(reason);
    }
    let last = differs.unwrap_or(sequence.0.len());
    sequence.0.iter().take(last + 1).find_map(|step| known::excuse(&step.packet))
}

impl Pair {
    fn new(steps: usize) -> Pair {
        let nothing = Answer { steps: vec![Vec::new(); steps], flows: BTreeMap::new() };
        Pair { kernel: nothing.clone(), engine: nothing }
    }

    /// The first difference: the step, or none for the flows afterwards.
    pub fn difference(&self, settings: &Settings) -> Option<Option<usize>> {
        let plain = |seen: &Seen| seen.plain(settings.status);
        let mut steps = self.kernel.steps.iter().zip(&self.engine.steps);
        let differs =
            steps.position(|(kernel, engine)| !kernel.iter().map(plain).eq(engine.iter().map(plain)));
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
