//! The numbers and strings that everything in AMQP is made of, read one after another.

use std::ops::Range;

use crate::protocol::amqp::frame::Unreadable;

/// A place in some bytes. What cannot be read is an error that names `what` ended early.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    what: Unreadable,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8], what: Unreadable) -> Self {
        Self { bytes, at: 0, what }
    }

    /// A cursor over a part of the same bytes, so that places mean the same.
    pub(super) fn within(&self, part: &Range<usize>) -> Self {
        Self {
            bytes: self.bytes.get(..part.end).unwrap_or_default(),
            at: part.start,
            what: self.what,
        }
    }

    pub(super) const fn position(&self) -> usize {
        self.at
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(super) fn octet(&mut self) -> Result<u8, Unreadable> {
        self.array().map(|[octet]| octet)
    }

    pub(super) fn short(&mut self) -> Result<u16, Unreadable> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn long(&mut self) -> Result<u32, Unreadable> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn long_long(&mut self) -> Result<u64, Unreadable> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn short_string(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = usize::from(self.octet()?);
        self.bytes(length)
    }

    /// What a length of four bytes stands in front of: a long string, a table, an array.
    pub(super) fn long_string(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = usize::try_from(self.long()?).map_err(|_| self.what)?;
        self.bytes(length)
    }

    /// As above: where it stands, without its length.
    pub(super) fn long_place(&mut self) -> Result<Range<usize>, Unreadable> {
        let length = self.long_string()?.len();
        Ok(self.at - length..self.at)
    }

    /// That many bytes, or as many as there are.
    pub(super) fn up_to(&mut self, count: usize) -> &'a [u8] {
        let left = self.bytes.len().saturating_sub(self.at);
        self.bytes(count.min(left)).unwrap_or_default()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let bytes = self.bytes(N)?;
        bytes.try_into().map_err(|_| self.what)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        let end = self.at.checked_add(count).ok_or(self.what)?;
        let bytes = self.bytes.get(self.at..end).ok_or(self.what)?;
        self.at = end;
        Ok(bytes)
    }
}
