//! Packets copied for whoever captures: what is wanted, and how workers and control pass copies to each other.
//!
//! A worker writes copies one behind the other into a page, a plain buffer of fixed size, and swaps full pages for empty
//! ones. There are so many pages and no more: where none is empty the copy is lost, and counted, and the packet is not
//! looked at twice. The engine itself captures nothing; these are the words that both sides of the daemon share.

use std::fmt::Debug;
use std::sync::Arc;

use crate::bpf::Program;
use crate::ids::InterfaceId;
use crate::verdict::DropReason;

/// Names a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CaptureId(pub u32);

/// What to capture, and where it goes.
#[derive(Clone, Debug)]
pub struct Order {
    /// Names it.
    pub id: CaptureId,
    /// Only frames that match this.
    pub filter: Option<Arc<Program>>,
    /// Only frames of this interface.
    pub interface: Option<InterfaceId>,
    /// Only packets that were dropped, or dropped and answered.
    pub drops: bool,
    /// Bytes of each frame that are copied; less than [`PAGE`].
    pub snaplen: u32,
    /// Where copies go.
    pub pages: Arc<dyn Pages>,
}

/// Pages of one worker and one capture, on their way to control and back. Called while packets wait: neither waits nor
/// allocates, nor does it call the system.
pub trait Pages: Debug + Send + Sync {
    /// An empty page with [`PAGE`] bytes of room; None if control has all of them.
    fn empty(&self) -> Option<Vec<u8>>;

    /// Hands over a page with copies in it.
    fn filled(&self, page: Vec<u8>);

    /// Counts a frame that matched, and whether its copy was lost.
    fn count(&self, lost: bool);
}

/// Bytes of a page.
pub const PAGE: usize = 64 << 10;

/// The most that is copied of a frame, in bytes.
pub const LONGEST: u32 = 16 << 10;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It came in: as it was received.
    In,
    /// It leaves, or would have: as it was to be sent.
    Out,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It went on, or was used up.
    Passed,
    /// It was dropped, and its sender told.
    Answered,
    /// It was dropped.
    Dropped(DropReason),
}

/// What is known of a copied frame beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Nanoseconds of [`crate::ids::Now`].
    pub at: u64,
    /// Bytes of the frame, copied or not.
    pub length: u32,
    /// Where it came in, or leaves by.
    pub interface: InterfaceId,
    /// Which of the two.
    pub way: Way,
    /// What became of it.
    pub fate: Fate,
}

/// Bytes that stand before each copy: time 8, length 4, copied bytes 4, interface 2, way 1, fate 1; little endian.
const HEADER: usize = 20;

const PASSED: u8 = 0;
const ANSWERED: u8 = 1;
/// The first drop reason.
const DROPPED: u8 = 2;

impl Copied {
    /// Adds a copy to a page; false, and the page is as it was, if there is no room.
    pub fn write(&self, bytes: &[u8], page: &mut Vec<u8>) -> bool {
        let Ok(copied) = u32::try_from(bytes.len()) else { return false };
        if PAGE.saturating_sub(page.len()) < HEADER + bytes.len() {
            return false;
        }
        let fate = match self.fate {
            Fate::Passed => PASSED,
            Fate::Answered => ANSWERED,
            Fate::Dropped(reason) => DROPPED + reason as u8,
        };
        page.extend_from_slice(&self.at.to_le_bytes());
        page.extend_from_slice(&self.length.to_le_bytes());
        page.extend_from_slice(&copied.to_le_bytes());
        page.extend_from_slice(&self.interface.0.to_le_bytes());
        page.extend_from_slice(&[u8::from(self.way == Way::Out), fate]);
        page.extend_from_slice(bytes);
        true
    }

    /// Takes the first copy off a page; None at its end.
    pub fn read<'p>(page: &mut &'p [u8]) -> Option<(Copied, &'p [u8])> {
        let (header, rest) = page.split_first_chunk::<HEADER>()?;
        let (at, header) = header.split_first_chunk::<8>()?;
        let (length, header) = header.split_first_chunk::<4>()?;
        let (copied, header) = header.split_first_chunk::<4>()?;
        let (interface, header) = header.split_first_chunk::<2>()?;
        let [way, fate] = *header else { return None };
        let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*copied) as usize)?;
        *page = rest;
        let fate = match fate {
            PASSED => Fate::Passed,
            ANSWERED => Fate::Answered,
            reason => Fate::Dropped(*DropReason::ALL.get(usize::from(reason - DROPPED))?),
        };
        let copied = Copied {
            at: u64::from_le_bytes(*at),
            length: u32::from_le_bytes(*length),
            interface: InterfaceId(u16::from_le_bytes(*interface)),
            way: if way == 0 { Way::In } else { Way::Out },
            fate,
        };
        Some((copied, bytes))
    }
}

// The fate must fit into a byte.
const _: () = assert!(DropReason::COUNT + DROPPED as usize <= 256);
// A page holds the longest copy.
const _: () = assert!(HEADER + LONGEST as usize <= PAGE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gives_back_what_was_written() {
        let copies = [
            (Way::In, Fate::Passed, &b"first"[..]),
            (Way::Out, Fate::Answered, b""),
            (Way::In, Fate::Dropped(DropReason::NoBuffer), b"third"),
        ];
        let copy = |way, fate| Copied { at: 1 << 40, length: 1500, interface: InterfaceId(300), way, fate };
        let mut page = Vec::new();
        for (way, fate, bytes) in copies {
            assert!(copy(way, fate).write(bytes, &mut page));
        }
        let mut rest = page.as_slice();
        for (way, fate, bytes) in copies {
            assert_eq!(Copied::read(&mut rest), Some((copy(way, fate), bytes)));
        }
        assert_eq!(Copied::read(&mut rest), None);
    }

    #[test]
    fn a_full_page_stays_as_it_was() {
        let copy =
            Copied { at: 0, length: LONGEST, interface: InterfaceId(0), way: Way::In, fate: Fate::Passed };
        let mut page = Vec::with_capacity(PAGE);
        let bytes = vec![7; LONGEST as usize];
        let fit = (0..).take_while(|_| copy.write(&bytes, &mut page)).count();
        assert_eq!(fit, 3);
        assert_eq!((page.len(), page.capacity()), (3 * (HEADER + bytes.len()), PAGE));
    }
}
