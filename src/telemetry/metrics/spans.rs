//! What becomes of spans on their way out.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use prometheus_client::registry::Unit;

use crate::telemetry::metrics::ReasonLabels;
use crate::telemetry::metrics::signed;

/// The counters of spans on their way out.
#[derive(Clone, Debug)]
pub(in crate::telemetry) struct SpanMetrics {
    queued: Gauge,
    exported: Counter,
    dropped: Family<ReasonLabels, Counter>,
    export_duration: Histogram,
}

impl SpanMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let spans = Self::default();
        registry.register(
            "spans_queued",
            "Spans that wait to be exported, or are on their way",
            spans.queued.clone(),
        );
        registry.register(
            "spans_exported",
            "Spans that the collector took",
            spans.exported.clone(),
        );
        registry.register(
            "spans_dropped",
            "Spans that were not exported, by reason",
            spans.dropped.clone(),
        );
        registry.register_with_unit(
            "export_duration",
            "How long the collector took for a batch of spans, whatever it said in the end",
            Unit::Seconds,
            spans.export_duration.clone(),
        );
        // So that `rate()` sees the first one as well.
        for why in DropReason::ALL {
            drop(spans.dropped.get_or_create(&why.labels()));
        }
        spans
    }

    pub(in crate::telemetry) fn counts(&self) -> SpanCounts {
        let dropped = DropReason::ALL.into_iter().filter_map(|why| {
            let count = self.dropped.get(&why.labels())?.get();
            (count > 0).then_some((why.word(), count))
        });
        SpanCounts {
            queued: u64::try_from(self.queued.get()).unwrap_or(0),
            exported: self.exported.get(),
            dropped: dropped.collect(),
        }
    }

    /// A span was put in the queue.
    pub(in crate::telemetry) fn queued(&self) {
        self.queued.inc();
    }

    /// A span did not get into the queue.
    pub(in crate::telemetry) fn refused(&self) {
        self.dropped
            .get_or_create(&DropReason::QueueFull.labels())
            .inc();
    }

    /// A batch has come to its end.
    pub(in crate::telemetry) fn ended_after(&self, duration: Duration) {
        self.export_duration.observe(duration.as_secs_f64());
    }

    /// `spans` of those in the queue were exported.
    pub(in crate::telemetry) fn exported(&self, spans: usize) {
        self.queued.dec_by(signed(spans as u64));
        self.exported.inc_by(spans as u64);
    }

    /// `spans` of those in the queue were given up.
    pub(in crate::telemetry) fn dropped(&self, spans: usize, why: DropReason) {
        self.queued.dec_by(signed(spans as u64));
        self.dropped
            .get_or_create(&why.labels())
            .inc_by(spans as u64);
    }

    /// Gives up whatever is still queued, and tells how much that was.
    pub(in crate::telemetry) fn abandon(&self) -> usize {
        let left = usize::try_from(self.queued.get()).unwrap_or(0);
        self.dropped(left, DropReason::Shutdown);
        left
    }
}

impl Default for SpanMetrics {
    fn default() -> Self {
        Self {
            queued: Gauge::default(),
            exported: Counter::default(),
            dropped: Family::default(),
            export_duration: Histogram::new(EXPORT_BUCKETS),
        }
    }
}

/// What was counted of spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanCounts {
    pub queued: u64,
    pub exported: u64,
    /// By reason, without those that have not occurred.
    pub dropped: Vec<(&'static str, u64)>,
}

/// Why a span was not exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::telemetry) enum DropReason {
    /// There was no room for it.
    QueueFull,
    /// The collector refused the batch, or could not be reached.
    Failed,
    /// The collector took the batch, but not this span.
    Rejected,
    /// The collector did not answer in time.
    Timeout,
    /// The proxy was stopped first.
    Shutdown,
}

impl DropReason {
    const ALL: [Self; 5] = [
        Self::QueueFull,
        Self::Failed,
        Self::Rejected,
        Self::Timeout,
        Self::Shutdown,
    ];

    pub(in crate::telemetry) const fn word(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Timeout => "timeout",
            Self::Shutdown => "shutdown",
        }
    }

    const fn labels(self) -> ReasonLabels {
        ReasonLabels {
            reason: self.word(),
        }
    }
}

/// Seconds, from a collector next door to one that does not answer.
const EXPORT_BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_queued_until_they_are_exported_or_dropped() {
        let spans = SpanMetrics::default();
        (0..10).for_each(|_| spans.queued());
        spans.exported(5);
        spans.dropped(3, DropReason::Failed);
        assert_eq!(spans.abandon(), 2);
        assert_eq!(spans.abandon(), 0);
    }
}
