//! Timeouts that rules give to flows: which a policy has, and the number that each is known by to flows.
//!
//! A flow keeps its number for life, over changes of policy; so numbers are given once, by a registry that lives as long
//! as the daemon. Timeouts with a name are the same for ever by that name: a policy that changes them changes them for
//! flows that have them, as `nfct timeout add` does, and one that no longer has them gives those flows the system file's.
//! Timeouts that stand in a rule are the same by what they say, so flows keep them for life.

use std::collections::BTreeMap;

use sluice_config::Policy;
use sluice_config::policy::CtTimeout;
use sluice_config::system::{TimeoutOverrides, Timeouts};
use sluice_engine::conntrack::TimeoutsId;

/// What the rules of a policy give, in the order in which the ruleset counts them.
#[derive(Clone, Debug, Default)]
pub struct RuleTimeouts {
    places: Vec<CtTimeout>,
    named: BTreeMap<String, TimeoutOverrides>,
}

impl RuleTimeouts {
    /// None yet, of a policy with these names.
    pub(crate) fn of(policy: &Policy) -> RuleTimeouts {
        RuleTimeouts { places: Vec::new(), named: policy.timeouts.clone() }
    }

    /// The place of one, which is new if no rule gave it before.
    pub(crate) fn place(&mut self, which: &CtTimeout) -> u16 {
        let known = self.places.iter().position(|known| known == which);
        let place = known.unwrap_or_else(|| {
            self.places.push(which.clone());
            self.places.len() - 1
        });
        // Beyond what can be numbered there is nothing: the flow has the system file's timeouts.
        u16::try_from(place).unwrap_or(u16::MAX)
    }
}

/// All timeouts that flows may have, by number.
#[derive(Debug, Default)]
pub struct TimeoutRegistry {
    entries: Vec<(CtTimeout, TimeoutOverrides)>,
}

impl TimeoutRegistry {
    /// Takes over the timeouts of a policy that is put in force, and says the number of each place.
    pub fn adopt(&mut self, timeouts: &RuleTimeouts) -> Box<[TimeoutsId]> {
        for (which, own) in &mut self.entries {
            if let CtTimeout::Named(name) = which {
                *own = timeouts.named.get(name).cloned().unwrap_or_default();
            }
        }
        timeouts.places.iter().map(|which| self.number(which, &timeouts.named)).collect()
    }

    fn number(&mut self, which: &CtTimeout, named: &BTreeMap<String, TimeoutOverrides>) -> TimeoutsId {
        let known = self.entries.iter().position(|(known, _)| known == which);
        let place = known.unwrap_or_else(|| {
            let own = match which {
                CtTimeout::Named(name) => named.get(name).cloned().unwrap_or_default(),
                CtTimeout::Own(own) => own.clone(),
            };
            // When numbers run out, flows have the system file's timeouts; so many differ in no policy of a lifetime.
            if self.entries.len() < usize::from(u16::MAX) {
                self.entries.push((which.clone(), own));
                self.entries.len() - 1
            } else {
                usize::MAX
            }
        });
        TimeoutsId(u16::try_from(place.wrapping_add(1)).unwrap_or(0))
    }

    /// All of them by number, where flows without have those of `system`.
    pub fn list(&self, system: &Timeouts) -> Vec<Timeouts> {
        self.entries.iter().map(|(_, own)| own.over(system)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn timeouts(text: &str) -> RuleTimeouts {
        let (policy, _) =
            Policy::parse("policy.yaml", text, None).unwrap_or_else(|errors| panic!("{errors}"));
        let names = crate::Names::as_given(&policy);
        crate::compile(&policy, &names, 1).unwrap_or_else(|errors| panic!("{errors}")).timeouts
    }

    fn udp(registry: &TimeoutRegistry, id: TimeoutsId) -> Duration {
        registry.list(&Timeouts::default())[usize::from(id.0) - 1].udp
    }

    #[test]
    fn numbers_are_kept_over_changes_of_policy() {
        let mut registry = TimeoutRegistry::default();
        let first = timeouts(
            "timeouts: {short: {udp: 5s}}
raw: {prerouting: [{dport: 53, action: {ct_timeout: short}}, \
             {dport: 54, action: {ct_timeout: {udp: 7s}}}, {dport: 55, action: {ct_timeout: {udp: {unreplied: 7}}}}]}",
        );
        let numbers = registry.adopt(&first);
        let [short, seven] = *numbers else { panic!("two of the rules say the same") };
        let seconds = Duration::from_secs;
        assert_eq!((udp(&registry, short), udp(&registry, seven)), (seconds(5), seconds(7)));
        // Named ones change for flows that have them, those of a rule do not.
        let second = timeouts(
            "timeouts: {short: {udp: 6s}}
raw: {prerouting: [{dport: 54, action: {ct_timeout: {udp: 8s}}}]}",
        );
        let numbers = registry.adopt(&second);
        assert_eq!((udp(&registry, short), udp(&registry, seven)), (seconds(6), seconds(7)));
        assert_eq!(udp(&registry, numbers[0]), seconds(8));
        registry.adopt(&timeouts("{}"));
        assert_eq!((udp(&registry, short), udp(&registry, seven)), (seconds(30), seconds(7)));
        assert_eq!(registry.adopt(&first)[..], [short, seven]);
    }
}
