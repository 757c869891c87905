//! Which traces are held, and which is forgotten when there are too many.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::HashMap;

use crate::config::Limits;
use crate::hop::Delivery;
use crate::hop::Leg;
use crate::hop::Publication;
use crate::hop::TaskKey;
use crate::telemetry::recent::trace::Message;
use crate::telemetry::recent::trace::Room;
use crate::telemetry::recent::trace::Task;
use crate::telemetry::recent::trace::Trace;
use crate::trace::Timestamp;
use crate::trace::TraceContext;
use crate::trace::TraceId;

/// All traces that are held. What is added to one that somebody reads at the moment is added
/// to a copy of it.
#[derive(Debug)]
pub(super) struct Book {
    /// In the order in which they were first seen: their numbers leave out none.
    traces: VecDeque<Arc<Trace>>,
    numbers: HashMap<TraceId, u64>,
    /// The number of the trace that comes next.
    next: u64,
    /// The sum over all traces.
    entries: usize,
    traces_max: usize,
    entries_max: usize,
}

impl Book {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            traces: VecDeque::new(),
            numbers: HashMap::default(),
            next: 0,
            entries: 0,
            traces_max: limits.recent_traces_max,
            entries_max: limits.recent_tasks_max,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.traces.len()
    }

    pub(super) const fn entries(&self) -> usize {
        self.entries
    }

    pub(super) const fn traces_max(&self) -> usize {
        self.traces_max
    }

    /// Those with a smaller number than `before`, the newest first.
    pub(super) fn newest(&self, before: Option<u64>) -> Vec<Arc<Trace>> {
        let count = before.map_or(usize::MAX, |before| self.place(before));
        self.traces.iter().take(count).rev().cloned().collect()
    }

    pub(super) fn trace(&self, id: TraceId) -> Option<Arc<Trace>> {
        let number = self.numbers.get(&id)?;
        self.traces.get(self.place(*number)).cloned()
    }

    /// Where the trace of that number stands.
    fn place(&self, number: u64) -> usize {
        let first = self.next - self.traces.len() as u64;
        usize::try_from(number.saturating_sub(first)).unwrap_or(usize::MAX)
    }

    pub(super) fn published(&mut self, publication: &Arc<Publication>) {
        let task = || Message::sent(publication);
        let key = publication.task.key;
        let (context, at) = (publication.judgement.context, publication.at);
        self.take_up(context, key, at, task, |task, room| {
            task.published(publication, room)
        });
    }

    pub(super) fn delivered(&mut self, delivery: &Arc<Delivery>) {
        let task = || Message::taken(delivery);
        let key = delivery.task.key;
        let (context, at) = (delivery.judgement.context, delivery.at);
        let first = delivery.sent.unwrap_or(at).min(at);
        self.take_up(context, key, first, task, |task, room| {
            task.delivered(delivery, room)
        });
    }

    /// Adds to a task, which is a new one where there is none with that key.
    fn take_up(
        &mut self,
        context: TraceContext,
        key: TaskKey,
        at: Timestamp,
        first: impl FnOnce() -> Message,
        add: impl FnOnce(&mut Task, Room) -> Room,
    ) {
        let number = *self.numbers.entry(context.trace_id).or_insert(self.next);
        if number == self.next {
            self.traces
                .push_back(Arc::new(Trace::new(number, context, at)));
            self.next += 1;
        }
        let place = self.place(number);
        let Some(trace) = self.traces.get_mut(place) else {
            return;
        };
        let trace = Arc::make_mut(trace);
        let has_room = trace.entries < self.entries_max.div_ceil(TRACE_SHARE);
        let place = match trace.tasks.place(key) {
            Some(place) => place,
            None if has_room => trace.tasks.push(Task::new(key, first())),
            None => {
                trace.truncated = true;
                return;
            }
        };
        let Some(task) = trace.tasks.get_mut(place) else {
            return;
        };
        let before = task.entries;
        let room = add(task, if has_room { Room::Left } else { Room::Full });
        trace.truncated |= room == Room::Full;
        trace.started = trace.started.min(at);
        trace.last = trace.last.max(task.last);
        let (added, removed) = (
            task.entries.saturating_sub(before),
            before.saturating_sub(task.entries),
        );
        trace.entries = trace.entries + added - removed;
        self.entries = self.entries + added - removed;
        self.forget_oldest();
    }

    /// What has been forgotten since does not come back by its end.
    pub(super) fn ended(&mut self, leg: &Leg) {
        let (context, task) = match leg {
            Leg::Sent(sent) => (sent.publication.judgement.context, &sent.publication.task),
            Leg::Taken(taken) => (taken.delivery.judgement.context, &taken.delivery.task),
        };
        let Some(number) = self.numbers.get(&context.trace_id) else {
            return;
        };
        let place = self.place(*number);
        let Some(trace) = self.traces.get_mut(place) else {
            return;
        };
        let trace = Arc::make_mut(trace);
        let place = trace.tasks.place(task.key);
        if let Some(task) = place.and_then(|place| trace.tasks.get_mut(place)) {
            task.ended(leg);
            trace.last = trace.last.max(task.last);
        }
    }

    fn forget_oldest(&mut self) {
        while self.traces.len() > self.traces_max || self.entries > self.entries_max {
            let Some(trace) = self.traces.pop_front() else {
                return;
            };
            self.entries -= trace.entries;
            self.numbers.remove(&trace.id);
        }
    }

    /// Whether every list tells of what is held, and of that alone.
    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        let entries = self.traces.iter().map(|trace| trace.entries);
        let entries: usize = entries.sum();
        let is_placed = |(trace, place): (&Arc<Trace>, usize)| {
            let mut tasks = trace.tasks.iter().enumerate();
            self.place(trace.number) == place
                && tasks.all(|(place, task)| {
                    trace.tasks.place(task.key) == Some(place) && task.entries == task.counted()
                })
        };
        self.traces.len() == self.numbers.len()
            && self.traces.len() <= self.traces_max
            && self.entries == entries
            && self.entries <= self.entries_max
            && self.traces.iter().zip(0..).all(is_placed)
    }
}

/// One trace may hold no more than this part of what all of them may.
const TRACE_SHARE: usize = 10;
