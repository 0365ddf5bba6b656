//! Stored decisions: what all of the policy and the routes made of a flow's packet, to be done again for its next one
//! with a single look-up.
//!
//! A flow stores, for each direction, the number of a decision and what it holds for: the generation, the ingress
//! interface and the ct state. Decisions are shared by flows: to one next hop, counting for the same rules, there is
//! one. A decision knows its next hop's MAC address and asks for it again when the neighbours' epoch moved.
//!
//! Not stored: what evaluation reached by reading something that differs from packet to packet, set a mark or logged;
//! INVALID and RELATED packets; packets with options; the box's own. TTL and length are looked at every time.

mod plain;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use sluice_wire::{Family, LinkCast, MacAddr, Packet, rewrite, source};

use self::plain::Run;
pub(crate) use self::plain::{Course, count_runs, replay_plain};
use crate::conntrack::{ActionId, Conntrack, CtState, Direction, FlowHandle, Status, Stored};
use crate::engine::BURST;
use crate::frame::Frame;
use crate::ids::{Generation, InterfaceId, PortId, Tick};
use crate::ruleset::{Counted, Effects};
use crate::stage::link::LinkHeader;
use crate::stage::nat64;
use crate::stage::stateless::Plans;
use crate::trace::Step;
use crate::transit::{Bench, InFlow, Sender, Transit};
use crate::verdict::{DropReason, Verdict};
use crate::world::{Interfaces, NeighbourKey, NeighbourState, World};

/// Decisions that the table holds; flows have fifteen bits for a number. When it is full it is emptied, and flows decide again.
const LIMIT: usize = 16_384;

/// All decisions of one worker.
pub(crate) struct Decisions {
    /// Raised whenever all are forgotten; never 0, which flows begin with.
    generation: Generation,
    list: Vec<Decision>,
    /// What is done without asking a flow.
    pub plans: Plans,
    /// Places in the list of those that have a [`Run`].
    running: Vec<u32>,
    index: HashMap<Sameness, ActionId, BuildHasherDefault<Mix>>,
    /// What was stored last.
    last: ActionId,
}

/// What is done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Forward(NeighbourKey),
    Deliver(InterfaceId),
    Drop(DropReason),
}

/// What makes two decisions one.
#[derive(Clone, Debug)]
struct Sameness {
    outcome: Outcome,
    counted: Counted,
}

impl PartialEq for Sameness {
    fn eq(&self, other: &Sameness) -> bool {
        self.outcome == other.outcome && self.counted.ids() == other.counted.ids()
    }
}

impl Eq for Sameness {}

impl Hash for Sameness {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.outcome.hash(state);
        for id in self.counted.ids() {
            state.write_u32(id.0);
        }
    }
}

/// A hash by multiplication: what goes in is the operator's, or an address on a link, and the table is bounded.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.write_u64(word);
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// A decision with all that it takes to carry it out.
pub(crate) struct Decision {
    outcome: Outcome,
    /// Of [`Outcome::Forward`], with the MAC address that the neighbours had when they were `asked`.
    link: LinkHeader,
    /// Where packets leave by, if they do.
    port: PortId,
    egress: InterfaceId,
    /// The longest packet that is sent on, in bytes; 0 where none is.
    mtu: u16,
    asked: Asked,
    counted: Counted,
    /// Packets of this burst that are not counted yet.
    run: Run,
}

/// When the neighbours were asked for a next hop's MAC address: their epoch, and the second.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Asked(u64);

impl Asked {
    /// Not yet: what time never comes to.
    const NEVER: Asked = Asked(u64::MAX);

    /// Now. Once a second even where nothing changed, so that control hears that the next hop is in use.
    #[inline(always)]
    fn now(world: &World, now: Tick) -> Asked {
        Asked(u64::from(world.neighbours.epoch) << 32 | u64::from(now.0 / 1000))
    }
}

impl Decisions {
    /// An empty table.
    pub fn new() -> Decisions {
        Decisions {
            generation: Generation(1),
            list: Vec::with_capacity(LIMIT),
            plans: Plans::new(),
            running: Vec::with_capacity(BURST),
            index: HashMap::with_capacity_and_hasher(LIMIT, BuildHasherDefault::default()),
            last: ActionId(0),
        }
    }

