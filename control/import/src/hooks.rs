//! Where chains go: netfilter has any number of base chains at a hook, by priority; a policy has one for each table.
//!
//! The first of several becomes the policy's chain. Accepting in it means to go on with the next one, so that its rules (and those of
//! chains that it jumps to) say `goto` instead, which is the same since that chain decides about every packet.

use std::collections::{BTreeMap, BTreeSet};

use crate::emit::{Draft, DraftChain, DraftHook, Line};
use crate::lower::{self, Lowered, Surroundings};
use crate::model::{Base, Chain, Families, Rule, Ruleset, Verdict, free_name};
use crate::report::{Place, Report};
use crate::stages::stages;
use crate::survey::{chains_of_nothing, chains_with_interfaces, is_nothing};
use crate::yaml::Value;

/// The policy's tables and their hooks, in the order of a packet's way.
const PLACES: [(&str, &[&str]); 4] = [
    ("raw", &["prerouting", "output"]),
    ("mangle", &["prerouting", "output", "postrouting"]),
    ("nat", &["prerouting", "output", "postrouting"]),
    ("filter", &["input", "forward", "output"]),
];

/// Lays out all chains.
pub(crate) fn draft(ruleset: &Ruleset, report: &mut Report) -> Draft {
    let nothing: Vec<BTreeSet<&str>> = ruleset.tables.iter().map(chains_of_nothing).collect();
    let mut planner = Planner {
        ruleset,
        nothing,
        asking: ruleset.tables.iter().map(chains_with_interfaces).collect(),
        given: ruleset
            .tables
            .iter()
            .fold(Families { v4: false, v6: false }, |all, table| all.or(table.families)),
        report,
        taken: BTreeSet::new(),
        instances: BTreeMap::new(),
        draft: Draft::default(),
    };
    planner.draft.sets = ruleset.sets.clone();
    let mut used = BTreeSet::new();
    for (table, hooks) in PLACES {
        for hook in hooks {
            let mut bases = planner.bases(table, hook);
            bases.sort_by_key(|(_, _, base)| base.priority);
            used.extend(bases.iter().map(|(at, chain, _)| (*at, chain.place.clone(), chain.name.clone())));
            planner.hook(table, hook, &bases);
        }
    }
    planner.homeless(&used);
    planner.draft
}

/// A base chain with the number of its table.
type Placed<'a> = (usize, &'a Chain, &'a Base);

/// The policy's chain for a base chain.
///
/// # Errors
/// Why there is none.
fn place(base: &Base, translates: impl Fn(&str) -> bool) -> Result<(&'static str, &str), &'static str> {
    let hook = base.hook.as_str();
    Ok(match (hook, base.priority) {
        ("input", _) if base.nat => {
            return Err("there is no chain nat.input: sources are translated in nat.postrouting");
        }
        (_, _) if base.nat => ("nat", hook),
        ("input" | "forward", _) => ("filter", hook),
        ("prerouting" | "output", ..=-200) => ("raw", hook),
        ("prerouting" | "output", ..=-101) => ("mangle", hook),
        ("output", _) => ("filter", hook),
        ("prerouting", _) if !translates("prerouting") => ("mangle", hook),
        ("prerouting", _) => {
            return Err(
                "there is no chain behind nat.prerouting: filter.input and filter.forward see the translated packet",
            );
        }
        ("postrouting", ..=99) => ("mangle", hook),
        ("postrouting", _) if !translates("postrouting") => ("mangle", hook),
        ("postrouting", _) => return Err("there is no chain behind nat.postrouting"),
        _ => return Err("there is no such hook: what comes in is first seen by raw.prerouting"),
    })
}

/// What is known of packets at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Interfaces {
    ingress: bool,
    egress: bool,
}

impl Interfaces {
    const BOTH: Self = Self { ingress: true, egress: true };

    fn at(hook: &str) -> Self {
        Self { ingress: hook != "output", egress: !matches!(hook, "prerouting" | "input") }
    }
}

/// A chain as it is written once: accepted packets and interfaces may make it another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Instance {
    /// Number of the table.
    table: usize,
    chain: String,
    /// Where accepted packets go on.
    onward: Option<String>,
    interfaces: Interfaces,
}

/// What a chain is written for.
#[derive(Clone, Copy)]
struct Context<'c> {
    table: usize,
    families: Families,
    onward: Option<&'c str>,
    interfaces: Interfaces,
}

struct Planner<'a> {
    ruleset: &'a Ruleset,
    /// Of each table, the chains that do nothing.
    nothing: Vec<BTreeSet<&'a str>>,
    /// The families that there are rules for.
    given: Families,
    report: &'a mut Report,
    taken: BTreeSet<String>,
    /// Of each table, the chains that ask for interfaces.
    asking: Vec<BTreeSet<&'a str>>,
    /// Names in the policy.
    instances: BTreeMap<Instance, String>,
    draft: Draft,
}

