//! The match half of a rule.

use sluice_wire::{Family, Protocol};

use super::Zones;
use crate::addr::{IpPrefix, IpRange};
use crate::decode::{Reader, nearest, number};
use crate::diagnostics::ValueError;
use crate::policy::action::Helper;
use crate::policy::matches::{
    AddrKind, AddrMatch, ConnLimit, CtDir, CtOrig, CtState, CtStatus, IcmpMatch, InterfaceMatch, Limit,
    LimitPer, MarkMatch, Matches, NumberRange, PortMatch, TcpFlagsMatch,
};
use crate::policy::names;
use crate::source::Spanned;
use crate::yaml::{Key, Node, Value};

/// Every match.
pub(in crate::policy) const KEYS: [&str; 26] = [
    "in",
    "out",
    "to",
    "origin",
    "family",
    "proto",
    "src",
    "dst",
    "sport",
    "dport",
    "tcp_flags",
    "icmp",
    "icmpv6",
    "ct",
    "ct_dir",
    "ct_helper",
    "ct_mark",
    "mark",
    "ct_orig",
    "ct_status",
    "fragment",
    "length",
    "ttl",
    "dscp",
    "limit",
    "connlimit",
];

pub(in crate::policy) const KINDS: [(&str, AddrKind); 4] = [
    ("local", AddrKind::Local),
    ("broadcast", AddrKind::Broadcast),
    ("multicast", AddrKind::Multicast),
    ("routed", AddrKind::Routed),
];

pub(in crate::policy) const FAMILIES: [(&str, Family); 2] = [("ipv4", Family::V4), ("ipv6", Family::V6)];

/// The words of `ct`.
pub(in crate::policy) const STATES: [(&str, CtState); 7] = [
    ("new", CtState::New),
    ("established", CtState::Established),
    ("related", CtState::Related),
    ("invalid", CtState::Invalid),
    ("untracked", CtState::Untracked),
    ("snat", CtState::Snat),
    ("dnat", CtState::Dnat),
];

/// The words of `ct_dir`.
pub(in crate::policy) const DIRECTIONS: [(&str, CtDir); 2] =
    [("original", CtDir::Original), ("reply", CtDir::Reply)];

pub(in crate::policy) const STATUSES: [(&str, CtStatus); 6] = [
    ("assured", CtStatus::Assured),
    ("seen-reply", CtStatus::SeenReply),
    ("expected", CtStatus::Expected),
    ("confirmed", CtStatus::Confirmed),
    ("snat", CtStatus::Snat),
    ("dnat", CtStatus::Dnat),
];

/// Reads the match `key` into its field; false if there is no such match.
pub(super) fn field<'a>(
    reader: &mut Reader<'a>,
    key: &Key<'a>,
    node: &Node<'a>,
    zones: &Zones,
    m: &mut Matches,
) -> bool {
    let what = format!("`{}`", key.text);
    let what = what.as_str();
    match &*key.text {
        "in" => m.in_interface = reader.values(node, what, |r, n| interface(r, n, zones)),
        "out" => m.out_interface = reader.values(node, what, |r, n| interface(r, n, zones)),
        "to" => m.to = reader.values(node, what, |r, n| r.keyword(n, what, &KINDS)),
        "origin" => m.origin = reader.values(node, what, |r, n| r.keyword(n, what, &KINDS)),
        "family" => m.family = reader.values(node, what, |r, n| r.keyword(n, what, &FAMILIES)),
        "proto" => m.proto = reader.values(node, what, protocol),
        "src" => m.src = reader.values(node, what, address),
        "dst" => m.dst = reader.values(node, what, address),
        "sport" => m.sport = reader.values(node, what, port),
        "dport" => m.dport = reader.values(node, what, port),
        "tcp_flags" => m.tcp_flags = reader.parsed(node, what, tcp_flags),
        "icmp" => m.icmp = reader.values(node, what, |r, n| icmp(r, n, names::ICMP)),
        "icmpv6" => m.icmpv6 = reader.values(node, what, |r, n| icmp(r, n, names::ICMPV6)),
        "ct" => m.ct = reader.values(node, what, |r, n| r.keyword(n, what, &STATES)),
        "ct_dir" => m.ct_dir = reader.values(node, what, |r, n| r.keyword(n, what, &DIRECTIONS)),
        "ct_helper" => m.ct_helper = reader.values(node, what, helper),
        "ct_mark" => m.ct_mark = reader.values(node, what, mark),
        "mark" => m.mark = reader.values(node, what, mark),
        "ct_orig" => m.ct_orig = ct_orig(reader, node),
        "ct_status" => m.ct_status = reader.values(node, what, |r, n| r.keyword(n, what, &STATUSES)),
        "fragment" => m.fragment = reader.boolean(node, what),
        "length" => m.length = reader.values(node, what, |r, n| range(r, n, what, u16::MAX, &[])),
        "ttl" => m.ttl = reader.values(node, what, |r, n| range(r, n, what, 255, &[])),
        "dscp" => m.dscp = reader.values(node, what, |r, n| range(r, n, what, 63, names::DSCP)),
        "limit" => m.limit = limit(reader, node),
        "connlimit" => m.connlimit = connlimit(reader, node),
        _ => return false,
    }
    true
}

