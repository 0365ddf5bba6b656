//! A scenario's abstract ruleset and parameters as Sluice's two files (JSON is YAML), as the harness's `sluice`
//! backend writes them.

use serde_json::{Map, Value, json};

/// The legs of the world in the order of their ports, which is that of the keys in the system file.
pub const LEGS: [&str; 3] = ["cli", "dmz", "srv"];
/// Their numbers in addresses.
pub const NUMBERS: [u8; 3] = [1, 3, 2];

/// Table and chain of an abstract hook.
fn place(hook: &str) -> (&'static str, &'static str) {
    match hook {
        "raw_prerouting" => ("raw", "prerouting"),
        "raw_output" => ("raw", "output"),
        "prerouting" => ("mangle", "prerouting"),
        "dnat" => ("nat", "prerouting"),
        "dnat_output" => ("nat", "output"),
        "snat" => ("nat", "postrouting"),
        "input" => ("filter", "input"),
        "forward" => ("filter", "forward"),
        "output" => ("filter", "output"),
        "postrouting" => ("mangle", "postrouting"),
        other => panic!("hook {other}"),
    }
}

/// The policy file.
pub fn policy(ruleset: &Value) -> String {
    let mut file = Map::new();
    if let Some(chains) = ruleset["chains"].as_object().filter(|chains| !chains.is_empty()) {
        let chains: Map<_, _> = chains.iter().map(|(name, list)| (name.clone(), rules(list))).collect();
        file.insert("chains".into(), chains.into());
    }
    for (hook, chain) in ruleset["hooks"].as_object().into_iter().flatten() {
        let (table, name) = place(hook);
        let default = chain["policy"].as_str().unwrap_or("accept");
        file.entry(table).or_insert_with(|| json!({}))[name] =
            json!({"policy": default, "rules": rules(&chain["rules"])});
    }
    Value::from(file).to_string()
}

fn rules(list: &Value) -> Value {
    let one = |rule: &Value| {
        let mut out = matches(rule["match"].as_object().unwrap_or(&Map::new()));
        out.insert("action".into(), action(&rule["do"]));
        Value::from(out)
    };
    list.as_array().into_iter().flatten().map(one).collect()
}

fn matches(from: &Map<String, Value>) -> Map<String, Value> {
    let mut out = Map::new();
    let mut not = Map::new();
    for (key, value) in from {
        match key.as_str() {
            "not" => not.extend(matches(value.as_object().unwrap())),
            "iif" => drop(out.insert("in".into(), value.clone())),
            "oif" => drop(out.insert("out".into(), value.clone())),
            "family" => drop(out.insert("family".into(), json!(format!("ipv{value}")))),
            "tcp_flags" => {
                let names = format!("{}/{}", flags(&value["set"]), flags(&value["mask"]));
                out.insert("tcp_flags".into(), names.into());
            }
            "ct_state" => {
                let names = value.as_array().unwrap().iter().map(|x| x.as_str().unwrap().to_lowercase());
                out.insert("ct".into(), names.collect());
            }
            "ct_orig_dst" => out.entry("ct_orig").or_insert_with(|| json!({}))["dst"] = value.clone(),
            "ct_orig_dport" => out.entry("ct_orig").or_insert_with(|| json!({}))["dport"] = value.clone(),
            "icmp_type" => drop(out.insert("icmp".into(), value.clone())),
            "icmp6_type" => drop(out.insert("icmpv6".into(), value.clone())),
            "icmp_code" => {}
            "dst_local" | "src_local" => {
                let name = if key == "dst_local" { "to" } else { "origin" };
                let side = if value == &json!(false) { &mut not } else { &mut out };
                side.insert(name.into(), "local".into());
            }
            other => drop(out.insert(other.into(), value.clone())),
        }
    }
    if let Some(codes) = from.get("icmp_code") {
        let each = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        let (kinds, codes) = (each(&out["icmp"]), each(codes));
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
        let pairs = kinds
            .iter()
            .flat_map(|kind| codes.iter().map(move |code| format!("{}/{}", text(kind), text(code))));
        out.insert("icmp".into(), pairs.collect());
    }
    if !not.is_empty() {
        out.insert("not".into(), not.into());
    }
    out
}

