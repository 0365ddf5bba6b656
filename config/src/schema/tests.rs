//! The schema against the decoder: what one takes the other takes, every key is there and described, and the documents that
//! are made from the same tables are in step.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::Policy;
use crate::policy::schema::{ACTIONS, MATCHES};
use crate::yaml::{self, Node};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A document as an editor's YAML reads it. Source: YAML 1.2 core schema.
fn document(text: &str) -> Value {
    let mut errors = Vec::new();
    let node = yaml::parse(text, &mut errors).expect("YAML").expect("a document");
    value(&node)
}

fn value(node: &Node<'_>) -> Value {
    match &node.value {
        yaml::Value::Scalar(_) if node.is_null() => Value::Null,
        yaml::Value::Scalar(scalar) if scalar.plain => {
            let text = &*scalar.text;
            let hex = text.strip_prefix("0x").and_then(|hex| i64::from_str_radix(hex, 16).ok());
            match text {
                "true" | "True" | "TRUE" => json!(true),
                "false" | "False" | "FALSE" => json!(false),
                _ => match text.parse::<i64>().ok().or(hex) {
                    Some(number) => json!(number),
                    None => json!(text),
                },
            }
        }
        yaml::Value::Scalar(scalar) => json!(scalar.text),
        yaml::Value::List(items) => items.iter().map(value).collect(),
        yaml::Value::Map(entries) => {
            let entries = entries.iter().map(|(key, node)| (key.text.to_string(), value(node)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
    }
}

fn validator(schema: &Value) -> jsonschema::Validator {
    jsonschema::options().build(schema).unwrap_or_else(|why| panic!("{why}"))
}

fn complaints(schema: &jsonschema::Validator, text: &str) -> Vec<String> {
    schema.iter_errors(&document(text)).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_schemas_are_schemas() {
    for schema in [super::policy(), super::system(), super::both()] {
        assert!(jsonschema::draft202012::meta::is_valid(&schema));
    }
}

#[test]
fn every_example_fulfils_its_schema() {
    let (policy, system, both) =
        (validator(&super::policy()), validator(&super::system()), validator(&super::both()));
    let mut examples = 0;
    for entry in std::fs::read_dir(root().join("config/examples")).expect("examples") {
        let folder = entry.expect("an example").path();
        for (file, schema) in [("policy.yaml", &policy), ("sluice.yaml", &system)] {
            let Ok(text) = std::fs::read_to_string(folder.join(file)) else { continue };
            assert_eq!(complaints(schema, &text), Vec::<String>::new(), "{}/{file}", folder.display());
            assert_eq!(complaints(&both, &text), Vec::<String>::new(), "{}/{file}", folder.display());
            examples += 1;
        }
    }
    assert!(examples >= 8, "only {examples} examples were found");
}

#[test]
fn what_is_wrong_does_not() {
    let cases = [
        ("an unknown section", "filters: {}"),
        ("an unknown hook", "filter: {prerouting: []}"),
        ("an unknown match", "filter: {input: [{dprot: 22, action: accept}]}"),
        ("no action", "filter: {input: [{dport: 22}]}"),
        ("an unknown action", "filter: {input: [{action: allow}]}"),
        ("two actions", "filter: {input: [{action: {mark: 1, log: {}}}]}"),
        ("a word that needs a value", "filter: {input: [{action: jump}]}"),
        ("an unknown state", "filter: {input: [{ct: establised, action: accept}]}"),
        ("an empty list", "filter: {input: [{dport: [], action: accept}]}"),
        ("a port too high", "filter: {input: [{dport: 65536, action: accept}]}"),
        ("no address", "filter: {input: [{src: example.org, action: accept}]}"),
        ("no rate", "filter: {input: [{limit: {burst: 5}, action: accept}]}"),
        ("another policy", "filter: {input: {policy: reject, rules: []}}"),
        ("a test that expects nothing", "tests: [{packet: {in: lan}}]"),
        ("a set of nothing", "sets: {a: {elements: [1]}}"),
    ];
    let schema = validator(&super::policy());
    for (name, text) in cases {
        assert!(!complaints(&schema, text).is_empty(), "{name}: {text}");
        assert!(Policy::parse("policy.yaml", text, None).is_err(), "{name}: the decoder takes it");
    }
    let cases = [
        ("no interfaces", "policy: a"),
        ("no device", "interfaces: {lan: {addresses: [10.0.0.1/24]}}"),
        ("an unknown device", "interfaces: {lan: {device: \"usb:1\"}}"),
        ("a sysctl's whole name", "interfaces: {lan: {device: \"tap:t\"}}\nconntrack: {nf_conntrack_max: 1}"),
        ("an unknown timeout", "interfaces: {lan: {device: \"tap:t\"}}\nconntrack: {timeouts: {tcp: 1}}"),
        ("a word for idle", "interfaces: {lan: {device: \"tap:t\"}}\nworkers: {idle: sleep}"),
    ];
    let schema = validator(&super::system());
    for (name, text) in cases {
        assert!(!complaints(&schema, text).is_empty(), "{name}: {text}");
        assert!(crate::System::parse("sluice.yaml", text).is_err(), "{name}: the decoder takes it");
    }
}

/// Every value that the schema describes has words; `timeouts` alone are named by what they are.
#[test]
fn every_key_is_described() {
    fn look(path: &str, schema: &Value, found: &mut Vec<String>) {
        for (key, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let here = format!("{path}.{key}");
            if value.get("description").is_none() && !path.contains("timeout") {
                found.push(here.clone());
            }
            look(&here, value, found);
        }
        for (key, value) in schema.as_object().into_iter().flatten().filter(|(key, _)| *key != "properties") {
            let inner = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            inner
                .iter()
                .filter(|value| value.is_object())
                .for_each(|value| look(&format!("{path}/{key}"), value, found));
        }
    }
    let mut found = Vec::new();
    look("policy", &super::policy(), &mut found);
    look("system", &super::system(), &mut found);
    assert_eq!(found, Vec::<String>::new());
}

/// What the tables show is valid, for the schema and for the decoder.
#[test]
fn every_example_of_the_tables_is_valid() {
    let schema = validator(&super::policy());
    let valid = |text: &str| {
        assert_eq!(complaints(&schema, text), Vec::<String>::new(), "{text}");
        let refused = Policy::parse("policy.yaml", text, None).err();
        assert!(refused.is_none(), "{}", refused.unwrap_or_default());
    };
    let head = "zones: {inside: [a], dmz: [b]}\n\
                sets: {mgmt: {type: net, elements: [192.0.2.1]}, web: {type: port, elements: [80]}}\n\
                timeouts: {short: {udp: 5s}}\nchains: {tcp_in: []}\n";
    for known in &MATCHES {
        valid(&format!("{head}filter: {{forward: [{{{}, action: accept}}]}}\n", known.example));
    }
    for act in &ACTIONS {
        let place = act.place.split(", ").next().unwrap_or_default();
        let (table, hook) = match place {
            "all" | "filter" => ("filter", "input"),
            "raw" => ("raw", "prerouting"),
            "behind the tracker" => ("mangle", "prerouting"),
            place => place.split_once('.').unwrap_or_else(|| panic!("{place}")),
        };
        for example in act.examples {
            let port =
                if example.contains("port:") || example.contains("redirect:") || example.contains(":80") {
                    "proto: tcp, "
                } else {
                    ""
                };
            valid(&format!("{head}{table}: {{{hook}: [{{{port}action: {example}}}]}}\n"));
        }
        assert_eq!(act.alone, act.examples.contains(&act.name), "{}", act.name);
    }
}

/// docs/policy.md between two marks is made from the tables. `WRITE_DOCS=1` writes it.
#[test]
fn the_documents_tables_are_these() {
    let mut matches = "| match | value | example |\n|---|---|---|\n".to_owned();
    for known in &MATCHES {
        matches += &format!("| `{}` | {} | `{}` |\n", known.key, known.value, known.example);
    }
    let mut actions = "| action | where | what |\n|---|---|---|\n".to_owned();
    for act in &ACTIONS {
        let examples: Vec<_> = act.examples.iter().map(|example| format!("`{example}`")).collect();
        actions += &format!("| {} | {} | {} |\n", examples.join(", "), act.place, act.what);
    }
    let path = root().join("docs/policy.md");
    let before = std::fs::read_to_string(&path).expect("docs/policy.md");
    let mut text = before.clone();
    for (name, table) in [("matches", matches), ("actions", actions)] {
        let (begin, end) = (
            format!("<!-- {name}: made by a test of config/src/schema -->\n\n"),
            format!("\n<!-- end of {name} -->"),
        );
        let from = text.find(&begin).unwrap_or_else(|| panic!("no mark for {name}")) + begin.len();
        let to = text[from..].find(&end).unwrap_or_else(|| panic!("no end of {name}")) + from;
        text.replace_range(from..to, &table);
    }
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).expect("writing docs/policy.md");
    }
    assert!(
        text == before || std::env::var_os("WRITE_DOCS").is_some(),
        "docs/policy.md is behind: WRITE_DOCS=1 writes it"
    );
}
