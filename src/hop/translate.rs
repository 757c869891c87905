//! Contexts in the spellings of other vendors, made into a `traceparent`.

use crate::celery::Foreign;
use crate::config::Translate;
use crate::trace::TraceContext;

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

/// The context that one of the spellings gives, as far as they are wanted.
pub(super) fn translate(_foreign: &Foreign<'_>, _wanted: Translate) -> Option<Translated> {
    None
}
