//! Statements of nft, and the rules that a verdict map stands for. Source: nft(8), "STATEMENTS".

use serde_json::Value as Json;

use super::{Known, matches, text, values};
use crate::Options;
use crate::model::{Asked, Effect, Families, Rule, Test, Verdict};
use crate::names;
use crate::yaml::Value;

/// What statements name.
pub(super) struct Context<'a> {
    pub(super) table: &'a str,
    pub(super) known: &'a Known,
    pub(super) options: &'a Options,
}

/// More elements of fields looked up together would make a policy that nobody reads.
const MOST_TOGETHER: usize = 1024;

/// A statement that several rules are made of: what it looks up, and its elements with what is done for each.
struct VerdictMap<'j> {
    key: &'j Json,
    elements: &'j [Json],
    /// The translation whose address is looked up; None: elements have verdicts.
    nat: Option<(&'j str, &'j Json)>,
}

impl Context<'_> {
    /// The rules that a rule is: one, but for verdict maps, which are one for each element.
    pub(super) fn rules(&self, mut rule: Rule, exprs: &[Json]) -> Vec<Rule> {
        let mut map = None;
        for expr in exprs {
            let read = match (expr.get("vmap"), translation_by_map(expr)) {
                (Some(vmap), _) => self.verdict_map(vmap, None).map(|found| map = Some(found)),
                (_, Some((nat, looked_up))) => {
                    self.verdict_map(looked_up, Some(nat)).map(|found| map = Some(found))
                }
                _ => self.statement(&mut rule, expr),
            };
            if let Err(why) = read {
                rule.refuse(why);
            }
        }
        match map {
            Some(map) if rule.refused.is_none() => self.expand(&rule, &map),
            _ => vec![rule],
        }
    }

    fn verdict_map<'j>(
        &'j self,
        vmap: &'j Json,
        nat: Option<(&'j str, &'j Json)>,
    ) -> Result<VerdictMap<'j>, String> {
        let key = vmap.get("key").ok_or("a verdict map without a key")?;
        let data = vmap.get("data").ok_or("a verdict map without elements")?;
        let elements = match (data.get("set").and_then(Json::as_array), data.as_str()) {
            (Some(elements), _) => elements.as_slice(),
            (None, Some(name)) => {
                let name = (self.table.to_owned(), name.trim_start_matches('@').to_owned());
                self.known.maps.get(&name).map(Vec::as_slice).ok_or("its map is in none of the files")?
            }
            _ => return Err(format!("expression {data} has no translation")),
        };
        Ok(VerdictMap { key, elements, nat })
    }

    /// A rule for each element: a packet is like one of them at the most.
    fn expand(&self, rule: &Rule, map: &VerdictMap<'_>) -> Vec<Rule> {
        let one = |element: &Json| {
            let mut rule = rule.clone();
            let Some([value, verdict]) = element.as_array().map(Vec::as_slice) else {
                rule.refuse(format!("element {element} has no translation"));
                return rule;
            };
            let test = serde_json::json!({"op": "==", "left": map.key, "right": value});
            let read = matches::read(&mut rule, &test, self.options).and_then(|()| match map.nat {
                Some((kind, value)) => {
                    let mut value = value.clone();
                    if let Some(parts) = value.as_object_mut() {
                        parts.insert("addr".to_owned(), verdict.clone());
                    }
                    self.statement(&mut rule, &serde_json::json!({ kind: value }))
                }
                None => self.statement(&mut rule, verdict),
            });
            if let Err(why) = read {
                rule.refuse(why);
            }
            rule
        };
        map.elements.iter().map(one).collect()
    }

    fn statement(&self, rule: &mut Rule, expr: &Json) -> Result<(), String> {
        let Some((kind, value)) = expr.as_object().and_then(|map| map.iter().next()) else {
            return Err(format!("statement {expr} has no translation"));
        };
        // What was done before a later match was done for more packets.
        if kind == "match" && !rule.effects.is_empty() {
            return Err("a rule asks first and acts then".to_owned());
        }
        let effect = |rule: &mut Rule, action, changes| {
            rule.effects.push(Effect { action, changes });
            Ok(())
        };
        match kind.as_str() {
            "match" if value.get("left").is_some_and(|left| left.get("concat").is_some()) => {
                self.together(rule, value)
            }
            "match" => matches::read(rule, value, self.options),
            // Every rule counts.
            "counter" | "continue" => Ok(()),
            "accept" => verdict(rule, Verdict::Accept),
            "drop" => verdict(rule, Verdict::Drop),
            "return" => verdict(rule, Verdict::Return),
            "jump" => verdict(rule, Verdict::Jump(text(value, "target").to_owned())),
            "goto" => verdict(rule, Verdict::Goto(text(value, "target").to_owned())),
            "reject" => verdict(rule, Verdict::Other(reject(value)?)),
            "snat" | "dnat" => verdict(rule, Verdict::Other(nat(kind, value)?)),
            "masquerade" | "redirect" => {
                let key = if kind == "redirect" { "redirect" } else { "masquerade" };
                let port = value.get("port").map(values::scalar).transpose()?;
                verdict(rule, Verdict::Other(names::nat_ports(key, port)))
            }
            "log" if value.get("group").is_some() => {
                Err("there are no log groups: `{log: {prefix: …}}` writes to the service's log".to_owned())
            }
            "log" => {
                effect(rule, names::log(value.get("prefix").and_then(Json::as_str).map(str::to_owned)), None)
            }
            "notrack" => effect(rule, Value::text("notrack"), Some("ct")),
            "limit" => limited(rule, limit(value, None)?),
            "ct count" => limited(rule, connlimit(value, None)),
            "set" => {
                let test = per_source(rule, value)?;
                limited(rule, test)
            }
            "mangle" => self.mangle(rule, value),
            "ct helper" => {
                let name = (self.table.to_owned(), value.as_str().unwrap_or_default().to_owned());
                let helper = self.known.helpers.get(&name).ok_or("its helper is in none of the files")?;
                effect(rule, Value::of("helper", Value::text(helper)), None)
            }
            "ct timeout" => Err("timeouts of some flows are `ct_timeout` in raw here".to_owned()),
            "xt" => Err("iptables made it, and `iptables-save` says what it is".to_owned()),
            "queue" => Err("packets are not handed to programs".to_owned()),
            "dup" | "fwd" | "tproxy" | "synproxy" | "flow" | "quota" | "last" | "ct expectation" => {
                Err(format!("there is no {kind}"))
            }
            _ => Err(format!("statement {kind} has no translation")),
        }
    }

    /// `ip daddr . tcp dport { 10.0.0.1 . 80, … }`: an alternative for each element.
    fn together(&self, rule: &mut Rule, value: &Json) -> Result<(), String> {
        let fields = value.get("left").and_then(|left| left.get("concat")).and_then(Json::as_array);
        let right = value.get("right").unwrap_or(&Json::Null);
        let elements = match (right.get("set").and_then(Json::as_array), right.as_str()) {
            (Some(elements), _) => Some(elements),
            (None, Some(name)) => {
                self.known.together.get(&(self.table.to_owned(), name.trim_start_matches('@').to_owned()))
            }
            _ => None,
        };
        let (Some(fields), Some(elements), "==") = (fields, elements, text(value, "op")) else {
            return Err("fields that are looked up together are in a set".to_owned());
        };
        if elements.len() > MOST_TOGETHER {
            return Err(format!("a set of {} pairs would be as many rules", elements.len()));
        }
        let mut choices = Vec::new();
        for element in elements {
            let element = element.get("elem").and_then(|elem| elem.get("val")).unwrap_or(element);
            let values = element.get("concat").and_then(Json::as_array);
            let values = values.ok_or_else(|| format!("element {element} has no translation"))?;
            let mut choice = Rule::new(rule.place.clone(), rule.families);
            for (field, value) in fields.iter().zip(values) {
                let test = serde_json::json!({"op": "==", "left": field, "right": value});
                matches::read(&mut choice, &test, self.options)?;
            }
            rule.only(choice.families);
            choices.extend(choice.alternatives);
        }
        rule.either(&choices);
        Ok(())
    }

    /// `meta mark set`, `ct mark set`, `ct zone set`.
    fn mangle(&self, rule: &mut Rule, value: &Json) -> Result<(), String> {
        let (key, to) = (value.get("key").unwrap_or(&Json::Null), value.get("value").unwrap_or(&Json::Null));
        let key = match (key.get("meta"), key.get("ct")) {
            (Some(meta), _) => format!("meta {}", text(meta, "key")),
            (_, Some(ct)) => format!("ct {}", text(ct, "key")),
            _ => return Err("headers are not changed but by NAT".to_owned()),
        };
        let (action, changes) = match key.as_str() {
            "meta mark" => (Value::of("mark", mark(to, "ct", "ct_mark")?), "mark"),
            "ct mark" => (Value::of("ct_mark", mark(to, "meta", "mark")?), "ct_mark"),
            "ct zone" => (Value::of("zone", Value::Text(values::scalar(to)?)), "ct"),
            "meta nftrace" => return Err("`sluice explain` says what becomes of a packet".to_owned()),
            "meta priority" => return Err("there is no queueing".to_owned()),
            _ => return Err(format!("{key} is not set")),
        };
        rule.effects.push(Effect { action, changes: Some(changes) });
        Ok(())
    }
}

