//! Imported policies mean what the rulesets meant: the same packets through the kernel with a ruleset, and through the engine
//! with the policy that `sluice import` makes of it.
//!
//! The rulesets are in `tests/rulesets`: what ufw, firewalld, fail2ban and Docker made on Debian 12, and three written to have
//! all that can be translated. Needs root, nftables, iptables, ipset and conntrack.

#[allow(dead_code)] // other tests need more of it than this does
#[path = "../bare_engine/mod.rs"]
mod bare_engine;
mod cases;
mod kernel;
// Of the recordings' harness: how packets are built, and a router made of config, compiler and engine.
#[allow(dead_code)] // as above
#[path = "../conformance_engine/packet.rs"]
mod packet;
mod policy;
#[allow(dead_code)] // as above
#[path = "../conformance_engine/router.rs"]
mod router;
mod words;

use std::path::Path;

use serde_json::json;
use sluice_import::{Format, Options, Source};

use kernel::Kernel;
use router::{Out, Router};

/// The files of a ruleset, with their texts.
fn texts(files: &[&'static str]) -> Vec<(&'static str, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rulesets");
    files.iter().map(|name| (*name, std::fs::read_to_string(folder.join(name)).expect("a ruleset"))).collect()
}

/// The policy made of them, whatever is left out.
fn translated(files: &[(&str, String)]) -> String {
    let source = |(name, text): &(&str, String)| {
        let format = match name.rsplit('.').next() {
            Some("v4") => Format::Iptables,
            Some("v6") => Format::Ip6tables,
            Some("ipset") => Format::Ipset,
            _ => Format::Nft,
        };
        Source { format, name: (*name).to_owned(), text: text.clone() }
    };
    // nft's text is for the kernel: import reads the JSON of the same.
    let sources: Vec<_> = files.iter().filter(|(name, _)| !name.ends_with(".nft")).map(source).collect();
    sluice_import::import(&sources, &Options::default()).expect("a policy").policy
}

/// What becomes of a datagram in the engine.
fn received(router: &mut Router, leg: usize, datagram: &[u8]) -> Vec<String> {
    let outs = router.receive(leg, None, datagram).into_iter();
    let outs = outs.map(|out| match out {
        Out::Forwarded(leg, bytes) | Out::Answered(leg, bytes) => words::say(leg, &bytes),
        Out::Delivered(_) => "delivered".to_owned(),
        Out::Punted => "punted".to_owned(),
    });
    outs.collect()
}

#[test]
fn imported_policies_mean_what_the_rulesets_meant() {
    let mut kernel = Kernel::new();
    let (mut wrong, mut packets) = (Vec::new(), 0);
    for case in cases::CASES {
        let files = texts(case.files);
        let policy = translated(&files);
        kernel.load(&files);
        let mut router = Router::new(&json!({"ruleset": policy})).unwrap_or_else(|why| panic!("{why}"));
        for packet in case.packets {
            let (leg, datagram) = words::read(packet);
            let expected = kernel.receive(leg, &datagram);
            let found = received(&mut router, leg, &datagram);
            packets += 1;
            if std::env::var_os("SHOW").is_some() {
                println!("{:?} {packet}: {expected:?}", case.files);
            }
            if expected != found {
                wrong.push(format!("{:?} {packet}: kernel {expected:?}, engine {found:?}", case.files));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {packets} packets differ:\n{}", wrong.len(), wrong.join("\n"));
}
