//! The headers that carry trace context in the spellings of other vendors.

use std::borrow::Cow;

use crate::celery::HeaderValue;

/// Trace contexts in the spellings of other vendors, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign<'a> {
    /// At most one for each place and name.
    fields: Vec<Field<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field<'a> {
    place: Place,
    name: Name,
    text: Cow<'a, str>,
}

/// Where a header stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the object below the flat header `headers`, where Sentry's and Datadog's own
    /// workers look first. When it is there, a retry is sent with what it held before among
    /// the flat headers: those are then the context of the attempt before.
    Nested,
    /// In the object that the flat header `parent_span_context` is, where OpenTracing's
    /// instrumentation of Celery puts what its tracer writes.
    OpenTracing,
    /// In the object that the flat header `elasticapm` is.
    Elastic,
    /// Among the headers themselves.
    Flat,
}

impl Place {
    /// Those of which the first counts in which there is a context.
    pub const ALL: [Self; 4] = [Self::Nested, Self::OpenTracing, Self::Elastic, Self::Flat];

    /// What is in the object that the flat header of that name is.
    #[must_use]
    pub const fn within(header: &[u8]) -> Option<Self> {
        match header {
            b"headers" => Some(Self::Nested),
            b"parent_span_context" => Some(Self::OpenTracing),
            b"elasticapm" => Some(Self::Elastic),
            _ => None,
        }
    }
}

/// What a header is called that carries another vendor's context, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `traceparent` where no worker's propagator for W3C looks for it: it is only nested.
    Traceparent,
    /// The `tracestate` beside it.
    Tracestate,
    SentryTrace,
    DatadogTraceId,
    DatadogParentId,
    DatadogSamplingPriority,
    DatadogTags,
    B3,
    B3TraceId,
    B3SpanId,
    B3Sampled,
    B3Flags,
    UberTraceId,
    /// `trace_parent_string`, of Elastic's agents.
    TraceParentString,
    AmznTraceId,
}

impl<'a> Foreign<'a> {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// What the header of that name says in that place.
    #[must_use]
    pub fn get(&self, place: Place, name: Name) -> Option<&str> {
        self.fields
            .iter()
            .find(|field| (field.place, field.name) == (place, name))
            .map(|field| &*field.text)
    }

    /// Takes a header; of two the last one counts.
    pub(super) fn set(&mut self, place: Place, name: Name, value: HeaderValue<'a>) {
        self.fields
            .retain(|field| (field.place, field.name) != (place, name));
        let text = value.into_written();
        self.fields.extend(
            text.filter(|text| text.len() <= TEXT_BYTES_MAX)
                .map(|text| Field { place, name, text }),
        );
    }
}

impl Name {
    /// What a header of that name is in that place. As HTTP has it, these names are the same in
    /// upper and in lower case.
    #[must_use]
    pub fn of(name: &[u8], place: Place) -> Option<Self> {
        let (_, found) = NAMES
            .iter()
            .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))?;
        let is_there = match found {
            Self::Traceparent | Self::Tracestate => place == Place::Nested,
            Self::TraceParentString => place == Place::Elastic,
            _ => place != Place::Elastic,
        };
        is_there.then_some(*found)
    }
}

static NAMES: [(&str, Name); 15] = [
    ("traceparent", Name::Traceparent),
    ("tracestate", Name::Tracestate),
    ("sentry-trace", Name::SentryTrace),
    ("x-datadog-trace-id", Name::DatadogTraceId),
    ("x-datadog-parent-id", Name::DatadogParentId),
    ("x-datadog-sampling-priority", Name::DatadogSamplingPriority),
    ("x-datadog-tags", Name::DatadogTags),
    ("b3", Name::B3),
    ("x-b3-traceid", Name::B3TraceId),
    ("x-b3-spanid", Name::B3SpanId),
    ("x-b3-sampled", Name::B3Sampled),
    ("x-b3-flags", Name::B3Flags),
    ("uber-trace-id", Name::UberTraceId),
    ("trace_parent_string", Name::TraceParentString),
    ("x-amzn-trace-id", Name::AmznTraceId),
];

/// None of these says more than that. Lists, which are Datadog's tags and `tracestate`, are
/// cut at half of it by those who write them.
const TEXT_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> HeaderValue<'_> {
        HeaderValue::Text(text.into())
    }

    fn taken<'a>(place: Place, headers: &[(&str, HeaderValue<'a>)]) -> Foreign<'a> {
        let mut foreign = Foreign::default();
        for (name, value) in headers {
            if let Some(name) = Name::of(name.as_bytes(), place) {
                foreign.set(place, name, value.clone());
            }
        }
        foreign
    }

    #[test]
    fn every_name_is_known_in_any_case() {
        for (written, name) in NAMES.iter().copied() {
            let place = match name {
                Name::TraceParentString => Place::Elastic,
                _ => Place::Nested,
            };
            for written in [written.to_owned(), written.to_uppercase()] {
                let foreign = taken(place, &[(&written, text("a"))]);
                assert_eq!(foreign.get(place, name), Some("a"), "{written}");
                assert_eq!(foreign.get(Place::Flat, name), None, "{written}");
            }
        }
        let foreign = taken(Place::Flat, &[("X-B3-TraceId", text("a"))]);
        assert_eq!(foreign.get(Place::Flat, Name::B3TraceId), Some("a"));
    }

    #[test]
    fn a_flat_traceparent_is_not_foreign() {
        let flat = [("Traceparent", text("a")), ("tracestate", text("b"))];
        assert_eq!(taken(Place::Flat, &flat), Foreign::default());
    }

    #[test]
    fn another_header_does_not_matter() {
        for name in ["baggage", "b3x", "x-datadog-origin", "sentry_trace", ""] {
            assert_eq!(Name::of(name.as_bytes(), Place::Nested), None, "{name}");
        }
    }

    #[test]
    fn ids_may_be_numbers_and_nothing_else_than_text() {
        let long = "a".repeat(TEXT_BYTES_MAX + 1);
        for (value, said) in [
            (text("12"), Some("12")),
            (HeaderValue::Integer(12), Some("12")),
            (HeaderValue::Integer(-1), Some("-1")),
            (text(&long[1..]), Some(&long[1..])),
            (text(&long), None),
            (text(""), None),
            (HeaderValue::Truth(true), None),
            (HeaderValue::Null, None),
            (HeaderValue::Other, None),
        ] {
            let foreign = taken(Place::Nested, &[("x-datadog-trace-id", value)]);
            assert_eq!(foreign.get(Place::Nested, Name::DatadogTraceId), said);
        }
    }

    #[test]
    fn of_two_headers_the_last_one_counts() {
        let twice = [("b3", text("a")), ("B3", text("b"))];
        let foreign = taken(Place::Flat, &twice);
        assert_eq!(foreign.get(Place::Flat, Name::B3), Some("b"));
        assert_eq!(foreign.fields.len(), 1);
        let taken_back = [("b3", text("a")), ("b3", HeaderValue::Null)];
        assert_eq!(taken(Place::Flat, &taken_back), Foreign::default());
    }
}
