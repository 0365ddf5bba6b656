//! The targets of iptables. Source: iptables-extensions(8).

use super::options::{Words, masked};
use crate::model::{Effect, Rule, Verdict};
use crate::names;
use crate::yaml::Value;

/// Why a target of iptables has no translation.
const REFUSED: [(&str, &str); 23] = [
    ("AUDIT", "there is no audit"),
    ("CHECKSUM", "checksums are right already"),
    ("CLASSIFY", "there is no queueing"),
    ("CLUSTERIP", "there is no such target"),
    ("CONNSECMARK", "there are no security labels"),
    ("DSCP", "headers are not changed but by NAT"),
    ("ECN", "headers are not changed but by NAT"),
    ("HL", "headers are not changed but by NAT"),
    ("NFLOG", "there are no log groups: `{log: {prefix: …}}` writes to the service's log"),
    ("NFQUEUE", "packets are not handed to programs"),
    ("QUEUE", "packets are not handed to programs"),
    ("RATEEST", "there is no such target"),
    ("SECMARK", "there are no security labels"),
    ("SET", "rules do not change sets: `sluice set add` does"),
    ("SYNPROXY", "there is no proxy for SYNs"),
    ("TCPMSS", "TCP options are not changed"),
    ("TCPOPTSTRIP", "TCP options are not changed"),
    ("TEE", "packets are not copied"),
    ("TOS", "headers are not changed but by NAT"),
    ("TPROXY", "there is no transparent proxy"),
    ("TRACE", "`sluice explain` says what becomes of a packet"),
    ("TTL", "headers are not changed but by NAT"),
    ("ULOG", "there are no log groups: `{log: {prefix: …}}` writes to the service's log"),
];

/// Why a target that the table has no chain for is left out.
pub(super) fn reason(name: &str) -> String {
    let known = REFUSED.iter().find(|(known, _)| *known == name);
    known.map_or_else(
        || format!("there is no chain and no target {name}"),
        |(_, why)| format!("target {name}: {why}"),
    )
}

/// Reads a target and its options.
///
/// # Errors
/// Why it has no translation.
pub(super) fn read(goto: bool, words: &mut Words, rule: &mut Rule) -> Result<(), String> {
    let name = words.value("-j")?;
    match name.as_str() {
        "ACCEPT" => rule.verdict = Verdict::Accept,
        "DROP" => rule.verdict = Verdict::Drop,
        "RETURN" => rule.verdict = Verdict::Return,
        "REJECT" => {
            rule.verdict = Verdict::Other(Value::text("reject"));
            if words.take("--reject-with") {
                rule.verdict = Verdict::Other(names::reject(&words.value("--reject-with")?)?);
            }
        }
        "LOG" => log(words, rule)?,
        "MARK" => set_mark("mark", words, rule)?,
        "CONNMARK" => connmark(words, rule)?,
        "NOTRACK" => effect(rule, Value::text("notrack"), Some("ct")),
        "CT" => return ct(words, rule),
        "SNAT" => nat("snat", "--to-source", words, rule)?,
        "DNAT" => nat("dnat", "--to-destination", words, rule)?,
        "MASQUERADE" => nat_ports("masquerade", words, rule)?,
        "REDIRECT" => nat_ports("redirect", words, rule)?,
        "NETMAP" if words.take("--to") => rule.verdict = Verdict::Netmap(words.value("--to")?),
        "NETMAP" => return Err("--to is missing".to_owned()),
        _ => {
            // A chain, or an extension: the table knows.
            rule.verdict = if goto { Verdict::Goto(name) } else { Verdict::Jump(name) };
            return Ok(());
        }
    }
    match words.next() {
        Some(option) => Err(format!("option {option} of target {name} has no translation")),
        None => Ok(()),
    }
}

fn effect(rule: &mut Rule, action: Value, changes: Option<&'static str>) {
    rule.effects.push(Effect { action, changes });
}

fn log(words: &mut Words, rule: &mut Rule) -> Result<(), String> {
    let mut prefix = None;
    while let Some(option) = words.next() {
        match option.as_str() {
            "--log-prefix" => prefix = Some(words.value(&option)?),
            // What a line has, and at which level it is written, is the service's to say.
            "--log-level" => {
                words.value(&option)?;
            }
            "--log-tcp-sequence" | "--log-tcp-options" | "--log-ip-options" | "--log-uid"
            | "--log-macdecode" => {}
            _ => return Err(format!("option {option} of target LOG has no translation")),
        }
    }
    effect(rule, names::log(prefix), None);
    Ok(())
}

