//! The matches of a rule of iptables. Source: iptables-extensions(8).

use super::options::{Words, address, address_range, masked, number, ports, protocol, range, rate};
use super::targets;
use crate::Options;
use crate::model::{Asked, Families, Rule, Test};
use crate::names;
use crate::yaml::Value;

/// Why a match of iptables has no translation.
const REFUSED: [(&str, &str); 23] = [
    ("bpf", "programs are not run on packets"),
    ("cgroup", "which process sends is not seen"),
    ("cluster", "there is no such match"),
    ("dst", "extension headers are not matched"),
    ("ecn", "the congestion bits are not matched"),
    ("frag", "extension headers are not matched"),
    ("hbh", "extension headers are not matched"),
    ("mac", "MAC addresses are not matched: a neighbour is where the route to it leads"),
    ("nth", "there is no match by chance"),
    ("owner", "which process sends is not seen"),
    ("physdev", "there are no bridges"),
    (
        "pkttype",
        "how a frame was addressed is not matched: `to: [broadcast, multicast]` asks for the IP address",
    ),
    ("policy", "there is no IPsec"),
    ("quota", "there are no quotas of bytes"),
    ("recent", "there are no lists of recent senders: `limit` with `per: src` comes near"),
    ("rpfilter", "it is `rp_filter` of the interface, in the system file"),
    ("rt", "extension headers are not matched"),
    ("socket", "sockets are not looked up"),
    ("statistic", "there is no match by chance"),
    ("string", "contents of packets are not matched"),
    ("time", "there is no match by time of day"),
    ("tcpmss", "TCP options are not matched"),
    ("u32", "bytes of packets are not matched"),
];

/// Reads all options of a rule behind its chain.
///
/// # Errors
/// Why it has no translation; what stands behind the place was not read, but for the target.
pub(super) fn read(words: &mut Words, rule: &mut Rule, options: &Options) -> Result<(), String> {
    let mut module = String::new();
    let mut limit = HashLimit::default();
    while let Some(word) = words.next() {
        let (not, option) = if word == "!" { (true, words.value("!")?) } else { (false, word) };
        if matches!(option.as_str(), "-j" | "-g" | "--jump" | "--goto") {
            limit.finish(rule);
            return targets::read(option.starts_with("-g") || option == "--goto", words, rule);
        }
        if matches!(option.as_str(), "-m" | "--match") {
            limit.finish(rule);
            module = words.value("-m")?;
            continue;
        }
        let read = match module.as_str() {
            "hashlimit" if option.starts_with("--hashlimit") => limit.option(&option, words),
            _ => one(&module, &option, not, words, rule, options),
        };
        if let Err(why) = read {
            rule.refuse(why);
            // What it would have done tells how much it matters.
            while let Some(word) = words.next() {
                if word == "-j" {
                    return targets::read(false, words, rule);
                }
            }
            return Ok(());
        }
    }
    limit.finish(rule);
    Ok(())
}

fn one(
    module: &str,
    option: &str,
    not: bool,
    words: &mut Words,
    rule: &mut Rule,
    options: &Options,
) -> Result<(), String> {
    if let Some((_, why)) = REFUSED.iter().find(|(name, _)| *name == module) {
        return Err(format!("match {module}: {why}"));
    }
    let any = |key, values| add(key, not, Asked::Any(values));
    let test = match option {
        "-p" | "--protocol" => match protocol(&words.value(option)?)? {
            Some(name) => any("proto", vec![name]),
            None => return Ok(()),
        },
        "-s" | "--source" => return addresses("src", not, &words.value(option)?, rule),
        "-d" | "--destination" => return addresses("dst", not, &words.value(option)?, rule),
        "-i" | "--in-interface" => {
            return names::interface("in", not, &[words.value(option)?], options, rule);
        }
        "-o" | "--out-interface" => {
            return names::interface("out", not, &[words.value(option)?], options, rule);
        }
        "-f" | "--fragment" => {
            Test::Is("fragment", Asked::Other(Value::text(if not { "false" } else { "true" })))
        }
        "-c" | "--set-counters" => {
            words.nth(1);
            return Ok(());
        }
        "--sport" | "--source-port" | "--sports" | "--source-ports" => {
            any("sport", ports(&words.value(option)?)?)
        }
        "--dport" | "--destination-port" | "--dports" | "--destination-ports" => {
            any("dport", ports(&words.value(option)?)?)
        }
        "--ports" => {
            either_port(&ports(&words.value(option)?)?, not, rule);
            return Ok(());
        }
        "--src-range" => any("src", vec![address_range(&words.value(option)?)?]),
        "--dst-range" => any("dst", vec![address_range(&words.value(option)?)?]),
        "--comment" => {
            rule.comment = Some(words.value(option)?);
            return Ok(());
        }
        "--match-set" => return set(not, words, rule),
        "--helper" => any("ct_helper", vec![words.value(option)?]),
        "--length" => any("length", vec![range(&words.value(option)?, u16::MAX)?]),
        "--dscp" => any("dscp", vec![number(&words.value(option)?).ok_or("no code point")?.to_string()]),
        "--dscp-class" => any("dscp", vec![words.value(option)?.to_ascii_lowercase()]),
        "--mark" => {
            let key = if module == "connmark" { "ct_mark" } else { "mark" };
            any(key, vec![mark(&words.value(option)?)?])
        }
        _ => match protocol_options(option, not, words)?
            .map_or_else(|| tracked(option, not, words), |test| Ok(Some(test)))?
        {
            Some(test) => test,
            None => return limits(module, option, not, words, rule),
        },
    };
    rule.test(test);
    Ok(())
}

