//! A rule as the policy language has it, in one line: what `show rules` prints.

use std::fmt::{Display, Write};

use sluice_config::Spanned;
use sluice_config::policy::{
    Action, AddrKind, AddrMatch, AssignedHelper, CtDir, CtState, CtStatus, CtTimeout, CtZone, IcmpCode,
    IcmpMatch, Icmpv6Code, LimitPer, MarkMatch, MarkSet, Masquerade, Matches, NatMapping, NatTarget, Notrack,
    NumberRange, PortMatch, PortRange, Reject, RejectReason, Rule,
};
use sluice_wire::Family;

/// Matches and action of a rule, without name and comment: `proto: tcp, dport: [22, 80-90], action: accept`.
pub(crate) fn rule(rule: &Rule) -> String {
    let mut fields = Fields::default();
    matches(&rule.matches, &mut fields);
    let mut unwanted = Fields::default();
    matches(&rule.not, &mut unwanted);
    if !unwanted.text.is_empty() {
        fields.put("not", format_args!("{{{}}}", unwanted.text));
    }
    fields.put("action", action(&rule.action.value));
    fields.text
}

#[derive(Default)]
struct Fields {
    text: String,
}

impl Fields {
    fn put(&mut self, key: &str, value: impl Display) {
        let separator = if self.text.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(self.text, "{separator}{key}: {value}");
    }

    fn list<T>(&mut self, key: &str, list: Option<&Vec<T>>, show: impl Fn(&T) -> String) {
        let Some(list) = list else { return };
        let shown: Vec<String> = list.iter().map(show).collect();
        match shown.as_slice() {
            [one] => self.put(key, one),
            several => self.put(key, format_args!("[{}]", several.join(", "))),
        }
    }
}

fn matches(m: &Matches, out: &mut Fields) {
    out.list("in", m.in_interface.as_ref(), |name| name.name().to_owned());
    out.list("out", m.out_interface.as_ref(), |name| name.name().to_owned());
    out.list("to", m.to.as_ref(), |kind| address_kind(*kind).to_owned());
    out.list("origin", m.origin.as_ref(), |kind| address_kind(*kind).to_owned());
    out.list("family", m.family.as_ref(), |family| family_name(*family).to_owned());
    out.list("proto", m.proto.as_ref(), ToString::to_string);
    out.list("src", m.src.as_ref(), address);
    out.list("dst", m.dst.as_ref(), address);
    out.list("sport", m.sport.as_ref(), port);
    out.list("dport", m.dport.as_ref(), port);
    if let Some(flags) = m.tcp_flags {
        out.put("tcp_flags", format_args!("\"{}/{}\"", flag_names(flags.set), flag_names(flags.mask)));
    }
    out.list("icmp", m.icmp.as_ref(), icmp);
    out.list("icmpv6", m.icmpv6.as_ref(), icmp);
    tracking(m, out);
    if let Some(fragment) = m.fragment {
        out.put("fragment", fragment);
    }
    out.list("length", m.length.as_ref(), number);
    out.list("ttl", m.ttl.as_ref(), number);
    out.list("dscp", m.dscp.as_ref(), number);
    if let Some(limit) = m.limit {
        let per = per(limit.per);
        out.put("limit", format_args!("{{rate: {}, burst: {}{per}}}", limit.rate, limit.burst));
    }
    if let Some(limit) = m.connlimit {
        out.put("connlimit", format_args!("{{above: {}{}}}", limit.above, per(limit.per)));
    }
}

fn tracking(m: &Matches, out: &mut Fields) {
    out.list("ct", m.ct.as_ref(), |state| ct_state(*state).to_owned());
    out.list("ct_dir", m.ct_dir.as_ref(), |dir| match dir {
        CtDir::Original => "original".to_owned(),
        CtDir::Reply => "reply".to_owned(),
    });
    out.list("ct_helper", m.ct_helper.as_ref(), |helper| helper.name().to_owned());
    out.list("ct_mark", m.ct_mark.as_ref(), mark);
    out.list("mark", m.mark.as_ref(), mark);
    if let Some(original) = &m.ct_orig {
        let mut fields = Fields::default();
        fields.list("src", original.src.as_ref(), address);
        fields.list("dst", original.dst.as_ref(), address);
        fields.list("sport", original.sport.as_ref(), port);
        fields.list("dport", original.dport.as_ref(), port);
        out.put("ct_orig", format_args!("{{{}}}", fields.text));
    }
    out.list("ct_status", m.ct_status.as_ref(), |status| ct_status(*status).to_owned());
}

