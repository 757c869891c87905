//! The way out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;

use crate::celery::TaskState;
use crate::config::Limits;
use crate::hop::Announcement;
use crate::hop::Delivery;
use crate::hop::Evidence;
use crate::hop::Generations;
use crate::hop::KeptTask;
use crate::hop::Leg;
use crate::hop::Publication;
use crate::hop::Receipt;
use crate::hop::Settlement;
use crate::hop::TaskKey;
use crate::hop::reports::Reports;
use crate::trace::Timestamp;

/// The way out: a delivery, and what has become of it so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    pub delivery: Arc<Delivery>,
    /// When the task is to run, if not at once.
    pub eta: Option<Timestamp>,
    pub settled: Option<(Settlement, Timestamp)>,
    /// When its run began and what that is known by, where the worker has told.
    pub started: Option<(Timestamp, Evidence)>,
    pub finished: Option<Finish>,
    /// It was open for too long, too many were, or the proxy was stopped.
    pub is_expired: bool,
    /// Nothing more is to be expected of it.
    pub is_over: bool,
    /// Which parts of it have just come to their end. Each of them does so once.
    pub ended: Ends,
}

/// The parts of a way out, which end apart from each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The delivery can be told of: it is settled, or that takes too long.
    pub receive: bool,
    pub settlement: bool,
    /// The run of its task, where runs are followed.
    pub process: bool,
}

impl Ends {
    const fn and(self, more: Self) -> Self {
        Self {
            receive: self.receive || more.receive,
            settlement: self.settlement || more.settlement,
            process: self.process || more.process,
        }
    }
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

    /// When its run began, and what that is known by. Where the worker does not tell, an
    /// acknowledgement ahead of the end does: it comes when the run begins.
    #[must_use]
    pub fn began(&self) -> Option<(Timestamp, Evidence)> {
        let acknowledged = match (self.settled, self.finished) {
            (Some((Settlement::Acknowledged, at)), Some(finish))
                if at < finish.at && !self.may_overtake(at, finish) =>
            {
                Some((at, Evidence::Acknowledgement))
            }
            _ => None,
        };
        self.started.or(acknowledged)
    }

    /// Whether a message that is acknowledged at its end may seem to be so just ahead of it:
    /// where neither the acknowledgement nor the result is answered, and they take two connections.
    fn may_overtake(&self, acknowledged: Timestamp, finish: Finish) -> bool {
        !self.delivery.answers_acknowledgements
            && finish.at.since(acknowledged) < OVERTAKING_MAX
            && acknowledged.since(self.ready()) >= OVERTAKING_MAX
    }

    /// How long the worker had it, and could have run it, before it did; `None` where that
    /// is not known.
    #[must_use]
    pub fn prefetched(&self) -> Option<Duration> {
        let (began, _) = self.began()?;
        Some(began.since(self.ready()))
    }

    /// How long the task ran; `None` where it is not known when it began, or how it ended.
    #[must_use]
    pub fn ran(&self) -> Option<Duration> {
        let finish = self.finished.filter(|finish| finish.state.is_some())?;
        let (began, _) = self.began()?;
        Some(finish.at.since(began))
    }

    /// When somebody said how it was settled.
    #[must_use]
    pub fn settled_at(&self) -> Option<Timestamp> {
        let (_, at) = self
            .settled
            .filter(|(how, _)| *how != Settlement::Unknown)?;
        Some(at)
    }

    /// Its task may have run: it was not given back unread, as what a worker has prefetched.
    pub(super) fn may_have_run(&self) -> bool {
        let is_returned = matches!(self.settled, Some((Settlement::Returned, _)));
        !is_returned || self.started.is_some() || self.finished.is_some()
    }

