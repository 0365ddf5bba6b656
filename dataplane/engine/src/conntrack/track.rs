//! What is common to all protocols (the kernel's `nf_conntrack_in`): find the flow or begin one, let its protocol
//! judge the packet, refresh the deadline, note the first answer.

use sluice_wire::{Checksum, Packet, verify};

use super::cells::Charge;
use super::flow::{Flow, Track};
use super::info::{CtState, Direction, FlowHandle, Status, TrackHook, Tracked};
use super::pending::NewFlow;
use super::settings::{Settings, Timeouts};
use super::shared::Shared;
use super::shift::Shift;
use super::table::Table;
use super::tcp::TcpState;
use super::template::Template;
use super::tuple::{Address, FamilyKey};
use super::{gre, sctp, tcp, udp};
use crate::frame::RxChecksum;
use crate::ids::{Millis, Now, Tick};
use crate::verdict::DropReason;

/// A packet, and what it is judged by.
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) settings: &'a Settings,
    pub(super) packet: &'a Packet,
    pub(super) frame: &'a [u8],
    pub(super) hook: TrackHook,
    pub(super) checksum: RxChecksum,
    /// What `raw` asked for the packet.
    pub(super) template: Template,
    /// Which way the packet goes in its flow.
    pub(super) direction: Direction,
    /// Those of its flow.
    pub(super) timeouts: &'a Timeouts,
    /// By how much the stream that it acknowledges was shifted.
    pub(super) shift: Option<Shift>,
}

impl Context<'_> {
    /// Whether the transport checksum is wrong, and that matters here. A device that found it wrong is not believed,
    /// since several judge protocols that they do not know; one that found it good is.
    #[inline]
    pub(super) fn has_bad_checksum(&self) -> bool {
        self.settings.checksum
            && self.hook == TrackHook::Prerouting
            && self.checksum != RxChecksum::Good
            && verify(self.packet, self.frame) == Checksum::Bad
    }
}

/// What a protocol says of a packet of its flow.
pub(super) enum Judged {
    /// It belongs to the flow, which lives so long from now on.
    Accept {
        /// The new timeout.
        timeout: Millis,
    },
    /// It passes, and the flow stays as it is.
    Pass,
    /// INVALID.
    Invalid {
        /// The flow is to live at most so long from now on.
        timeout: Option<Millis>,
    },
    /// It passes, and is the flow's last.
    Delete,
    /// It begins another flow of the same tuple, in place of this one.
    Reopen,
}

impl Judged {
    pub(super) const PASS: Judged = Judged::Pass;
    pub(super) const INVALID: Judged = Judged::Invalid { timeout: None };
}

/// Of a packet with a tuple.
pub(super) enum Followed<A> {
    /// Judged.
    Known(Known),
    /// It begins a flow.
    Begins(Box<NewFlow<A>>),
}

/// What the tracker says of a packet that begins no flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Of a flow in the table.
    Flow(FlowHandle, Direction, CtState),
    /// Fits no flow and can begin none.
    Invalid,
    /// Dropped by the tracker itself.
    Drop(DropReason),
}

impl Known {
    const FULL: Known = Known::Drop(DropReason::ConntrackFull);
}

impl From<Known> for Tracked {
    #[inline(always)]
    fn from(known: Known) -> Tracked {
        match known {
            Known::Flow(flow, direction, state) => Tracked::Flow { flow, direction, state },
            Known::Invalid => Tracked::Invalid,
            Known::Drop(reason) => Tracked::Drop(reason),
        }
    }
}

/// Judges a packet by its key. Where its own family has nothing that could give way to a new flow, the other may: the
/// kernel keeps both in one table.
#[inline]
pub(super) fn judge_in<A: Address, B: Address>(
    table: &mut Table<A>,
    other: &mut Table<B>,
    shared: &mut Shared,
    key: &FamilyKey<A>,
    hint: Option<u32>,
    cx: &mut Context<'_>,
) -> Followed<A> {
    match table.track(shared, key, hint, cx) {
        Followed::Known(Known::FULL) => find_room(table, other, shared, key, cx),
        followed => followed,
    }
}

#[cold]
fn find_room<A: Address, B: Address>(
    table: &mut Table<A>,
    other: &mut Table<B>,
    shared: &mut Shared,
    key: &FamilyKey<A>,
    cx: &mut Context<'_>,
) -> Followed<A> {
    if table.has_room() && other.evict(shared, cx.now.tick, key.hash) {
        let again = table.track(shared, key, None, cx);
        if !matches!(again, Followed::Known(Known::FULL)) {
            return again;
        }
    }
    shared.budget.refuse();
    shared.counters.conntrack.drop.add(1);
    Followed::Known(Known::FULL)
}

