//! No text makes the readers panic, loop or take memory without bound: policies come over the API too.

use proptest::prelude::*;
use sluice_config::{Policy, System};

fn read(text: &str) {
    let _ = System::parse("sluice.yaml", text);
    let _ = Policy::parse("policy.yaml", text, None);
}

/// Pieces that get a random text past the first checks.
const PIECES: [&str; 44] = [
    "filter:",
    "raw:",
    "nat:",
    "chains:",
    "sets:",
    "zones:",
    "tests:",
    "interfaces:",
    "routes:",
    "conntrack:",
    "input:",
    "prerouting:",
    "rules:",
    "policy: drop",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    ": ",
    "action: ",
    "accept",
    "jump: a",
    "notrack",
    "src: ",
    "@a",
    "10.0.0.0/8",
    "::1",
    "dport: ",
    "0-65535",
    "limit: 1/s",
    "not: ",
    "&x ",
    "*x",
    "|\n",
    "'",
    "\"",
    "# c\n",
    "99999999999",
    "\u{feff}",
];

proptest! {
    #[test]
    fn arbitrary_text_is_read_or_refused(text in "\\PC*") {
        read(&text);
    }

    #[test]
    fn arbitrary_lines_are_read_or_refused(text in "([ \\-\\[\\]{}:,&*#|>%@!?'\"a-z0-9]{0,12}\\n){0,12}") {
        read(&text);
    }

    #[test]
    fn shuffled_pieces_are_read_or_refused(parts in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60)) {
        read(&parts.concat());
    }
}

/// A policy that has everything, cut off or changed at any byte.
#[test]
fn damaged_policies_are_read_or_refused() {
    let whole = include_str!("../examples/office-router/policy.yaml");
    for cut in (0..whole.len()).filter(|cut| whole.is_char_boundary(*cut)) {
        let (head, tail) = whole.split_at(cut);
        read(head);
        read(&format!("{head}{}", tail.get(1..).unwrap_or_default()));
        read(&format!("{head}:{tail}"));
    }
}

#[test]
fn many_rules_take_no_time() {
    let mut text = String::from("filter:\n  forward:\n");
    for i in 0..100_000u32 {
        let (a, b, c) = (i >> 16, i >> 8 & 255, i & 255);
        text += &format!(
            "    - {{src: 10.{a}.{b}.{c}, proto: tcp, dport: {}, action: accept, name: rule{i}}}\n",
            i % 60000
        );
    }
    let begin = std::time::Instant::now();
    let (policy, warnings) = Policy::parse("policy.yaml", &text, None).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(policy.rules().count(), 100_000);
    assert!(warnings.is_empty());
    // A second in release on one core; what is quadratic would take minutes.
    assert!(begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
    eprintln!("{:?}", begin.elapsed());
}
