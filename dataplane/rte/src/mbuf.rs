//! One packet buffer, owned: its bytes, its place in the buffer, and what the device said of it.
//!
//! Layout of a buffer: headroom (128 bytes when it comes from the pool) | packet | tailroom. Fields of DPDK's `rte_mbuf` are
//! reached by offset, since its unnamed unions change between versions.
//!
//! Source: DPDK `rte_mbuf_core.h`.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::slice;

use sluice_dpdk_sys as sys;

/// Bytes in front of a received packet, for headers to be added.
pub const HEADROOM: u16 = sys::RTE_PKTMBUF_HEADROOM as u16;

/// What a device found out about a checksum. Software devices find out nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RxChecksum {
    /// Not looked at, or left for others to fill in: to be verified in software.
    Unknown,
    /// Verified, right.
    Good,
    /// Verified, wrong.
    Bad,
}

/// A packet buffer with one owner; dropped, it goes back to its pool.
///
/// Not `Clone`: each is in one place at a time, so its bytes may be changed at will and it is freed once.
#[derive(Debug)]
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::rte_mbuf>);

// SAFETY: an mbuf is plain memory and its pool takes it back from any thread; there is no second owner.
unsafe impl Send for Mbuf {}

/// What a device found out about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offloads {
    /// See [`Mbuf::rss_hash`].
    pub rss_hash: Option<u32>,
    /// See [`Mbuf::ip_checksum`].
    pub ip_checksum: RxChecksum,
    /// See [`Mbuf::l4_checksum`].
    pub l4_checksum: RxChecksum,
}

impl Offloads {
    /// Nothing.
    pub const NONE: Offloads =
        Offloads { rss_hash: None, ip_checksum: RxChecksum::Unknown, l4_checksum: RxChecksum::Unknown };
}

/// What of an mbuf is not its buffer, see [`Mbuf::split_mut`]. Frees nothing.
#[derive(Debug)]
pub struct Place<'a>(ManuallyDrop<Mbuf>, PhantomData<&'a mut Mbuf>);

impl Place<'_> {
    /// As [`Mbuf::set_range`].
    #[inline]
    #[must_use]
    pub fn set_range(&mut self, offset: u16, length: u16) -> bool {
        self.0.set_range(offset, length)
    }

    /// As [`Mbuf::set_tag`].
    #[inline]
    pub fn set_tag(&mut self, tag: u32) {
        self.0.set_tag(tag);
    }
}

/// A field of `rte_mbuf`: its offset and its type.
struct Field<T>(usize, PhantomData<T>);

impl<T> Field<T> {
    const fn at(offset: u32) -> Self {
        Self(offset as usize, PhantomData)
    }
}

// The pairs of offset and type; offsets from the C compiler, types from `rte_mbuf_core.h`.
const BUF_ADDR: Field<*mut u8> = Field::at(sys::SLUICE_MBUF_BUF_ADDR);
const DATA_OFF: Field<u16> = Field::at(sys::SLUICE_MBUF_DATA_OFF);
const NB_SEGS: Field<u16> = Field::at(sys::SLUICE_MBUF_NB_SEGS);
const PORT: Field<u16> = Field::at(sys::SLUICE_MBUF_PORT);
const OL_FLAGS: Field<u64> = Field::at(sys::SLUICE_MBUF_OL_FLAGS);
const PKT_LEN: Field<u32> = Field::at(sys::SLUICE_MBUF_PKT_LEN);
const DATA_LEN: Field<u16> = Field::at(sys::SLUICE_MBUF_DATA_LEN);
const VLAN_TCI: Field<u16> = Field::at(sys::SLUICE_MBUF_VLAN_TCI);
const HASH_RSS: Field<u32> = Field::at(sys::SLUICE_MBUF_HASH_RSS);
/// The upper half of the flow director's result, a feature that is never switched on here. It lies in the first cache line,
/// which the drivers' vector code leaves alone at this place and a dynamic field (second line) would not be in.
const TAG: Field<u32> = Field::at(sys::SLUICE_MBUF_HASH_FDIR_HI);
const BUF_LEN: Field<u16> = Field::at(sys::SLUICE_MBUF_BUF_LEN);

impl Mbuf {
    /// Takes over an mbuf from DPDK.
    ///
    /// # Safety
    /// `mbuf` came from a pool made by [`crate::Mempool`], is handed over, and is in no other place.
    #[inline]
    pub(crate) unsafe fn from_raw(mbuf: NonNull<sys::rte_mbuf>) -> Self {
        Self(mbuf)
    }

