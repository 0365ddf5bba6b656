//! Which number an interface's name stands for.

use std::collections::{BTreeMap, BTreeSet};

use sluice_config::policy::{InterfaceMatch, Matches};
use sluice_config::{Policy, Spanned, System};
use sluice_engine::ids::InterfaceId;

/// Interfaces by name.
#[derive(Clone, Debug, Default)]
pub struct Names {
    by_name: BTreeMap<String, InterfaceId>,
}

impl Names {
    /// The interfaces of a system file: their ids are their places in it, as everywhere in the data plane.
    pub fn of(system: &System) -> Names {
        system.interfaces.iter().map(|interface| interface.name.clone()).collect()
    }

    /// The interfaces that a policy speaks of, in the order of their names: for checking it alone.
    pub fn as_given(policy: &Policy) -> Names {
        let mut names = BTreeSet::new();
        names.extend(policy.zones.values().flat_map(|zone| &zone.interfaces).map(|name| name.value.clone()));
        for rule in policy.rules() {
            names.extend(mentioned(&rule.matches).chain(mentioned(rule.unwanted())).map(str::to_owned));
        }
        for packet in policy.tests.iter().map(|test| &test.packet) {
            let both = packet.in_interface.iter().chain(&packet.out_interface);
            names.extend(both.map(|name| name.value.clone()));
        }
        names.into_iter().collect()
    }

    /// The interface of that name.
    pub fn get(&self, name: &str) -> Option<InterfaceId> {
        self.by_name.get(name).copied()
    }

    /// All names with their interfaces, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, InterfaceId)> {
        self.by_name.iter().map(|(name, id)| (name.as_str(), *id))
    }
}

impl FromIterator<String> for Names {
    /// Interfaces in the order of their ids.
    fn from_iter<T: IntoIterator<Item = String>>(names: T) -> Names {
        let numbered = names.into_iter().zip(0..);
        Names { by_name: numbered.map(|(name, id)| (name, InterfaceId(id))).collect() }
    }
}

/// Interfaces, not zones, that matches name.
fn mentioned(matches: &Matches) -> impl Iterator<Item = &str> {
    let both = matches.in_interface.iter().chain(&matches.out_interface);
    both.flatten().filter_map(|entry: &Spanned<InterfaceMatch>| match &entry.value {
        InterfaceMatch::Interface(name) => Some(name.as_str()),
        InterfaceMatch::Zone(_) => None,
    })
}
