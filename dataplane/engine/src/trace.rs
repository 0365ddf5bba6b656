//! Packets that are followed, for whoever asks what becomes of them: each stage of a chosen packet's way leaves a note.
//!
//! A frame is chosen by a filter, and only so many a second are. It goes its way as all others do, by the same code and with
//! the same effects; it is only worked through by itself, and stages that decide put down what they decided: rules that
//! matched, what the tracker said, the translation, the route, and, for a flow whose decision is stored, what was stored. So
//! what is told is what happened. A packet that another worker owns is followed there as well, under the same number.
//!
//! Bounds: [`Trace::STEPS`] notes, [`Trace::MET`] rules; what does not fit is left out, and said. Where nobody traces, a
//! burst costs one branch more, and a stage that decides another.
//!
//! Not here: packets that were held, which are not followed again when their next hop is known.

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use sluice_wire::{Packet, Parsed, parse};

use crate::bpf::Program;
use crate::conntrack::{CtState, Direction, Ends, FlowHandle, FlowRecord};
use crate::frame::{Frame, Origin};
use crate::ids::{Generation, InterfaceId, Now, WorkerId};
use crate::ruleset::{Counted, CounterId, Decision, Effects, Hook, RuleId, Ruleset, View};
use crate::transit::Bench;
use crate::verdict::Verdict;
use crate::world::Interfaces;

/// Which packets to follow, and who is told.
#[derive(Clone, Debug)]
pub struct TraceOrder {
    /// Only frames that match this.
    pub filter: Option<Arc<Program>>,
    /// Only frames that come in by this interface.
    pub interface: Option<InterfaceId>,
    /// Packets a second, at this worker; as many again of those that others hand over.
    pub rate: u32,
    /// Who is told.
    pub sink: Arc<dyn TraceSink>,
}

/// Where traces are left. Called while packets wait: neither waits nor allocates, nor does it call the system.
pub trait TraceSink: Debug + Send + Sync {
    /// Takes one, or counts it as lost where there is no room.
    fn take(&self, trace: &Trace);

    /// More packets than [`TraceOrder::rate`] came, and some that match may have been left out.
    fn limited(&self);
}

/// One packet's way at one worker.
#[derive(Clone, Debug)]
pub struct Trace {
    /// A number made of its bytes as they came: the same at the worker that hands it over and at the one that gets it.
    pub id: u32,
    /// Where it was followed.
    pub worker: WorkerId,
    /// When, in nanoseconds of [`Now`].
    pub at: u64,
    /// What rules are numbered by.
    pub generation: Generation,
    /// Where it came from.
    pub origin: Origin,
    /// Bytes of the frame.
    pub length: u16,
    /// Its headers as they came; None: it is no packet.
    pub packet: Option<Packet>,
    /// Where it came in.
    pub ingress: Option<InterfaceId>,
    /// Where it leaves by.
    pub egress: Option<InterfaceId>,
    /// What became of it.
    pub verdict: Verdict,
    /// Its flow as it is then.
    pub flow: Option<FlowRecord>,
    /// Something was left out.
    pub more: bool,
    /// Its addresses and ports so far.
    ends: Option<Ends>,
    steps: [Step; Trace::STEPS],
    len: u8,
    met: [CounterId; Trace::MET],
    met_len: u8,
}

/// Rules that a packet met, see [`Trace::met`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Met {
    first: u8,
    count: u8,
}

/// What a stage did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A hook's chain was walked.
    Hook {
        /// Which.
        hook: Hook,
        /// Rules that matched, in order, and the chain's policy if none of them decided.
        met: Met,
        /// The rule that decided; None: the policy did, or the packet goes on.
        rule: Option<RuleId>,
        /// What was decided.
        decision: Decision,
        /// The packet's mark then.
        mark: u32,
    },
    /// The tracker said what it is.
    Tracked {
        /// Its state.
        state: CtState,
        /// Its direction, where it is of a flow.
        direction: Direction,
        /// It begins a flow.
        begins: bool,
    },
    /// What its flow had stored for such packets was done.
    Stored {
        /// Rules that it is counted for: those that matched when it was decided.
        met: Met,
    },
    /// What is done with all such untracked packets from this interface to this next hop was done.
    Stateless {
        /// Rules that it is counted for.
        met: Met,
    },
    /// It is for the box, by the tap of this interface.
    ToBox(InterfaceId),
    /// It goes on.
    Onward {
        /// By this interface.
        interface: InterfaceId,
        /// To this next hop, if that is one station.
        next: Option<IpAddr>,
    },
    /// It has other addresses or ports now.
    Translated(Ends),
    /// It began a flow, which is in the table now.
    Entered,
    /// The router answers it: what follows is the answer's way.
    Answer,
}