    /// The packet's bytes, from the Ethernet header on, without FCS. Of a packet in several segments, the first.
    #[inline]
    #[must_use]
    pub fn data(&self) -> &[u8] {
        let start = self.get(&BUF_ADDR).wrapping_add(usize::from(self.get(&DATA_OFF)));
        // SAFETY: offset and length lie within the buffer (by the driver's contract, then kept so by `set_range` and
        // `extend`); the buffer is mapped memory that is never unmapped, and is borrowed with `self`.
        unsafe { slice::from_raw_parts(start, usize::from(self.get(&DATA_LEN))) }
    }

    /// The same bytes, to change.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        let start = self.get(&BUF_ADDR).wrapping_add(usize::from(self.get(&DATA_OFF)));
        // SAFETY: as in `data`; the buffer has one owner, who is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(start, usize::from(self.get(&DATA_LEN))) }
    }

    /// The whole buffer with headroom and tailroom, where in it the packet starts, and how long it is, in bytes.
    #[inline]
    pub fn buffer_mut(&mut self) -> (&mut [u8], u16, u16) {
        let (buffer, offset, length, _) = self.split_mut();
        (buffer, offset, length)
    }

    /// As [`Mbuf::buffer_mut`]; beside it the packet's place, which can be written while the buffer is still in use.
    #[inline]
    pub fn split_mut(&mut self) -> (&mut [u8], u16, u16, Place<'_>) {
        let (offset, length) = (self.get(&DATA_OFF), self.get(&DATA_LEN));
        // SAFETY: address and length of the buffer as its pool made it, never changed; one owner, borrowed mutably. The
        // `rte_mbuf`, all that `Place` reaches, lies outside of the buffer.
        let buffer =
            unsafe { slice::from_raw_parts_mut(self.get(&BUF_ADDR), usize::from(self.get(&BUF_LEN))) };
        (buffer, offset, length, Place(ManuallyDrop::new(Mbuf(self.0)), PhantomData))
    }

    /// Places the packet anew in its buffer: `length` bytes from `offset` (both in bytes, counted from the buffer's start).
    ///
    /// Returns false and changes nothing where that does not fit or the packet has several segments.
    #[inline]
    #[must_use]
    pub fn set_range(&mut self, offset: u16, length: u16) -> bool {
        let fits = u32::from(offset) + u32::from(length) <= u32::from(self.get(&BUF_LEN));
        if !fits || self.is_multi_segment() {
            return false;
        }
        self.set(&DATA_OFF, offset);
        self.set(&DATA_LEN, length);
        self.set(&PKT_LEN, u32::from(length));
        true
    }

    /// Adds `length` bytes at the end and returns them (with whatever was in the buffer); `None` where they do not fit.
    #[inline]
    pub fn extend(&mut self, length: u16) -> Option<&mut [u8]> {
        let before = self.get(&DATA_LEN);
        let after = before.checked_add(length)?;
        if !self.set_range(self.get(&DATA_OFF), after) {
            return None;
        }
        self.data_mut().get_mut(usize::from(before)..)
    }

    /// Length of the packet in bytes, without FCS, over all segments.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.get(&PKT_LEN) as usize
    }

    /// Whether the packet has no bytes.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the packet goes on in further buffers, which cannot be reached here: to be dropped.
    #[inline]
    #[must_use]
    pub fn is_multi_segment(&self) -> bool {
        self.get(&NB_SEGS) != 1
    }

    /// The port it was received on, by DPDK's number; or what [`Mbuf::set_port`] put there.
    #[inline]
    #[must_use]
    pub fn port(&self) -> u16 {
        self.get(&PORT)
    }

    /// Notes a port with the packet. Transmission pays no regard to it.
    #[inline]
    pub fn set_port(&mut self, port: u16) {
        self.set(&PORT, port);
    }

    /// The Toeplitz hash over [`crate::SYMMETRIC_KEY`] that the device computed: of addresses and ports for TCP and UDP that
    /// are not fragments, else of the addresses alone. `None` where the device computes none, or not this one.
    ///
    /// Of IPv6 with extension headers devices differ in what they hash: there it must not be used.
    #[inline]
    #[must_use]
    pub fn rss_hash(&self) -> Option<u32> {
        (self.get(&OL_FLAGS) & sys::SLUICE_RX_RSS_HASH != 0).then(|| self.get(&HASH_RSS))
    }

    /// What the device says of the IPv4 header's checksum.
    #[inline]
    #[must_use]
    pub fn ip_checksum(&self) -> RxChecksum {
        match self.get(&OL_FLAGS) & sys::SLUICE_RX_IP_CKSUM_MASK {
            sys::SLUICE_RX_IP_CKSUM_GOOD => RxChecksum::Good,
            sys::SLUICE_RX_IP_CKSUM_BAD => RxChecksum::Bad,
            _ => RxChecksum::Unknown,
        }
    }

    /// What the device says of the TCP or UDP checksum. Both bits set (DPDK's "none": a neighbour on the same host left it
    /// unfinished) is unknown too.
    #[inline]
    #[must_use]
    pub fn l4_checksum(&self) -> RxChecksum {
        match self.get(&OL_FLAGS) & sys::SLUICE_RX_L4_CKSUM_MASK {
            sys::SLUICE_RX_L4_CKSUM_GOOD => RxChecksum::Good,
            sys::SLUICE_RX_L4_CKSUM_BAD => RxChecksum::Bad,
            _ => RxChecksum::Unknown,
        }
    }

    /// All that the device found out, in one look: of a device without any such feature that is nothing.
    #[inline]
    #[must_use]
    pub fn offloads(&self) -> Offloads {
        const ANY: u64 =
            sys::SLUICE_RX_RSS_HASH | sys::SLUICE_RX_IP_CKSUM_MASK | sys::SLUICE_RX_L4_CKSUM_MASK;
        if self.get(&OL_FLAGS) & ANY == 0 {
            return Offloads::NONE;
        }
        Offloads {
            rss_hash: self.rss_hash(),
            ip_checksum: self.ip_checksum(),
            l4_checksum: self.l4_checksum(),
        }
    }

    /// The tag control information (priority, DEI, VLAN id; host byte order) of a VLAN tag that the device took out of the
    /// packet; `None` where the tag, if any, is in the bytes.
    ///
    /// AF_PACKET puts the tag back and leaves another flag set ("has a tag"), which is not looked at for that reason.
    #[inline]
    #[must_use]
    pub fn vlan_stripped(&self) -> Option<u16> {
        (self.get(&OL_FLAGS) & sys::SLUICE_RX_VLAN_STRIPPED != 0).then(|| self.get(&VLAN_TCI))
    }

    /// Forgets what the device said of VLAN tags.
    #[inline]
    pub fn clear_vlan_flags(&mut self) {
        self.clear_flags(sys::SLUICE_RX_VLAN | sys::SLUICE_RX_VLAN_STRIPPED);
    }

    /// A number of the caller's own that goes with the packet over rings (in `hash.fdir.hi`, beside the RSS hash, which it
    /// leaves alone). Not defined until [`Mbuf::set_tag`]: a received packet has any.
    #[inline]
    #[must_use]
    pub fn tag(&self) -> u32 {
        self.get(&TAG)
    }

    /// Notes a number with the packet, see [`Mbuf::tag`].
    #[inline]
    pub fn set_tag(&mut self, tag: u32) {
        self.set(&TAG, tag);
    }

    /// Asks the CPU to fetch the packet's first cache line (Ethernet, IPv4 and most of TCP). Reads the mbuf itself.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(self.get(&BUF_ADDR).wrapping_add(usize::from(self.get(&DATA_OFF))));
    }

    /// Takes away flags that the device sets and must not be believed in.
    #[inline]
    pub(crate) fn clear_flags(&mut self, flags: u64) {
        let kept = self.get(&OL_FLAGS) & !flags;
        self.set(&OL_FLAGS, kept);
    }

    #[inline]
    fn get<T: Copy>(&self, field: &Field<T>) -> T {
        let at = self.0.as_ptr().wrapping_byte_add(field.0).cast::<T>();
        // SAFETY: the mbuf is alive and owned by `self`; offset and type are one of the pairs above, so `at` is in bounds,
        // aligned and initialised by the pool.
        unsafe { at.read() }
    }

    #[inline]
    fn set<T: Copy>(&mut self, field: &Field<T>, value: T) {
        let at = self.0.as_ptr().wrapping_byte_add(field.0).cast::<T>();
        // SAFETY: as in `get`, and `self` is borrowed mutably.
        unsafe { at.write(value) }
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `self` owns the mbuf, and gives it up here.
        unsafe { sys::sluice_pktmbuf_free(self.0.as_ptr()) }
    }
}

#[inline]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint without effect on memory; any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast::<i8>()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