/// `mark = (mark & ~mask) ^ value`, which the policy language can say where all bits of the value are in the mask.
fn set_mark(key: &'static str, words: &mut Words, rule: &mut Rule) -> Result<(), String> {
    let option = words.value("a mark")?;
    let text = words.value(&option)?;
    let (value, mask) = masked(&text)?;
    let (value, mask) = match option.as_str() {
        "--set-xmark" if value & !mask == 0 => (value, mask),
        "--set-mark" => (value, mask | value),
        "--and-mark" => (0, !value),
        "--or-mark" => (value, value),
        _ => return Err(format!("{option} {text} turns bits of a mark over: a rule sets or clears them")),
    };
    effect(rule, Value::of(key, Value::Text(names::mark(value, mask))), Some(key));
    Ok(())
}

fn connmark(words: &mut Words, rule: &mut Rule) -> Result<(), String> {
    let (key, from, changes) = if words.take("--save-mark") {
        ("ct_mark", "mark", "ct_mark")
    } else if words.take("--restore-mark") {
        ("mark", "ct_mark", "mark")
    } else {
        return set_mark("ct_mark", words, rule);
    };
    let mut masks = [u32::MAX; 2];
    for (option, mask) in ["--nfmask", "--ctmask"].into_iter().zip(&mut masks) {
        if words.take(option) {
            *mask = masked(&words.value(option)?)?.0;
        }
    }
    if words.take("--mask") {
        masks = [masked(&words.value("--mask")?)?.0; 2];
    }
    let [mask, other] = masks;
    if mask != other {
        return Err("a mark is copied with one mask, not with two".to_owned());
    }
    let text = if mask == u32::MAX { from.to_owned() } else { format!("{from}/{mask:#x}") };
    effect(rule, Value::of(key, Value::Text(text)), Some(changes));
    Ok(())
}

fn ct(words: &mut Words, rule: &mut Rule) -> Result<(), String> {
    while let Some(option) = words.next() {
        match option.as_str() {
            "--notrack" => effect(rule, Value::text("notrack"), Some("ct")),
            "--helper" => effect(rule, Value::of("helper", Value::Text(words.value(&option)?)), None),
            "--zone" => effect(rule, Value::of("zone", Value::Text(zone(words)?)), None),
            "--zone-orig" => {
                effect(rule, Value::of("zone", Value::of("original", Value::Text(zone(words)?))), None);
            }
            "--zone-reply" => {
                effect(rule, Value::of("zone", Value::of("reply", Value::Text(zone(words)?))), None);
            }
            "--timeout" => {
                let name = words.value(&option)?;
                return Err(format!("timeout policy {name} is not in this text: write it as `ct_timeout`"));
            }
            _ => return Err(format!("option {option} of target CT has no translation")),
        }
    }
    Ok(())
}

fn zone(words: &mut Words) -> Result<String, String> {
    let text = words.value("--zone")?;
    text.parse::<u16>().map(|zone| zone.to_string()).map_err(|_| format!("zone {text} is not a number"))
}

/// `ADDR[-ADDR][:PORT[-PORT]]`, brackets around an IPv6 address with a port.
fn nat(key: &'static str, option: &str, words: &mut Words, rule: &mut Rule) -> Result<(), String> {
    if !words.take(option) {
        return Err(format!("{option} is missing"));
    }
    let text = words.value(option)?;
    flags(words);
    let ports_at = match text.rfind(']') {
        Some(end) => text[end..].find(':').map(|at| end + at),
        None if text.matches(':').count() == 1 => text.find(':'),
        None => None,
    };
    let (addr, ports) = ports_at.map_or((text.as_str(), None), |at| (&text[..at], Some(&text[at + 1..])));
    let addr = addr.replace(['[', ']'], "");
    rule.verdict = Verdict::Other(Value::of(key, names::nat_target(&addr, ports)));
    Ok(())
}

fn nat_ports(key: &'static str, words: &mut Words, rule: &mut Rule) -> Result<(), String> {
    let ports = if words.take("--to-ports") { Some(words.value("--to-ports")?) } else { None };
    flags(words);
    rule.verdict = Verdict::Other(names::nat_ports(key, ports));
    Ok(())
}

/// How a port is chosen is Sluice's own: one that hashes to the flow's worker.
fn flags(words: &mut Words) {
    while words.take("--random") || words.take("--random-fully") || words.take("--persistent") {}
}
