//! What is kept of one trace.

use std::sync::Arc;

use serde::Serialize;

use crate::hop::Answer;
use crate::hop::Connection;
use crate::hop::Delivery;
use crate::hop::Evidence;
use crate::hop::HopId;
use crate::hop::Judgement;
use crate::hop::Leg;
use crate::hop::Origin;
use crate::hop::Publication;
use crate::hop::Quality;
use crate::hop::Receipt;
use crate::hop::Settlement;
use crate::hop::Taken;
use crate::hop::Task as Facts;
use crate::hop::TaskKey;
use crate::hop::TaskState;
use crate::hop::Verdict;
use crate::telemetry::finding::Producer;
use crate::telemetry::finding::worker;
use crate::telemetry::labels::printable;
use crate::telemetry::millis::Millis;
use crate::trace::SpanId;
use crate::trace::Timestamp;
use crate::trace::TraceContext;
use crate::trace::TraceId;
use crate::trace::w3c::Invalid;

/// One trace, as far as it was seen to pass here.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub(super) number: u64,
    pub(super) id: TraceId,
    pub(super) sampled: bool,
    pub(super) started: Timestamp,
    /// The last moment that anything is known of.
    pub(super) last: Timestamp,
    pub(super) tasks: Vec<Task>,
    /// The sum over all tasks.
    pub(super) entries: usize,
    /// Something was left out, or forgotten.
    pub(super) truncated: bool,
}

impl Trace {
    pub(super) fn new(number: u64, context: TraceContext, started: Timestamp) -> Self {
        Self {
            number,
            id: context.trace_id,
            sampled: context.flags.is_sampled(),
            started,
            last: started,
            tasks: Vec::with_capacity(1),
            entries: 0,
            truncated: false,
        }
    }

    /// How the whole of it stands.
    pub(super) fn status(&self) -> Status {
        let is = |task: &Task| task.status();
        let any = |status| self.tasks.iter().any(|task| is(task) == status);
        if [Status::Failed, Status::Rejected, Status::Refused]
            .into_iter()
            .any(any)
        {
            Status::Failed
        } else if any(Status::Waiting) {
            Status::Waiting
        } else if any(Status::Running) {
            Status::Running
        } else if self.tasks.iter().all(|task| is(task) == Status::Succeeded) {
            Status::Succeeded
        } else {
            Status::Unknown
        }
    }

    /// The task that the others follow from; of several the first.
    pub(super) fn root(&self) -> Option<&Task> {
        let roots = self.tasks.iter().filter(|task| task.is_root());
        let first = |task: &&Task| task.first;
        roots
            .min_by_key(first)
            .or_else(|| self.tasks.iter().min_by_key(first))
    }
}

/// How a task, or a whole trace, stands as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Sent, and not delivered yet; or put back.
    Waiting,
    /// Delivered, and neither settled nor told of.
    Running,
    Succeeded,
    Failed,
    /// It will run again.
    Retried,
    Rejected,
    Revoked,
    /// It did not get into the queue.
    Refused,
    /// Nobody has told how it went.
    Unknown,
}

impl Status {
    /// The one that a whole trace can have and that is called so.
    #[must_use]
    pub fn of_trace(word: &str) -> Option<Self> {
        match word {
            "waiting" => Some(Self::Waiting),
            "running" => Some(Self::Running),
            "succeeded" => Some(Self::Succeeded),
            "failed" => Some(Self::Failed),
            "unknown" => Some(Self::Unknown),
            _ => None,
        }
    }
}

/// Whether more may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Left,
    Full,
}

