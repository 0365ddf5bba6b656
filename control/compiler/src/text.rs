//! A rule as the policy language has it, in one line: what `show rules` prints.

use std::fmt::{Display, Write};

use sluice_config::policy::{
    Action, AddrKind, AddrMatch, AssignedHelper, CtDir, CtState, CtStatus, CtTimeout, CtZone, IcmpCode,
    IcmpMatch, Icmpv6Code, LimitPer, MarkMatch, MarkSet, Masquerade, Matches, Nat64, NatMapping, NatTarget,
    Notrack, NumberRange, PortMatch, Reject, RejectReason, Rule,
};
use sluice_config::{IpRange, Spanned};
use sluice_wire::Family;

/// Matches and action of a rule, without name and comment: `proto: tcp, dport: [22, 80-90], action: accept`.
pub(crate) fn rule(rule: &Rule) -> String {
    let mut fields = Fields::default();
    matches(&rule.matches, &mut fields);
    let mut unwanted = Fields::default();
    matches(rule.unwanted(), &mut unwanted);
    if !unwanted.text.is_empty() {
        fields.put("not", format_args!("{{{}}}", unwanted.text));
    }
    match &rule.action.value {
        plain @ (Action::Accept | Action::Drop | Action::Return | Action::Count) => {
            fields.put("action", plain.name());
        }
        other => fields.put("action", action(other)),
    }
    fields.text
}

#[derive(Default)]
struct Fields {
    text: String,
}

impl Fields {
    fn key(&mut self, key: &str) {
        let separator = if self.text.is_empty() { "" } else { ", " };
        for part in [separator, key, ": "] {
            self.text.push_str(part);
        }
    }

    fn put(&mut self, key: &str, value: impl Display) {
        self.key(key);
        push(&mut self.text, value);
    }

    /// `show` writes one value. There are as many lists as rules have matches, so no text is made on the way.
    fn list<T>(&mut self, key: &str, list: Option<&Vec<T>>, show: impl Fn(&T, &mut String)) {
        let Some(list) = list else { return };
        self.key(key);
        if let [one] = list.as_slice() {
            return show(one, &mut self.text);
        }
        self.text.push('[');
        for (n, value) in list.iter().enumerate() {
            self.text.push_str(if n == 0 { "" } else { ", " });
            show(value, &mut self.text);
        }
        self.text.push(']');
    }
}

/// Writes a value at the end of a text.
fn push(text: &mut String, value: impl Display) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{value}");
}

fn matches(m: &Matches, out: &mut Fields) {
    out.list("in", m.in_interface.as_ref(), |name, out| out.push_str(name.name()));
    out.list("out", m.out_interface.as_ref(), |name, out| out.push_str(name.name()));
    out.list("to", m.to.as_ref(), |kind, out| out.push_str(address_kind(*kind)));
    out.list("origin", m.origin.as_ref(), |kind, out| out.push_str(address_kind(*kind)));
    out.list("family", m.family.as_ref(), |family, out| out.push_str(family_name(*family)));
    out.list("proto", m.proto.as_ref(), |protocol, out| push(out, protocol));
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
    out.list("ct", m.ct.as_ref(), |state, out| out.push_str(ct_state(*state)));
    out.list("ct_dir", m.ct_dir.as_ref(), |dir, out| {
        out.push_str(match dir {
            CtDir::Original => "original",
            CtDir::Reply => "reply",
        });
    });
    out.list("ct_helper", m.ct_helper.as_ref(), |helper, out| out.push_str(helper.name()));
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
    out.list("ct_status", m.ct_status.as_ref(), |status, out| out.push_str(ct_status(*status)));
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
                fields.put("port", ports);
            }
            mapping(how.mapping, &mut fields);
            format!("{{{name}: {{{}}}}}", fields.text)
        }
        Action::Nat64(Nat64 { to, ports, prefix }) => {
            let mut fields = Fields::default();
            fields.put("to", quoted(&range(*to)));
            fields.put("port", ports);
            fields.put("prefix", quoted(&format!("{}/{}", prefix.address(), prefix.length())));
            format!("{{{name}: {{{}}}}}", fields.text)
        }
        Action::Redirect(Some(ports)) => format!("{{{name}: {ports}}}"),
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

fn address(entry: &Spanned<AddrMatch>, out: &mut String) {
    match &entry.value {
        AddrMatch::Prefix(prefix) if prefix.is_host() => push_quoted(out, prefix.family(), prefix.addr()),
        AddrMatch::Prefix(prefix) => push_quoted(out, prefix.family(), prefix),
        AddrMatch::Range(range) => push_quoted(out, range.family(), range),
        AddrMatch::Set(name) => set(name, out),
    }
}

fn set(name: &str, out: &mut String) {
    for part in ["\"@", name, "\""] {
        out.push_str(part);
    }
}

/// As [`quoted`], for addresses.
fn push_quoted(out: &mut String, family: Family, value: impl Display) {
    let quote = if family == Family::V6 { "\"" } else { "" };
    out.push_str(quote);
    push(out, value);
    out.push_str(quote);
}

/// Colons would be taken for YAML's.
fn quoted(text: &str) -> String {
    if text.contains(':') { format!("\"{text}\"") } else { text.to_owned() }
}

fn port(entry: &Spanned<PortMatch>, out: &mut String) {
    match &entry.value {
        PortMatch::Range(range) => push(out, range),
        PortMatch::Set(name) => set(name, out),
    }
}

fn number(range: &NumberRange, out: &mut String) {
    push(out, range.first);
    if range.last != range.first {
        out.push('-');
        push(out, range.last);
    }
}

fn icmp(entry: &IcmpMatch, out: &mut String) {
    push(out, entry.kind);
    if let Some(code) = entry.code {
        out.push('/');
        push(out, code);
    }
}

fn mark(entry: &MarkMatch, out: &mut String) {
    out.push_str(&masked(entry.value, entry.mask));
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
        fields.put("to", quoted(&range(to)));
    }
    if let Some(prefix) = target.prefix {
        fields.put("prefix", quoted(&prefix.to_string()));
    }
    if let Some(ports) = target.ports {
        fields.put("port", ports);
    }
    mapping(target.mapping, &mut fields);
    if let Some(blocks) = target.blocks {
        fields.put("blocks", format!("{{of: {}, size: {}}}", quoted(&blocks.of.to_string()), blocks.size));
    }
    fields.text
}

fn range(range: IpRange) -> String {
    if range.first() == range.last() { range.first().to_string() } else { range.to_string() }
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
