use crate::trace::SpanId;
use crate::trace::TraceContext;
use crate::trace::TraceFlags;
use crate::trace::TraceId;

/// What a context says that another vendor's header gives.
///
/// It never says whether the trace id is random, as W3C's flags can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignContext {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// Whether the trace is recorded; `None` where that is left to whoever reads it.
    pub sampled: Option<bool>,
}

impl From<ForeignContext> for TraceContext {
    fn from(foreign: ForeignContext) -> Self {
        Self {
            trace_id: foreign.trace_id,
            span_id: foreign.span_id,
            flags: TraceFlags::default().with_sampled(foreign.sampled == Some(true)),
        }
    }
}

#[cfg(test)]
pub(super) mod check {
    use super::*;

    /// That `parse` reads this out of `text`: trace id, span id, and whether it is sampled.
    #[track_caller]
    pub(in crate::trace) fn check(
        parse: impl FnOnce(&str) -> Option<ForeignContext>,
        text: &str,
        expected: Option<(&str, &str, Option<bool>)>,
    ) {
        let found = parse(text);
        let found = found.map(|found| {
            (
                found.trace_id.to_string(),
                found.span_id.to_string(),
                found.sampled,
            )
        });
        let expected = expected
            .map(|(trace_id, span_id, sampled)| (trace_id.to_owned(), span_id.to_owned(), sampled));
        assert_eq!(found, expected, "{text}");
    }
}