fn interface<'a>(reader: &mut Reader<'a>, node: &Node<'a>, zones: &Zones) -> Option<Spanned<InterfaceMatch>> {
    let name = reader.text(node, "an interface or zone")?.to_string();
    let zone = zones.contains_key(&name);
    let value = if zone { InterfaceMatch::Zone(name) } else { InterfaceMatch::Interface(name) };
    Some(Spanned::new(value, node.span))
}

/// A protocol by name or number.
pub(super) fn protocol<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<Protocol> {
    let text = reader.text(node, "`proto`")?;
    let by_number = || number(text).and_then(|n| u8::try_from(n).ok()).map(Protocol);
    let protocol = Protocol::from_name(text).or_else(by_number);
    if protocol.is_none() {
        let hint = nearest(text, Protocol::names());
        reader.error_with(
            node.span,
            format!("`{text}` is no protocol's name and no number from 0 to 255"),
            hint,
        );
    }
    protocol
}

/// The set named by `@name`, or `None` if it is something else.
fn set_name(text: &str) -> Option<String> {
    text.strip_prefix('@').map(ToString::to_string)
}

fn address<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<Spanned<AddrMatch>> {
    let value = reader.parsed(node, "an address", |text| {
        if let Some(name) = set_name(text) {
            return Ok(AddrMatch::Set(name));
        }
        if text.contains('-') {
            return text.parse::<IpRange>().map(AddrMatch::Range);
        }
        text.parse::<IpPrefix>().map(|prefix| AddrMatch::Prefix(prefix.masked()))
    })?;
    Some(Spanned::new(value, node.span))
}

fn port<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<Spanned<PortMatch>> {
    let value = reader.parsed(node, "a port", |text| match set_name(text) {
        Some(name) => Ok(PortMatch::Set(name)),
        None => text.parse().map(PortMatch::Range),
    })?;
    Some(Spanned::new(value, node.span))
}

/// The flags' names and bits. Source: RFC 9293 section 3.1, RFC 3168.
const FLAGS: [(&str, u8); 8] = [
    ("fin", 0x01),
    ("syn", 0x02),
    ("rst", 0x04),
    ("psh", 0x08),
    ("ack", 0x10),
    ("urg", 0x20),
    ("ece", 0x40),
    ("cwr", 0x80),
];

/// `set/mask`.
fn tcp_flags(text: &str) -> Result<TcpFlagsMatch, ValueError> {
    let Some((set, mask)) = text.split_once('/') else {
        let message = format!("`{text}` must be \"set/mask\", such as \"syn/fin,syn,rst,ack\"");
        return Err(ValueError::new(message));
    };
    let (set, mask) = (flag_list(set)?, flag_list(mask)?);
    if set & !mask != 0 {
        return Err(ValueError::new(format!(
            "`{text}` can never hold: a flag is set that the mask leaves out"
        )));
    }
    Ok(TcpFlagsMatch { set, mask })
}

/// Flags by name, separated by commas; `none` and `all`.
pub(super) fn flag_list(text: &str) -> Result<u8, ValueError> {
    text.split(',').try_fold(0, |flags, name| {
        let name = name.trim().to_ascii_lowercase();
        match name.as_str() {
            "none" => Ok(flags),
            "all" => Ok(u8::MAX),
            _ => {
                let bit = FLAGS.iter().find(|(known, _)| *known == name).map(|(_, bit)| flags | bit);
                bit.ok_or_else(|| {
                    let known = FLAGS.map(|(known, _)| known).join(", ");
                    ValueError::new(format!("`{name}` is no TCP flag: {known}, all, none"))
                })
            }
        }
    })
}

