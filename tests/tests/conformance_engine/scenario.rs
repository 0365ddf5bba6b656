//! Runs a scenario and compares each step with the recording.

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};
use sluice_engine::conntrack::{ExpectationRecord, TupleTransport};
use sluice_wire::fragment::Part;
use sluice_wire::{
    Family, LinkCast, Packet, Parsed, Protocol, Transport, parse, parse_datagram, quoted, tcp,
};

use crate::packet::{build, unhex};
use crate::policy::LEGS;
use crate::router::{Out, Router};

/// What the harness waits for packets after each step, roughly, in milliseconds.
const SETTLE: u64 = 20;
/// Seconds that a timeout may differ by.
const TOLERANCE: u64 = 2;
/// With more flows than this, a recording has their number only.
const LISTED: usize = 12;

/// The differences between a scenario's recording and what the engine does; with `anew`, with a new generation before
/// each step.
pub fn run(scenario: &Value, anew: bool, verbose: bool) -> Vec<String> {
    let mut router = match Router::new(scenario) {
        Ok(router) => router,
        Err(error) => return vec![error],
    };
    let mut differences = Vec::new();
    let mut bound = Bound::default();
    let steps = scenario["steps"].as_array().unwrap();
    let mut early = Vec::new();
    for (n, (step, expected)) in steps.iter().zip(scenario["expect"].as_array().unwrap()).enumerate() {
        early.extend(router.wait(step["wait"].as_u64().unwrap_or(0)));
        let mut found = Vec::new();
        if anew {
            router.forget();
        }
        if step["send"].is_object() {
            let (step, expected) = (bound.put_into(step), bound.put_into(expected));
            let outs = send(&mut router, std::mem::take(&mut early), (&step, &expected), &mut found);
            bound.take_from(&step, &outs, &mut found);
        } else if step["burst"].is_object() {
            burst(&mut router, &step["burst"], expected, &mut found);
        } else if step["reload"].is_object() {
            found.extend(router.reload(&step["reload"]).err());
        } else if step["op"].is_string() {
            router.flush();
        }
        early.extend(router.wait(SETTLE));
        let states = router.states();
        let recorded = expected["ctstate"].as_object().cloned().unwrap_or_default();
        if states != Value::from(recorded.clone()) {
            found.push(format!("ctstate: expected {} got {states}", Value::from(recorded)));
        }
        if step["no_ct"].is_null() {
            flows(&router.flows(), &bound.put_into(expected), &mut found);
            expectations(&router.expectations(), &bound.put_into(expected), &mut found);
        }
        if verbose {
            println!("step {n} {}: {found:?}", step["note"].as_str().unwrap_or(""));
        }
        differences.extend(found.into_iter().map(|text| format!("step {n}: {text}")));
    }
    differences
}

fn leg(value: &Value) -> usize {
    LEGS.iter().position(|leg| *leg == value.as_str().unwrap()).unwrap()
}

