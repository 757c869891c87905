use std::fmt;
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

    /// The last moment there is, for a number of milliseconds beyond it.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The moment that a date and a time name, in the spelling of ISO 8601; without an offset
    /// they are those of UTC.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let moment = text
            .parse::<jiff::Timestamp>()
            .or_else(|_| {
                let date_time = text.parse::<jiff::civil::DateTime>()?;
                Ok::<_, jiff::Error>(date_time.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp())
            })
            .ok()?;
        u64::try_from(moment.as_nanosecond()).ok().map(Self)
    }

    /// The moment `later` than this one.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        let nanos = u64::try_from(later.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// The moment `earlier` than this one; the beginning of time for one before it.
    #[must_use]
    pub fn before(self, earlier: Duration) -> Self {
        let nanos = u64::try_from(earlier.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }

    /// The time from `earlier` to this moment; nothing when the clock went backwards.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// In the spelling of RFC 3339, to the millisecond, in UTC.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or_default();
        write!(f, "{moment:.3}")
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
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Text(&'a str),
    Integer(i64),
    Truth(bool),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Value<'_> {
    fn from(truth: bool) -> Self {
        Self::Truth(truth)
    }
}

/// Something that happened to what a span is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub name: &'static str,
    pub at: Timestamp,
}

/// A finished span, in the words of whatever it tells of.
#[derive(Clone, Debug, PartialEq)]
pub struct Span<'a> {
    pub context: TraceContext,
    /// The span this one is a child of; it was made elsewhere. `None`: a root.
    pub parent: Option<SpanId>,
    /// The W3C `tracestate` that travels with the context, empty where there is none.
    pub tracestate: &'a str,
    pub kind: SpanKind,
    /// What is done, and to what: its name is the one after the other.
    pub name: [&'a str; 2],
    pub start: Timestamp,
    pub end: Timestamp,
    pub attributes: Vec<(&'static str, Value<'a>)>,
    /// What happened on the way, in that order.
    pub events: Vec<Event>,
    /// Another trace that it has to do with.
    pub link: Option<TraceContext>,
    /// What went wrong, in the words of whoever refused; `None` where nothing did.
    pub error: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_celery_writes_it() {
        for (text, nanos) in [
            ("2026-11-22T08:53:23.736583+00:00", 736_583_000),
            ("2026-11-22T08:53:23.736583Z", 736_583_000),
            ("2026-11-22T08:53:23+00:00", 0),
            // With another `timezone`, or with `enable_utc` off.
            ("2026-11-22T09:53:23.736583+01:00", 736_583_000),
            ("2026-11-22T03:53:23.736583-05:00", 736_583_000),
            ("2026-11-22T14:23:23+05:30", 0),
            // What the caller gave without an offset.
            ("2026-11-22T08:53:23", 0),
            ("2026-11-22T08:53:23.000005", 5_000),
            // By other hands.
            ("2026-11-22 08:53:23.736583", 736_583_000),
            ("2026-11-22 08:53:23+00:00", 0),
            ("2026-11-22T10:53:23+0200", 0),
        ] {
            let expected = Timestamp(1_795_337_603_000_000_000 + nanos);
            assert_eq!(Timestamp::parse(text), Some(expected), "{text}");
        }
        let midnight = Timestamp(1_795_305_600_000_000_000);
        assert_eq!(Timestamp::parse("2026-11-22"), Some(midnight));
    }

    #[test]
    fn what_names_no_moment_is_none() {
        for text in [
            "",
            "now",
            "10",
            "1795337603.5",
            "2026-11-22T08:53:23+",
            "2026-11-22T08:53:23 +00:00 or so",
            "2026-13-22T08:53:23",
            "2026-02-29T08:53:23Z",
            "2026-11-22T25:00:00Z",
            "08:53:23",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59Z",
            "99999-12-31T23:59:59Z",
            "\u{fc}",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
