//! The queue between sessions and what reads their sightings.

use std::mem;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::Notify;

use crate::hop::Sighting;
use crate::telemetry::metrics::Metrics;

/// Where sessions leave their sightings. Cheap to clone; never waits for a reader.
#[derive(Clone, Debug)]
pub struct Sightings {
    waiting: Arc<Waiting>,
    metrics: Arc<Metrics>,
}

/// Where they are taken from. Nothing is taken any more once this is dropped.
#[derive(Debug)]
pub struct Queue {
    waiting: Arc<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    list: Mutex<List>,
    /// The list is no longer empty, or no longer open.
    changed: Notify,
    max: usize,
}

/// Locked for as long as it takes to move what a session has seen at one go, or to swap.
#[derive(Debug)]
struct List {
    sightings: Vec<Sighting>,
    is_open: bool,
}

impl Sightings {
    /// A queue of at most `sightings_max`, and its other end.
    #[must_use]
    pub fn queue(sightings_max: usize, metrics: Arc<Metrics>) -> (Self, Queue) {
        let waiting = Arc::new(Waiting {
            list: Mutex::new(List {
                sightings: Vec::new(),
                is_open: true,
            }),
            changed: Notify::new(),
            max: sightings_max.max(1),
        });
        let queue = Queue {
            waiting: Arc::clone(&waiting),
        };
        (Self { waiting, metrics }, queue)
    }

    /// Takes what was seen, in order, and leaves the list empty. Full queue: dropped and
    /// counted.
    pub fn record(&self, seen: &mut Vec<Sighting>) {
        let mut list = self.waiting.list();
        let room = match list.is_open {
            true => self.waiting.max - list.sightings.len(),
            false => 0,
        };
        let taken = room.min(seen.len());
        let is_first = list.sightings.is_empty() && taken > 0;
        list.sightings.extend(seen.drain(..taken));
        drop(list);
        if is_first {
            self.waiting.changed.notify_one();
        }
        if !seen.is_empty() {
            self.metrics.sightings_dropped.inc_by(seen.len() as u64);
            seen.clear();
        }
    }
}

impl Queue {
    /// Waits until there are sightings, and moves all of them into `seen`, which is empty.
    /// `false`: there are none, and no more will come.
    pub async fn take(&self, seen: &mut Vec<Sighting>) -> bool {
        loop {
            if self.try_take(seen) {
                return true;
            }
            if self.is_closed() {
                return false;
            }
            self.waiting.changed.notified().await;
        }
    }

    /// The same without waiting. `false`: there are none at the moment.
    pub fn try_take(&self, seen: &mut Vec<Sighting>) -> bool {
        mem::swap(&mut self.waiting.list().sightings, seen);
        !seen.is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.list().sightings.len()
    }

    /// Takes no more; what is there can still be had.
    pub(super) fn close(&self) {
        self.waiting.list().is_open = false;
        self.waiting.changed.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        !self.waiting.list().is_open
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.close();
    }
}

impl Waiting {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
