//! Where translations go: addresses, pools, ports, prefixes, blocks of ports.

use std::net::IpAddr;

use sluice_wire::Family;

use crate::addr::{IpPrefix, IpRange};
use crate::decode::Reader;
use crate::diagnostics::ValueError;
use crate::policy::Rule;
use crate::policy::action::{Action, Masquerade, NatMapping, NatTarget, PortBlocks};
use crate::policy::matches::{AddrMatch, PortRange};
use crate::source::Span;
use crate::yaml::{Node, Value};

pub(in crate::policy) const MAPPINGS: [(&str, NatMapping); 2] = [
    ("address-and-port-dependent", NatMapping::AddressAndPortDependent),
    ("endpoint-independent", NatMapping::EndpointIndependent),
];

/// What is dealt out unless `port` says otherwise.
const DEALT: PortRange = PortRange { first: 1024, last: 65535 };

/// Subscribers at the most. Source: the engine keeps a bit for each.
const MOST_SUBSCRIBERS: u64 = 1 << 24;

/// `snat`: as [`destination`], and `{to, port, mapping, blocks: {of: PREFIX, size: N}}`.
pub(super) fn source<'a>(reader: &mut Reader<'a>, node: &Node<'a>, what: &str) -> Option<NatTarget> {
    let Value::Map(_) = &node.value else { return reader.parsed(node, what, short_target) };
    let fields = reader.fields(node, what, &["to", "port", "prefix", "mapping", "blocks"])?;
    let before = reader.errors();
    let mapping = fields.get("mapping").and_then(|node| reader.keyword(node, "`mapping`", &MAPPINGS));
    let blocks = fields.get("blocks").and_then(|node| blocks(reader, node));
    if reader.errors() > before {
        return None;
    }
    if let Some(prefix) = fields.get("prefix") {
        let beside = ["to", "port", "mapping", "blocks"].into_iter().find_map(|key| fields.get(key));
        return to_prefix(reader, prefix, what, beside);
    }
    let target = NatTarget {
        mapping: mapping.unwrap_or_default(),
        blocks,
        ..target(reader, node, what, fields.get("to"), fields.get("port"))?
    };
    if let Some(node) = fields.get("blocks").filter(|_| blocks.is_some()) {
        let fit = fit(&target);
        return fit.map_err(|message| reader.error(node.span, message)).ok();
    }
    Some(target)
}

/// `dnat`: `ADDR`, `ADDR:PORT`, `{to: ADDR[-ADDR], port: A[-B]}` or `{prefix: PREFIX}`.
pub(super) fn destination<'a>(reader: &mut Reader<'a>, node: &Node<'a>, what: &str) -> Option<NatTarget> {
    let Value::Map(_) = &node.value else { return reader.parsed(node, what, short_target) };
    let fields = reader.fields(node, what, &["to", "port", "prefix"])?;
    match fields.get("prefix") {
        Some(prefix) => to_prefix(reader, prefix, what, fields.get("to").or(fields.get("port"))),
        None => target(reader, node, what, fields.get("to"), fields.get("port")),
    }
}

/// `{port: A[-B], mapping: …}`; an empty map asks for nothing.
pub(super) fn masquerade<'a>(reader: &mut Reader<'a>, node: &Node<'a>, what: &str) -> Option<Masquerade> {
    let fields = reader.fields(node, what, &["port", "mapping"])?;
    let before = reader.errors();
    let ports = fields.get("port").and_then(|node| reader.parsed(node, "`port`", str::parse));
    let mapping = fields.get("mapping").and_then(|node| reader.keyword(node, "`mapping`", &MAPPINGS));
    (reader.errors() == before).then(|| Masquerade { ports, mapping: mapping.unwrap_or_default() })
}

/// `{port: A[-B]}`; an empty map asks for no ports.
pub(super) fn ports<'a>(reader: &mut Reader<'a>, node: &Node<'a>, what: &str) -> Option<Option<PortRange>> {
    let fields = reader.fields(node, what, &["port"])?;
    match fields.get("port") {
        Some(node) => reader.parsed(node, "`port`", str::parse).map(Some),
        None => Some(None),
    }
}

/// Blocks are their subscribers' alone: a rule that asks for other sources would match packets that it has nothing for.
pub(super) fn check(reader: &mut Reader<'_>, rule: &Rule, place: impl Fn(&str) -> Span) {
    let Action::Snat(NatTarget { blocks: Some(blocks), .. }) = &rule.action.value else { return };
    let within = |entry: &AddrMatch| match entry {
        AddrMatch::Prefix(prefix) => blocks.of.covers(prefix.range()),
        AddrMatch::Range(range) => blocks.of.covers(*range),
        AddrMatch::Set(_) => false,
    };
    let sources = rule.matches.src.iter().flatten();
    if let Some(other) = sources.map(|entry| &entry.value).find(|entry| !within(entry)) {
        let message = match other {
            AddrMatch::Set(name) => {
                format!("`blocks` are of {}, and who is in set `{name}` may change", blocks.of)
            }
            _ => format!("`blocks` are of {}: `src` must lie in it, or be left out", blocks.of),
        };
        reader.error(place("src"), message);
    }
}

