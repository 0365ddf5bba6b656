//! Matches of nft. Source: nft(8), "PAYLOAD EXPRESSIONS", "META EXPRESSIONS", "CONNTRACK EXPRESSIONS", "FIB EXPRESSIONS".

use serde_json::Value as Json;
use sluice_wire::Protocol;

use super::{text, values};
use crate::Options;
use crate::model::{Asked, Families, Rule, Test};
use crate::names;
use crate::yaml::Value;

/// Adds the test of a match to a rule.
///
/// # Errors
/// Why it has no translation.
pub(super) fn read(rule: &mut Rule, value: &Json, options: &Options) -> Result<(), String> {
    let (left, right) = (value.get("left").unwrap_or(&Json::Null), value.get("right").unwrap_or(&Json::Null));
    let op = text(value, "op");
    match left.as_object().and_then(|map| map.iter().next()) {
        Some((kind, inner)) => match kind.as_str() {
            "payload" => payload(rule, inner, op, right),
            "meta" => meta(rule, text(inner, "key"), op, right, options),
            "ct" => ct(rule, inner, op, right),
            "fib" => fib(rule, inner, op, right),
            "&" => bits(rule, inner, op, right),
            "exthdr" => Err("extension headers are not matched".to_owned()),
            "tcp option" => Err("TCP options are not matched".to_owned()),
            "socket" | "osf" | "ipsec" | "rt" | "numgen" | "jhash" | "symhash" => {
                Err(format!("there is no match {kind}"))
            }
            "concat" => Err("fields are matched one by one, not together".to_owned()),
            _ => Err(format!("expression {left} has no translation")),
        },
        None => Err(format!("expression {left} has no translation")),
    }
}

/// True for a negated comparison.
///
/// # Errors
/// One that is for numbers only.
fn negated(op: &str) -> Result<bool, String> {
    match op {
        "==" | "in" => Ok(false),
        "!=" => Ok(true),
        _ => Err(format!("comparison {op} has no translation")),
    }
}

fn add(rule: &mut Rule, key: &'static str, not: bool, asked: Asked) {
    rule.test(if not { Test::Not(key, asked) } else { Test::Is(key, asked) });
}

/// Words or a set, compared for being the same.
fn words(rule: &mut Rule, key: &'static str, op: &str, right: &Json) -> Result<(), String> {
    let asked = values::asked(right)?;
    add(rule, key, negated(op)?, asked);
    Ok(())
}

/// Numbers up to `max`, which may also be compared by size.
fn numbers(rule: &mut Rule, key: &'static str, op: &str, right: &Json, max: u32) -> Result<(), String> {
    let of = || {
        values::number(right)
            .filter(|number| *number <= max)
            .ok_or_else(|| format!("{right} is no number up to {max}"))
    };
    let (first, last) = match op {
        "<" => (Some(0), of()?.checked_sub(1)),
        "<=" => (Some(0), Some(of()?)),
        ">" => (of()?.checked_add(1).filter(|first| *first <= max), Some(max)),
        ">=" => (Some(of()?), Some(max)),
        _ => return words(rule, key, op, right),
    };
    match (first, last) {
        (Some(first), Some(last)) => add(rule, key, false, Asked::Any(vec![format!("{first}-{last}")])),
        _ => rule.test(Test::Never),
    }
    Ok(())
}

fn payload(rule: &mut Rule, inner: &Json, op: &str, right: &Json) -> Result<(), String> {
    let (protocol, field) = (text(inner, "protocol"), text(inner, "field"));
    match protocol {
        "ip" => rule.only(Families::V4),
        "ip6" => rule.only(Families::V6),
        "tcp" | "udp" | "sctp" | "dccp" | "udplite" => {
            rule.test(Test::Is("proto", Asked::Any(vec![protocol.to_owned()])));
        }
        "icmp" | "icmpv6" | "th" => {}
        "" => return Err("bytes of packets are not matched".to_owned()),
        _ => return Err(format!("{protocol} {field} is not matched")),
    }
    match (protocol, field) {
        ("ip" | "ip6", "saddr") => words(rule, "src", op, right),
        ("ip" | "ip6", "daddr") => words(rule, "dst", op, right),
        ("ip", "protocol") | ("ip6", "nexthdr") => protocols(rule, op, right),
        ("ip", "ttl") | ("ip6", "hoplimit") => numbers(rule, "ttl", op, right, 255),
        ("ip", "length") => numbers(rule, "length", op, right, 65535),
        ("ip" | "ip6", "dscp") => words(rule, "dscp", op, right),
        ("tcp" | "udp" | "sctp" | "dccp" | "udplite" | "th", "sport") => {
            numbers(rule, "sport", op, right, 65535)
        }
        ("tcp" | "udp" | "sctp" | "dccp" | "udplite" | "th", "dport") => {
            numbers(rule, "dport", op, right, 65535)
        }
        ("tcp", "flags") => tcp_flags(rule, None, op, right),
        ("icmp", "type") => icmp(rule, "icmp", op, right),
        ("icmpv6", "type") => icmp(rule, "icmpv6", op, right),
        ("icmp" | "icmpv6", "code") => icmp_code(rule, op, right),
        _ => Err(format!("{protocol} {field} is not matched")),
    }
}