impl<A: Address> Table<A> {
    /// Judges a packet by its key. `hint` is what the index said earlier in the burst: another flow may have come or
    /// gone meanwhile, or have the same tag.
    #[inline]
    pub(super) fn track(
        &mut self,
        shared: &mut Shared,
        key: &FamilyKey<A>,
        hint: Option<u32>,
        cx: &mut Context<'_>,
    ) -> Followed<A> {
        let known = hint.and_then(|place| Some((place, self.direction_at(cx.now.tick, key, place)?)));
        let Some((place, direction)) = known.or_else(|| self.find_or_reap(shared, cx.now.tick, key)) else {
            return self.begin(shared, key, cx);
        };
        shared.counters.conntrack.found.add(1);
        cx.direction = direction;
        self.follow(shared, key, place, cx)
    }

    /// A packet of a flow in the table.
    #[inline]
    fn follow(
        &mut self,
        shared: &mut Shared,
        key: &FamilyKey<A>,
        place: u32,
        cx: &mut Context<'_>,
    ) -> Followed<A> {
        let Some(status) = self.flow(place).map(|flow| flow.status) else {
            return Followed::Known(invalid(shared));
        };
        cx.timeouts = self.aside.timeouts(place, status, cx.settings);
        if status.contains(Status::SHIFTED) {
            cx.shift = self.shift_at(place, cx.direction.opposite());
        }
        let Some(flow) = self.flow_mut(place) else { return Followed::Known(invalid(shared)) };
        let (before, state_before, class) = (flow.status, flow.state, flow.class());
        let judged = judge(flow, cx);
        if let (Judged::Accept { .. } | Judged::Pass, Direction::Reply) = (&judged, cx.direction) {
            flow.status = flow.status.with(Status::SEEN_REPLY);
        }
        let now_class = flow.class();
        if now_class != class {
            shared.move_class(class, now_class);
        }
        if shared.events.are_watched() {
            shared.events.compare(place, before, state_before, flow);
        }
        if now_class != class && before.contains(Status::LIMITED) && flow.has_closed() {
            self.release_charges(shared.budget.connections(), place);
        }
        match judged {
            Judged::Accept { timeout } => {
                if !before.contains(Status::FIXED_TIMEOUT) {
                    self.refresh(place, cx.now.tick.after(shared.factor.of(timeout)));
                }
                self.aside.account(place, before, cx);
            }
            Judged::Pass => {}
            Judged::Invalid { timeout } => {
                if let Some(timeout) = timeout {
                    self.refresh(place, cx.now.tick.after(timeout));
                }
                return Followed::Known(invalid(shared));
            }
            Judged::Delete => {
                self.remove(shared, place);
                // Its end was told as the kernel tells it, before the answer counts; rules see the answer.
                if let (Direction::Reply, Some(flow)) = (cx.direction, self.flow_mut(place)) {
                    flow.status = flow.status.with(Status::SEEN_REPLY);
                }
            }
            Judged::Reopen => {
                self.remove(shared, place);
                return self.begin(shared, key, cx);
            }
        }
        let flow = FlowHandle { family: A::FAMILY, index: place };
        Followed::Known(Known::Flow(flow, cx.direction, state(before, cx.direction)))
    }

    /// By how much a direction's stream was shifted.
    #[cold]
    fn shift_at(&self, place: u32, direction: Direction) -> Option<Shift> {
        Some(*self.aside.help(place).shifts.of(direction))
    }

    /// A packet of no flow. The place is taken before the packet is judged, as the kernel does: when the table is
    /// full, packets that would be INVALID are dropped too.
    #[inline(never)]
    fn begin(&mut self, shared: &mut Shared, key: &FamilyKey<A>, cx: &mut Context<'_>) -> Followed<A> {
        let charge = match self.charge(shared, key, cx) {
            Ok(charge) => charge,
            Err(refused) => return Followed::Known(Known::Drop(refused)),
        };
        let Some(place) = self.admit(shared, cx, key.hash, charge) else {
            return Followed::Known(Known::FULL);
        };
        cx.direction = Direction::Original;
        let template = cx.template;
        cx.timeouts = cx.settings.timeouts_of(template.timeouts);
        let mut flow = Flow::new(key.tuple);
        flow.status = template.status().with(match cx.settings.acct {
            true => Status::ACCOUNTED,
            false => Status::default(),
        });
        let bytes = u32::from(cx.packet.length());
        let new = NewFlow { template, ..NewFlow::new(flow, key, Millis(0), bytes, place) };
        let mut new = self.spare.lend(new);
        if shared.expectations.any() {
            self.meet(shared, cx.now.tick, &mut new);
        }
        if let Some(assigned) = template.helper.filter(|_| new.announced_by.is_none()) {
            new.assign(assigned);
        }
        // An answer without a request begins no flow.
        let judged = if key.is_answer() { Judged::INVALID } else { judge(&mut new.flow, cx) };
        match judged {
            Judged::Accept { timeout } => {
                new.timeout = timeout;
                Followed::Begins(new)
            }
            Judged::Pass | Judged::Invalid { .. } | Judged::Delete | Judged::Reopen => {
                self.give_back(shared, charge);
                self.spare.take_back(new);
                Followed::Known(invalid(shared))
            }
        }
    }

