//! Trees against a look at every area, for any areas and points.

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::area::Field;
use super::*;

/// Areas in few numbers, so that ends meet and areas nest.
fn any_areas<K: Number>(most: usize) -> impl Strategy<Value = Vec<Area<K>>> {
    let last = K::LAST.narrow();
    let end = prop_oneof![4 => 0u16..12, 1 => Just(last), 1 => last - 3..=last];
    let range = (end.clone(), end).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let range = prop_oneof![1 => Just(None), 2 => range.prop_map(Some)];
    prop::collection::vec(prop::collection::vec(range, Field::COUNT), 0..most).prop_map(|all| {
        let area = |(rule, ranges): (usize, Vec<Option<(u16, u16)>>)| {
            let mut area = Area {
                ranges: [(K::default(), K::LAST); Field::COUNT],
                guard: Guard::default(),
                rule: rule as u32 / 2,
                exact: rule % 3 == 0,
            };
            for (n, (place, range)) in area.ranges.iter_mut().zip(ranges).enumerate() {
                if let Some((first, last)) = range {
                    let ends = |value| if n < 2 && value == u16::MAX { K::LAST } else { K::of(value) };
                    *place = (ends(first), ends(last));
                }
            }
            area
        };
        all.into_iter().enumerate().map(area).collect()
    })
}

fn any_point<K: Number>() -> impl Strategy<Value = Point<K>> {
    let value = prop_oneof![4 => 0u16..13, 1 => Just(u16::MAX), 1 => u16::MAX - 4..=u16::MAX];
    prop::collection::vec(value, Field::COUNT).prop_map(|values| {
        let ports = (values[Field::SourcePort as usize], values[Field::DestinationPort as usize]);
        let mut point = Point { fields: [K::default(); Field::COUNT], ports, guard: GuardKey::default() };
        let address = |value| if value == u16::MAX { K::LAST } else { K::of(value) };
        for (n, (place, value)) in point.fields.iter_mut().zip(values).enumerate() {
            *place = if n < 2 { address(value) } else { K::of(value) };
        }
        point
    })
}

/// All rules with an area around a point are found, in order; and none whose addresses or ports differ.
fn finds_what_a_look_at_all_finds<K: Number>(areas: &[Area<K>], points: &[Point<K>]) -> TestCaseResult {
    let tree = grow::grow(areas);
    let mut rules: Vec<_> = areas.iter().map(|area| area.rule).collect();
    rules.dedup();
    for point in points {
        let within = |area: &Area<K>, fields: &[Field]| {
            fields.iter().all(|&field| {
                let ((first, last), value) = (area.range(field), point.field(field));
                first <= value && value <= last
            })
        };
        let mut from = 0;
        let mut found = Vec::new();
        let mut heads = Heads::NONE;
        heads.find(&tree, point);
        while let Some(Named { rule, exact }) = heads.next(&tree, point, from) {
            let told = |area: &Area<K>| area.rule == rule && area.exact && within(area, &Field::ALL[..4]);
            prop_assert!(!exact || areas.iter().any(told), "{rule} of {areas:?}");
            found.push(rule);
            from = rule + 1;
        }
        let of = |fields: &[Field]| -> Vec<u32> {
            let mut rules: Vec<_> =
                areas.iter().filter(|area| within(area, fields)).map(|area| area.rule).collect();
            rules.dedup();
            rules
        };
        let (needed, allowed) = (of(&Field::ALL), of(&Field::ALL[..4]));
        prop_assert!(found.is_sorted() && found.iter().all(|rule| allowed.contains(rule)), "{found:?}");
        prop_assert!(needed.iter().all(|rule| found.contains(rule)), "{needed:?} of {found:?}");
    }
    let stats = tree.stats();
    prop_assert!(stats.entries <= 6 * areas.len() && stats.leaves <= tree::LISTS, "{stats:?}");
    Ok(())
}

proptest! {
    #[test]
    fn trees_find_what_a_look_at_all_finds(
        areas in any_areas::<u32>(400),
        points in prop::collection::vec(any_point(), 50),
    ) {
        finds_what_a_look_at_all_finds(&areas, &points)?;
    }

    #[test]
    fn trees_of_ipv6_do_too(
        areas in any_areas::<u128>(200),
        points in prop::collection::vec(any_point(), 50),
    ) {
        finds_what_a_look_at_all_finds(&areas, &points)?;
    }
}
