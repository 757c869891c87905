//! Datadog's headers
//! (<https://docs.datadoghq.com/tracing/trace_collection/trace_context_propagation/>).

use crate::trace::ForeignContext;
use crate::trace::SpanId;
use crate::trace::TraceId;
use crate::trace::ids::lower_hex_digits;

/// What the headers `x-datadog-…` say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// The low half of the trace id, in decimal digits.
    pub trace_id: Option<&'a str>,
    /// The span id, in decimal digits.
    pub parent_id: Option<&'a str>,
    /// Above zero: the trace is kept.
    pub sampling_priority: Option<&'a str>,
    /// `key=value` with commas between. `_dd.p.tid` has the high half of the trace id, in hex.
    pub tags: Option<&'a str>,
}

impl Headers<'_> {
    /// The context that the headers give together. Tags that cannot be read count for
    /// nothing, as for Datadog's own workers; so does a priority.
    #[must_use]
    pub fn parse(self) -> Option<ForeignContext> {
        let low = id(self.trace_id?)?;
        let high = self.tags.and_then(high_half).unwrap_or_default();
        let trace_id = u128::from(high) << 64 | u128::from(low);
        Some(ForeignContext {
            trace_id: TraceId::new(trace_id.to_be_bytes())?,
            span_id: SpanId::new(id(self.parent_id?)?.to_be_bytes())?,
            sampled: self
                .sampling_priority
                .and_then(|priority| priority.parse::<i32>().ok())
                .map(|priority| priority > 0),
        })
    }
}

/// Zero stands for no id.
fn id(digits: &str) -> Option<u64> {
    let id = digits.parse().ok()?;
    (id > 0 && !digits.starts_with('+')).then_some(id)
}

fn high_half(tags: &str) -> Option<u64> {
    let digits = tags
        .split(',')
        .find_map(|tag| tag.trim_matches(' ').strip_prefix("_dd.p.tid="))?;
    u64::from_str_radix(lower_hex_digits(digits, 16)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::foreign::check::check;

    /// As ddtrace 4.16 writes them.
    const RECORDED: Headers<'_> = Headers {
        trace_id: Some("2112357180484090647"),
        parent_id: Some("2178025331286914974"),
        sampling_priority: Some("1"),
        tags: Some("_dd.p.dm=-0,_dd.p.tid=6b029a9300000000"),
    };
    const TRACE: &str = "6b029a93000000001d5099a9f57ffb17";
    const SHORT_TRACE: &str = "00000000000000001d5099a9f57ffb17";
    const SPAN: &str = "1e39e67fc728b79e";

    #[test]
    fn the_high_half_of_the_trace_id_is_among_the_tags() {
        for (tags, trace_id) in [
            (RECORDED.tags, TRACE),
            (Some("_dd.p.tid=6b029a9300000000"), TRACE),
            (Some("a, _dd.p.tid=6b029a9300000000 ,b=c"), TRACE),
            (Some("_dd.p.dm=-0"), SHORT_TRACE),
            (Some("_dd.p.tid=0000000000000000"), SHORT_TRACE),
            (Some("_dd.p.tid=6B029A9300000000"), SHORT_TRACE),
            (Some("_dd.p.tid=6b029a930000000"), SHORT_TRACE),
            (Some("_dd.p.tid=+b029a9300000000"), SHORT_TRACE),
            (Some("_dd.p.tid"), SHORT_TRACE),
            (Some(""), SHORT_TRACE),
            (None, SHORT_TRACE),
        ] {
            let headers = Headers { tags, ..RECORDED };
            check(|_| headers.parse(), "", Some((trace_id, SPAN, Some(true))));
        }
    }

    #[test]
    fn a_priority_above_zero_keeps_the_trace() {
        for (sampling_priority, sampled) in [
            (Some("2"), Some(true)),
            (Some("1"), Some(true)),
            (Some("0"), Some(false)),
            (Some("-1"), Some(false)),
            (Some("high"), None),
            (None, None),
        ] {
            let headers = Headers {
                sampling_priority,
                ..RECORDED
            };
            check(|_| headers.parse(), "", Some((TRACE, SPAN, sampled)));
        }
    }

    #[test]
    fn both_ids_are_needed_in_decimal_digits() {
        for id in [
            "",
            "0",
            "-1",
            "+1",
            " 1",
            "1.0",
            "0x1",
            "1e5",
            "18446744073709551616",
        ] {
            for headers in [
                Headers {
                    trace_id: Some(id),
                    ..RECORDED
                },
                Headers {
                    parent_id: Some(id),
                    ..RECORDED
                },
            ] {
                check(|_| headers.parse(), id, None);
            }
        }
        for headers in [
            Headers {
                trace_id: None,
                ..RECORDED
            },
            Headers {
                parent_id: None,
                ..RECORDED
            },
        ] {
            check(|_| headers.parse(), "", None);
        }
    }

    proptest! {
        #[test]
        fn ids_come_out_as_they_were_written(high: u64, low in 1..=u64::MAX, span in 1..=u64::MAX) {
            let [low_text, span_text] = [low, span].map(|id| id.to_string());
            let tags = format!("_dd.p.tid={high:016x}");
            let headers = Headers {
                trace_id: Some(&low_text),
                parent_id: Some(&span_text),
                tags: Some(&tags),
                ..Headers::default()
            };
            let [trace_id, span_id] = [format!("{high:016x}{low:016x}"), format!("{span:016x}")];
            check(|_| headers.parse(), "", Some((&trace_id, &span_id, None)));
        }
    }
}
