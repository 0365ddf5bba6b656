//! Zones and timeouts of rules: as observed on Linux 6.18 with nft's `ct zone set` and `ct original zone set`.

use super::*;

fn shard() -> Shard {
    Shard::new(0, &budget(100), 100)
}

impl Shard {
    fn pass_in(&mut self, zone: Zone, frame: &[u8]) -> Option<FlowHandle> {
        self.template.zone = zone;
        self.pass(frame)
    }

    /// How a packet is classified.
    fn state_in(&mut self, zone: Zone, frame: &[u8]) -> Option<(FlowHandle, CtState)> {
        self.template.zone = zone;
        match self.track(frame) {
            Tracked::Flow { flow, state, .. } => Some((flow, state)),
            Tracked::Related { flow, .. } => Some((flow, CtState::Related)),
            Tracked::New(pending) => {
                self.conntrack.abandon(pending);
                None
            }
            _ => None,
        }
    }
}

const NONE: Zone = Zone::both(ZoneId(0));
const FIVE: Zone = Zone::both(ZoneId(5));
const SIX: Zone = Zone::both(ZoneId(6));

#[test]
fn the_same_tuple_in_two_zones_is_two_flows() {
    let mut shard = shard();
    let flows = [NONE, FIVE, SIX].map(|zone| shard.pass_in(zone, &udp(1, 2, 3, 4)).unwrap());
    assert!(flows[0] != flows[1] && flows[1] != flows[2]);
    for (zone, flow) in [NONE, FIVE, SIX].into_iter().zip(flows) {
        assert_eq!(shard.state_in(zone, &udp(2, 1, 4, 3)), Some((flow, CtState::Established)));
    }
    assert_eq!(shard.state_in(Zone::both(ZoneId(7)), &udp(2, 1, 4, 3)), None, "no flow is in that zone");
    let listed = shard.list(&FlowFilter { zone: Some(ZoneId(5)), ..FlowFilter::default() }, 9);
    assert_eq!(listed.iter().map(|flow| flow.zone).collect::<Vec<_>>(), [FIVE]);
    shard.check();
}

#[test]
fn a_zone_of_one_direction_is_looked_up_in_that_direction() {
    let mut shard = shard();
    let outgoing = Zone::original(ZoneId(5));
    let flow = shard.pass_in(outgoing, &udp(1, 2, 3, 4)).unwrap();
    assert_eq!(
        shard.state_in(NONE, &udp(2, 1, 4, 3)),
        Some((flow, CtState::Established)),
        "answers are in 0"
    );
    assert_eq!(shard.state_in(outgoing, &udp(1, 2, 3, 4)), Some((flow, CtState::Established)));
    assert_eq!(shard.state_in(NONE, &udp(1, 2, 3, 4)), None, "what is not in the zone begins another");
    assert_eq!(shard.state_in(FIVE, &udp(2, 1, 4, 3)), None);
    // Its answers would be those of the first: the kernel drops it at confirmation (insert_failed).
    assert_eq!(shard.pass_in(Zone::original(ZoneId(6)), &udp(1, 2, 3, 4)), None);
    assert_eq!(shard.counters.conntrack.insert_failed.get(), 1);
    // The answers of a flow in zone 0 would be the requests of one whose answers alone are in a zone.
    shard.pass_in(Zone::reply(ZoneId(6)), &udp(1, 2, 9, 4)).unwrap();
    assert_eq!(shard.pass_in(NONE, &udp(2, 1, 4, 9)), None);
    assert_eq!(shard.counters.conntrack.insert_failed.get(), 2);
    let incoming = Zone::reply(ZoneId(6));
    let other = shard.pass_in(incoming, &udp(1, 2, 3, 4)).unwrap();
    assert_ne!(flow, other);
    assert_eq!(shard.state_in(SIX, &udp(2, 1, 4, 3)), Some((other, CtState::Established)));
    shard.check();
}

#[test]
fn echo_and_errors_are_looked_up_in_their_zone() {
    let mut shard = shard();
    let echo = |kind: u8, a, b| datagram(1, a, b, &[kind, 0, 0, 0, 0, 7, 0, 1]);
    let outgoing = Zone::original(ZoneId(5));
    let ping = shard.pass_in(outgoing, &echo(8, 1, 2)).unwrap();
    assert_eq!(shard.state_in(NONE, &echo(0, 2, 1)), Some((ping, CtState::Established)));
    assert_eq!(shard.state_in(FIVE, &echo(0, 2, 1)), None);

    let asked = udp(1, 2, 3, 4);
    let error = datagram(1, 2, 1, &[&[3, 3, 0, 0, 0, 0, 0, 0], &asked[14..]].concat());
    let flow = shard.pass_in(outgoing, &asked).unwrap();
    shard.settings.checksum = false;
    // The error goes the way of answers, so it is their zone that counts.
    assert_eq!(shard.state_in(NONE, &error), Some((flow, CtState::Related)));
    assert_eq!(shard.state_in(FIVE, &error), None);
    assert_eq!(shard.state_in(outgoing, &error), Some((flow, CtState::Related)));
}

#[test]
fn a_flow_has_the_timeouts_of_the_rule_that_its_first_packet_met() {
    let mut shard = shard();
    let seconds = Millis::from_secs;
    let own = |udp, udp_stream| Timeouts { udp, udp_stream, ..Timeouts::default() };
    shard.settings.own_timeouts = [own(seconds(5), seconds(9)), own(seconds(7), seconds(8))].into();
    let timeout = |shard: &Shard| shard.list(&FlowFilter::default(), 9)[0].timeout;
    shard.template.timeouts = TimeoutsId(1);
    shard.pass(&udp(1, 2, 3, 4));
    assert_eq!(timeout(&shard), seconds(5));
    // Later packets meet other rules, and change nothing of it.
    shard.template.timeouts = TimeoutsId(2);
    shard.pass(&udp(2, 1, 4, 3));
    assert_eq!(timeout(&shard), seconds(5));
    shard.template.timeouts = TimeoutsId(0);
    shard.wait(2500);
    shard.pass(&udp(1, 2, 3, 4));
    assert_eq!(timeout(&shard), seconds(9), "a stream");
    // A reload may change what the number stands for, or take it away.
    shard.settings.own_timeouts = [own(seconds(5), seconds(20))].into();
    shard.pass(&udp(1, 2, 3, 4));
    assert_eq!(timeout(&shard), seconds(20));
    shard.settings.own_timeouts = [].into();
    shard.pass(&udp(1, 2, 3, 4));
    assert_eq!(timeout(&shard), seconds(120));
}
