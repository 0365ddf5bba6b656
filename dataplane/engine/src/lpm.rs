//! Longest prefix match over `u32` (IPv4) or `u128` (IPv6) keys: routes, and sets of networks.
//!
//! A flat root of up to 16 bits, then nodes of 6 bits that keep two 64-bit maps and find their child or leaf by
//! counting bits, so that a node is 24 bytes whatever it holds. Where one single longer prefix is left below a
//! slot, a *tail* stands there that is compared whole: a table of a million scattered hosts is no deeper than
//! its keys are alike. So does one where all prefixes below are alike for longer than a node resolves, as those of IPv6
//! mostly are; behind it stands the node that tells them apart. Immutable once built; a million prefixes take well under a second.
//!
//! Source: Asai and Ohara, "Poptrie: a compressed trie with population count for fast and scalable software IP
//! routing table lookup", SIGCOMM 2015; the tails are ours.

/// An unsigned integer that prefixes are taken of; the most significant bit comes first.
pub trait LpmKey: Copy + Ord + Default {
    /// Bits of a key.
    const BITS: u32;

    /// `count` bits from bit `from` on, right-aligned; zeros beyond the key's end. `from < BITS`, `count` 1 to 16.
    fn slice(self, from: u32, count: u32) -> usize;

    /// The key with all bits behind the first `len` cleared.
    fn masked(self, len: u8) -> Self;
}

impl LpmKey for u32 {
    const BITS: u32 = u32::BITS;

    #[inline(always)]
    fn slice(self, from: u32, count: u32) -> usize {
        (self.wrapping_shl(from) >> (Self::BITS - count)) as usize
    }

    #[inline(always)]
    fn masked(self, len: u8) -> u32 {
        self & !u32::MAX.checked_shr(u32::from(len)).unwrap_or(0)
    }
}

impl LpmKey for u128 {
    const BITS: u32 = u128::BITS;

    #[inline(always)]
    fn slice(self, from: u32, count: u32) -> usize {
        // Nearly all prefixes end in the upper half, where one word will do.
        if from + count <= u64::BITS {
            let upper = (self >> 64) as u64;
            (upper << from >> (u64::BITS - count)) as usize
        } else {
            (self.wrapping_shl(from) >> (Self::BITS - count)) as usize
        }
    }

    #[inline(always)]
    fn masked(self, len: u8) -> u128 {
        self & !u128::MAX.checked_shr(u32::from(len)).unwrap_or(0)
    }
}

/// The largest value that a prefix can carry; the upper two bits of an entry say what it is.
pub const MAX_VALUE: u32 = NONE - 1;

/// An entry with this bit is a node's index, else one with [`TAIL`] a tail's, else a value or [`NONE`].
const NODE: u32 = 1 << 31;
const TAIL: u32 = 1 << 30;
const NONE: u32 = TAIL - 1;

/// Bits that a node resolves: as many as a word has room for slots.
const STRIDE: u32 = 6;
const SLOTS: usize = 1 << STRIDE;

/// A compiled table. The default one is empty.
#[derive(Clone, Debug, Default)]
pub struct Lpm<K> {
    /// Bits that the root resolves; the root is empty if the table is.
    root_bits: u32,
    root: Box<[u32]>,
    nodes: Vec<Node>,
    leaves: Vec<u32>,
    tails: Vec<Tail<K>>,
}

/// Six bits of the key. Children are contiguous, leaves too.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// Slots that lead to a node.
    children: u64,
    /// Slots that begin a run of equal leaves; slots of children are skipped over.
    runs: u64,
    first_child: u32,
    first_leaf: u32,
}

/// The one prefix below a slot, or what all of them have in common, and what holds beside it.
#[derive(Clone, Copy, Debug)]
struct Tail<K> {
    key: K,
    len: u8,
    /// A value, or the node of those that are longer.
    value: u32,
    otherwise: u32,
}

/// A prefix to be built in.
#[derive(Clone, Copy, Debug)]
struct Prefix<K> {
    key: K,
    len: u8,
    value: u32,
}

