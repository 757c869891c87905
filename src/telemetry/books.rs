//! All that is kept of sightings, apart from their spans.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Limits;
use crate::config::Spans;
use crate::hop::Delivery;
use crate::hop::Ledger;
use crate::hop::Leg;
use crate::hop::Sent;
use crate::hop::Sighting;
use crate::hop::Taken;
use crate::telemetry::finding::Finding;
use crate::telemetry::finding::Producer;
use crate::telemetry::finding::without_port;
use crate::telemetry::finding::worker;
use crate::telemetry::flow::Flow;
use crate::telemetry::flow::SentWay;
use crate::telemetry::flow::TakenWay;
use crate::telemetry::health::Health;
use crate::telemetry::labels::Standing;
use crate::telemetry::log::SightingLog;
use crate::telemetry::metrics::FoundCounters;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::SentCounters;
use crate::telemetry::metrics::TakenCounters;
use crate::telemetry::names::Known;
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
    senders: Known<6, Sender>,
    takers: Known<6, Taker>,
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
            ledger: Ledger::new(limits, spans.process),
            senders: Known::default(),
            takers: Known::default(),
        }
    }

    /// Books what was `seen`, in order. The legs that end by it go to `ended`, which is empty.
    pub fn book(&mut self, seen: &mut Vec<Sighting>, ended: &mut Vec<Leg>) {
        for sighting in &mut *seen {
            if let Sighting::Delivered(delivery) = sighting {
                self.metrics.clocks.judge(delivery);
            }
        }
        let mut seen = seen.drain(..);
        while let Some(some) = seen.as_slice().chunks(AT_A_TIME).next() {
            let count = some.len();
            self.saw(some);
            for sighting in seen.by_ref().take(count) {
                self.ledger.book(sighting, ended);
            }
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

    fn saw(&mut self, seen: &[Sighting]) {
        if self.is_watched {
            self.watch.recent.saw(seen);
            self.watch.flow.saw(seen);
        }
        for sighting in seen {
            match sighting {
                Sighting::Delivered(delivery) => self.delivered(delivery),
                // Booked when the leg ends.
                Sighting::Published(_)
                | Sighting::Answered { .. }
                | Sighting::Settled { .. }
                | Sighting::Announced { .. }
                | Sighting::AnnouncementDue { .. }
                | Sighting::Told { .. } => {}
                Sighting::Redelivered { .. }
                | Sighting::LeftAlone { .. }
                | Sighting::Redirected { .. }
                | Sighting::LostSight { .. } => {
                    self.metrics.saw(sighting);
                    self.log.saw(sighting);
                    self.health.saw(sighting);
                }
            }
        }
    }

    fn ended(&mut self, ended: &[Leg]) {
        for legs in ended.chunks(AT_A_TIME) {
            for leg in legs {
                match leg {
                    Leg::Sent(sent) => self.sent(sent),
                    Leg::Taken(taken) => self.taken(taken),
                }
            }
            if self.is_watched {
                self.watch.recent.ended(legs);
                self.watch.live.ended(legs);
            }
        }
        self.metrics
            .opened(self.ledger.sent_count(), self.ledger.taken_count());
    }

    fn sent(&mut self, sent: &Sent) {
        let publication = &sent.publication;
        let finding = Finding::of_publication(sent);
        let standing = finding.standing;
        let (metrics, quality) = (&self.metrics, &self.quality);
        let flow = self.is_watched.then_some(&self.watch.flow);
        let Producer {
            host,
            client_name,
            address,
        } = finding.producer;
        let sender = [
            finding.system,
            finding.destination,
            finding.task,
            host.unwrap_or_default(),
            client_name.unwrap_or_default(),
            address.unwrap_or_default(),
        ];
        let find = || Sender {
            counters: metrics.sent_by(publication, standing),
            found: Found::new(metrics, quality, &finding),
            way: flow.map(|flow| flow.sender(publication, standing)),
        };
        // Where there is no room for a name there may be for a message of better standing.
        let is_final = |sender: &Sender| standing == Standing::Confirmed || sender.is_named();
        self.senders.with(sender, find, is_final, |sender| {
            metrics.sent(sent, &mut sender.counters);
            metrics.found(&finding, &mut sender.found.counters);
            quality.found(&finding, sender.found.entry);
            if let Some((flow, way)) = flow.zip(sender.way) {
                flow.sent(sent, way);
            }
        });
    }

    fn delivered(&mut self, delivery: &Delivery) {
        let (metrics, quality) = (&self.metrics, &self.quality);
        let flow = self.is_watched.then_some(&self.watch.flow);
        let find = || Taker::new(metrics, flow, delivery);
        self.takers.with(
            Taker::name(delivery),
            find,
            |_| true,
            |taker| {
                metrics.delivered(delivery, &mut taker.counters);
                if let Some(finding) = Finding::of_delivery(delivery) {
                    let find = || Found::new(metrics, quality, &finding);
                    let found = taker.found.get_or_insert_with(find);
                    metrics.found(&finding, &mut found.counters);
                    quality.found(&finding, found.entry);
                }
                if let Some((flow, way)) = flow.zip(taker.way) {
                    flow.delivered(delivery, way);
                }
            },
        );
    }

    fn taken(&mut self, taken: &Taken) {
        let metrics = &self.metrics;
        let flow = self.is_watched.then_some(&self.watch.flow);
        let delivery = &taken.delivery;
        let find = || Taker::new(metrics, flow, delivery);
        self.takers.with(
            Taker::name(delivery),
            find,
            |_| true,
            |taker| {
                metrics.taken(taken, &mut taker.counters);
                if let Some((flow, way)) = flow.zip(taker.way) {
                    flow.taken(taken, way);
                }
            },
        );
    }
}

/// Where the messages that a producer sends to a queue are booked.
#[derive(Debug)]
struct Sender {
    counters: SentCounters,
    found: Found,
    /// `None`: nobody can look at it.
    way: Option<SentWay>,
}

impl Sender {
    /// All of its names are their own.
    fn is_named(&self) -> bool {
        self.counters.is_named() && self.found.is_named() && self.way.is_none_or(|way| way.is_named)
    }
}

/// Where the messages that a worker takes from a queue are booked.
#[derive(Debug)]
struct Taker {
    counters: TakenCounters,
    /// `None`: all of them were seen before.
    found: Option<Found>,
    /// `None`: nobody can look at it.
    way: Option<TakenWay>,
}

impl Taker {
    fn new(metrics: &Metrics, flow: Option<&Flow>, delivery: &Delivery) -> Self {
        Self {
            counters: metrics.taken_as(delivery),
            found: None,
            way: flow.map(|flow| flow.taker(delivery)),
        }
    }

    fn name(delivery: &Delivery) -> [&str; 6] {
        [
            delivery.system,
            &delivery.destination,
            delivery.task.name(),
            delivery.task.origin().unwrap_or_default(),
            worker(delivery),
            without_port(&delivery.connection.client_address),
        ]
    }
}

/// Where is booked what was found of contexts.
#[derive(Debug)]
struct Found {
    counters: FoundCounters,
    /// In the report on their quality.
    entry: Option<usize>,
}

impl Found {
    fn new(metrics: &Metrics, quality: &QualityReport, finding: &Finding<'_>) -> Self {
        Self {
            counters: metrics.found_with(finding),
            entry: quality.number(finding),
        }
    }

    fn is_named(&self) -> bool {
        self.counters.is_named() && self.entry.is_some()
    }
}

/// So many that locking for all of them is nothing for each, and so few that whoever reads does
/// not wait for long.
const AT_A_TIME: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::Answer;
    use crate::hop::Publication;
    use crate::hop::fixture;
    use crate::telemetry::names::KNOWN_MAX;

    fn books() -> Books {
        Books::new(&Limits::default(), Spans::default(), true, Duration::ZERO)
    }

    fn send(books: &mut Books, publication: Box<Publication>, answer: Answer) {
        let answered = Sighting::Answered {
            hop: publication.hop,
            at: publication.at,
            answer,
        };
        let published = Sighting::Published(publication.into());
        books.book(&mut vec![published, answered], &mut Vec::new());
    }

    #[track_caller]
    fn assert_sent(books: &Books, destination: &str, answer: &str, count: u64) {
        let text = books.metrics.encode();
        let line = format!(
            "tracehop_sends_total{{system=\"some-broker\",destination=\"{destination}\",answer=\"{answer}\"}} {count}\n"
        );
        assert!(text.contains(&line), "{line}\n{text}");
    }

    #[test]
    fn a_name_that_there_was_no_room_for_is_known_once_it_is_confirmed() {
        let mut books = books();
        for (number, answer) in (1..).zip([Answer::Lost, Answer::Confirmed, Answer::Lost]) {
            send(&mut books, fixture::publication(number, number), answer);
        }
        assert_sent(&books, "other", "lost", 1);
        assert_sent(&books, "celery", "confirmed", 1);
        assert_sent(&books, "celery", "lost", 1);
    }

    #[test]
    fn whoever_has_more_names_than_are_remembered_is_counted_all_the_same() {
        let mut books = books();
        let count = 2 * KNOWN_MAX as u64 + 1;
        for number in 1..=count {
            let mut publication = fixture::publication(number, number);
            publication
                .task
                .edit(|it| it.origin = Some(format!("host-{number}").into()));
            send(&mut books, publication, Answer::Confirmed);
        }
        assert_sent(&books, "celery", "confirmed", count);
    }
}