fn protocols(rule: &mut Rule, op: &str, right: &Json) -> Result<(), String> {
    let Asked::Any(list) = values::asked(right)? else { return words(rule, "proto", op, right) };
    let name = |word: &String| {
        let by_number = || word.parse::<u8>().ok().map(Protocol);
        let protocol = Protocol::from_name(word).or_else(by_number);
        protocol.map(|protocol| protocol.to_string()).ok_or_else(|| format!("unknown protocol {word}"))
    };
    let list = list.iter().map(name).collect::<Result<_, _>>()?;
    add(rule, "proto", negated(op)?, Asked::Any(list));
    Ok(())
}

fn icmp(rule: &mut Rule, key: &'static str, op: &str, right: &Json) -> Result<(), String> {
    let asked = match values::asked(right)? {
        Asked::Any(list) => Asked::Any(list.iter().map(|name| names::icmp_type(key, name)).collect()),
        set => set,
    };
    add(rule, key, negated(op)?, asked);
    Ok(())
}

/// A code belongs to the one type that was asked for before it.
fn icmp_code(rule: &mut Rule, op: &str, right: &Json) -> Result<(), String> {
    let Asked::Any(codes) = values::asked(right)? else {
        return Err("codes are not looked up in sets".to_owned());
    };
    let types = match rule.alternatives.first().and_then(|tests| tests.last()) {
        Some(Test::Is(key @ ("icmp" | "icmpv6"), Asked::Any(types))) if op == "==" && types.len() == 1 => {
            types.first().map(|kind| (*key, kind.clone()))
        }
        _ => None,
    };
    let (key, kind) = types.ok_or("a code is asked for together with its one type")?;
    for tests in &mut rule.alternatives {
        tests.pop();
    }
    add(rule, key, false, Asked::Any(codes.iter().map(|code| format!("{kind}/{code}")).collect()));
    Ok(())
}

/// `tcp flags & mask == set`; `tcp flags set`, which means any of them.
fn tcp_flags(rule: &mut Rule, mask: Option<&str>, op: &str, right: &Json) -> Result<(), String> {
    let right =
        if values::number(right) == Some(0) { vec!["none".to_owned()] } else { values::flags(right)? };
    let set = right.join(",");
    let (text, not) = match (mask, op) {
        (Some(mask), "==") => (format!("{set}/{mask}"), false),
        (Some(mask), "!=") => (format!("{set}/{mask}"), true),
        (None, "==") => (format!("{set}/all"), false),
        (None, "!=") => (format!("{set}/all"), true),
        (None, "in") => (format!("none/{set}"), true),
        _ => return Err(format!("comparison {op} of TCP flags has no translation")),
    };
    if text == "none/syn" && not {
        add(rule, "tcp_flags", false, Asked::Other(Value::text("syn/syn")));
    } else {
        add(rule, "tcp_flags", not, Asked::Other(Value::Text(text)));
    }
    Ok(())
}

fn meta(rule: &mut Rule, key: &str, op: &str, right: &Json, options: &Options) -> Result<(), String> {
    let interface = |rule: &mut Rule, key| match values::asked(right)? {
        Asked::Any(list) => names::interface(key, negated(op)?, &list, options, rule),
        set @ (Asked::Set(_) | Asked::Other(_)) => {
            add(rule, key, negated(op)?, set);
            Ok(())
        }
    };
    match key {
        "iifname" | "iif" => interface(rule, "in"),
        "oifname" | "oif" => interface(rule, "out"),
        "l4proto" => protocols(rule, op, right),
        "nfproto" | "protocol" => {
            let families = match right.as_str() {
                Some("ipv4" | "ip") => Families::V4,
                Some("ipv6" | "ip6") => Families::V6,
                _ => return Err(format!("there is no family {right}")),
            };
            rule.only(if negated(op)? { families.others() } else { families });
            Ok(())
        }
        "mark" => marks(rule, "mark", op, right),
        "length" => numbers(rule, "length", op, right, 65535),
        _ => Err(format!("meta {key} is not matched")),
    }
}

