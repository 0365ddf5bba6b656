//! The action half of a rule.

use sluice_wire::{Family, Protocol};

use super::matches::{helper, value_and_mask};
use super::{nat, nat64};
use crate::decode::{Reader, nearest, number};
use crate::diagnostics::ValueError;
use crate::policy::action::{
    Action, AssignedHelper, CtTimeout, CtZone, Helper, IcmpCode, Icmpv6Code, Log, MarkSet, Masquerade,
    NatTarget, Notrack, Reject, RejectReason,
};
use crate::policy::matches::{AddrMatch, Matches};
use crate::source::Spanned;
use crate::system::TimeoutOverrides;
use crate::yaml::{Key, Node, Value};

pub(in crate::policy) const NAMES: [&str; 19] = [
    "accept",
    "drop",
    "reject",
    "jump",
    "goto",
    "return",
    "notrack",
    "helper",
    "snat",
    "masquerade",
    "nat64",
    "dnat",
    "redirect",
    "zone",
    "ct_timeout",
    "mark",
    "ct_mark",
    "log",
    "count",
];

/// Reads `action:`.
pub(super) fn action<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<Spanned<Action>> {
    match &node.value {
        Value::Map(entries) => match entries.as_slice() {
            [(key, value)] => {
                // Of an action that names something, its place is that name, which is what may be wrong with it later.
                let action = with_value(reader, key, value)?;
                let named = matches!(
                    action,
                    Action::Jump(_) | Action::Goto(_) | Action::CtTimeout(CtTimeout::Named(_))
                );
                Some(Spanned::new(action, if named { value.span } else { key.span }))
            }
            [] => {
                reader.error(node.span, "`action` is an empty map");
                None
            }
            [_, (second, _), ..] => {
                reader.error(second.span, format!("one action a rule: `{}` is a second one", second.text));
                None
            }
        },
        Value::Scalar(_) | Value::List(_) => word(reader, node).map(|action| Spanned::new(action, node.span)),
    }
}

/// What an action asks of its packets by itself, as in nft: a reset answers TCP only; an ICMP error and a new address
/// are of the packet's own family; blocks of ports are their subscribers'.
pub(super) fn imply(action: &Spanned<Action>, matches: &mut Matches) {
    if let Action::Snat(NatTarget { blocks: Some(blocks), .. }) = &action.value {
        let subscribers = || vec![Spanned::new(AddrMatch::Range(blocks.of), action.span)];
        matches.src.get_or_insert_with(subscribers);
    }
    let family = match &action.value {
        Action::Reject(Reject::TcpReset) => {
            matches.proto.get_or_insert_with(|| vec![Protocol::TCP]);
            return;
        }
        Action::Nat64(wanted) => return nat64::imply(wanted, action.span, matches),
        Action::Reject(Reject::Icmp(_)) => Family::V4,
        Action::Reject(Reject::Icmpv6(_)) => Family::V6,
        Action::Snat(NatTarget { addr: Some(addr), .. })
        | Action::Dnat(NatTarget { addr: Some(addr), .. }) => addr.family(),
        Action::Snat(NatTarget { prefix: Some(prefix), .. })
        | Action::Dnat(NatTarget { prefix: Some(prefix), .. }) => prefix.family(),
        _ => return,
    };
    matches.family = Some(vec![family]);
}

/// An action without a value.
fn word<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<Action> {
    let text = reader.text(node, "`action`")?;
    let action = match text {
        "accept" => Action::Accept,
        "drop" => Action::Drop,
        "reject" => Action::Reject(Reject::Reason(RejectReason::PortUnreachable)),
        "return" => Action::Return,
        "notrack" => Action::Notrack(Notrack::default()),
        "masquerade" => Action::Masquerade(Masquerade::default()),
        "redirect" => Action::Redirect(None),
        "log" => Action::Log(Log::default()),
        "count" => Action::Count,
        _ if NAMES.contains(&text) => {
            reader.error(node.span, format!("`{text}` needs a value: {{{text}: …}}"));
            return None;
        }
        _ => {
            reader.error_with(
                node.span,
                format!("unknown action `{text}`"),
                nearest(text, NAMES.into_iter()),
            );
            return None;
        }
    };
    Some(action)
}