fn action(action: &Action) -> String {
    let name = action.name();
    match action {
        Action::Reject(how) => reject(*how),
        Action::Notrack(Notrack { related: true }) => format!("{{{name}: {{related: true}}}}"),
        Action::Jump(chain) | Action::Goto(chain) => format!("{{{name}: {chain}}}"),
        Action::Helper(AssignedHelper { helper, loose: false }) => format!("{{{name}: {}}}", helper.name()),
        Action::Helper(AssignedHelper { helper, loose: true }) => {
            format!("{{{name}: {{name: {}, loose: true}}}}", helper.name())
        }
        Action::Snat(to) | Action::Dnat(to) => format!("{{{name}: {{{}}}}}", nat(to)),
        Action::Masquerade(how) if *how != Masquerade::default() => {
            let mut fields = Fields::default();
            if let Some(ports) = how.ports {
                fields.put("port", port_range(ports));
            }
            mapping(how.mapping, &mut fields);
            format!("{{{name}: {{{}}}}}", fields.text)
        }
        Action::Redirect(Some(ports)) => format!("{{{name}: {}}}", port_range(*ports)),
        Action::Zone(CtZone::Both(id)) => format!("{{{name}: {id}}}"),
        Action::Zone(CtZone::Original(id)) => format!("{{{name}: {{original: {id}}}}}"),
        Action::Zone(CtZone::Reply(id)) => format!("{{{name}: {{reply: {id}}}}}"),
        Action::CtTimeout(CtTimeout::Named(timeouts)) => format!("{{{name}: {timeouts}}}"),
        Action::CtTimeout(CtTimeout::Own(timeouts)) => format!("{{{name}: {timeouts}}}"),
        Action::SaveMark(u32::MAX) => "{ct_mark: mark}".to_owned(),
        Action::SaveMark(mask) => format!("{{ct_mark: mark/0x{mask:x}}}"),
        Action::RestoreMark(u32::MAX) => "{mark: ct_mark}".to_owned(),
        Action::RestoreMark(mask) => format!("{{mark: ct_mark/0x{mask:x}}}"),
        Action::Mark(set) | Action::CtMark(set) => format!("{{{name}: {}}}", mark_set(*set)),
        Action::Log(log) => {
            let limit = log.limit.map_or_else(String::new, |rate| format!(", limit: {rate}"));
            format!("{{{name}: {{prefix: {:?}{limit}}}}}", log.prefix)
        }
        _ => name.to_owned(),
    }
}

fn reject(how: Reject) -> String {
    match how {
        Reject::Reason(RejectReason::PortUnreachable) => "reject".to_owned(),
        Reject::TcpReset => "{reject: tcp-reset}".to_owned(),
        Reject::Reason(RejectReason::HostUnreachable) => "{reject: host-unreachable}".to_owned(),
        Reject::Reason(RejectReason::NoRoute) => "{reject: no-route}".to_owned(),
        Reject::Reason(RejectReason::AdminProhibited) => "{reject: admin-prohibited}".to_owned(),
        Reject::Icmp(code) => format!("{{reject: {{icmp: {}}}}}", icmp_code(code)),
        Reject::Icmpv6(code) => format!("{{reject: {{icmpv6: {}}}}}", icmpv6_code(code)),
    }
}

const fn icmp_code(code: IcmpCode) -> &'static str {
    match code {
        IcmpCode::NetUnreachable => "net-unreachable",
        IcmpCode::HostUnreachable => "host-unreachable",
        IcmpCode::ProtUnreachable => "prot-unreachable",
        IcmpCode::PortUnreachable => "port-unreachable",
        IcmpCode::NetProhibited => "net-prohibited",
        IcmpCode::HostProhibited => "host-prohibited",
        IcmpCode::AdminProhibited => "admin-prohibited",
    }
}

