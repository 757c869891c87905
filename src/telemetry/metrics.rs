//! The counters of this process, as Prometheus reads them.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use prometheus_client::registry::Unit;

use crate::hop::Answer;
use crate::hop::Leg;
use crate::hop::Sent;
use crate::hop::Sighting;
use crate::telemetry::labels::Labels;
use crate::telemetry::labels::Standing;
use crate::telemetry::process::ProcessMetrics;

/// The counters of this process.
///
/// Labels whose values come from peers, `destination` and `task`, take a bounded number of
/// values; the rest is counted as `other`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    labels: Mutex<Labels>,
    process: ProcessMetrics,
    held_bytes: Gauge,
    held: OnceLock<Held>,
    routes: RouteFamilies,
    messages: Family<MessageLabels, Counter>,
    sends: Family<SendLabels, Counter>,
    send_duration: Family<DestinationLabels, Histogram>,
    redeliveries: Family<RedeliveryLabels, Counter>,
    left_alone: Family<ReasonLabels, Counter>,
    blind_sessions: Family<RouteReasonLabels, Counter>,
    pub(super) open_hops: Gauge,
    pub(super) sightings_dropped: Counter,
    pub(super) spans: SpanMetrics,
}

/// What becomes of spans on their way out.
#[derive(Clone, Debug, Default)]
pub(super) struct SpanMetrics {
    queued: Gauge,
    exported: Counter,
    dropped: Family<ReasonLabels, Counter>,
}

/// The counters of one route: cheap to clone, and to count with at every read.
#[derive(Clone, Debug)]
pub struct RouteMetrics {
    route: Arc<str>,
    open: Gauge,
    opened: Counter,
    failed: Family<RouteReasonLabels, Counter>,
    from_client: Counter,
    from_broker: Counter,
}

#[derive(Debug, Default)]
struct RouteFamilies {
    open: Family<RouteLabels, Gauge>,
    opened: Family<RouteLabels, Counter>,
    failed: Family<RouteReasonLabels, Counter>,
    received: Family<PeerLabels, Counter>,
}