/// `{action: value}`.
fn with_value<'a>(reader: &mut Reader<'a>, key: &Key<'a>, node: &Node<'a>) -> Option<Action> {
    let what = format!("`{}`", key.text);
    let name = |reader: &mut Reader<'a>| reader.text(node, "a chain").map(ToString::to_string);
    match &*key.text {
        "reject" => reject(reader, node).map(Action::Reject),
        "jump" => name(reader).map(Action::Jump),
        "goto" => name(reader).map(Action::Goto),
        "helper" => assigned_helper(reader, node).map(Action::Helper),
        "snat" => nat::source(reader, node, &what).map(Action::Snat),
        "nat64" => nat64::nat64(reader, node, &what).map(Action::Nat64),
        "dnat" => nat::destination(reader, node, &what).map(Action::Dnat),
        "masquerade" => nat::masquerade(reader, node, &what).map(Action::Masquerade),
        "redirect" => match &node.value {
            Value::Scalar(_) => reader.parsed(node, &what, str::parse).map(Some).map(Action::Redirect),
            Value::Map(_) | Value::List(_) => nat::ports(reader, node, &what).map(Action::Redirect),
        },
        "zone" => zone(reader, node).map(Action::Zone),
        "ct_timeout" => ct_timeout(reader, node).map(Action::CtTimeout),
        "mark" => match copied(node, "ct_mark") {
            Some(mask) => reader.parsed(node, "a mark", |_| mask).map(Action::RestoreMark),
            None => mark(reader, node).map(Action::Mark),
        },
        "ct_mark" => match copied(node, "mark") {
            Some(mask) => reader.parsed(node, "a mark", |_| mask).map(Action::SaveMark),
            None => mark(reader, node).map(Action::CtMark),
        },
        "log" => log(reader, node).map(Action::Log),
        "notrack" => notrack(reader, node).map(Action::Notrack),
        "accept" | "drop" | "return" | "count" => {
            reader.error(key.span, format!("`{0}` takes no value; write `action: {0}`", key.text));
            None
        }
        _ => {
            let hint = nearest(&key.text, NAMES.into_iter());
            reader.error_with(key.span, format!("unknown action `{}`", key.text), hint);
            None
        }
    }
}

/// `ftp`, or `{name: ftp, loose: true}`.
fn assigned_helper<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<AssignedHelper> {
    let Value::Map(_) = &node.value else {
        return helper(reader, node).map(|helper| AssignedHelper { helper, loose: false });
    };
    let fields = reader.fields(node, "`helper`", &["name", "loose"])?;
    let name = fields.require(reader, "`helper`", "name")?;
    let helper = helper(reader, name)?;
    let loose = match fields.get("loose") {
        Some(node) => reader.boolean(node, "`loose`")?,
        None => false,
    };
    if loose && helper != Helper::Ftp {
        reader.error(node.span, format!("`loose` is of `ftp` alone: `{}` has no such choice", helper.name()));
        return None;
    }
    Some(AssignedHelper { helper, loose })
}

pub(in crate::policy) const REASONS: [(&str, Reject); 5] = [
    ("tcp-reset", Reject::TcpReset),
    ("port-unreachable", Reject::Reason(RejectReason::PortUnreachable)),
    ("host-unreachable", Reject::Reason(RejectReason::HostUnreachable)),
    ("no-route", Reject::Reason(RejectReason::NoRoute)),
    ("admin-prohibited", Reject::Reason(RejectReason::AdminProhibited)),
];

pub(in crate::policy) const ICMP_CODES: [(&str, Reject); 7] = [
    ("net-unreachable", Reject::Icmp(IcmpCode::NetUnreachable)),
    ("host-unreachable", Reject::Icmp(IcmpCode::HostUnreachable)),
    ("prot-unreachable", Reject::Icmp(IcmpCode::ProtUnreachable)),
    ("port-unreachable", Reject::Icmp(IcmpCode::PortUnreachable)),
    ("net-prohibited", Reject::Icmp(IcmpCode::NetProhibited)),
    ("host-prohibited", Reject::Icmp(IcmpCode::HostProhibited)),
    ("admin-prohibited", Reject::Icmp(IcmpCode::AdminProhibited)),
];