fn flags(letters: &Value) -> String {
    let name = |letter: char| match letter {
        'F' => "fin",
        'S' => "syn",
        'R' => "rst",
        'P' => "psh",
        'A' => "ack",
        'U' => "urg",
        'E' => "ece",
        'C' => "cwr",
        other => panic!("flag {other}"),
    };
    let names: Vec<_> = letters.as_str().unwrap().chars().map(name).collect();
    if names.is_empty() { "none".into() } else { names.join(",") }
}

fn action(from: &Value) -> Value {
    let Some((key, value)) = from.as_object().and_then(|object| object.iter().next()) else {
        return from.clone();
    };
    match key.as_str() {
        "reject" => {
            let text = value.as_str().unwrap();
            match text.split_once(':') {
                Some(("icmp", code)) => json!({"reject": {"icmp": code}}),
                Some(("icmp6", code)) => json!({"reject": {"icmpv6": code}}),
                Some((_, code)) => json!({"reject": code}),
                None => json!({"reject": text}),
            }
        }
        "snat" | "dnat" => {
            let names = [("addr", "to"), ("port", "port")];
            let fields = names.into_iter().filter(|(from, _)| !value[*from].is_null());
            let target: Map<_, _> = fields.map(|(from, to)| (to.into(), value[from].clone())).collect();
            json!({key: target})
        }
        "redirect" => json!({"redirect": value["port"]}),
        "helper" => json!({"helper": value["name"]}),
        "ct_mark_set" => json!({"ct_mark": value}),
        "mark_set" => json!({"mark": value}),
        _ => from.clone(),
    }
}

/// The system file.
pub fn system(scenario: &Value) -> String {
    let topology = &scenario["topology"];
    let mut interfaces = Map::new();
    let mut neighbours = Vec::new();
    for (n, leg) in NUMBERS.into_iter().zip(LEGS) {
        let mtu = topology["mtu"][leg].as_u64().unwrap_or(1500);
        let addresses = [format!("10.{n}.0.1/24"), format!("fd00:{n}::1/64")];
        let interface = json!({"device": format!("kernel:{leg}0"), "mtu": mtu, "addresses": addresses});
        interfaces.insert(leg.into(), interface);
        for host in (2..10).chain([254]) {
            for address in [format!("10.{n}.0.{host}"), format!("fd00:{n}::{host:x}")] {
                neighbours.push(json!({"address": address, "mac": format!("02:00:00:00:0{n}:02")}));
            }
        }
    }
    let mut routes = vec![
        json!({"to": "198.51.100.0/24", "via": "10.2.0.254"}),
        json!({"to": "2001:db8:ff::/48", "via": "fd00:2::fe"}),
    ];
    for route in topology["routes"].as_array().into_iter().flatten() {
        let mut route = route.as_object().unwrap().clone();
        let to = route.remove("dst").unwrap();
        route.insert("to".into(), to);
        routes.push(route.into());
    }
    json!({
        "workers": {"cores": [0]},
        "interfaces": interfaces,
        "routes": routes,
        "neighbours": neighbours,
        "icmp": {"ratelimit": 0},
        "conntrack": conntrack(&scenario["params"]),
        "control": {"api": "/run/sluice/sluice.sock", "metrics": "127.0.0.1:9843"},
        "policy": "/etc/sluice/policy.yaml",
        "state": "/var/lib/sluice",
    })
    .to_string()
}

fn conntrack(params: &Value) -> Value {
    let mut out = Map::new();
    let mut timeouts = Map::new();
    for (key, value) in params.as_object().into_iter().flatten() {
        match key.as_str() {
            "conntrack_max" => drop(out.insert("max".into(), value.clone())),
            "frag_timeout" => drop(timeouts.insert("frag".into(), value.clone())),
            "tcp_loose" | "tcp_be_liberal" | "tcp_ignore_invalid_rst" | "checksum" => {
                out.insert(key.clone(), (value != &json!(0)).into());
            }
            timeout => drop(timeouts.insert(timeout.replace("_timeout", ""), value.clone())),
        }
    }
    if !timeouts.is_empty() {
        out.insert("timeouts".into(), timeouts.into());
    }
    out.into()
}
