//! How long the router itself holds a packet, of some of them: from when a worker has it in hand to when the device has
//! taken it.
//!
//! One packet of [`EACH`] is followed, at most one at a time: the last of its burst, if it is sent to the wire. It carries
//! nothing for that. A way out sends in order, so it has gone when as many packets went as there were up to it. So the
//! others pay a subtraction a burst and a look at an option a round; the clock is read once more for a packet followed.
//!
//! Not in it: time in the device's queues and in those between workers. A packet that is handed over is followed from
//! its owner's hands on; where a device has fewer queues than there are workers, to the ring that leads to one.
//! If the device is so full that the followed packet is refused, the last one that was not stands in for it.

use sluice_engine::ids::PortId;

use crate::exit::Exit;

/// Of so many packets, one is followed.
const EACH: usize = 128;

/// Picks packets, and follows one.
pub(crate) struct Sampler {
    /// Packets that still go by unseen.
    left: usize,
    followed: Option<Followed>,
}

struct Followed {
    port: PortId,
    /// How many packets have gone by this port when this one has.
    place: u64,
    /// TSC when it was taken in hand.
    since: u64,
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler { left: EACH, followed: None }
    }
}

impl Sampler {
    /// Counts a burst; whether a packet of it should be followed.
    #[inline]
    pub(crate) fn count(&mut self, packets: usize) -> bool {
        self.left = self.left.saturating_sub(packets);
        self.left == 0 && self.followed.is_none()
    }

    /// Follows the packet that was last put on its way out by `port`, which a worker had in hand at TSC `since`.
    pub(crate) fn follow(&mut self, ports: &[Exit], port: PortId, since: u64) {
        let Some(exit) = ports.get(usize::from(port.0)) else { return };
        self.followed = Some(Followed { port, place: exit.last_place(), since });
        self.left = EACH;
    }

    /// TSC cycles that the followed packet took, if it has gone by `now`, once.
    #[inline]
    pub(crate) fn arrived(&mut self, ports: &[Exit], now: u64) -> Option<u64> {
        let followed = self.followed.as_ref()?;
        let exit = ports.get(usize::from(followed.port.0))?;
        let cycles = exit.has_passed(followed.place).then(|| now.wrapping_sub(followed.since))?;
        self.followed = None;
        Some(cycles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_packet_of_so_many_is_picked_and_none_while_one_is_followed() {
        let mut sampler = Sampler::default();
        let bursts = [EACH - 1, 1, 32];
        assert_eq!(bursts.map(|packets| sampler.count(packets)), [false, true, true], "until one is sent");
        sampler.followed = Some(Followed { port: PortId(0), place: 7, since: 100 });
        sampler.left = EACH;
        assert_eq!([EACH, 1].map(|packets| sampler.count(packets)), [false, false]);
        assert_eq!(sampler.arrived(&[], 200), None, "nobody sends by such a port");
    }
}
