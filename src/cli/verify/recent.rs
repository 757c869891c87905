//! Traces out of the memory of a running tracehop. It knows hops, and no spans of others.

use serde::Deserialize;

use crate::cli::verify::trace::Chain;
use crate::cli::verify::trace::Link;

/// What `/api/traces` answers.
#[derive(Debug, Deserialize)]
pub(super) struct List {
    pub(super) traces: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) trace_id: String,
}

/// What `/api/traces/{trace_id}` answers.
#[derive(Debug, Deserialize)]
pub(super) struct Trace {
    tasks: Vec<Task>,
}

#[derive(Debug, Deserialize)]
struct Task {
    task_id: String,
    task: Option<String>,
    attempts: Vec<Attempt>,
}

#[derive(Debug, Deserialize)]
struct Attempt {
    sent_at: Option<String>,
    queue: Option<String>,
    origin: Option<String>,
    quality: Option<String>,
    verdict: Option<String>,
    invalid_reason: Option<String>,
    error: Option<String>,
    #[serde(default)]
    deliveries: Vec<Delivery>,
}

#[derive(Debug, Deserialize)]
struct Delivery {
    worker: Option<String>,
    state: Option<String>,
}

impl Trace {
    /// What is to be said of every attempt, or of those of `task_id` alone.
    pub(super) fn chains(&self, task_id: Option<&str>) -> Vec<Chain> {
        let tasks = self.tasks.iter();
        let tasks = tasks.filter(|task| task_id.is_none_or(|id| task.task_id == id));
        let chain = |task: &Task, attempt: &Attempt| Chain {
            task: task.task.clone().unwrap_or_default(),
            task_id: task.task_id.clone(),
            links: vec![producer(attempt), carried(attempt), delivery(attempt)],
        };
        tasks
            .flat_map(|task| {
                task.attempts
                    .iter()
                    .map(move |attempt| chain(task, attempt))
            })
            .collect()
    }
}

fn producer(attempt: &Attempt) -> Link {
    let origin = attempt.origin.as_deref().unwrap_or("unknown");
    match origin {
        "carried" => Link::joined("its message came with the producer's trace context"),
        "translated" => Link::joined(
            "its message came with the producer's trace context, in another vendor's spelling",
        ),
        "inherited" => Link::joined("it was sent by a task that this tracehop has seen"),
        _ => {
            let quality = attempt.quality.as_deref().unwrap_or("missing");
            let reason = attempt.invalid_reason.as_deref();
            let reason = reason
                .map(|reason| format!(", {reason}"))
                .unwrap_or_default();
            Link::broken(format!(
                "its message came without a usable trace context ({quality}{reason}): whoever \
                 sent it is not instrumented, or sent it outside of any span; instrument it, or \
                 take this hop as the beginning"
            ))
        }
    }
}

fn carried(attempt: &Attempt) -> Link {
    match attempt.verdict.as_deref().unwrap_or("missing") {
        "missing" => Link::broken(
            "it went on without a trace context: policy.mode, policy.on_missing or [rollout] \
             leave it alone",
        ),
        "invalid" => Link::broken(
            "it went on with an invalid trace context: policy.mode, policy.on_invalid or \
             [rollout] leave it alone",
        ),
        verdict => Link::joined(format!("it went on with a valid trace context ({verdict})")),
    }
}

fn delivery(attempt: &Attempt) -> Link {
    let queue = attempt.queue.as_deref().unwrap_or("its queue");
    let Some(delivery) = attempt.deliveries.last() else {
        return Link::broken(match (&attempt.error, &attempt.sent_at) {
            (Some(error), _) => format!("the broker did not take it: {error}"),
            _ => format!(
                "it was not delivered through tracehop: it waits in {queue} (see `tracehop \
                 peek`), or the worker's broker URL does not lead through tracehop"
            ),
        });
    };
    let worker = delivery.worker.as_deref().unwrap_or("a worker");
    let state = delivery.state.as_deref();
    let state = state
        .map(|state| format!(", and {state}"))
        .unwrap_or_default();
    Link::joined(format!("it was delivered to {worker}{state}"))
}
