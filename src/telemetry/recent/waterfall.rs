//! One trace with all its tasks, in the order in which they follow from each other.

use std::collections::HashMap;

use serde::Serialize;

use crate::telemetry::millis::Millis;
use crate::telemetry::recent::trace::Status;
use crate::telemetry::recent::trace::Task;
use crate::telemetry::recent::trace::Trace;
use crate::trace::Timestamp;
use crate::trace::TraceId;

/// A trace to be drawn.
#[derive(Debug, Serialize)]
pub struct Waterfall {
    trace_id: TraceId,
    started_at: Timestamp,
    last_at: Timestamp,
    duration_ms: Millis,
    state: Status,
    sampled: bool,
    truncated: bool,
    tasks: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    task: Task,
    depth: usize,
    state: Status,
}

impl Waterfall {
    pub(super) fn of(trace: &Trace) -> Self {
        let rows = in_order(&trace.tasks).into_iter().map(|(place, depth)| {
            let task = trace.tasks[place].clone();
            let state = task.status();
            Row { task, depth, state }
        });
        Self {
            trace_id: trace.id,
            started_at: trace.started,
            last_at: trace.last,
            duration_ms: Millis(trace.last.since(trace.started)),
            state: trace.status(),
            sampled: trace.sampled,
            truncated: trace.truncated,
            tasks: rows.collect(),
        }
    }
}

/// The places of the tasks, parents before their children, and by time; with how many are
/// above each. Tasks that are each other's parents begin with the first of them.
fn in_order(tasks: &[Task]) -> Vec<(usize, usize)> {
    let places: HashMap<&str, usize> = (0..).zip(tasks).map(|(n, task)| (task.id(), n)).collect();
    let mut children = vec![Vec::new(); tasks.len()];
    let mut by_time: Vec<usize> = (0..tasks.len()).collect();
    by_time.sort_by_key(|place| tasks[*place].first);
    let mut roots = Vec::new();
    for place in &by_time {
        let parent = tasks[*place].parent();
        match parent.and_then(|id| places.get(&id)) {
            Some(parent) => children[*parent].push(*place),
            None => roots.push(*place),
        }
    }
    // Whatever a root does not lead to is part of a circle, and follows.
    let mut to_do: Vec<(usize, usize)> = Vec::new();
    let mut is_done = vec![false; tasks.len()];
    let mut order = Vec::with_capacity(tasks.len());
    for root in roots.into_iter().chain(by_time) {
        to_do.push((root, 0));
        while let Some((place, depth)) = to_do.pop() {
            if std::mem::replace(&mut is_done[place], true) {
                continue;
            }
            order.push((place, depth));
            let below = children[place].iter().rev();
            to_do.extend(below.map(|child| (*child, depth + 1)));
        }
    }
    order
}
