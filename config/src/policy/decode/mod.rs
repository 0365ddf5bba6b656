//! From the policy file's tree to its model: sections, zones, chains and rules. Matches, actions, sets and tests have
//! files of their own; what needs more than one entry to judge is in `check`.

pub(super) mod action;
pub(super) mod matches;
pub(super) mod nat;
mod nat64;
pub(super) mod packet;
mod set;
mod together;

use std::collections::BTreeMap;

use super::{
    Action, ChainPolicy, HookChain, Matches, Policy, PolicySource, ReadTimes, Rule, Table, UserChain, Zone,
};
use crate::decode::{Reader, nearest};
use crate::source::Spanned;
use crate::system::TimeoutOverrides;
use crate::yaml::{Key, Node, Value};

pub(super) use set::Files;

pub(super) const SECTIONS: [&str; 9] =
    ["zones", "sets", "timeouts", "chains", "raw", "mangle", "nat", "filter", "tests"];

/// Zones by name, which rules need to tell a zone from an interface.
type Zones = BTreeMap<String, Zone>;

/// Reads the whole file; set files come from `files`.
pub(super) fn policy<'a>(
    reader: &mut Reader<'a>,
    root: &Node<'a>,
    source: PolicySource,
    files: &Files<'_>,
) -> Option<Policy> {
    let fields = reader.fields(root, "the policy file", &SECTIONS)?;
    let zones = fields.get("zones").map(|node| zones(reader, node)).unwrap_or_default();
    let mut read = BTreeMap::new();
    let sets = fields.get("sets").map(|node| set::sets(reader, node, files, &mut read)).unwrap_or_default();
    let timeouts = fields.get("timeouts").map(|node| timeouts(reader, node)).unwrap_or_default();
    let rules = Rules { zones: &zones, families: together::families_of_sets(&sets) };
    let chains = fields.get("chains").map(|node| rules.user_chains(reader, node)).unwrap_or_default();
    let mut hooks = Vec::new();
    for table in Table::ALL {
        if let Some(node) = fields.get(table.name()) {
            rules.table(reader, table, node, &mut hooks);
        }
    }
    let tests = fields.get("tests").map(|node| packet::tests(reader, node)).unwrap_or_default();
    let source = PolicySource { files: read, ..source };
    Some(Policy { zones, sets, chains, hooks, timeouts, tests, source, took: ReadTimes::default() })
}

fn zones<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Zones {
    let mut zones = Zones::new();
    for (key, node) in reader.map(node, "`zones`").unwrap_or_default() {
        let name = word(reader, key, "zone");
        let members = reader.values(node, &format!("zone `{name}`"), |reader, node| {
            let text = reader.text(node, "an interface")?;
            Some(Spanned::new(text.to_string(), node.span))
        });
        let mut interfaces: Vec<Spanned<String>> = Vec::new();
        for member in members.unwrap_or_default() {
            if interfaces.iter().any(|known| known.value == member.value) {
                reader.error(member.span, format!("`{}` is twice in zone `{name}`", member.value));
            }
            interfaces.push(member);
        }
        zones.insert(name.clone(), Zone { name, interfaces, span: key.span });
    }
    zones
}

/// `timeouts:`, by name.
fn timeouts<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> BTreeMap<String, TimeoutOverrides> {
    let mut all = BTreeMap::new();
    for (key, node) in reader.map(node, "`timeouts`").unwrap_or_default() {
        let name = word(reader, key, "timeouts");
        let own = TimeoutOverrides::decode(reader, node, &format!("timeouts `{name}`"));
        all.insert(name, own.unwrap_or_default());
    }
    all
}

/// The name of a zone, set or chain: letters, digits, `_`, `-` and `.`, not longer than 64.
fn word(reader: &mut Reader<'_>, key: &Key<'_>, what: &str) -> String {
    let valid = key.text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if key.text.is_empty() || key.text.chars().count() > 64 || !valid {
        reader.error(
            key.span,
            format!("`{}` is no name for a {what}: letters, digits, `_`, `-`, `.`", key.text),
        );
    }
    key.text.to_string()
}

/// Reads rules, with what they need of the sections before them.
struct Rules<'z> {
    zones: &'z Zones,
    families: BTreeMap<String, together::Families>,
}