/// `dnat to ip daddr map { … }`: the translation, and what it looks up.
fn translation_by_map(expr: &Json) -> Option<((&str, &Json), &Json)> {
    let (kind, value) = expr.as_object()?.iter().next()?;
    let looked_up = value.get("addr")?.get("map")?;
    matches!(kind.as_str(), "snat" | "dnat").then_some(((kind, value), looked_up))
}

fn verdict(rule: &mut Rule, verdict: Verdict) -> Result<(), String> {
    rule.verdict = verdict;
    Ok(())
}

/// A limit that uses something up belongs behind what was asked before it, and in front of what is done.
fn limited(rule: &mut Rule, test: Test) -> Result<(), String> {
    if !rule.effects.is_empty() {
        return Err("a limit stands in front of what is done".to_owned());
    }
    rule.test(test);
    Ok(())
}

/// A number, the other mark, or bits of this one.
fn mark(to: &Json, other: &str, name: &str) -> Result<Value, String> {
    if let Some(number) = values::number(to) {
        return Ok(Value::Text(names::mark(number, u32::MAX)));
    }
    if to.get(other).is_some_and(|from| text(from, "key") == "mark") {
        return Ok(Value::text(name));
    }
    let part = |op: &str| {
        let pair = to.get(op)?.as_array()?;
        let [field, number] = pair.as_slice() else { return None };
        Some((field, values::number(number)?))
    };
    match (part("|"), part("&")) {
        // `mark or bits`, and `mark and mask or bits`.
        (Some((field, bits)), _) if field.get("&").is_none() => Ok(Value::Text(names::mark(bits, bits))),
        (Some((field, bits)), _) => {
            let kept =
                field.get("&").and_then(Json::as_array).and_then(|pair| pair.get(1)).and_then(values::number);
            let kept = kept.ok_or_else(|| format!("mark {to} has no translation"))?;
            Ok(Value::Text(names::mark(bits, !kept | bits)))
        }
        (None, Some((field, kept))) if field.get(other).is_some() => {
            Ok(Value::Text(format!("{name}/{kept:#x}")))
        }
        (None, Some((_, kept))) => Ok(Value::Text(names::mark(0, !kept))),
        _ => Err(format!("mark {to} has no translation")),
    }
}

