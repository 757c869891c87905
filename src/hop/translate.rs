//! Contexts in the spellings of other vendors, made into a `traceparent`.

use crate::celery::Foreign;
use crate::celery::foreign::Name;
use crate::celery::foreign::Place;
use crate::config::Translate;
use crate::trace::ForeignContext;
use crate::trace::TraceContext;
use crate::trace::b3;
use crate::trace::datadog;
use crate::trace::elastic;
use crate::trace::jaeger;
use crate::trace::sentry;
use crate::trace::w3c;
use crate::trace::xray;

/// A context that was written in another vendor's spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Translated {
    pub(super) context: TraceContext,
    /// Whether the trace is recorded; `None` where that was left open.
    pub(super) sampled: Option<bool>,
    /// The `tracestate` that belongs to it, empty where there is none.
    pub(super) tracestate: String,
}

impl Translated {
    /// Whether it is of the trace of `carried`, and of another span.
    pub(super) fn continues(&self, carried: TraceContext) -> bool {
        self.context.trace_id == carried.trace_id && self.context.span_id != carried.span_id
    }
}

impl From<ForeignContext> for Translated {
    fn from(foreign: ForeignContext) -> Self {
        Self {
            context: foreign.into(),
            sampled: foreign.sampled,
            tracestate: String::new(),
        }
    }
}

/// The context that one of the spellings gives, as far as they are wanted.
///
/// Of several, the one counts that loses least. A `traceparent` loses nothing; where it is
/// nested it is Datadog's, which writes it beside its own headers, or Elastic's. Sentry's ids
/// are as long, Datadog's trace id is only whole with its tags. Zipkin's and Jaeger's are what
/// other libraries fall back to, Jaeger's for old peers alone, and X-Ray's comes from what AWS
/// runs around an app. Of one spelling, what is nested counts before what is flat: on a retry
/// the flat one is of the attempt before.
pub(super) fn translate(foreign: &Foreign<'_>, wanted: Translate) -> Option<Translated> {
    if foreign.is_empty() {
        return None;
    }
    let spellings: [(bool, Spelling); 7] = [
        (wanted.datadog, nested_w3c),
        (wanted.elastic, elastic),
        (wanted.sentry, sentry),
        (wanted.datadog, datadog),
        (wanted.b3, b3),
        (wanted.jaeger, jaeger),
        (wanted.xray, xray),
    ];
    spellings
        .into_iter()
        .filter(|(is_wanted, _)| *is_wanted)
        .find_map(|(_, read)| {
            Place::ALL
                .into_iter()
                .find_map(|place| read(Headers { foreign, place }))
        })
}

type Spelling = fn(Headers<'_>) -> Option<Translated>;

/// The headers of one place: what stands in different ones was not written together.
#[derive(Clone, Copy, Debug)]
struct Headers<'a> {
    foreign: &'a Foreign<'a>,
    place: Place,
}

impl<'a> Headers<'a> {
    fn get(self, name: Name) -> Option<&'a str> {
        self.foreign.get(self.place, name)
    }
}

fn nested_w3c(headers: Headers<'_>) -> Option<Translated> {
    let context = w3c::parse_traceparent(headers.get(Name::Traceparent)?).ok()?;
    Some(Translated {
        context,
        sampled: Some(context.flags.is_sampled()),
        tracestate: headers.get(Name::Tracestate).unwrap_or_default().to_owned(),
    })
}

fn elastic(headers: Headers<'_>) -> Option<Translated> {
    elastic::parse(headers.get(Name::TraceParentString)?).map(Translated::from)
}

fn sentry(headers: Headers<'_>) -> Option<Translated> {
    sentry::parse(headers.get(Name::SentryTrace)?).map(Translated::from)
}

fn datadog(headers: Headers<'_>) -> Option<Translated> {
    let headers = datadog::Headers {
        trace_id: headers.get(Name::DatadogTraceId),
        parent_id: headers.get(Name::DatadogParentId),
        sampling_priority: headers.get(Name::DatadogSamplingPriority),
        tags: headers.get(Name::DatadogTags),
    };
    headers.parse().map(Translated::from)
}

