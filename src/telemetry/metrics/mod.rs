//! The counters of this process, as Prometheus reads them.

mod classic;
mod contexts;
mod deliveries;
mod exemplar;
mod few;
mod publications;
mod routes;
mod spans;

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use prometheus_client::registry::Unit;

pub(super) use contexts::FoundCounters;
pub(super) use deliveries::TakenCounters;
pub(super) use publications::SentCounters;
pub use routes::RouteCounts;
pub use routes::RouteMetrics;
pub(super) use spans::DropReason;
pub use spans::SpanCounts;
pub(super) use spans::SpanMetrics;

use crate::hop::Answer;
use crate::hop::Delivery;
use crate::hop::Publication;
use crate::hop::Sent;
use crate::hop::Sighting;
use crate::hop::Taken;
use crate::telemetry::clocks::ClockSkew;
use crate::telemetry::clocks::Clocks;
use crate::telemetry::finding::Finding;
use crate::telemetry::labels::Labels;
use crate::telemetry::labels::Standing;
use crate::telemetry::metrics::classic::classic;
use crate::telemetry::metrics::contexts::ContextMetrics;
use crate::telemetry::metrics::deliveries::DeliveryMetrics;
use crate::telemetry::metrics::publications::PublicationMetrics;
use crate::telemetry::metrics::routes::RouteFamilies;
use crate::telemetry::pipeline::now;
use crate::telemetry::process::ProcessMetrics;

