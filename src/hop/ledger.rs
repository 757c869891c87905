//! The book of open hops.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::time::Duration;

use crate::celery::TaskState;
use crate::config::Limits;
use crate::config::Spans;
use crate::hop::Answer;
use crate::hop::Delivery;
use crate::hop::Evidence;
use crate::hop::HopId;
use crate::hop::Publication;
use crate::hop::Receipt;
use crate::hop::Settlement;
use crate::hop::Sighting;
use crate::hop::TaskKey;
use crate::trace::Timestamp;

/// A leg of a hop that has come to its end.
#[derive(Debug, PartialEq)]
pub enum Leg {
    Sent(Sent),
    Taken(Taken),
}

/// The way in: a publication, and what became of it.
#[derive(Debug, PartialEq)]
pub struct Sent {
    pub publication: Box<Publication>,
    pub answer: Answer,
    pub ended: Timestamp,
}

/// The way out: a delivery, and what became of it.
#[derive(Debug, PartialEq)]
pub struct Taken {
    pub delivery: Box<Delivery>,
    /// When the task is to run, if not at once.
    pub eta: Option<Timestamp>,
    pub settled: Option<(Settlement, Timestamp)>,
    /// When its run began, where the worker has told.
    pub started: Option<Timestamp>,
    pub finished: Option<Finish>,
    /// It was open for too long, or too many were.
    pub is_expired: bool,
}

/// How the run of a task came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    pub at: Timestamp,
    /// `None` where it is not known how it went.
    pub state: Option<TaskState>,
    pub evidence: Evidence,
}

/// The open legs, bounded in count and in time. Every leg that was opened ends once.
#[derive(Debug)]
pub struct Ledger {
    sent: OpenSent,
    taken: OpenTaken,
}

impl Ledger {
    /// Keeps as much open as `limits` allow, and deliveries until their tasks have run where
    /// `spans` tell of that.
    #[must_use]
    pub fn new(limits: &Limits, spans: Spans) -> Self {
        Self {
            sent: OpenSent {
                open: HashMap::new(),
                order: VecDeque::new(),
                open_max: limits.open_hops_max,
                age_max: limits.open_hop_age_max,
            },
            taken: OpenTaken {
                open: HashMap::new(),
                next: 0,
                deadlines: BTreeSet::new(),
                receipts: BTreeSet::new(),
                tasks: BTreeSet::new(),
                open_max: limits.open_hops_max,
                age_max: limits.delivery_age_max,
                follows_runs: spans.process,
                events_come: false,
                silent: HashSet::new(),
            },
        }
    }

    /// Books one sighting; legs that end by it are added to `ended`.
    pub fn book(&mut self, sighting: Sighting, ended: &mut Vec<Leg>) {
        match sighting {
            Sighting::Published(publication) => self.sent.open(publication, ended),
            Sighting::Answered { hop, at, answer } => self.sent.end(hop, at, answer, ended),
            Sighting::Delivered(delivery) => self.taken.open(delivery, ended),
            Sighting::Settled {
                receipt,
                at,
                settlement,
            } => self.taken.settle(receipt, at, settlement, ended),
            Sighting::Told {
                task,
                at,
                state,
                evidence,
            } => self.taken.tell(task, at, state, evidence, ended),
            Sighting::Redelivered { .. }
            | Sighting::LeftAlone { .. }
            | Sighting::LostSight { .. } => {}
        }
    }

    /// Ends the legs that have been open for too long.
    pub fn expire(&mut self, now: Timestamp, ended: &mut Vec<Leg>) {
        self.sent.expire(now, ended);
        self.taken.expire(now, ended);
    }

    /// How many publications wait for their answer.
    #[must_use]
    pub fn sent_count(&self) -> usize {
        self.sent.open.len()
    }

    /// How many deliveries wait for their end.
    #[must_use]
    pub fn taken_count(&self) -> usize {
        self.taken.open.len()
    }
}

/// The publications that wait for their answer.
#[derive(Debug)]
struct OpenSent {
    open: HashMap<HopId, Box<Publication>>,
    /// In the order in which they were opened; those that have ended are dropped from it
    /// when they come to its front, or when they are most of it.
    order: VecDeque<HopId>,
    open_max: usize,
    age_max: Duration,
}

