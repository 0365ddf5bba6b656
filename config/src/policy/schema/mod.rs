//! JSON Schema of the policy file. What matches and actions there are, and what is said of them, stands in `language`.

mod language;

use serde_json::{Value, json};

use super::Helper;
use super::decode::action::{ICMP_CODES, ICMPV6_CODES, REASONS};
use super::decode::matches::{DIRECTIONS, FAMILIES, KINDS, STATES, STATUSES};
use super::decode::nat::MAPPINGS;
use super::decode::packet::PACKET_KEYS;
use super::{Table, names};
use crate::schema::{
    DIALECT, address, boolean, described, duration, list, map, map_with, named, number, number_range,
    one_or_more, prefix, rate, text, words,
};
use crate::system::timeout_names;
use sluice_wire::Protocol;

pub(crate) use language::{ACTIONS, MATCHES, Match};

/// The whole schema.
pub(crate) fn schema() -> Value {
    let mut schema = map(sections());
    let top = [
        ("$schema", json!(DIALECT)),
        ("$id", json!("urn:sluice:policy")),
        ("title", json!("Sluice's policy file")),
        ("$defs", json!({"rule": rule(), "rules": list(reference("rule")), "action": action()})),
    ];
    for (key, value) in top {
        crate::schema::put(&mut schema, key, value);
    }
    schema
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

fn sections() -> Vec<(&'static str, &'static str, Value)> {
    let mut sections = vec![
        ("zones", "groups of interfaces; `in` and `out` take either", named(one_or_more(text()))),
        ("sets", "addresses or ports by name; rules say `@name`", named(set())),
        ("timeouts", "timeouts by name, for `ct_timeout`", named(timeouts())),
        ("chains", "chains of your own, reached by `jump` and `goto`", named(user_chain())),
    ];
    for table in Table::ALL {
        let about = match table {
            Table::Raw => "before connection tracking, every packet",
            Table::Mangle => "after tracking, before NAT: helpers and marks",
            Table::Nat => "once per flow: address translation",
            Table::Filter => "accept, drop, reject",
        };
        let hooks = table.hooks().iter().map(|hook| {
            let about = match hook {
                super::Hook::Prerouting => "received packets, before the route is known",
                super::Hook::Input => "packets for the router itself",
                super::Hook::Forward => "packets for someone else",
                super::Hook::Output => "packets that the router itself sends",
                super::Hook::Postrouting => "packets about to leave",
            };
            (hook.name(), about, hook_chain())
        });
        sections.push((table.name(), about, map(hooks)));
    }
    sections.push((
        "tests",
        "packets and what must become of them: run by `sluice check` and before every `apply`",
        list(test()),
    ));
    sections
}

fn set() -> Value {
    let element = json!({"anyOf": [{"type": "string"}, number(0, 65535)]});
    map_with(
        &["type"],
        [
            ("type", "what it holds", words(["net", "port"])),
            ("elements", "addresses, prefixes and ranges, or ports and ranges of ports", list(element)),
            ("file", "a file with one element a line, instead of `elements`; `#` begins a comment", text()),
        ],
    )
}

/// Names of the system file, or of nft under a protocol.
fn timeouts() -> Value {
    let mut schema = map(timeout_names().map(|name| (name, "", duration())));
    let of_protocol = json!({"type": "object", "additionalProperties": duration()});
    for protocol in ["tcp", "udp", "icmp", "icmpv6", "sctp", "gre", "generic"] {
        let either = json!({"anyOf": [duration(), of_protocol.clone()]});
        if let Some(properties) = schema.get_mut("properties") {
            crate::schema::put(properties, protocol, either);
        }
    }
    schema
}

fn user_chain() -> Value {
    json!({"anyOf": [reference("rules"), map([("rules", "first match first", reference("rules"))])]})
}

fn hook_chain() -> Value {
    let long = map([
        ("policy", "what becomes of a packet that no rule decided", words(["accept", "drop"])),
        ("rules", "first match first", reference("rules")),
    ]);
    json!({"anyOf": [reference("rules"), long]})
}

fn rule() -> Value {
    let about = |known: &Match| format!("{}; for example `{}`", known.value, known.example);
    let matches = || MATCHES.iter().map(|known| (known.key, about(known), value(known.key)));
    let own = [
        ("not", "matches, none of which may hold; the packet must have the fields", map(matches())),
        ("action", "what to do", reference("action")),
        ("name", "unique; the metric's label, and what `explain` prints", text()),
        ("comment", "for people", json!({"type": ["string", "number", "boolean"]})),
    ];
    let mut schema =
        map_with(&["action"], matches().chain(own.map(|(key, about, value)| (key, about.to_owned(), value))));
    crate::schema::put(&mut schema, "description", json!("all matches must hold"));
    schema
}

/// The value of a match.
fn value(key: &str) -> Value {
    match key {
        "in" | "out" => one_or_more(text()),
        "to" | "origin" => one_or_more(words(KINDS.map(|(word, _)| word))),
        "family" => one_or_more(words(FAMILIES.map(|(word, _)| word))),
        "proto" => one_or_more(protocol()),
        "src" | "dst" => one_or_more(addresses()),
        "sport" | "dport" => one_or_more(ports()),
        "tcp_flags" => json!({"type": "string", "pattern": "^[A-Za-z, ]+/[A-Za-z, ]+$"}),
        "icmp" => one_or_more(icmp(names::ICMP)),
        "icmpv6" => one_or_more(icmp(names::ICMPV6)),
        "ct" => one_or_more(words(STATES.map(|(word, _)| word))),
        "ct_dir" => one_or_more(words(DIRECTIONS.map(|(word, _)| word))),
        "ct_helper" => one_or_more(words(Helper::ALL.map(Helper::name))),
        "ct_mark" | "mark" => one_or_more(mark()),
        "ct_orig" => map([
            ("src", "source of the flow's first packet", one_or_more(addresses())),
            ("dst", "its destination", one_or_more(addresses())),
            ("sport", "its source port", one_or_more(ports())),
            ("dport", "its destination port", one_or_more(ports())),
        ]),
        "ct_status" => one_or_more(words(STATUSES.map(|(word, _)| word))),
        "fragment" => boolean(),
        "length" => one_or_more(number_range(65535)),
        "ttl" => one_or_more(number_range(255)),
        "dscp" => {
            let names: Vec<_> = names::DSCP.iter().map(|(name, _)| *name).collect();
            one_or_more(json!({"anyOf": [{"enum": names}, number_range(63)]}))
        }
        "limit" => {
            let long = map_with(
                &["rate"],
                [
                    ("rate", "packets in a time", rate()),
                    ("burst", "how many may come at once, 5 unless given", number(1, 1 << 20)),
                    ("per", "a limit for each of these", words(["src", "dst"])),
                ],
            );
            json!({"anyOf": [rate(), long]})
        }
        "connlimit" => map_with(
            &["above"],
            [
                ("above", "the number of flows that is still within the limit", number(0, u32::MAX)),
                ("per", "counted for each of these", words(["src", "dst"])),
            ],
        ),
        _ => json!(true),
    }
}

fn protocol() -> Value {
    let names: Vec<_> = Protocol::names().collect();
    json!({"anyOf": [{"enum": names}, number(0, 255), {"type": "string", "pattern": "^[0-9]+$|^[A-Za-z0-9-]+$"}]})
}

fn addresses() -> Value {
    let pattern = "^(@.+|[0-9a-fA-F:.]+(/[0-9]+)?|[0-9a-fA-F:.]+ *- *[0-9a-fA-F:.]+)$";
    json!({"type": "string", "pattern": pattern, "examples": ["10.0.0.0/8", "192.0.2.1-192.0.2.9", "@mgmt"]})
}

fn ports() -> Value {
    let text = json!({"type": "string", "pattern": "^(@.+|[0-9]+( *- *[0-9]+)?)$", "examples": ["8000-8080", "@web"]});
    json!({"anyOf": [number(0, 65535), text]})
}

fn icmp(table: &[(&'static str, u8, Option<u8>)]) -> Value {
    let names: Vec<_> = table.iter().map(|(name, ..)| *name).collect();
    let with_code = json!({"type": "string", "pattern": "^[A-Za-z0-9-]+(/[A-Za-z0-9-]+)?$"});
    json!({"anyOf": [{"enum": names}, number(0, 255), with_code]})
}

fn mark() -> Value {
    let pattern = "^(0[xX][0-9a-fA-F]+|[0-9]+)( */ *(0[xX][0-9a-fA-F]+|[0-9]+))?$";
    json!({"anyOf": [number(0, u32::MAX), {"type": "string", "pattern": pattern, "examples": ["0x10/0xff"]}]})
}

/// An action: a word, or a map of one key.
fn action() -> Value {
    let mut properties = serde_json::Map::new();
    let mut alone = Vec::new();
    for act in ACTIONS {
        if act.alone {
            alone.push(act.name);
        }
        if let Some(value) = with_value(act.name) {
            let about = format!("{} ({}); for example `{}`", act.what, act.place, act.examples.join("`, `"));
            properties.insert(act.name.to_owned(), described(&about, value));
        }
    }
    json!({"anyOf": [
        {"enum": alone},
        {"type": "object", "properties": properties, "additionalProperties": false, "minProperties": 1, "maxProperties": 1},
    ]})
}

/// The value of `{action: value}`; None where there is no such form.
fn with_value(name: &str) -> Option<Value> {
    let port = || ("port", "a port or a range", ports());
    let to = || ("to", "an address or a range", text());
    let own = || ("prefix", "in place of the address's own, whose other bits stay; alone", prefix());
    let mapping = || {
        let about = "whether an inner address and port has the same outer ones for all destinations";
        ("mapping", about, words(MAPPINGS.map(|(word, _)| word)))
    };
    let zone = || number(0, 65535);
    let copied = |from: &str| {
        let pattern = format!("^{from}(/(0[xX][0-9a-fA-F]+|[0-9]+))?$");
        json!({"anyOf": [mark(), {"type": "string", "pattern": pattern}]})
    };
    Some(match name {
        "reject" => {
            let icmp = map([
                ("icmp", "IPv4's codes", words(ICMP_CODES.map(|(word, _)| word))),
                ("icmpv6", "IPv6's codes", words(ICMPV6_CODES.map(|(word, _)| word))),
            ]);
            json!({"anyOf": [words(REASONS.map(|(word, _)| word)), icmp]})
        }
        "jump" | "goto" => text(),
        "helper" => {
            let name = || words(Helper::ALL.map(Helper::name));
            let loose = ("loose", "of `ftp`: also to other addresses than the client's own", boolean());
            json!({"anyOf": [name(), map_with(&["name"], [("name", "which helper", name()), loose])]})
        }
        "snat" => {
            let of = ("of", "the subscribers: a prefix or a range of IPv4 addresses", text());
            let dealt = map_with(&["of", "size"], [of, ("size", "ports of each", number(1, 65535))]);
            let blocks = ("blocks", "ports dealt out: the same to each subscriber for ever", dealt);
            json!({"anyOf": [text(), map([to(), port(), own(), mapping(), blocks])]})
        }
        "nat64" => {
            let prefix = ("prefix", "what stands for IPv4 (RFC 6052); 64:ff9b::/96 unless given", prefix());
            let pool = ("to", "the pool: an address or a range of IPv4 addresses", text());
            json!({"anyOf": [text(), map_with(&["to"], [pool, port(), prefix])]})
        }
        "dnat" => json!({"anyOf": [text(), map([to(), port(), own()])]}),
        "masquerade" => map([port(), mapping()]),
        "redirect" => json!({"anyOf": [ports(), map([port()])]}),
        "zone" => {
            let one_way = map([("original", "for requests", zone()), ("reply", "for answers", zone())]);
            json!({"anyOf": [zone(), one_way]})
        }
        "ct_timeout" => json!({"anyOf": [text(), timeouts()]}),
        "mark" => copied("ct_mark"),
        "ct_mark" => copied("mark"),
        "log" => map([
            ("prefix", "what the line begins with", json!({"type": "string"})),
            ("limit", "at most so many lines", rate()),
        ]),
        "notrack" => map([("related", "ICMP errors about such packets are RELATED", boolean())]),
        _ => return None,
    })
}

fn test() -> Value {
    map_with(
        &["packet", "expect"],
        [
            ("name", "what it is called when it fails", text()),
            ("packet", "the first of its flow, unless it says otherwise", packet()),
            ("expect", "what must become of it", words(["accept", "drop", "reject"])),
            ("rule", "the name of the rule that must decide", text()),
        ],
    )
}

/// The keys of a packet are those of matches, of which it has one value each.
fn packet() -> Value {
    map(PACKET_KEYS.map(|key| {
        let about = MATCHES.iter().find(|known| known.key == key).map_or("", |known| known.value);
        let schema = match key {
            "in" | "out" => text(),
            "src" | "dst" => address(),
            "sport" | "dport" => number(0, 65535),
            "tcp_flags" => json!({"type": "string", "pattern": "^[A-Za-z, ]+$"}),
            "family" => words(FAMILIES.map(|(word, _)| word)),
            "proto" => protocol(),
            "icmp" => icmp(names::ICMP),
            "icmpv6" => icmp(names::ICMPV6),
            "ct" => words(STATES.map(|(word, _)| word)),
            "ct_dir" => words(DIRECTIONS.map(|(word, _)| word)),
            "ct_helper" => words(Helper::ALL.map(Helper::name)),
            "fragment" => boolean(),
            "ct_mark" | "mark" => mark(),
            "length" => number(0, 65535),
            "ttl" => number(0, 255),
            _ => json!({"type": ["string", "integer"]}),
        };
        (key, about, schema)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::decode::{action, matches};

    #[test]
    fn the_tables_have_the_decoders_matches_and_actions() {
        assert_eq!(MATCHES.map(|known| known.key), matches::KEYS);
        assert_eq!(ACTIONS.map(|known| known.name), action::NAMES);
    }
}