impl Trace {
    /// Notes that there is room for.
    pub const STEPS: usize = 24;
    /// Rules that there is room for.
    pub const MET: usize = 48;
    /// Bytes that make a packet's number.
    const NUMBERED: usize = 96;

    fn of(frame: &Frame<'_>, now: Now, worker: WorkerId, generation: Generation) -> Trace {
        let packet = match parse(frame.bytes()) {
            Ok(Parsed::Ip(packet)) => Some(packet),
            _ => None,
        };
        Trace {
            id: number(frame.bytes()),
            worker,
            at: now.nanos,
            generation,
            origin: frame.origin,
            length: frame.len,
            packet,
            ingress: None,
            egress: None,
            verdict: Verdict::Pending,
            flow: None,
            more: false,
            ends: packet.as_ref().map(ends),
            steps: [Step::Entered; Trace::STEPS],
            len: 0,
            met: [CounterId(0); Trace::MET],
            met_len: 0,
        }
    }

    /// What happened, in order.
    pub fn steps(&self) -> &[Step] {
        self.steps.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The counters of rules that were met at a step, as [`crate::ruleset::Ruleset::counts`] knows them.
    pub fn met(&self, met: Met) -> &[CounterId] {
        let first = usize::from(met.first);
        self.met.get(first..first + usize::from(met.count)).unwrap_or_default()
    }

    /// Puts a step down.
    #[cold]
    pub(crate) fn note(&mut self, step: Step) {
        match self.steps.get_mut(usize::from(self.len)) {
            Some(place) => {
                *place = step;
                self.len += 1;
            }
            None => self.more = true,
        }
    }

    /// Puts down addresses and ports, if they are others than before.
    #[cold]
    pub(crate) fn became(&mut self, packet: &Packet) {
        let ends = ends(packet);
        if self.ends.is_some_and(|before| before != ends) {
            self.ends = Some(ends);
            self.note(Step::Translated(ends));
        }
    }

    /// Puts down that a stored decision was carried out, and what the packet is now.
    #[cold]
    pub(crate) fn stored(&mut self, counted: &Counted, packet: &Packet) {
        let met = self.keep(counted, 0);
        self.note(Step::Stored { met });
        self.became(packet);
    }

    /// Puts down that what is done with all such untracked packets was done.
    #[cold]
    pub(crate) fn stateless(&mut self, counted: &Counted) {
        let met = self.keep(counted, 0);
        self.note(Step::Stateless { met });
    }

    /// Puts down what the filter made of such a packet, which it looks at each time: asked again, as before without
    /// counting anything.
    #[cold]
    pub(crate) fn filtered(&mut self, ruleset: &Ruleset, mut view: View<'_>) {
        let mut effects = Effects::default();
        let decision = ruleset.evaluate(Hook::FilterForward, &mut view, &mut effects);
        self.hook(Hook::FilterForward, (&effects, 0), decision, view.mark);
    }

    /// Puts down a hook's decision, and the rules that were met behind the first `before`.
    #[cold]
    fn hook(&mut self, hook: Hook, (effects, before): (&Effects, usize), decision: Decision, mark: u32) {
        let met = self.keep(&effects.counted, before);
        self.note(Step::Hook { hook, met, rule: effects.rule, decision, mark });
    }

    /// Keeps the counters behind the first `before`.
    fn keep(&mut self, counted: &Counted, before: usize) -> Met {
        let first = self.met_len;
        let ids = counted.ids();
        // Where it is full, further ones may have been met.
        self.more |= ids.len() == Counted::ROOM;
        for id in ids.get(before..).unwrap_or_default() {
            match self.met.get_mut(usize::from(self.met_len)) {
                Some(place) => {
                    *place = *id;
                    self.met_len += 1;
                }
                None => self.more = true,
            }
        }
        Met { first, count: self.met_len - first }
    }
}

impl Bench<'_> {
    /// Puts a step down, if the packet at hand is followed.
    #[inline]
    pub(crate) fn note(&mut self, step: Step) {
        if let Some(trace) = &mut self.trace {
            trace.note(step);
        }
    }