fn reject(value: &Json) -> Result<Value, String> {
    let code = value.get("expr").map(values::scalar).transpose()?;
    let code = code.as_deref().unwrap_or("port-unreachable");
    let reason = |reason: &str| Value::of("reject", Value::text(reason));
    Ok(match (text(value, "type"), code) {
        ("tcp reset", _) => reason("tcp-reset"),
        (_, "port-unreachable") => Value::text("reject"),
        ("icmpx", code) => reason(code),
        ("icmp", "host-unreachable") | ("icmpv6", "addr-unreachable") => reason("host-unreachable"),
        ("icmp", "net-unreachable") | ("icmpv6", "no-route") => reason("no-route"),
        (_, "admin-prohibited") => reason("admin-prohibited"),
        ("icmp", code) => Value::of("reject", Value::of("icmp", Value::text(code))),
        ("icmpv6", code) => Value::of("reject", Value::of("icmpv6", Value::text(code))),
        (kind, code) => return Err(format!("there is no way to reject with {kind} {code}")),
    })
}

fn nat(kind: &str, value: &Json) -> Result<Value, String> {
    let part = |key: &str| value.get(key).map(values::scalar).transpose();
    let (addr, port) = (part("addr")?, part("port")?);
    if addr.is_none() && port.is_none() {
        return Err(format!("expression {value} has no translation"));
    }
    let key = if kind == "snat" { "snat" } else { "dnat" };
    if let Some(addr) = addr.as_deref().filter(|_| text(value, "type_flags") == "prefix") {
        return Ok(names::nat_prefix(key, addr));
    }
    Ok(Value::of(key, names::nat_target(addr.as_deref().unwrap_or_default(), port.as_deref())))
}

