//! Which trace shows what a histogram counts.

use std::fmt;
use std::fmt::Write;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::EncodeLabelValue;
use prometheus_client::encoding::LabelValueEncoder;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;

use crate::trace::TraceContext;
use crate::trace::TraceId;

/// A histogram that names a trace for each of its buckets.
pub(super) type Histogram = HistogramWithExemplars<TraceLabel>;

/// Names a trace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TraceLabel {
    trace_id: TraceId,
}

impl TraceLabel {
    /// `None` for a trace that is not recorded: there would be nothing to be found.
    pub(super) fn of(context: &TraceContext) -> Option<Self> {
        context.flags.is_sampled().then_some(Self {
            trace_id: context.trace_id,
        })
    }
}

impl EncodeLabelValue for TraceId {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        write!(encoder, "{self}")
    }
}
