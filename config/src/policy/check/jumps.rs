//! Jumps between user chains: none leads back to where it came from, and each chain knows the hooks that use it.
//!
//! No recursion: a chain of a hundred thousand jumps must not exhaust the stack.

use std::collections::{BTreeMap, BTreeSet};

use crate::decode::Reader;
use crate::policy::{Action, Policy, Rule};

/// The user chain that a rule goes to.
fn target(rule: &Rule) -> Option<&str> {
    match &rule.action.value {
        Action::Jump(name) | Action::Goto(name) => Some(name),
        _ => None,
    }
}

/// A chain on the way, and its rules that are not followed yet.
struct Step<'p> {
    name: &'p str,
    rest: std::slice::Iter<'p, Rule>,
}

/// Reports each jump that closes a loop.
pub(super) fn loops(reader: &mut Reader<'_>, policy: &Policy) {
    let mut finished = BTreeSet::new();
    for (name, chain) in &policy.chains {
        if !finished.insert(name.as_str()) {
            continue;
        }
        let mut open = BTreeSet::from([name.as_str()]);
        let mut way = vec![Step { name, rest: chain.rules.iter() }];
        while let Some(step) = way.last_mut() {
            let Some(rule) = step.rest.next() else {
                open.remove(step.name);
                way.pop();
                continue;
            };
            let Some((next, chain)) = target(rule).and_then(|next| policy.chains.get_key_value(next)) else {
                continue;
            };
            if open.contains(next.as_str()) {
                let names = way.iter().map(|step| step.name).skip_while(|name| name != next);
                let shown = names.chain([next.as_str()]).collect::<Vec<_>>().join(" → ");
                reader.rule = rule.name.as_ref().map(|name| name.value.clone());
                reader.error(rule.action.span, format!("jump loop: {shown}"));
            } else if finished.insert(next) {
                open.insert(next);
                way.push(Step { name: next, rest: chain.rules.iter() });
            }
        }
    }
    reader.rule = None;
}

/// Notes in each user chain the hooks that it can be reached from.
pub(super) fn resolve(policy: &mut Policy) {
    let mut used_by: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for hook in &policy.hooks {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&Rule> = hook.rules.iter().collect();
        while let Some(rule) = open.pop() {
            if let Some((name, chain)) = target(rule).and_then(|name| policy.chains.get_key_value(name))
                && reached.insert(name)
            {
                used_by.entry(name.clone()).or_default().push((hook.table, hook.hook));
                open.extend(&chain.rules);
            }
        }
    }
    for (name, hooks) in used_by {
        if let Some(chain) = policy.chains.get_mut(&name) {
            chain.used_by = hooks;
        }
    }
}
