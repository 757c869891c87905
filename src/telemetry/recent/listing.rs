//! The list of traces: one line for each, with how it stands.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::telemetry::millis::Millis;
use crate::telemetry::recent::trace::Attempt;
use crate::telemetry::recent::trace::Status;
use crate::telemetry::recent::trace::Task;
use crate::telemetry::recent::trace::Trace;
use crate::trace::Timestamp;
use crate::trace::TraceId;

/// Which traces are wanted: those that all of it holds of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The beginning of the trace's id or of a task's, or a part of a task's name, in any
    /// case.
    pub search: Option<String>,
    /// The name of a task.
    pub task: Option<String>,
    pub queue: Option<String>,
    pub system: Option<String>,
    pub status: Option<Status>,
    pub duration_min: Duration,
}

impl Filter {
    fn admits(&self, trace: &Trace) -> bool {
        let any_task = |is: &dyn Fn(&Task) -> bool| trace.tasks.iter().any(is);
        let any_attempt =
            |is: &dyn Fn(&Attempt) -> bool| any_task(&|task| task.attempts.iter().any(is));
        let holds =
            |wanted: &Option<String>, is: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(is);
        trace.last.since(trace.started) >= self.duration_min
            && self.status.is_none_or(|status| trace.status() == status)
            && holds(&self.task, &|name| any_task(&|task| task.name() == name))
            && holds(&self.queue, &|name| {
                any_attempt(&|attempt| attempt.queue() == name)
            })
            && holds(&self.system, &|name| {
                any_attempt(&|attempt| attempt.system() == name)
            })
            && holds(&self.search, &|text| {
                let text = text.to_lowercase();
                trace.id.to_string().starts_with(&text)
                    || any_task(&|task| {
                        task.id().to_lowercase().starts_with(&text)
                            || task.name().to_lowercase().contains(&text)
                    })
            })
    }
}

/// A page of the list.
#[derive(Debug, Serialize)]
pub struct Listing {
    traces: Vec<Summary>,
    /// What to ask for the next page with; `None` where there is none.
    next: Option<String>,
    held: usize,
    held_max: usize,
}

impl Listing {
    pub(super) fn of(
        traces: &[Arc<Trace>],
        filter: &Filter,
        limit: usize,
        held: usize,
        held_max: usize,
    ) -> Self {
        let mut wanted = traces
            .iter()
            .filter(|trace| filter.admits(trace))
            .peekable();
        let shown: Vec<&Arc<Trace>> = wanted.by_ref().take(limit).collect();
        let last = shown.last().filter(|_| wanted.peek().is_some());
        Self {
            next: last.map(|trace| trace.number.to_string()),
            traces: shown.into_iter().map(|trace| Summary::of(trace)).collect(),
            held,
            held_max,
        }
    }
}

/// One trace in the list.
#[derive(Debug, Serialize)]
struct Summary {
    trace_id: TraceId,
    started_at: Timestamp,
    last_at: Timestamp,
    duration_ms: Millis,
    root_task: Option<Box<str>>,
    root_task_id: Option<Box<str>>,
    tasks: usize,
    attempts: usize,
    retries: usize,
    errors: usize,
    state: Status,
    /// Without repetitions, [`NAMES_MAX`] of each.
    queues: Vec<Box<str>>,
    systems: Vec<&'static str>,
    sampled: bool,
}

impl Summary {
    fn of(trace: &Trace) -> Self {
        let root = trace.root();
        let text = |text: &str| (!text.is_empty()).then(|| text.into());
        let mut summary = Self {
            trace_id: trace.id,
            started_at: trace.started,
            last_at: trace.last,
            duration_ms: Millis(trace.last.since(trace.started)),
            root_task: root.and_then(|task| text(task.name())),
            root_task_id: root.and_then(|task| text(task.id())),
            tasks: trace.tasks.len(),
            attempts: 0,
            retries: 0,
            errors: 0,
            state: trace.status(),
            queues: Vec::new(),
            systems: Vec::new(),
            sampled: trace.sampled,
        };
        for attempt in trace.tasks.iter().flat_map(|task| &task.attempts) {
            summary.attempts += 1;
            summary.retries += usize::from(attempt.is_retry());
            summary.errors += attempt.errors();
            let (system, queue) = (attempt.system(), attempt.queue());
            if !summary.systems.contains(&system) {
                summary.systems.push(system);
            }
            let is_new = summary.queues.iter().all(|known| **known != *queue);
            if is_new && summary.queues.len() < NAMES_MAX {
                summary.queues.push(queue.into());
            }
        }
        summary
    }
}

const NAMES_MAX: usize = 20;