/// One task with all its attempts.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Task {
    #[serde(skip)]
    pub(super) key: TaskKey,
    #[serde(rename = "task_id")]
    pub(super) id: Box<str>,
    #[serde(rename = "task")]
    pub(super) name: Box<str>,
    #[serde(rename = "parent_task_id")]
    pub(super) parent: Option<Box<str>>,
    pub(super) root_id: Option<Box<str>>,
    pub(super) group: Option<Box<str>>,
    /// At most [`ATTEMPTS_MAX`], the oldest first.
    pub(super) attempts: Vec<Attempt>,
    /// How much it counts for: once, and once for each further attempt and delivery.
    #[serde(skip)]
    pub(super) entries: usize,
    /// The first and the last moment that anything is known of.
    #[serde(skip)]
    pub(super) first: Timestamp,
    #[serde(skip)]
    pub(super) last: Timestamp,
}

impl Task {
    pub(super) fn new(facts: &Facts<'_>) -> Self {
        let parent = facts.parent_id.as_ref().filter(|id| **id != facts.id);
        Self {
            key: TaskKey::of(&facts.id),
            id: kept(&facts.id),
            name: kept(&facts.name),
            parent: parent.map(|id| kept(id)),
            root_id: facts.root_id.as_ref().map(|id| kept(id)),
            group: facts.group.as_ref().map(|id| kept(id)),
            attempts: Vec::with_capacity(1),
            entries: 0,
            first: Timestamp::default(),
            last: Timestamp::default(),
        }
    }

    pub(super) fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    pub(super) fn status(&self) -> Status {
        self.attempts
            .last()
            .map_or(Status::Unknown, Attempt::status)
    }

    /// Says [`Room::Full`] where something had to be left out, or forgotten.
    pub(super) fn published(&mut self, publication: &Publication, room: Room) -> Room {
        let hop = Some(publication.hop);
        if self.attempts.iter().any(|attempt| attempt.hop == hop) {
            return Room::Left;
        }
        if room == Room::Full && !self.attempts.is_empty() {
            return Room::Full;
        }
        self.seen(publication.at);
        self.begin(Attempt::published(publication))
    }

    /// Says [`Room::Full`] where something had to be left out, or forgotten.
    pub(super) fn delivered(&mut self, delivery: &Delivery, room: Room) -> Room {
        let key = DeliveryKey::of(delivery);
        let mut known = self.attempts.iter().flat_map(|attempt| &attempt.deliveries);
        if known.any(|known| known.key == key) {
            return Room::Left;
        }
        let is_full = room == Room::Full;
        let mut outcome = Room::Left;
        let place = match self.place_of(delivery) {
            Some(place) if is_full && !self.attempts[place].deliveries.is_empty() => {
                return Room::Full;
            }
            Some(place) => place,
            None if is_full && !self.attempts.is_empty() => return Room::Full,
            None => {
                outcome = self.begin(Attempt::delivered(delivery));
                self.attempts.len() - 1
            }
        };
        self.seen(delivery.sent.unwrap_or(delivery.at).min(delivery.at));
        self.seen(delivery.at);
        let deliveries = &mut self.attempts[place].deliveries;
        self.entries += usize::from(!deliveries.is_empty());
        deliveries.push(Delivered::of(key, delivery));
        if deliveries.len() > DELIVERIES_MAX {
            deliveries.remove(0);
            self.entries -= 1;
            outcome = Room::Full;
        }
        outcome
    }

    /// The attempt that was delivered: the last one it can be.
    fn place_of(&self, delivery: &Delivery) -> Option<usize> {
        let (retries, replaced) = (delivery.task.retries, delivery.task.replaced);
        let is_of = |attempt: &Attempt| attempt.retries == retries && attempt.replaced == replaced;
        let queue = printable(&delivery.destination);
        let in_queue = |attempt: &Attempt| is_of(attempt) && *attempt.queue == *queue;
        let attempts = &self.attempts;
        let place = attempts.iter().rposition(in_queue);
        place.or_else(|| attempts.iter().rposition(is_of))
    }

    fn begin(&mut self, attempt: Attempt) -> Room {
        self.attempts.push(attempt);
        self.entries += 1;
        if self.attempts.len() > ATTEMPTS_MAX {
            let oldest = self.attempts.remove(0);
            self.entries -= oldest.entries();
            return Room::Full;
        }
        Room::Left
    }

