//! A flow in the line format of `conntrack -L` (libnetfilter_conntrack's default output), so that scripts written for
//! conntrack-tools go on working.

use std::fmt::Write as _;

use sluice_api::{Flow, FlowTuple};

/// What `-o` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// `extended`: the network protocol's name and number first.
    pub(crate) extended: bool,
    /// `id`: the flow's id last.
    pub(crate) id: bool,
    /// `timestamp`: when the flow began, as `[start=...]` in seconds since 1970.
    pub(crate) timestamp: bool,
}

/// One line, no line end. `now`: seconds since 1970, for `timestamp`.
pub(crate) fn line(flow: &Flow, style: Style, now: u64) -> String {
    let mut out = String::with_capacity(200);
    // Writing to a String cannot fail.
    let _ = write_line(&mut out, flow, style, now);
    out
}

fn write_line(out: &mut String, flow: &Flow, style: Style, now: u64) -> std::fmt::Result {
    let has = |status: &str| flow.status.iter().any(|s| s == status);
    if style.extended {
        let (name, number) = if flow.family == "ipv6" { ("ipv6", 10) } else { ("ipv4", 2) };
        write!(out, "{name:<8} {number} ")?;
    }
    write!(out, "{:<8} {} {} ", flow.proto, flow.protonum, flow.timeout)?;
    if let Some(state) = &flow.state {
        write!(out, "{state} ")?;
    }
    write_tuple(out, &flow.original, "zone-orig")?;
    if !has("seen-reply") {
        out.push_str("[UNREPLIED] ");
    }
    write_tuple(out, &flow.reply, "zone-reply")?;
    if has("assured") {
        out.push_str("[ASSURED] ");
    }
    write!(out, "mark={} ", flow.mark)?;
    if let Some(zone) = flow.zone.filter(|z| *z > 0) {
        write!(out, "zone={zone} ")?;
    }
    if let Some(age) = flow.age {
        write!(out, "delta-time={age} ")?;
        if style.timestamp {
            write!(out, "[start={}] ", now.saturating_sub(age))?;
        }
    }
    out.push_str("use=1");
    if style.id {
        write!(out, " id={}", flow.id)?;
    }
    Ok(())
}

fn write_tuple(out: &mut String, t: &FlowTuple, zone: &str) -> std::fmt::Result {
    write!(out, "src={} dst={} ", t.src, t.dst)?;
    if let (Some(sport), Some(dport)) = (t.sport, t.dport) {
        write!(out, "sport={sport} dport={dport} ")?;
    }
    if let (Some(kind), Some(code), Some(id)) = (t.icmp_type, t.icmp_code, t.icmp_id) {
        write!(out, "type={kind} code={code} id={id} ")?;
    }
    if let (Some(src), Some(dst)) = (t.srckey, t.dstkey) {
        write!(out, "srckey=0x{src:x} dstkey=0x{dst:x} ")?;
    }
    if let Some(number) = t.zone {
        write!(out, "{zone}={number} ")?;
    }
    if let (Some(packets), Some(bytes)) = (t.packets, t.bytes) {
        write!(out, "packets={packets} bytes={bytes} ")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(src: &str, dst: &str, sport: u16, dport: u16) -> FlowTuple {
        let (sport, dport) = (Some(sport), Some(dport));
        FlowTuple { src: src.into(), dst: dst.into(), sport, dport, ..FlowTuple::default() }
    }

    /// The expected lines are what conntrack v1.4.7 printed for such flows.
    #[test]
    fn lines_are_those_of_conntrack_tools() {
        let tcp = Flow {
            family: "ipv4".into(),
            proto: "tcp".into(),
            protonum: 6,
            timeout: 431_999,
            state: Some("ESTABLISHED".into()),
            original: tuple("10.1.0.2", "10.2.0.2", 1, 2),
            reply: tuple("10.2.0.2", "10.1.0.2", 2, 1),
            status: vec!["seen-reply".into(), "assured".into()],
            id: 77,
            ..Flow::default()
        };
        let style = Style { extended: true, id: true, timestamp: false };
        assert_eq!(
            line(&tcp, style, 0),
            "ipv4     2 tcp      6 431999 ESTABLISHED src=10.1.0.2 dst=10.2.0.2 sport=1 dport=2 \
             src=10.2.0.2 dst=10.1.0.2 sport=2 dport=1 [ASSURED] mark=0 use=1 id=77"
        );
        let unknown = Flow {
            family: "ipv4".into(),
            proto: "unknown".into(),
            protonum: 123,
            timeout: 499,
            original: FlowTuple {
                src: "1.2.3.4".into(),
                dst: "5.6.7.8".into(),
                packets: Some(0),
                bytes: Some(0),
                ..FlowTuple::default()
            },
            reply: FlowTuple {
                src: "5.6.7.8".into(),
                dst: "1.2.3.4".into(),
                packets: Some(0),
                bytes: Some(0),
                ..FlowTuple::default()
            },
            mark: 7,
            zone: Some(3),
            age: Some(0),
            ..Flow::default()
        };
        assert_eq!(
            line(&unknown, Style::default(), 0),
            "unknown  123 499 src=1.2.3.4 dst=5.6.7.8 packets=0 bytes=0 [UNREPLIED] \
             src=5.6.7.8 dst=1.2.3.4 packets=0 bytes=0 mark=7 zone=3 delta-time=0 use=1"
        );
        let icmp = Flow {
            family: "ipv6".into(),
            proto: "icmpv6".into(),
            protonum: 58,
            timeout: 29,
            original: FlowTuple {
                src: "::1".into(),
                dst: "::1".into(),
                icmp_type: Some(128),
                icmp_code: Some(0),
                icmp_id: Some(14946),
                ..FlowTuple::default()
            },
            reply: FlowTuple {
                src: "::1".into(),
                dst: "::1".into(),
                icmp_type: Some(129),
                icmp_code: Some(0),
                icmp_id: Some(14946),
                ..FlowTuple::default()
            },
            status: vec!["seen-reply".into()],
            ..Flow::default()
        };
        assert_eq!(
            line(&icmp, Style { extended: true, ..Style::default() }, 0),
            "ipv6     10 icmpv6   58 29 src=::1 dst=::1 type=128 code=0 id=14946 src=::1 dst=::1 type=129 code=0 id=14946 mark=0 use=1"
        );
    }
}
