//! Messages on their way out.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use prometheus_client::registry::Unit;

use crate::hop::Delivery;
use crate::hop::Settlement;
use crate::hop::Taken;
use crate::hop::TaskState;
use crate::telemetry::labels::Labels;
use crate::telemetry::labels::Standing;
use crate::telemetry::metrics::DestinationLabels;
use crate::telemetry::metrics::exemplar::Histogram;
use crate::telemetry::metrics::exemplar::TraceLabel;
use crate::telemetry::metrics::few::Few;

/// The counters of deliveries, when they are seen and when they have come to their end.
#[derive(Debug)]
pub(super) struct DeliveryMetrics {
    deliveries: Family<DeliveryLabels, Counter>,
    settlements: Family<SettlementLabels, Counter>,
    dwell: Family<DestinationLabels, Histogram>,
    negative_dwell: Counter,
    prefetch: Family<DestinationLabels, Histogram>,
    process_duration: Family<RunLabels, Histogram>,
}

impl DeliveryMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let deliveries = Self {
            deliveries: Family::default(),
            settlements: Family::default(),
            dwell: Family::new_with_constructor(|| Histogram::new(WAIT_BUCKETS.into_iter())),
            negative_dwell: Counter::default(),
            prefetch: Family::new_with_constructor(|| Histogram::new(WAIT_BUCKETS.into_iter())),
            process_duration: Family::new_with_constructor(|| {
                Histogram::new(RUN_BUCKETS.into_iter())
            }),
        };
        registry.register(
            "deliveries",
            "Messages that were delivered to a worker",
            deliveries.deliveries.clone(),
        );
        registry.register(
            "settlements",
            "Deliveries that have come to their end, by what the worker said of them",
            deliveries.settlements.clone(),
        );
        registry.register_with_unit(
            "dwell",
            "From the sending of a message to its first delivery",
            Unit::Seconds,
            deliveries.dwell.clone(),
        );
        registry.register(
            "negative_dwell",
            "Deliveries that were sent later than they came, by the clock of another host",
            deliveries.negative_dwell.clone(),
        );
        registry.register_with_unit(
            "prefetch",
            "How long a worker had a task that it could have run before it did",
            Unit::Seconds,
            deliveries.prefetch.clone(),
        );
        registry.register_with_unit(
            "process_duration",
            "How long tasks ran, by how that ended",
            Unit::Seconds,
            deliveries.process_duration.clone(),
        );
        deliveries
    }

    /// The counters of the deliveries that bear the same names as this one.
    pub(super) fn named(&self, delivery: &Delivery, labels: &mut Labels) -> TakenCounters {
        // A broker delivers only what it took.
        let standing = Standing::Confirmed;
        let name = delivery.task.name();
        let (destination, task) =
            labels.destination_and_task(&delivery.destination, name, standing);
        TakenCounters {
            labels: DestinationLabels {
                system: delivery.system,
                destination,
            },
            task,
            run_task: labels.task(name, standing),
            deliveries: Few::default(),
            settlements: Few::default(),
            dwell: None,
            prefetch: None,
            process_duration: Few::default(),
        }
    }

    /// Counts a delivery that was seen.
    pub(super) fn delivered(&self, delivery: &Delivery, counters: &mut TakenCounters) {
        let labels = &counters.labels;
        let passage = &delivery.passage;
        let redelivered = passage.redelivered;
        let deliveries = counters.deliveries.get(redelivered, || {
            self.deliveries.get_or_create_owned(&DeliveryLabels {
                system: labels.system,
                destination: Arc::clone(&labels.destination),
                task: Arc::clone(&counters.task),
                redelivered: if redelivered { "true" } else { "false" },
            })
        });
        deliveries.inc();
        if delivery.sent_ahead().is_some() {
            self.negative_dwell.inc();
        }
        // What another worker had before, or another queue, has not waited here alone.
        let is_first = !redelivered && passage.dead_letter.is_none();
        if let Some(waited) = delivery.dwell().filter(|_| is_first) {
            let find = || self.dwell.get_or_create_owned(labels);
            let trace = TraceLabel::of(&delivery.judgement.context);
            counters
                .dwell
                .get_or_insert_with(find)
                .observe(waited.as_secs_f64(), trace, None);
        }
    }

    /// Counts what of a delivery has come to its end.
    pub(super) fn ended(&self, taken: &Taken, counters: &mut TakenCounters) {
        if taken.ended.settlement {
            self.settled(taken, counters);
        }
        if taken.ended.process {
            self.processed(taken, counters);
        }
    }

    fn settled(&self, taken: &Taken, counters: &mut TakenCounters) {
        let labels = &counters.labels;
        let settlement = taken.settled.map(|(how, _)| how);
        let settlements = counters.settlements.get(settlement, || {
            self.settlements.get_or_create_owned(&SettlementLabels {
                system: labels.system,
                destination: Arc::clone(&labels.destination),
                settlement: settlement.map_or("unknown", Settlement::word),
            })
        });
        settlements.inc();
    }

    fn processed(&self, taken: &Taken, counters: &mut TakenCounters) {
        let labels = &counters.labels;
        let trace = TraceLabel::of(&taken.delivery.judgement.context);
        if let Some(prefetched) = taken.prefetched() {
            let find = || self.prefetch.get_or_create_owned(labels);
            counters.prefetch.get_or_insert_with(find).observe(
                prefetched.as_secs_f64(),
                trace.clone(),
                None,
            );
        }
        let state = taken.finished.and_then(|finish| finish.state);
        if let (Some(state), Some(ran)) = (state, taken.ran()) {
            let process_duration = counters.process_duration.get(state, || {
                self.process_duration.get_or_create_owned(&RunLabels {
                    system: labels.system,
                    task: Arc::clone(&counters.run_task),
                    state: state.word(),
                })
            });
            process_duration.observe(ran.as_secs_f64(), trace, None);
        }
    }
}

