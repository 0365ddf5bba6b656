//! The JSON of `nft -j list ruleset`.
//!
//! Source: libnftables-json(5), and what nft 1.0.6 and 1.1.1 write.

mod matches;
mod statements;
mod values;

use std::collections::HashMap;

use serde_json::Value as Json;

use crate::model::{Base, Chain, Families, Rule, Ruleset, Set, SetKind, Table};
use crate::report::{Place, Report};
use crate::{Options, Source};

/// Reads a text into `ruleset`.
///
/// # Errors
/// It is not such JSON.
pub(crate) fn read(
    source: &Source,
    options: &Options,
    ruleset: &mut Ruleset,
    report: &mut Report,
) -> Result<(), String> {
    let document: Json = serde_json::from_str(&source.text)
        .map_err(|why| format!("{}: {why}; it must be what `nft -j list ruleset` writes", source.name))?;
    let objects = document.get("nftables").and_then(Json::as_array);
    let objects = objects.ok_or_else(|| format!("{}: there is no list `nftables` in it", source.name))?;
    let mut reader = Reader {
        file: &source.name,
        source: ruleset.sources,
        options,
        report,
        tables: Vec::new(),
        sets: Vec::new(),
        known: Known::default(),
    };
    ruleset.sources += 1;
    // Rules may name what comes behind them.
    for rules in [false, true] {
        for (number, object) in (1..).zip(objects) {
            for (kind, value) in object.as_object().into_iter().flatten() {
                if (kind == "rule") == rules {
                    reader.object(kind, value, number);
                }
            }
        }
    }
    let Reader { tables, sets, .. } = reader;
    ruleset.tables.extend(tables);
    ruleset.sets.extend(sets);
    Ok(())
}

/// What rules of a table name, beside chains and sets.
#[derive(Default)]
struct Known {
    /// Maps by table and name: their elements.
    maps: HashMap<(String, String), Vec<Json>>,
    /// Sets of several fields by table and name: their elements.
    together: HashMap<(String, String), Vec<Json>>,
    /// Helpers by table and name: the helper.
    helpers: HashMap<(String, String), String>,
}

struct Reader<'a> {
    file: &'a str,
    source: usize,
    options: &'a Options,
    report: &'a mut Report,
    tables: Vec<Table>,
    sets: Vec<Set>,
    known: Known,
}

/// The text of a key, empty where there is none.
fn text<'j>(value: &'j Json, key: &str) -> &'j str {
    value.get(key).and_then(Json::as_str).unwrap_or_default()
}

/// The name of the table that an object is in, with its family: names are nft's own per family.
fn table_of(value: &Json) -> String {
    format!("{} {}", text(value, "family"), text(value, "table"))
}

