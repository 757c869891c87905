//! The way out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;

use crate::celery::TaskState;
use crate::config::Limits;
use crate::config::Spans;
use crate::hop::Delivery;
use crate::hop::Evidence;
use crate::hop::KeptTask;
use crate::hop::Leg;
use crate::hop::Publication;
use crate::hop::Receipt;
use crate::hop::Settlement;
use crate::hop::TaskKey;
use crate::trace::Timestamp;

/// The way out: a delivery, and what became of it.
#[derive(Debug, PartialEq)]
pub struct Taken {
    pub delivery: Arc<Delivery>,
    /// When the task is to run, if not at once.
    pub eta: Option<Timestamp>,
    pub settled: Option<(Settlement, Timestamp)>,
    /// When its run began, where the worker has told.
    pub started: Option<Timestamp>,
    pub finished: Option<Finish>,
    /// It was open for too long, too many were, or the proxy was stopped.
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

impl Taken {
    fn task(&self) -> TaskKey {
        self.delivery.task.key
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

    /// It is not the first attempt, and was seen to be sent.
    fn is_known_retry(&self) -> bool {
        self.delivery.is_seen_sent && attempt(&self.delivery.task) > (0, 0)
    }

    /// When it could have begun to run.
    fn ready(&self) -> Timestamp {
        self.delivery.at.max(self.eta.unwrap_or_default())
    }
}

/// How often a task has been replaced and tried before.
const fn attempt(task: &KeptTask) -> (u32, u32) {
    (task.replaced, task.retries)
}

/// The deliveries that wait for their end: their settlement and, where runs are followed,
/// what the worker tells of the run.
///
/// Several can have the same receipt, or be of the same task: the oldest one is meant.
#[derive(Debug)]
pub(super) struct OpenTaken {
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
    /// Tasks of whose runs nobody tells the end, by name, each with the one delivery that is
    /// waited for all the same: a worker that died says nothing either, and those after it may.
    silent: HashMap<Box<str>, Option<u64>>,
}

impl OpenTaken {
    pub(super) fn new(limits: &Limits, spans: Spans) -> Self {
        Self {
            open: HashMap::default(),
            next: 0,
            deadlines: BTreeSet::new(),
            receipts: BTreeSet::new(),
            tasks: BTreeSet::new(),
            open_max: limits.open_hops_max,
            age_max: limits.delivery_age_max,
            follows_runs: spans.process,
            events_come: false,
            silent: HashMap::default(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// Whether every list tells of open deliveries alone.
    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        let is_open = |number: &u64| self.open.contains_key(number);
        self.deadlines.len() == self.open.len()
            && self.deadlines.iter().all(|(_, number)| is_open(number))
            && self.receipts.iter().all(|(_, number)| is_open(number))
            && self.tasks.iter().all(|(_, number)| is_open(number))
    }

    pub(super) fn open(&mut self, delivery: Arc<Delivery>, ended: &mut Vec<Leg>) {
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
        let number = self.next;
        self.next += 1;
        if let Some(waited_for @ None) = self.silent.get_mut(taken.delivery.task.name()) {
            *waited_for = Some(number);
        }
        if self.is_over(number, &taken) {
            return self.end(taken, ended);
        }
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

    pub(super) fn settle(
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

    pub(super) fn tell(
        &mut self,
        task: TaskKey,
        at: Timestamp,
        state: TaskState,
        evidence: Evidence,
        ended: &mut Vec<Leg>,
    ) {
        self.events_come |= evidence == Evidence::Event;
        let run = match state {
            // Where the next attempt was seen to be sent, that has told of it already.
            TaskState::Retried => self.oldest_run(task, |taken| !taken.is_known_retry()),
            TaskState::Started => self.oldest_run(task, |_| true),
            _ => self.run_of_last_attempt(task),
        };
        let Some(taken) = run.and_then(|number| self.open.get_mut(&number)) else {
            return;
        };
        let delivered = taken.delivery.at;
        if state == TaskState::Started {
            // Events are late: one of a moment before is of the attempt before.
            if evidence == Evidence::Result || at >= delivered {
                taken.started.get_or_insert_with(|| at.max(delivered));
            }
            return;
        }
        self.silent.remove(taken.delivery.task.name());
        let finish = Finish {
            // The clock of a worker is another than ours.
            at: at.max(delivered),
            state: Some(state),
            evidence,
        };
        self.finish(run, finish, ended);
    }

    /// A worker sends the next attempt of a task, or what takes its place: by that the run of
    /// the attempt before has ended. Not every worker that retries a task writes a result
    /// that says so, and none that replaces it.
    pub(super) fn follow_up(&mut self, by: &Publication, ended: &mut Vec<Leg>) {
        if attempt(&by.task) == (0, 0) {
            return;
        }
        let is_before = |taken: &Taken| attempt(&taken.delivery.task) < attempt(&by.task);
        let run = self.oldest_run(by.task.key, is_before);
        let finish = Finish {
            at: by.at,
            state: Some(TaskState::Retried),
            evidence: Evidence::Publication,
        };
        self.finish(run, finish, ended);
    }

    /// The runs of a task of which the end is not known, the oldest first.
    fn runs(&self, task: TaskKey) -> impl Iterator<Item = (u64, &Taken)> {
        let numbers = self.tasks.range((task, 0)..=(task, u64::MAX));
        numbers.filter_map(|(_, number)| Some((*number, self.open.get(number)?)))
    }

    fn oldest_run(&self, task: TaskKey, is_meant: impl Fn(&Taken) -> bool) -> Option<u64> {
        let mut runs = self.runs(task).filter(|(_, taken)| is_meant(taken));
        runs.next().map(|(number, _)| number)
    }

    fn run_of_last_attempt(&self, task: TaskKey) -> Option<u64> {
        let last = |(number, taken): &(u64, &Taken)| {
            (attempt(&taken.delivery.task), std::cmp::Reverse(*number))
        };
        self.runs(task).max_by_key(last).map(|(number, _)| number)
    }

    fn finish(&mut self, run: Option<u64>, finish: Finish, ended: &mut Vec<Leg>) {
        if let Some(number) = run
            && let Some(taken) = self.open.get_mut(&number)
        {
            taken.finished = Some(finish);
            self.tasks.remove(&(taken.task(), number));
            self.end_if_over(number, ended);
        }
    }

    pub(super) fn expire(&mut self, now: Timestamp, ended: &mut Vec<Leg>) {
        while self
            .deadlines
            .first()
            .is_some_and(|(deadline, _)| *deadline < now)
        {
            self.expire_next(ended);
        }
    }

    pub(super) fn close(&mut self, ended: &mut Vec<Leg>) {
        while !self.open.is_empty() {
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
            // Of a broadcast, only the first worker to end it may write a result.
            let is_silent = taken.settled.is_some()
                && taken.finished.is_none()
                && !taken.delivery.passage.broadcast;
            if is_silent && self.silent.len() < SILENT_MAX {
                let name = taken.delivery.task.name();
                self.silent.entry(name.into()).or_default();
            }
            self.end(taken, ended);
        }
    }

    fn end_if_over(&mut self, number: u64, ended: &mut Vec<Leg>) {
        if self
            .open
            .get(&number)
            .is_some_and(|taken| self.is_over(number, taken))
            && let Some(taken) = self.remove(number)
        {
            self.end(taken, ended);
        }
    }

    /// Whether nothing more is to be expected of a delivery.
    fn is_over(&self, number: u64, taken: &Taken) -> bool {
        match taken.settled {
            None => false,
            Some((Settlement::Acknowledged | Settlement::Automatic, _)) => {
                !self.follows_runs || taken.finished.is_some() || self.is_silent(number, taken)
            }
            Some(_) => true,
        }
    }

    /// Whether nobody will tell how the run has ended.
    fn is_silent(&self, number: u64, taken: &Taken) -> bool {
        let task = &taken.delivery.task;
        let waited_for = self.silent.get(task.name());
        task.ignores_result && !self.events_come
            || waited_for.is_some_and(|waited_for| *waited_for != Some(number))
    }

    fn remove(&mut self, number: u64) -> Option<Taken> {
        let taken = self.open.remove(&number)?;
        self.deadlines.remove(&(self.deadline(&taken), number));
        if let (None, Some(receipt)) = (taken.settled, taken.delivery.receipt) {
            self.receipts.remove(&(receipt, number));
        }
        if taken.finished.is_none() {
            self.tasks.remove(&(taken.task(), number));
        }
        if let Some(waited_for) = self.silent.get_mut(taken.delivery.task.name())
            && *waited_for == Some(number)
        {
            *waited_for = None;
        }
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

/// Of how many tasks it is known that nobody tells of the end of their runs.
const SILENT_MAX: usize = 10_000;