impl Rules<'_> {
    fn user_chains<'a>(&self, reader: &mut Reader<'a>, node: &Node<'a>) -> BTreeMap<String, UserChain> {
        let mut chains = BTreeMap::new();
        for (key, node) in reader.map(node, "`chains`").unwrap_or_default() {
            let name = word(reader, key, "chain");
            let what = format!("chain `{name}`");
            let list = match &node.value {
                Value::Map(_) => {
                    reader.fields(node, &what, &["rules"]).and_then(|fields| fields.get("rules"))
                }
                Value::List(_) | Value::Scalar(_) => Some(node),
            };
            let rules = list.map(|node| self.rules(reader, node, &what)).unwrap_or_default();
            chains.insert(name.clone(), UserChain { name, rules, span: key.span, used_by: Vec::new() });
        }
        chains
    }

    fn table<'a>(&self, reader: &mut Reader<'a>, table: Table, node: &Node<'a>, chains: &mut Vec<HookChain>) {
        let entries = reader.map(node, &format!("`{table}`")).unwrap_or_default();
        for (key, _) in entries {
            if !table.hooks().iter().any(|hook| hook.name() == key.text) {
                let names = table.hooks().iter().map(|hook| hook.name());
                let list = names.clone().collect::<Vec<_>>().join(", ");
                let hint = nearest(&key.text, names).unwrap_or(format!("it has {list}"));
                reader.error_with(key.span, format!("`{table}` has no chain `{}`", key.text), Some(hint));
            }
        }
        for hook in table.hooks() {
            let Some((key, node)) = entries.iter().find(|(key, _)| key.text == hook.name()) else { continue };
            let what = format!("{table}.{hook}");
            let mut chain = HookChain {
                table,
                hook: *hook,
                policy: ChainPolicy::Accept,
                rules: Vec::new(),
                span: key.span,
            };
            let list = match &node.value {
                Value::Map(_) => {
                    let fields = reader.fields(node, &what, &["policy", "rules"]);
                    if let Some(node) = fields.and_then(|fields| fields.get("policy")) {
                        let words = [("accept", ChainPolicy::Accept), ("drop", ChainPolicy::Drop)];
                        chain.policy = reader.keyword(node, "`policy`", &words).unwrap_or_default();
                    }
                    fields.and_then(|fields| fields.get("rules"))
                }
                Value::List(_) | Value::Scalar(_) => Some(node),
            };
            chain.rules = list.map(|node| self.rules(reader, node, &what)).unwrap_or_default();
            chains.push(chain);
        }
    }

    fn rules<'a>(&self, reader: &mut Reader<'a>, node: &Node<'a>, what: &str) -> Vec<Rule> {
        let items = reader.list(node, what).unwrap_or_default();
        let mut rules = Vec::with_capacity(items.len());
        rules.extend(items.iter().filter_map(|item| self.rule(reader, item)));
        reader.rule = None;
        rules
    }

    fn rule<'a>(&self, reader: &mut Reader<'a>, node: &Node<'a>) -> Option<Rule> {
        reader.rule = None;
        let before = reader.errors();
        if node.is_null() {
            reader.error(node.span, "a rule must be a map, not empty");
            return None;
        }
        let entries = reader.map(node, "a rule")?;
        let mut rule = Rule {
            matches: Matches::NONE,
            not: None,
            action: Spanned::new(Action::Count, node.span),
            name: None,
            comment: None,
            span: node.span,
        };
        // The name first, so that every message about the rule has it.
        if let Some((_, node)) = entries.iter().find(|(key, _)| key.text == "name") {
            rule.name = label(reader, node, "`name`").map(|name| Spanned::new(name, node.span));
            reader.rule = rule.name.as_ref().map(|name| name.value.clone());
        }
        let mut decided = false;
        for (key, node) in entries {
            match &*key.text {
                "name" => {}
                "comment" => rule.comment = reader.text(node, "`comment`").map(ToString::to_string),
                "action" => {
                    decided = true;
                    if let Some(action) = action::action(reader, node) {
                        rule.action = action;
                    }
                }
                "not" => {
                    let mut not = Matches::NONE;
                    self.negated(reader, node, &mut not);
                    rule.not = (!not.is_empty()).then(|| Box::new(not));
                }
                _ if matches::field(reader, key, node, self.zones, &mut rule.matches) => {}
                _ => {
                    let known: Vec<&str> =
                        matches::KEYS.into_iter().chain(["not", "action", "name", "comment"]).collect();
                    reader.unknown_key(key, "a rule", &known);
                }
            }
        }
        if !decided {
            reader.error(node.span, "a rule needs `action`");
        }
        if reader.errors() == before {
            let place = |name: &str| {
                entries.iter().find(|(key, _)| key.text == name).map_or(node.span, |(key, _)| key.span)
            };
            together::check(reader, &rule, &self.families, place);
            nat::check(reader, &rule, place);
            nat64::check(reader, &rule, place);
            action::imply(&rule.action, &mut rule.matches);
        }
        Some(rule)
    }

    fn negated<'a>(&self, reader: &mut Reader<'a>, node: &Node<'a>, matches: &mut Matches) {
        for (key, node) in reader.map(node, "`not`").unwrap_or_default() {
            if !matches::field(reader, key, node, self.zones, matches) {
                reader.unknown_key(key, "`not`", &matches::KEYS);
            }
        }
    }
}

/// A name for people: any text of at most 128 characters without control characters.
fn label<'a>(reader: &mut Reader<'a>, node: &Node<'a>, what: &str) -> Option<String> {
    let text = reader.text(node, what)?;
    if text.is_empty() || text.chars().count() > 128 || text.chars().any(char::is_control) {
        reader.error(
            node.span,
            format!("{what} must be 1 to 128 characters, none of them a control character"),
        );
        return None;
    }
    Some(text.to_string())
}