const fn icmpv6_code(code: Icmpv6Code) -> &'static str {
    match code {
        Icmpv6Code::NoRoute => "no-route",
        Icmpv6Code::AdminProhibited => "admin-prohibited",
        Icmpv6Code::AddrUnreachable => "addr-unreachable",
        Icmpv6Code::PortUnreachable => "port-unreachable",
        Icmpv6Code::PolicyFail => "policy-fail",
        Icmpv6Code::RejectRoute => "reject-route",
    }
}

fn address(entry: &Spanned<AddrMatch>) -> String {
    match &entry.value {
        AddrMatch::Prefix(prefix) if prefix.is_host() => quoted(&prefix.addr().to_string()),
        AddrMatch::Prefix(prefix) => quoted(&prefix.to_string()),
        AddrMatch::Range(range) => quoted(&range.to_string()),
        AddrMatch::Set(name) => format!("\"@{name}\""),
    }
}

/// Colons would be taken for YAML's.
fn quoted(text: &str) -> String {
    if text.contains(':') { format!("\"{text}\"") } else { text.to_owned() }
}

fn port(entry: &Spanned<PortMatch>) -> String {
    match &entry.value {
        PortMatch::Range(range) => port_range(*range),
        PortMatch::Set(name) => format!("\"@{name}\""),
    }
}

fn port_range(range: PortRange) -> String {
    span(range.first, range.last)
}

fn number(range: &NumberRange) -> String {
    span(range.first, range.last)
}

fn span(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn icmp(entry: &IcmpMatch) -> String {
    match entry.code {
        Some(code) => format!("{}/{code}", entry.kind),
        None => entry.kind.to_string(),
    }
}

fn mark(entry: &MarkMatch) -> String {
    masked(entry.value, entry.mask)
}

fn mark_set(set: MarkSet) -> String {
    masked(set.value, set.mask)
}

fn masked(value: u32, mask: u32) -> String {
    if mask == u32::MAX { value.to_string() } else { format!("{value:#x}/{mask:#x}") }
}

fn nat(target: &NatTarget) -> String {
    let mut fields = Fields::default();
    if let Some(to) = target.addr {
        let one = to.first() == to.last();
        fields.put("to", quoted(&if one { to.first().to_string() } else { to.to_string() }));
    }
    if let Some(prefix) = target.prefix {
        fields.put("prefix", quoted(&prefix.to_string()));
    }
    if let Some(ports) = target.ports {
        fields.put("port", port_range(ports));
    }
    mapping(target.mapping, &mut fields);
    if let Some(blocks) = target.blocks {
        fields.put("blocks", format!("{{of: {}, size: {}}}", quoted(&blocks.of.to_string()), blocks.size));
    }
    fields.text
}

/// Said where it is not what goes without saying.
fn mapping(mapping: NatMapping, fields: &mut Fields) {
    if mapping == NatMapping::EndpointIndependent {
        fields.put("mapping", "endpoint-independent".to_owned());
    }
}

const fn per(per: Option<LimitPer>) -> &'static str {
    match per {
        None => "",
        Some(LimitPer::Src) => ", per: src",
        Some(LimitPer::Dst) => ", per: dst",
    }
}

pub(crate) fn flag_names(bits: u8) -> String {
    const NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
    let on = NAMES.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 != 0).map(|(_, name)| *name);
    match bits {
        0 => "none".to_owned(),
        _ => on.collect::<Vec<_>>().join(","),
    }
}

pub(crate) const fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

const fn address_kind(kind: AddrKind) -> &'static str {
    match kind {
        AddrKind::Local => "local",
        AddrKind::Broadcast => "broadcast",
        AddrKind::Multicast => "multicast",
        AddrKind::Routed => "routed",
    }
}

const fn ct_state(state: CtState) -> &'static str {
    match state {
        CtState::New => "new",
        CtState::Established => "established",
        CtState::Related => "related",
        CtState::Invalid => "invalid",
        CtState::Untracked => "untracked",
        CtState::Snat => "snat",
        CtState::Dnat => "dnat",
    }
}

const fn ct_status(status: CtStatus) -> &'static str {
    match status {
        CtStatus::Assured => "assured",
        CtStatus::SeenReply => "seen-reply",
        CtStatus::Expected => "expected",
        CtStatus::Confirmed => "confirmed",
        CtStatus::Snat => "snat",
        CtStatus::Dnat => "dnat",
    }
}
