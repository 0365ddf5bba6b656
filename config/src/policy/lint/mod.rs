//! Warnings: what is valid, and cannot do what its author meant. Errors with `check --strict`.
//!
//! None of these is exact: a warning is given only where the rules themselves prove it, so that a policy without warnings
//! may still have a rule that never applies.

mod cover;
mod shadow;
mod untracked;

use sluice_wire::Protocol;

use super::{Action, CtState, Matches, Policy, Rule, Table};
use crate::decode::Reader;

/// Warns about a policy that has no errors.
pub(super) fn policy(reader: &mut Reader<'_>, policy: &Policy) {
    for set in policy.sets.values().filter(|set| set.elements.is_empty()) {
        reader.warning(set.span, format!("set `{}` is empty", set.name));
    }
    for chain in policy.chains.values().filter(|chain| chain.used_by.is_empty()) {
        reader.warning(chain.span, format!("nothing jumps to chain `{}`", chain.name));
    }
    for chain in &policy.hooks {
        shadow::check(reader, policy, &chain.rules);
        helpers(reader, &chain.rules);
        if chain.table == Table::Raw {
            before_tracking(reader, &chain.rules);
        }
    }
    for chain in policy.chains.values() {
        shadow::check(reader, policy, &chain.rules);
        helpers(reader, &chain.rules);
    }
    untracked::check(reader, policy);
    reader.rule = None;
}

fn warn(reader: &mut Reader<'_>, rule: &Rule, message: String) {
    reader.rule = rule.name.as_ref().map(|name| name.value.clone());
    reader.warning(rule.span, message);
}

/// In raw nothing is tracked yet: a packet there is INVALID to `ct`, or UNTRACKED behind a `notrack`, and has no flow.
/// Source: Linux `nft_ct_get_eval`, seen with nft at priority raw.
fn before_tracking(reader: &mut Reader<'_>, rules: &[Rule]) {
    let flow = |m: &Matches| {
        let states = m.ct.as_ref().is_some_and(|list| {
            !list.iter().any(|state| matches!(state, CtState::Untracked | CtState::Invalid))
        });
        let orig = m.ct_dir.is_some() || m.ct_orig.is_some() || m.ct_status.is_some();
        states || orig || m.ct_helper.is_some() || m.ct_mark.is_some()
    };
    for rule in rules.iter().filter(|rule| flow(&rule.matches)) {
        warn(reader, rule, "rule never applies: in raw no packet has a flow yet".to_string());
    }
}

/// A helper reads flows of its own protocols alone.
fn helpers(reader: &mut Reader<'_>, rules: &[Rule]) {
    for rule in rules {
        let Action::Helper(assigned) = &rule.action.value else { continue };
        let protocols = assigned.helper.protocols();
        let asked = |matches: &Matches| matches.proto.clone().or(implied(matches));
        let given = asked(&rule.matches);
        let never = given.is_some_and(|list| list.iter().all(|protocol| !protocols.contains(protocol)))
            || rule
                .unwanted()
                .proto
                .as_ref()
                .is_some_and(|list| protocols.iter().all(|own| list.contains(own)));
        if never {
            let name = assigned.helper.name();
            let names = protocols.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
            warn(
                reader,
                rule,
                format!("helper `{name}` is for {names} alone: this rule gives it to no flow"),
            );
        }
    }
}

/// The protocol that a match on its header asks for.
fn implied(matches: &Matches) -> Option<Vec<Protocol>> {
    let headers = [
        matches.tcp_flags.is_some().then_some(Protocol::TCP),
        matches.icmp.is_some().then_some(Protocol::ICMP),
        matches.icmpv6.is_some().then_some(Protocol::ICMPV6),
    ];
    headers.into_iter().flatten().next().map(|protocol| vec![protocol])
}
