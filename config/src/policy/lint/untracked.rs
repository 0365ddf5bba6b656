//! NOTRACK that undoes other rules: of one direction only, or for traffic that NAT or a helper is meant for.

use super::cover::{disjoint, matches_cover};
use super::warn;
use crate::decode::Reader;
use crate::policy::matches::{AddrKind, Matches};
use crate::policy::{Action, Hook, Policy, Rule, Table};

/// Most rules of `raw` that are looked at, and most that they are compared with; a longer `raw` is compared in part.
const MAX_RULES: usize = 512;

/// Warns about `raw`'s notrack rules, and about the rules that never see what they untrack.
pub(super) fn check(reader: &mut Reader<'_>, policy: &Policy) {
    let prerouting = Raw::at(policy, Hook::Prerouting);
    let output = Raw::at(policy, Hook::Output);
    one_direction(reader, policy, &prerouting, &output);
    for chain in
        policy.hooks.iter().filter(|chain| matches!(chain.table, Table::Raw | Table::Mangle | Table::Nat))
    {
        let raw = if chain.hook == Hook::Output { &output } else { &prerouting };
        for rule in chain.rules.iter().take(MAX_RULES) {
            let what = match &rule.action.value {
                Action::Helper(_) => "a helper",
                Action::Snat(_)
                | Action::Masquerade(_)
                | Action::Nat64(_)
                | Action::Dnat(_)
                | Action::Redirect(_) => "NAT",
                _ => continue,
            };
            let seen = routed(rule, chain.hook);
            if let Some(by) = raw.untracks(policy, &seen) {
                warn(
                    reader,
                    rule,
                    format!("{what} for traffic that the rule at {} marks NOTRACK does nothing", by.span),
                );
            }
        }
    }
}

/// What a rule asks of the packet that `raw` sees. What leaves through postrouting came in for someone else.
fn routed(rule: &Rule, hook: Hook) -> Matches {
    let mut matches = rule.matches.clone();
    if hook == Hook::Postrouting {
        matches.to.get_or_insert_with(|| vec![AddrKind::Routed]);
    }
    matches
}

/// A rule of `raw` with all that leads to it.
struct Effective<'p> {
    rule: &'p Rule,
    matches: Matches,
    /// Something under `not` leads to it, so that it does not take in all that `matches` does.
    partial: bool,
    /// Rules that may have decided before it: how many of [`Raw::deciders`] come first.
    before: usize,
}

/// The chain of `raw` at one hook, jumps followed.
struct Raw<'p> {
    notracks: Vec<Effective<'p>>,
    /// Rules that may end the chain for a packet before a later notrack sees it.
    deciders: Vec<Matches>,
    /// False if rules were left out, being too many or too involved.
    complete: bool,
}

impl<'p> Raw<'p> {
    fn at(policy: &'p Policy, hook: Hook) -> Self {
        let mut raw = Self { notracks: Vec::new(), deciders: Vec::new(), complete: true };
        if let Some(chain) = policy.hook(Table::Raw, hook) {
            raw.follow(policy, &chain.rules, &Matches::default(), false, 0);
        }
        raw
    }

    fn follow(&mut self, policy: &'p Policy, rules: &'p [Rule], way: &Matches, partial: bool, depth: usize) {
        for rule in rules {
            if depth > 8 || self.notracks.len() + self.deciders.len() >= MAX_RULES {
                self.complete = false;
                return;
            }
            let Some(matches) = both(way, &rule.matches) else {
                self.complete = false;
                continue;
            };
            let partial = partial
                || !rule.unwanted().is_empty()
                || matches.limit.is_some()
                || matches.connlimit.is_some();
            match &rule.action.value {
                Action::Notrack(_) => {
                    let before = self.deciders.len();
                    self.notracks.push(Effective { rule, matches, partial, before });
                }
                Action::Jump(name) | Action::Goto(name) => {
                    if let Some(chain) = policy.chains.get(name) {
                        self.follow(policy, &chain.rules, &matches, partial, depth + 1);
                    }
                    if matches!(rule.action.value, Action::Goto(_)) {
                        self.deciders.push(matches);
                    }
                }
                action if action.ends_chain() => self.deciders.push(matches),
                _ => {}
            }
        }
    }