fn marks(rule: &mut Rule, key: &'static str, op: &str, right: &Json) -> Result<(), String> {
    let asked = match values::asked(right)? {
        Asked::Any(list) if list.iter().any(|word| word.contains('-')) => {
            return Err("marks are compared with values, not with ranges".to_owned());
        }
        asked => asked,
    };
    add(rule, key, negated(op)?, asked);
    Ok(())
}

fn ct(rule: &mut Rule, inner: &Json, op: &str, right: &Json) -> Result<(), String> {
    let (key, dir) = (text(inner, "key"), text(inner, "dir"));
    let original = |field: &'static str, rule: &mut Rule| {
        if dir != "original" {
            return Err(format!("ct {dir} {key} is not matched: ct_orig asks for the original direction"));
        }
        let Asked::Any(list) = values::asked(right)? else {
            return Err("ct_orig is not looked up in sets".to_owned());
        };
        add(rule, "ct_orig", negated(op)?, Asked::Other(Value::of(field, Value::values(list))));
        Ok(())
    };
    let flags = |rule: &mut Rule, key, word: fn(&String) -> String| {
        let list = values::flags(right)?.iter().map(word).collect();
        add(rule, key, negated(op)?, Asked::Any(list));
        Ok(())
    };
    match key {
        "state" => match right.as_str() {
            Some(name) if name.starts_with('@') => words(rule, "ct", op, right),
            _ => flags(rule, "ct", String::clone),
        },
        // One of several bits, and all others off, is not what anybody means.
        "status" if op == "in" => flags(rule, "ct_status", |word| word.replace('_', "-")),
        "status" => Err("bits of the status are asked for one by one, not compared as a number".to_owned()),
        "direction" => words(rule, "ct_dir", op, right),
        "mark" => marks(rule, "ct_mark", op, right),
        "helper" => words(rule, "ct_helper", op, right),
        "saddr" | "ip saddr" | "ip6 saddr" => original("src", rule),
        "daddr" | "ip daddr" | "ip6 daddr" => original("dst", rule),
        "proto-src" => original("sport", rule),
        "proto-dst" => original("dport", rule),
        _ => Err(format!("ct {key} is not matched")),
    }
}

fn fib(rule: &mut Rule, inner: &Json, op: &str, right: &Json) -> Result<(), String> {
    let flags = inner.get("flags").map(values::flags).unwrap_or_else(|| Ok(Vec::new()))?;
    match (text(inner, "result"), flags.as_slice()) {
        ("type", [address]) => {
            let key = if address == "saddr" { "origin" } else { "to" };
            let kinds = values::flags(right)?.into_iter().map(|kind| match kind.as_str() {
                "local" | "broadcast" | "multicast" => Ok(kind),
                "unicast" => Ok("routed".to_owned()),
                _ => Err(format!("there is no kind of address {kind}")),
            });
            let kinds = kinds.collect::<Result<_, _>>()?;
            add(rule, key, negated(op)?, Asked::Any(kinds));
            Ok(())
        }
        ("oif" | "oifname", _) => Err("it is `rp_filter` of the interface, in the system file".to_owned()),
        _ => Err("routes are not matched but for the kind of an address".to_owned()),
    }
}

/// `field & mask == value`.
fn bits(rule: &mut Rule, inner: &Json, op: &str, right: &Json) -> Result<(), String> {
    let unknown = || format!("bits of {inner} are not matched");
    let [field, mask] = inner.as_array().map(Vec::as_slice).unwrap_or_default() else {
        return Err(unknown());
    };
    let key = match (field.get("meta"), field.get("ct"), field.get("payload")) {
        (Some(meta), ..) if text(meta, "key") == "mark" => "mark",
        (_, Some(ct), _) if text(ct, "key") == "mark" => "ct_mark",
        (.., Some(payload)) if text(payload, "field") == "flags" => {
            rule.test(Test::Is("proto", Asked::Any(vec!["tcp".to_owned()])));
            return tcp_flags(rule, Some(&values::flags(mask)?.join(",")), op, right);
        }
        // The offset of a fragment.
        (.., Some(payload)) if text(payload, "field") == "frag-off" && values::number(mask) == Some(8191) => {
            rule.only(Families::V4);
            let later = match (op, values::number(right)) {
                ("!=", Some(0)) => "true",
                ("==", Some(0)) => "false",
                _ => return Err(unknown()),
            };
            rule.test(Test::Is("fragment", Asked::Other(Value::text(later))));
            return Ok(());
        }
        _ => return Err(unknown()),
    };
    match (values::number(mask), values::number(right)) {
        (Some(mask), Some(value)) if value & !mask == 0 => {
            add(rule, key, negated(op)?, Asked::Any(vec![names::mark(value, mask)]));
            Ok(())
        }
        _ => Err(unknown()),
    }
}