    pub(super) fn ended(&mut self, leg: &Leg) {
        match leg {
            Leg::Sent(sent) => {
                let hop = Some(sent.publication.hop);
                let mut attempts = self.attempts.iter_mut();
                if let Some(attempt) = attempts.find(|attempt| attempt.hop == hop) {
                    attempt.answered_at = Some(sent.ended);
                    attempt.error = sent.answer.error().map(|(_, words)| kept(words));
                    attempt.answer = Some(sent.answer.clone());
                    self.seen(sent.ended);
                }
            }
            Leg::Taken(taken) => {
                let key = DeliveryKey::of(&taken.delivery);
                let attempts = self.attempts.iter_mut();
                let mut deliveries = attempts.flat_map(|attempt| &mut attempt.deliveries);
                if let Some(delivered) = deliveries.find(|delivered| delivered.key == key) {
                    delivered.end(taken);
                    let settled = taken.settled.map(|(_, at)| at);
                    let finished = taken.finished.map(|finish| finish.at);
                    for at in [settled, finished].into_iter().flatten() {
                        self.seen(at);
                    }
                }
            }
        }
    }

    fn seen(&mut self, at: Timestamp) {
        if self.last == Timestamp::default() {
            self.first = at;
        }
        self.first = self.first.min(at);
        self.last = self.last.max(at);
    }

    /// The entries, counted anew.
    #[cfg(test)]
    pub(super) fn counted(&self) -> usize {
        self.attempts.iter().map(Attempt::entries).sum()
    }
}

/// One attempt: its way in, and its ways out.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Attempt {
    /// `None`: it was not seen to be published.
    #[serde(skip)]
    hop: Option<HopId>,
    pub(super) retries: u32,
    #[serde(skip)]
    replaced: u32,
    pub(super) system: &'static str,
    pub(super) queue: Box<str>,
    route: Arc<str>,
    producer: Option<Box<str>>,
    pub(super) sent_at: Option<Timestamp>,
    answered_at: Option<Timestamp>,
    answer: Option<Answer>,
    pub(super) error: Option<Box<str>>,
    send_span_id: Option<SpanId>,
    parent_span_id: Option<SpanId>,
    verdict: Verdict,
    origin: Origin,
    quality: Quality,
    invalid_reason: Option<Invalid>,
    eta: Option<Timestamp>,
    /// At most [`DELIVERIES_MAX`], the oldest first.
    pub(super) deliveries: Vec<Delivered>,
}

impl Attempt {
    fn published(publication: &Publication) -> Self {
        let judgement = &publication.judgement;
        Self {
            hop: Some(publication.hop),
            producer: Some(kept(Producer::of_publication(publication).name())),
            sent_at: Some(publication.at),
            send_span_id: Some(judgement.context.span_id),
            ..Self::new(
                publication.system,
                &publication.connection,
                &publication.destination,
                &publication.task,
                judgement,
            )
        }
    }

    /// One that was not seen to be published.
    fn delivered(delivery: &Delivery) -> Self {
        Self {
            producer: delivery.task.origin.as_deref().map(kept),
            sent_at: delivery.sent,
            ..Self::new(
                delivery.system,
                &delivery.connection,
                &delivery.destination,
                &delivery.task,
                &delivery.judgement,
            )
        }
    }

    fn new(
        system: &'static str,
        connection: &Connection,
        queue: &str,
        facts: &Facts<'_>,
        judgement: &Judgement,
    ) -> Self {
        Self {
            hop: None,
            retries: facts.retries,
            replaced: facts.replaced,
            system,
            queue: kept(queue),
            route: Arc::clone(&connection.route),
            producer: None,
            sent_at: None,
            answered_at: None,
            answer: None,
            error: None,
            send_span_id: None,
            parent_span_id: judgement.parent,
            verdict: judgement.verdict,
            origin: judgement.origin,
            quality: judgement.quality,
            invalid_reason: judgement.invalid,
            eta: facts.eta.as_deref().and_then(Timestamp::parse),
            deliveries: Vec::with_capacity(1),
        }
    }

