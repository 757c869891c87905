//! Messages on their way in.

use std::mem::Discriminant;
use std::mem::discriminant;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use prometheus_client::registry::Unit;

use crate::hop::Answer;
use crate::hop::Publication;
use crate::hop::Sent;
use crate::hop::Verdict;
use crate::telemetry::labels;
use crate::telemetry::labels::Labels;
use crate::telemetry::labels::Standing;
use crate::telemetry::metrics::DestinationLabels;
use crate::telemetry::metrics::exemplar::Histogram;
use crate::telemetry::metrics::exemplar::TraceLabel;
use crate::telemetry::metrics::few::Few;

/// The counters of publications that have come to their end.
#[derive(Debug)]
pub(super) struct PublicationMetrics {
    messages: Family<MessageLabels, Counter>,
    sends: Family<SendLabels, Counter>,
    send_duration: Family<DestinationLabels, Histogram>,
}

impl PublicationMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let publications = Self {
            messages: Family::default(),
            sends: Family::default(),
            send_duration: Family::new_with_constructor(|| {
                Histogram::new(SEND_BUCKETS.into_iter())
            }),
        };
        registry.register(
            "messages",
            "Publications that have come to their end, by what was done with their context",
            publications.messages.clone(),
        );
        registry.register(
            "sends",
            "Publications that have come to their end, by what became of them",
            publications.sends.clone(),
        );
        registry.register_with_unit(
            "send_duration",
            "From the first byte of a publication to the broker's answer",
            Unit::Seconds,
            publications.send_duration.clone(),
        );
        publications
    }

    /// The counters of the publications that bear the same names as this one.
    pub(super) fn named(
        &self,
        publication: &Publication,
        standing: Standing,
        labels: &mut Labels,
    ) -> SentCounters {
        let (destination, task) = labels.destination_and_task(
            &publication.destination,
            publication.task.name(),
            standing,
        );
        SentCounters {
            system: publication.system,
            destination,
            task,
            messages: Few::default(),
            sends: Few::default(),
            duration: None,
        }
    }

    /// Counts a publication that has come to its end.
    pub(super) fn ended(&self, sent: &Sent, counters: &mut SentCounters) {
        let publication = &sent.publication;
        let system = counters.system;
        let destination = &counters.destination;
        let verdict = publication.judgement.verdict;
        let messages = counters.messages.get(verdict, || {
            self.messages.get_or_create_owned(&MessageLabels {
                system,
                destination: Arc::clone(destination),
                task: Arc::clone(&counters.task),
                verdict: verdict.word(),
            })
        });
        messages.inc();
        // Only these two are moments at which the broker spoke.
        if matches!(sent.answer, Answer::Confirmed | Answer::Refused(_)) {
            let duration = counters.duration.get_or_insert_with(|| {
                self.send_duration.get_or_create_owned(&DestinationLabels {
                    system,
                    destination: Arc::clone(destination),
                })
            });
            duration.observe(
                sent.ended.since(publication.at).as_secs_f64(),
                TraceLabel::of(&publication.judgement.context),
                None,
            );
        }
        let sends = counters.sends.get(discriminant(&sent.answer), || {
            self.sends.get_or_create_owned(&SendLabels {
                system,
                destination: Arc::clone(destination),
                answer: sent.answer.word(),
            })
        });
        sends.inc();
    }
}

/// The counters of the publications that bear the same names.
#[derive(Debug)]
pub(in crate::telemetry) struct SentCounters {
    system: &'static str,
    destination: Arc<str>,
    task: Arc<str>,
    messages: Few<Verdict, Counter>,
    sends: Few<Discriminant<Answer>, Counter>,
    duration: Option<Histogram>,
}

impl SentCounters {
    /// Its names are their own.
    pub(in crate::telemetry) fn is_named(&self) -> bool {
        !labels::is_other(&self.destination) && !labels::is_other(&self.task)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    system: &'static str,
    destination: Arc<str>,
    task: Arc<str>,
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SendLabels {
    system: &'static str,
    destination: Arc<str>,
    answer: &'static str,
}

/// Seconds, from a broker next door to one that is in trouble.
const SEND_BUCKETS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
