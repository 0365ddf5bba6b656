//! What is done with all packets from one interface to one next hop that are not tracked: asked once of the ruleset, kept
//! until the world changes. Memory is fixed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sluice_wire::Family;

use crate::counters::WorkerCounters;
use crate::decision::{Decision, Outcome};
use crate::engine::BURST;
use crate::ids::{Generation, InterfaceId, Tick, WorkerId};
use crate::ruleset::{Effects, Hook, Known};
use crate::stage::filter;
use crate::world::fib::TargetId;
use crate::world::{AddressKind, Hop, NeighbourKey, NeighbourState, RpFilter, Target, World};

/// Plans that are kept, one for each ingress interface, family and next hop that meet in a slot; a power of two.
const SLOTS: usize = 4096;

/// What is known of the way from interfaces to next hops. Fixed memory.
pub(crate) struct Plans {
    slots: Vec<Slot>,
    /// Slots whose packets of this burst are not counted yet.
    pub(super) running: Vec<usize>,
}

struct Slot {
    key: PlanKey,
    /// What is done with all packets of the key; None: each is judged by itself.
    plan: Option<Route>,
}

/// What packets have in common that a plan is for, in two words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct PlanKey {
    /// Generation, target.
    under: u64,
    /// Ingress interface, family, whether `raw` was asked about the packet by itself, and said that it is not tracked.
    who: u32,
}

pub(super) struct Route {
    pub decision: Decision,
    /// The destination itself is the next hop, so its MAC address differs from packet to packet.
    pub on_link: bool,
    pub mtu: u16,
    rp_filter: RpFilter,
    /// The filter judges each packet; nothing stands behind it.
    pub filtered: bool,
    /// Nothing differs from packet to packet, and they are sent on.
    pub is_simple: bool,
}

impl Plans {
    /// None yet.
    pub fn new() -> Plans {
        let empty = || Slot { key: PlanKey::NONE, plan: None };
        let slots = std::iter::repeat_with(empty).take(SLOTS).collect();
        Plans { slots, running: Vec::with_capacity(BURST) }
    }

    /// What is done with packets of a key; None where each is judged by itself.
    #[inline(always)]
    pub(super) fn route(
        &mut self,
        key: PlanKey,
        (world, worker, counters): (&World, WorkerId, &WorkerCounters),
    ) -> Option<&mut Route> {
        let at = key.slot();
        if self.slots.get(at)?.key != key {
            self.settle(at, key, (world, worker, counters));
        }
        self.slots.get_mut(at)?.plan.as_mut()
    }

    /// Makes the plan for a key, which takes the place of another.
    #[cold]
    fn settle(
        &mut self,
        at: usize,
        key: PlanKey,
        (world, worker, counters): (&World, WorkerId, &WorkerCounters),
    ) {
        self.count_runs(world, worker, counters);
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Slot { key, plan: Route::settled(world, &key) };
        }
    }

    /// Counts what plain packets did since the last time.
    pub fn count_runs(&mut self, world: &World, worker: WorkerId, counters: &WorkerCounters) {
        for at in self.running.drain(..) {
            if let Some(Slot { plan: Some(route), .. }) = self.slots.get_mut(at) {
                route.decision.count_run(world, worker, counters);
            }
        }
    }
}

impl PlanKey {
    /// Of no packet.
    const NONE: PlanKey = PlanKey { under: u64::MAX, who: u32::MAX };

    /// Of packets from `ingress` to `target`.
    #[inline(always)]
    pub fn new(
        generation: Generation,
        target: TargetId,
        (ingress, asked): (InterfaceId, bool),
        family: Family,
    ) -> PlanKey {
        let kind = u32::from(family == Family::V6) * 2 + u32::from(asked);
        PlanKey {
            under: u64::from(generation.0) << 32 | u64::from(target.0),
            who: u32::from(ingress.0) << 2 | kind,
        }
    }

    fn target(self) -> TargetId {
        TargetId(self.under as u32)
    }