impl<K: LpmKey> Lpm<K> {
    /// Compiles prefixes `(key, length in bits, value)`. Host bits are ignored, a length over [`LpmKey::BITS`] is
    /// taken as that; of equal prefixes the last one counts. A prefix whose value is above [`MAX_VALUE`] is left out.
    pub fn build(prefixes: impl IntoIterator<Item = (K, u8, u32)>) -> Lpm<K> {
        let bits = u8::try_from(K::BITS).unwrap_or(u8::MAX);
        let mut sorted: Vec<Prefix<K>> = prefixes
            .into_iter()
            .filter(|&(_, _, value)| value <= MAX_VALUE)
            .map(|(key, len, value)| {
                let len = len.min(bits);
                Prefix { key: key.masked(len), len, value }
            })
            .collect();
        // A prefix comes before all that lie in it; of equal ones the last stays.
        sorted.sort_by_key(|prefix| (prefix.key, prefix.len));
        sorted.dedup_by(|later, kept| {
            let same = later.key == kept.key && later.len == kept.len;
            if same {
                kept.value = later.value;
            }
            same
        });
        let mut table = Lpm::default();
        if !sorted.is_empty() {
            table.root_bits = root_bits(sorted.len());
            table.fill_root(&sorted);
        }
        table
    }

    /// What it keeps, in bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.root)
            + size_of_val(&*self.nodes)
            + size_of_val(&*self.leaves)
            + size_of_val(&*self.tails)
    }

    /// The value of the longest prefix that `key` lies in.
    #[inline(always)]
    pub fn lookup(&self, key: K) -> Option<u32> {
        let mut entry = *self.root.get(key.slice(0, self.root_bits.max(1)))?;
        let mut depth = self.root_bits;
        if entry & (NODE | TAIL) == TAIL {
            (entry, depth) = self.beyond(key, entry)?;
        }
        if entry & NODE != 0 {
            entry = self.descend(key, entry, depth)?;
        }
        (entry != NONE).then_some(entry)
    }

    /// What a tail leads to, and how many bits of the key that has told.
    #[inline(always)]
    fn beyond(&self, key: K, entry: u32) -> Option<(u32, u32)> {
        let tail = self.tails.get((entry & !TAIL) as usize)?;
        let same = key.masked(tail.len) == tail.key;
        Some((if same { tail.value } else { tail.otherwise }, u32::from(tail.len)))
    }

    /// What a node leads to. Apart, so that those who look up have the registers.
    #[inline(never)]
    fn descend(&self, key: K, mut entry: u32, mut depth: u32) -> Option<u32> {
        loop {
            let node = self.nodes.get((entry & !NODE) as usize)?;
            let slot = key.slice(depth, STRIDE);
            let up_to = (2u64 << slot).wrapping_sub(1);
            if node.children >> slot & 1 != 0 {
                entry = NODE | (node.first_child + (node.children & up_to).count_ones() - 1);
                depth += STRIDE;
                continue;
            }
            let run = (node.runs & up_to).count_ones().wrapping_sub(1);
            entry = *self.leaves.get(node.first_leaf.wrapping_add(run) as usize)?;
            if entry & TAIL != 0 {
                (entry, depth) = self.beyond(key, entry)?;
            }
            if entry & NODE == 0 {
                return Some(entry);
            }
        }
    }

    /// Whether there is no prefix in it.
    pub fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.root)
            + size_of_val(&*self.nodes)
            + size_of_val(&*self.leaves)
            + size_of_val(&*self.tails)
    }

    fn fill_root(&mut self, sorted: &[Prefix<K>]) {
        let mut slots = vec![Slot::default(); 1 << self.root_bits];
        spread(sorted, 0, self.root_bits, NONE, &mut slots);
        let mut root = Vec::with_capacity(slots.len());
        for slot in &slots {
            root.push(match slot.longer(sorted) {
                [] => slot.value,
                [one] => self.tail(one, slot.value),
                longer => match common(longer, self.root_bits) {
                    Some(alike) => {
                        let tail = self.tail(&alike, slot.value);
                        self.lengthen(tail, longer);
                        tail
                    }
                    None => {
                        let index = self.nodes.len();
                        self.nodes.push(Node::default());
                        self.fill_node(index, longer, self.root_bits, slot.value);
                        NODE | index as u32
                    }
                },
            });
        }
        self.root = root.into_boxed_slice();
    }

    /// Fills in the node at `index` for `sorted`, all of which are longer than `depth` and alike up to there.
    fn fill_node(&mut self, index: usize, sorted: &[Prefix<K>], depth: u32, inherited: u32) {
        let mut slots = [Slot::default(); SLOTS];
        spread(sorted, depth, STRIDE, inherited, &mut slots);
        let mut node = Node {
            first_child: self.nodes.len() as u32,
            first_leaf: self.leaves.len() as u32,
            ..Node::default()
        };
        let (mut last, mut lengthened) = (None, Vec::new());
        for (place, slot) in slots.iter().enumerate() {
            let leaf = match slot.longer(sorted) {
                [] => slot.value,
                [one] => self.tail(one, slot.value),
                longer => match common(longer, depth + STRIDE) {
                    Some(alike) => {
                        let tail = self.tail(&alike, slot.value);
                        lengthened.push((tail, longer));
                        tail
                    }
                    None => {
                        node.children |= 1 << place;
                        self.nodes.push(Node::default());
                        continue;
                    }
                },
            };
            if last != Some(leaf) {
                node.runs |= 1 << place;
                self.leaves.push(leaf);
                last = Some(leaf);
            }
        }
        let mut child = node.first_child as usize;
        if let Some(place) = self.nodes.get_mut(index) {
            *place = node;
        }
        for (place, slot) in slots.iter().enumerate() {
            if node.children >> place & 1 != 0 {
                self.fill_node(child, slot.longer(sorted), depth + STRIDE, slot.value);
                child += 1;
            }
        }
        for (tail, longer) in lengthened {
            self.lengthen(tail, longer);
        }
    }

    /// Puts a node behind a tail, which stands for what all of `longer` have in common.
    fn lengthen(&mut self, tail: u32, longer: &[Prefix<K>]) {
        let index = self.nodes.len();
        if let Some(tail) = self.tails.get_mut((tail & !TAIL) as usize) {
            tail.value = NODE | index as u32;
            let (depth, inherited) = (u32::from(tail.len), tail.otherwise);
            self.nodes.push(Node::default());
            self.fill_node(index, longer, depth, inherited);
        }
    }

    fn tail(&mut self, prefix: &Prefix<K>, otherwise: u32) -> u32 {
        let index = self.tails.len() as u32;
        self.tails.push(Tail { key: prefix.key, len: prefix.len, value: prefix.value, otherwise });
        TAIL | index
    }
}