    fn status(&self) -> Status {
        match (self.deliveries.last(), &self.answer) {
            (Some(delivered), _) => delivered.status(),
            (None, Some(Answer::Refused(_) | Answer::Discarded)) => Status::Refused,
            (None, Some(Answer::Lost | Answer::Expired)) => Status::Unknown,
            (None, _) => Status::Waiting,
        }
    }

    fn entries(&self) -> usize {
        self.deliveries.len().max(1)
    }

    /// How many things went wrong with it.
    pub(super) fn errors(&self) -> usize {
        let failed = |delivered: &&Delivered| {
            matches!(delivered.status(), Status::Failed | Status::Rejected)
        };
        usize::from(self.error.is_some()) + self.deliveries.iter().filter(failed).count()
    }
}

/// One way out: a delivery, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Delivered {
    #[serde(skip)]
    key: DeliveryKey,
    /// Nothing more is to be expected.
    #[serde(skip)]
    is_over: bool,
    delivered_at: Timestamp,
    worker: Box<str>,
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

impl Delivered {
    fn of(key: DeliveryKey, delivery: &Delivery) -> Self {
        let eta = delivery.eta().unwrap_or_default();
        Self {
            key,
            is_over: false,
            delivered_at: delivery.at,
            worker: kept(worker(delivery)),
            redelivered: delivery.passage.redelivered,
            dwell_ms: delivery.dwell().map(Millis),
            delay_ms: Millis(delivery.delay()),
            eta_wait_ms: Millis(eta.since(delivery.at)),
            prefetch_ms: None,
            run_ms: None,
            started_at: None,
            settlement: None,
            settled_at: None,
            finished_at: None,
            state: None,
            evidence: None,
            expired: false,
            receive_span_id: delivery.judgement.context.span_id,
        }
    }

    fn end(&mut self, taken: &Taken) {
        self.is_over = true;
        self.expired = taken.is_expired;
        self.prefetch_ms = taken.prefetched().map(Millis);
        self.run_ms = taken.ran().map(Millis);
        self.started_at = taken.started;
        if let Some((settlement, at)) = taken.settled {
            self.settlement = Some(settlement);
            self.settled_at = Some(at);
        }
        if let Some(finish) = taken.finished {
            self.finished_at = Some(finish.at);
            self.state = finish.state;
            self.evidence = Some(finish.evidence);
        }
    }

    fn status(&self) -> Status {
        match (self.state, self.settlement) {
            (Some(TaskState::Succeeded), _) => Status::Succeeded,
            (Some(TaskState::Failed), _) => Status::Failed,
            (Some(TaskState::Retried), _) => Status::Retried,
            (Some(TaskState::Revoked), _) => Status::Revoked,
            (Some(TaskState::Rejected), _) | (_, Some(Settlement::Rejected)) => Status::Rejected,
            (_, Some(Settlement::Requeued | Settlement::Abandoned)) => Status::Waiting,
            _ if self.is_over => Status::Unknown,
            _ => Status::Running,
        }
    }
}

/// What one delivery of a task is told from the others by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DeliveryKey {
    session: u64,
    at: Timestamp,
    receipt: Option<Receipt>,
}

impl DeliveryKey {
    fn of(delivery: &Delivery) -> Self {
        Self {
            session: delivery.connection.session,
            at: delivery.at,
            receipt: delivery.receipt,
        }
    }
}

/// A peer's text as it is kept.
fn kept(text: &str) -> Box<str> {
    printable(text).into()
}

const ATTEMPTS_MAX: usize = 32;
const DELIVERIES_MAX: usize = 32;
