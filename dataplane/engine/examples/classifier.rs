//! What compiling rules to a classifier takes, and what it comes to: time, memory, and how far a packet may have to go,
//! for rule sets shaped as ClassBench's of 1,000 to 100,000 rules.
//!
//! usage: classifier [RULES…]: prints a table. Look-ups are counted in nanoseconds on packets that rules were made for;
//! `scripts/cost` counts them in instructions, which stands a busy machine.

#[path = "../tests/shapes/mod.rs"]
mod shapes;

use std::hint::black_box;
use std::time::Instant;

use shapes::{Chance, Shape};
use sluice_engine::conntrack::{CtInfo, CtState};
use sluice_engine::ids::{InterfaceId, Now, WorkerId};
use sluice_engine::ruleset::{Effects, Hook, View};
use sluice_engine::world::Interfaces;

fn main() {
    let mut counts: Vec<usize> = std::env::args().skip(1).filter_map(|count| count.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![10, 100, 1000, 10_000, 100_000];
    }
    println!("shape   rules  compiled    memory  entries   nodes  leaves  longest  look-up");
    for shape in Shape::ALL {
        counts.iter().for_each(|&count| row(shape, count));
    }
}

fn row(shape: Shape, count: usize) {
    let rules = shapes::rules(shape, count);
    let builder = shapes::builder(&rules);
    let began = Instant::now();
    let ruleset = builder.build(1).expect("a ruleset");
    let compiled = began.elapsed();
    let stats = ruleset.indexes().next().map(|(.., stats)| stats).unwrap_or_default();
    let mut chance = Chance(3);
    let packets: Vec<_> =
        (0..65_536).map(|_| rules[chance.below(rules.len() as u64) as usize].packet(&mut chance)).collect();
    let interfaces = Interfaces::default();
    let began = Instant::now();
    for packet in &packets {
        let mut view = View {
            packet,
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
        black_box(ruleset.evaluate(Hook::FilterForward, &mut view, &mut Effects::default()));
    }
    let each = began.elapsed().as_nanos() / packets.len() as u128;
    println!(
        "{:5} {count:7} {:6} ms {:6} KiB {:8} {:7} {:7} {:8} {each:5} ns",
        format!("{shape:?}").to_lowercase(),
        compiled.as_millis(),
        stats.bytes / 1024,
        stats.entries,
        stats.nodes,
        stats.leaves,
        stats.longest,
    );
}
