use std::borrow::Cow;
use std::time::Duration;

use crate::trace::SpanId;
use crate::trace::TraceContext;

/// A moment: nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The time from `earlier` to this moment; nothing when the clock went backwards.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// What a span is towards its neighbours (OpenTelemetry's `SpanKind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    Client,
    Producer,
    Consumer,
}

/// A value of a span attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(Cow<'static, str>),
    Integer(i64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

/// A finished span, as it goes to whoever wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub context: TraceContext,
    /// The span this one is a child of; it was made elsewhere. `None`: a root.
    pub parent: Option<SpanId>,
    /// The W3C `tracestate` that travels with the context, empty where there is none.
    pub tracestate: String,
    pub kind: SpanKind,
    pub name: String,
    pub start: Timestamp,
    pub end: Timestamp,
    pub attributes: Vec<(&'static str, Value)>,
    /// What went wrong, in the words of whoever refused; `None` where nothing did.
    pub error: Option<String>,
}
