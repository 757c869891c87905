//! Who sends how much to which queue, and who takes it from there.

mod names;
#[cfg(test)]
mod tests;
mod view;
mod waiting;
mod window;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

pub use view::View;

use crate::config::Limits;
use crate::hop::Answer;
use crate::hop::Delivery;
use crate::hop::Publication;
use crate::hop::Quality;
use crate::hop::Sent;
use crate::hop::Sighting;
use crate::hop::Taken;
use crate::hop::TaskState;
use crate::telemetry::finding::Producer;
use crate::telemetry::finding::without_port;
use crate::telemetry::finding::worker;
use crate::telemetry::flow::names::Name;
use crate::telemetry::flow::names::Names;
use crate::telemetry::flow::names::OTHER;
use crate::telemetry::flow::names::Ways;
use crate::telemetry::flow::waiting::Waiting;
use crate::telemetry::flow::window::Lengths;
use crate::telemetry::flow::window::Rate;
use crate::telemetry::flow::window::Window;
use crate::telemetry::labels::Standing;
use crate::trace::Timestamp;

/// The flow of messages since the start. Cheap to clone: all of them are one.
#[derive(Clone, Debug)]
pub struct Flow(Arc<Mutex<Book>>);

impl Flow {
    /// Counting begins at `since`.
    pub(super) fn new(limits: &Limits, since: Timestamp) -> Self {
        let names_max = limits.label_values_max;
        let ways_max = names_max.saturating_mul(WAYS_PER_NAME);
        Self(Arc::new(Mutex::new(Book {
            since,
            producers: Names::new(names_max),
            queues: Names::new(names_max),
            workers: Names::new(names_max),
            sends: Ways::new(ways_max),
            receives: Ways::new(ways_max),
            dwells: Vec::new(),
            waiting: Waiting::new(limits.memory_max),
        })))
    }

    /// Takes up which messages wait.
    pub(super) fn saw(&self, sightings: &[Sighting]) {
        let mut book = self.book();
        for sighting in sightings {
            match sighting {
                Sighting::Published(publication) if !publication.task.id().is_empty() => {
                    book.waiting.sent(publication.task.key, publication.at);
                }
                Sighting::Delivered(delivery) => book.waiting.gone(delivery.task.key),
                _ => {}
            }
        }
    }

    /// Where the messages of the same sender are counted.
    pub(super) fn sender(&self, publication: &Publication, standing: Standing) -> SentWay {
        self.book().sender(publication, standing)
    }

    /// Takes up how a message came to the broker.
    pub(super) fn sent(&self, sent: &Sent, way: SentWay) {
        self.book().sent(sent, way);
    }

    /// Where what the same worker takes from the same queue is counted.
    pub(super) fn taker(&self, delivery: &Delivery) -> TakenWay {
        self.book().taker(delivery)
    }

    /// Counts a delivery.
    pub(super) fn delivered(&self, delivery: &Delivery, way: TakenWay) {
        self.book().delivered(delivery, way);
    }

    /// Takes up what became of a delivery.
    pub(super) fn taken(&self, taken: &Taken, way: TakenWay) {
        self.book().taken(taken, way);
    }

