//! Why remote clients are refused: each reason is one variant and one label of `sluice_remote_refused_total`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::control::unix_seconds;

/// Why a connection or a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Too many connections: of all, of one network, or of one certificate.
    Connections,
    /// What was sent is no TLS 1.3, or was broken off.
    Handshake,
    /// The handshake took too long.
    HandshakeTimeout,
    /// No certificate was shown.
    NoCertificate,
    /// The certificate is of another authority, for another purpose, or damaged.
    BadCertificate,
    /// The certificate's time is over, or has not come.
    Expired,
    /// The certificate is on the revocation list.
    Revoked,
    /// The certificate names no role.
    NoRole,
    /// The certificate's role does not permit it.
    Role,
    /// A change without its time and number.
    Unstamped,
    /// A change whose time is not now.
    Stale,
    /// A change that was asked for before.
    Replay,
    /// More changes than can be remembered.
    Changes,
    /// What was sent is no HTTP.
    Malformed,
    /// A body beyond the limit.
    Oversized,
    /// A header or a body that did not come in time.
    Slow,
    /// Others send large bodies already.
    Busy,
}

impl Refused {
    /// All, in the order of the variants.
    pub(crate) const ALL: [Refused; 17] = [
        Refused::Connections,
        Refused::Handshake,
        Refused::HandshakeTimeout,
        Refused::NoCertificate,
        Refused::BadCertificate,
        Refused::Expired,
        Refused::Revoked,
        Refused::NoRole,
        Refused::Role,
        Refused::Unstamped,
        Refused::Stale,
        Refused::Replay,
        Refused::Changes,
        Refused::Malformed,
        Refused::Oversized,
        Refused::Slow,
        Refused::Busy,
    ];

    /// The metric's label.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Refused::Connections => "connections",
            Refused::Handshake => "handshake",
            Refused::HandshakeTimeout => "handshake_timeout",
            Refused::NoCertificate => "no_certificate",
            Refused::BadCertificate => "bad_certificate",
            Refused::Expired => "expired",
            Refused::Revoked => "revoked",
            Refused::NoRole => "no_role",
            Refused::Role => "role",
            Refused::Unstamped => "unstamped",
            Refused::Stale => "stale",
            Refused::Replay => "replay",
            Refused::Changes => "changes",
            Refused::Malformed => "malformed",
            Refused::Oversized => "oversized",
            Refused::Slow => "slow",
            Refused::Busy => "busy",
        }
    }
}

/// How often each reason came up. Whoever knocks must not be able to fill the log: it gets a line a second at most.
#[derive(Default)]
pub(crate) struct Refusals {
    counts: [AtomicU64; Refused::ALL.len()],
    /// When the last line was written, seconds since 1970.
    told: AtomicU64,
}

impl Refusals {
    /// Counts one, and says in the log whom it met and why.
    pub(crate) fn count(&self, reason: Refused, from: impl fmt::Display, why: impl fmt::Display) {
        if let Some(count) = self.counts.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let now = unix_seconds();
        if self.told.swap(now, Ordering::Relaxed) != now {
            let reason = reason.label();
            tracing::warn!(target: "sluice::remote", reason, %from, %why, "remote client refused");
        }
    }

    /// All reasons with their counts.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Refused::ALL.iter().map(|reason| reason.label()).zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_count_and_a_label_of_its_own() {
        let refusals = Refusals::default();
        for (at, reason) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
            (0..=at).for_each(|_| refusals.count(reason, "test", "test"));
        }
        let mut labels: Vec<_> = refusals.all().collect();
        assert!((1..).zip(&labels).all(|(expected, (_, count))| *count == expected), "{labels:?}");
        labels.sort_unstable();
        labels.dedup_by_key(|(label, _)| *label);
        assert_eq!(labels.len(), Refused::ALL.len());
    }
}
