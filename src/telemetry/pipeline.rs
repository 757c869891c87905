//! From sightings to what is kept of them and to spans, away from the traffic.

use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::Spans;
use crate::hop::Leg;
use crate::telemetry::books::Books;
use crate::telemetry::otlp::Exporter;
use crate::telemetry::sightings::Queue;
use crate::trace::Timestamp;

/// What reads the sightings.
pub(super) struct Pipeline {
    pub(super) queue: Queue,
    pub(super) books: Books,
    /// Those that are exported.
    pub(super) spans: Spans,
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
        let mut rest = QUIET_REST;
        let mut expiry = interval(EXPIRY_INTERVAL);
        expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if !self.queue.is_closed() => self.queue.close(),
                _ = expiry.tick() => self.books.expire(now(), &mut ended),
                are_there = self.queue.take(&mut seen) => {
                    if !are_there {
                        break;
                    }
                    rest = if seen.len() < FEW { QUIET_REST } else { REST };
                    self.books.book(&mut seen, &mut ended);
                    seen.shrink_to(KEPT_SIGHTINGS_MAX);
                }
            }
            self.export(&mut ended).await;
            self.books.metrics.queued(self.queue.len());
            if !self.queue.is_closed() {
                // Nobody has to wake us while we rest: for a session, leaving a sighting
                // is then a matter of nanoseconds. And the sessions need the cores.
                sleep(rest).await;
            }
        }
        self.books.close(now(), &mut ended);
        self.export(&mut ended).await;
        if let Some(exporter) = self.exporter {
            exporter.finish().await;
        }
    }

    async fn export(&mut self, ended: &mut Vec<Leg>) {
        for leg in ended.drain(..) {
            let Some(exporter) = &mut self.exporter else {
                continue;
            };
            for operation in leg.operations(self.spans) {
                if self.queue.is_closed() {
                    exporter.send(operation).await;
                } else {
                    exporter.offer(operation);
                }
            }
        }
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
/// Where little passes: nothing piles up, and whoever looks does not see the difference.
const QUIET_REST: Duration = Duration::from_millis(20);
/// Less than this is little.
const FEW: usize = 64;
/// The room that is kept for the next round.
const KEPT_SIGHTINGS_MAX: usize = 4096;