impl Reader<'_> {
    fn object(&mut self, kind: &str, value: &Json, number: usize) {
        let name = text(value, "name").to_owned();
        let place = |what: String| Place {
            source: self.source,
            file: self.file.to_owned(),
            line: number,
            text: what,
        };
        let described = place(format!("{kind} {} {name}", table_of(value)));
        match kind {
            "metainfo" | "counter" => {}
            "table" => self.table(value, &described),
            "chain" => self.chain(value, described),
            "rule" => {
                let handle = value.get("handle").map(Json::to_string).unwrap_or_default();
                let exprs = value.get("expr").map(Json::to_string).unwrap_or_default();
                let place =
                    place(format!("{} {} handle {handle}: {exprs}", table_of(value), text(value, "chain")));
                self.rule(value, place);
            }
            "set" => self.set(value, described),
            "map" => {
                let elements = value.get("elem").and_then(Json::as_array).cloned().unwrap_or_default();
                self.known.maps.insert((table_of(value), name), elements);
            }
            "ct helper" => {
                self.known.helpers.insert((table_of(value), name), text(value, "type").to_owned());
            }
            "element" => {}
            "ct timeout" => {
                self.report.untranslated(&described, "timeouts of some flows are `ct_timeout` in raw here")
            }
            other => self.report.untranslated(&described, format!("there is no {other}")),
        }
    }

    fn table(&mut self, value: &Json, place: &Place) {
        let family = text(value, "family");
        let families = match family {
            "ip" => Families::V4,
            "ip6" => Families::V6,
            "inet" => Families::BOTH,
            _ => {
                self.report.untranslated(
                    place,
                    format!("there are no tables of family {family}: packets are routed"),
                );
                return;
            }
        };
        let (name, owner) =
            (text(value, "name").to_owned(), Some(format!("{family} {}", text(value, "name"))));
        self.tables.push(Table { name, families, owner, chains: Vec::new() });
    }

    fn table_mut(&mut self, value: &Json) -> Option<&mut Table> {
        let owner = table_of(value);
        self.tables.iter_mut().find(|table| table.owner.as_deref() == Some(&owner))
    }

    fn chain(&mut self, value: &Json, place: Place) {
        let Some(table) = self.table_mut(value) else { return };
        let base = value.get("hook").and_then(Json::as_str).map(|hook| Base {
            hook: hook.to_owned(),
            nat: text(value, "type") == "nat",
            priority: value.get("prio").and_then(Json::as_i64).unwrap_or(0),
            drops: text(value, "policy") == "drop",
        });
        let (name, families) = (text(value, "name").to_owned(), table.families);
        table.chains.push(Chain { name, place, families, base, rules: Vec::new() });
    }

    fn rule(&mut self, value: &Json, place: Place) {
        let owner = table_of(value);
        let Some(table) = self.tables.iter_mut().find(|table| table.owner.as_deref() == Some(&owner)) else {
            return self.report.untranslated(&place, "its table has no translation");
        };
        let mut rule = Rule::new(place, table.families);
        rule.comment = value.get("comment").and_then(Json::as_str).map(str::to_owned);
        let context = statements::Context { table: &owner, known: &self.known, options: self.options };
        let exprs = value.get("expr").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        let rules = context.rules(rule, exprs);
        let chain = text(value, "chain");
        if let Some(chain) = table.chains.iter_mut().find(|known| known.name == chain) {
            chain.rules.extend(rules);
        }
    }

    fn set(&mut self, value: &Json, place: Place) {
        let kind = value.get("type");
        if kind.is_some_and(Json::is_array) {
            let elements = value.get("elem").and_then(Json::as_array).cloned().unwrap_or_default();
            self.known.together.insert((table_of(value), text(value, "name").to_owned()), elements);
            return;
        }
        let (kind, families) = match kind.and_then(Json::as_str) {
            Some("ipv4_addr") => (SetKind::Net, Families::V4),
            Some("ipv6_addr") => (SetKind::Net, Families::V6),
            Some("inet_service") => (SetKind::Port, Families::BOTH),
            Some(
                "ifname" | "iface_index" | "mark" | "inet_proto" | "icmp_type" | "icmpv6_type" | "ct_state"
                | "dscp",
            ) => (SetKind::Inline, Families::BOTH),
            other => {
                let kind = other.map_or_else(|| kind.map(Json::to_string).unwrap_or_default(), str::to_owned);
                (
                    SetKind::Refused(format!("a set of type {kind} holds more than addresses or ports")),
                    Families::BOTH,
                )
            }
        };
        let mut elements = Vec::new();
        for element in value.get("elem").and_then(Json::as_array).into_iter().flatten() {
            let (inner, expires) = match element.get("elem") {
                Some(elem) => (elem.get("val").unwrap_or(element), elem.get("timeout").is_some()),
                None => (element, false),
            };
            if expires {
                self.report.untranslated(
                    &place,
                    format!("{inner} does not expire: it is in the set until it is deleted"),
                );
            }
            match values::scalar(inner) {
                Ok(element) => elements.push(element),
                Err(_) if matches!(kind, SetKind::Refused(_)) => {}
                Err(why) => self.report.untranslated(&place, format!("element {inner}: {why}")),
            }
        }
        if value.get("timeout").is_some() {
            self.report.untranslated(
                &place,
                "elements do not expire: those added later stay until they are deleted",
            );
        }
        let (name, owner, named) = (text(value, "name").to_owned(), Some(table_of(value)), String::new());
        self.sets.push(Set { name, owner, named, place, kind, families, elements });
    }
}