/// The counters of the deliveries that bear the same names.
#[derive(Debug)]
pub(in crate::telemetry) struct TakenCounters {
    labels: DestinationLabels,
    /// As far as there is room for it together with the destination.
    task: Arc<str>,
    /// As far as there is room for it alone.
    run_task: Arc<str>,
    deliveries: Few<bool, Counter>,
    settlements: Few<Option<Settlement>, Counter>,
    dwell: Option<Histogram>,
    prefetch: Option<Histogram>,
    process_duration: Few<TaskState, Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    system: &'static str,
    destination: Arc<str>,
    task: Arc<str>,
    redelivered: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SettlementLabels {
    system: &'static str,
    destination: Arc<str>,
    settlement: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    system: &'static str,
    task: Arc<str>,
    state: &'static str,
}

/// Seconds, from a queue that is read at once to one that nobody keeps up with.
const WAIT_BUCKETS: [f64; 14] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
];

/// Seconds, from a task that sends a mail to one that runs at night.
const RUN_BUCKETS: [f64; 14] = [
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::Leg;
    use crate::hop::Passage;
    use crate::hop::Settlement;
    use crate::hop::fixture;
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::metrics::tests::assert_tells;
    use crate::telemetry::metrics::tests::refute_tells;
    use crate::trace::Timestamp;

    const SECOND: u64 = 1_000_000_000;

    /// Delivered at 100 seconds, to a queue called `mail`.
    fn delivery(passage: Passage) -> Box<Delivery> {
        let mut delivery = fixture::delivery("1", None, 100 * SECOND);
        delivery.destination = "mail".into();
        delivery.task.edit(|it| it.name = "app.add".into());
        delivery.passage = passage;
        delivery
    }

    fn sent(seconds: u64, passage: Passage) -> Box<Delivery> {
        let mut delivery = delivery(passage);
        delivery.sent = Some(Timestamp::from_nanos(seconds * SECOND));
        delivery
    }

    #[test]
    fn a_delivery_is_counted_when_it_is_seen_with_the_time_that_it_waited() {
        let metrics = Metrics::default();
        metrics.deliver(&sent(97, Passage::default()));
        metrics.deliver(&delivery(Passage::default()));
        let labels = "system=\"some-broker\",destination=\"mail\"";
        assert_tells(
            &metrics,
            &[
                &format!(
                    "tracehop_deliveries_total{{{labels},task=\"app.add\",redelivered=\"false\"}} 2"
                ),
                &format!("tracehop_dwell_seconds_bucket{{le=\"2.5\",{labels}}} 0"),
                &format!("tracehop_dwell_seconds_bucket{{le=\"5.0\",{labels}}} 1"),
                &format!("tracehop_dwell_seconds_count{{{labels}}} 1"),
                "tracehop_negative_dwell_total 0",
            ],
        );
    }

    #[test]
    fn what_has_been_elsewhere_before_tells_nothing_of_this_queue() {
        let metrics = Metrics::default();
        metrics.deliver(&sent(
            97,
            Passage {
                redelivered: true,
                ..Passage::default()
            },
        ));
        metrics.deliver(&sent(
            97,
            Passage {
                dead_letter: Some("expired".into()),
                ..Passage::default()
            },
        ));
        assert_tells(
            &metrics,
            &[
                "tracehop_deliveries_total{system=\"some-broker\",destination=\"mail\",task=\"app.add\",redelivered=\"true\"} 1",
                "tracehop_deliveries_total{system=\"some-broker\",destination=\"mail\",task=\"app.add\",redelivered=\"false\"} 1",
            ],
        );
        refute_tells(&metrics, "tracehop_dwell_seconds_count");
    }

    #[test]
    fn what_was_sent_later_than_it_came_has_no_dwell_and_is_counted() {
        let metrics = Metrics::default();
        metrics.deliver(&sent(103, Passage::default()));
        assert_tells(&metrics, &["tracehop_negative_dwell_total 1"]);
        refute_tells(&metrics, "tracehop_dwell_seconds_count");
    }

    #[test]
    fn a_settlement_is_counted_and_nothing_made_up_of_a_run_that_nobody_told_of() {
        let metrics = Metrics::default();
        let taken = |settled| fixture::taken(delivery(Passage::default()), settled, None, None);
        metrics.ended(&Leg::Taken(taken(Some(101 * SECOND))));
        metrics.ended(&Leg::Taken(Taken {
            settled: Some((Settlement::Abandoned, Timestamp::default())),
            ..taken(None)
        }));
        metrics.ended(&Leg::Taken(Taken {
            is_expired: true,
            ..taken(None)
        }));
        let told = |settlement| {
            format!(
                "tracehop_settlements_total{{system=\"some-broker\",destination=\"mail\",settlement=\"{settlement}\"}} 1"
            )
        };
        assert_tells(
            &metrics,
            &[
                &told("acknowledged"),
                &told("abandoned"),
                &told("unknown"),
                "tracehop_hops_expired_total{leg=\"receive\"} 1",
                "tracehop_hops_expired_total{leg=\"send\"} 0",
            ],
        );
        refute_tells(&metrics, "tracehop_prefetch_seconds_count");
        refute_tells(&metrics, "tracehop_process_duration_seconds_count");
    }

    #[test]
    fn a_run_is_told_apart_from_what_the_worker_held_it_before() {
        let at = |seconds| Some(seconds * SECOND);
        for (settled, started, prefetched, ran) in [
            // The worker told of the beginning.
            (at(120), at(110), Some(10.0), Some(10.0)),
            // It acknowledged first; so it began then.
            (at(115), None, Some(15.0), Some(5.0)),
            // It acknowledged at the end: when it began nobody knows.
            (at(121), None, None, None),
        ] {
            let metrics = Metrics::default();
            let taken = fixture::taken(delivery(Passage::default()), settled, started, at(120));
            metrics.ended(&Leg::Taken(taken));
            let labels = "system=\"some-broker\",task=\"app.add\",state=\"succeeded\"";
            let duration = "tracehop_process_duration_seconds_sum";
            match ran {
                None => refute_tells(&metrics, duration),
                Some(sum) => assert_tells(&metrics, &[&format!("{duration}{{{labels}}} {sum:?}")]),
            }
            let prefetch = "tracehop_prefetch_seconds_sum";
            match prefetched {
                None => refute_tells(&metrics, prefetch),
                Some(sum) => {
                    let labels = "system=\"some-broker\",destination=\"mail\"";
                    let sum = format!("{prefetch}{{{labels}}} {sum:?}");
                    assert_tells(&metrics, &[&sum]);
                }
            }
        }
    }
}
