use std::fmt;

use const_hex::Buffer;

/// The id of a trace: 16 bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// `None` for the all-zero id, which W3C Trace Context forbids.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// The id in hex digits of either case, of which the leading zeros may be left out.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        let id = u128::from_str_radix(hex_digits(digits, 32)?, 16).ok()?;
        Self::new(id.to_be_bytes())
    }

    /// The id made of a digest or of random bytes; 1 where those happen to be all zero.
    #[must_use]
    pub fn nonzero(bytes: [u8; 16]) -> Self {
        Self::new(bytes).unwrap_or(Self(u128::to_be_bytes(1)))
    }

    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

/// The id of a span: 8 bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

impl SpanId {
    /// `None` for the all-zero id, which W3C Trace Context forbids.
    #[must_use]
    pub fn new(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    /// The id in hex digits of either case, of which the leading zeros may be left out.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        let id = u64::from_str_radix(hex_digits(digits, 16)?, 16).ok()?;
        Self::new(id.to_be_bytes())
    }

    /// The id made of a digest or of random bytes; 1 where those happen to be all zero.
    #[must_use]
    pub fn nonzero(bytes: [u8; 8]) -> Self {
        Self::new(bytes).unwrap_or(Self(u64::to_be_bytes(1)))
    }

    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    /// Its right-most half: who writes short ids fills up on the left.
    #[must_use]
    pub const fn tail(self) -> [u8; 4] {
        let [_, _, _, _, tail @ ..] = self.0;
        tail
    }
}

/// The flags of a trace context (W3C Trace Context level 2, section 3.2.2.5).
///
/// Only the bits that the specification names are kept: a writer has to clear the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceFlags(u8);

impl TraceFlags {
    pub const SAMPLED: Self = Self(0b01);
    /// The seven right-most bytes of the trace id are random.
    pub const RANDOM: Self = Self(0b10);

    #[must_use]
    pub const fn new(bits: u8) -> Self {
        Self(bits & (Self::SAMPLED.0 | Self::RANDOM.0))
    }

    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.0 & Self::SAMPLED.0 != 0
    }

    #[must_use]
    pub const fn with_sampled(self, sampled: bool) -> Self {
        Self((self.0 & !Self::SAMPLED.0) | if sampled { Self::SAMPLED.0 } else { 0 })
    }
}

/// Where random ids come from; handed to whoever needs one, seeded in tests.
#[derive(Clone, Debug)]
pub struct IdSource(fastrand::Rng);

impl IdSource {
    /// A source seeded by the operating system's randomness.
    #[must_use]
    pub fn from_entropy() -> Self {
        Self(fastrand::Rng::new())
    }

    /// A source that gives the same ids for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    pub fn trace_id(&mut self) -> TraceId {
        TraceId::nonzero(self.0.u128(..).to_be_bytes())
    }

    pub fn span_id(&mut self) -> SpanId {
        SpanId::nonzero(self.0.u64(..).to_be_bytes())
    }
}

/// The text if it is hex digits and no more than `count_max`; [`u128::from_str_radix`] takes
/// a sign as well.
pub(super) fn hex_digits(text: &str, count_max: usize) -> Option<&str> {
    let is_hex = text.bytes().all(|digit| digit.is_ascii_hexdigit());
    (is_hex && text.len() <= count_max).then_some(text)
}

/// The text if it is that many hex digits, in lower case.
pub(super) fn lower_hex_digits(text: &str, count: usize) -> Option<&str> {
    let is_lower = !text.bytes().any(|digit| digit.is_ascii_uppercase());
    hex_digits(text, count).filter(|digits| is_lower && digits.len() == count)
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Buffer::<16>::new().format(&self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Buffer::<8>::new().format(&self.0))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
