//! The recorded scenarios of `tests/conformance`, packet by packet through policy, compiler and engine, with no
//! DPDK, namespaces or waiting: verdicts, packets, ct states and the flow table must be the kernel's.
//!
//! Compared as the harness's `run.py check` does, but for one thing: what a host's own stack answers (`answered` by
//! the box behind the tap) is taken from the recording and sent from the tap. Scenarios that `not-yet.txt` names are
//! left out.

#[path = "../bare_engine/mod.rs"]
mod bare_engine;
mod packet;
mod policy;
mod router;
mod scenario;

use std::path::{Path, PathBuf};

/// The folder of the harness.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// Prefixes of the scenarios that are not expected to agree.
fn not_yet() -> Vec<String> {
    let text = std::fs::read_to_string(folder().join("not-yet.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_string).collect()
}

fn scenarios() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for family in std::fs::read_dir(folder().join("scenarios")).unwrap() {
        for file in std::fs::read_dir(family.unwrap().path()).unwrap() {
            files.push(file.unwrap().path());
        }
    }
    files.sort();
    files
}

#[test]
fn the_engine_agrees_with_the_kernel() {
    agree(false);
}

/// The same with nothing stored in flows: a stored decision must change nothing but the time it takes.
#[test]
fn so_it_does_when_it_decides_about_every_packet_anew() {
    agree(true);
}

/// `SCENARIO=prefix` runs those alone, with every step shown.
fn agree(anew: bool) {
    let only = std::env::var("SCENARIO").ok();
    let not_yet = not_yet();
    let (mut ran, mut wrong) = (0, Vec::new());
    for file in scenarios() {
        let text = std::fs::read_to_string(&file).unwrap();
        let scenario: serde_json::Value = serde_json::from_str(&text).unwrap();
        let id = scenario["id"].as_str().unwrap();
        let chosen = match &only {
            Some(prefix) => id.starts_with(prefix.as_str()),
            None => !not_yet.iter().any(|prefix| id.starts_with(prefix.as_str())),
        };
        if chosen {
            ran += 1;
            let differences = scenario::run(&scenario, anew, only.is_some());
            wrong.extend(differences.into_iter().map(|difference| format!("{id}: {difference}")));
        }
    }
    assert!(ran > 0, "no scenario has that prefix");
    assert!(wrong.is_empty(), "{} differences in {ran} scenarios:\n{}", wrong.len(), wrong.join("\n"));
}
