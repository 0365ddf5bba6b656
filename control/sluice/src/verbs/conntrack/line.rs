//! A flow, and what happens to one, in the line formats of conntrack-tools (libnetfilter_conntrack's default output, and
//! `-o save`), so that scripts written for them go on working.

use std::fmt::{Result, Write as _};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sluice_api::{EventKind, Flow, FlowEvent, FlowTuple};

/// What `-o` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// `extended`: the network protocol's name and number first.
    pub(super) extended: bool,
    /// `id`: the flow's id last.
    pub(super) id: bool,
    /// `timestamp`: the time of an event in front of it.
    pub(super) timestamp: bool,
    /// `ktimestamp`: when the flow began, and ended.
    pub(super) ktimestamp: bool,
    /// `save`: as options of conntrack.
    pub(super) save: bool,
}

/// A flow as one line, no line end. `now`: seconds since 1970.
pub(crate) fn line(flow: &Flow, style: Style, now: u64) -> String {
    let mut out = String::with_capacity(200);
    // Writing to a String cannot fail.
    let _ = if style.save { save(&mut out, flow) } else { listed(&mut out, flow, style, now) };
    out
}

/// An event as one line, no line end.
pub(super) fn event(event: &FlowEvent, style: Style) -> String {
    let mut out = String::with_capacity(200);
    let _ = told(&mut out, event, style);
    out
}

fn listed(out: &mut String, flow: &Flow, style: Style, now: u64) -> Result {
    front(out, flow, style, Some(flow.timeout))?;
    tuples(out, flow, true)?;
    write!(out, "mark={} ", flow.mark)?;
    zone(out, flow)?;
    if let Some(age) = flow.age {
        write!(out, "delta-time={age} ")?;
        if style.ktimestamp {
            write!(out, "[start={}] ", date(now.saturating_sub(age)))?;
        }
    }
    helper(out, flow)?;
    out.push_str("use=1");
    if style.id {
        write!(out, " id={}", flow.id)?;
    }
    Ok(())
}

/// The kernel leaves out of an event what it has nothing new to say of: a mark of 0, and, but for the last event of a
/// flow, its counters and its age; a flow that ran out has no time left.
fn told(out: &mut String, event: &FlowEvent, style: Style) -> Result {
    let (flow, seconds) = (&event.flow, event.time / 1_000_000);
    if style.timestamp {
        write!(out, "[{seconds}.{:06}]\t", event.time % 1_000_000)?;
    }
    let ended = event.event == EventKind::Destroy;
    let kind = match event.event {
        EventKind::New => "[NEW]",
        EventKind::Update => "[UPDATE]",
        EventKind::Destroy => "[DESTROY]",
    };
    write!(out, "{kind:>9} ")?;
    front(out, flow, style, (!ended || flow.timeout > 0).then_some(flow.timeout))?;
    tuples(out, flow, ended)?;
    if flow.mark != 0 {
        write!(out, "mark={} ", flow.mark)?;
    }
    zone(out, flow)?;
    if let Some(age) = flow.age.filter(|_| ended) {
        write!(out, "delta-time={age} ")?;
        if style.ktimestamp {
            write!(out, "[start={}] [stop={}] ", date(seconds.saturating_sub(age)), date(seconds))?;
        }
    }
    helper(out, flow)?;
    if style.id {
        write!(out, "id={} ", flow.id)?;
    }
    if event.by_user {
        out.push_str("[USERSPACE] ");
    }
    out.truncate(out.trim_end().len());
    Ok(())
}

fn front(out: &mut String, flow: &Flow, style: Style, timeout: Option<u32>) -> Result {
    if style.extended {
        let (name, number) = if flow.family == "ipv6" { ("ipv6", 10) } else { ("ipv4", 2) };
        write!(out, "{name:<8} {number} ")?;
    }
    write!(out, "{:<8} {} ", flow.proto, flow.protonum)?;
    if let Some(timeout) = timeout {
        write!(out, "{timeout} ")?;
    }
    match &flow.state {
        Some(state) => write!(out, "{state} "),
        None => Ok(()),
    }
}

fn tuples(out: &mut String, flow: &Flow, counted: bool) -> Result {
    tuple(out, &flow.original, "zone-orig", counted)?;
    if !has(flow, "seen-reply") {
        out.push_str("[UNREPLIED] ");
    }
    tuple(out, &flow.reply, "zone-reply", counted)?;
    if has(flow, "assured") {
        out.push_str("[ASSURED] ");
    }
    Ok(())
}

