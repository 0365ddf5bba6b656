//! Certificates of remote control: what both ends read from disk, who a certificate speaks for, and making them.
//!
//! Sockets are elsewhere: this crate turns files into TLS configurations and judges what they hold. TLS is 1.3 alone
//! (rustls is built without 1.2), certificates are required on both ends, early data and session tickets are off.
//!
//! | file | what |
//! |---|---|
//! | `files` | PEM files, and what is wrong with them |
//! | `identity` | a certificate's name, role and lifetime |
//! | `server`, `client` | both ends' configurations |
//! | `authority` | the small certificate authority behind `sluice cert` |

mod authority;
mod client;
mod files;
mod identity;
mod server;

pub use authority::{Authority, AuthorityError, Issued, Kind, Lifetime};
pub use client::{ClientFiles, client_config};
pub use files::FileError;
pub use identity::{Identity, Role};
pub use server::{ServerFiles, ServerSide};

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// Fills an array with random bytes that nobody can foretell; None if the system has none to give.
pub fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    provider().secure_random.fill(&mut bytes).ok()?;
    Some(bytes)
}

/// The cryptography that all of this uses.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
