//! What is to be known of the proxy's own state that metrics have no place for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use serde::Serialize;

use crate::hop::Sighting;
use crate::telemetry::labels::cut;
use crate::trace::Timestamp;

/// What was not read, by route and reason, and how the last exports went. Cheap to clone:
/// all of them are one.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    blind_sessions: Unread,
    left_alone: Unread,
    last_success_at: Option<Timestamp>,
    last_failure: Option<Failure>,
}

/// Routes and reasons are few.
type Unread = BTreeMap<(Arc<str>, &'static str), u64>;

/// How often something on a route was not read for a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    pub route: Arc<str>,
    pub reason: &'static str,
    pub count: u64,
}

/// An export that has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub at: Timestamp,
    pub message: String,
}

impl Health {
    pub(super) fn saw(&self, sighting: &Sighting) {
        let (unread, connection, why): (fn(&mut Book) -> &mut Unread, _, _) = match sighting {
            Sighting::LostSight { connection, why } => {
                (|book| &mut book.blind_sessions, connection, why)
            }
            Sighting::LeftAlone { connection, why } => {
                (|book| &mut book.left_alone, connection, why)
            }
            _ => return,
        };
        let kind = (Arc::clone(&connection.route), *why);
        *unread(&mut self.book()).entry(kind).or_default() += 1;
    }

    pub(super) fn exported(&self, at: Timestamp) {
        self.book().last_success_at = Some(at);
    }

    pub(super) fn failed(&self, at: Timestamp, message: &str) {
        let message = cut(message).to_owned();
        self.book().last_failure = Some(Failure { at, message });
    }

    /// Sessions that are not read any further.
    #[must_use]
    pub fn blind_sessions(&self) -> Vec<Count> {
        counts(&self.book().blind_sessions)
    }

    /// Messages that passed unedited although they may have been Celery's.
    #[must_use]
    pub fn left_alone(&self) -> Vec<Count> {
        counts(&self.book().left_alone)
    }

    /// When the last batch of spans went out, and which was the last that did not.
    #[must_use]
    pub fn exports(&self) -> (Option<Timestamp>, Option<Failure>) {
        let book = self.book();
        (book.last_success_at, book.last_failure.clone())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn counts(unread: &Unread) -> Vec<Count> {
    let counts = unread.iter().map(|((route, reason), count)| Count {
        route: Arc::clone(route),
        reason,
        count: *count,
    });
    counts.collect()
}