/// `outs` came out since the last packet was sent.
fn send(
    router: &mut Router,
    mut outs: Vec<Out>,
    (step, expected): (&Value, &Value),
    found: &mut Vec<String>,
) -> Vec<Out> {
    let recorded = expected["out"].as_array().unwrap();
    let to = step["dmac"].as_str().map(|mac| mac.parse().unwrap());
    for out in router.receive(leg(&step["from"]), to, &build(&step["send"])) {
        match out {
            // The box's own stack: what it answered on Linux.
            Out::Delivered(tap) => {
                for answer in recorded.iter().filter_map(|out| out["hex"].as_str()) {
                    outs.extend(router.send(tap, &unhex(answer)));
                }
            }
            // Control answers neighbour discovery.
            Out::Punted => return Vec::new(),
            other => outs.push(other),
        }
    }
    let ignores = |path: &str| step["ignore"].as_array().is_some_and(|list| list.contains(&json!(path)));
    if outs.len() != recorded.len() {
        found.push(format!("verdict: expected {} got {} packets", expected["verdict"], outs.len()));
        return outs;
    }
    for (out, recorded) in outs.iter().zip(recorded) {
        let (kind, at, bytes) = match out {
            Out::Forwarded(at, bytes) => ("forwarded", *at, bytes),
            Out::Answered(at, bytes) => ("answered", *at, bytes),
            Out::Delivered(_) | Out::Punted => unreachable!(),
        };
        if recorded["kind"] != kind || leg(&recorded["at"]) != at {
            let (at, expected) = (LEGS[at], (&recorded["kind"], &recorded["at"]));
            found.push(format!("verdict: expected {} at {} got {kind} at {at}", expected.0, expected.1));
            continue;
        }
        // Where the router chose a value, the recording has no bytes, but says what they are made of.
        let Some(wanted) = recorded["hex"].as_str().map(unhex).or_else(|| described(&recorded["pkt"])) else {
            continue;
        };
        let same = match kind {
            "answered" => essence(bytes) == essence(&wanted),
            _ if ignores("frag.id") => without_id(bytes) == without_id(&wanted),
            _ => *bytes == wanted || ignores("ip_opts"),
        };
        if !same {
            found.push(format!("packet: expected {} got {}", hex(&wanted), hex(bytes)));
        }
    }
    outs
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a decoded packet; None while a value in it is not known yet.
fn described(packet: &Value) -> Option<Vec<u8>> {
    (packet.is_object() && !packet.to_string().contains('$')).then(|| build(packet))
}

/// Values that a router was free to choose, by name.
#[derive(Default)]
struct Bound(HashMap<String, u64>);

impl Bound {
    /// With the values in place of their names.
    fn put_into(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                if let Some(known) = text.strip_prefix('$').and_then(|name| self.0.get(name)) {
                    return json!(known);
                }
                let within = |text: String, (name, known): (&String, &u64)| {
                    text.replace(&format!("${{{name}.hi}}"), &(known >> 8).to_string())
                        .replace(&format!("${{{name}.lo}}"), &(known & 255).to_string())
                        .replace(&format!("${{{name}}}"), &known.to_string())
                };
                json!(self.0.iter().fold(text.clone(), within))
            }
            Value::Array(list) => list.iter().map(|value| self.put_into(value)).collect(),
            Value::Object(map) => {
                map.iter().map(|(key, value)| (key.clone(), self.put_into(value))).collect()
            }
            other => other.clone(),
        }
    }

    /// Reads what a step binds from the packet that came out, and checks its bounds.
    fn take_from(&mut self, step: &Value, outs: &[Out], found: &mut Vec<String>) {
        for (name, bind) in step["bind"].as_object().into_iter().flatten() {
            let Some(Out::Forwarded(_, bytes)) = outs.first() else { continue };
            let value = match (bind["field"].as_str(), bind["payload_regex"].as_str()) {
                (Some(field), _) => field_of(bytes, field),
                (None, Some(pattern)) => numbers_in(bytes, pattern),
                (None, None) => continue,
            };
            let Some(value) = value else {
                found.push(format!("bound: nothing for {name}"));
                continue;
            };
            let within = bind["min"].as_u64().is_none_or(|min| min <= value)
                && bind["max"].as_u64().is_none_or(|max| value <= max)
                && !bind["ne"].as_array().is_some_and(|list| list.contains(&json!(value)));
            if !within {
                found.push(format!("bound: {name} is {value}, {bind}"));
            }
            self.0.insert(name.clone(), value);
        }
    }
}

/// A port or identifier of a datagram, by the name that packet descriptions have for it.
fn field_of(datagram: &[u8], field: &str) -> Option<u64> {
    let packet = parsed(&framed(datagram))?;
    let value = match (field.split_once('.')?.1, packet.transport) {
        ("sport", transport) => transport.ports()?.0,
        ("dport", transport) => transport.ports()?.1,
        ("id", Transport::Icmp { id, .. } | Transport::Icmpv6 { id, .. }) => id,
        _ => return None,
    };
    Some(value.into())
}