    /// The rule that surely marks NOTRACK every packet for which `seen` holds.
    fn untracks(&self, policy: &Policy, seen: &Matches) -> Option<&'p Rule> {
        let found = self.notracks.iter().find(|notrack| {
            let mut deciders = self.deciders.iter().take(notrack.before);
            !notrack.partial
                && matches_cover(policy, &notrack.matches, seen)
                && deciders.all(|decider| disjoint(policy, decider, seen))
        });
        found.map(|notrack| notrack.rule)
    }
}

/// Both matches in one; `None` if they ask for the same field, which one list cannot say.
fn both(a: &Matches, b: &Matches) -> Option<Matches> {
    fn either<T: Clone>(a: &Option<T>, b: &Option<T>) -> Option<Option<T>> {
        match (a, b) {
            (Some(_), Some(_)) => None,
            (a, b) => Some(a.clone().or_else(|| b.clone())),
        }
    }
    Some(Matches {
        in_interface: either(&a.in_interface, &b.in_interface)?,
        out_interface: either(&a.out_interface, &b.out_interface)?,
        to: either(&a.to, &b.to)?,
        origin: either(&a.origin, &b.origin)?,
        family: either(&a.family, &b.family)?,
        proto: either(&a.proto, &b.proto)?,
        src: either(&a.src, &b.src)?,
        dst: either(&a.dst, &b.dst)?,
        sport: either(&a.sport, &b.sport)?,
        dport: either(&a.dport, &b.dport)?,
        tcp_flags: either(&a.tcp_flags, &b.tcp_flags)?,
        icmp: either(&a.icmp, &b.icmp)?,
        icmpv6: either(&a.icmpv6, &b.icmpv6)?,
        ct: either(&a.ct, &b.ct)?,
        ct_dir: either(&a.ct_dir, &b.ct_dir)?,
        ct_helper: either(&a.ct_helper, &b.ct_helper)?,
        ct_mark: either(&a.ct_mark, &b.ct_mark)?,
        mark: either(&a.mark, &b.mark)?,
        ct_orig: either(&a.ct_orig, &b.ct_orig)?,
        ct_status: either(&a.ct_status, &b.ct_status)?,
        fragment: either(&a.fragment, &b.fragment)?,
        length: either(&a.length, &b.length)?,
        ttl: either(&a.ttl, &b.ttl)?,
        dscp: either(&a.dscp, &b.dscp)?,
        limit: either(&a.limit, &b.limit)?,
        connlimit: either(&a.connlimit, &b.connlimit)?,
    })
}

/// Warns about notrack rules whose answers no rule untracks.
fn one_direction(reader: &mut Reader<'_>, policy: &Policy, prerouting: &Raw<'_>, output: &Raw<'_>) {
    if !prerouting.complete || !output.complete {
        return;
    }
    for (raw, here) in [(prerouting, true), (output, false)] {
        for notrack in &raw.notracks {
            let mut seen = notrack.matches.clone();
            if !here {
                seen.origin.get_or_insert_with(|| vec![AddrKind::Local]);
            }
            let answer = answer(&seen);
            let answered = |other: &Effective<'_>| {
                // Answers come in by another interface; a rule for one interface cannot be for both ways.
                let one = |list: &Vec<_>| policy.interfaces(list).len() == 1;
                let same = std::ptr::eq(other.rule, notrack.rule)
                    && other.matches.in_interface.as_ref().is_some_and(one);
                let mut wide = other.matches.clone();
                wide.in_interface = None;
                !same && matches_cover(policy, &wide, &answer)
            };
            // What the router itself answers passes raw.output, where each source is its own.
            let mut local = answer.clone();
            local.origin = None;
            let by_output =
                |other: &Effective<'_>| matches_cover(policy, &without_out(&other.matches), &local);
            let found =
                prerouting.notracks.iter().any(answered) || here && output.notracks.iter().any(by_output);
            if !found {
                let message =
                    "NOTRACK of one direction only: no rule untracks the answers, which will be tracked";
                warn(reader, notrack.rule, message.to_string());
            }
        }
    }
}

fn without_out(matches: &Matches) -> Matches {
    Matches { out_interface: None, ..matches.clone() }
}

/// The matches of the packets that answer: source and destination change places, interfaces are not known.
fn answer(m: &Matches) -> Matches {
    Matches {
        in_interface: None,
        out_interface: None,
        to: m.origin.clone(),
        origin: m.to.clone(),
        src: m.dst.clone(),
        dst: m.src.clone(),
        sport: m.dport.clone(),
        dport: m.sport.clone(),
        ..m.clone()
    }
}
