//! What a record about a flow has: groups of fields, of which those that are known make the record's template.
//!
//! Source: IANA's registry of IPFIX information elements; RFC 8158 for what is said of translations.

use std::net::IpAddr;

use sluice_engine::conntrack::{EventKind, FlowEvent, FlowRecord, Status, TupleRecord, TupleTransport};
use sluice_wire::Family;

/// An information element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// Its number.
    pub(super) id: u16,
    /// Bytes that its values have.
    pub(super) length: u16,
    /// That of the flow's answers (RFC 5103), of the number that these have as an enterprise.
    pub(super) enterprise: Option<u32>,
}

/// RFC 5103: what is said of the other direction.
const REVERSE: u32 = 29_305;

const fn element(id: u16, length: u16) -> Element {
    Element { id, length, enterprise: None }
}

const fn reverse(of: Element) -> Element {
    Element { enterprise: Some(REVERSE), ..of }
}

const OBSERVATION_TIME: Element = element(323, 8);
const FLOW_ID: Element = element(148, 8);
const PROTOCOL: Element = element(4, 1);
const SOURCE_V4: Element = element(8, 4);
const DESTINATION_V4: Element = element(12, 4);
const SOURCE_V6: Element = element(27, 16);
const DESTINATION_V6: Element = element(28, 16);
const SOURCE_PORT: Element = element(7, 2);
const DESTINATION_PORT: Element = element(11, 2);
const FIREWALL_EVENT: Element = element(233, 1);
const NEW_SOURCE_V4: Element = element(225, 4);
const NEW_DESTINATION_V4: Element = element(226, 4);
const NEW_SOURCE_V6: Element = element(281, 16);
const NEW_DESTINATION_V6: Element = element(282, 16);
const NEW_SOURCE_PORT: Element = element(227, 2);
const NEW_DESTINATION_PORT: Element = element(228, 2);
const NAT_EVENT: Element = element(230, 1);
const START: Element = element(152, 8);
const END: Element = element(153, 8);
const END_REASON: Element = element(136, 1);
const OCTETS: Element = element(1, 8);
const PACKETS: Element = element(2, 8);
const ANSWERS_OCTETS: Element = reverse(OCTETS);
const ANSWERS_PACKETS: Element = reverse(PACKETS);
const ICMP_V4: Element = element(32, 2);
const ICMP_V6: Element = element(139, 2);

/// Of all flows.
const FLOW: &[Element] = &[OBSERVATION_TIME, FLOW_ID, PROTOCOL, FIREWALL_EVENT, SOURCE_PORT];
const FLOW_V4: &[Element] = &[SOURCE_V4, DESTINATION_V4];
const FLOW_V6: &[Element] = &[SOURCE_V6, DESTINATION_V6];
/// In place of the destination's port.
const TYPE_V4: &[Element] = &[ICMP_V4];
const TYPE_V6: &[Element] = &[ICMP_V6];
const PORT: &[Element] = &[DESTINATION_PORT];
const NAT_V4: &[Element] = &[NEW_SOURCE_V4, NEW_DESTINATION_V4, NEW_SOURCE_PORT, NAT_EVENT];
/// RFC 8158 has no event for it: IPv6 is translated one to one in its world.
const NAT_V6: &[Element] = &[NEW_SOURCE_V6, NEW_DESTINATION_V6, NEW_SOURCE_PORT];
const NAT_PORT: &[Element] = &[NEW_DESTINATION_PORT];
const BEGAN: &[Element] = &[START];
const ENDED: &[Element] = &[END, END_REASON];
const COUNTED: &[Element] = &[OCTETS, PACKETS, ANSWERS_OCTETS, ANSWERS_PACKETS];

/// Which groups a record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Template(u16);

/// The first number that templates may have (RFC 7011 section 3.4.3).
const FIRST: u16 = 256;

impl Template {
    const V6: u16 = 1;
    const NAT: u16 = 1 << 1;
    const BEGAN: u16 = 1 << 2;
    const ENDED: u16 = 1 << 3;
    const COUNTED: u16 = 1 << 4;
    const ICMP: u16 = 1 << 5;
    const BITS: u16 = 1 << 6;

    /// All that records may have: a beginning, an end, or an end with its beginning.
    pub(super) fn all() -> impl Iterator<Item = Template> {
        let fits = |bits: u16| {
            let (ended, any) = (bits & Self::ENDED != 0, bits & (Self::BEGAN | Self::ENDED) != 0);
            any && (ended || bits & Self::COUNTED == 0)
        };
        (0..Self::BITS).filter(move |bits| fits(*bits)).map(Template)
    }

    /// That of a flow's event.
    pub(super) fn of(event: &FlowEvent) -> Template {
        let FlowRecord { family, status, accounting, start, .. } = &event.flow;
        let ended = event.kind == EventKind::Destroy;
        let bit = |is: bool, bit: u16| if is { bit } else { 0 };
        Template(
            bit(*family == Family::V6, Self::V6)
                | bit(status.is_translated(), Self::NAT)
                | bit(!ended || start.is_some(), Self::BEGAN)
                | bit(ended, Self::ENDED)
                | bit(ended && accounting.is_some(), Self::COUNTED)
                | bit(matches!(event.flow.original.transport, TupleTransport::Icmp { .. }), Self::ICMP),
        )
    }