/// The numbers that stand in a payload where a pattern has `(\\d+)`: one, or the two halves of a port. What else is in the
/// pattern must stand there as it is.
fn numbers_in(datagram: &[u8], pattern: &str) -> Option<u64> {
    let text: String = datagram.iter().map(|byte| char::from(*byte)).collect();
    let plain = pattern.replace("\\(", "(").replace("\\)", ")").replace("\\|", "|");
    let mut parts = plain.split("(\\d+)");
    let mut rest = text.split_once(parts.next()?)?.1;
    let mut value = 0;
    for part in parts {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        value = value * 256 + rest[..digits].parse::<u64>().ok()?;
        rest = rest[digits..].strip_prefix(part)?;
    }
    Some(value)
}

fn framed(datagram: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend(if datagram[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] });
    frame.extend(datagram);
    frame
}

fn parsed(frame: &[u8]) -> Option<Packet> {
    match parse(frame) {
        Ok(Parsed::Ip(packet)) => Some(packet),
        _ => None,
    }
}

/// A datagram without what its IPv6 fragment header identifies it by.
fn without_id(datagram: &[u8]) -> Vec<u8> {
    let (mut packet, mut bytes) = (Packet::NONE, datagram.to_vec());
    let cast = (None, LinkCast::Unicast);
    let parsed = parse_datagram(datagram, Family::V6, cast, &mut packet).is_ok();
    if let Some(part) = Part::of(&packet, datagram).filter(|_| parsed) {
        let end = part.header.len();
        bytes[end - 4..end].fill(0);
    }
    bytes
}

/// The part of an answer that a router has no freedom in.
fn essence(datagram: &[u8]) -> Vec<String> {
    let frame = framed(datagram);
    let Some(packet) = parsed(&frame) else { return vec!["no packet".into()] };
    let bad = sluice_wire::verify(&packet, &frame) == sluice_wire::Checksum::Bad;
    let mut out = vec![format!("{:?} {:?} bad {bad}", packet.addrs, packet.transport)];
    if let Some(segment) = tcp::Segment::of(&packet, &frame) {
        out.push(format!("seq {} ack {}", segment.seq, segment.ack));
    }
    if let Some(inner) = quoted(&packet, &frame) {
        out.push(format!("about {:?} {:?}", inner.addrs, inner.transport));
    }
    if let Transport::Icmp { kind: 3, code: 4, .. } | Transport::Icmpv6 { kind: 2, .. } = packet.transport {
        out.push(format!("rest {:?}", rest(&packet, &frame)));
    }
    out
}

fn rest<'a>(packet: &Packet, frame: &'a [u8]) -> Option<&'a [u8]> {
    packet.segment(frame).get(4..8)
}

fn burst(router: &mut Router, burst: &Value, expected: &Value, found: &mut Vec<String>) {
    let mut by_leg = Map::new();
    for i in 0..burst["count"].as_u64().unwrap() {
        let mut packet = burst["pkt"].clone();
        for (path, range) in burst["vary"].as_object().into_iter().flatten() {
            let value = range[0].as_u64().unwrap() + i * range[1].as_u64().unwrap();
            *packet.pointer_mut(&format!("/{}", path.replace('.', "/"))).unwrap() = value.into();
        }
        for out in router.receive(leg(&burst["from"]), None, &build(&packet)) {
            if let Out::Forwarded(at, _) | Out::Answered(at, _) = out {
                let count = by_leg.get(LEGS[at]).and_then(Value::as_u64).unwrap_or(0);
                by_leg.insert(LEGS[at].into(), (count + 1).into());
            }
        }
    }
    if expected["burst_out"] != Value::from(by_leg.clone()) {
        found.push(format!("verdict: expected {} got {}", expected["burst_out"], Value::from(by_leg)));
    }
}

fn flows(lines: &[String], expected: &Value, found: &mut Vec<String>) {
    let recorded = match &expected["ct"] {
        Value::Array(recorded) if lines.len() <= LISTED => recorded,
        other => {
            let count =
                expected["ct_count"].as_u64().or_else(|| other.as_array().map(|list| list.len() as u64));
            if count != Some(lines.len() as u64) {
                found.push(format!("ct: expected {count:?} flows, got {}", lines.len()));
            }
            return;
        }
    };
    let mut expected: Vec<_> = recorded.iter().map(split_timeout).collect();
    let mut got: Vec<_> = lines.iter().map(|line| split_timeout(&entry(line))).collect();
    expected.sort();
    got.sort();
    let same = expected.len() == got.len()
        && expected.iter().zip(&got).all(|(a, b)| a.0 == b.0 && a.1.abs_diff(b.1) <= TOLERANCE);
    if !same {
        found.push(format!("ct: expected {expected:?} got {got:?}"));
    }
}