pub(in crate::policy) const ICMPV6_CODES: [(&str, Reject); 6] = [
    ("no-route", Reject::Icmpv6(Icmpv6Code::NoRoute)),
    ("admin-prohibited", Reject::Icmpv6(Icmpv6Code::AdminProhibited)),
    ("addr-unreachable", Reject::Icmpv6(Icmpv6Code::AddrUnreachable)),
    ("port-unreachable", Reject::Icmpv6(Icmpv6Code::PortUnreachable)),
    ("policy-fail", Reject::Icmpv6(Icmpv6Code::PolicyFail)),
    ("reject-route", Reject::Icmpv6(Icmpv6Code::RejectRoute)),
];

fn reject<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<Reject> {
    let Value::Map(entries) = &node.value else { return reader.keyword(node, "`reject`", &REASONS) };
    match entries.as_slice() {
        [(key, node)] if key.text == "icmp" => reader.keyword(node, "`icmp`", &ICMP_CODES),
        [(key, node)] if key.text == "icmpv6" => reader.keyword(node, "`icmpv6`", &ICMPV6_CODES),
        [(key, _)] => {
            reader.unknown_key(key, "`reject`", &["icmp", "icmpv6"]);
            None
        }
        _ => {
            reader.error(node.span, "`reject` takes one of `icmp` and `icmpv6`");
            None
        }
    }
}

/// `{related: true}`.
fn notrack<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<Notrack> {
    let fields = reader.fields(node, "`notrack`", &["related"])?;
    let related = fields.require(reader, "`notrack`", "related")?;
    Some(Notrack { related: reader.boolean(related, "`related`")? })
}

/// `N`, `{original: N}` or `{reply: N}`.
fn zone<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<CtZone> {
    let number = |reader: &mut Reader<'a>, node: &Node<'a>| reader.number16(node, "a zone", 0, u16::MAX);
    let Value::Map(entries) = &node.value else { return number(reader, node).map(CtZone::Both) };
    match entries.as_slice() {
        [(key, node)] if key.text == "original" => number(reader, node).map(CtZone::Original),
        [(key, node)] if key.text == "reply" => number(reader, node).map(CtZone::Reply),
        [(key, _)] => {
            reader.unknown_key(key, "`zone`", &["original", "reply"]);
            None
        }
        _ => {
            reader.error(node.span, "`zone` takes one of `original` and `reply`");
            None
        }
    }
}

/// A name of `timeouts:`, or a map of timeouts.
fn ct_timeout<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<CtTimeout> {
    match &node.value {
        Value::Map(_) => TimeoutOverrides::decode(reader, node, "`ct_timeout`").map(CtTimeout::Own),
        Value::Scalar(_) | Value::List(_) => {
            reader.text(node, "`ct_timeout`").map(|name| CtTimeout::Named(name.to_string()))
        }
    }
}

/// `NAME` or `NAME/MASK`: the bits that are taken over from the other mark; `None` where the value is no such name.
fn copied(node: &Node<'_>, name: &str) -> Option<Result<u32, ValueError>> {
    let Value::Scalar(scalar) = &node.value else { return None };
    match scalar.text.strip_prefix(name)? {
        "" => Some(Ok(u32::MAX)),
        rest => {
            let mask = rest.strip_prefix('/').and_then(|mask| number(mask.trim()));
            let error =
                || ValueError::new(format!("`{}` is no mark: `{name}` or `{name}/MASK`", scalar.text));
            Some(mask.ok_or_else(error))
        }
    }
}

fn mark<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<MarkSet> {
    reader.parsed(node, "a mark", |text| value_and_mask(text).map(|(value, mask)| MarkSet { value, mask }))
}

/// nft's longest prefix.
const MAX_PREFIX: usize = 127;

fn log<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<Log> {
    let fields = reader.fields(node, "`log`", &["prefix", "limit"])?;
    let mut log = Log::default();
    if let Some(node) = fields.get("prefix") {
        let prefix = reader.text(node, "`prefix`")?;
        if prefix.len() > MAX_PREFIX || prefix.chars().any(char::is_control) {
            reader.error(
                node.span,
                format!("`prefix` must be at most {MAX_PREFIX} bytes without control characters"),
            );
            return None;
        }
        log.prefix = prefix.to_string();
    }
    if let Some(node) = fields.get("limit") {
        log.limit = Some(reader.parsed(node, "`limit`", str::parse)?);
    }
    Some(log)
}
