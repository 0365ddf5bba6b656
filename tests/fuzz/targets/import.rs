//! Any text as rulesets to import: refused, or a policy that is accepted, and a reason for each line that is not in it.
//!
//! Several texts, parted by NUL characters, are one import: sets beside the rules that name them, both families at once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_config::Policy;
use sluice_import::{Format, Options, Source};

fuzz_target!(|text: &str| {
    let sources: Vec<Source> = text.split('\0').map(source).collect();
    let Ok(imported) = sluice_import::import(&sources, &Options::default()) else { return };
    assert!(Policy::parse("policy.yaml", &imported.policy, None).is_ok(), "{}", imported.policy);
    for finding in imported.untranslated.iter().chain(&imported.notes) {
        assert!(!finding.reason.is_empty() && !finding.to_string().is_empty());
    }
});

/// What a text looks like, it is taken for.
fn source(text: &str) -> Source {
    let format = match text.trim_start().split([' ', '\n']).next() {
        Some(word) if word.starts_with('{') => Format::Nft,
        Some("create" | "add") => Format::Ipset,
        Some("#6") => Format::Ip6tables,
        _ => Format::Iptables,
    };
    Source { format, name: "rules".to_owned(), text: text.to_owned() }
}
