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

/// A set in a compiled policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSet {
    /// Its number among those of its type.
    pub id: SetId,
    /// What it holds, as it was written.
    pub elements: Arc<SetElements>,
}

impl NamedSet {
    /// The policy with these elements in the set, whatever were there before.
    pub fn put_into(&self, ruleset: &Ruleset) -> Ruleset {
        match &*self.elements {
            SetElements::Net(ranges) => ruleset.with_address_set(self.id, addresses(ranges)),
            SetElements::Port(ranges) => ruleset.with_port_set(self.id, ports(ranges)),
        }
    }
}

fn addresses(ranges: &[IpRange]) -> AddressSet {
    let mut addresses = AddressSetBuilder::default();
    ranges.iter().for_each(|range| addresses.range(range.first(), range.last()));
    addresses.build()
}

fn ports(ranges: &[PortRange]) -> PortSet {
    PortSet::new(ranges.iter().map(|range| (range.first, range.last)))
}
