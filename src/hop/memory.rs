//! Contexts remembered by the ids of the tasks that carried them.

use std::array;
use std::hash::BuildHasher;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::hop::Generations;
use crate::hop::Scope;
use crate::trace::SpanId;
use crate::trace::Timestamp;
use crate::trace::TraceFlags;
use crate::trace::TraceId;
use crate::trace::derived_trace_id;

/// The contexts of the tasks seen last, bounded in count and in age. About half as many as may
/// be are remembered for sure.
///
/// Shared by all sessions: a worker publishes on other connections than it consumes on.
#[derive(Debug)]
pub(super) struct Memory {
    shards: [Mutex<Generations<Key, Remembered>>; SHARDS],
    hasher: RandomState,
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
    /// The span in the context that the message carried from there; `None` where it had none.
    pub(super) carried: Option<SpanId>,
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

/// What tells one attempt of a task from another; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attempt {
    pub(super) replaced: u32,
    pub(super) retries: u32,
}

/// What a context is remembered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// An id that no other task has.
    Task(TraceId),
    /// An id that an app chose, which may mean another task elsewhere, or next time.
    ChosenTask([u8; 16]),
    Group(TraceId),
}

impl Key {
    /// `None`: an app chose the id, and it is not known where it means the same.
    pub(super) fn task(id: &str, scope: Scope<'_>) -> Option<Self> {
        match derived_trace_id(id) {
            Some(unique) => Some(Self::Task(unique)),
            None => scope.key(id).map(Self::ChosenTask),
        }
    }

    /// `None`: an app chose the id, which then ties together nothing.
    pub(super) fn group(id: &str) -> Option<Self> {
        derived_trace_id(id).map(Self::Group)
    }

    /// Whether nothing else goes by it.
    pub(super) const fn is_unique(self) -> bool {
        matches!(self, Self::Task(_) | Self::Group(_))
    }
}

impl Memory {
    pub(super) fn new(count_max: usize, age_max: Duration) -> Self {
        Self {
            shards: array::from_fn(|_| Mutex::new(Generations::new(count_max / (2 * SHARDS)))),
            hasher: RandomState::default(),
            age_max,
        }
    }

    pub(super) fn remember(&self, key: Key, seen: Remembered) {
        self.shard(key).insert(key, seen);
    }

    pub(super) fn recall(&self, key: Key, now: Timestamp) -> Option<Remembered> {
        let seen = self.shard(key).with(key, |seen| *seen);
        seen.filter(|seen| now.since(seen.at) <= self.age_max)
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, Generations<Key, Remembered>> {
        let number = self.hasher.hash_one(key) % SHARDS as u64;
        self.shards[number as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many that sessions on different threads hardly ever wait for each other.
const SHARDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::IdSource;

    fn remembered(at: u64) -> Remembered {
        let mut ids = IdSource::seeded(at);
        Remembered {
            trace_id: ids.trace_id(),
            flags: TraceFlags::default(),
            hop: ids.span_id(),
            parent: None,
            carried: None,
            cause: ids.span_id(),
            attempt: Attempt {
                retries: 0,
                replaced: 0,
            },
            at: Timestamp::from_nanos(at),
            is_published: true,
            is_delivered: false,
        }
    }

    fn key(number: u64) -> Key {
        Key::ChosenTask(u128::from(number).to_be_bytes())
    }

    #[test]
    fn of_those_seen_last_about_half_as_many_as_may_be_are_remembered() {
        let memory = Memory::new(1_000, Duration::MAX);
        for number in 0..10_000 {
            memory.remember(key(number), remembered(number));
        }
        let held = memory.shards.each_ref().map(|shard| {
            let shard = shard.lock().unwrap();
            shard.values().count()
        });
        let held: usize = held.iter().sum();
        assert!((400..=1_000).contains(&held), "{held}");
        let now = Timestamp::from_nanos(0);
        let is_held = |number: &u64| memory.recall(key(*number), now) == Some(remembered(*number));
        assert_eq!((9_900..10_000).filter(is_held).count(), 100);
    }

    #[test]
    fn what_is_too_old_is_forgotten() {
        let memory = Memory::new(100, Duration::from_nanos(5));
        memory.remember(key(1), remembered(10));
        let recall = |at| memory.recall(key(1), Timestamp::from_nanos(at));
        assert!(recall(15).is_some());
        assert!(recall(16).is_none());
    }
}
