//! What is allowed where: actions by table and hook, `in` and `out` by what is known at a hook.

use crate::decode::Reader;
use crate::policy::{Action, Hook, Policy, Rule, Table};

/// Checks every rule against the hooks that it is used by.
pub(super) fn check(reader: &mut Reader<'_>, policy: &Policy) {
    for chain in &policy.hooks {
        rules(reader, &chain.rules, &[(chain.table, chain.hook)]);
    }
    for chain in policy.chains.values() {
        rules(reader, &chain.rules, &chain.used_by);
    }
}

fn rules(reader: &mut Reader<'_>, rules: &[Rule], places: &[(Table, Hook)]) {
    for rule in rules {
        reader.rule = rule.name.as_ref().map(|name| name.value.clone());
        let misplaced = places.iter().find_map(|&(table, hook)| {
            allowed(&rule.action.value, table, hook).err().map(|where_to| (table, hook, where_to))
        });
        if let Some((table, hook, where_to)) = misplaced {
            let message = format!("`{}` is not allowed in {table}.{hook}", rule.action.value.name());
            reader.error_with(rule.action.span, message, Some(where_to.to_string()));
        }
        interfaces(reader, rule, places);
    }
}

/// Whether an action is allowed at a hook; if not, where it is.
fn allowed(action: &Action, table: Table, hook: Hook) -> Result<(), &'static str> {
    let (allowed, hint) = match action {
        Action::Notrack(_) | Action::Zone(_) | Action::CtTimeout(_) => {
            (table == Table::Raw, "it belongs into raw, before tracking")
        }
        Action::Helper(_) => (matches!(table, Table::Raw | Table::Mangle), "it belongs into raw or mangle"),
        Action::Snat(_) | Action::Masquerade(_) => {
            (table == Table::Nat && hook == Hook::Postrouting, "it belongs into nat.postrouting")
        }
        Action::Nat64(_) => {
            (table == Table::Nat && hook == Hook::Prerouting, "it belongs into nat.prerouting")
        }
        Action::Dnat(_) | Action::Redirect(_) => {
            (table == Table::Nat && hook != Hook::Postrouting, "it belongs into nat.prerouting or nat.output")
        }
        Action::Reject(_) => (table == Table::Filter, "it belongs into filter"),
        Action::CtMark(_) | Action::SaveMark(_) | Action::RestoreMark(_) => {
            (table != Table::Raw, "in raw there is no flow yet")
        }
        Action::Accept
        | Action::Drop
        | Action::Jump(_)
        | Action::Goto(_)
        | Action::Return
        | Action::Mark(_)
        | Action::Log(_)
        | Action::Count => (true, ""),
    };
    if allowed { Ok(()) } else { Err(hint) }
}

/// `in` and `out` must be known at one of the hooks at least; at the others the rule does not hold.
fn interfaces(reader: &mut Reader<'_>, rule: &Rule, places: &[(Table, Hook)]) {
    let never = |known: fn(Hook) -> bool| !places.is_empty() && !places.iter().any(|(_, hook)| known(*hook));
    let has_in = |hook| hook != Hook::Output;
    let has_out = |hook| !matches!(hook, Hook::Prerouting | Hook::Input);
    let shown =
        || places.iter().map(|(table, hook)| format!("{table}.{hook}")).collect::<Vec<_>>().join(", ");
    for matches in [&rule.matches, rule.unwanted()] {
        if let Some(first) = matches.in_interface.as_ref().and_then(|list| list.first())
            && never(has_in)
        {
            reader.error(
                first.span,
                format!("`in` is not known in {}: the packet came from the router itself", shown()),
            );
        }
        if let Some(first) = matches.out_interface.as_ref().and_then(|list| list.first())
            && never(has_out)
        {
            reader.error(
                first.span,
                format!("`out` is not known in {}: the route is not chosen, or local", shown()),
            );
        }
    }
}