/// `type` or `type/code`, each by name or number.
pub(super) fn icmp<'a>(
    reader: &mut Reader<'a>,
    node: &Node<'a>,
    table: &'static [(&'static str, u8, Option<u8>)],
) -> Option<IcmpMatch> {
    let text = reader.text(node, "an ICMP type")?;
    let (kind, code) = match text.split_once('/') {
        Some((kind, code)) => (kind, Some(code)),
        None => (text, None),
    };
    let byte = |text: &str| number(text).and_then(|n| u8::try_from(n).ok());
    let found = names::icmp(table, kind).or_else(|| byte(kind).map(|kind| IcmpMatch { kind, code: None }));
    let Some(found) = found else {
        let hint = nearest(kind, table.iter().map(|(name, _, _)| *name));
        reader.error_with(node.span, format!("`{kind}` is no ICMP type"), hint);
        return None;
    };
    let Some(code) = code else { return Some(found) };
    // A code's name must be one of that type: `destination-unreachable/host-unreachable`.
    let named =
        names::icmp(table, code).filter(|named| named.kind == found.kind).and_then(|named| named.code);
    match named.or_else(|| byte(code)) {
        Some(code) if found.code.is_none() => Some(IcmpMatch { kind: found.kind, code: Some(code) }),
        Some(_) => {
            reader.error(node.span, format!("`{kind}` names a code already"));
            None
        }
        None => {
            let codes = table.iter().filter(|(_, kind, code)| *kind == found.kind && code.is_some());
            let hint = nearest(code, codes.map(|(name, _, _)| *name));
            reader.error_with(node.span, format!("`{code}` is no code of ICMP type `{kind}`"), hint);
            None
        }
    }
}

/// A helper by name.
pub(super) fn helper<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<Helper> {
    reader.keyword(node, "a helper", &Helper::ALL.map(|helper| (helper.name(), helper)))
}

/// `value` or `value/mask`.
pub(super) fn value_and_mask(text: &str) -> Result<(u32, u32), ValueError> {
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (number(value.trim()), number(mask.trim())),
        None => (number(text), Some(u32::MAX)),
    };
    match (value, mask) {
        (Some(value), Some(mask)) if value & !mask != 0 => {
            Err(ValueError::new(format!("`{text}` has bits set in the value that the mask leaves out")))
        }
        (Some(value), Some(mask)) => Ok((value, mask)),
        _ => Err(ValueError::new(format!("`{text}` is no mark: a number or number/mask of 32 bits"))),
    }
}

fn mark<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<MarkMatch> {
    reader.parsed(node, "a mark", |text| value_and_mask(text).map(|(value, mask)| MarkMatch { value, mask }))
}

fn ct_orig<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<CtOrig> {
    let fields = reader.fields(node, "`ct_orig`", &["src", "dst", "sport", "dport"])?;
    let addresses = |reader: &mut Reader<'a>, key: &str| {
        fields.get(key).and_then(|node| reader.values(node, &format!("`{key}`"), address))
    };
    let (src, dst) = (addresses(reader, "src"), addresses(reader, "dst"));
    let ports = |reader: &mut Reader<'a>, key: &str| {
        fields.get(key).and_then(|node| reader.values(node, &format!("`{key}`"), port))
    };
    let (sport, dport) = (ports(reader, "sport"), ports(reader, "dport"));
    let orig = CtOrig { src, dst, sport, dport };
    if orig == CtOrig::default() {
        reader.error(node.span, "`ct_orig` needs one of `src`, `dst`, `sport`, `dport`");
        return None;
    }
    Some(orig)
}

fn range<'a>(
    reader: &mut Reader<'a>,
    node: &Node<'a>,
    what: &str,
    max: u16,
    names: &[(&str, u16)],
) -> Option<NumberRange> {
    reader.parsed(node, what, |text| {
        if let Some((_, value)) = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            return Ok(NumberRange { first: *value, last: *value });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let value =
            |text: &str| number(text.trim()).and_then(|n| u16::try_from(n).ok()).filter(|n| *n <= max);
        match (value(first), value(last)) {
            (Some(first), Some(last)) if first <= last => Ok(NumberRange { first, last }),
            (Some(_), Some(_)) => Err(ValueError::new(format!("range `{text}` runs backwards"))),
            _ => Err(ValueError::new(format!(
                "{what} must be a number or a range from 0 to {max}, not `{text}`"
            ))),
        }
    })
}

const PER: [(&str, LimitPer); 2] = [("src", LimitPer::Src), ("dst", LimitPer::Dst)];

fn limit<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<Limit> {
    let (mut burst, mut per) = (5, None);
    let rate = match &node.value {
        Value::Scalar(_) => reader.parsed(node, "`limit`", str::parse),
        Value::Map(_) | Value::List(_) => {
            let fields = reader.fields(node, "`limit`", &["rate", "burst", "per"])?;
            if let Some(node) = fields.get("burst") {
                burst = reader.number(node, "`burst`", 1, 1 << 20)?;
            }
            per = fields.get("per").and_then(|node| reader.keyword(node, "`per`", &PER));
            let rate = fields.require(reader, "`limit`", "rate")?;
            reader.parsed(rate, "`rate`", str::parse)
        }
    };
    Some(Limit { rate: rate?, burst, per })
}

fn connlimit<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<ConnLimit> {
    let fields = reader.fields(node, "`connlimit`", &["above", "per"])?;
    let per = fields.get("per").and_then(|node| reader.keyword(node, "`per`", &PER));
    let above = fields.require(reader, "`connlimit`", "above")?;
    let above = reader.number(above, "`above`", 0, u32::MAX)?;
    Some(ConnLimit { above, per })
}