    /// Counts a flow that begins for its source, where sources have a quota: what the router itself sends is its own.
    ///
    /// # Errors
    /// [`DropReason::ConntrackQuota`] if its source has as many flows as it may have.
    #[inline]
    fn charge(
        &self,
        shared: &Shared,
        key: &FamilyKey<A>,
        cx: &Context<'_>,
    ) -> Result<Option<Charge>, DropReason> {
        match &cx.settings.source_quota {
            Some(quota) if cx.hook == TrackHook::Prerouting => self.charge_source(shared, key, quota),
            _ => Ok(None),
        }
    }
}

impl<A: Address> Table<A> {
    /// Enters a flow; None if there is one of its tuple already.
    pub(super) fn confirm(
        &mut self,
        shared: &mut Shared,
        now: Now,
        settings: &Settings,
        new: Box<NewFlow<A>>,
    ) -> Option<u32> {
        let (bytes, taken) = (u64::from(new.bytes), new.place);
        let accounted = new.flow.status.contains(Status::ACCOUNTED);
        let inserted = self.insert(shared, now, &new);
        let charges = new.charges;
        self.spare.take_back(new);
        let Some(place) = inserted else {
            self.give_up(shared, taken, charges);
            shared.counters.conntrack.insert_failed.add(1);
            shared.counters.conntrack.drop.add(1);
            return None;
        };
        shared.counters.conntrack.insert.add(1);
        self.aside.begin_account(place, accounted, settings.timestamp.then_some(now.nanos));
        if taken.reserved {
            shared.counters.conntrack.reserved.add(1);
        }
        if accounted {
            self.aside.account_bytes(place, Direction::Original, bytes);
        }
        if shared.events.are_watched() {
            self.tell_begin(shared, now, place);
        }
        Some(place)
    }

    /// The router resets the connection by itself.
    pub(super) fn close(&mut self, shared: &mut Shared, now: Tick, settings: &Settings, place: u32) {
        let Some(flow) = self.flow(place).filter(|flow| flow.is_live(now)) else { return };
        let timeout = self.aside.timeouts(place, flow.status, settings).tcp.close;
        let Some(flow) = self.flow_mut(place) else { return };
        let (status, state, class) = (flow.status, flow.state, flow.class());
        if let Track::Tcp(_) = flow.track {
            flow.state = TcpState::Close as u8;
            if shared.events.are_watched() {
                shared.events.compare(place, status, state, flow);
            }
            let now_class = flow.class();
            shared.move_class(class, now_class);
            if status.contains(Status::LIMITED) {
                self.release_charges(shared.budget.connections(), place);
            }
            self.refresh(place, now.after(timeout));
        }
    }
}

/// NEW until a reply was seen before this packet.
#[inline(always)]
fn state(before: Status, direction: Direction) -> CtState {
    if direction == Direction::Reply || before.contains(Status::SEEN_REPLY) {
        CtState::Established
    } else if before.contains(Status::EXPECTED) {
        CtState::Related
    } else {
        CtState::New
    }
}

fn invalid(shared: &Shared) -> Known {
    shared.counters.conntrack.invalid.add(1);
    Known::Invalid
}

/// Has the flow's protocol judge a packet.
#[inline]
fn judge<A: Address>(flow: &mut Flow<A>, cx: &Context<'_>) -> Judged {
    let timeouts = cx.timeouts;
    match &mut flow.track {
        Track::Tcp(track) => tcp::judge(
            tcp::Flow {
                tcp: track,
                state: &mut flow.state,
                status: &mut flow.status,
                remaining: flow.deadline.since(cx.now.tick),
            },
            cx,
        ),
        Track::Udp { stream_from } => udp::judge((stream_from, &mut flow.state), &mut flow.status, cx),
        Track::Sctp(track) => sctp::judge(track, &mut flow.state, &mut flow.status, cx),
        Track::Gre => gre::judge(&mut flow.status, cx),
        Track::Icmp => Judged::Accept { timeout: timeouts.icmp },
        Track::Icmpv6 => Judged::Accept { timeout: timeouts.icmpv6 },
        Track::Generic => Judged::Accept { timeout: timeouts.generic },
    }
}
