//! Contexts remembered by the ids of the tasks that carried them.

use std::time::Duration;

use quick_cache::sync::Cache;

use crate::trace::SpanId;
use crate::trace::Timestamp;
use crate::trace::TraceFlags;
use crate::trace::TraceId;
use crate::trace::key_of;

/// The contexts of the tasks seen last, bounded in count and in age.
///
/// Shared by all sessions: a worker publishes on other connections than it consumes on.
#[derive(Debug)]
pub(super) struct Memory {
    contexts: Cache<Key, Remembered>,
    age_max: Duration,
}

/// A task that was seen passing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) trace_id: TraceId,
    pub(super) flags: TraceFlags,
    /// The span of the hop by which it was seen first.
    pub(super) hop: SpanId,
    /// The parent of that span.
    pub(super) parent: Option<SpanId>,
    /// The span that whatever the task sends is a child of.
    pub(super) cause: SpanId,
    pub(super) attempt: Attempt,
    /// When it was seen first.
    pub(super) at: Timestamp,
    /// That was on its way in.
    pub(super) is_published: bool,
    /// It was seen on its way out.
    pub(super) is_delivered: bool,
}

/// What tells one attempt of a task from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) retries: u32,
    pub(super) replaced: u32,
}

/// What a context is remembered by. Task ids and group ids are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Task([u8; 16]),
    Group([u8; 16]),
}

impl Key {
    pub(super) fn task(id: &str) -> Self {
        Self::Task(key_of(id))
    }

    pub(super) fn group(id: &str) -> Self {
        Self::Group(key_of(id))
    }
}

impl Memory {
    pub(super) fn new(count_max: usize, age_max: Duration) -> Self {
        Self {
            contexts: Cache::new(count_max),
            age_max,
        }
    }

    pub(super) fn remember(&self, key: Key, seen: Remembered) {
        self.contexts.insert(key, seen);
    }

    pub(super) fn recall(&self, key: Key, now: Timestamp) -> Option<Remembered> {
        self.contexts
            .get(&key)
            .filter(|seen| now.since(seen.at) <= self.age_max)
    }
}
