//! Random sequences of packets through the kernel's tracker and through ours: what comes out, how each packet is classified,
//! and the flows that are left must be the same. What differs is made as small as it gets, and printed with its seed.
//!
//! ```text
//! cargo test -p sluice-tests --test differential -- [--seed S] [--sequences N] [--from N] [--only tcp] [--fragments] [--time] [--shown N] [--show]
//! ```
//!
//! Needs root, for namespaces. `scripts/differential` is the same in the form that people run. Differences that are
//! meant stand in `known.rs`, with reasons.

#[path = "../bare_engine/mod.rs"]
mod bare_engine;
mod engine;
mod generate;
mod kernel;
mod known;
mod packet;
mod play;
mod random;
mod rules;
mod seen;
mod sequence;
mod shrink;

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use crate::generate::Subject;
use crate::kernel::Kernel;
use crate::play::{Pair, excuse, play};
use crate::random::Random;
use crate::seen::Seen;
use crate::sequence::{Sequence, Settings};

/// Sequences that are played in one go, under the same settings.
const BATCH: u64 = 500;
/// No choices of a sequence are made from this number: those of settings.
const SETTINGS: u64 = 1 << 63;

struct Options {
    seed: u64,
    from: u64,
    sequences: u64,
    /// All sequences are about this.
    only: Option<Subject>,
    /// Some packets come in fragments.
    fragments: bool,
    /// Seconds pass within sequences.
    time: bool,
    /// So many differences are made small and shown; each kind once.
    shown: usize,
    /// Every sequence is shown.
    show: bool,
}

fn main() -> ExitCode {
    let mut run = Run::new(options());
    let mut at = run.options.from;
    let end = at + run.options.sequences;
    while at < end {
        let next = ((at / BATCH + 1) * BATCH).min(end);
        run.batch(at..next);
        at = next;
    }
    run.finish()
}

/// What was played so far.
struct Run {
    options: Options,
    kernel: Kernel,
    start: Instant,
    played: usize,
    different: usize,
    /// Differed, and did not when they were played again: the machine was busy.
    passing: usize,
    /// How often each reason explained a difference.
    explained: BTreeMap<&'static str, usize>,
    /// How often what differs looks alike.
    alike: BTreeMap<String, usize>,
}

impl Run {
    fn new(options: Options) -> Run {
        let (kernel, start) = (Kernel::new(), Instant::now());
        let (explained, alike) = Default::default();
        Run { options, kernel, start, played: 0, different: 0, passing: 0, explained, alike }
    }

    /// Plays sequences of one batch.
    fn batch(&mut self, numbers: Range<u64>) {
        let Options { seed, only, fragments, time, show, .. } = self.options;
        let settings = generate::settings(&mut Random::new(seed, SETTINGS | (numbers.start / BATCH)), time);
        let sequences: Vec<_> = numbers
            .clone()
            .map(|number| generate::sequence(Random::new(seed, number), only, fragments))
            .collect();
        let pairs = play(&self.kernel, &settings, &sequences);
        self.played += pairs.len();
        let mut suspects = Vec::new();
        for (number, (sequence, pair)) in numbers.zip(sequences.into_iter().zip(&pairs)) {
            if show {
                println!("{}", report(seed, number, &settings, &sequence, pair));
            }
            match pair.difference(&settings).map(|differs| excuse(&sequence, pair, differs)) {
                None => {}
                Some(Some(reason)) => *self.explained.entry(reason).or_default() += 1,
                Some(None) => suspects.push((number, sequence)),
            }
        }
        let again: Vec<_> = suspects.iter().map(|(_, sequence)| sequence.clone()).collect();
        for ((number, sequence), pair) in suspects.into_iter().zip(play(&self.kernel, &settings, &again)) {
            match pair.difference(&settings).map(|differs| excuse(&sequence, &pair, differs)) {
                Some(None) => self.found(number, &settings, &sequence, &pair),
                _ => self.passing += 1,
            }
        }
    }