    fn ingress(self) -> InterfaceId {
        InterfaceId((self.who >> 2) as u16)
    }

    fn family(self) -> Family {
        if self.who & 2 == 0 { Family::V4 } else { Family::V6 }
    }

    fn was_asked(self) -> bool {
        self.who & 1 != 0
    }

    #[inline(always)]
    pub fn slot(self) -> usize {
        (self.under as u32).wrapping_mul(244).wrapping_add(self.who) as usize % SLOTS
    }
}

impl Route {
    fn settled(world: &World, key: &PlanKey) -> Option<Route> {
        let (ingress, family) = (key.ingress(), key.family());
        let Target::Via(hop) = world.fib.target(key.target())? else { return None };
        if world.settings.icmp.redirects && hop.interface == ingress {
            return None;
        }
        let known = Known {
            family,
            ingress,
            egress: None,
            // Routes to a next hop are of no address that is anything else.
            to: AddressKind::Routed,
            untracked: false,
        };
        let mut effects = Effects::default();
        if !key.was_asked() {
            let passes = world.ruleset.settle(Hook::RawPrerouting, &known, &mut effects)?;
            if !passes || !effects.notrack {
                return None;
            }
        }
        let mut outcome = Outcome::Forward(hop_key(hop, family));
        let mut filtered = false;
        let behind = Known { untracked: true, ..known };
        let routed = Known { egress: Some(hop.interface), ..behind };
        for (hook, known) in [
            (Hook::ManglePrerouting, behind),
            (Hook::FilterForward, routed),
            (Hook::ManglePostrouting, routed),
        ] {
            match world.ruleset.settle(hook, &known, &mut effects) {
                Some(true) => {}
                Some(false) => {
                    outcome = Outcome::Drop(filter::reason(hook));
                    break;
                }
                None if hook == Hook::FilterForward && world.ruleset.is_empty(Hook::ManglePostrouting) => {
                    filtered = true;
                }
                None => return None,
            }
        }
        let on_link = hop.gateway.is_none();
        let rp_filter = world.interfaces.get(ingress)?.rp_filter;
        let is_sent = matches!(outcome, Outcome::Forward(_));
        Some(Route {
            decision: Decision::new(outcome, effects.counted, &world.interfaces)?,
            on_link,
            mtu: world.interfaces.get(hop.interface)?.mtu,
            rp_filter,
            filtered,
            is_simple: is_sent && !on_link && !filtered && rp_filter == RpFilter::Off,
        })
    }
}

/// The neighbour that a hop names; that of a hop without a gateway is another one for each packet.
fn hop_key(hop: Hop, family: Family) -> NeighbourKey {
    let nobody = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    NeighbourKey { interface: hop.interface, address: hop.gateway.unwrap_or(nobody) }
}

impl Route {
    /// Where packets leave by, if they do.
    pub fn egress(&self) -> Option<InterfaceId> {
        match self.decision.outcome() {
            Outcome::Forward(key) => Some(key.interface),
            Outcome::Deliver(_) | Outcome::Drop(_) => None,
        }
    }

    /// Whether the reverse path filter stops what comes from there.
    #[inline]
    pub fn is_spoofed(&self, world: &World, source: IpAddr, ingress: InterfaceId) -> bool {
        let by = match self.rp_filter {
            RpFilter::Off => return false,
            RpFilter::Loose => None,
            RpFilter::Strict => Some(ingress),
        };
        !world.fib.reaches(source, by)
    }

    /// Asks for the MAC address of a destination that is on the link.
    #[inline]
    pub fn find_on_link(&mut self, world: &World, now: Tick, address: IpAddr) -> bool {
        let Some(interface) = self.egress() else { return false };
        let key = NeighbourKey { interface, address };
        let Some(neighbour) = world.neighbours.get(&key) else { return false };
        let NeighbourState::Reachable(mac) = neighbour.state else { return false };
        neighbour.touch(now);
        self.decision.set_neighbour(mac);
        true
    }
}
