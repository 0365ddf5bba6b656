//! IPFIX messages: templates, and records by template, one after the other until a message is full.
//!
//! Everything is in network byte order. Sequence numbers count records, not messages.
//!
//! Source: RFC 7011 sections 3.1 (message header), 3.3 (sets) and 3.4.1 (template records).

use sluice_engine::conntrack::FlowEvent;

use super::template::{Source, Template};

const VERSION: u16 = 10;
const TEMPLATE_SET: u16 = 2;
/// The bit of an element that is not IANA's (RFC 7011 section 3.2).
const ENTERPRISE: u16 = 1 << 15;
const MESSAGE_HEADER: usize = 16;
const SET_HEADER: usize = 4;

/// Bytes of a message that must not be cut on any usual way: what is left of 1,500 with room for tunnels.
const LONGEST: usize = 1400;

/// The longest record: IPv6, translated, with both ends and counters.
const LONGEST_RECORD: usize = 160;

/// Makes messages of one observation domain.
pub(super) struct Exporter {
    domain: u32,
    /// Records in all messages before.
    sequence: u32,
    /// The message at hand, its header left empty.
    message: Vec<u8>,
    /// The template of its last set, and where that set begins.
    set: Option<(Template, usize)>,
    records: u32,
}

impl Exporter {
    /// Nothing told yet.
    pub(super) fn new(domain: u32) -> Exporter {
        Exporter { domain, sequence: 0, message: vec![0; MESSAGE_HEADER], set: None, records: 0 }
    }

    /// Whether the message at hand has no room for another record.
    pub(super) fn is_full(&self) -> bool {
        self.message.len() + SET_HEADER + LONGEST_RECORD > LONGEST
    }

    /// Adds a record about an event at `time`, in milliseconds since 1970.
    pub(super) fn add(&mut self, event: &FlowEvent, time: u64) {
        let template = Template::of(event);
        if self.set.is_none_or(|(of, _)| of != template) {
            self.close_set();
            self.set = Some((template, self.message.len()));
            self.message.extend(template.id().to_be_bytes());
            self.message.extend([0; 2]);
        }
        let source = Source::new(event, time);
        for element in template.elements() {
            source.write(element, &mut self.message);
        }
        self.records += 1;
    }

    /// The message at hand, with how many records it has; None if it has none. `now` in seconds since 1970.
    pub(super) fn finish(&mut self, now: u64) -> Option<(Vec<u8>, u32)> {
        if self.records == 0 {
            return None;
        }
        self.close_set();
        let records = std::mem::take(&mut self.records);
        let mut message = std::mem::replace(&mut self.message, vec![0; MESSAGE_HEADER]);
        self.head(&mut message, now);
        self.sequence = self.sequence.wrapping_add(records);
        Some((message, records))
    }

    /// Messages with all templates. `now` in seconds since 1970.
    pub(super) fn templates(&self, now: u64) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let mut message = Vec::new();
        let mut close = |mut message: Vec<u8>| {
            set_length(&mut message, MESSAGE_HEADER);
            self.head(&mut message, now);
            messages.push(message);
        };
        for template in Template::all() {
            let described = describe(template);
            if message.len() + described.len() > LONGEST {
                close(std::mem::take(&mut message));
            }
            if message.is_empty() {
                message.resize(MESSAGE_HEADER, 0);
                message.extend(TEMPLATE_SET.to_be_bytes());
                message.extend([0; 2]);
            }
            message.extend(described);
        }
        close(message);
        messages
    }

    fn close_set(&mut self) {
        if let Some((_, start)) = self.set.take() {
            set_length(&mut self.message, start);
        }
    }

    /// Fills in the header.
    fn head(&self, message: &mut [u8], now: u64) {
        let mut header = Vec::with_capacity(MESSAGE_HEADER);
        header.extend(VERSION.to_be_bytes());
        header.extend(length(message).to_be_bytes());
        header.extend((now as u32).to_be_bytes());
        header.extend(self.sequence.to_be_bytes());
        header.extend(self.domain.to_be_bytes());
        if let Some(place) = message.get_mut(..MESSAGE_HEADER) {
            place.copy_from_slice(&header);
        }
    }
}

/// A template's record.
fn describe(template: Template) -> Vec<u8> {
    let elements: Vec<_> = template.elements().collect();
    let mut record = Vec::new();
    record.extend(template.id().to_be_bytes());
    record.extend(u16::try_from(elements.len()).unwrap_or(0).to_be_bytes());
    for element in elements {
        let foreign = if element.enterprise.is_some() { ENTERPRISE } else { 0 };
        record.extend((element.id | foreign).to_be_bytes());
        record.extend(element.length.to_be_bytes());
        record.extend(element.enterprise.iter().flat_map(|number| number.to_be_bytes()));
    }
    record
}

