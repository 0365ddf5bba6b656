//! What few flows need, beside the flows and not in them, so that the others do not pay for it: accounting, the time of
//! their beginning, zones, timeouts of their own, where rules count them, helpers.
//!
//! Each array has a place for every flow, in zero pages that are never touched until the first flow that needs one. A
//! bit of [`Status`] says whether a flow has zones or timeouts, and whether it is accounted for.

use super::connections::Charges;
use super::flow::Flow;
use super::help::{Help, Words};
use super::info::{Direction, Status};
use super::record::Accounting;
use super::settings::{Settings, Timeouts};
use super::template::{Template, TimeoutsId, Zone};
use super::track::Context;
use super::tuple::Address;

/// The arrays, by place.
pub(super) struct Aside {
    /// Packets and bytes of each direction.
    accounting: Vec<[u64; 4]>,
    /// When flows were confirmed, in nanoseconds; 0: not noted.
    starts: Vec<u64>,
    /// Whether anything was ever kept in these two, whose memory is not touched before.
    keeps: bool,
    /// Of flows with [`Status::ZONED`]: the zone of each direction.
    zones: Vec<[u16; 2]>,
    /// Of flows with [`Status::OWN_TIMEOUTS`]: their number.
    timeouts: Vec<u16>,
    /// Of flows with [`Status::LIMITED`]: where they are counted.
    connections: Vec<[u32; Charges::ROOM]>,
    /// Of flows with [`Status::HELPED`] or [`Status::EXPECTED`].
    help: Vec<Words>,
}

impl Aside {
    /// Room for `capacity` flows.
    pub(super) fn new(capacity: usize) -> Aside {
        Aside {
            accounting: vec![[0; 4]; capacity],
            starts: vec![0; capacity],
            keeps: false,
            zones: vec![[0; 2]; capacity],
            timeouts: vec![0; capacity],
            connections: vec![[0; Charges::ROOM]; capacity],
            help: vec![[0; 16]; capacity],
        }
    }

    /// Counts a packet of a flow with this status, if that says so: accounting is a flow's for life, or not, whatever the
    /// settings become.
    #[inline(always)]
    pub(super) fn account(&mut self, place: u32, status: Status, cx: &Context<'_>) {
        if status.contains(Status::ACCOUNTED) {
            self.account_bytes(place, cx.direction, u64::from(cx.packet.length()));
        }
    }

    /// Counts a packet of a flow.
    pub(super) fn account_bytes(&mut self, place: u32, direction: Direction, length: u64) {
        let Some([packets, bytes, reply_packets, reply_bytes]) = self.accounting.get_mut(place as usize)
        else {
            return;
        };
        let (packets, bytes) = match direction {
            Direction::Original => (packets, bytes),
            Direction::Reply => (reply_packets, reply_bytes),
        };
        *packets += 1;
        *bytes += length;
    }

    /// What is beside a flow that begins: nothing counted yet, and when it began.
    #[inline]
    pub(super) fn begin_account(&mut self, place: u32, acct: bool, start: Option<u64>) {
        self.keeps |= acct || start.is_some();
        if !self.keeps {
            return;
        }
        if let Some(account) = self.accounting.get_mut(place as usize) {
            *account = [0; 4];
        }
        if let Some(kept) = self.starts.get_mut(place as usize) {
            *kept = start.map_or(0, |start| start.max(1));
        }
    }

    /// Packets and bytes of a flow.
    pub(super) fn accounting(&self, place: u32) -> Accounting {
        let [packets, bytes, reply_packets, reply_bytes] =
            self.accounting.get(place as usize).copied().unwrap_or_default();
        Accounting { packets: [packets, reply_packets], bytes: [bytes, reply_bytes] }
    }

    /// When a flow began, if that was noted.
    pub(super) fn start(&self, place: u32) -> Option<u64> {
        self.starts.get(place as usize).copied().filter(|start| *start != 0)
    }

    /// Keeps what a flow with these bits was begun with.
    #[inline(always)]
    pub(super) fn keep(&mut self, place: u32, status: Status, template: Template) {
        if status.intersects(Status::ZONED.with(Status::OWN_TIMEOUTS)) {
            self.keep_all(place, template);
        }
    }

    #[cold]
    fn keep_all(&mut self, place: u32, template: Template) {
        if let Some(zone) = self.zones.get_mut(place as usize) {
            *zone = template.zone.to_words();
        }
        if let Some(timeouts) = self.timeouts.get_mut(place as usize) {
            *timeouts = template.timeouts.0;
        }
    }

    /// What helpers keep of a flow: of those that have one, or were announced by one.
    #[cold]
    pub(super) fn help(&self, place: u32) -> Help {
        Help::from_words(self.help.get(place as usize).copied().unwrap_or_default())
    }

    /// Keeps it.
    #[cold]
    pub(super) fn set_help(&mut self, place: u32, help: &Help) {
        if let Some(words) = self.help.get_mut(place as usize) {
            *words = help.to_words();
        }
    }

    /// The zone of a flow.
    #[inline(always)]
    pub(super) fn zone<A: Address>(&self, place: u32, flow: &Flow<A>) -> Zone {
        if !flow.status.contains(Status::ZONED) {
            return Zone::default();
        }
        Zone::from_words(self.zones.get(place as usize).copied().unwrap_or_default())
    }

    /// The timeouts of a flow: those that a rule gave it, or else the system file's.
    #[inline(always)]
    pub(super) fn timeouts<'a>(&self, place: u32, status: Status, settings: &'a Settings) -> &'a Timeouts {
        if !status.contains(Status::OWN_TIMEOUTS) {
            return &settings.timeouts;
        }
        let number = self.timeouts.get(place as usize).copied().unwrap_or_default();
        settings.timeouts_of(TimeoutsId(number))
    }
}

impl Aside {
    /// Keeps where a flow with [`Status::LIMITED`] is counted.
    pub(super) fn keep_charges(&mut self, place: u32, charges: Charges) {
        if let Some(kept) = self.connections.get_mut(place as usize) {
            *kept = charges.to_words();
        }
    }

    /// Where rules count a flow.
    pub(super) fn charges(&self, place: u32, status: Status) -> Charges {
        let kept = self.connections.get(place as usize).filter(|_| status.contains(Status::LIMITED));
        kept.copied().map(Charges::from_words).unwrap_or_default()
    }
}

impl Template {
    /// The bits that say what is kept beside a flow that begins with it.
    pub(super) fn status(&self) -> Status {
        let bit = |wanted, bit| if wanted { bit } else { Status::default() };
        bit(!self.zone.is_default(), Status::ZONED)
            .with(bit(self.timeouts != TimeoutsId::default(), Status::OWN_TIMEOUTS))
    }
}