    /// Counts a difference, and shows the first of its kind.
    fn found(&mut self, number: u64, settings: &Settings, sequence: &Sequence, pair: &Pair) {
        self.different += 1;
        let alike = self.alike.entry(signature(sequence, pair, settings)).or_default();
        *alike += 1;
        if *alike > 1 || self.alike.len() > self.options.shown {
            return;
        }
        let text = match shrink::shrink(&self.kernel, settings, sequence) {
            Some(small) => {
                let pair = &play(&self.kernel, settings, std::slice::from_ref(&small))[0];
                report(self.options.seed, number, settings, &small, pair)
            }
            None => {
                report(self.options.seed, number, settings, sequence, pair) + "  (not when played alone)\n"
            }
        };
        println!("{text}");
    }

    fn finish(self) -> ExitCode {
        for (signature, count) in &self.alike {
            println!("{count:6} {signature}");
        }
        for (reason, count) in &self.explained {
            println!("{count:6} meant: {reason}");
        }
        let Run { played, different, passing, start, options, .. } = self;
        println!(
            "seed {}, {:.1} s, {passing} did not differ again",
            options.seed,
            start.elapsed().as_secs_f64()
        );
        println!("{} passed, {different} failed", played - different);
        if different == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn options() -> Options {
    let mut options = Options {
        seed: 1,
        from: 0,
        sequences: 5000,
        only: None,
        fragments: false,
        time: false,
        shown: 12,
        show: false,
    };
    let mut words = std::env::args().skip(1);
    let number = |word: Option<String>| word.and_then(|word| word.parse().ok()).expect("a number");
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seed" => options.seed = number(words.next()),
            "--from" => options.from = number(words.next()),
            "--sequences" => options.sequences = number(words.next()),
            "--only" => options.only = words.next().and_then(|name| Subject::named(&name)),
            "--fragments" => options.fragments = true,
            "--time" => options.time = true,
            "--shown" => options.shown = number(words.next()) as usize,
            "--show" => options.show = true,
            other => panic!(
                "{other}: options are --seed S, --from N, --sequences N, --only SUBJECT, --fragments, --time, --shown N, --show"
            ),
        }
    }
    options
}

/// What differences of one kind have in common.
fn signature(sequence: &Sequence, pair: &Pair, settings: &Settings) -> String {
    let kind = |at: usize| sequence.0.get(at).map_or("nothing", |step| step.packet.message.name());
    match pair.difference(settings).flatten() {
        Some(at) => {
            let classes = |seen: &[Seen]| {
                seen.iter()
                    .map(|one| format!("{:?}", one.plain(settings.status).class))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let (kernel, engine) = (&pair.kernel.steps[at], &pair.engine.steps[at]);
            let spoilt = if sequence.0[at].packet.spoil.is_none() { "" } else { ", spoilt" };
            format!("{}{spoilt}: kernel {}; engine {}", kind(at), classes(kernel), classes(engine))
        }
        None => format!("flows after {}", kind(sequence.0.len().saturating_sub(1))),
    }
}

fn report(seed: u64, number: u64, settings: &Settings, sequence: &Sequence, pair: &Pair) -> String {
    let mut out = format!("--- seed {seed} sequence {number}, {settings:?}\n");
    let differs = pair.difference(settings);
    for (place, step) in sequence.0.iter().enumerate() {
        let mark = if differs == Some(Some(place)) { '!' } else { ' ' };
        let packet = &step.packet;
        out += &format!("{mark} {place} {:?} > {:?}", packet.src, packet.dst);
        if step.leg != packet.src.leg() {
            out += " from the other leg";
        }
        if let Some(piece) = step.piece {
            out += &format!(" {piece:?}");
        }
        if !packet.extra.is_none() {
            out += &format!(" {:?}", packet.extra);
        }
        if !packet.spoil.is_none() {
            out += &format!(" {:?}", packet.spoil);
        }
        out += &format!(" {}{:?}\n", if packet.v6 { "v6 " } else { "" }, packet.message);
        let (kernel, engine) = (&pair.kernel.steps[place], &pair.engine.steps[place]);
        if mark == '!' {
            out += &format!("      kernel {kernel:?}\n      engine {engine:?}\n");
            for seen in kernel.iter().chain(engine) {
                out += &format!("      {:02x?}\n", seen.bytes);
            }
        } else {
            out += &format!("      {kernel:?}\n");
        }
    }
    out + &format!("  kernel {:?}\n  engine {:?}\n", pair.kernel.flows, pair.engine.flows)
}
