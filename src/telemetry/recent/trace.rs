//! What is kept of one trace.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use smallvec::SmallVec;

use crate::hop::Answer;
use crate::hop::Delivery;
use crate::hop::Finish;
use crate::hop::HopId;
use crate::hop::KeptTask;
use crate::hop::Leg;
use crate::hop::Publication;
use crate::hop::Settlement;
use crate::hop::Taken;
use crate::hop::TaskKey;
use crate::hop::TaskState;
use crate::telemetry::labels::cut;
use crate::telemetry::recent::tasks::Tasks;
use crate::trace::Timestamp;
use crate::trace::TraceContext;
use crate::trace::TraceId;

/// One trace, as far as it was seen to pass here.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub(super) number: u64,
    pub(super) id: TraceId,
    pub(super) sampled: bool,
    pub(super) started: Timestamp,
    /// The last moment that anything is known of.
    pub(super) last: Timestamp,
    pub(super) tasks: Tasks,
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
            tasks: Tasks::default(),
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
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) key: TaskKey,
    /// The first one of it that was seen.
    pub(super) message: Message,
    /// At most [`ATTEMPTS_MAX`], the oldest first.
    pub(super) attempts: SmallVec<[Attempt; 1]>,
    /// How much it counts for: once, and once for each further attempt and delivery.
    pub(super) entries: usize,
    /// The first and the last moment that anything is known of.
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

impl Task {
    pub(super) fn new(key: TaskKey, message: Message) -> Self {
        Self {
            key,
            message,
            attempts: SmallVec::new(),
            entries: 0,
            first: Timestamp::default(),
            last: Timestamp::default(),
        }
    }

    pub(super) fn id(&self) -> &str {
        cut(self.message.facts().id())
    }

    pub(super) fn name(&self) -> &str {
        cut(self.message.facts().name())
    }

    /// The id of the task that it follows from.
    pub(super) fn parent(&self) -> Option<&str> {
        let facts = self.message.facts();
        let parent = facts.parent_id().filter(|id| *id != facts.id());
        parent.map(cut)
    }

    pub(super) fn is_root(&self) -> bool {
        self.parent().is_none()
    }

    pub(super) fn status(&self) -> Status {
        self.attempts
            .last()
            .map_or(Status::Unknown, Attempt::status)
    }

    /// Says [`Room::Full`] where something had to be left out, or forgotten.
    pub(super) fn published(&mut self, publication: &Arc<Publication>, room: Room) -> Room {
        let hop = Some(publication.hop);
        if self.attempts.iter().any(|attempt| attempt.hop() == hop) {
            return Room::Left;
        }
        if room == Room::Full && !self.attempts.is_empty() {
            return Room::Full;
        }
        self.seen(publication.at);
        self.begin(Attempt::new(Message::sent(publication)))
    }

