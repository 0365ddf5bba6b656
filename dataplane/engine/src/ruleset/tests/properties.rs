//! What holds for any rules and any packet: guards equal tests, what is settled ahead and what is told aloud equal what is
//! evaluated.

use proptest::prelude::*;

use super::*;

pub(super) fn any_match() -> impl Strategy<Value = Match> {
    let ports = prop::collection::vec((0u16..4, 0u16..4), 1..3).prop_map(PortMatch::of);
    let nets = prop::collection::vec(
        prop::sample::select(&[("10.0.0.0", 8), ("10.9.0.0", 16), ("fd00::", 8)][..]),
        1..3,
    );
    prop_oneof![
        prop::collection::vec(0u16..3, 1..3).prop_map(|list| Match::Ingress(ids(&list))),
        prop::collection::vec(0u16..3, 1..3).prop_map(|list| Match::Egress(ids(&list))),
        prop::sample::subsequence(vec![Family::V4, Family::V6], 1..=2)
            .prop_map(|list| Match::Family(list.into())),
        prop::sample::subsequence(vec![Protocol::TCP, Protocol::UDP, Protocol::ICMP], 1..=2)
            .prop_map(|list| Match::Protocol(list.into())),
        nets.prop_map(|list| Match::Source(net(&list))),
        ports.prop_map(Match::DestinationPort),
        (0u8..32).prop_map(|bits| {
            let all =
                [CtState::New, CtState::Established, CtState::Related, CtState::Invalid, CtState::Untracked];
            let states = all.into_iter().filter(|state| bits >> *state as u8 & 1 != 0);
            Match::Ct { states: states.fold(StateSet::default(), StateSet::with), status: Status::default() }
        }),
        (0u8..4).prop_map(|bits| Match::TcpFlags {
            set: TcpFlags::from_bits(bits),
            mask: TcpFlags::from_bits(3)
        }),
    ]
}

pub(super) fn any_packet() -> impl Strategy<Value = Packet> {
    (0u16..4, 0u8..4, prop::sample::select(&[0, 1, 2, 3, 4][..])).prop_map(
        |(dport, flags, kind)| match kind {
            0 => tcp(5, dport, TcpFlags::from_bits(flags)),
            1 => udp(dport),
            2 => ping(),
            3 => tcp6(),
            _ => later_fragment(),
        },
    )
}

proptest! {
    /// The guard and the order of tests change nothing: a rule matches if each of its tests, asked alone, holds.
    #[test]
    fn guards_say_what_tests_say(
        tests in prop::collection::vec((any_match(), any::<bool>()), 0..5),
        packet in any_packet(),
        state in prop::sample::select(&[None, Some(CtState::New), Some(CtState::Established), Some(CtState::Untracked)][..]),
        (ingress, egress) in (0u16..3, prop::option::of(0u16..3)),
    ) {
        let interfaces = router();
        let tests: Vec<Test> = tests.into_iter().map(|(what, negated)| Test { what, negated }).collect();
        let mut view = View {
            ct: state.map(info),
            ingress: Some(InterfaceId(ingress)),
            egress: egress.map(InterfaceId),
            ..view(&packet, &interfaces)
        };
        let plain = Ruleset::default();
        let expected = tests.iter().all(|test| test.holds(&plain, &view, &mut Reads::NONE.clone()));
        let ruleset = forward(vec![spec(tests, Action::Accept)]);
        prop_assert_eq!(judge(&ruleset, &mut view).0 == Decision::Accept, expected);
        let mut told = None;
        ruleset.explain(Hook::FilterForward, &mut view, &mut Effects::default(), &mut |look, _| told = Some(look));
        prop_assert_eq!(told.is_some_and(|look| look.matched), expected);
    }

    /// What is settled for all packets of which a few facts are known is what each of them is told; and the walk comes to
    /// the same told aloud.
    #[test]
    fn what_is_settled_holds_for_each_packet(
        rules in prop::collection::vec((prop::collection::vec((any_known_match(), any::<bool>()), 0..2), 0usize..7), 0..12),
        policy in prop::sample::select(&[Policy::Accept, Policy::Drop][..]),
        packet in any_packet(),
        untracked in any::<bool>(),
        (ingress, egress) in (0u16..3, prop::option::of(0u16..3)),
    ) {
        let mut builder = RulesetBuilder::new();
        builder.policy(Hook::FilterForward, policy);
        let chain = builder.chain("c");
        for (n, (tests, action)) in rules.into_iter().enumerate() {
            let actions =
                [Action::Accept, Action::Drop, Action::Jump(chain), Action::Goto(chain), Action::Return, Action::Count, Action::Notrack { related: false }];
            let in_chain = n % 3 == 2;
            let action = if in_chain && matches!(action, 2 | 3) { 5 } else { action };
            let tests = tests.into_iter().map(|(what, negated)| Test { what, negated }).collect();
            let target = if in_chain { Target::Chain(chain) } else { Target::Hook(Hook::FilterForward) };
            builder.rule(target, spec(tests, actions[action].clone())).unwrap();
        }
        let ruleset = builder.build(1).unwrap();
        let interfaces = router();
        let known = Known {
            family: packet.family(),
            ingress: InterfaceId(ingress),
            egress: egress.map(InterfaceId),
            to: interfaces.kind(packet.addrs.dst()),
            untracked,
        };
        let mut view = View {
            ct: untracked.then(|| CtInfo::without_flow(CtState::Untracked)),
            ingress: Some(known.ingress),
            egress: known.egress,
            ..view(&packet, &interfaces)
        };
        let (decision, told) = judge(&ruleset, &mut view.clone());
        let (mut aloud, mut matched) = (Effects::default(), Vec::new());
        let explained = ruleset.explain(Hook::FilterForward, &mut view, &mut aloud, &mut |look, _| {
            matched.extend(look.matched.then_some(CounterId(look.rule.0)));
        });
        prop_assert_eq!((explained, aloud.rule, aloud.counted.ids()), (decision, told.rule, told.counted.ids()));
        prop_assert!(told.counted.ids().starts_with(&matched), "each rule that matched was counted");
        let mut effects = Effects::default();
        if let Some(goes_on) = ruleset.settle(Hook::FilterForward, &known, &mut effects) {
            prop_assert_eq!(decision == Decision::Accept, goes_on);
            prop_assert_eq!(told.notrack, effects.notrack);
            prop_assert_eq!(told.counted.ids(), effects.counted.ids());
        }
    }
}

/// Matches that are settled more often than not, and others.
fn any_known_match() -> impl Strategy<Value = Match> {
    let kinds = vec![AddressKind::Local, AddressKind::Broadcast, AddressKind::Multicast, AddressKind::Routed];
    prop_oneof![
        3 => any_match(),
        2 => prop::sample::subsequence(kinds, 1..=3).prop_map(|kinds| Match::To(kinds.into())),
        1 => Just(Match::Direction([Direction::Original].into())),
        1 => Just(Match::Mark([MarkMatch { value: 0, mask: 7 }].into())),
        1 => Just(Match::Absent),
    ]
}
