//! What is known of one next hop, and what of that workers see. Names are RFC 4861 section 7.3.2's.

use sluice_engine::world::NeighbourState;
use sluice_wire::MacAddr;

use super::Time;

/// What is known of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Of the system file; nothing changes it.
    Permanent(MacAddr),
    /// Asked for, with this many requests; the last one is answered until then.
    Incomplete { asked: u8, until: Time },
    /// It answered; believed until then.
    Reachable { mac: MacAddr, until: Time },
    /// It answered some time ago, or spoke unasked; used all the same, and verified when it is.
    Stale { mac: MacAddr, since: Time },
    /// In use and being verified by unicast.
    Probe { mac: MacAddr, asked: u8, until: Time },
    /// It does not answer.
    Failed { until: Time },
}

impl State {
    /// The station's MAC address, where one is known.
    pub(super) fn mac(self) -> Option<MacAddr> {
        match self {
            State::Permanent(mac)
            | State::Reachable { mac, .. }
            | State::Stale { mac, .. }
            | State::Probe { mac, .. } => Some(mac),
            State::Incomplete { .. } | State::Failed { .. } => None,
        }
    }

    /// What workers see: nothing of those that are still being asked for.
    pub(super) fn published(self) -> Option<NeighbourState> {
        match self {
            State::Failed { .. } => Some(NeighbourState::Failed),
            state => state.mac().map(NeighbourState::Reachable),
        }
    }

    /// Its name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Permanent(_) => "permanent",
            State::Incomplete { .. } => "incomplete",
            State::Reachable { .. } => "reachable",
            State::Stale { .. } => "stale",
            State::Probe { .. } => "probe",
            State::Failed { .. } => "failed",
        }
    }
}