/// The counters of this process.
///
/// Labels whose values come from peers, `destination`, `task` and `producer`, take a bounded
/// number of values; the rest is counted as `other`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    labels: Mutex<Labels>,
    process: ProcessMetrics,
    /// Whose clocks are ahead.
    pub(super) clocks: Clocks,
    clock_skew: Family<HostLabels, Gauge<f64, AtomicU64>>,
    held: Watched,
    buffered: Watched,
    routes: RouteFamilies,
    publications: PublicationMetrics,
    deliveries: DeliveryMetrics,
    contexts: ContextMetrics,
    expired: Family<LegLabels, Counter>,
    reloads: Family<ResultLabels, Counter>,
    redeliveries: Family<RedeliveryLabels, Counter>,
    left_alone: Family<ReasonLabels, Counter>,
    redirects: Family<RouteReasonLabels, Counter>,
    blind_sessions: Family<RouteReasonLabels, Counter>,
    open_hops: Gauge,
    open_deliveries: Gauge,
    limits: Family<LimitLabels, Gauge>,
    sightings_queued: Gauge,
    pub(super) sightings_dropped: Counter,
    pub(super) spans: SpanMetrics,
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
        let publications = PublicationMetrics::register(ours);
        let deliveries = DeliveryMetrics::register(ours);
        let contexts = ContextMetrics::register(ours);
        let clock_skew = Family::default();
        ours.register_with_unit(
            "clock_skew",
            "How far the clock of a host that sends is ahead of this proxy's, at least",
            Unit::Seconds,
            clock_skew.clone(),
        );
        let expired = Family::default();
        ours.register(
            "hops_expired",
            "Hops whose end was not seen: open for too long, or too many were, by leg",
            expired.clone(),
        );
        for leg in [SEND, RECEIVE] {
            drop(expired.get_or_create(&leg));
        }
        let reloads = Family::default();
        ours.register(
            "config_reloads",
            "Reloads of the configuration, or of certificates whose files changed, by result",
            reloads.clone(),
        );
        for result in [SUCCESS, FAILURE] {
            drop(reloads.get_or_create(&result));
        }
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
        let redirects = Family::default();
        ours.register(
            "redirects",
            "Answers by which a broker told a client where else to connect, by reason",
            redirects.clone(),
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
        let open_deliveries = Gauge::default();
        ours.register(
            "open_deliveries",
            "Deliveries that wait for their end",
            open_deliveries.clone(),
        );
        let limits = Family::default();
        ours.register(
            "limit",
            "How much there may be, by the key of the configuration that says so",
            limits.clone(),
        );
        let sightings_queued = Gauge::default();
        ours.register(
            "sightings_queued",
            "Sightings that wait to be counted and made into spans",
            sightings_queued.clone(),
        );
        let sightings_dropped = Counter::default();
        ours.register(
            "sightings_dropped",
            "Sightings that found their queue full; what they would have told is not counted",
            sightings_dropped.clone(),
        );
        let held = Watched::default();
        ours.register_with_unit(
            "held",
            "Parts of messages that all sessions hold until the rest has come",
            Unit::Bytes,
            held.gauge.clone(),
        );
        let buffered = Watched::default();
        ours.register_with_unit(
            "buffered",
            "What waits to be written to apps and brokers",
            Unit::Bytes,
            buffered.gauge.clone(),
        );
        Self {
            registry,
            labels: Mutex::new(Labels::new(label_values_max)),
            process,
            clocks: Clocks::default(),
            clock_skew,
            held,
            buffered,
            routes,
            publications,
            deliveries,
            contexts,
            expired,
            reloads,
            redeliveries,
            left_alone,
            redirects,
            blind_sessions,
            open_hops,
            open_deliveries,
            limits,
            sightings_queued,
            sightings_dropped,
            spans,
        }
    }

    /// The counters of the route called `route`; to be asked for once, not at every use.
    #[must_use]
    pub fn route(&self, route: &str) -> RouteMetrics {
        // A counter that appears with its first count hides that count from `rate()`.
        drop(self.blind_sessions.get_or_create(&RouteReasonLabels {
            route: route.into(),
            reason: PANIC,
        }));
        self.routes.route(route)
    }

    /// Tells of a limit, so that an alert needs not know the configuration.
    pub(super) fn limit(&self, key: &'static str, limit: usize) {
        let labels = LimitLabels { key };
        self.limits.get_or_create(&labels).set(signed(limit as u64));
    }

    #[must_use]
    pub fn spans(&self) -> SpanCounts {
        self.spans.counts()
    }

    /// Hosts whose clock is ahead of this one's, the farthest first.
    #[must_use]
    pub fn clock_skews(&self) -> Vec<ClockSkew> {
        self.clocks.skews(now())
    }

    /// Sightings that found their queue full.
    #[must_use]
    pub fn sightings_dropped(&self) -> u64 {
        self.sightings_dropped.get()
    }

    /// Sightings that wait to be booked.
    #[must_use]
    pub fn sightings_queued(&self) -> u64 {
        u64::try_from(self.sightings_queued.get()).unwrap_or(0)
    }

    /// So many sightings wait to be booked.
    pub(super) fn queued(&self, sightings: usize) {
        self.sightings_queued.set(signed(sightings as u64));
    }

    /// So many publications wait for their answer, and deliveries for their end.
    pub(super) fn opened(&self, sent: usize, taken: usize) {
        self.open_hops.set(signed(sent as u64));
        self.open_deliveries.set(signed(taken as u64));
    }

    /// Publications that wait for their answer, and deliveries that wait for their end.
    #[must_use]
    pub fn open(&self) -> (u64, u64) {
        let read = |gauge: &Gauge| u64::try_from(gauge.get()).unwrap_or(0);
        (read(&self.open_hops), read(&self.open_deliveries))
    }

    /// Tells where to read the number of bytes that sessions hold. The first one counts.
    pub fn watch_held(&self, held: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.held.source.set(Source(Box::new(held)));
    }

    /// The same for the bytes that wait to be written.
    pub fn watch_buffered(&self, buffered: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.buffered.source.set(Source(Box::new(buffered)));
    }

    /// Counts a reload of the configuration, or of certificates whose files changed.
    pub fn reloaded(&self, is_good: bool) {
        let result = if is_good { SUCCESS } else { FAILURE };
        self.reloads.get_or_create(&result).inc();
    }

    /// Everything, in the text format of OpenMetrics 1.0.
    #[must_use]
    pub fn encode(&self) -> String {
        self.process.read();
        self.clock_skew.clear();
        for skew in self.clock_skews() {
            let labels = HostLabels {
                host: skew.host.into(),
            };
            let ahead = skew.ahead_ms.0.as_secs_f64();
            self.clock_skew.get_or_create(&labels).set(ahead);
        }
        self.held.read();
        self.buffered.read();
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String cannot fail");
        text
    }

    /// The same in Prometheus' own text format, version 0.0.4.
    #[must_use]
    pub fn encode_classic(&self) -> String {
        classic(&self.encode())
    }

    /// Counts what was seen.
    pub(super) fn saw(&self, sighting: &Sighting) {
        match sighting {
            // Counted by their names, or when the leg ends.
            Sighting::Published(_)
            | Sighting::Delivered(_)
            | Sighting::Answered { .. }
            | Sighting::Settled { .. }
            | Sighting::Announced { .. }
            | Sighting::AnnouncementDue { .. }
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
            Sighting::Redirected { connection, why } => {
                let labels = RouteReasonLabels {
                    route: Arc::clone(&connection.route),
                    reason: why,
                };
                self.redirects.get_or_create(&labels).inc();
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

    /// The counters of the publications that bear the same names as this one.
    pub(super) fn sent_by(&self, publication: &Publication, standing: Standing) -> SentCounters {
        self.publications
            .named(publication, standing, &mut self.labels())
    }

    /// Counts a publication that has come to its end.
    pub(super) fn sent(&self, sent: &Sent, counters: &mut SentCounters) {
        self.publications.ended(sent, counters);
        if sent.answer == Answer::Expired {
            self.expired.get_or_create(&SEND).inc();
        }
    }

    /// The counters of the deliveries that bear the same names as this one.
    pub(super) fn taken_as(&self, delivery: &Delivery) -> TakenCounters {
        self.deliveries.named(delivery, &mut self.labels())
    }

    /// Counts a delivery.
    pub(super) fn delivered(&self, delivery: &Delivery, counters: &mut TakenCounters) {
        self.deliveries.delivered(delivery, counters);
    }

    /// Counts a delivery that has come to its end.
    pub(super) fn taken(&self, taken: &Taken, counters: &mut TakenCounters) {
        self.deliveries.ended(taken, counters);
        if taken.is_expired {
            self.expired.get_or_create(&RECEIVE).inc();
        }
    }

    /// The counters of what is found with the same names.
    pub(super) fn found_with(&self, finding: &Finding<'_>) -> FoundCounters {
        self.contexts.named(finding, &mut self.labels())
    }

    /// Counts what was found of the context of a message.
    pub(super) fn found(&self, finding: &Finding<'_>, counters: &mut FoundCounters) {
        self.contexts.found(finding, counters);
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

/// A number that others keep, read when it is asked for.
#[derive(Debug, Default)]
struct Watched {
    gauge: Gauge,
    source: OnceLock<Source>,
}

impl Watched {
    fn read(&self) {
        if let Some(source) = self.source.get() {
            self.gauge.set(signed((source.0)()));
        }
    }
}

/// Reads a number that somebody else keeps.
struct Source(Box<dyn Fn() -> u64 + Send + Sync>);

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteReasonLabels {
    route: Arc<str>,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HostLabels {
    host: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    key: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LegLabels {
    leg: &'static str,
}

/// The legs are called after their spans.
const SEND: LegLabels = LegLabels { leg: "send" };
const RECEIVE: LegLabels = LegLabels { leg: "receive" };

/// The reason of a session that panicked.
pub(super) const PANIC: &str = "panic";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

const SUCCESS: ResultLabels = ResultLabels { result: "success" };
const FAILURE: ResultLabels = ResultLabels { result: "failure" };

/// Prometheus' gauges are signed; what is beyond them is as good as the largest.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::Connection;
    use crate::hop::Leg;
    use crate::hop::fixture;
    use crate::telemetry::metrics::routes::FAILURES;
    use crate::trace::Timestamp;
    use crate::trace::TraceFlags;

    /// Counts with counters that are looked up each time.
    impl Metrics {
        pub(super) fn ended(&self, leg: &Leg) {
            match leg {
                Leg::Sent(sent) => {
                    let standing = Standing::of(&sent.answer);
                    self.sent(sent, &mut self.sent_by(&sent.publication, standing));
                }
                Leg::Taken(taken) => self.taken(taken, &mut self.taken_as(&taken.delivery)),
            }
        }

        pub(super) fn deliver(&self, delivery: &Delivery) {
            self.delivered(delivery, &mut self.taken_as(delivery));
        }

        pub(super) fn find(&self, finding: &Finding<'_>) {
            self.found(finding, &mut self.found_with(finding));
        }
    }

    fn connection() -> Arc<Connection> {
        fixture::publication(1, 1_000_000).connection
    }

    fn publication(destination: &str, task: &'static str) -> Box<Publication> {
        let mut publication = fixture::publication(1, 1_000_000);
        publication.destination = destination.into();
        publication.task.edit(|it| it.name = task.into());
        publication
    }

    fn hop(destination: &str, answer: Answer) -> Leg {
        Leg::Sent(Sent {
            publication: publication(destination, "app.add").into(),
            answer,
            ended: Timestamp::from_nanos(1_300_000),
        })
    }

    /// Exemplars aside.
    #[track_caller]
    pub(super) fn assert_tells(metrics: &Metrics, lines: &[&str]) {
        let text = metrics.encode();
        let told = |line: &str| line.split(" # {").next().map(str::to_owned);
        let told: Vec<String> = text.lines().filter_map(told).collect();
        for line in lines {
            assert!(told.iter().any(|told| told == line), "{line}\n\n{text}");
        }
    }

    #[track_caller]
    pub(super) fn refute_tells(metrics: &Metrics, name: &str) {
        let text = metrics.encode();
        let told = text.lines().find(|line| line.starts_with(name));
        assert_eq!(told, None);
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
    fn a_bucket_names_a_trace_that_was_recorded() {
        let metrics = Metrics::default();
        let recorded = |flags| {
            let mut publication = publication("celery", "app.add");
            publication.judgement.context.flags = flags;
            let trace = publication.judgement.context.trace_id;
            metrics.ended(&Leg::Sent(Sent {
                publication: publication.into(),
                answer: Answer::Confirmed,
                ended: Timestamp::from_nanos(1_500_000),
            }));
            (trace, metrics.encode())
        };
        let (_, text) = recorded(TraceFlags::default());
        assert!(!text.contains("trace_id"), "{text}");
        let (trace, text) = recorded(TraceFlags::SAMPLED);
        let exemplar = format!("}} 2 # {{trace_id=\"{trace}\"}} 0.0005\n");
        assert!(text.contains(&exemplar), "{text}");
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
        metrics.saw(&Sighting::Redirected {
            connection: Arc::clone(&connection),
            why: "moved",
        });
        metrics.saw(&Sighting::Redelivered {
            connection,
            destination: "a\"b\\c?d".into(),
        });
        assert_tells(
            &metrics,
            &[
                "tracehop_left_alone_total{reason=\"too_large\"} 1",
                "tracehop_redirects_total{route=\"main\",reason=\"moved\"} 1",
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
    fn numbers_that_others_keep_are_read_when_asked_for() {
        let metrics = Metrics::default();
        assert_tells(
            &metrics,
            &["tracehop_held_bytes 0", "tracehop_buffered_bytes 0"],
        );
        metrics.watch_held(|| 42);
        metrics.watch_buffered(|| 43);
        let version = env!("CARGO_PKG_VERSION");
        assert_tells(
            &metrics,
            &[
                "tracehop_held_bytes 42",
                "tracehop_buffered_bytes 43",
                &format!("tracehop_build_info{{version=\"{version}\"}} 1"),
                "tracehop_spans_dropped_total{reason=\"queue_full\"} 0",
                "# EOF",
            ],
        );
    }

    /// The names of all metrics, each of which something was counted with.
    fn names() -> Vec<String> {
        let metrics = Metrics::default();
        metrics.route("main").opened();
        metrics.limit("limits.connections_max", 1);
        metrics.route("main").certificate_expires("client", Some(1));
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
            Sighting::Redirected {
                connection: connection(),
                why: "moved",
            },
            Sighting::LostSight {
                connection: connection(),
                why: "panic",
            },
        ] {
            metrics.saw(&sighting);
        }
        let delivery = fixture::delivery("1", None, 5);
        metrics.find(&Finding::of_delivery(&delivery).unwrap());
        metrics.deliver(&delivery);
        let mut delivery = fixture::delivery("1", None, 5);
        delivery.sent = Some(Timestamp::default());
        metrics.deliver(&delivery);
        metrics.ended(&Leg::Taken(fixture::taken(
            delivery,
            Some(6),
            Some(7),
            Some(8),
        )));
        let text = metrics.encode_classic();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let names: Vec<String> = types
            .filter_map(|family| Some(family.split_once(' ')?.0.to_owned()))
            .collect();
        assert_eq!(names.len(), 38);
        names
    }

    #[test]
    fn every_metric_is_documented() {
        let documentation = include_str!("../../../deploy/README.md");
        for name in names() {
            assert!(documentation.contains(&format!("`{name}`")), "{name}");
        }
        for reason in FAILURES {
            assert!(documentation.contains(&format!("`{reason}`")), "{reason}");
        }
    }

    #[test]
    fn dashboard_and_alerts_ask_for_metrics_that_there_are() {
        let names = names();
        for text in [
            include_str!("../../../deploy/grafana/dashboard.json"),
            include_str!("../../../deploy/prometheus/alerts.yaml"),
        ] {
            let ends_a_word = |c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':';
            let asked: Vec<&str> = text
                .split(ends_a_word)
                .filter(|word| word.starts_with("tracehop_") || word.starts_with("process_"))
                .collect();
            assert!(asked.len() > 15, "{asked:?}");
            for word in asked {
                let name = word.strip_suffix("_bucket").unwrap_or(word);
                assert!(names.iter().any(|known| known == name), "{word}");
            }
        }
    }
}