    /// Forgets all: what they depend on has changed.
    pub fn clear(&mut self) {
        self.generation = Generation(self.generation.0.wrapping_add(1).max(1));
        self.list.clear();
        self.index.clear();
    }

    fn is_full(&self) -> bool {
        self.list.len() >= LIMIT
    }

    /// The number of a decision, which is made if there is none like it.
    fn intern(&mut self, outcome: Outcome, effects: &Effects, interfaces: &Interfaces) -> Option<ActionId> {
        // Flows that begin behind each other mostly go the same way.
        let is_same =
            |last: &Decision| last.outcome == outcome && last.counted.ids() == effects.counted.ids();
        if self.list.get(self.last.0.wrapping_sub(1) as usize).is_some_and(is_same) {
            return Some(self.last);
        }
        self.last = self.intern_another(outcome, effects, interfaces)?;
        Some(self.last)
    }

    fn intern_another(
        &mut self,
        outcome: Outcome,
        effects: &Effects,
        interfaces: &Interfaces,
    ) -> Option<ActionId> {
        let sameness = Sameness { outcome, counted: effects.counted.clone() };
        if let Some(known) = self.index.get(&sameness) {
            return Some(*known);
        }
        let decision = Decision::new(outcome, effects.counted.clone(), interfaces)?;
        if self.is_full() {
            self.clear();
        }
        self.list.push(decision);
        let action = ActionId(u32::try_from(self.list.len()).ok()?);
        self.index.insert(sameness, action);
        Some(action)
    }
}

impl Decision {
    /// A decision about what leaves by one of `interfaces`; None if it is not among them.
    pub fn new(outcome: Outcome, counted: Counted, interfaces: &Interfaces) -> Option<Decision> {
        let (link, port, egress, mtu) = match outcome {
            Outcome::Forward(key) => {
                let interface = interfaces.get(key.interface)?;
                let link = LinkHeader::new(MacAddr::ZERO, interface.mac, interface.vlan);
                (link, interface.port, key.interface, interface.mtu)
            }
            Outcome::Deliver(id) => {
                let interface = interfaces.get(id)?;
                (LinkHeader::new(interface.mac, MacAddr::ZERO, None), interface.port, id, 0)
            }
            Outcome::Drop(_) => {
                (LinkHeader::new(MacAddr::ZERO, MacAddr::ZERO, None), PortId(0), InterfaceId(0), 0)
            }
        };
        Some(Decision { outcome, link, port, egress, mtu, asked: Asked::NEVER, counted, run: Run::default() })
    }
}

/// Stores in its flow what became of a packet, if it would become of the flow's next one too.
pub(crate) fn remember(t: &mut Transit<'_, '_, '_>, verdict: Verdict) {
    let Sender::Wire(ingress) = t.sender else { return };
    let Some(InFlow { flow, direction, state: state @ (CtState::New | CtState::Established) }) = t.flow
    else {
        return;
    };
    // The payload of a flow with a helper is looked at.
    let has_helper = t.ct.is_some_and(|ct| ct.status.contains(Status::HELPED));
    let storable =
        !has_helper && t.effects.is_storable() && !t.once_only && !t.in_pieces && !t.packet.options;
    if !storable {
        return;
    }
    let redirected = t.bench.world.settings.icmp.redirects;
    let outcome = match verdict {
        Verdict::Transmit(_) => match t.neighbour() {
            Some(key) if !(redirected && key.interface == ingress) => Outcome::Forward(key),
            _ => return,
        },
        Verdict::Deliver(interface) => Outcome::Deliver(interface),
        Verdict::Drop(
            reason @ (DropReason::PolicyMangle | DropReason::PolicyInput | DropReason::PolicyForward),
        ) => Outcome::Drop(reason),
        _ => return,
    };
    if t.bench.decisions.is_full() {
        count_runs(t.bench);
    }
    let Some(action) = t.bench.decisions.intern(outcome, &t.effects, &t.bench.world.interfaces) else {
        return;
    };
    let stored = Stored { generation: t.bench.decisions.generation, ingress, state, action };
    t.bench.conntrack.store(flow, direction, stored);
}