    /// Says [`Room::Full`] where something had to be left out, or forgotten.
    pub(super) fn delivered(&mut self, delivery: &Arc<Delivery>, room: Room) -> Room {
        let mut known = self.attempts.iter().flat_map(|attempt| &attempt.deliveries);
        if known.any(|known| known.is(delivery)) {
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
                outcome = self.begin(Attempt::new(Message::taken(delivery)));
                self.attempts.len() - 1
            }
        };
        self.seen(delivery.sent.unwrap_or(delivery.at).min(delivery.at));
        self.seen(delivery.at);
        let deliveries = &mut self.attempts[place].deliveries;
        self.entries += usize::from(!deliveries.is_empty());
        // Almost always it is the only one.
        deliveries.reserve_exact(usize::from(deliveries.is_empty()));
        deliveries.push(Delivered::new(Arc::clone(delivery)));
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
        let is_of = |attempt: &Attempt| {
            let facts = attempt.message.facts();
            facts.retries == retries && facts.replaced == replaced
        };
        let queue = || cut(&delivery.destination);
        let in_queue = |attempt: &Attempt| is_of(attempt) && attempt.queue() == queue();
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
                if let Some(attempt) = attempts.find(|attempt| attempt.hop() == hop) {
                    attempt.answered_at = Some(sent.ended);
                    attempt.error = sent.answer.error().map(|(_, words)| cut(words).into());
                    attempt.answer = Some(sent.answer.clone());
                    self.seen(sent.ended);
                }
            }
            Leg::Taken(taken) => {
                let attempts = self.attempts.iter_mut();
                let mut deliveries = attempts.flat_map(|attempt| &mut attempt.deliveries);
                if let Some(delivered) = deliveries.find(|delivered| delivered.is(&taken.delivery))
                {
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
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    /// The first one of it that was seen.
    pub(super) message: Message,
    pub(super) answered_at: Option<Timestamp>,
    pub(super) answer: Option<Answer>,
    pub(super) error: Option<Box<str>>,
    /// At most [`DELIVERIES_MAX`], the oldest first.
    pub(super) deliveries: Vec<Delivered>,
}

impl Attempt {
    fn new(message: Message) -> Self {
        Self {
            message,
            answered_at: None,
            answer: None,
            error: None,
            deliveries: Vec::new(),
        }
    }

    /// `None`: it was not seen to be published.
    fn hop(&self) -> Option<HopId> {
        match &self.message {
            Message::Sent(publication) => Some(publication.hop),
            Message::Taken(_) => None,
        }
    }

    pub(super) fn queue(&self) -> &str {
        cut(self.message.destination())
    }

    pub(super) fn system(&self) -> &'static str {
        match &self.message {
            Message::Sent(publication) => publication.system,
            Message::Taken(delivery) => delivery.system,
        }
    }

    pub(super) fn is_retry(&self) -> bool {
        self.message.facts().retries > 0
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
#[derive(Clone, Debug)]
pub(super) struct Delivered {
    pub(super) delivery: Arc<Delivery>,
    /// Nothing more is to be expected.
    is_over: bool,
    pub(super) prefetched: Option<Duration>,
    pub(super) ran: Option<Duration>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) settlement: Option<Settlement>,
    pub(super) settled_at: Option<Timestamp>,
    pub(super) finished: Option<Finish>,
    pub(super) is_expired: bool,
}

impl Delivered {
    fn new(delivery: Arc<Delivery>) -> Self {
        Self {
            delivery,
            is_over: false,
            prefetched: None,
            ran: None,
            started_at: None,
            settlement: None,
            settled_at: None,
            finished: None,
            is_expired: false,
        }
    }

    /// Whether it is that delivery, and not another one of the same task.
    fn is(&self, delivery: &Delivery) -> bool {
        let session = |delivery: &Delivery| delivery.connection.session;
        session(&self.delivery) == session(delivery)
            && self.delivery.at == delivery.at
            && self.delivery.receipt == delivery.receipt
    }

    fn end(&mut self, taken: &Taken) {
        self.is_over = taken.is_over;
        self.is_expired = taken.is_expired;
        self.prefetched = taken.prefetched();
        self.ran = taken.ran();
        self.started_at = taken.started.map(|(at, _)| at);
        self.settlement = taken.settled.map(|(settlement, _)| settlement);
        self.settled_at = taken.settled_at();
        self.finished = taken.finished;
    }

    fn status(&self) -> Status {
        let state = self.finished.and_then(|finish| finish.state);
        match (state, self.settlement) {
            (Some(TaskState::Succeeded), _) => Status::Succeeded,
            (Some(TaskState::Failed), _) => Status::Failed,
            (Some(TaskState::Retried), _) => Status::Retried,
            (Some(TaskState::Revoked), _) => Status::Revoked,
            (Some(TaskState::Rejected), _) | (_, Some(Settlement::Rejected)) => Status::Rejected,
            (_, Some(Settlement::Requeued | Settlement::Returned | Settlement::Abandoned)) => {
                Status::Waiting
            }
            _ if self.is_over => Status::Unknown,
            _ => Status::Running,
        }
    }
}

/// A message that was seen, shared with whoever else has it.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Sent(Arc<Publication>),
    Taken(Arc<Delivery>),
}

impl Message {
    pub(super) fn sent(publication: &Arc<Publication>) -> Self {
        Self::Sent(Arc::clone(publication))
    }

    pub(super) fn taken(delivery: &Arc<Delivery>) -> Self {
        Self::Taken(Arc::clone(delivery))
    }

    pub(super) fn facts(&self) -> &KeptTask {
        match self {
            Self::Sent(publication) => &publication.task,
            Self::Taken(delivery) => &delivery.task,
        }
    }

    fn destination(&self) -> &str {
        match self {
            Self::Sent(publication) => &publication.destination,
            Self::Taken(delivery) => &delivery.destination,
        }
    }
}

const ATTEMPTS_MAX: usize = 32;
const DELIVERIES_MAX: usize = 32;
