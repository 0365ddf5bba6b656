//! What the devices looked like before they were changed, and the file that remembers it over a crash.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::route::RouteMessage;
use serde::{Deserialize, Serialize};

/// One device as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedDevice {
    pub(super) name: String,
    /// A device that was removed and made anew has another one; its settings are none of ours.
    pub(super) index: u32,
    pub(super) up: bool,
    pub(super) allmulti: bool,
    pub(super) mtu: u32,
    /// Features that were on and are off now.
    pub(super) features: Vec<String>,
    /// IPv6 sysctls by name.
    pub(super) ipv6: Vec<(String, String)>,
    /// Addresses as the kernel dumped them, so that lifetimes, labels and flags come back too.
    pub(super) addresses: Vec<HexMessage>,
    /// Routes over the device as the kernel dumped them.
    pub(super) routes: Vec<HexMessage>,
}

/// A netlink message without its header, in hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct HexMessage(String);

impl HexMessage {
    /// Keeps a message.
    pub(super) fn new(message: &impl Emitable) -> HexMessage {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        HexMessage(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        let digits = self.0.as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
    }

    /// The message again, as an address.
    pub(super) fn address(&self) -> Option<AddressMessage> {
        AddressMessage::parse(self.bytes()?.as_slice()).ok()
    }

    /// The message again, as a route.
    pub(super) fn route(&self) -> Option<RouteMessage> {
        RouteMessage::parse(self.bytes()?.as_slice()).ok()
    }
}

/// `interfaces.json` in the state folder.
pub(super) struct SavedFile {
    path: PathBuf,
}

/// Devices with the kernel and the namespace that they belong to: after a reboot, or elsewhere, there is nothing to put
/// back.
#[derive(Serialize, Deserialize)]
struct Content {
    boot: String,
    namespace: u64,
    devices: Vec<SavedDevice>,
}

impl SavedFile {
    /// The file in this state folder.
    pub(super) fn new(state: &Path) -> SavedFile {
        SavedFile { path: state.join("interfaces.json") }
    }

    /// Devices that an earlier daemon left changed.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub(super) fn load(&self) -> io::Result<Vec<SavedDevice>> {
        let text = match fs::read_to_string(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        let content: Content = serde_json::from_str(&text)?;
        let here = content.boot == boot()? && content.namespace == namespace()?;
        Ok(if here { content.devices } else { Vec::new() })
    }

    /// Remembers devices, on disk before this returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn store(&self, devices: &[SavedDevice]) -> io::Result<()> {
        let content = Content { boot: boot()?, namespace: namespace()?, devices: devices.to_vec() };
        let temporary = self.path.with_extension("json.new");
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(&content)?)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)
    }

    /// Forgets them: everything is as it was.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn namespace() -> io::Result<u64> {
    Ok(fs::metadata("/proc/thread-self/ns/net")?.ino())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use netlink_packet_route::AddressFamily;
    use netlink_packet_route::address::AddressAttribute;

    use super::*;

    #[test]
    fn a_message_survives_the_file() {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = 24;
        message.header.index = 7;
        message.attributes.push(AddressAttribute::Local(Ipv4Addr::new(10, 0, 0, 1).into()));
        assert_eq!(HexMessage::new(&message).address(), Some(message));
        assert_eq!(HexMessage("0".into()).address(), None);
    }
}