fn add(key: &'static str, not: bool, asked: Asked) -> Test {
    if not { Test::Not(key, asked) } else { Test::Is(key, asked) }
}

/// TCP flags, ICMP types, TTL.
fn protocol_options(option: &str, not: bool, words: &mut Words) -> Result<Option<Test>, String> {
    let flags = |set: &str, mask: &str| {
        let text = format!("{set}/{mask}").to_ascii_lowercase();
        Some(add("tcp_flags", not, Asked::Other(Value::Text(text))))
    };
    let ttl = |first: u16, last: u16| {
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        Some(add("ttl", not, Asked::Any(vec![range])))
    };
    let byte =
        |words: &mut Words| words.value(option)?.parse::<u8>().map(u16::from).map_err(|e| e.to_string());
    Ok(match option {
        "--syn" => flags("syn", "fin,syn,rst,ack"),
        "--tcp-flags" => {
            let mask = words.value(option)?;
            flags(&words.value(option)?, &mask)
        }
        "--icmp-type" => return names::icmp("icmp", not, &words.value(option)?),
        "--icmpv6-type" => return names::icmp("icmpv6", not, &words.value(option)?),
        "--ttl-eq" | "--hl-eq" => byte(words).map(|ttl_is| ttl(ttl_is, ttl_is))?,
        "--ttl-lt" | "--hl-lt" => match byte(words)? {
            0 => Some(if not { return Ok(None) } else { Test::Never }),
            above => ttl(0, above - 1),
        },
        "--ttl-gt" | "--hl-gt" => match byte(words)? {
            255 => Some(Test::Never),
            below => ttl(below + 1, 255),
        },
        _ => None,
    })
}

/// What connection tracking and routing say.
fn tracked(option: &str, not: bool, words: &mut Words) -> Result<Option<Test>, String> {
    let small = |words: &mut Words| -> Result<Vec<String>, String> {
        let value = words.value(option)?;
        Ok(value.split(',').map(|word| word.to_ascii_lowercase().replace('_', "-")).collect())
    };
    let orig = |key, value| Asked::Other(Value::of(key, Value::Text(value)));
    let (key, asked) = match option {
        "--state" | "--ctstate" => ("ct", Asked::Any(small(words)?)),
        "--ctstatus" => ("ct_status", Asked::Any(small(words)?)),
        "--ctdir" => ("ct_dir", Asked::Any(small(words)?)),
        "--ctproto" => ("proto", Asked::Any(protocol(&words.value(option)?)?.into_iter().collect())),
        "--ctorigsrc" => ("ct_orig", orig("src", words.value(option)?)),
        "--ctorigdst" => ("ct_orig", orig("dst", words.value(option)?)),
        "--ctorigsrcport" => ("ct_orig", orig("sport", range(&words.value(option)?, u16::MAX)?)),
        "--ctorigdstport" => ("ct_orig", orig("dport", range(&words.value(option)?, u16::MAX)?)),
        "--src-type" => ("origin", Asked::Any(kinds(&small(words)?)?)),
        "--dst-type" => ("to", Asked::Any(kinds(&small(words)?)?)),
        _ => return Ok(None),
    };
    Ok(Some(add(key, not, asked)))
}

fn kinds(words: &[String]) -> Result<Vec<String>, String> {
    let kind = |word: &String| match word.as_str() {
        "local" | "broadcast" | "multicast" => Ok(word.clone()),
        "unicast" => Ok("routed".to_owned()),
        _ => Err(format!("there is no kind of address {word}")),
    };
    words.iter().map(kind).collect()
}

fn limits(module: &str, option: &str, not: bool, words: &mut Words, rule: &mut Rule) -> Result<(), String> {
    match option {
        "--limit" => {
            let rate = rate(&words.value(option)?)?;
            let burst =
                if words.take("--limit-burst") { words.value("--limit-burst")? } else { "5".to_owned() };
            rule.test(add("limit", not, Asked::Other(names::limit(&rate, &burst, None))));
            Ok(())
        }
        "--connlimit-above" | "--connlimit-upto" => connlimit(option, not, words, rule),
        _ => Err(match module {
            "" => format!("option {option} has no translation"),
            _ => format!("option {option} of match {module} has no translation"),
        }),
    }
}