impl OpenSent {
    fn open(&mut self, publication: Box<Publication>, ended: &mut Vec<Leg>) {
        let at = publication.at;
        self.order.push_back(publication.hop);
        self.open.insert(publication.hop, publication);
        while self.open.len() > self.open_max {
            self.end_oldest(at, ended);
        }
        self.tidy();
    }

    fn end(&mut self, hop: HopId, at: Timestamp, answer: Answer, ended: &mut Vec<Leg>) {
        if let Some(publication) = self.open.remove(&hop) {
            ended.push(Leg::Sent(Sent {
                publication,
                answer,
                ended: at,
            }));
        }
        self.tidy();
    }

    fn expire(&mut self, now: Timestamp, ended: &mut Vec<Leg>) {
        while let Some(oldest) = self.order.front() {
            if let Some(publication) = self.open.get(oldest)
                && now.since(publication.at) <= self.age_max
            {
                return;
            }
            self.end_oldest(now, ended);
        }
    }

    fn end_oldest(&mut self, now: Timestamp, ended: &mut Vec<Leg>) {
        if let Some(publication) = self
            .order
            .pop_front()
            .and_then(|oldest| self.open.remove(&oldest))
        {
            ended.push(Leg::Sent(Sent {
                publication,
                answer: Answer::Expired,
                ended: now,
            }));
        }
    }

    fn tidy(&mut self) {
        while self
            .order
            .front()
            .is_some_and(|oldest| !self.open.contains_key(oldest))
        {
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.open.len() + ORDER_SLACK {
            self.order.retain(|hop| self.open.contains_key(hop));
        }
    }
}

/// The deliveries that wait for their end: their settlement and, where runs are followed,
/// what the worker tells of the run.
///
/// Several can have the same receipt, or be of the same task: the oldest one is meant.
#[derive(Debug)]
struct OpenTaken {
    open: HashMap<u64, Taken>,
    /// The number of the next one.
    next: u64,
    /// When each will have been open for too long.
    deadlines: BTreeSet<(Timestamp, u64)>,
    /// Those that are not settled.
    receipts: BTreeSet<(Receipt, u64)>,
    /// Those of whose run the end is not known.
    tasks: BTreeSet<(TaskKey, u64)>,
    open_max: usize,
    age_max: Duration,
    follows_runs: bool,
    /// Workers have told of runs by events.
    events_come: bool,
    /// Tasks of whose runs nobody tells the end, by name.
    silent: HashSet<Box<str>>,
}

impl OpenTaken {
    fn open(&mut self, delivery: Box<Delivery>, ended: &mut Vec<Leg>) {
        let at = delivery.at;
        let taken = Taken {
            eta: delivery.eta(),
            settled: match delivery.receipt {
                None => Some((Settlement::Automatic, at)),
                Some(_) => None,
            },
            delivery,
            started: None,
            finished: None,
            is_expired: false,
        };
        if self.is_over(&taken) {
            return self.end(taken, ended);
        }
        let number = self.next;
        self.next += 1;
        self.deadlines.insert((self.deadline(&taken), number));
        self.receipts
            .extend(taken.delivery.receipt.map(|receipt| (receipt, number)));
        if self.follows_runs {
            self.tasks.insert((taken.task(), number));
        }
        self.open.insert(number, taken);
        while self.open.len() > self.open_max {
            self.expire_next(ended);
        }
    }

    fn settle(
        &mut self,
        receipt: Receipt,
        at: Timestamp,
        settlement: Settlement,
        ended: &mut Vec<Leg>,
    ) {
        let mut range = self.receipts.range((receipt, 0)..=(receipt, u64::MAX));
        let Some(&(_, number)) = range.next() else {
            return;
        };
        self.receipts.remove(&(receipt, number));
        if let Some(taken) = self.open.get_mut(&number) {
            taken.settled = Some((settlement, at));
        }
        self.end_if_over(number, ended);
    }

