//! The flow as it is shown.

use serde::Serialize;
use serde::Serializer;

use crate::telemetry::flow::Book;
use crate::telemetry::flow::QUALITIES;
use crate::telemetry::flow::Receives;
use crate::telemetry::flow::Sends;
use crate::telemetry::flow::names::Name;
use crate::telemetry::flow::names::OTHER;
use crate::telemetry::flow::window::WINDOW;
use crate::telemetry::millis::Millis;
use crate::telemetry::names;
use crate::trace::Timestamp;

/// Producers, queues and workers, and what goes from one to the other.
#[derive(Debug, Serialize)]
pub struct View {
    now: Timestamp,
    window_s: u64,
    producers: Vec<ProducerView>,
    queues: Vec<QueueView>,
    workers: Vec<WorkerView>,
    sends: Vec<SendsView>,
    receives: Vec<ReceivesView>,
    /// Some stand for all others, or messages that wait were forgotten.
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct ProducerView {
    id: String,
    name: String,
    host: Option<String>,
    client_name: Option<String>,
    address: Option<String>,
}

#[derive(Debug, Serialize)]
struct QueueView {
    id: String,
    name: String,
    system: Option<String>,
    sent_rate: f64,
    sent_total: u64,
    delivered_rate: f64,
    delivered_total: u64,
    backlog: Option<u64>,
    oldest_waiting_ms: Option<Millis>,
    dwell_p50_ms: Option<Millis>,
    dwell_p95_ms: Option<Millis>,
    errors_total: u64,
    redelivered_total: u64,
}

#[derive(Debug, Serialize)]
struct WorkerView {
    id: String,
    name: String,
    address: Option<String>,
}

#[derive(Debug, Serialize)]
struct SendsView {
    producer: String,
    queue: String,
    rate: f64,
    total: u64,
    errors_total: u64,
    #[serde(serialize_with = "by_quality")]
    quality: [u64; QUALITIES.len()],
}

#[derive(Debug, Serialize)]
struct ReceivesView {
    queue: String,
    worker: String,
    rate: f64,
    total: u64,
    redelivered_total: u64,
    failed_total: u64,
    run_p50_ms: Option<Millis>,
    run_p95_ms: Option<Millis>,
}

impl View {
    pub(super) fn of(book: &Book, now: Timestamp) -> Self {
        let sends = book.sends.sorted();
        let receives = book.receives.sorted();
        let other_producer = sends.iter().any(|((producer, _), _)| *producer == OTHER);
        let other_worker = receives.iter().any(|((_, worker), _)| *worker == OTHER);
        let sent_to = sends.iter().map(|((_, queue), _)| *queue);
        let mut queues_used = sent_to.chain(receives.iter().map(|((queue, _), _)| *queue));
        let other_queue = queues_used.any(|queue| queue == OTHER);
        let all_but = |is_used: bool| usize::from(!is_used);
        let producers = book.producers.iter().skip(all_but(other_producer));
        let workers = book.workers.iter().skip(all_but(other_worker));
        let mut queues = queues(book, &sends, &receives, now);
        queues.drain(..all_but(other_queue));
        Self {
            now,
            window_s: WINDOW.as_secs(),
            producers: producers.map(producer_view).collect(),
            queues,
            workers: workers.map(worker_view).collect(),
            sends: sends
                .iter()
                .map(|((producer, queue), sends)| SendsView {
                    producer: producer_id(*producer),
                    queue: queue_id(*queue),
                    rate: sends.rate.per_second(book.since, now),
                    total: sends.total,
                    errors_total: sends.errors,
                    quality: sends.qualities,
                })
                .collect(),
            receives: receives
                .iter()
                .map(|((queue, worker), receives)| {
                    let [run_p50_ms, run_p95_ms] = receives.runs.quantiles([0.5, 0.95], now);
                    ReceivesView {
                        queue: queue_id(*queue),
                        worker: worker_id(*worker),
                        rate: receives.rate.per_second(book.since, now),
                        total: receives.total,
                        redelivered_total: receives.redelivered,
                        failed_total: receives.failed,
                        run_p50_ms,
                        run_p95_ms,
                    }
                })
                .collect(),
            truncated: other_producer
                || other_queue
                || other_worker
                || book.waiting.has_forgotten(),
        }
    }
}

fn queues(
    book: &Book,
    sends: &[((usize, usize), &Sends)],
    receives: &[((usize, usize), &Receives)],
    now: Timestamp,
) -> Vec<QueueView> {
    let mut queues: Vec<QueueView> = book
        .queues
        .iter()
        .map(|(number, names::Name([name, system, _]))| QueueView {
            id: queue_id(number),
            name: name.as_deref().unwrap_or_default().to_owned(),
            system: system.as_deref().map(str::to_owned),
            sent_rate: 0.0,
            sent_total: 0,
            delivered_rate: 0.0,
            delivered_total: 0,
            backlog: None,
            oldest_waiting_ms: None,
            dwell_p50_ms: None,
            dwell_p95_ms: None,
            errors_total: 0,
            redelivered_total: 0,
        })
        .collect();
    for ((_, number), sends) in sends {
        let queue = &mut queues[*number];
        queue.sent_rate += sends.rate.per_second(book.since, now);
        queue.sent_total += sends.total;
        queue.errors_total += sends.errors;
    }
    for ((number, _), receives) in receives {
        let queue = &mut queues[*number];
        queue.delivered_rate += receives.rate.per_second(book.since, now);
        queue.delivered_total += receives.total;
        queue.redelivered_total += receives.redelivered;
    }
    let waiting = book.waiting.by_queue(book.queues.count());
    for (queue, (count, oldest)) in queues.iter_mut().zip(waiting) {
        // Where one side does not come by here, all would seem to wait, or nothing.
        if queue.sent_total > 0 && queue.delivered_total > 0 {
            queue.backlog = Some(count);
            queue.oldest_waiting_ms = oldest.map(|sent| Millis(now.since(sent)));
        }
    }
    for (queue, dwells) in queues.iter_mut().zip(&book.dwells) {
        [queue.dwell_p50_ms, queue.dwell_p95_ms] = dwells.quantiles([0.5, 0.95], now);
    }
    queues
}

fn producer_view(
    (number, names::Name([host, client_name, address])): (usize, &Name<'_>),
) -> ProducerView {
    let own = |part: &Option<std::borrow::Cow<'_, str>>| part.as_deref().map(str::to_owned);
    let parts = [host, client_name, address].map(own);
    let name = parts.iter().flatten().next().cloned();
    let [host, client_name, address] = parts;
    ProducerView {
        id: producer_id(number),
        name: name.unwrap_or_else(|| "unknown".to_owned()),
        host: host.filter(|_| number != OTHER),
        client_name,
        address,
    }
}

fn worker_view((number, names::Name([name, address, _])): (usize, &Name<'_>)) -> WorkerView {
    WorkerView {
        id: worker_id(number),
        name: name.as_deref().unwrap_or_default().to_owned(),
        address: address.as_deref().map(str::to_owned),
    }
}

fn producer_id(number: usize) -> String {
    format!("p{number}")
}

fn queue_id(number: usize) -> String {
    format!("q{number}")
}

fn worker_id(number: usize) -> String {
    format!("w{number}")
}

fn by_quality<S: Serializer>(
    counts: &[u64; QUALITIES.len()],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let words = QUALITIES.iter().map(|quality| quality.word());
    serializer.collect_map(words.zip(counts))
}
