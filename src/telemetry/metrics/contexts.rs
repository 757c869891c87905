//! How good the context is that messages come with.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::hop::Quality;
use crate::telemetry::finding::Finding;
use crate::telemetry::labels;
use crate::telemetry::labels::Labels;
use crate::telemetry::metrics::few::Few;
use crate::trace::w3c::Invalid;

/// The messages by what was found of their context.
#[derive(Debug, Default)]
pub(super) struct ContextMetrics {
    contexts: Family<ContextLabels, Counter>,
}

impl ContextMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let contexts = Self::default();
        registry.register(
            "contexts",
            "Messages by how good the context was that they came with",
            contexts.contexts.clone(),
        );
        contexts
    }

    /// The counters of what is found with the same names.
    pub(super) fn named(&self, finding: &Finding<'_>, labels: &mut Labels) -> FoundCounters {
        let (destination, producer) = labels.destination_and_producer(
            finding.destination,
            finding.producer.name(),
            finding.standing,
        );
        FoundCounters {
            system: finding.system,
            destination,
            producer,
            contexts: Few::default(),
        }
    }

    pub(super) fn found(&self, finding: &Finding<'_>, counters: &mut FoundCounters) {
        let (quality, invalid) = (finding.judgement.quality, finding.judgement.invalid);
        let contexts = counters.contexts.get((quality, invalid), || {
            self.contexts.get_or_create_owned(&ContextLabels {
                system: counters.system,
                destination: Arc::clone(&counters.destination),
                producer: Arc::clone(&counters.producer),
                quality: quality.word(),
                reason: invalid.map_or("", Invalid::word),
            })
        });
        contexts.inc();
    }
}

/// The counters of what is found with the same names.
#[derive(Debug)]
pub(in crate::telemetry) struct FoundCounters {
    system: &'static str,
    destination: Arc<str>,
    producer: Arc<str>,
    contexts: Few<(Quality, Option<Invalid>), Counter>,
}

impl FoundCounters {
    /// Its names are their own.
    pub(in crate::telemetry) fn is_named(&self) -> bool {
        !labels::is_other(&self.destination) && !labels::is_other(&self.producer)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ContextLabels {
    system: &'static str,
    destination: Arc<str>,
    producer: Arc<str>,
    quality: &'static str,
    /// Why it is invalid; empty where it is not.
    reason: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::Answer;
    use crate::hop::Sent;
    use crate::hop::fixture;
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::metrics::tests::assert_tells;
    use crate::trace::Timestamp;

    fn sent(host: &'static str, answer: Answer, invalid: Option<Invalid>) -> Sent {
        let mut publication = fixture::publication(1, 5);
        publication.task.edit(|it| it.origin = Some(host.into()));
        publication.judgement.invalid = invalid;
        if invalid.is_some() {
            publication.judgement.quality = Quality::Invalid;
        }
        Sent {
            publication: publication.into(),
            answer,
            ended: Timestamp::from_nanos(9),
        }
    }

    #[test]
    fn contexts_are_counted_by_producer_and_quality() {
        let metrics = Metrics::default();
        for invalid in [None, None, Some(Invalid::UpperCase)] {
            let sent = sent("web-1", Answer::Confirmed, invalid);
            metrics.find(&Finding::of_publication(&sent));
        }
        metrics.find(&Finding::of_delivery(&fixture::delivery("1", None, 5)).unwrap());
        let told = |producer, quality, reason, count| {
            format!(
                "tracehop_contexts_total{{system=\"some-broker\",destination=\"celery\",producer=\"{producer}\",quality=\"{quality}\",reason=\"{reason}\"}} {count}"
            )
        };
        assert_tells(
            &metrics,
            &[
                &told("web-1", "missing", "", 2),
                &told("web-1", "invalid", "upper_case", 1),
                &told("unknown", "missing", "", 1),
            ],
        );
    }

    #[test]
    fn whoever_is_refused_is_no_producer() {
        let metrics = Metrics::default();
        for (host, answer) in [
            ("web-1", Answer::Confirmed),
            ("x", Answer::Lost),
            ("y", Answer::Unread),
        ] {
            metrics.find(&Finding::of_publication(&sent(host, answer, None)));
        }
        assert_tells(
            &metrics,
            &[
                "tracehop_contexts_total{system=\"some-broker\",destination=\"celery\",producer=\"other\",quality=\"missing\",reason=\"\"} 2",
            ],
        );
    }
}