    fn tell(
        &mut self,
        task: TaskKey,
        at: Timestamp,
        state: TaskState,
        evidence: Evidence,
        ended: &mut Vec<Leg>,
    ) {
        self.events_come |= evidence == Evidence::Event;
        let mut range = self.tasks.range((task, 0)..=(task, u64::MAX));
        let Some(&(_, number)) = range.next() else {
            return;
        };
        let Some(taken) = self.open.get_mut(&number) else {
            return;
        };
        // The clock of a worker is another than ours.
        let at = at.max(taken.delivery.at);
        if state == TaskState::Started {
            taken.started.get_or_insert(at);
            return;
        }
        taken.finished = Some(Finish {
            at,
            state: Some(state),
            evidence,
        });
        self.silent.remove(&*taken.delivery.task.name);
        self.tasks.remove(&(task, number));
        self.end_if_over(number, ended);
    }

    fn expire(&mut self, now: Timestamp, ended: &mut Vec<Leg>) {
        while self
            .deadlines
            .first()
            .is_some_and(|(deadline, _)| *deadline < now)
        {
            self.expire_next(ended);
        }
    }

    /// Ends the one that would be open for too long before all others.
    fn expire_next(&mut self, ended: &mut Vec<Leg>) {
        let Some((_, number)) = self.deadlines.pop_first() else {
            return;
        };
        if let Some(mut taken) = self.remove(number) {
            taken.is_expired = true;
            let is_silent = taken.settled.is_some() && taken.finished.is_none();
            if is_silent && self.silent.len() < SILENT_MAX {
                self.silent.insert(taken.delivery.task.name.as_ref().into());
            }
            self.end(taken, ended);
        }
    }

    fn end_if_over(&mut self, number: u64, ended: &mut Vec<Leg>) {
        if self
            .open
            .get(&number)
            .is_some_and(|taken| self.is_over(taken))
            && let Some(taken) = self.remove(number)
        {
            self.end(taken, ended);
        }
    }

    /// Whether nothing more is to be expected of a delivery.
    fn is_over(&self, taken: &Taken) -> bool {
        match taken.settled {
            None => false,
            Some((Settlement::Acknowledged | Settlement::Automatic, _)) => {
                !self.follows_runs || taken.finished.is_some() || self.is_silent(taken)
            }
            Some(_) => true,
        }
    }

    /// Whether nobody will tell how the run has ended.
    fn is_silent(&self, taken: &Taken) -> bool {
        let task = &taken.delivery.task;
        task.ignores_result && !self.events_come || self.silent.contains(&*task.name)
    }

    fn remove(&mut self, number: u64) -> Option<Taken> {
        let taken = self.open.remove(&number)?;
        self.deadlines.remove(&(self.deadline(&taken), number));
        if let Some(receipt) = taken.delivery.receipt {
            self.receipts.remove(&(receipt, number));
        }
        self.tasks.remove(&(taken.task(), number));
        Some(taken)
    }

    fn end(&self, mut taken: Taken, ended: &mut Vec<Leg>) {
        if self.follows_runs
            && taken.finished.is_none()
            && let Some((_, at)) = taken.settled
        {
            taken.finished = Some(Finish {
                at,
                state: None,
                evidence: Evidence::Acknowledgement,
            });
        }
        ended.push(Leg::Taken(taken));
    }

    fn deadline(&self, taken: &Taken) -> Timestamp {
        taken.ready().after(self.age_max)
    }
}

impl Taken {
    fn task(&self) -> TaskKey {
        TaskKey::of(&self.delivery.task.id)
    }

    /// How long the broker held it back on purpose.
    #[must_use]
    pub fn delay(&self) -> Duration {
        let sent = self.delivery.sent.unwrap_or(self.delivery.at);
        self.delivery
            .held_back_until()
            .min(self.delivery.at)
            .since(sent)
    }

    /// How long it had still to wait for its `eta` when it was taken.
    #[must_use]
    pub fn eta_wait(&self) -> Duration {
        self.eta.unwrap_or_default().since(self.delivery.at)
    }

    /// How long the worker had it, and could have run it, before it did; `None` where that
    /// is not known. An acknowledgement ahead of the end comes when the run begins.
    #[must_use]
    pub fn prefetched(&self) -> Option<Duration> {
        let acknowledged = match (self.settled, self.finished) {
            (Some((Settlement::Acknowledged, at)), Some(finish)) if at < finish.at => Some(at),
            _ => None,
        };
        Some(self.started.or(acknowledged)?.since(self.ready()))
    }