impl Metrics {
    /// `label_values_max` bounds the values of each label that peers decide on.
    #[must_use]
    pub fn new(label_values_max: usize) -> Self {
        let mut registry = Registry::default();
        let process = ProcessMetrics::register(&mut registry);
        let ours = registry.sub_registry_with_prefix("tracehop");
        ours.register(
            "build",
            "The version that is running",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let routes = RouteFamilies::register(ours);
        let spans = SpanMetrics::register(ours);
        let messages = Family::default();
        ours.register(
            "messages",
            "Publications that have come to their end, by what was done with their context",
            messages.clone(),
        );
        let sends = Family::default();
        ours.register(
            "sends",
            "Publications that have come to their end, by what became of them",
            sends.clone(),
        );
        let send_duration =
            Family::<_, Histogram>::new_with_constructor(|| Histogram::new(SEND_BUCKETS));
        ours.register_with_unit(
            "send_duration",
            "From the first byte of a publication to the broker's answer",
            Unit::Seconds,
            send_duration.clone(),
        );
        let redeliveries = Family::default();
        ours.register(
            "redeliveries",
            "Messages that a worker put back",
            redeliveries.clone(),
        );
        let left_alone = Family::default();
        ours.register(
            "left_alone",
            "Messages passed unedited that may have been Celery's, by reason",
            left_alone.clone(),
        );
        let blind_sessions = Family::default();
        ours.register(
            "blind_sessions",
            "Sessions that could not be read any further, by reason; their bytes flow on",
            blind_sessions.clone(),
        );
        let open_hops = Gauge::default();
        ours.register(
            "open_hops",
            "Publications that wait for the broker's answer",
            open_hops.clone(),
        );
        let sightings_dropped = Counter::default();
        ours.register(
            "sightings_dropped",
            "Sightings that found their queue full; what they would have told is not counted",
            sightings_dropped.clone(),
        );
        let held_bytes = Gauge::default();
        ours.register_with_unit(
            "held",
            "Parts of messages that all sessions hold until the rest has come",
            Unit::Bytes,
            held_bytes.clone(),
        );
        Self {
            registry,
            labels: Mutex::new(Labels::new(label_values_max)),
            process,
            held_bytes,
            held: OnceLock::new(),
            routes,
            messages,
            sends,
            send_duration,
            redeliveries,
            left_alone,
            blind_sessions,
            open_hops,
            sightings_dropped,
            spans,
        }
    }

    /// The counters of the route called `route`; to be asked for once, not at every use.
    #[must_use]
    pub fn route(&self, route: &str) -> RouteMetrics {
        let route: Arc<str> = Arc::from(route);
        let labels = RouteLabels {
            route: Arc::clone(&route),
        };
        let received = |peer| {
            let labels = PeerLabels {
                route: Arc::clone(&route),
                peer,
            };
            self.routes.received.get_or_create_owned(&labels)
        };
        // A counter that appears with its first count hides that count from `rate()`.
        for reason in FAILURES {
            let labels = RouteReasonLabels {
                route: Arc::clone(&route),
                reason,
            };
            drop(self.routes.failed.get_or_create(&labels));
        }
        RouteMetrics {
            open: self.routes.open.get_or_create_owned(&labels),
            opened: self.routes.opened.get_or_create_owned(&labels),
            failed: self.routes.failed.clone(),
            from_client: received("client"),
            from_broker: received("broker"),
            route,
        }
    }

    /// Tells where to read the number of bytes that sessions hold. The first one counts.
    pub fn watch_held(&self, held: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.held.set(Held(Box::new(held)));
    }

    /// Everything, in the text format of OpenMetrics 1.0.
    #[must_use]
    pub fn encode(&self) -> String {
        self.process.read();
        if let Some(held) = self.held.get() {
            self.held_bytes.set(signed((held.0)()));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String cannot fail");
        text
    }

    /// Counts what was seen.
    pub(super) fn saw(&self, sighting: &Sighting) {
        match sighting {
            // Counted when the leg ends.
            Sighting::Published(_)
            | Sighting::Answered { .. }
            | Sighting::Delivered(_)
            | Sighting::Settled { .. }
            | Sighting::Told { .. } => {}
            Sighting::Redelivered { destination, .. } => {
                let standing = Standing::Unanswered;
                let destination = self.labels().destination(destination, standing);
                self.redeliveries
                    .get_or_create(&RedeliveryLabels { destination })
                    .inc();
            }
            Sighting::LeftAlone { why, .. } => {
                self.left_alone
                    .get_or_create(&ReasonLabels { reason: why })
                    .inc();
            }
            Sighting::LostSight { connection, why } => {
                let labels = RouteReasonLabels {
                    route: Arc::clone(&connection.route),
                    reason: why,
                };
                self.blind_sessions.get_or_create(&labels).inc();
            }
        }
    }

    /// Counts a leg that has come to its end.
    pub(super) fn ended(&self, leg: &Leg) {
        match leg {
            Leg::Sent(sent) => self.sent(sent),
            Leg::Taken(_) => {}
        }
    }

    fn sent(&self, hop: &Sent) {
        let publication = &hop.publication;
        let standing = match hop.answer {
            Answer::Confirmed => Standing::Confirmed,
            Answer::Unanswered => Standing::Unanswered,
            Answer::Refused(_)
            | Answer::Discarded
            | Answer::Unread
            | Answer::Lost
            | Answer::Expired => Standing::Unproven,
        };
        let (destination, task) = self.labels().destination_and_task(
            &publication.destination,
            &publication.task.name,
            standing,
        );
        let labels = MessageLabels {
            system: publication.system,
            destination: Arc::clone(&destination),
            task,
            verdict: publication.judgement.verdict.word(),
        };
        self.messages.get_or_create(&labels).inc();
        // Only these two are moments at which the broker spoke.
        if matches!(hop.answer, Answer::Confirmed | Answer::Refused(_)) {
            let labels = DestinationLabels {
                system: publication.system,
                destination: Arc::clone(&destination),
            };
            let duration = hop.ended.since(publication.at);
            self.send_duration
                .get_or_create(&labels)
                .observe(duration.as_secs_f64());
        }
        let labels = SendLabels {
            system: publication.system,
            destination,
            answer: hop.answer.word(),
        };
        self.sends.get_or_create(&labels).inc();
    }

    fn labels(&self) -> impl std::ops::DerefMut<Target = Labels> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Labels bounded as by default.
impl Default for Metrics {
    fn default() -> Self {
        Self::new(crate::config::Limits::default().label_values_max)
    }
}

impl RouteMetrics {
    /// A connection was accepted.
    pub fn opened(&self) {
        self.opened.inc();
        self.open.inc();
    }

    /// A connection that had been opened has ended.
    pub fn closed(&self) {
        self.open.dec();
    }

    /// A connection was refused, or ended by a fault; `why` is one of [`FAILURES`].
    pub fn failed(&self, why: &'static str) {
        debug_assert!(FAILURES.contains(&why), "{why} is not among the failures");
        let labels = RouteReasonLabels {
            route: Arc::clone(&self.route),
            reason: why,
        };
        self.failed.get_or_create(&labels).inc();
    }

    /// `bytes` came in from the app (`from_client`) or from the broker.
    pub fn received(&self, from_client: bool, bytes: usize) {
        let received = if from_client {
            &self.from_client
        } else {
            &self.from_broker
        };
        received.inc_by(bytes as u64);
    }
}

impl RouteFamilies {
    fn register(registry: &mut Registry) -> Self {
        let families = Self::default();
        registry.register(
            "connections",
            "Connections that are open",
            families.open.clone(),
        );
        // OpenMetrics wants one name per family, and the gauge above has this one already.
        registry.register(
            "connections_opened",
            "Connections accepted",
            families.opened.clone(),
        );
        registry.register(
            "connections_failed",
            "Connections that were refused, or ended by a fault, by reason",
            families.failed.clone(),
        );
        registry.register_with_unit(
            "received",
            "Bytes read from each side",
            Unit::Bytes,
            families.received.clone(),
        );
        families
    }
}

impl SpanMetrics {
    fn register(registry: &mut Registry) -> Self {
        let spans = Self::default();
        registry.register(
            "spans_queued",
            "Spans that wait to be exported, or are on their way",
            spans.queued.clone(),
        );
        registry.register(
            "spans_exported",
            "Spans in batches that the collector took; what it refused of one is in the log",
            spans.exported.clone(),
        );
        registry.register(
            "spans_dropped",
            "Spans that were not exported, by reason",
            spans.dropped.clone(),
        );
        // So that `rate()` sees the first one as well.
        for why in DropReason::ALL {
            drop(spans.dropped.get_or_create(&why.labels()));
        }
        spans
    }

    /// A span was put in the queue.
    pub(super) fn queued(&self) {
        self.queued.inc();
    }

    /// A span did not get into the queue.
    pub(super) fn refused(&self) {
        self.dropped
            .get_or_create(&DropReason::QueueFull.labels())
            .inc();
    }

    /// `spans` of those in the queue were exported.
    pub(super) fn exported(&self, spans: usize) {
        self.queued.dec_by(signed(spans as u64));
        self.exported.inc_by(spans as u64);
    }

    /// `spans` of those in the queue were given up.
    pub(super) fn dropped(&self, spans: usize, why: DropReason) {
        self.queued.dec_by(signed(spans as u64));
        self.dropped
            .get_or_create(&why.labels())
            .inc_by(spans as u64);
    }

    /// Gives up whatever is still queued, and tells how much that was.
    pub(super) fn abandon(&self) -> usize {
        let left = usize::try_from(self.queued.get()).unwrap_or(0);
        self.dropped(left, DropReason::Shutdown);
        left
    }
}

/// Why a span was not exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum DropReason {
    /// There was no room for it.
    QueueFull,
    /// The collector refused it, or could not be reached.
    Failed,
    /// The collector did not answer in time.
    Timeout,
    /// The proxy was stopped first.
    Shutdown,
}

impl DropReason {
    const ALL: [Self; 4] = [Self::QueueFull, Self::Failed, Self::Timeout, Self::Shutdown];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Failed => "failed",
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

/// Reads a number that somebody else keeps.
struct Held(Box<dyn Fn() -> u64 + Send + Sync>);

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteReasonLabels {
    route: Arc<str>,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabels {
    route: Arc<str>,
    peer: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DestinationLabels {
    system: &'static str,
    destination: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RedeliveryLabels {
    destination: Arc<str>,
}

/// Why connections fail.
const FAILURES: [&str; 7] = [
    "accept",
    "broker_lost",
    "connections_max",
    "half_closed",
    "no_descriptors",
    "panic",
    "unreachable",
];

/// Prometheus' gauges are signed; what is beyond them is as good as the largest.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Seconds, from a broker next door to one that is in trouble.
const SEND_BUCKETS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::Connection;
    use crate::hop::Publication;
    use crate::hop::fixture;
    use crate::trace::Timestamp;

    fn connection() -> Arc<Connection> {
        fixture::publication(1, 1_000_000).connection
    }

    fn publication(destination: &str, task: &'static str) -> Box<Publication> {
        let mut publication = fixture::publication(1, 1_000_000);
        publication.destination = destination.into();
        publication.task.name = task.into();
        publication
    }

    fn hop(destination: &str, answer: Answer) -> Leg {
        Leg::Sent(Sent {
            publication: publication(destination, "app.add"),
            answer,
            ended: Timestamp::from_nanos(1_300_000),
        })
    }

    #[track_caller]
    fn assert_tells(metrics: &Metrics, lines: &[&str]) {
        let text = metrics.encode();
        for line in lines {
            assert!(text.lines().any(|told| told == *line), "{line}\n\n{text}");
        }
    }

    #[test]
    fn messages_and_their_ends_are_counted() {
        let metrics = Metrics::default();
        for answer in [Answer::Confirmed, Answer::Lost] {
            metrics.ended(&hop("celery", answer));
        }
        assert_tells(
            &metrics,
            &[
                "tracehop_messages_total{system=\"some-broker\",destination=\"celery\",task=\"app.add\",verdict=\"added\"} 2",
                "tracehop_sends_total{system=\"some-broker\",destination=\"celery\",answer=\"confirmed\"} 1",
                "tracehop_sends_total{system=\"some-broker\",destination=\"celery\",answer=\"lost\"} 1",
                "tracehop_send_duration_seconds_bucket{le=\"0.00025\",system=\"some-broker\",destination=\"celery\"} 0",
                "tracehop_send_duration_seconds_bucket{le=\"0.0005\",system=\"some-broker\",destination=\"celery\"} 1",
                "tracehop_send_duration_seconds_count{system=\"some-broker\",destination=\"celery\"} 1",
            ],
        );
    }

    #[test]
    fn what_was_not_understood_is_counted_by_reason() {
        let metrics = Metrics::default();
        let connection = connection();
        metrics.saw(&Sighting::LeftAlone {
            connection: Arc::clone(&connection),
            why: "too_large",
        });
        metrics.saw(&Sighting::LostSight {
            connection: Arc::clone(&connection),
            why: "panic",
        });
        metrics.saw(&Sighting::Redelivered {
            connection,
            destination: "a\"b\\c\nd".into(),
        });
        assert_tells(
            &metrics,
            &[
                "tracehop_left_alone_total{reason=\"too_large\"} 1",
                "tracehop_blind_sessions_total{route=\"main\",reason=\"panic\"} 1",
                "tracehop_redeliveries_total{destination=\"a\\\"b\\\\c?d\"} 1",
            ],
        );
    }

    #[test]
    fn what_peers_name_beyond_the_limit_is_other() {
        let metrics = Metrics::new(1);
        for queue in ["a", "b", "c"] {
            metrics.ended(&hop(queue, Answer::Confirmed));
        }
        assert_tells(
            &metrics,
            &[
                "tracehop_messages_total{system=\"some-broker\",destination=\"a\",task=\"app.add\",verdict=\"added\"} 1",
                "tracehop_messages_total{system=\"some-broker\",destination=\"other\",task=\"app.add\",verdict=\"added\"} 2",
            ],
        );
    }

    #[test]
    fn whoever_is_refused_names_no_series() {
        let metrics = Metrics::new(2);
        for queue in ["x", "y", "z"] {
            let noauth = Answer::Refused("NOAUTH Authentication required.".into());
            for answer in [noauth, Answer::Discarded, Answer::Lost, Answer::Expired] {
                metrics.ended(&hop(queue, answer));
            }
        }
        metrics.ended(&hop("celery", Answer::Confirmed));
        metrics.ended(&hop("celery", Answer::Lost));
        assert_tells(
            &metrics,
            &[
                "tracehop_messages_total{system=\"some-broker\",destination=\"other\",task=\"other\",verdict=\"added\"} 12",
                "tracehop_messages_total{system=\"some-broker\",destination=\"celery\",task=\"app.add\",verdict=\"added\"} 2",
                "tracehop_sends_total{system=\"some-broker\",destination=\"other\",answer=\"refused\"} 3",
                "tracehop_sends_total{system=\"some-broker\",destination=\"celery\",answer=\"lost\"} 1",
            ],
        );
    }

    #[test]
    fn what_is_not_answered_leaves_names_to_what_is() {
        let metrics = Metrics::new(2);
        for queue in ["x", "y", "z"] {
            metrics.ended(&hop(queue, Answer::Unanswered));
            metrics.saw(&Sighting::Redelivered {
                connection: connection(),
                destination: queue.into(),
            });
        }
        metrics.ended(&hop("celery", Answer::Confirmed));
        let told = |destination, count| {
            format!(
                "tracehop_sends_total{{system=\"some-broker\",destination={destination}}} {count}"
            )
        };
        assert_tells(
            &metrics,
            &[
                &told("\"x\",answer=\"unanswered\"", 1),
                &told("\"other\",answer=\"unanswered\"", 2),
                &told("\"celery\",answer=\"confirmed\"", 1),
                "tracehop_redeliveries_total{destination=\"x\"} 1",
                "tracehop_redeliveries_total{destination=\"other\"} 2",
            ],
        );
    }

    #[test]
    fn a_route_counts_its_connections_and_bytes() {
        let metrics = Metrics::default();
        let route = metrics.route("main");
        route.opened();
        metrics.route("main").opened();
        route.closed();
        route.failed("unreachable");
        route.received(true, 5);
        route.received(false, 7);
        assert_tells(
            &metrics,
            &[
                "tracehop_connections{route=\"main\"} 1",
                "tracehop_connections_opened_total{route=\"main\"} 2",
                "tracehop_connections_failed_total{route=\"main\",reason=\"unreachable\"} 1",
                "tracehop_connections_failed_total{route=\"main\",reason=\"broker_lost\"} 0",
                "tracehop_received_bytes_total{route=\"main\",peer=\"client\"} 5",
                "tracehop_received_bytes_total{route=\"main\",peer=\"broker\"} 7",
            ],
        );
    }

    #[test]
    fn numbers_that_others_keep_are_read_when_asked_for() {
        let metrics = Metrics::default();
        assert_tells(&metrics, &["tracehop_held_bytes 0"]);
        metrics.watch_held(|| 42);
        let version = env!("CARGO_PKG_VERSION");
        assert_tells(
            &metrics,
            &[
                "tracehop_held_bytes 42",
                &format!("tracehop_build_info{{version=\"{version}\"}} 1"),
                "tracehop_spans_dropped_total{reason=\"queue_full\"} 0",
                "# EOF",
            ],
        );
    }

    #[test]
    fn every_metric_is_documented() {
        let metrics = Metrics::default();
        metrics.route("main").opened();
        metrics.ended(&hop("celery", Answer::Confirmed));
        for sighting in [
            Sighting::Redelivered {
                connection: connection(),
                destination: "celery".into(),
            },
            Sighting::LeftAlone {
                connection: connection(),
                why: "too_large",
            },
            Sighting::LostSight {
                connection: connection(),
                why: "panic",
            },
        ] {
            metrics.saw(&sighting);
        }
        let documentation = include_str!("../../deploy/README.md");
        let text = metrics.encode();
        let mut families = 0;
        for family in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = family.split_once(' ').unwrap();
            let name = match kind {
                "counter" => format!("`{name}_total`"),
                "info" => format!("`{name}_info`"),
                _ => format!("`{name}`"),
            };
            assert!(documentation.contains(&name), "{name}");
            families += 1;
        }
        assert_eq!(families, 20);
        for reason in FAILURES {
            assert!(documentation.contains(&format!("`{reason}`")), "{reason}");
        }
    }

    #[test]
    fn spans_are_queued_until_they_are_exported_or_dropped() {
        let spans = Metrics::default().spans;
        (0..10).for_each(|_| spans.queued());
        spans.exported(5);
        spans.dropped(3, DropReason::Failed);
        assert_eq!(spans.abandon(), 2);
        assert_eq!(spans.abandon(), 0);
    }
}
