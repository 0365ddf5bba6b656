//! Every name that a policy uses is the name of something, and of the right kind.

use std::collections::HashMap;

use crate::decode::{Reader, nearest};
use crate::policy::matches::{AddrMatch, InterfaceMatch, Matches, PortMatch};
use crate::policy::{Action, CtTimeout, Policy, Rule, SetElements};
use crate::source::Spanned;
use crate::system::InterfaceNames;

/// Checks the names in zones, rules and tests.
pub(super) fn check(reader: &mut Reader<'_>, policy: &Policy, interfaces: Option<&InterfaceNames>) {
    let names = Names { policy, interfaces };
    names.zones(reader);
    let mut seen = HashMap::new();
    for rule in policy.rules() {
        reader.rule = rule.name.as_ref().map(|name| name.value.clone());
        if let Some(name) = &rule.name
            && let Some(first) = seen.insert(name.value.as_str(), name.span)
        {
            let hint = Some(format!("the first is at {first}"));
            reader.error_with(name.span, format!("rule name `{}` is used twice", name.value), hint);
        }
        names.matches(reader, &rule.matches);
        names.matches(reader, rule.unwanted());
        names.action(reader, rule);
    }
    reader.rule = None;
    for test in &policy.tests {
        for name in [&test.packet.in_interface, &test.packet.out_interface].into_iter().flatten() {
            if policy.zones.contains_key(&name.value) {
                reader
                    .error(name.span, format!("`{}` is a zone; a packet comes by one interface", name.value));
            } else {
                names.interface(reader, name);
            }
        }
        if let Some(rule) = &test.rule
            && !seen.contains_key(rule.value.as_str())
        {
            let hint = nearest(&rule.value, seen.keys().copied());
            reader.error_with(rule.span, format!("unknown rule `{}`", rule.value), hint);
        }
    }
}

struct Names<'p> {
    policy: &'p Policy,
    interfaces: Option<&'p InterfaceNames>,
}

impl Names<'_> {
    fn zones(&self, reader: &mut Reader<'_>) {
        for zone in self.policy.zones.values() {
            if self.interfaces.is_some_and(|known| known.contains(&zone.name)) {
                reader.error(zone.span, format!("zone `{}` has the name of an interface", zone.name));
            }
            for member in &zone.interfaces {
                if self.policy.zones.contains_key(&member.value) {
                    reader.error(
                        member.span,
                        format!("`{}` is a zone; a zone has interfaces only", member.value),
                    );
                } else {
                    self.interface(reader, member);
                }
            }
        }
    }

    /// Without a system file, any name will do.
    fn interface(&self, reader: &mut Reader<'_>, name: &Spanned<String>) {
        let Some(known) = self.interfaces else { return };
        if !known.contains(&name.value) {
            let hint = nearest(&name.value, known.iter());
            reader.error_with(name.span, format!("unknown interface `{}`", name.value), hint);
        }
    }

    fn matches(&self, reader: &mut Reader<'_>, matches: &Matches) {
        for entry in [&matches.in_interface, &matches.out_interface].into_iter().flatten().flatten() {
            let (InterfaceMatch::Interface(name), Some(known)) = (&entry.value, self.interfaces) else {
                continue;
            };
            if !known.contains(name) {
                let hint = nearest(name, known.iter().chain(self.policy.zones.keys().map(String::as_str)));
                reader.error_with(entry.span, format!("unknown interface or zone `{name}`"), hint);
            }
        }
        let orig = matches.ct_orig.as_ref();
        let addresses =
            [&matches.src, &matches.dst].into_iter().chain(orig.into_iter().flat_map(|o| [&o.src, &o.dst]));
        for entry in addresses.flatten().flatten() {
            if let AddrMatch::Set(name) = &entry.value {
                self.set(reader, &Spanned::new(name, entry.span), true);
            }
        }
        let ports = [&matches.sport, &matches.dport];
        for entry in
            ports.into_iter().chain(orig.into_iter().flat_map(|o| [&o.sport, &o.dport])).flatten().flatten()
        {
            if let PortMatch::Set(name) = &entry.value {
                self.set(reader, &Spanned::new(name, entry.span), false);
            }
        }
    }

    fn set(&self, reader: &mut Reader<'_>, name: &Spanned<&String>, net: bool) {
        let known = self.policy.sets.get(name.value.as_str());
        match known.map(|set| &set.elements) {
            None => {
                let hint = nearest(name.value, self.policy.sets.keys().map(String::as_str));
                reader.error_with(name.span, format!("unknown set `{}`", name.value), hint);
            }
            Some(SetElements::Port(_)) if net => {
                reader.error(name.span, format!("set `{}` holds ports, not addresses", name.value));
            }
            Some(SetElements::Net(_)) if !net => {
                reader.error(name.span, format!("set `{}` holds addresses, not ports", name.value));
            }
            Some(_) => {}
        }
    }

    fn action(&self, reader: &mut Reader<'_>, rule: &Rule) {
        let (name, what, hint) = match &rule.action.value {
            Action::Jump(name) | Action::Goto(name) if !self.policy.chains.contains_key(name) => {
                (name, "chain", nearest(name, self.policy.chains.keys().map(String::as_str)))
            }
            Action::CtTimeout(CtTimeout::Named(name)) if !self.policy.timeouts.contains_key(name) => {
                (name, "timeouts", nearest(name, self.policy.timeouts.keys().map(String::as_str)))
            }
            _ => return,
        };
        reader.error_with(rule.action.span, format!("unknown {what} `{name}`"), hint);
    }
}
