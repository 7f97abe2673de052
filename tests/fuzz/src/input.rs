//! Takes an input apart into what a target needs beside the bytes to parse. Nothing runs out: what is missing is zero.

pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_at(self.0.len().min(N));
        self.0 = rest;
        let mut array = [0; N];
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.array())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    /// At most `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(self.0.len().min(len));
        self.0 = rest;
        taken
    }

    /// The bytes up to the next line's end, or all.
    pub(crate) fn line(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|b| *b == b'\n').unwrap_or(self.0.len());
        let line = self.bytes(end);
        self.bytes(1);
        line
    }

    pub(crate) const fn rest(self) -> &'a [u8] {
        self.0
    }
}