/// Fills in the length of the set that begins at `start` and is the last.
fn set_length(message: &mut [u8], start: usize) {
    let set = message.get(start..).map_or(0, length);
    if let Some(place) = message.get_mut(start + 2..start + 4) {
        place.copy_from_slice(&set.to_be_bytes());
    }
}

fn length(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use sluice_engine::conntrack::{Accounting, EventKind, FlowRecord, Status, TupleTransport};
    use sluice_wire::Family;

    use super::*;
    use crate::control::tests::flow;

    fn event(kind: EventKind, flow: FlowRecord) -> FlowEvent {
        FlowEvent { kind, flow, by_user: false, at: 5_000_000_000 }
    }

    fn all_events() -> Vec<FlowEvent> {
        let plain = flow(7);
        let v6 = |flow: FlowRecord| {
            let mut flow = FlowRecord { family: Family::V6, ..flow };
            for tuple in [&mut flow.original, &mut flow.reply] {
                (tuple.src, tuple.dst) = ("fd00::9".parse().unwrap(), "fd00::7".parse().unwrap());
            }
            flow
        };
        let mut ping = plain;
        ping.original.transport = TupleTransport::Icmp { kind: 8, code: 0, id: 7 };
        let mut events = Vec::new();
        for family in [plain, ping, v6(plain), v6(ping)] {
            for status in [Status::default(), Status::SNAT] {
                for accounting in [None, Some(Accounting { packets: [3, 4], bytes: [300, 400] })] {
                    for start in [None, Some(4_000_000_000)] {
                        let flow = FlowRecord { status, accounting, start, ..family };
                        events.push(event(EventKind::New, flow));
                        events.push(event(EventKind::Destroy, flow));
                    }
                }
            }
        }
        events
    }

    /// The sets of a message: number and body of each.
    fn sets(message: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let be16 = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
        assert_eq!((be16(0), usize::from(be16(2))), (VERSION, message.len()));
        let (mut at, mut sets) = (MESSAGE_HEADER, Vec::new());
        while at < message.len() {
            let end = at + usize::from(be16(at + 2));
            sets.push((be16(at), message[at + SET_HEADER..end].to_vec()));
            at = end;
        }
        assert_eq!(at, message.len());
        sets
    }

    #[test]
    fn each_record_has_the_length_that_its_template_says() {
        let known: Vec<u16> = Template::all().map(Template::id).collect();
        for event in all_events() {
            let template = Template::of(&event);
            assert!(known.contains(&template.id()), "{event:?}");
            let mut exporter = Exporter::new(1);
            exporter.add(&event, 1_700_000_000_000);
            let (message, records) = exporter.finish(1_700_000_000).unwrap();
            let [(id, body)]: [(u16, Vec<u8>); 1] = sets(&message).try_into().unwrap();
            let length: usize = template.elements().map(|element| usize::from(element.length)).sum();
            assert_eq!((records, id, body.len()), (1, template.id(), length), "{event:?}");
            assert!(length <= LONGEST_RECORD, "{length}");
        }
    }

    #[test]
    fn templates_fit_into_few_messages_and_name_all_fields() {
        let messages = Exporter::new(9).templates(1_700_000_000);
        assert!(messages.len() <= 3 && messages.iter().all(|message| message.len() <= LONGEST));
        let mut described: Vec<u8> = Vec::new();
        for message in &messages {
            assert_eq!(message[12..16], 9_u32.to_be_bytes());
            let sets = sets(message);
            let [(TEMPLATE_SET, body)] = sets.as_slice() else { panic!("one set") };
            described.extend(body);
        }
        let expected: Vec<u8> = Template::all().flat_map(describe).collect();
        assert_eq!(described, expected);
    }

    #[test]
    fn messages_are_counted_by_records_and_stay_below_a_links_mtu() {
        let mut exporter = Exporter::new(1);
        let mut sent = 0;
        for event in all_events().iter().cycle().take(500) {
            if exporter.is_full() {
                let (message, records) = exporter.finish(1_700_000_000).unwrap();
                assert!(message.len() <= LONGEST);
                assert_eq!(message[8..12], u32::to_be_bytes(sent));
                sets(&message);
                sent += records;
            }
            exporter.add(event, 1_700_000_000_000);
        }
        sent += exporter.finish(1_700_000_000).unwrap().1;
        assert_eq!(sent, 500);
        assert!(exporter.finish(1_700_000_000).is_none());
    }
}