fn connlimit(option: &str, not: bool, words: &mut Words, rule: &mut Rule) -> Result<(), String> {
    let count = words.value(option)?;
    let mut mask = None;
    let mut per = "src";
    loop {
        if words.take("--connlimit-mask") {
            mask = Some(words.value("--connlimit-mask")?);
        } else if words.take("--connlimit-daddr") {
            per = "dst";
        } else if !words.take("--connlimit-saddr") {
            break;
        }
    }
    let host = if rule.families == Families::V6 { "128" } else { "32" };
    let per = match mask.as_deref() {
        Some("0") => None,
        None => Some(per),
        Some(mask) if mask == host => Some(per),
        Some(mask) => {
            return Err(format!(
                "connlimit counts flows of single addresses, not of prefixes of {mask} bits"
            ));
        }
    };
    let mut entries = vec![("above", Value::Text(count))];
    entries.extend(per.map(|per| ("per", Value::text(per))));
    let above = option == "--connlimit-above";
    rule.test(add("connlimit", above == not, Asked::Other(Value::Map(entries))));
    Ok(())
}

/// `hashlimit`, whose options come in any order.
#[derive(Default)]
struct HashLimit {
    rate: Option<(String, bool)>,
    burst: Option<String>,
    mode: String,
    masked: bool,
}

impl HashLimit {
    fn option(&mut self, option: &str, words: &mut Words) -> Result<(), String> {
        let value = words.value(option)?;
        match option {
            "--hashlimit-upto" | "--hashlimit" => self.rate = Some((rate(&value)?, false)),
            "--hashlimit-above" => self.rate = Some((rate(&value)?, true)),
            "--hashlimit-burst" => self.burst = Some(value),
            "--hashlimit-mode" => self.mode = value,
            "--hashlimit-srcmask" | "--hashlimit-dstmask" => {
                self.masked |= !matches!(value.as_str(), "32" | "128")
            }
            // The memory of the table, whose limits are the engine's own here.
            "--hashlimit-name"
            | "--hashlimit-htable-size"
            | "--hashlimit-htable-max"
            | "--hashlimit-htable-expire"
            | "--hashlimit-htable-gcinterval" => {}
            _ => return Err(format!("option {option} of match hashlimit has no translation")),
        }
        Ok(())
    }

    /// Puts it into the rule, where there is one.
    fn finish(&mut self, rule: &mut Rule) {
        let Self { rate, burst, mode, masked } = std::mem::take(self);
        let Some((rate, above)) = rate else { return };
        let per = match mode.as_str() {
            "" => None,
            "srcip" => Some("src"),
            "dstip" => Some("dst"),
            _ => {
                return rule.refuse(format!("a limit is for each source or each destination, not by {mode}"));
            }
        };
        if masked {
            return rule.refuse("a limit is for single addresses, not for prefixes");
        }
        let value = names::limit(&rate, burst.as_deref().unwrap_or("5"), per);
        rule.test(add("limit", above, Asked::Other(value)));
    }
}

fn addresses(key: &'static str, not: bool, text: &str, rule: &mut Rule) -> Result<(), String> {
    match address(text)? {
        Some(address) => rule.test(add(key, not, Asked::Any(vec![address]))),
        None if not => rule.test(Test::Never),
        None => {}
    }
    Ok(())
}

/// Source or destination port: the second choice leaves out what the first one had.
fn either_port(ports: &[String], not: bool, rule: &mut Rule) {
    let any = || Asked::Any(ports.to_vec());
    if not {
        rule.test(Test::Not("sport", any()));
        rule.test(Test::Not("dport", any()));
    } else {
        rule.either(&[
            vec![Test::Is("sport", any())],
            vec![Test::Is("dport", any()), Test::Not("sport", any())],
        ]);
    }
}

/// `--match-set NAME src`; whether it holds addresses or ports is known when all files are read.
fn set(not: bool, words: &mut Words, rule: &mut Rule) -> Result<(), String> {
    let name = words.value("--match-set")?;
    let key = match words.value("--match-set")?.as_str() {
        "src" => "src",
        "dst" => "dst",
        "src,src" => "src,src",
        "src,dst" => "src,dst",
        "dst,src" => "dst,src",
        "dst,dst" => "dst,dst",
        several => {
            return Err(format!("set {name} is asked for {several}: a set holds addresses or ports"));
        }
    };
    rule.test(add(key, not, Asked::Set(name)));
    match words.optional() {
        None if !words.take("--return-nomatch") && !words.take("!") => Ok(()),
        _ => Err("options of --match-set have no translation".to_owned()),
    }
}

fn mark(text: &str) -> Result<String, String> {
    let (value, mask) = masked(text)?;
    if value & !mask != 0 {
        return Err(format!("mark {text} can never be: it has bits that the mask leaves out"));
    }
    Ok(names::mark(value, mask))
}