    /// How it was settled, as far as is known.
    #[must_use]
    pub fn settlement(&self) -> &'static str {
        match self.settled {
            Some((settlement, _)) => settlement.word(),
            None if self.is_expired => "unknown",
            None => "pending",
        }
    }

    /// It is not the first attempt, and was seen to be sent.
    fn is_known_retry(&self) -> bool {
        self.delivery.is_seen_sent && attempt(&self.delivery.task) > (0, 0)
    }

    /// Whether what somebody tells of the end of a run may be meant for this one. Events come
    /// later than what else tells of the same end, and say more.
    fn is_open_to(&self, evidence: Evidence) -> bool {
        self.finished
            .is_none_or(|finish| evidence == Evidence::Event && finish.evidence != Evidence::Event)
    }

    /// How its run has ended where nobody has told: by what the worker said of the message.
    fn finish_unseen(&self) -> Option<Finish> {
        let (settlement, at) = self.settled?;
        match settlement {
            Settlement::Acknowledged | Settlement::Rejected | Settlement::Requeued => {
                Some(Finish {
                    at,
                    state: None,
                    evidence: Evidence::Acknowledgement,
                })
            }
            Settlement::Automatic
            | Settlement::Unknown
            | Settlement::Returned
            | Settlement::Abandoned => None,
        }
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
    open: HashMap<u64, Open>,
    /// The number of the next one.
    next: u64,
    /// When each is to be looked at again.
    wakes: BTreeSet<(Timestamp, u64)>,
    /// Those that are not settled.
    receipts: BTreeSet<(Receipt, u64)>,
    /// The sessions of clients that have announced what they take.
    announcing: Generations<u64, ()>,
    /// Those whose run is not over.
    tasks: BTreeSet<(TaskKey, u64)>,
    open_max: usize,
    age_max: Duration,
    outcome_wait_max: Duration,
    follows_runs: bool,
    /// Workers have told of runs by events.
    events_come: bool,
    reports: Reports,
}

/// One of them.
#[derive(Debug)]
struct Open {
    taken: Taken,
    /// The parts that have ended.
    ended: Ends,
    /// It is certain that somebody means to acknowledge it.
    is_announced: bool,
    /// When it is to be looked at again.
    wake: Timestamp,
}

