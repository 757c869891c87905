//! All that is kept of sightings, apart from their spans.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Limits;
use crate::config::Spans;
use crate::hop::Ledger;
use crate::hop::Leg;
use crate::hop::Sighting;
use crate::telemetry::finding::Finding;
use crate::telemetry::health::Health;
use crate::telemetry::log::SightingLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::quality::QualityReport;
use crate::telemetry::watch::Watch;
use crate::trace::Timestamp;

/// The books that sightings are entered in: the open hops, and all that is told of them on
/// the admin port and in the log.
#[derive(Debug)]
pub struct Books {
    pub(super) metrics: Arc<Metrics>,
    pub(super) quality: QualityReport,
    pub(super) watch: Watch,
    pub(super) health: Health,
    /// Somebody can look at what is watched.
    is_watched: bool,
    log: SightingLog,
    ledger: Ledger,
}

impl Books {
    /// Empty ones. What cannot be read is told to the log once in `repeat_interval`.
    #[must_use]
    pub fn new(limits: &Limits, spans: Spans, is_watched: bool, repeat_interval: Duration) -> Self {
        Self {
            metrics: Arc::new(Metrics::new(limits.label_values_max)),
            quality: QualityReport::new(limits.quality_entries_max),
            watch: Watch::new(limits),
            health: Health::default(),
            is_watched,
            log: SightingLog::new(repeat_interval),
            ledger: Ledger::new(limits, spans),
        }
    }

    /// Books what was `seen`, in order. The legs that end by it go to `ended`, which is empty.
    pub fn book(&mut self, seen: &mut Vec<Sighting>, ended: &mut Vec<Leg>) {
        for sighting in seen.drain(..) {
            self.saw(&sighting);
            self.ledger.book(sighting, ended);
        }
        self.ended(ended);
    }

    /// Ends the legs that have been open for too long.
    pub(super) fn expire(&mut self, now: Timestamp, ended: &mut Vec<Leg>) {
        self.ledger.expire(now, ended);
        self.ended(ended);
    }

    /// Ends all of them.
    pub(super) fn close(&mut self, now: Timestamp, ended: &mut Vec<Leg>) {
        self.ledger.close(now, ended);
        self.ended(ended);
    }

    fn saw(&mut self, sighting: &Sighting) {
        self.metrics.saw(sighting);
        self.log.saw(sighting);
        self.health.saw(sighting);
        if self.is_watched {
            self.watch.saw(sighting);
        }
        if let Sighting::Delivered(delivery) = sighting {
            self.found(Finding::of_delivery(delivery));
        }
    }

    fn ended(&self, ended: &[Leg]) {
        for leg in ended {
            self.metrics.ended(leg);
            if self.is_watched {
                self.watch.ended(leg);
            }
            if let Leg::Sent(sent) = leg {
                self.found(Some(Finding::of_publication(sent)));
            }
        }
        self.metrics
            .opened(self.ledger.sent_count(), self.ledger.taken_count());
    }

    fn found(&self, finding: Option<Finding<'_>>) {
        if let Some(finding) = finding {
            self.metrics.found(&finding);
            self.quality.found(&finding);
        }
    }
}