/// One header counts before several.
fn b3(headers: Headers<'_>) -> Option<Translated> {
    let several = b3::Headers {
        trace_id: headers.get(Name::B3TraceId),
        span_id: headers.get(Name::B3SpanId),
        sampled: headers.get(Name::B3Sampled),
        flags: headers.get(Name::B3Flags),
    };
    headers
        .get(Name::B3)
        .and_then(b3::parse)
        .or_else(|| several.parse())
        .map(Translated::from)
}

fn jaeger(headers: Headers<'_>) -> Option<Translated> {
    jaeger::parse(headers.get(Name::UberTraceId)?).map(Translated::from)
}

fn xray(headers: Headers<'_>) -> Option<Translated> {
    xray::parse(headers.get(Name::AmznTraceId)?).map(Translated::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::celery::HeaderValue;

    const ALL: Translate = Translate {
        sentry: true,
        datadog: true,
        b3: true,
        jaeger: true,
        elastic: true,
        xray: true,
    };
    const NONE: Translate = Translate {
        sentry: false,
        datadog: false,
        b3: false,
        jaeger: false,
        elastic: false,
        xray: false,
    };

    /// One context in each spelling, told apart by the last digit of its span id.
    const W3C: &str = "00-6b029a93000000001d5099a9f57ffb17-0000000000000001-03";
    const SENTRY: &str = "6b029a93000000001d5099a9f57ffb17-0000000000000002-1";
    const DATADOG: [(&str, &str); 4] = [
        ("x-datadog-trace-id", "2112357180484090647"),
        ("x-datadog-parent-id", "3"),
        ("x-datadog-sampling-priority", "1"),
        ("x-datadog-tags", "_dd.p.dm=-0,_dd.p.tid=6b029a9300000000"),
    ];
    const B3: &str = "6b029a93000000001d5099a9f57ffb17-0000000000000004-1";
    const SEVERAL_B3: [(&str, &str); 3] = [
        ("X-B3-TraceId", "6b029a93000000001d5099a9f57ffb17"),
        ("X-B3-SpanId", "0000000000000005"),
        ("X-B3-Sampled", "1"),
    ];
    const JAEGER: &str = "6b029a93000000001d5099a9f57ffb17:6:0:1";
    const XRAY: &str = "Root=1-6b029a93-000000001d5099a9f57ffb17;Parent=0000000000000007;Sampled=1";

    type Fields = Vec<(&'static str, &'static str)>;

    fn read(nested: &Fields, flat: &Fields, wanted: Translate) -> Option<Translated> {
        let mut headers = crate::celery::Headers::default();
        for (name, value) in flat {
            headers.take(name, HeaderValue::Text((*value).into()));
        }
        for (name, value) in nested {
            let value = HeaderValue::Text((*value).into());
            headers.take_within(Place::Nested, name, value);
        }
        translate(&headers.carrier.foreign, wanted)
    }

    /// The last digit of the span id, of a context that is right in everything else.
    fn found(translated: Option<Translated>) -> Option<u8> {
        let Translated {
            context, sampled, ..
        } = translated?;
        assert_eq!(
            context.trace_id.to_string(),
            "6b029a93000000001d5099a9f57ffb17"
        );
        assert_eq!(sampled, Some(true));
        assert!(context.flags.is_sampled());
        let [zeros @ .., last] = context.span_id.to_bytes();
        assert_eq!(zeros, [0; 7]);
        Some(last)
    }

    /// In the order in which they count, each with the choice that switches it.
    fn spellings() -> [(Fields, Translate); 7] {
        [
            (
                vec![("traceparent", W3C)],
                Translate {
                    datadog: true,
                    ..NONE
                },
            ),
            (
                vec![("sentry-trace", SENTRY)],
                Translate {
                    sentry: true,
                    ..NONE
                },
            ),
            (
                DATADOG.to_vec(),
                Translate {
                    datadog: true,
                    ..NONE
                },
            ),
            (vec![("b3", B3)], Translate { b3: true, ..NONE }),
            (SEVERAL_B3.to_vec(), Translate { b3: true, ..NONE }),
            (
                vec![("uber-trace-id", JAEGER)],
                Translate {
                    jaeger: true,
                    ..NONE
                },
            ),
            (
                vec![("X-Amzn-Trace-Id", XRAY)],
                Translate { xray: true, ..NONE },
            ),
        ]
    }

    #[test]
    fn each_spelling_is_read_where_it_is_wanted() {
        for (index, (fields, own)) in spellings().iter().enumerate() {
            let number = u8::try_from(index + 1).unwrap();
            let flat = (number > 1).then_some(number);
            for (wanted, nested, flat) in [
                (ALL, Some(number), flat),
                (*own, Some(number), flat),
                (NONE, None, None),
            ] {
                assert_eq!(found(read(fields, &vec![], wanted)), nested, "{fields:?}");
                assert_eq!(found(read(&vec![], fields, wanted)), flat, "{fields:?}");
            }
        }
    }

    #[test]
    fn of_several_spellings_the_first_that_can_be_read_counts() {
        let all = spellings().map(|(fields, _)| fields);
        for first in 0..all.len() {
            // Those before it are there, too, and cannot be read.
            let broken = all[..first]
                .concat()
                .into_iter()
                .map(|(name, _)| (name, "broken"))
                .collect::<Vec<_>>();
            let fields = [broken, all[first..].concat()].concat();
            let number = u8::try_from(first + 1).unwrap();
            assert_eq!(found(read(&fields, &vec![], ALL)), Some(number));
        }
    }

    #[test]
    fn a_context_is_read_in_the_object_where_its_library_puts_it() {
        for (place, name, text, number) in [
            (Place::Elastic, "trace_parent_string", W3C, Some(1)),
            (Place::Elastic, "traceparent", W3C, None),
            (Place::Elastic, "uber-trace-id", JAEGER, None),
            (Place::OpenTracing, "uber-trace-id", JAEGER, Some(6)),
            (Place::OpenTracing, "x-amzn-trace-id", XRAY, Some(7)),
            (Place::OpenTracing, "traceparent", W3C, None),
            (Place::Nested, "trace_parent_string", W3C, None),
            (Place::Flat, "trace_parent_string", W3C, None),
        ] {
            let mut headers = crate::celery::Headers::default();
            headers.take_within(place, name, HeaderValue::Text(text.into()));
            let translated = translate(&headers.carrier.foreign, ALL);
            assert_eq!(found(translated), number, "{place:?} {name}");
            let translated = translate(&headers.carrier.foreign, NONE);
            assert_eq!(translated, None);
        }
    }

    #[test]
    fn what_is_nested_counts_before_what_is_flat() {
        let fresh = vec![("sentry-trace", SENTRY)];
        let stale = vec![(
            "sentry-trace",
            "6b029a93000000001d5099a9f57ffb17-0000000000000009-1",
        )];
        assert_eq!(found(read(&fresh, &stale, ALL)), Some(2));
        assert_eq!(
            found(read(&vec![("sentry-trace", "")], &stale, ALL)),
            Some(9)
        );
    }

    #[test]
    fn halves_of_different_places_make_no_context() {
        let (ids, rest) = DATADOG.split_at(1);
        assert_eq!(read(&ids.to_vec(), &rest.to_vec(), ALL), None);
    }

    #[test]
    fn the_tracestate_goes_along_with_its_traceparent_alone() {
        let tracestate = ("tracestate", "dd=s:1;p:1,ot=th:0");
        let translated = read(&vec![("traceparent", W3C), tracestate], &vec![], ALL).unwrap();
        assert_eq!(translated.tracestate, tracestate.1);
        assert_eq!(w3c::format_traceparent(&translated.context), W3C);
        let translated = read(&vec![("sentry-trace", SENTRY), tracestate], &vec![], ALL).unwrap();
        assert_eq!(translated.tracestate, "");
    }

    #[test]
    fn whether_the_trace_is_recorded_may_be_left_open() {
        let undecided = vec![("sentry-trace", &SENTRY[..SENTRY.len() - 2])];
        let translated = read(&undecided, &vec![], ALL).unwrap();
        assert_eq!(translated.sampled, None);
        assert!(!translated.context.flags.is_sampled());
    }
}