/// What all of `longer` have in common, where that is more than a node behind `depth` would tell; without a value.
fn common<K: LpmKey>(longer: &[Prefix<K>], depth: u32) -> Option<Prefix<K>> {
    let (first, last) = (longer.first()?, longer.last()?);
    let shortest = longer.iter().map(|prefix| prefix.len).min()?;
    // In order, so what the outermost have in common all have. All are longer than that.
    let alike = |len: &u8| first.key.masked(*len) == last.key.masked(*len);
    let len = (0..shortest).rev().find(alike)?;
    (u32::from(len) >= depth + STRIDE).then_some(Prefix { key: first.key.masked(len), len, value: NONE })
}

/// A root no larger than the table is worth: 1 KiB, 16 KiB or 256 KiB.
fn root_bits(prefixes: usize) -> u32 {
    match prefixes {
        0..64 => 8,
        64..4096 => 12,
        _ => 16,
    }
}

/// What a slot of a node under construction holds.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Of the longest prefix that covers the slot whole; [`NONE`] if there is none.
    value: u32,
    /// Where the prefixes that lie inside the slot begin and end.
    start: usize,
    end: usize,
}

impl Slot {
    fn longer<'a, K>(&self, sorted: &'a [Prefix<K>]) -> &'a [Prefix<K>] {
        sorted.get(self.start..self.end).unwrap_or_default()
    }
}

/// Distributes prefixes over the slots of `stride` bits behind `depth`.
fn spread<K: LpmKey>(sorted: &[Prefix<K>], depth: u32, stride: u32, inherited: u32, slots: &mut [Slot]) {
    for slot in slots.iter_mut() {
        slot.value = inherited;
    }
    let reach = depth + stride;
    for (place, prefix) in sorted.iter().enumerate() {
        let at = prefix.key.slice(depth, stride);
        let len = u32::from(prefix.len);
        if len <= reach {
            // Those that it lies in came before and are overwritten.
            let covered = 1usize << (reach - len);
            for slot in slots.iter_mut().skip(at).take(covered) {
                slot.value = prefix.value;
            }
        } else if let Some(slot) = slots.get_mut(at) {
            if slot.end == 0 {
                slot.start = place;
            }
            slot.end = place + 1;
        }
    }
}

#[cfg(test)]
mod tests;
