//! What a worker tells control, so that neither can make the other wait.
//!
//! Answers to commands are never lost: the worker keeps one until there is room and takes no further command meanwhile.
//! Everything else may be lost, and is ranked: log lines and wanted neighbours leave half of the queue to ARP and
//! neighbour discovery, so that a flood of either cannot keep the answers of next hops from being heard.

use std::hash::{BuildHasher, RandomState};

use crossbeam_channel::{Sender, TrySendError};
use sluice_engine::ids::{InterfaceId, Millis, Tick};
use sluice_engine::message::{Event, LogRecord, PuntedFrame};
use sluice_engine::world::NeighbourKey;

/// Events that the queue to control holds.
pub(crate) const CAPACITY: usize = 4096;

/// One next hop is asked for this often at the most.
const ASK_INTERVAL: Millis = Millis(500);

/// All next hops together are asked for this often in a [`WINDOW`].
const ASKS_IN_WINDOW: u32 = 64;
const WINDOW: Millis = Millis(16);

/// A worker's end of the queue to control.
pub(crate) struct Notices {
    sender: Sender<Event>,
    /// An answer that found no room.
    kept: Option<Event>,
    /// When a next hop was asked for last, by hash: two in one place may ask more often, no harm done.
    asked: Box<[Option<(u64, Tick)>]>,
    hasher: RandomState,
    window_start: Tick,
    window_asks: u32,
}

impl Notices {
    pub(crate) fn new(sender: Sender<Event>) -> Notices {
        Notices {
            sender,
            kept: None,
            asked: vec![None; 256].into_boxed_slice(),
            hasher: RandomState::new(),
            window_start: Tick(0),
            window_asks: 0,
        }
    }

    /// Sends an answer now or, where there is no room, in a later round.
    pub(crate) fn answer(&mut self, event: Event) {
        match self.sender.try_send(event) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(event)) => self.kept = Some(event),
        }
    }

    /// Whether no answer waits for room; tries again to send it.
    pub(crate) fn clear(&mut self) -> bool {
        if let Some(event) = self.kept.take() {
            self.answer(event);
        }
        self.kept.is_none()
    }

    /// Hands over ARP or neighbour discovery; false where there is no room, or the frame is longer than any that control
    /// would look at.
    pub(crate) fn punt(&mut self, interface: InterfaceId, frame: &[u8]) -> bool {
        match PuntedFrame::new(frame) {
            Some(frame) => self.sender.try_send(Event::Punted { interface, frame }).is_ok(),
            None => false,
        }
    }

    /// Hands over a log line, or forgets it.
    pub(crate) fn log(&mut self, record: &LogRecord) {
        if self.half_empty() {
            let _ = self.sender.try_send(Event::Log(record.clone()));
        }
    }

    /// Asks for a next hop, unless it or too many others were asked for a moment ago.
    pub(crate) fn resolve(&mut self, now: Tick, key: NeighbourKey) {
        let hash = self.hasher.hash_one(key);
        let place = (hash as usize) % self.asked.len().max(1);
        let Some(slot) = self.asked.get_mut(place) else { return };
        let recent = slot.is_some_and(|(asked, at)| asked == hash && now.since(at) < ASK_INTERVAL);
        if recent {
            return;
        }
        if now.since(self.window_start) >= WINDOW {
            (self.window_start, self.window_asks) = (now, 0);
        }
        if self.window_asks >= ASKS_IN_WINDOW {
            return;
        }
        self.window_asks += 1;
        *slot = Some((hash, now));
        if self.half_empty() {
            let _ = self.sender.try_send(Event::Resolve(key));
        }
    }

    fn half_empty(&self) -> bool {
        self.sender.len() < self.sender.capacity().unwrap_or(usize::MAX) / 2
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn key(last: u8) -> NeighbourKey {
        NeighbourKey { interface: InterfaceId(0), address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)) }
    }

    #[test]
    fn a_neighbour_is_asked_for_at_intervals() {
        let (sender, receiver) = crossbeam_channel::bounded(16);
        let mut notices = Notices::new(sender);
        for ms in 0..1000 {
            notices.resolve(Tick(ms), key(1));
        }
        assert_eq!(receiver.len(), 2);
    }

    #[test]
    fn a_scan_does_not_fill_the_queue() {
        let (sender, receiver) = crossbeam_channel::bounded(16);
        let mut notices = Notices::new(sender);
        for last in 0..=255 {
            notices.resolve(Tick(0), key(last));
        }
        assert_eq!(receiver.len(), 8);
        assert!(notices.punt(InterfaceId(0), &[0; 42]));
    }

    #[test]
    fn an_answer_waits_for_room() {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let mut notices = Notices::new(sender);
        notices.punt(InterfaceId(0), &[0; 42]);
        notices.answer(Event::Resolve(key(1)));
        assert!(!notices.clear());
        receiver.recv().unwrap();
        assert!(notices.clear());
        assert!(matches!(receiver.recv().unwrap(), Event::Resolve(_)));
    }
}
