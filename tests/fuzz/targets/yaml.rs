//! Any text as a policy and as a system file: refused with errors that have their place in it, or accepted; and what was
//! accepted is accepted again from what is kept of it. A policy that was accepted is compiled, and its tests are run.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use sluice_config::{Diagnostics, Policy, PolicySource, System};

fuzz_target!(|text: &str| {
    let source = PolicySource { name: "policy.yaml".into(), text: text.into(), files: BTreeMap::new() };
    match Policy::from_source(&source, None) {
        Ok((policy, warnings)) => {
            assert!(!warnings.has_errors());
            placed(text, &warnings);
            let again = Policy::from_source(&policy.source, None).expect("accepted before");
            assert_eq!(again.1, warnings);
            if let Err(findings) = sluice_compiler::check(&policy, None, 1) {
                refused(text, &findings);
            }
        }
        Err(findings) => refused(text, &findings),
    }
    match System::parse("sluice.yaml", text) {
        Ok((_, warnings)) => {
            assert!(!warnings.has_errors());
            placed(text, &warnings);
        }
        Err(findings) => refused(text, &findings),
    }
});

fn refused(text: &str, findings: &Diagnostics) {
    assert!(findings.has_errors(), "refused without saying why");
    placed(text, findings);
}

/// Every finding can be shown, and lies in the text, or concerns it as a whole.
fn placed(text: &str, findings: &Diagnostics) {
    // Whatever ends a line anywhere. What is missing at the end of the text is missed in the line behind the last.
    let lines = text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 2;
    for finding in findings.iter() {
        assert!(!finding.to_string().is_empty() && !finding.message.is_empty());
        assert!(finding.line as usize <= lines, "line {} of {lines}", finding.line);
        assert_eq!(finding.line == 0, finding.column == 0, "{finding:?}");
    }
}
