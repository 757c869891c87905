//! Hops as they come to their end, for whoever listens.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::hop::Ends;
use crate::hop::Leg;
use crate::hop::Origin;
use crate::hop::Quality;
use crate::hop::Sent;
use crate::hop::Taken;
use crate::hop::TaskState;
use crate::hop::Verdict;
use crate::telemetry::finding::Producer;
use crate::telemetry::finding::worker;
use crate::telemetry::labels::cut;
use crate::telemetry::millis::Millis;
use crate::trace::Timestamp;
use crate::trace::TraceId;

/// Where hops are heard of. Cheap to clone.
///
/// Whoever does not keep up misses the oldest ones; nobody waits for a listener.
#[derive(Clone, Debug)]
pub struct Live {
    hops: broadcast::Sender<Arc<Hop>>,
    places: Arc<Semaphore>,
}

impl Live {
    pub(super) fn new() -> Self {
        Self {
            hops: broadcast::Sender::new(MISSABLE_MAX),
            places: Arc::new(Semaphore::new(LISTENERS_MAX)),
        }
    }

    /// Tells those who listen of legs.
    pub(super) fn ended(&self, legs: &[Leg]) {
        if self.hops.receiver_count() > 0 {
            for hop in legs.iter().flat_map(Hop::of) {
                // Whoever listened a moment ago may be gone.
                let _ = self.hops.send(Arc::new(hop));
            }
        }
    }

    /// Hears of hops from now on; `None` where [`LISTENERS_MAX`] do so already.
    #[must_use]
    pub fn listen(&self, filter: Filter) -> Option<Listener> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Listener {
            hops: self.hops.subscribe(),
            filter,
            _place: place,
        })
    }
}

/// Hears of hops until it is dropped.
#[derive(Debug)]
pub struct Listener {
    hops: broadcast::Receiver<Arc<Hop>>,
    filter: Filter,
    _place: OwnedSemaphorePermit,
}

/// Which hops somebody wants to hear of: those that all of it holds of.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub task: Option<String>,
    pub queue: Option<String>,
    pub system: Option<String>,
    /// Something went wrong with it.
    pub errors: bool,
}

impl Filter {
    fn admits(&self, hop: &Hop) -> bool {
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == name)
        };
        is(&self.task, &hop.task)
            && is(&self.queue, &hop.queue)
            && is(&self.system, hop.system)
            && (!self.errors || hop.error.is_some())
    }
}

/// What a listener hears.
#[derive(Debug)]
pub enum Heard {
    Hop(Arc<Hop>),
    /// So many hops were missed.
    Missed(u64),
}

impl Listener {
    /// The next thing; `None` when there will be nothing more.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            match self.hops.recv().await {
                Ok(hop) if self.filter.admits(&hop) => return Some(Heard::Hop(hop)),
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => return Some(Heard::Missed(count)),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// One leg that has come to its end, or the run of its task.
#[derive(Debug, Serialize)]
pub struct Hop {
    at: Timestamp,
    trace_id: TraceId,
    task: Box<str>,
    task_id: Box<str>,
    retries: u32,
    queue: Box<str>,
    system: &'static str,
    dwell_ms: Option<Millis>,
    run_ms: Option<Millis>,
    state: Option<TaskState>,
    verdict: Verdict,
    quality: Quality,
    origin: Origin,
    error: Option<Box<str>>,
    #[serde(flatten)]
    end: End,
}

/// What only one of the legs has.
#[derive(Debug, Serialize)]
#[serde(tag = "leg", rename_all = "snake_case")]
enum End {
    Send {
        producer: Box<str>,
        answer: &'static str,
    },
    Receive {
        worker: Box<str>,
        settlement: &'static str,
    },
    Process {
        worker: Box<str>,
    },
}

impl Hop {
    fn of(leg: &Leg) -> impl Iterator<Item = Self> {
        let hops = match leg {
            Leg::Sent(sent) => [Some(Self::of_sent(sent)), None],
            Leg::Taken(taken) => {
                let Ends {
                    receive, process, ..
                } = taken.ended;
                [
                    receive.then(|| Self::of_receive(taken)),
                    process.then(|| Self::of_process(taken)),
                ]
            }
        };
        hops.into_iter().flatten()
    }

    fn of_sent(sent: &Sent) -> Self {
        let publication = &sent.publication;
        let (task, judgement) = (&publication.task, &publication.judgement);
        Self {
            at: sent.ended,
            trace_id: judgement.context.trace_id,
            task: shown(task.name()),
            task_id: shown(task.id()),
            retries: task.retries,
            queue: shown(&publication.destination),
            system: publication.system,
            dwell_ms: None,
            run_ms: None,
            state: None,
            verdict: judgement.verdict,
            quality: judgement.quality,
            origin: judgement.origin,
            error: sent.answer.error().map(|(_, words)| shown(words)),
            end: End::Send {
                producer: shown(Producer::of_publication(publication).name()),
                answer: sent.answer.word(),
            },
        }
    }

    fn of_receive(taken: &Taken) -> Self {
        let delivery = &taken.delivery;
        let (task, judgement) = (&delivery.task, &delivery.judgement);
        Self {
            at: taken.settled.map_or(delivery.at, |(_, at)| at),
            trace_id: judgement.context.trace_id,
            task: shown(task.name()),
            task_id: shown(task.id()),
            retries: task.retries,
            queue: shown(&delivery.destination),
            system: delivery.system,
            dwell_ms: delivery.dwell().map(Millis),
            run_ms: None,
            state: None,
            verdict: judgement.verdict,
            quality: judgement.quality,
            origin: judgement.origin,
            error: taken.abandonment().map(|(_, words)| shown(words)),
            end: End::Receive {
                worker: shown(worker(delivery)),
                settlement: taken.settlement(),
            },
        }
    }

    fn of_process(taken: &Taken) -> Self {
        let finished = taken.finished.map(|finish| finish.at);
        let received = Self::of_receive(taken);
        Self {
            at: finished.unwrap_or(received.at),
            dwell_ms: None,
            run_ms: taken.ran().map(Millis),
            state: taken.finished.and_then(|finish| finish.state),
            error: taken.error().map(|(_, words)| shown(words)),
            end: End::Process {
                worker: shown(worker(&taken.delivery)),
            },
            ..received
        }
    }
}

fn shown(text: &str) -> Box<str> {
    cut(text).into()
}

/// How many may listen at a time.
const LISTENERS_MAX: usize = 16;
/// How many hops a listener may be behind before it misses some.
const MISSABLE_MAX: usize = 1_024;
