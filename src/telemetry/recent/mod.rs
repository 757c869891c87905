//! Recent traces, kept in memory to be looked at: what was seen of each task's way through
//! the broker, sampled or not.

mod book;
mod listing;
mod shown;
mod tasks;
#[cfg(test)]
mod tests;
mod trace;
mod waterfall;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

pub use listing::Filter;
pub use listing::Listing;
pub use trace::Status;
pub use waterfall::Waterfall;

use crate::config::Limits;
use crate::hop::Leg;
use crate::hop::Sighting;
use crate::telemetry::recent::book::Book;
use crate::trace::TraceId;

/// The traces that were seen last. Cheap to clone: all of them are one.
///
/// Whoever reads takes references alone while the book is locked, and does all else
/// afterwards: booking never waits for it.
#[derive(Clone, Debug)]
pub struct RecentTraces(Arc<Mutex<Book>>);

impl RecentTraces {
    pub(super) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Mutex::new(Book::new(limits))))
    }

    /// Takes up legs that begin.
    pub(super) fn saw(&self, sightings: &[Sighting]) {
        let mut book = self.book();
        for sighting in sightings {
            match sighting {
                Sighting::Published(publication) => book.published(publication),
                Sighting::Delivered(delivery) => book.delivered(delivery),
                _ => {}
            }
        }
    }

    /// Takes up how legs have come to their end.
    pub(super) fn ended(&self, legs: &[Leg]) {
        let mut book = self.book();
        for leg in legs {
            book.ended(leg);
        }
    }

    /// How many traces are held.
    #[must_use]
    pub fn count(&self) -> usize {
        self.book().count()
    }

    /// How much is held of all of them together; see [`Limits::recent_tasks_max`].
    #[must_use]
    pub fn entries(&self) -> usize {
        self.book().entries()
    }

    /// Up to `limit` of the traces that the filter admits, the newest first, of those that
    /// are older than `before`.
    #[must_use]
    pub fn list(&self, filter: &Filter, before: Option<u64>, limit: usize) -> Listing {
        let (traces, held_max) = {
            let book = self.book();
            (book.newest(before), book.traces_max())
        };
        Listing::of(&traces, filter, limit, self.count(), held_max)
    }

    /// The tasks of the trace with that id, in hex digits; parents before children.
    #[must_use]
    pub fn waterfall(&self, id: &str) -> Option<Waterfall> {
        let trace = self.book().trace(TraceId::from_hex(id)?)?;
        Some(Waterfall::of(&trace))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