/// A limit; `over` is its negation. Source: nft(8), "LIMIT STATEMENT": a burst is 5 packets unless given.
fn limit(value: &Json, per: Option<&str>) -> Result<Test, String> {
    if value.get("rate_unit").is_some_and(|unit| unit != "packets") {
        return Err("a limit counts packets, not bytes".to_owned());
    }
    let rate = value.get("rate").and_then(Json::as_u64).ok_or("a limit without a rate")?;
    let burst = value.get("burst").and_then(Json::as_u64).filter(|burst| *burst > 0).unwrap_or(5);
    let unit = match text(value, "per") {
        unit @ ("second" | "minute" | "hour" | "day") => unit,
        unit => return Err(format!("there are no limits for each {unit}")),
    };
    let asked = Asked::Other(names::limit(&format!("{rate}/{unit}"), &burst.to_string(), per));
    let over = value.get("inv").and_then(Json::as_bool).unwrap_or(false);
    Ok(if over { Test::Not("limit", asked) } else { Test::Is("limit", asked) })
}

fn connlimit(value: &Json, per: Option<&str>) -> Test {
    let above = value.get("val").map(Json::to_string).unwrap_or_default();
    let mut entries = vec![("above", Value::Text(above))];
    entries.extend(per.map(|per| ("per", Value::text(per))));
    let asked = Asked::Other(Value::Map(entries));
    let over = value.get("inv").and_then(Json::as_bool).unwrap_or(false);
    if over { Test::Is("connlimit", asked) } else { Test::Not("connlimit", asked) }
}

/// `add @s { ip saddr limit rate 3/minute }`: a limit or a count for each address.
fn per_source(rule: &mut Rule, value: &Json) -> Result<Test, String> {
    let elem = value.get("elem").unwrap_or(&Json::Null);
    let elem = elem.get("elem").and_then(|elem| elem.get("val")).unwrap_or(elem);
    let payload = elem.get("payload").unwrap_or(&Json::Null);
    rule.only(if text(payload, "protocol") == "ip6" { Families::V6 } else { Families::V4 });
    let per = match text(payload, "field") {
        "saddr" => "src",
        "daddr" => "dst",
        _ => return Err("rules do not fill sets; a limit is for each source or each destination".to_owned()),
    };
    match value.get("stmt").and_then(Json::as_array).map(Vec::as_slice) {
        Some([only]) => match (only.get("limit"), only.get("ct count")) {
            (Some(value), _) => limit(value, Some(per)),
            (_, Some(value)) => Ok(connlimit(value, Some(per))),
            _ => Err("rules do not fill sets".to_owned()),
        },
        _ => Err("rules do not fill sets".to_owned()),
    }
}