fn tuple(out: &mut String, t: &FlowTuple, zone: &str, counted: bool) -> Result {
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
    if let (Some(packets), Some(bytes), true) = (t.packets, t.bytes, counted) {
        write!(out, "packets={packets} bytes={bytes} ")?;
    }
    Ok(())
}

fn zone(out: &mut String, flow: &Flow) -> Result {
    match flow.zone.filter(|zone| *zone > 0) {
        Some(zone) => write!(out, "zone={zone} "),
        None => Ok(()),
    }
}

fn helper(out: &mut String, flow: &Flow) -> Result {
    match &flow.helper {
        Some(name) => write!(out, "helper={name} "),
        None => Ok(()),
    }
}

/// What `conntrack -R` would read to make the same flow.
fn save(out: &mut String, flow: &Flow) -> Result {
    let (original, reply) = (&flow.original, &flow.reply);
    let set: Vec<&str> = [("seen-reply", "SEEN_REPLY"), ("assured", "ASSURED")]
        .iter()
        .filter(|(name, _)| has(flow, name))
        .map(|(_, option)| *option)
        .collect();
    let status = if set.is_empty() { "UNSET".to_owned() } else { set.join(",") };
    write!(out, "-A -t {} -u {status} ", flow.timeout)?;
    write!(out, "-s {} -d {} -r {} -q {} ", original.src, original.dst, reply.src, reply.dst)?;
    match flow.proto.as_str() {
        "unknown" => write!(out, "-p {} ", flow.protonum)?,
        name => write!(out, "-p {name} ")?,
    }
    if let (Some(sport), Some(dport)) = (original.sport, original.dport) {
        write!(out, "--sport {sport} --dport {dport} ")?;
    }
    if let (Some(sport), Some(dport)) = (reply.sport, reply.dport) {
        write!(out, "--reply-port-src {sport} --reply-port-dst {dport} ")?;
    }
    if let (Some(kind), Some(code), Some(id)) = (original.icmp_type, original.icmp_code, original.icmp_id) {
        write!(out, "--icmp-type {kind} --icmp-code {code} --icmp-id {id} ")?;
    }
    if let (Some(src), Some(dst)) = (original.srckey, original.dstkey) {
        write!(out, "--srckey {src} --dstkey {dst} ")?;
    }
    if let (Some(src), Some(dst)) = (reply.srckey, reply.dstkey) {
        write!(out, "--reply-key-src {src} --reply-key-dst {dst} ")?;
    }
    if let Some(state) = &flow.state {
        write!(out, "--state {state} ")?;
    }
    if let Some(zone) = flow.zone.filter(|zone| *zone > 0) {
        write!(out, "-w {zone} ")?;
    }
    out.truncate(out.trim_end().len());
    Ok(())
}

fn has(flow: &Flow, status: &str) -> bool {
    flow.status.iter().any(|s| s == status)
}