fn expectations(records: &[ExpectationRecord], expected: &Value, found: &mut Vec<String>) {
    let Some(recorded) = expected["expectations"].as_array() else { return };
    let mut expected: Vec<_> = recorded.iter().map(split_timeout).collect();
    let mut got: Vec<_> = records.iter().map(|record| split_timeout(&expectation(record))).collect();
    expected.sort();
    got.sort();
    let same = expected.len() == got.len()
        && expected.iter().zip(&got).all(|(a, b)| a.0 == b.0 && a.1.abs_diff(b.1) <= TOLERANCE);
    if !same {
        found.push(format!("expect: expected {expected:?} got {got:?}"));
    }
}

/// An expectation as the harness parses a line of `conntrack -L expect`.
fn expectation(record: &ExpectationRecord) -> Value {
    let (none, all) = match record.dst {
        IpAddr::V4(_) => ("0.0.0.0", "255.255.255.255"),
        IpAddr::V6(_) => ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    };
    let master = &record.master_tuple;
    let TupleTransport::Ports { sport, dport } = master.transport else { return Value::Null };
    let (mut tuple, mut mask) = match record.protocol {
        Protocol::GRE => (
            json!({
                "srckey": format!("0x{:x}", record.sport.unwrap_or(0)),
                "dstkey": format!("0x{:x}", record.dport),
            }),
            json!({"srckey": "0xffff", "dstkey": "0xffff"}),
        ),
        _ => (
            json!({"sport": record.sport.unwrap_or(0), "dport": record.dport}),
            json!({"sport": if record.sport.is_some() { 65535 } else { 0 }, "dport": 65535}),
        ),
    };
    tuple["proto"] = record.protocol.0.into();
    tuple["src"] = record.src.map_or_else(|| none.to_string(), |src| src.to_string()).into();
    tuple["dst"] = record.dst.to_string().into();
    mask["src"] = if record.src.is_some() { all } else { none }.into();
    mask["dst"] = all.into();
    json!({
        "timeout": record.timeout.0 / 1000,
        "tuple": tuple,
        "mask": mask,
        "master": {"src": master.src.to_string(), "dst": master.dst.to_string(), "sport": sport, "dport": dport},
        "class": record.class.0,
        "helper": record.helper.name(),
    })
}

/// An entry as text, and its timeout.
fn split_timeout(entry: &Value) -> (String, u64) {
    let mut entry = entry.as_object().unwrap().clone();
    let timeout = entry.remove("timeout").and_then(|timeout| timeout.as_u64()).unwrap_or(0);
    (Value::from(entry).to_string(), timeout)
}

/// A line of `conntrack -L -o extended` as the harness parses it.
fn entry(line: &str) -> Value {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |word: &str| word.parse::<u64>().map_or_else(|_| json!(word), |n| json!(n));
    let protocol = if words[2] == "unknown" { number(words[3]) } else { json!(words[2]) };
    let mut out = json!({
        "l3": words[0][3..].parse::<u64>().unwrap(),
        "proto": protocol,
        "timeout": number(words[4]),
        "assured": line.contains("[ASSURED]"),
        "unreplied": line.contains("[UNREPLIED]"),
    });
    let rest = &words[5..];
    if !rest[0].contains('=') {
        out["state"] = json!(rest[0]);
    }
    let mut tuples = Vec::new();
    for (key, value) in rest.iter().filter_map(|word| word.split_once('=')) {
        match key {
            "src" => tuples.push(json!({"src": value})),
            "mark" if value != "0" => out["mark"] = number(value),
            "helper" => out["helper"] = json!(value),
            "zone" => out["zone"] = number(value),
            "mark" | "use" | "id" => {}
            _ => tuples.last_mut().unwrap()[key] = number(value),
        }
    }
    for (name, tuple) in ["orig", "reply"].into_iter().zip(tuples) {
        out[name] = tuple;
    }
    out
}