impl<'a> Planner<'a> {
    /// All base chains, each with its place or why it has none.
    fn all(&self) -> impl Iterator<Item = (Placed<'a>, Result<(&'static str, &'a str), &'static str>)> {
        let tables = self.ruleset.tables.iter();
        let chains =
            tables.enumerate().flat_map(|(at, table)| table.chains.iter().map(move |chain| (at, chain)));
        let bases = chains.filter_map(|(at, chain)| chain.base.as_ref().map(|base| (at, chain, base)));
        bases.map(|placed| (placed, place(placed.2, |hook| self.translates(hook))))
    }

    fn translates(&self, hook: &str) -> bool {
        let chains = self.ruleset.tables.iter().flat_map(|table| &table.chains);
        let is_nat = |chain: &Chain| chain.base.as_ref().is_some_and(|base| base.nat && base.hook == hook);
        chains.filter(|chain| is_nat(chain)).any(|chain| !chain.rules.is_empty())
    }

    /// The base chains for a chain of the policy, but for those that do nothing.
    fn bases(&self, table: &str, hook: &str) -> Vec<Placed<'a>> {
        let here = self.all().filter(|(_, place)| matches!(place, Ok((t, h)) if *t == table && *h == hook));
        let acts = |(at, chain, base): &Placed<'a>| {
            base.drops
                || !chain
                    .rules
                    .iter()
                    .all(|rule| self.nothing.get(*at).is_some_and(|of| is_nothing(rule, of)))
        };
        here.map(|(placed, _)| placed).filter(acts).collect()
    }

    /// Says of rules that are in no chain of the policy why that is.
    fn homeless(&mut self, used: &BTreeSet<(usize, Place, String)>) {
        for ((at, chain, base), place) in self.all().collect::<Vec<_>>() {
            if let Err(why) = place {
                if base.drops {
                    self.report.untranslated(&chain.place, why);
                }
                for rule in &chain.rules {
                    self.report
                        .untranslated(&rule.place, rule.refused.clone().unwrap_or_else(|| why.to_owned()));
                }
            } else if !used.contains(&(at, chain.place.clone(), chain.name.clone())) {
                self.refusals(&chain.rules);
            }
        }
        for (at, table) in self.ruleset.tables.iter().enumerate() {
            for chain in table.chains.iter().filter(|chain| chain.base.is_none()) {
                let known = self.instances.keys().any(|of| of.table == at && of.chain == chain.name);
                if known {
                    continue;
                }
                self.refusals(&chain.rules);
                if !self.nothing.get(at).is_some_and(|of| of.contains(chain.name.as_str())) {
                    let why =
                        format!("chain {} is left out: nothing that is translated jumps to it", chain.name);
                    self.report.note(&chain.place, why);
                }
            }
        }
    }

    fn refusals(&mut self, rules: &[Rule]) {
        for rule in rules {
            if let Some(why) = &rule.refused {
                self.report.untranslated(&rule.place, consequence(rule, why));
            }
        }
    }

    fn hook(&mut self, table: &'static str, hook: &'static str, bases: &[Placed<'a>]) {
        // Names first: each of them may be gone to by those before it.
        let names: Vec<String> = bases
            .iter()
            .enumerate()
            .map(|(index, (at, chain, _))| {
                let owner = self.ruleset.tables.get(*at).map(|table| table.name.as_str());
                if index == 0 { String::new() } else { free_name(&chain.name, owner, &mut self.taken) }
            })
            .collect();
        for (index, placed) in bases.iter().enumerate() {
            let next = |families: Families| {
                let later = bases.iter().zip(&names).skip(index + 1);
                later
                    .filter(|((_, chain, _), _)| !chain.families.and(families).is_none())
                    .map(|(_, name)| name.clone())
                    .next()
            };
            let lines = self.base(index == 0, Interfaces::at(hook), placed, next);
            match names.get(index) {
                Some(name) if index > 0 => self.draft.chains.push(DraftChain { name: name.clone(), lines }),
                _ => self.draft.hooks.push(DraftHook { table, hook, drops: placed.2.drops, lines }),
            }
        }
    }

    /// The lines of a base chain; `next` is where packets of some families go on.
    fn base(
        &mut self,
        first: bool,
        interfaces: Interfaces,
        placed: &Placed<'a>,
        next: impl Fn(Families) -> Option<String>,
    ) -> Vec<Line> {
        let (at, chain, base) = *placed;
        let go_on = |name: Option<String>| match name {
            None => Value::text("accept"),
            Some(name) => Value::of("goto", Value::Text(name)),
        };
        let (onward, others) = (next(chain.families), chain.families.others());
        let mut lines = Vec::new();
        let mut families = chain.families;
        let implied = |rule: &&Rule| {
            let first =
                rule.alternatives.iter().map(|tests| stages(tests).and_then(|list| list.into_iter().next()));
            rule.refused.is_some() || first.flatten().all(|stage| stage.implies_family())
        };
        let few = chain.rules.iter().filter(|rule| !implied(rule)).count() <= 3;
        if let Some(word) = others.word() {
            if first && few && !base.drops && next(Families::BOTH).is_none() {
                // Each rule says its family.
                families = Families::BOTH;
            } else {
                let mut entries = vec![("family", Value::text(word)), ("action", go_on(next(others)))];
                if self.given.and(others).is_none() {
                    let about = format!(
                        "no rules for {} were given: it passes as it did",
                        if others.v6 { "IPv6" } else { "IPv4" }
                    );
                    entries.push(("comment", Value::Text(about)));
                }
                lines.push(Line::Rule { entries, place: None });
            }
        }
        let leaves = |rule: &Rule| matches!(rule.verdict, Verdict::Return | Verdict::Goto(_));
        let simple = first && onward.is_none();
        let context = Context { table: at, families, onward: onward.as_deref(), interfaces };
        let rules = self.rules(context, &chain.rules, &chain.name);
        if simple || !chain.rules.iter().any(leaves) {
            lines.extend(rules);
        } else {
            let name = free_name(&format!("{}-rules", chain.name), None, &mut self.taken);
            self.draft.chains.push(DraftChain { name: name.clone(), lines: rules });
            lines.push(Line::plain(Value::of("jump", Value::Text(name))));
        }
        match (base.drops, &onward) {
            (true, _) if first => {}
            (true, _) => lines.push(Line::plain(Value::text("drop"))),
            (false, None) if first => {}
            (false, _) => lines.push(Line::plain(go_on(onward))),
        }
        lines
    }

    fn rules(&mut self, context: Context<'_>, rules: &[Rule], chain: &str) -> Vec<Line> {
        let mut lines = Vec::new();
        for rule in rules {
            let mut here = Here { planner: self, context, chain };
            match lower::rule(rule, &mut here) {
                Ok(Lowered::Lines(list)) => lines.extend(list),
                Ok(Lowered::Nothing) => {}
                Ok(Lowered::Never) => {
                    let why = "left out where it can match nothing: behind a hook that does not know that interface yet, or for \
                               the loopback interface, whose packets stay in the kernel";
                    self.report.note(&rule.place, why);
                }
                Err(why) => {
                    self.report.untranslated(&rule.place, consequence(rule, &why));
                    lines.push(Line::Comment(format!("not translated: {}", rule.place.text)));
                    lines.push(Line::Comment(format!("    {why}")));
                }
            }
        }
        lines
    }

    /// The policy's name for a chain of a table, whose rules are put in if they are not.
    fn instance(&mut self, name: &str, context: Context<'_>) -> Option<String> {
        let at = context.table;
        if self.nothing.get(at).is_none_or(|of| of.contains(name)) {
            return None;
        }
        let asks = self.asking.get(at).is_some_and(|of| of.contains(name));
        let interfaces = if asks { context.interfaces } else { Interfaces::BOTH };
        let (chain, onward) = (name.to_owned(), context.onward.map(str::to_owned));
        let key = Instance { table: at, chain, onward, interfaces };
        if let Some(known) = self.instances.get(&key) {
            return Some(known.clone());
        }
        let table = self.ruleset.tables.get(at)?;
        let chain = table.chains.iter().find(|chain| chain.name == name && chain.base.is_none())?;
        let named = free_name(name, Some(&table.name), &mut self.taken);
        self.instances.insert(key, named.clone());
        let slot = self.draft.chains.len();
        self.draft.chains.push(DraftChain { name: named.clone(), lines: Vec::new() });
        let context = Context { families: chain.families, interfaces, ..context };
        let lines = self.rules(context, &chain.rules, &chain.name);
        if let Some(place) = self.draft.chains.get_mut(slot) {
            place.lines = lines;
        }
        Some(named)
    }
}

