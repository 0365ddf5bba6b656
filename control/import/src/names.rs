//! Names and values of netfilter that both readers meet, in the words of the policy language.

use crate::Options;
use crate::model::{Asked, Rule, Test};
use crate::yaml::Value;

/// Interfaces by name or pattern (`eth+`, `eth*`). The loopback interface is never seen: its packets stay in the kernel.
///
/// # Errors
/// A pattern that [`Options::rename`] does not know.
pub(crate) fn interface(
    key: &'static str,
    not: bool,
    names: &[String],
    options: &Options,
    rule: &mut Rule,
) -> Result<(), String> {
    let mut known = Vec::new();
    for name in names {
        if let Some(renamed) = options.rename.get(name) {
            known.extend(renamed.iter().cloned());
        } else if matches!(name.as_str(), "+" | "*") {
            if not {
                rule.test(Test::Never);
            }
            return Ok(());
        } else if name.ends_with(['+', '*']) {
            let word = name.trim_end_matches(['+', '*']);
            return Err(format!(
                "interfaces {name} are a pattern: say which ones with `--rename '{name}={word}0,{word}1'`"
            ));
        } else if name != "lo" {
            known.push(name.clone());
        }
    }
    match (known.is_empty(), not) {
        (true, false) => rule.test(Test::Never),
        (true, true) => {}
        (false, false) => rule.test(Test::Is(key, Asked::Any(known))),
        (false, true) => rule.test(Test::Not(key, Asked::Any(known))),
    }
    Ok(())
}

/// Types that have one name in iptables and nft alike.
const ICMP: [(&str, &str, &str); 18] = [
    ("icmp", "0", "echo-reply"),
    ("icmp", "3", "destination-unreachable"),
    ("icmp", "5", "redirect"),
    ("icmp", "8", "echo-request"),
    ("icmp", "11", "time-exceeded"),
    ("icmp", "12", "parameter-problem"),
    ("icmp", "13", "timestamp-request"),
    ("icmpv6", "1", "destination-unreachable"),
    ("icmpv6", "2", "packet-too-big"),
    ("icmpv6", "3", "time-exceeded"),
    ("icmpv6", "4", "parameter-problem"),
    ("icmpv6", "128", "echo-request"),
    ("icmpv6", "129", "echo-reply"),
    ("icmpv6", "133", "nd-router-solicit"),
    ("icmpv6", "134", "nd-router-advert"),
    ("icmpv6", "135", "nd-neighbor-solicit"),
    ("icmpv6", "136", "nd-neighbor-advert"),
    ("icmpv6", "137", "nd-redirect"),
];

/// A type by number, by its name where it has a usual one.
pub(crate) fn icmp_type(key: &str, text: &str) -> String {
    let named = ICMP.iter().find(|(of, number, _)| *of == key && *number == text);
    named.map_or_else(|| text.to_owned(), |(_, _, name)| (*name).to_owned())
}

/// `8`, `3/4`, `echo-request`, `any`.
///
/// # Errors
/// None; as the other readers of options.
pub(crate) fn icmp(key: &'static str, not: bool, text: &str) -> Result<Option<Test>, String> {
    if matches!(text, "any" | "255") {
        let proto = if key == "icmp" { "icmp" } else { "icmpv6" };
        return Ok(Some(if not {
            Test::Never
        } else {
            Test::Is("proto", Asked::Any(vec![proto.to_owned()]))
        }));
    }
    let asked = Asked::Any(vec![icmp_type(key, text)]);
    Ok(Some(if not { Test::Not(key, asked) } else { Test::Is(key, asked) }))
}

/// `limit`, short where nothing but the rate is unusual.
pub(crate) fn limit(rate: &str, burst: &str, per: Option<&str>) -> Value {
    if burst == "5" && per.is_none() {
        return Value::text(rate);
    }
    let mut entries = vec![("rate", Value::text(rate)), ("burst", Value::text(burst))];
    entries.extend(per.map(|per| ("per", Value::text(per))));
    Value::Map(entries)
}

/// A mark, or `value/mask`.
pub(crate) fn mark(value: u32, mask: u32) -> String {
    if mask == u32::MAX { format!("{value:#x}") } else { format!("{value:#x}/{mask:#x}") }
}

/// The log action.
pub(crate) fn log(prefix: Option<String>) -> Value {
    match prefix {
        None => Value::text("log"),
        Some(prefix) => Value::of("log", Value::of("prefix", Value::Text(prefix))),
    }
}

/// How a packet is refused, by the names of iptables and ip6tables. Source: iptables-extensions(8), REJECT.
///
/// # Errors
/// An unknown name.
pub(crate) fn reject(text: &str) -> Result<Value, String> {
    let reason = |reason: &str| Value::of("reject", Value::text(reason));
    Ok(match text {
        "tcp-reset" => reason("tcp-reset"),
        "icmp-port-unreachable" | "icmp6-port-unreachable" | "port-unreach" => Value::text("reject"),
        "icmp-host-unreachable" | "icmp6-addr-unreachable" | "addr-unreach" => reason("host-unreachable"),
        "icmp-net-unreachable" | "icmp6-no-route" | "no-route" => reason("no-route"),
        "icmp-admin-prohibited" | "icmp6-adm-prohibited" | "adm-prohibited" => reason("admin-prohibited"),
        "icmp-proto-unreachable" => Value::of("reject", Value::of("icmp", Value::text("prot-unreachable"))),
        "icmp-net-prohibited" => Value::of("reject", Value::of("icmp", Value::text("net-prohibited"))),
        "icmp-host-prohibited" => Value::of("reject", Value::of("icmp", Value::text("host-prohibited"))),
        "icmp6-policy-fail" | "policy-fail" => {
            Value::of("reject", Value::of("icmpv6", Value::text("policy-fail")))
        }
        "icmp6-reject-route" | "reject-route" => {
            Value::of("reject", Value::of("icmpv6", Value::text("reject-route")))
        }
        _ => return Err(format!("there is no way to reject with {text}")),
    })
}

/// The value of `snat` and `dnat`; either may be empty, not both.
pub(crate) fn nat_target(addr: &str, ports: Option<&str>) -> Value {
    let addr = match addr.split_once('-') {
        Some((first, last)) if first == last => first,
        _ => addr,
    };
    match ports {
        None => Value::text(addr),
        Some(ports) => {
            let to = (!addr.is_empty()).then(|| ("to", Value::text(addr)));
            Value::Map(to.into_iter().chain([("port", Value::text(ports))]).collect())
        }
    }
}

/// `snat` or `dnat` to a prefix, which keeps the other bits. One address is a prefix of all its bits.
pub(crate) fn nat_prefix(key: &'static str, prefix: &str) -> Value {
    Value::of(key, Value::of("prefix", Value::text(prefix)))
}

/// `masquerade` and `redirect`, which take ports alone.
pub(crate) fn nat_ports(key: &'static str, ports: Option<String>) -> Value {
    match ports {
        None => Value::text(key),
        Some(ports) if key == "redirect" => Value::of(key, Value::Text(ports)),
        Some(ports) => Value::of(key, Value::of("port", Value::Text(ports))),
    }
}
