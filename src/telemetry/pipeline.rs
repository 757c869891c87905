//! From sightings to metrics, log lines and spans, away from the traffic.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::error;
use tracing::warn;

use crate::config::Spans;
use crate::hop::Connection;
use crate::hop::Ledger;
use crate::hop::Leg;
use crate::hop::Sighting;
use crate::telemetry::finding::Finding;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::PANIC;
use crate::telemetry::otlp::Exporter;
use crate::telemetry::quality::QualityReport;
use crate::telemetry::repeats::Repeats;
use crate::telemetry::sightings::Queue;
use crate::telemetry::watch::Watch;
use crate::trace::Timestamp;

/// What reads the sightings.
pub(super) struct Pipeline {
    pub(super) queue: Queue,
    pub(super) ledger: Ledger,
    /// Those that are exported.
    pub(super) spans: Spans,
    pub(super) metrics: Arc<Metrics>,
    pub(super) quality: QualityReport,
    /// `None`: nobody can look at it.
    pub(super) watch: Option<Watch>,
    pub(super) health: Health,
    pub(super) log: SightingLog,
    /// `None`: spans are not exported.
    pub(super) exporter: Option<Exporter>,
    pub(super) stop: CancellationToken,
}

impl Pipeline {
    /// Books sightings until `stop`, then what is queued, ends what is open, and waits until
    /// their spans are exported.
    pub(super) async fn run(mut self) {
        let mut seen = Vec::new();
        let mut ended = Vec::new();
        let mut expiry = interval(EXPIRY_INTERVAL);
        expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if !self.queue.is_closed() => self.queue.close(),
                _ = expiry.tick() => self.ledger.expire(now(), &mut ended),
                are_there = self.queue.take(&mut seen) => {
                    if !are_there {
                        break;
                    }
                    self.book(&mut seen, &mut ended);
                    seen.shrink_to(KEPT_SIGHTINGS_MAX);
                }
            }
            self.end(&mut ended).await;
            if !self.queue.is_closed() {
                // Nobody has to wake us while we rest: for a session, leaving a sighting
                // is then a matter of nanoseconds.
                sleep(REST).await;
            }
        }
        self.ledger.close(now(), &mut ended);
        self.end(&mut ended).await;
        if let Some(exporter) = self.exporter {
            exporter.finish().await;
        }
    }

    fn book(&mut self, seen: &mut Vec<Sighting>, ended: &mut Vec<Leg>) {
        for sighting in seen.drain(..) {
            self.metrics.saw(&sighting);
            self.log.saw(&sighting);
            self.health.saw(&sighting);
            if let Some(watch) = &self.watch {
                watch.saw(&sighting);
            }
            if let Sighting::Delivered(delivery) = &sighting {
                self.found(Finding::of_delivery(delivery));
            }
            self.ledger.book(sighting, ended);
        }
    }

    async fn end(&mut self, ended: &mut Vec<Leg>) {
        for leg in ended.drain(..) {
            self.metrics.ended(&leg);
            if let Some(watch) = &self.watch {
                watch.ended(&leg);
            }
            if let Leg::Sent(sent) = &leg {
                self.found(Some(Finding::of_publication(sent)));
            }
            let Some(exporter) = &self.exporter else {
                continue;
            };
            for span in leg.spans(self.spans) {
                if self.queue.is_closed() {
                    exporter.send(span).await;
                } else {
                    exporter.offer(span);
                }
            }
        }
        let gauges = [
            (&self.metrics.sightings_queued, self.queue.len()),
            (&self.metrics.open_hops, self.ledger.sent_count()),
            (&self.metrics.open_deliveries, self.ledger.taken_count()),
        ];
        for (gauge, open) in gauges {
            gauge.set(open.cast_signed() as i64);
        }
    }

    fn found(&self, finding: Option<Finding<'_>>) {
        if let Some(finding) = finding {
            self.metrics.found(&finding);
            self.quality.found(&finding);
        }
    }
}

/// Tells the log what could not be read: once per route, reason and interval.
pub(super) struct SightingLog {
    repeats: Repeats<(Arc<str>, &'static str)>,
}

impl SightingLog {
    pub(super) fn new(repeat_interval: Duration) -> Self {
        Self {
            repeats: Repeats::new(repeat_interval),
        }
    }

    fn saw(&mut self, sighting: &Sighting) {
        match sighting {
            Sighting::LostSight { connection, why } => {
                let Some(suppressed) = self.admit(connection, why) else {
                    return;
                };
                let Connection {
                    session,
                    route,
                    client_address,
                    ..
                } = &**connection;
                // A panic is a bug of ours; everything else is what a peer has sent.
                if *why == PANIC {
                    error!(
                        %route, session, %client_address, reason = why, suppressed,
                        "a session panicked and is no longer read; its bytes flow on"
                    );
                } else {
                    warn!(
                        %route, session, %client_address, reason = why, suppressed,
                        "a session is no longer read; its bytes flow on"
                    );
                }
            }
            Sighting::LeftAlone { connection, why } => {
                let Some(suppressed) = self.admit(connection, why) else {
                    return;
                };
                let route = &connection.route;
                warn!(%route, reason = why, suppressed, "a message was passed unedited");
            }
            Sighting::Published(_)
            | Sighting::Answered { .. }
            | Sighting::Delivered(_)
            | Sighting::Settled { .. }
            | Sighting::Told { .. }
            | Sighting::Redelivered { .. } => {}
        }
    }

    fn admit(&mut self, connection: &Connection, why: &'static str) -> Option<u64> {
        let kind = (Arc::clone(&connection.route), why);
        self.repeats.admit(kind, Instant::now())
    }
}

/// The time by which sightings are told: that of the system's clock.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos());
    Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_millis(5);
/// The room that is kept for the next round.
const KEPT_SIGHTINGS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::*;
    use crate::telemetry::captured::Captured;

    #[test]
    fn what_is_not_read_is_told_once_per_route_and_reason() {
        let connection = |route: &str| {
            Arc::new(Connection {
                session: 7,
                route: route.into(),
                server_address: "broker".into(),
                server_port: 6379,
                client_address: "127.0.0.1:5".into(),
            })
        };
        let lost = |route, why| Sighting::LostSight {
            connection: connection(route),
            why,
        };
        let log = Captured::during(LevelFilter::INFO, || {
            let mut log = SightingLog::new(Duration::from_secs(60));
            for _ in 0..3 {
                log.saw(&lost("a", "monitor"));
                log.saw(&lost("b", "monitor"));
                log.saw(&lost("a", "panic"));
                log.saw(&Sighting::LeftAlone {
                    connection: connection("a"),
                    why: "too_large",
                });
            }
        });
        let monitor = log.lines_with("reason=\"monitor\"");
        assert_eq!(monitor.len(), 2);
        assert!(monitor[0].contains("WARN"), "{}", monitor[0]);
        assert!(
            monitor[0].contains("route=a session=7 client_address=127.0.0.1:5"),
            "{}",
            monitor[0]
        );
        let panic = log.lines_with("panic");
        assert_eq!(panic.len(), 1);
        assert!(panic[0].contains("ERROR"), "{}", panic[0]);
        assert_eq!(log.lines_with("too_large").len(), 1);
    }
}