impl OpenTaken {
    pub(super) fn new(limits: &Limits, follows_runs: bool) -> Self {
        Self {
            open: HashMap::default(),
            next: 0,
            wakes: BTreeSet::new(),
            receipts: BTreeSet::new(),
            announcing: Generations::new(ANNOUNCING_MAX),
            tasks: BTreeSet::new(),
            open_max: limits.open_hops_max,
            age_max: limits.delivery_age_max,
            outcome_wait_max: limits.outcome_wait_max,
            follows_runs,
            events_come: false,
            reports: Reports::default(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// Whether every list tells of open deliveries alone.
    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        let is_open = |number: &u64| self.open.contains_key(number);
        let wakes = |(wake, number): &(Timestamp, u64)| {
            self.open.get(number).is_some_and(|it| it.wake == *wake)
        };
        self.wakes.len() == self.open.len()
            && self.wakes.iter().all(wakes)
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
            is_over: false,
            ended: Ends::default(),
        };
        let number = self.next;
        self.next += 1;
        let wake = self.age_end(&taken);
        self.wakes.insert((wake, number));
        self.receipts
            .extend(taken.delivery.receipt.map(|receipt| (receipt, number)));
        if self.follows_runs {
            self.tasks.insert((taken.task(), number));
        }
        let open = Open {
            is_announced: taken.delivery.announcement == Announcement::Implied,
            taken,
            ended: Ends::default(),
            wake,
        };
        self.open.insert(number, open);
        self.look(number, at, ended);
        while self.open.len() > self.open_max
            && let Some(&(_, last)) = self.wakes.last()
        {
            // It has been told of for the most part.
            self.give_up(last, at, ended);
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
        if let Some(open) = self.open.get_mut(&number) {
            open.taken.settled = Some((settlement, at));
        }
        self.look(number, at, ended);
    }

    pub(super) fn announce(&mut self, receipt: Receipt) {
        if let Some(number) = self.unannounced(receipt)
            && let Some(open) = self.open.get_mut(&number)
        {
            open.is_announced = true;
            let session = open.taken.delivery.connection.session;
            self.announcing.insert(session, ());
        }
    }

    /// A delivery has not been announced in time.
    pub(super) fn miss_announcement(
        &mut self,
        receipt: Receipt,
        at: Timestamp,
        ended: &mut Vec<Leg>,
    ) {
        if let Some(number) = self.unannounced(receipt) {
            self.settle_unannounced(number, at, ended);
        }
    }

    fn unannounced(&self, receipt: Receipt) -> Option<u64> {
        let mut range = self.receipts.range((receipt, 0)..=(receipt, u64::MAX));
        range.find_map(|(_, number)| {
            let open = self.open.get(number)?;
            (!open.is_announced).then_some(*number)
        })
    }

    /// Whoever never announces what he takes has acknowledged it by taking. Of others the
    /// announcement has passed elsewhere.
    fn settle_unannounced(&mut self, number: u64, now: Timestamp, ended: &mut Vec<Leg>) {
        let Some(open) = self.open.get_mut(&number) else {
            return;
        };
        let delivery = &open.taken.delivery;
        let announces = delivery.announcement == Announcement::Expected
            || self
                .announcing
                .with(delivery.connection.session, |()| ())
                .is_some();
        let settlement = match announces {
            true => Settlement::Unknown,
            false => Settlement::Automatic,
        };
        if let Some(receipt) = delivery.receipt {
            self.receipts.remove(&(receipt, number));
        }
        open.taken.settled = Some((settlement, delivery.at));
        self.look(number, now, ended);
    }

    pub(super) fn tell(
        &mut self,
        task: TaskKey,
        at: Timestamp,
        state: TaskState,
        evidence: Evidence,
        runtime: Option<Duration>,
        ended: &mut Vec<Leg>,
    ) {
        self.events_come |= evidence == Evidence::Event;
        let run = match state {
            // Where the next attempt was seen to be sent, that has told of it already.
            TaskState::Retried => self.oldest_run(task, |taken| {
                !taken.is_known_retry() && taken.is_open_to(evidence)
            }),
            TaskState::Started => self.oldest_run(task, |_| true),
            _ => self.run_of_last_attempt(task, evidence),
        };
        let Some(number) = run else {
            if state != TaskState::Started {
                self.reports.told_late(task);
            }
            return;
        };
        let Some(open) = self.open.get_mut(&number) else {
            return;
        };
        let taken = &mut open.taken;
        let delivered = taken.delivery.at;
        if state == TaskState::Started {
            // Events are late: one of a moment before is of the attempt before.
            if evidence == Evidence::Result || at >= delivered {
                let started = at.max(delivered);
                taken.started.get_or_insert((started, evidence));
            }
            return;
        }
        self.reports.told(taken.delivery.task.name());
        // The clock of a worker is another than ours.
        let at = at.max(delivered.after(runtime.unwrap_or_default()));
        if let Some(runtime) = runtime {
            taken.started = Some((at.before(runtime), Evidence::Runtime));
        }
        let finish = Finish {
            at,
            state: Some(state),
            evidence,
        };
        self.finish(number, finish, ended);
    }

    /// A worker sends the next attempt of a task, or what takes its place: by that the run of
    /// the attempt before has ended. Not every worker that retries a task writes a result
    /// that says so, and none that replaces it.
    pub(super) fn follow_up(&mut self, by: &Publication, ended: &mut Vec<Leg>) {
        if attempt(&by.task) == (0, 0) {
            return;
        }
        let is_before = |taken: &Taken| {
            attempt(&taken.delivery.task) < attempt(&by.task)
                && taken.is_open_to(Evidence::Publication)
        };
        if let Some(number) = self.oldest_run(by.task.key, is_before) {
            let finish = Finish {
                at: by.at,
                state: Some(TaskState::Retried),
                evidence: Evidence::Publication,
            };
            self.finish(number, finish, ended);
        }
    }

    /// The runs of a task that are not over, the oldest first.
    fn runs(&self, task: TaskKey) -> impl Iterator<Item = (u64, &Taken)> {
        let numbers = self.tasks.range((task, 0)..=(task, u64::MAX));
        numbers.filter_map(|(_, number)| Some((*number, &self.open.get(number)?.taken)))
    }

    fn oldest_run(&self, task: TaskKey, is_meant: impl Fn(&Taken) -> bool) -> Option<u64> {
        let mut runs = self.runs(task).filter(|(_, taken)| is_meant(taken));
        runs.next().map(|(number, _)| number)
    }

    fn run_of_last_attempt(&self, task: TaskKey, told_by: Evidence) -> Option<u64> {
        let last = |(number, taken): &(u64, &Taken)| {
            (attempt(&taken.delivery.task), std::cmp::Reverse(*number))
        };
        let runs = self.runs(task);
        runs.filter(|(_, taken)| taken.is_open_to(told_by))
            .max_by_key(last)
            .map(|(number, _)| number)
    }

    fn finish(&mut self, number: u64, finish: Finish, ended: &mut Vec<Leg>) {
        if let Some(open) = self.open.get_mut(&number) {
            open.taken.finished = Some(finish);
            self.look(number, finish.at, ended);
        }
    }

    /// Ends what has been waited for long enough.
    pub(super) fn expire(&mut self, now: Timestamp, ended: &mut Vec<Leg>) {
        while let Some(&(wake, number)) = self.wakes.first()
            && wake < now
        {
            let Some(open) = self.open.get(&number) else {
                return;
            };
            if self.age_end(&open.taken) < now {
                self.give_up(number, now, ended);
            } else if !open.is_announced && open.taken.settled.is_none() {
                self.settle_unannounced(number, now, ended);
            } else {
                self.look(number, now, ended);
            }
        }
    }

    pub(super) fn close(&mut self, now: Timestamp, ended: &mut Vec<Leg>) {
        while let Some(&(_, number)) = self.wakes.first() {
            self.give_up(number, now, ended);
        }
    }

    /// Ends what of a delivery is over by `now`, and sees to the rest later.
    fn look(&mut self, number: u64, now: Timestamp, ended: &mut Vec<Leg>) {
        let Some(open) = self.open.get(&number) else {
            return;
        };
        let taken = &open.taken;
        let settled = taken.settled.map(|(_, at)| at);
        let too_long = taken.delivery.at.after(self.outcome_wait_max);
        let ends = [
            Some(settled.unwrap_or(too_long)).filter(|_| !open.ended.receive),
            settled.filter(|_| !open.ended.settlement),
            self.run_end(taken).filter(|_| !open.ended.process),
        ];
        let [receive, settlement, process] = ends.map(|end| end.is_some_and(|at| at <= now));
        let later = ends.into_iter().flatten().filter(|at| *at > now).min();
        let wake = self.age_end(taken);
        let wake = later.map_or(wake, |later| later.min(wake));
        let before = (open.wake, number);
        if wake != open.wake {
            self.wakes.remove(&before);
            self.wakes.insert((wake, number));
        }
        if let Some(open) = self.open.get_mut(&number) {
            open.wake = wake;
        }
        let parts = Ends {
            receive,
            settlement,
            process,
        };
        if parts != Ends::default() {
            self.end(number, parts, now, ended);
        }
    }

    /// From when on nothing more is to be expected of a run; `None`: that is not in sight.
    fn run_end(&self, taken: &Taken) -> Option<Timestamp> {
        let at_once = Some(Timestamp::default());
        let (settlement, settled) = match (taken.finished, taken.settled) {
            _ if !self.follows_runs => return None,
            // An event of the same end says more, and comes later.
            (Some(finish), _) if self.events_come && finish.evidence != Evidence::Event => {
                return Some(finish.at.after(self.outcome_wait_max));
            }
            (Some(_), _) => return at_once,
            (None, None) => return None,
            (None, Some(settled)) => settled,
        };
        let (task, passage) = (&taken.delivery.task, &taken.delivery.passage);
        match settlement {
            Settlement::Acknowledged | Settlement::Automatic | Settlement::Unknown => {}
            _ => return at_once,
        }
        if task.ignores_result && !self.events_come {
            return at_once;
        }
        // Of a broadcast, only the first worker to end it writes a result.
        let may_be_told = self.events_come || !passage.broadcast;
        if may_be_told && self.reports.are_told(task.name()) {
            return None;
        }
        Some(settled.max(taken.ready()).after(self.outcome_wait_max))
    }

    /// Gives up waiting for the parts of a delivery that have not ended.
    fn give_up(&mut self, number: u64, now: Timestamp, ended: &mut Vec<Leg>) {
        let Some(open) = self.open.get_mut(&number) else {
            return;
        };
        open.taken.is_expired = true;
        let parts = Ends {
            receive: !open.ended.receive,
            settlement: !open.ended.settlement,
            process: self.follows_runs && !open.ended.process,
        };
        if let (None, Some(receipt)) = (open.taken.settled, open.taken.delivery.receipt) {
            self.receipts.remove(&(receipt, number));
        }
        self.end(number, parts, now, ended);
    }

    /// Tells of the end of these parts of a delivery.
    fn end(&mut self, number: u64, parts: Ends, now: Timestamp, ended: &mut Vec<Leg>) {
        let Some(open) = self.open.get_mut(&number) else {
            return;
        };
        let taken = &mut open.taken;
        if parts.process {
            self.tasks.remove(&(taken.task(), number));
            if taken.finished.is_none() {
                taken.finished = taken.finish_unseen();
                if !taken.delivery.passage.broadcast {
                    let name = taken.delivery.task.name();
                    let until = now.after(self.age_max);
                    self.reports.missed(name, taken.task(), now, until);
                }
            }
        }
        open.ended = open.ended.and(parts);
        taken.ended = parts;
        let all = Ends {
            receive: true,
            settlement: true,
            process: self.follows_runs,
        };
        if open.ended != all {
            return ended.push(Leg::Taken(taken.clone()));
        }
        taken.is_over = true;
        self.wakes.remove(&(open.wake, number));
        ended.extend(self.open.remove(&number).map(|open| Leg::Taken(open.taken)));
    }

    fn age_end(&self, taken: &Taken) -> Timestamp {
        taken.ready().after(self.age_max)
    }
}

const OVERTAKING_MAX: Duration = Duration::from_millis(10);
/// Of how many sessions it is known for sure that their clients announce what they take.
const ANNOUNCING_MAX: usize = 10_000;