    /// The flow as it stands at `now`.
    #[must_use]
    pub fn read(&self, now: Timestamp) -> View {
        View::of(&self.book(), now)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where what a producer sends to a queue is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct SentWay {
    queue: usize,
    place: usize,
    /// Both have names of their own.
    pub(super) is_named: bool,
}

/// Where what a worker takes from a queue is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakenWay {
    queue: usize,
    place: usize,
}

#[derive(Debug)]
struct Book {
    since: Timestamp,
    producers: Names,
    queues: Names,
    workers: Names,
    /// From producers to queues.
    sends: Ways<Sends>,
    /// From queues to workers.
    receives: Ways<Receives>,
    /// How long messages wait, by the number of their queue.
    dwells: Vec<Window<Lengths>>,
    waiting: Waiting,
}

/// What a producer sends to a queue.
#[derive(Debug, Default)]
struct Sends {
    rate: Rate,
    total: u64,
    errors: u64,
    /// By [`QUALITIES`].
    qualities: [u64; QUALITIES.len()],
}

/// What a worker takes from a queue.
#[derive(Debug, Default)]
struct Receives {
    rate: Rate,
    total: u64,
    redelivered: u64,
    failed: u64,
    runs: Window<Lengths>,
}

impl Book {
    fn sender(&mut self, publication: &Publication, standing: Standing) -> SentWay {
        let producer = producer_name(publication);
        let producer = self.producers.number(producer, standing);
        let queue = queue_name(publication.system, &publication.destination);
        let queue = self.queues.number(queue, standing);
        SentWay {
            is_named: producer != OTHER && queue != OTHER,
            place: self.sends.place((producer, queue), (OTHER, queue)),
            queue,
        }
    }

    fn sent(&mut self, sent: &Sent, SentWay { queue, place, .. }: SentWay) {
        let publication = &sent.publication;
        let sends = self.sends.at(place);
        sends.rate.count(sent.ended);
        sends.total += 1;
        let quality = publication.judgement.quality;
        if let Some(place) = QUALITIES.iter().position(|known| *known == quality) {
            sends.qualities[place] += 1;
        }
        let key = publication.task.key;
        match sent.answer {
            Answer::Confirmed | Answer::Unanswered | Answer::Unread | Answer::Expired => {
                self.waiting.queued(key, queue);
            }
            Answer::Refused(_) | Answer::Discarded | Answer::Lost => {
                sends.errors += 1;
                self.waiting.gone(key);
            }
        }
    }

    fn delivered(&mut self, delivery: &Delivery, TakenWay { queue, place }: TakenWay) {
        let (at, passage) = (delivery.at, &delivery.passage);
        let receives = self.receives.at(place);
        receives.rate.count(at);
        receives.total += 1;
        receives.redelivered += u64::from(passage.redelivered);
        // What another worker had before, or another queue, has not waited here alone.
        let is_first = !passage.redelivered && passage.dead_letter.is_none();
        if let Some(dwell) = delivery.dwell().filter(|_| is_first) {
            if self.dwells.len() <= queue {
                self.dwells.resize_with(queue + 1, Window::default);
            }
            self.dwells[queue].add(at, dwell);
        }
    }

    fn taken(&mut self, taken: &Taken, way: TakenWay) {
        let Some(finish) = taken.finished.filter(|_| taken.ended.process) else {
            return;
        };
        let receives = self.receives.at(way.place);
        let is_failure = matches!(finish.state, Some(TaskState::Failed | TaskState::Rejected));
        receives.failed += u64::from(is_failure);
        if let Some(ran) = taken.ran() {
            receives.runs.add(finish.at, ran);
        }
    }

    fn taker(&mut self, delivery: &Delivery) -> TakenWay {
        let queue = queue_name(delivery.system, &delivery.destination);
        let queue = self.queues.number(queue, Standing::Confirmed);
        let address = without_port(&delivery.connection.client_address);
        let worker = Name::of([Some(worker(delivery)), Some(address), None]);
        let worker = self.workers.number(worker, Standing::Confirmed);
        TakenWay {
            place: self.receives.place((queue, worker), (queue, OTHER)),
            queue,
        }
    }
}

fn producer_name(publication: &Publication) -> Name<'_> {
    let Producer {
        host,
        client_name,
        address,
    } = Producer::of_publication(publication);
    Name::of([host, client_name, address])
}

fn queue_name<'a>(system: &'a str, queue: &'a str) -> Name<'a> {
    Name::of([Some(queue), Some(system), None])
}

const QUALITIES: [Quality; 6] = [
    Quality::Valid,
    Quality::Missing,
    Quality::Invalid,
    Quality::Stale,
    Quality::Foreign,
    Quality::Mixed,
];

/// How many ways there may be, for each name that there may be.
const WAYS_PER_NAME: usize = 5;
