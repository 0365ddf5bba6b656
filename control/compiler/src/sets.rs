//! Named sets, compiled once and referred to by number.

use std::collections::HashMap;

use sluice_config::Policy;
use sluice_config::policy::SetElements;
use sluice_engine::ruleset::{AddressSetBuilder, PortSet, RulesetBuilder, SetId};

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
                    let mut addresses = AddressSetBuilder::default();
                    ranges.iter().for_each(|range| addresses.range(range.first(), range.last()));
                    sets.nets.insert(name, builder.address_set(addresses.build()));
                }
                SetElements::Port(ranges) => {
                    let ports = PortSet::new(ranges.iter().map(|range| (range.first, range.last)));
                    sets.ports.insert(name, builder.port_set(ports));
                }
            }
        }
        sets
    }
}
