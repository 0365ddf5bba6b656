//! `sluice show nat --owner`: whose a port of a block is, on the running router or by a policy file alone.

use std::net::SocketAddrV4;
use std::path::Path;

use sluice_api::PortOwner;
use sluice_compiler::{Names, port_owners};
use sluice_config::{Diagnostics, Policy};

use crate::client::Client;
use crate::print::{print_json, print_line};
use crate::{Failure, Outcome};

/// Asks and prints; the answer is no where nobody has the port.
pub(crate) async fn owner(client: &Client, of: SocketAddrV4, policy: Option<&Path>, json: bool) -> Outcome {
    let owners: Vec<PortOwner> = match policy {
        Some(policy) => by(policy, of)?,
        None => client.get(&format!("/v1/nat/owner/{}/{}", of.ip(), of.port())).await?,
    };
    if json {
        print_json(&owners)?;
    } else {
        for PortOwner { rule, subscriber, first, last } in &owners {
            print_line(&format!("{subscriber} has {} ports {first}-{last} by {rule}", of.ip()))?;
        }
    }
    if owners.is_empty() { Err(Failure::No(Some(format!("no block has {of}")))) } else { Ok(()) }
}

fn by(path: &Path, of: SocketAddrV4) -> Result<Vec<PortOwner>, Failure> {
    let refused = |found: Diagnostics| {
        found.iter().for_each(|d| eprintln!("{d}"));
        Failure::No(Some("the policy is bad".into()))
    };
    let (policy, _) = Policy::load(path, None).map_err(refused)?;
    let compiled = sluice_compiler::compile(&policy, &Names::as_given(&policy), 1).map_err(refused)?;
    Ok(port_owners(&compiled.ruleset, *of.ip(), of.port()))
}
