//! The classifier against the walk by turn, on rule sets shaped as ClassBench's. A thousand rules; with
//! `SLUICE_RULES=100000` so many.

mod shapes;

use shapes::{Chance, Shape};
use sluice_engine::conntrack::{CtInfo, CtState};
use sluice_engine::ids::{InterfaceId, Now, WorkerId};
use sluice_engine::ruleset::{Effects, Hook, RuleId, View};
use sluice_engine::world::Interfaces;

#[test]
fn rule_sets_of_all_shapes_judge_alike() {
    let count = std::env::var("SLUICE_RULES").ok().and_then(|count| count.parse().ok()).unwrap_or(1000);
    for shape in Shape::ALL {
        let rules = shapes::rules(shape, count);
        let one = shapes::builder(&rules).build(1).expect("rules");
        let other = shapes::builder(&rules).build(1).expect("rules");
        assert_eq!(one.indexes().count(), 1);
        let interfaces = Interfaces::default();
        let mut chance = Chance(7);
        for n in 0..2000 {
            // Most packets are made for a rule; some have nothing to do with any, and some mix two.
            let mut rule = rules[chance.below(rules.len() as u64) as usize];
            match n % 8 {
                0 => rule = shapes::Five::default(),
                1 => rule.dst = rules[chance.below(rules.len() as u64) as usize].dst,
                _ => {}
            }
            let packet = rule.packet(&mut chance);
            let view = View {
                packet: &packet,
                ingress: Some(InterfaceId(0)),
                egress: Some(InterfaceId(1)),
                ct: Some(CtInfo::without_flow(CtState::Untracked)),
                mark: 0,
                interfaces: &interfaces,
                now: Now::default(),
                worker: WorkerId(0),
                rehearsed: false,
                tally: None,
            };
            let (mut did, mut done) = (Effects::default(), Effects::default());
            let decision = one.evaluate(Hook::FilterForward, &mut view.clone(), &mut did);
            assert_eq!(decision, other.evaluate_in_turn(Hook::FilterForward, &mut view.clone(), &mut done));
            assert_eq!(did.rule, done.rule, "{shape:?} {packet:?}");
            assert_eq!(did.counted.ids(), done.counted.ids());
            for &id in did.counted.ids() {
                one.count(WorkerId(0), id, 1, 60);
                other.count(WorkerId(0), id, 1, 60);
            }
        }
        for rule in 0..rules.len() as u32 {
            assert_eq!(one.rule_counters(RuleId(rule)), other.rule_counters(RuleId(rule)));
        }
    }
}
