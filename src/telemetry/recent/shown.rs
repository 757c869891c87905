//! Tasks as they are shown.

use serde::Serialize;
use serde::Serializer;

use crate::hop::Answer;
use crate::hop::Evidence;
use crate::hop::Origin;
use crate::hop::Quality;
use crate::hop::Settlement;
use crate::hop::TaskState;
use crate::hop::Verdict;
use crate::telemetry::finding::Producer;
use crate::telemetry::finding::worker;
use crate::telemetry::labels::cut;
use crate::telemetry::millis::Millis;
use crate::telemetry::recent::trace::Attempt;
use crate::telemetry::recent::trace::Delivered;
use crate::telemetry::recent::trace::Message;
use crate::telemetry::recent::trace::Task;
use crate::trace::SpanId;
use crate::trace::Timestamp;
use crate::trace::w3c::Invalid;

#[derive(Serialize)]
struct TaskView<'a> {
    task_id: &'a str,
    task: &'a str,
    parent_task_id: Option<&'a str>,
    root_id: Option<&'a str>,
    group: Option<&'a str>,
    attempts: &'a [Attempt],
}

impl Serialize for Task {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let facts = self.message.facts();
        let view = TaskView {
            task_id: self.id(),
            task: self.name(),
            parent_task_id: self.parent(),
            root_id: facts.root_id().map(cut),
            group: facts.group().map(cut),
            attempts: &self.attempts,
        };
        view.serialize(serializer)
    }
}

#[derive(Serialize)]
struct AttemptView<'a> {
    retries: u32,
    system: &'static str,
    queue: &'a str,
    route: &'a str,
    producer: Option<&'a str>,
    sent_at: Option<Timestamp>,
    answered_at: Option<Timestamp>,
    answer: Option<&'a Answer>,
    error: Option<&'a str>,
    send_span_id: Option<SpanId>,
    parent_span_id: Option<SpanId>,
    verdict: Verdict,
    origin: Origin,
    quality: Quality,
    invalid_reason: Option<Invalid>,
    eta: Option<Timestamp>,
    deliveries: &'a [Delivered],
}

impl Serialize for Attempt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (producer, sent_at, send_span_id) = match &self.message {
            Message::Sent(publication) => (
                Some(Producer::of_publication(publication).name()),
                Some(publication.at),
                Some(publication.judgement.context.span_id),
            ),
            Message::Taken(delivery) => (delivery.task.origin(), delivery.sent, None),
        };
        let (connection, judgement) = match &self.message {
            Message::Sent(publication) => (&publication.connection, &publication.judgement),
            Message::Taken(delivery) => (&delivery.connection, &delivery.judgement),
        };
        let facts = self.message.facts();
        let view = AttemptView {
            retries: facts.retries,
            system: self.system(),
            queue: self.queue(),
            route: &connection.route,
            producer: producer.map(cut),
            sent_at,
            answered_at: self.answered_at,
            answer: self.answer.as_ref(),
            error: self.error.as_deref(),
            send_span_id,
            parent_span_id: judgement.parent,
            verdict: judgement.verdict,
            origin: judgement.origin,
            quality: judgement.quality,
            invalid_reason: judgement.invalid,
            eta: facts.eta().and_then(Timestamp::parse),
            deliveries: &self.deliveries,
        };
        view.serialize(serializer)
    }
}

#[derive(Serialize)]
struct DeliveredView<'a> {
    delivered_at: Timestamp,
    worker: &'a str,
    redelivered: bool,
    dwell_ms: Option<Millis>,
    delay_ms: Millis,
    eta_wait_ms: Millis,
    prefetch_ms: Option<Millis>,
    run_ms: Option<Millis>,
    started_at: Option<Timestamp>,
    settlement: Option<Settlement>,
    settled_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    state: Option<TaskState>,
    evidence: Option<Evidence>,
    expired: bool,
    receive_span_id: SpanId,
}

impl Serialize for Delivered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let delivery = &*self.delivery;
        let eta = delivery.eta().unwrap_or_default();
        let view = DeliveredView {
            delivered_at: delivery.at,
            worker: cut(worker(delivery)),
            redelivered: delivery.passage.redelivered,
            dwell_ms: delivery.dwell().map(Millis),
            delay_ms: Millis(delivery.delay()),
            eta_wait_ms: Millis(eta.since(delivery.at)),
            prefetch_ms: self.prefetched.map(Millis),
            run_ms: self.ran.map(Millis),
            started_at: self.started_at,
            settlement: self.settlement,
            settled_at: self.settled_at,
            finished_at: self.finished.map(|finish| finish.at),
            state: self.finished.and_then(|finish| finish.state),
            evidence: self.finished.map(|finish| finish.evidence),
            expired: self.is_expired,
            receive_span_id: delivery.judgement.context.span_id,
        };
        view.serialize(serializer)
    }
}