    /// How long the task ran; `None` where no worker has told of its end. Where none has told
    /// of its beginning it counts from when it could have begun.
    #[must_use]
    pub fn ran(&self) -> Option<Duration> {
        let finish = self.finished.filter(|finish| finish.state.is_some())?;
        let held = finish.at.since(self.ready());
        Some(held.saturating_sub(self.prefetched().unwrap_or_default()))
    }

    /// When it could have begun to run.
    fn ready(&self) -> Timestamp {
        self.delivery.at.max(self.eta.unwrap_or_default())
    }
}

/// Below this it is not worth looking for hops that have ended behind one that has not.
const ORDER_SLACK: usize = 1024;

/// Of how many tasks it is known that nobody tells of the end of their runs.
const SILENT_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hop::fixture::publication;

    fn ledger(open_hops_max: usize, open_hop_age_max: Duration) -> Ledger {
        let limits = Limits {
            open_hops_max,
            open_hop_age_max,
            ..Limits::default()
        };
        Ledger::new(&limits, Spans::default())
    }

    fn sent(leg: &Leg) -> &Sent {
        match leg {
            Leg::Sent(sent) => sent,
            Leg::Taken(_) => panic!("a delivery"),
        }
    }

    fn answered(number: u64) -> Sighting {
        Sighting::Answered {
            hop: HopId { session: 1, number },
            at: Timestamp::from_nanos(9),
            answer: Answer::Confirmed,
        }
    }

    #[test]
    fn a_hop_ends_with_its_answer() {
        let mut ledger = ledger(10, Duration::from_secs(1));
        let mut ended = Vec::new();
        ledger.book(Sighting::Published(publication(1, 5)), &mut ended);
        assert_eq!((ledger.sent_count(), ended.len()), (1, 0));
        ledger.book(answered(1), &mut ended);
        ledger.book(answered(1), &mut ended);
        assert_eq!((ledger.sent_count(), ended.len()), (0, 1));
        assert_eq!(sent(&ended[0]).answer, Answer::Confirmed);
        assert_eq!(sent(&ended[0]).ended, Timestamp::from_nanos(9));
    }

    #[test]
    fn a_hop_without_an_answer_ends_when_its_time_is_over() {
        let mut ledger = ledger(10, Duration::from_nanos(3));
        let mut ended = Vec::new();
        ledger.book(Sighting::Published(publication(1, 5)), &mut ended);
        ledger.book(Sighting::Published(publication(2, 6)), &mut ended);
        ledger.expire(Timestamp::from_nanos(8), &mut ended);
        assert_eq!(ended.len(), 0);
        ledger.expire(Timestamp::from_nanos(9), &mut ended);
        assert_eq!(ended.len(), 1);
        assert_eq!(sent(&ended[0]).publication.hop.number, 1);
        assert_eq!(sent(&ended[0]).answer, Answer::Expired);
    }

    proptest! {
        #[test]
        fn every_hop_ends_once_and_memory_is_bounded(
            sightings in prop::collection::vec((any::<bool>(), 0_u64..40), 0..400)
        ) {
            let mut ledger = ledger(8, Duration::from_secs(1));
            let mut ended = Vec::new();
            let mut opened = HashSet::new();
            for (is_publication, number) in sightings {
                if is_publication && opened.insert(number) {
                    ledger.book(Sighting::Published(publication(number, number)), &mut ended);
                } else if !is_publication {
                    ledger.book(answered(number), &mut ended);
                }
                prop_assert!(ledger.sent_count() <= 8);
                prop_assert!(ledger.sent.order.len() <= 2 * ledger.sent.open.len() + ORDER_SLACK);
            }
            ledger.expire(Timestamp::from_nanos(u64::MAX), &mut ended);
            prop_assert_eq!(ledger.sent_count(), 0);
            let mut numbers: Vec<u64> =
                ended.iter().map(|leg| sent(leg).publication.hop.number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            prop_assert_eq!(numbers.len(), ended.len());
            prop_assert_eq!(numbers.len(), opened.len());
        }
    }
}