    /// Its number.
    pub(super) fn id(self) -> u16 {
        FIRST + self.0
    }

    /// Its fields, in order.
    pub(super) fn elements(self) -> impl Iterator<Item = Element> {
        let is = |bit: u16| self.0 & bit != 0;
        let has = |there: bool, group: &'static [Element]| if there { group } else { &[] };
        let (addresses, nat, kind) = match is(Self::V6) {
            false => (FLOW_V4, NAT_V4, TYPE_V4),
            true => (FLOW_V6, NAT_V6, TYPE_V6),
        };
        let groups = [
            FLOW,
            addresses,
            if is(Self::ICMP) { kind } else { PORT },
            has(is(Self::NAT), nat),
            has(is(Self::NAT) && !is(Self::ICMP), NAT_PORT),
            has(is(Self::BEGAN), BEGAN),
            has(is(Self::ENDED), ENDED),
            has(is(Self::COUNTED), COUNTED),
        ];
        groups.into_iter().flatten().copied()
    }
}

/// An event to be told, with what fields are made of.
pub(super) struct Source<'e> {
    event: &'e FlowEvent,
    /// Milliseconds since 1970.
    time: u64,
}

impl Source<'_> {
    /// Of an event at `time`, in milliseconds since 1970.
    pub(super) fn new(event: &FlowEvent, time: u64) -> Source<'_> {
        Source { event, time }
    }

    /// Adds the value of a field.
    pub(super) fn write(&self, element: Element, out: &mut Vec<u8>) {
        let flow = &self.event.flow;
        let ended = self.event.kind == EventKind::Destroy;
        let (original, reply) = (ports(&flow.original), ports(&flow.reply));
        let counted = |of: fn(&sluice_engine::conntrack::Accounting) -> u64| {
            flow.accounting.as_ref().map_or(0, of).to_be_bytes()
        };
        match element {
            OBSERVATION_TIME | END => out.extend(self.time.to_be_bytes()),
            START => out.extend(self.start().to_be_bytes()),
            FLOW_ID => out.extend(flow.id.0.to_be_bytes()),
            PROTOCOL => out.push(flow.protocol.0),
            SOURCE_V4 | SOURCE_V6 => address(flow.original.src, out),
            DESTINATION_V4 | DESTINATION_V6 => address(flow.original.dst, out),
            // Packets leave with the answers' addresses, turned round.
            NEW_SOURCE_V4 | NEW_SOURCE_V6 => address(flow.reply.dst, out),
            NEW_DESTINATION_V4 | NEW_DESTINATION_V6 => address(flow.reply.src, out),
            SOURCE_PORT => out.extend(original.0.to_be_bytes()),
            DESTINATION_PORT | ICMP_V4 | ICMP_V6 => out.extend(original.1.to_be_bytes()),
            NEW_SOURCE_PORT => out.extend(new_source_port(flow, reply).to_be_bytes()),
            NEW_DESTINATION_PORT => out.extend(reply.0.to_be_bytes()),
            // Flow created, flow deleted.
            FIREWALL_EVENT => out.push(if ended { 2 } else { 1 }),
            // NAT44 session create, NAT44 session delete.
            NAT_EVENT => out.push(if ended { 5 } else { 4 }),
            END_REASON => out.push(self.end_reason()),
            OCTETS => out.extend(counted(|counted| counted.bytes[0])),
            PACKETS => out.extend(counted(|counted| counted.packets[0])),
            ANSWERS_OCTETS => out.extend(counted(|counted| counted.bytes[1])),
            ANSWERS_PACKETS => out.extend(counted(|counted| counted.packets[1])),
            // There are no others in the groups.
            Element { length, .. } => out.resize(out.len() + usize::from(length), 0),
        }
    }

    /// When it began, in milliseconds since 1970.
    fn start(&self) -> u64 {
        let age = self.event.flow.start.map_or(0, |start| self.event.at.saturating_sub(start));
        self.time.saturating_sub(age / 1_000_000)
    }

    /// `flowEndReason`: forced, its end was seen, or it was idle.
    fn end_reason(&self) -> u8 {
        match (self.event.by_user, self.event.flow.state) {
            (true, _) => 4,
            (false, Some("TIME_WAIT" | "CLOSE" | "LAST_ACK" | "CLOSED")) => 3,
            _ => 1,
        }
    }
}

fn address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => out.extend(address.octets()),
        IpAddr::V6(address) => out.extend(address.octets()),
    }
}

/// Source and destination port. Of ICMP the identifier, as RFC 8158 has it, and type and code.
fn ports(tuple: &TupleRecord) -> (u16, u16) {
    match tuple.transport {
        TupleTransport::Ports { sport, dport } => (sport, dport),
        TupleTransport::Icmp { kind, code, id } => (id, u16::from_be_bytes([kind, code])),
        TupleTransport::Gre { srckey, dstkey } => (srckey, dstkey),
        TupleTransport::None => (0, 0),
    }
}

fn new_source_port(flow: &FlowRecord, reply: (u16, u16)) -> u16 {
    match flow.reply.transport {
        TupleTransport::Icmp { id, .. } => id,
        _ => reply.1,
    }
}

// Both are what `Template::of` asks for a translation.
const _: () = assert!(Status::SNAT.is_translated() && Status::DNAT.is_translated());