/// As `ctime` has it, in local time.
fn date(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let local = time.unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(TimeZone::system());
    local.strftime("%a %b %e %H:%M:%S %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(src: &str, dst: &str, sport: u16, dport: u16) -> FlowTuple {
        let (sport, dport) = (Some(sport), Some(dport));
        FlowTuple { src: src.into(), dst: dst.into(), sport, dport, ..FlowTuple::default() }
    }

    fn counted(tuple: FlowTuple, packets: u64, bytes: u64) -> FlowTuple {
        FlowTuple { packets: Some(packets), bytes: Some(bytes), ..tuple }
    }

    fn tcp() -> Flow {
        Flow {
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
        }
    }

    fn unknown() -> Flow {
        let bare = |src: &str, dst: &str| FlowTuple {
            src: src.into(),
            dst: dst.into(),
            packets: Some(0),
            bytes: Some(0),
            ..FlowTuple::default()
        };
        Flow {
            family: "ipv4".into(),
            proto: "unknown".into(),
            protonum: 253,
            timeout: 499,
            original: bare("1.2.3.4", "5.6.7.8"),
            reply: bare("5.6.7.8", "1.2.3.4"),
            mark: 7,
            zone: Some(3),
            age: Some(0),
            ..Flow::default()
        }
    }

    fn icmp() -> Flow {
        let echo = |kind| FlowTuple {
            src: "::1".into(),
            dst: "::1".into(),
            icmp_type: Some(kind),
            icmp_code: Some(0),
            icmp_id: Some(14946),
            ..FlowTuple::default()
        };
        Flow {
            family: "ipv6".into(),
            proto: "icmpv6".into(),
            protonum: 58,
            timeout: 29,
            original: echo(128),
            reply: echo(129),
            status: vec!["seen-reply".into()],
            ..Flow::default()
        }
    }

    /// The expected lines are what conntrack v1.4.7 printed for such flows.
    #[test]
    fn lines_are_those_of_conntrack_tools() {
        let style = Style { extended: true, id: true, ..Style::default() };
        assert_eq!(
            line(&tcp(), style, 0),
            "ipv4     2 tcp      6 431999 ESTABLISHED src=10.1.0.2 dst=10.2.0.2 sport=1 dport=2 \
             src=10.2.0.2 dst=10.1.0.2 sport=2 dport=1 [ASSURED] mark=0 use=1 id=77"
        );
        assert_eq!(
            line(&unknown(), Style::default(), 0),
            "unknown  253 499 src=1.2.3.4 dst=5.6.7.8 packets=0 bytes=0 [UNREPLIED] \
             src=5.6.7.8 dst=1.2.3.4 packets=0 bytes=0 mark=7 zone=3 delta-time=0 use=1"
        );
        assert_eq!(
            line(&icmp(), Style { extended: true, ..Style::default() }, 0),
            "ipv6     10 icmpv6   58 29 src=::1 dst=::1 type=128 code=0 id=14946 src=::1 dst=::1 type=129 code=0 id=14946 mark=0 use=1"
        );
    }

    #[test]
    fn flows_are_saved_as_conntrack_saves_them() {
        let style = Style { save: true, ..Style::default() };
        assert_eq!(
            line(&tcp(), style, 0),
            "-A -t 431999 -u SEEN_REPLY,ASSURED -s 10.1.0.2 -d 10.2.0.2 -r 10.2.0.2 -q 10.1.0.2 -p tcp --sport 1 \
             --dport 2 --reply-port-src 2 --reply-port-dst 1 --state ESTABLISHED"
        );
        assert_eq!(
            line(&unknown(), style, 0),
            "-A -t 499 -u UNSET -s 1.2.3.4 -d 5.6.7.8 -r 5.6.7.8 -q 1.2.3.4 -p 253 -w 3"
        );
    }

    #[test]
    fn events_are_those_of_conntrack_tools() {
        let counted = Flow {
            original: counted(tcp().original, 5, 271),
            reply: counted(tcp().reply, 3, 164),
            age: Some(9),
            ..tcp()
        };
        let event = |kind, flow: Flow, style| {
            let time = 1_795_309_722_025_363;
            super::event(&FlowEvent { event: kind, by_user: kind == EventKind::Destroy, time, flow }, style)
        };
        let all = Style { extended: true, id: true, timestamp: true, ..Style::default() };
        let new = Flow { status: Vec::new(), timeout: 30, ..counted.clone() };
        assert_eq!(
            event(EventKind::New, Flow { mark: 7, ..new }, Style::default()),
            "    [NEW] tcp      6 30 ESTABLISHED src=10.1.0.2 dst=10.2.0.2 sport=1 dport=2 [UNREPLIED] \
             src=10.2.0.2 dst=10.1.0.2 sport=2 dport=1 mark=7"
        );
        assert_eq!(
            event(EventKind::Update, Flow { state: None, ..counted.clone() }, all),
            "[1795309722.025363]\t [UPDATE] ipv4     2 tcp      6 431999 src=10.1.0.2 dst=10.2.0.2 sport=1 dport=2 \
             src=10.2.0.2 dst=10.1.0.2 sport=2 dport=1 [ASSURED] id=77"
        );
        assert_eq!(
            event(EventKind::Destroy, Flow { timeout: 0, ..counted }, Style::default()),
            "[DESTROY] tcp      6 ESTABLISHED src=10.1.0.2 dst=10.2.0.2 sport=1 dport=2 packets=5 bytes=271 \
             src=10.2.0.2 dst=10.1.0.2 sport=2 dport=1 packets=3 bytes=164 [ASSURED] delta-time=9 [USERSPACE]"
        );
    }

    #[test]
    fn dates_are_as_long_as_those_of_ctime() {
        assert_eq!(date(1_795_309_722).len(), "Sun Nov 22 01:08:42 2026".len());
    }
}