    /// Puts down what a hook's chain decided, and the rules that were met behind the first `before`.
    #[inline]
    pub(crate) fn note_hook(
        &mut self,
        hook: Hook,
        effects: (&Effects, usize),
        decision: Decision,
        mark: u32,
    ) {
        if let Some(trace) = &mut self.trace {
            trace.hook(hook, effects, decision, mark);
        }
    }

    /// Puts down the packet's flow as it is now.
    #[cold]
    pub(crate) fn note_flow(&mut self, flow: FlowHandle) {
        if let Some(trace) = &mut self.trace {
            trace.flow = self.conntrack.record(self.now, flow);
        }
    }
}

fn ends(packet: &Packet) -> Ends {
    let (sport, dport) = packet.ports().unwrap_or_default();
    Ends { src: packet.addrs.src(), dst: packet.addrs.dst(), sport, dport }
}

/// FNV-1a of the first bytes: two packets of one number are no harm but to the eye.
fn number(bytes: &[u8]) -> u32 {
    let first = bytes.get(..Trace::NUMBERED).unwrap_or(bytes);
    first.iter().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Chooses packets, and has them followed.
pub(crate) struct Tracer {
    order: TraceOrder,
    /// Packets of this worker's own, and those handed over.
    budgets: [Budget; 2],
}

/// What may still be followed in this second.
#[derive(Clone, Copy, Default)]
struct Budget {
    began: u64,
    used: u32,
}

const SECOND: u64 = 1_000_000_000;

impl Budget {
    fn take(&mut self, now: Now, rate: u32) -> bool {
        if now.nanos.saturating_sub(self.began) >= SECOND {
            *self = Budget { began: now.nanos, used: 0 };
        }
        let left = self.used < rate;
        self.used = self.used.saturating_add(1);
        left
    }

    fn is_spent(&self, now: Now, rate: u32) -> bool {
        self.used > rate && now.nanos.saturating_sub(self.began) < SECOND
    }
}

impl Tracer {
    pub(crate) fn new(order: TraceOrder) -> Tracer {
        Tracer { order, budgets: [Budget::default(); 2] }
    }

    /// Whether a frame is to be followed. When there were enough in this second, not even the filter is run.
    pub(crate) fn wants(&mut self, now: Now, interfaces: &Interfaces, frame: &Frame<'_>) -> bool {
        let order = &self.order;
        let handed_over = matches!(frame.origin, Origin::HandedOver | Origin::LocalHandedOver(_));
        let [own, others] = &mut self.budgets;
        let budget = if handed_over { others } else { own };
        if budget.is_spent(now, order.rate) {
            return false;
        }
        let bytes = frame.bytes();
        let here = order.interface.is_none_or(|only| arrived(interfaces, frame) == Some(only));
        if !here || !order.filter.as_ref().is_none_or(|filter| filter.matches(bytes)) {
            return false;
        }
        let wanted = budget.take(now, order.rate);
        if !wanted {
            order.sink.limited();
        }
        wanted
    }

    pub(crate) fn begin(
        &self,
        frame: &Frame<'_>,
        now: Now,
        worker: WorkerId,
        generation: Generation,
    ) -> Trace {
        Trace::of(frame, now, worker, generation)
    }

    /// Tells of a packet, at the end of its way.
    pub(crate) fn end(&self, mut trace: Trace, frame: &Frame<'_>) {
        (trace.ingress, trace.egress, trace.verdict) = (frame.ingress, frame.egress, frame.verdict);
        self.order.sink.take(&trace);
    }
}

/// The interface that a frame came in by, for its port and its tag; of the box's own, the tap's.
fn arrived(interfaces: &Interfaces, frame: &Frame<'_>) -> Option<InterfaceId> {
    /// Where a VLAN tag stands.
    const TAG: usize = 12;
    if let Origin::Local(tap) | Origin::LocalHandedOver(tap) = frame.origin {
        return Some(tap);
    }
    let vlan = match frame.bytes().get(TAG..TAG + 4) {
        Some([0x81, 0x00, high, low]) => Some(u16::from_be_bytes([*high, *low]) & 0xfff),
        _ => None,
    };
    interfaces.of_port(frame.port, vlan)
}

#[cfg(test)]
mod tests;
