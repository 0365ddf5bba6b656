//! Fixed-size headers inside a longer slice. A field's offset is a constant parameter that is checked
//! against the header's size when the crate is compiled, so reading or writing a field cannot fail, and the
//! one check that a packet costs is the one that its header fits.

/// A header of `N` bytes.
#[derive(Clone, Copy)]
pub(crate) struct Header<'a, const N: usize>(&'a [u8; N]);

impl<'a, const N: usize> Header<'a, N> {
    /// The header that begins at `offset`, or `None` if it ends beyond `bytes`.
    #[inline(always)]
    pub(crate) fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        bytes.get(offset..)?.first_chunk().map(Self)
    }

    /// All bytes of the header.
    #[inline(always)]
    pub(crate) fn as_bytes(self) -> &'a [u8; N] {
        self.0
    }

    /// The byte at `AT`.
    #[inline(always)]
    pub(crate) fn byte<const AT: usize>(self) -> u8 {
        const { assert!(AT < N, "field beyond its header") };
        self.0[AT]
    }

    /// `LEN` bytes from `AT` on.
    #[inline(always)]
    pub(crate) fn bytes<const AT: usize, const LEN: usize>(self) -> [u8; LEN] {
        const { assert!(AT + LEN <= N, "field beyond its header") };
        let mut field = [0; LEN];
        field.copy_from_slice(&self.0[AT..AT + LEN]);
        field
    }

    /// A big-endian 16-bit field, in host order.
    #[inline(always)]
    pub(crate) fn be16<const AT: usize>(self) -> u16 {
        u16::from_be_bytes(self.bytes::<AT, 2>())
    }

    /// A big-endian 32-bit field, in host order.
    #[inline(always)]
    pub(crate) fn be32<const AT: usize>(self) -> u32 {
        u32::from_be_bytes(self.bytes::<AT, 4>())
    }
}

/// A header of `N` bytes that may be written.
pub(crate) struct HeaderMut<'a, const N: usize>(&'a mut [u8; N]);

impl<'a, const N: usize> HeaderMut<'a, N> {
    /// The header that begins at `offset`, or `None` if it ends beyond `bytes`.
    #[inline(always)]
    pub(crate) fn at(bytes: &'a mut [u8], offset: usize) -> Option<Self> {
        bytes.get_mut(offset..)?.first_chunk_mut().map(Self)
    }

    /// The same header for reading.
    #[inline(always)]
    pub(crate) fn view(&self) -> Header<'_, N> {
        Header(self.0)
    }

    /// Writes the byte at `AT`.
    #[inline(always)]
    pub(crate) fn set_byte<const AT: usize>(&mut self, value: u8) {
        const { assert!(AT < N, "field beyond its header") };
        self.0[AT] = value;
    }

    /// Writes `value` at `AT`.
    #[inline(always)]
    pub(crate) fn set_bytes<const AT: usize, const LEN: usize>(&mut self, value: &[u8; LEN]) {
        const { assert!(AT + LEN <= N, "field beyond its header") };
        self.0[AT..AT + LEN].copy_from_slice(value);
    }

    /// Writes a 16-bit field big-endian.
    #[inline(always)]
    pub(crate) fn set_be16<const AT: usize>(&mut self, value: u16) {
        self.set_bytes::<AT, 2>(&value.to_be_bytes());
    }

    /// Writes a 32-bit field big-endian.
    #[inline(always)]
    pub(crate) fn set_be32<const AT: usize>(&mut self, value: u32) {
        self.set_bytes::<AT, 4>(&value.to_be_bytes());
    }
}

/// Copies `from` to where it was made room for, at `offset`; if there is none, nothing.
#[inline]
pub(crate) fn copy(to: &mut [u8], offset: usize, from: &[u8]) {
    if let Some(room) = to.get_mut(offset..offset + from.len()) {
        room.copy_from_slice(from);
    }
}
