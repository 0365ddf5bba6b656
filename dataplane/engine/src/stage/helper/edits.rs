//! What is to be written anew in a packet's payload, gathered while it is read, and done at once: the packet's bytes move
//! once, and a stream is shifted by the sum of it.

use std::fmt;
use std::io::{Cursor, Write};
use std::net::IpAddr;
use std::ops::{ControlFlow, Range};

use sluice_wire::splice;
use sluice_wire::tcp::Segment;

use super::{Control, drop};
use crate::pipeline::Step;
use crate::stage::mtu;
use crate::transit::Transit;
use crate::verdict::DropReason;

/// Places in one packet.
const PLACES: usize = 64;
/// Bytes that may be written.
const ROOM: usize = 2048;

/// A place in the frame, and where its new text lies.
#[derive(Clone, Copy, Default)]
struct Edit {
    at: (u16, u16),
    text: (u16, u16),
}

/// A packet's changes.
pub(super) struct Edits {
    list: [Edit; PLACES],
    count: usize,
    text: [u8; ROOM],
    used: usize,
    /// More was asked for than there is room.
    overflown: bool,
}

impl Edits {
    /// None.
    pub(super) fn new() -> Edits {
        Edits { list: [Edit::default(); PLACES], count: 0, text: [0; ROOM], used: 0, overflown: false }
    }

    /// Has something written in place of what is `at` (in bytes of the frame), whatever was asked for there before.
    pub(super) fn put(&mut self, at: Range<usize>, text: impl fmt::Display) {
        let begin = self.used;
        let mut out = Cursor::new(self.text.get_mut(begin..).unwrap_or_default());
        let written = write!(out, "{text}").is_ok();
        self.used = begin + usize::try_from(out.position()).unwrap_or_default();
        let short = |n: usize| u16::try_from(n).ok();
        let ends = (short(at.start), short(at.end), short(begin), short(self.used));
        let (true, (Some(start), Some(end), Some(from), Some(to))) = (written, ends) else {
            self.overflown = true;
            return;
        };
        let edit = Edit { at: (start, end), text: (from, to) };
        if let Some(same) = self.list.iter_mut().take(self.count).find(|known| known.at == edit.at) {
            *same = edit;
            return;
        }
        match self.list.get_mut(self.count) {
            Some(place) => (*place, self.count) = (edit, self.count + 1),
            None => self.overflown = true,
        }
    }

    /// By how many bytes what lies in `within` becomes longer.
    pub(super) fn growth(&self, within: &Range<usize>) -> i32 {
        let inside = |edit: &&Edit| within.contains(&usize::from(edit.at.0));
        let length = |(start, end): (u16, u16)| i32::from(end) - i32::from(start);
        self.list.iter().take(self.count).filter(inside).map(|edit| length(edit.text) - length(edit.at)).sum()
    }

    /// Writes all of it. What cannot be written drops the packet.
    pub(super) fn apply(&mut self, t: &mut Transit<'_, '_, '_>, control: &Control) -> Step {
        if self.overflown {
            return drop(DropReason::HelperRewrite);
        }
        let (list, text) = (self.list.get_mut(..self.count).unwrap_or_default(), &self.text);
        if list.is_empty() {
            return ControlFlow::Continue(());
        }
        list.sort_unstable_by_key(|edit| std::cmp::Reverse(edit.at));
        let changes = list.iter().map(|edit| {
            let text = text.get(usize::from(edit.text.0)..usize::from(edit.text.1)).unwrap_or_default();
            (usize::from(edit.at.0)..usize::from(edit.at.1), text)
        });
        let seq = Segment::of(t.packet, t.frame.bytes()).map(|segment| segment.seq);
        let before = t.packet.end;
        let start = usize::from(t.frame.start);
        let room = t.frame.buffer.get_mut(start..).unwrap_or_default();
        if !splice::splice_all(room, t.packet, changes) {
            return drop(DropReason::HelperRewrite);
        }
        t.frame.len = t.packet.end;
        let by = i32::from(t.packet.end) - i32::from(before);
        if let (Some(seq), true) = (seq, by != 0) {
            t.bench.conntrack.shift(control.flow, control.direction, seq, by);
        }
        mtu::check(t)
    }
}

/// An address as URIs have it: of IPv6 in brackets.
pub(super) struct InUri(pub(super) IpAddr, pub(super) u16);

impl fmt::Display for InUri {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InUri(IpAddr::V4(address), port) => write!(out, "{address}:{port}"),
            InUri(IpAddr::V6(address), port) => write!(out, "[{address}]:{port}"),
        }
    }
}
