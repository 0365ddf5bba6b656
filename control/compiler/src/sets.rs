//! Named sets, compiled once and referred to by number.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sluice_config::policy::{PortRange, SetElements};
use sluice_config::{IpRange, Policy};
use sluice_engine::ruleset::{AddressSet, AddressSetBuilder, PortSet, Ruleset, RulesetBuilder, SetId};

/// Numbers of a policy's sets by name.
#[derive(Default)]
pub(crate) struct Sets<'a> {
    pub(crate) nets: HashMap<&'a str, SetId>,
    pub(crate) ports: HashMap<&'a str, SetId>,
}

impl<'a> Sets<'a> {
    pub(crate) fn build(policy: &'a Policy, builder: &mut RulesetBuilder) -> Sets<'a> {
        let mut sets = Sets::default();
        for (name, set) in &policy.sets {
            match &set.elements {
                SetElements::Net(ranges) => {
                    sets.nets.insert(name, builder.address_set(addresses(ranges)));
                }
                SetElements::Port(ranges) => {
                    sets.ports.insert(name, builder.port_set(ports(ranges)));
                }
            }
        }
        sets
    }

    /// The sets by name, as the policy defines them.
    pub(crate) fn named(&self, policy: &Policy) -> BTreeMap<String, NamedSet> {
        let of = |(name, set): (&String, &sluice_config::policy::Set)| {
            let known = match &set.elements {
                SetElements::Net(_) => &self.nets,
                SetElements::Port(_) => &self.ports,
            };
            let id = *known.get(name.as_str())?;
            Some((name.clone(), NamedSet { id, elements: Arc::new(set.elements.clone()) }))
        };
        policy.sets.iter().filter_map(of).collect()
    }
}

/// What makes one set of another, element by element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Elements that are new.
    pub added: SetElements,
    /// Elements that are gone.
    pub removed: SetElements,
}

/// A set in a compiled policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSet {
    /// Its number among those of its type.
    pub id: SetId,
    /// What it holds, as it was written.
    pub elements: Arc<SetElements>,
}

/// More elements that go at once are not looked for one by one: the set is compiled again.
const FEW: usize = 64;

impl NamedSet {
    /// As [`NamedSet::put_into`], where `ruleset` has the set as it was before `difference`: without compiling the set again,
    /// where that is small.
    pub fn put_change_into(&self, ruleset: &Ruleset, difference: &Difference) -> Ruleset {
        let changed = match (&*self.elements, &difference.added, &difference.removed) {
            (SetElements::Net(after), SetElements::Net(added), SetElements::Net(removed))
                if removed.len() <= FEW =>
            {
                let gone = uncovered(removed, after);
                ruleset.with_changed_addresses(self.id, &gone, &addresses(added))
            }
            _ => None,
        };
        changed.unwrap_or_else(|| self.put_into(ruleset))
    }

    /// The policy with these elements in the set, whatever were there before.
    pub fn put_into(&self, ruleset: &Ruleset) -> Ruleset {
        match &*self.elements {
            SetElements::Net(ranges) => ruleset.with_address_set(self.id, addresses(ranges)),
            SetElements::Port(ranges) => ruleset.with_port_set(self.id, ports(ranges)),
        }
    }
}

/// What of the elements that went no other element covers.
fn uncovered(removed: &[IpRange], after: &[IpRange]) -> AddressSet {
    let gone = addresses(removed);
    if removed.is_empty() {
        return gone;
    }
    let touches = |kept: &&IpRange| {
        removed.iter().any(|one| {
            one.family() == kept.family() && one.first() <= kept.last() && kept.first() <= one.last()
        })
    };
    let kept: Vec<IpRange> = after.iter().filter(touches).copied().collect();
    gone.without(&addresses(&kept))
}

fn addresses(ranges: &[IpRange]) -> AddressSet {
    let mut addresses = AddressSetBuilder::default();
    ranges.iter().for_each(|range| addresses.range(range.first(), range.last()));
    addresses.build()
}

fn ports(ranges: &[PortRange]) -> PortSet {
    PortSet::new(ranges.iter().map(|range| (range.first, range.last)))
}