/// What it means that a rule is not there.
fn consequence(rule: &Rule, why: &str) -> String {
    let stops = match &rule.verdict {
        Verdict::Drop => true,
        Verdict::Other(action) => action.to_string().contains("reject"),
        _ => false,
    };
    if stops { format!("{why}; what it stopped goes on to the next rule") } else { why.to_owned() }
}

/// A chain being written.
struct Here<'p, 'a> {
    planner: &'p mut Planner<'a>,
    context: Context<'p>,
    chain: &'p str,
}

impl Surroundings for Here<'_, '_> {
    fn families(&self) -> Families {
        self.context.families
    }

    fn knows(&self, key: &str) -> bool {
        if key == "in" { self.context.interfaces.ingress } else { self.context.interfaces.egress }
    }

    fn translates_sources(&self) -> bool {
        // Postrouting: the one hook of nat whose packets come from somewhere and have a way out.
        self.context.interfaces == Interfaces::BOTH
    }

    fn accept(&self) -> Value {
        let go_on = |name| Value::of("goto", Value::text(name));
        self.context.onward.map_or_else(|| Value::text("accept"), |name: &str| go_on(name))
    }

    fn chain(&mut self, name: &str) -> Option<String> {
        self.planner.instance(name, self.context)
    }

    fn helper(&mut self, lines: Vec<Line>) -> String {
        let name = free_name(&format!("{}-part", self.chain), None, &mut self.planner.taken);
        self.planner.draft.chains.push(DraftChain { name: name.clone(), lines });
        name
    }
}