fn target<'a>(
    reader: &mut Reader<'a>,
    node: &Node<'a>,
    what: &str,
    to: Option<&Node<'a>>,
    port: Option<&Node<'a>>,
) -> Option<NatTarget> {
    let before = reader.errors();
    let addr = to.and_then(|node| reader.parsed(node, "`to`", str::parse::<IpRange>));
    let ports = port.and_then(|node| reader.parsed(node, "`port`", str::parse::<PortRange>));
    if reader.errors() > before {
        return None;
    }
    if addr.is_none() && ports.is_none() {
        reader.error(node.span, format!("{what} needs `to`, `port` or `prefix`"));
        return None;
    }
    Some(NatTarget { addr, ports, ..NatTarget::default() })
}

/// A prefix that takes the place of the address's own (iptables' NETMAP); nothing else may stand beside it.
fn to_prefix<'a>(
    reader: &mut Reader<'a>,
    node: &Node<'a>,
    what: &str,
    beside: Option<&Node<'a>>,
) -> Option<NatTarget> {
    if let Some(beside) = beside {
        reader.error(beside.span, format!("{what} has `prefix`, which keeps ports and stands alone"));
        return None;
    }
    let prefix: IpPrefix = reader.parsed(node, "`prefix`", str::parse)?;
    Some(NatTarget { prefix: Some(prefix), ..NatTarget::default() })
}

/// `{of: PREFIX, size: N}`.
fn blocks<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<PortBlocks> {
    let fields = reader.fields(node, "`blocks`", &["of", "size"])?;
    let of = fields.require(reader, "`blocks`", "of");
    let of = of.and_then(|node| reader.parsed(node, "`of`", str::parse::<IpRange>));
    let size = fields.require(reader, "`blocks`", "size");
    let size = size.and_then(|node| reader.number16(node, "`size`", 1, u16::MAX));
    Some(PortBlocks { of: of?, size: size? })
}

/// The target with its ports, if there is a block for each subscriber.
fn fit(target: &NatTarget) -> Result<NatTarget, String> {
    let (Some(to), Some(blocks)) = (target.addr, target.blocks) else {
        return Err("`blocks` needs `to`: the addresses whose ports are dealt out".to_owned());
    };
    if to.family() != Family::V4 || blocks.of.family() != Family::V4 {
        return Err("`blocks` deal out ports of IPv4 addresses to IPv4 addresses".to_owned());
    }
    let ports = target.ports.unwrap_or(DEALT);
    let count = |range: IpRange| match (range.first(), range.last()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => u64::from(last.to_bits() - first.to_bits()) + 1,
        _ => 0,
    };
    let subscribers = count(blocks.of);
    if subscribers > MOST_SUBSCRIBERS {
        return Err(format!("`blocks` of {subscribers} subscribers (limit {MOST_SUBSCRIBERS})"));
    }
    let each = (u64::from(ports.last - ports.first) + 1) / u64::from(blocks.size);
    if each * count(to) < subscribers {
        let needs = match each {
            0 => "and none fits".to_owned(),
            each => format!("for which {} addresses are needed", subscribers.div_ceil(each)),
        };
        return Err(format!(
            "{} subscribers get {} blocks: {} addresses have {each} of {} ports each in {ports}, {needs}",
            subscribers,
            each * count(to),
            count(to),
            blocks.size
        ));
    }
    Ok(NatTarget { ports: Some(ports), ..*target })
}

/// The short form. A port behind an IPv6 address needs brackets around the address.
fn short_target(text: &str) -> Result<NatTarget, ValueError> {
    if let Ok(range) = text.parse() {
        return Ok(NatTarget { addr: Some(range), ..NatTarget::default() });
    }
    let error = || ValueError::new(format!("`{text}` is no address, ADDR:PORT or [ADDR]:PORT"));
    let (addr, ports) = match text.rfind(']') {
        Some(end) => {
            let (addr, rest) = text.split_at(end + 1);
            (addr.replace(['[', ']'], ""), rest)
        }
        None => {
            let colon = text.rfind(':').ok_or_else(error)?;
            let (addr, rest) = text.split_at(colon);
            if addr.contains(':') {
                return Err(error());
            }
            (addr.to_string(), rest)
        }
    };
    let addr = match addr.as_str() {
        "" => None,
        addr => Some(addr.parse().map_err(|_| error())?),
    };
    let ports = match ports.strip_prefix(':') {
        Some(ports) => Some(ports.parse()?),
        None if ports.is_empty() && addr.is_some() => None,
        None => return Err(error()),
    };
    Ok(NatTarget { addr, ports, ..NatTarget::default() })
}
