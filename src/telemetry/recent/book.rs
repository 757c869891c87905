//! Which traces are held, and which is forgotten when there are too many.

use std::collections::BTreeMap;
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
    /// By number, which is the order in which they were first seen.
    traces: BTreeMap<u64, Arc<Trace>>,
    numbers: HashMap<TraceId, u64>,
    /// Where a task stands in the trace of that number.
    places: HashMap<(u64, TaskKey), usize>,
    next: u64,
    /// The sum over all traces.
    entries: usize,
    traces_max: usize,
    entries_max: usize,
}

impl Book {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            traces: BTreeMap::new(),
            numbers: HashMap::default(),
            places: HashMap::default(),
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
        let older = self.traces.range(..before.unwrap_or(u64::MAX));
        older.rev().map(|(_, trace)| Arc::clone(trace)).collect()
    }

    pub(super) fn trace(&self, id: TraceId) -> Option<Arc<Trace>> {
        let number = self.numbers.get(&id)?;
        self.traces.get(number).map(Arc::clone)
    }

    pub(super) fn published(&mut self, publication: &Arc<Publication>) {
        let task = || Message::sent(publication);
        let key = TaskKey::of(&publication.task.id);
        let (context, at) = (publication.judgement.context, publication.at);
        self.take_up(context, key, at, task, |task, room| {
            task.published(publication, room)
        });
    }

    pub(super) fn delivered(&mut self, delivery: &Arc<Delivery>) {
        let task = || Message::taken(delivery);
        let key = TaskKey::of(&delivery.task.id);
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
        let trace = self.traces.entry(number).or_insert_with(|| {
            self.next += 1;
            Arc::new(Trace::new(number, context, at))
        });
        let trace = Arc::make_mut(trace);
        let has_room = trace.entries < self.entries_max.div_ceil(TRACE_SHARE);
        let place = self.places.entry((number, key)).or_insert_with(|| {
            if has_room {
                trace.tasks.push(Task::new(key, first()));
                trace.tasks.len() - 1
            } else {
                usize::MAX
            }
        });
        let Some(task) = trace.tasks.get_mut(*place) else {
            self.places.remove(&(number, key));
            trace.truncated = true;
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
        let place = self.places.get(&(*number, TaskKey::of(&task.id)));
        if let (Some(place), Some(trace)) = (place, self.traces.get_mut(number)) {
            let trace = Arc::make_mut(trace);
            if let Some(task) = trace.tasks.get_mut(*place) {
                task.ended(leg);
                trace.last = trace.last.max(task.last);
            }
        }
    }

    fn forget_oldest(&mut self) {
        while self.traces.len() > self.traces_max || self.entries > self.entries_max {
            let Some((number, trace)) = self.traces.pop_first() else {
                return;
            };
            self.entries -= trace.entries;
            self.numbers.remove(&trace.id);
            for task in &trace.tasks {
                self.places.remove(&(number, task.key));
            }
        }
    }

    /// Whether every list tells of what is held, and of that alone.
    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        let tasks: usize = self.traces.values().map(|trace| trace.tasks.len()).sum();
        let entries = self.traces.values().map(|trace| trace.entries);
        let entries: usize = entries.sum();
        let is_placed = |trace: &Arc<Trace>| {
            let mut tasks = trace.tasks.iter().enumerate();
            tasks.all(|(place, task)| {
                self.places.get(&(trace.number, task.key)) == Some(&place)
                    && task.entries == task.counted()
            })
        };
        self.traces.len() == self.numbers.len()
            && self.traces.len() <= self.traces_max
            && self.places.len() == tasks
            && self.entries == entries
            && self.entries <= self.entries_max
            && self.traces.values().all(is_placed)
    }
}

/// One trace may hold no more than this part of what all of them may.
const TRACE_SHARE: usize = 10;
