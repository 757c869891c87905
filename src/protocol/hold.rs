//! The limit on what all sessions hold together.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// The bytes that all sessions together may hold back while a message is incomplete, and keep
/// of what waits for an answer.
#[derive(Debug)]
pub struct HoldBudget {
    held: AtomicUsize,
    max: usize,
}

impl HoldBudget {
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            held: AtomicUsize::new(0),
            max,
        })
    }

    /// The bytes reserved at this moment.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Reserves `bytes`, or nothing when that would go beyond the limit.
    #[must_use]
    pub fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        self.take(bytes).then(|| Reservation {
            budget: Arc::clone(self),
            bytes,
        })
    }

    fn take(&self, bytes: usize) -> bool {
        self.held
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(bytes).filter(|sum| *sum <= self.max)
            })
            .is_ok()
    }
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<HoldBudget>,
    bytes: usize,
}

impl Reservation {
    /// Nothing yet.
    #[must_use]
    pub fn none(budget: &Arc<HoldBudget>) -> Self {
        Self {
            budget: Arc::clone(budget),
            bytes: 0,
        }
    }

    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes it `bytes`, which are there already: it may go beyond the limit, and then nobody
    /// else gets any.
    pub fn set(&mut self, bytes: usize) {
        let held = &self.budget.held;
        if bytes > self.bytes {
            held.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            held.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// Makes it at least `bytes`, or leaves it as it is when that would go beyond the limit.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let taken = self.budget.take(more);
        if taken {
            self.bytes += more;
        }
        taken
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How many bytes to hold next of `whole`, of which `there` have come: what is held is paid
/// for as it comes, so that a length alone costs nothing.
pub(super) const fn held_next(whole: usize, there: usize) -> usize {
    let next = there.saturating_mul(2).saturating_add(HOLD_BYTES_MIN);
    if whole < next { whole } else { next }
}

const HOLD_BYTES_MIN: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_already_is_counted_beyond_the_limit() {
        let budget = HoldBudget::new(10);
        let mut reservation = Reservation::none(&budget);
        reservation.set(12);
        assert_eq!(budget.held(), 12);
        assert!(budget.reserve(0).is_none());
        reservation.set(3);
        assert!(budget.reserve(7).is_some());
    }

    #[test]
    fn what_is_given_back_can_be_had_again() {
        let budget = HoldBudget::new(10);
        let mut six = budget.reserve(6).unwrap();
        assert!(budget.reserve(5).is_none());
        assert_eq!(budget.held(), 6);
        assert!(!six.grow(11));
        assert!(six.grow(9) && six.grow(3));
        assert_eq!(budget.held(), 9);
        drop(six);
        assert!(budget.reserve(10).is_some());
        assert_eq!(budget.held(), 0);
    }
}