/// Does with a packet what is stored in its flow; None if that does not hold for it.
#[inline]
pub(crate) fn replay(
    bench: &mut Bench<'_>,
    frame: &mut Frame<'_>,
    packet: &mut Packet,
    InFlow { flow, direction, state }: InFlow,
    ingress: InterfaceId,
) -> Option<Verdict> {
    let stored = bench.conntrack.stored(flow, direction)?;
    let holds = stored.generation == bench.decisions.generation
        && stored.ingress == ingress
        && stored.state == state
        && packet.cast == LinkCast::Unicast
        && !packet.options;
    if !holds {
        return None;
    }
    let place = stored.action.0.checked_sub(1)?;
    let decision = bench.decisions.list.get_mut(place as usize)?;
    let length = packet.length();
    let verdict = match decision.outcome {
        Outcome::Forward(NeighbourKey { interface, address }) => {
            if packet.ttl <= 1
                || length > decision.mtu
                || !decision.knows_neighbour(bench.world, bench.now.tick)
            {
                return None;
            }
            let translated = translate(bench.conntrack, bench.world, frame, packet, (flow, direction));
            if translated
                && address.is_ipv4()
                && packet.family() == Family::V6
                && let Err(reason) = nat64::to_ipv4(bench.world, bench.reassembly, frame, packet, false)
            {
                return Some(Verdict::Drop(reason));
            }
            decision.send(frame, packet, interface)
        }
        Outcome::Deliver(interface) => {
            let mut link = decision.link;
            link.set_source(source(frame.bytes()));
            if !link.write(frame, packet) {
                return None;
            }
            translate(bench.conntrack, bench.world, frame, packet, (flow, direction));
            Verdict::Deliver(interface)
        }
        Outcome::Drop(reason) => Verdict::Drop(reason),
    };
    for &rule in decision.counted.ids() {
        bench.world.ruleset.count(bench.worker, rule, 1, u64::from(length));
    }
    if let Some(trace) = &mut bench.trace {
        trace.note(Step::Tracked { state, direction, begins: false });
        trace.stored(&decision.counted, packet);
        trace.flow = bench.conntrack.record(bench.now, flow);
    }
    bench.counters.fast_path.add(1);
    Some(verdict)
}

/// What both hooks of `nat` do to a packet, at once; whether there was anything. Decisions are shared, so this is the
/// flow's own.
#[inline(always)]
fn translate(
    conntrack: &Conntrack,
    world: &World,
    frame: &mut Frame<'_>,
    packet: &mut Packet,
    (flow, direction): (FlowHandle, Direction),
) -> bool {
    if let Some(translation) = conntrack.translation(flow, direction, packet)
        && world.ruleset.translates()
    {
        translation.apply(frame.bytes_mut(), packet);
        return true;
    }
    false
}

impl Decision {
    /// The rules that it counts for.
    #[inline]
    pub fn counted(&self) -> &Counted {
        &self.counted
    }

    /// What is done.
    #[inline]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The next hop has this MAC address.
    #[inline]
    pub fn set_neighbour(&mut self, mac: MacAddr) {
        self.link.set_destination(mac);
    }

    /// Sends a packet to the next hop, whose MAC address is known.
    #[inline]
    pub fn send(&self, frame: &mut Frame<'_>, packet: &mut Packet, egress: InterfaceId) -> Verdict {
        rewrite::decrement_ttl(frame.bytes_mut(), packet);
        frame.egress = Some(egress);
        match self.link.write(frame, packet) {
            true => Verdict::Transmit(self.port),
            false => Verdict::Drop(DropReason::NoBuffer),
        }
    }

    /// Whether the link header has the next hop's MAC address. Asked for again if the neighbours changed, and once a
    /// second.
    #[inline]
    pub fn knows_neighbour(&mut self, world: &World, now: Tick) -> bool {
        let moment = Asked::now(world, now);
        self.asked == moment || self.ask(world, now, moment)
    }

    #[cold]
    fn ask(&mut self, world: &World, now: Tick, moment: Asked) -> bool {
        let Outcome::Forward(key) = self.outcome else { return false };
        let Some(neighbour) = world.neighbours.get(&key) else { return false };
        let NeighbourState::Reachable(mac) = neighbour.state else { return false };
        self.link.set_destination(mac);
        neighbour.touch(now);
        self.asked = moment;
        true
    }
}
