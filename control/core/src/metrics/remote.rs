//! Families of remote control: who is connected, what was asked, and who was refused for what reason.

use super::family::Family;
use crate::control::Control;
use crate::lock::locked;

/// Adds them, also where remote control is off: then they are 0.
pub(super) fn remote(control: &Control, families: &mut Vec<Family>) {
    let remote = locked(&control.remote);
    let up = Family::gauge("remote_up", "1 if the API is served to other hosts.");
    families.push(up.with(f64::from(u8::from(remote.address().is_some()))));
    let mut connections = Family::gauge("remote_connections", "Remote connections, by how far they came.");
    let (known, strangers) = remote.connections();
    for (state, count) in [("handshake", strangers), ("open", known)] {
        connections.add(&[("state", state)], count as f64);
    }
    families.push(connections);
    let mut requests = Family::counter("remote_requests_total", "Requests of remote clients by their role.");
    for (role, count) in remote.limits.requests() {
        requests.add(&[("role", role)], count as f64);
    }
    families.push(requests);
    let help = "Remote connections and requests that were refused.";
    let mut refused = Family::counter("remote_refused_total", help);
    for (reason, count) in remote.limits.refusals.all() {
        refused.add(&[("reason", reason)], count as f64);
    }
    families.push(refused);
    let help = "When the certificate that the box shows to remote clients ends; 0 if there is none.";
    let expiry = Family::gauge("remote_certificate_expiry_timestamp_seconds", help);
    families.push(expiry.with(remote.not_after().unwrap_or(0) as f64));
}
