//! Sets by name: which of them a rule means, and what becomes of it if a policy has no such set.

use std::collections::BTreeSet;

use crate::model::{Asked, Families, Rule, Ruleset, Set, SetKind, Test, free_name};
use crate::report::Report;

/// Names the sets, and puts their names (or elements) into the rules that ask for them.
pub(crate) fn settle(ruleset: &mut Ruleset, report: &mut Report) {
    let mut taken = BTreeSet::new();
    for set in &mut ruleset.sets {
        set.named = free_name(&set.name, set.owner.as_deref(), &mut taken);
        if let SetKind::Refused(why) = &set.kind {
            report.untranslated(&set.place, why.clone());
        }
    }
    let sets = std::mem::take(&mut ruleset.sets);
    for table in &mut ruleset.tables {
        let known = Known { sets: &sets, owner: table.owner.as_deref() };
        for rule in table.chains.iter_mut().flat_map(|chain| &mut chain.rules) {
            known.settle(rule);
        }
    }
    ruleset.sets = sets;
}

/// More elements than this would make a policy that nobody reads.
const MOST_PAIRS: usize = 1024;

struct Known<'a> {
    sets: &'a [Set],
    owner: Option<&'a str>,
}

impl Known<'_> {
    fn settle(&self, rule: &mut Rule) {
        if let Err(why) = self.pairs(rule) {
            return rule.refuse(why);
        }
        let mut refused = None;
        let mut families = Families::BOTH;
        for test in rule.alternatives.iter_mut().flatten() {
            let (Test::Is(key, asked) | Test::Not(key, asked)) = test else { continue };
            let Asked::Set(name) = asked else { continue };
            match self.values(name, key) {
                Ok((settled, values, of)) => {
                    (*key, *asked) = (settled, Asked::Any(values));
                    families = families.and(of);
                }
                Err(why) => refused = Some(why),
            }
        }
        if let Some(why) = refused {
            rule.refuse(why);
        }
        rule.only(families);
    }

    /// Makes an alternative of each element of a set of addresses with ports.
    fn pairs(&self, rule: &mut Rule) -> Result<(), String> {
        let asked = |test: &Test| match test {
            Test::Is(key, Asked::Set(name)) | Test::Not(key, Asked::Set(name)) => {
                key.split_once(',').map(|(addr, port)| (addr, port, name.clone()))
            }
            _ => None,
        };
        let Some((addr, port, name)) = rule.alternatives.iter().flatten().find_map(asked) else {
            return Ok(());
        };
        let set = self.sets.iter().find(|set| set.name == name && set.owner.as_deref() == self.owner);
        let set =
            set.ok_or_else(|| format!("set {name} is in none of the files: add what `ipset save` writes"))?;
        if set.kind != SetKind::Pairs || set.elements.len() > MOST_PAIRS {
            return Err(format!("set {name} does not hold a few addresses with ports"));
        }
        if rule
            .alternatives
            .iter()
            .flatten()
            .any(|test| matches!(test, Test::Not(..)) && asked(test).is_some())
        {
            return Err(format!("set {name} holds addresses with ports, and neither may match"));
        }
        let (addr, port) =
            (if addr == "src" { "src" } else { "dst" }, if port == "src" { "sport" } else { "dport" });
        let choice = |element: &String| {
            let (host, service) = element.split_once(',').unwrap_or((element, ""));
            let (proto, number) = service.split_once(':').unwrap_or(("tcp", service));
            let is = |key, value: &str| Test::Is(key, Asked::Any(vec![value.to_owned()]));
            vec![is(addr, host), is("proto", proto), is(port, number)]
        };
        for tests in &mut rule.alternatives {
            tests.retain(|test| asked(test).is_none());
        }
        let choices: Vec<_> = set.elements.iter().map(choice).collect();
        if choices.is_empty() {
            rule.test(Test::Never);
        } else {
            rule.either(&choices);
        }
        Ok(())
    }

    /// The key that the set is asked with, what stands there, and the families that it has.
    fn values(&self, name: &str, key: &'static str) -> Result<(&'static str, Vec<String>, Families), String> {
        let find =
            |name: &str| self.sets.iter().find(|set| set.name == name && set.owner.as_deref() == self.owner);
        let hint = if self.owner.is_none() { ": add what `ipset save` writes" } else { "" };
        let set = find(name).ok_or_else(|| format!("set {name} is in none of the files{hint}"))?;
        let by_name = |set: &Set| format!("@{}", set.named);
        match &set.kind {
            SetKind::Net => Ok((key, vec![by_name(set)], set.families)),
            SetKind::Port => {
                let key = match key {
                    "src" => "sport",
                    "dst" => "dport",
                    other => other,
                };
                Ok((key, vec![by_name(set)], Families::BOTH))
            }
            SetKind::Sets => {
                let members: Option<Vec<&Set>> = set.elements.iter().map(|name| find(name)).collect();
                let members = members
                    .filter(|list| !list.is_empty() && list.iter().all(|set| set.kind == SetKind::Net));
                let members =
                    members.ok_or_else(|| format!("set {name} has other members than sets of addresses"))?;
                Ok((key, members.into_iter().map(by_name).collect(), Families::BOTH))
            }
            SetKind::Inline if set.elements.is_empty() => {
                Err(format!("set {name} is empty, and rules fill no sets"))
            }
            SetKind::Inline => Ok((key, set.elements.clone(), Families::BOTH)),
            SetKind::Pairs => {
                Err(format!("set {name} holds addresses with ports, and is asked for {key} alone"))
            }
            SetKind::Refused(why) => Err(format!("set {name}: {why}")),
        }
    }
}
