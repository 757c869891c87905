//! What one session keeps, and who pays for it.

use std::sync::Arc;

use crate::protocol::HoldBudget;
use crate::protocol::hold::Reservation;

/// What a session keeps of what its peers have sent: what waits for an answer, what it has been
/// told, bytes of which the end is missing. A small share is free; the rest is a part of the
/// budget of all sessions.
#[derive(Debug, Default)]
pub(super) struct Account {
    reservation: Option<Reservation>,
}

impl Account {
    /// Pays for `bytes` in all. `false`: there is no room for that, and nothing is paid.
    pub(super) fn pay(&mut self, bytes: usize, budget: &Arc<HoldBudget>) -> bool {
        let due = bytes
            .saturating_sub(FREE_BYTES)
            .next_multiple_of(STEP_BYTES);
        let paid = self.reservation.as_ref().map_or(0, Reservation::bytes);
        if due == paid {
            return true;
        }
        if due > paid
            && let Some(reservation) = &mut self.reservation
        {
            let is_paid = reservation.grow(due);
            if !is_paid {
                self.reservation = None;
            }
            return is_paid;
        }
        // Less is always to be had, and nothing costs nothing.
        self.reservation = None;
        if due > 0 {
            self.reservation = budget.reserve(due);
        }
        due == 0 || self.reservation.is_some()
    }

    /// The session ends.
    pub(super) fn close(&mut self) {
        self.reservation = None;
    }
}

/// What every session may keep, however little is left for all.
pub(super) const FREE_BYTES: usize = 16 << 10;
/// So that the budget, which all sessions share, is seldom touched.
const STEP_BYTES: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_a_free_share_what_is_kept_is_paid_for_and_paid_back() {
        let budget = HoldBudget::new(10 << 10);
        let (mut first, mut second) = (Account::default(), Account::default());
        for (bytes, is_paid, held) in [
            (FREE_BYTES, true, 0),
            (FREE_BYTES + 1, true, STEP_BYTES),
            (FREE_BYTES + STEP_BYTES, true, STEP_BYTES),
            (FREE_BYTES + STEP_BYTES + 1, true, 2 * STEP_BYTES),
            (FREE_BYTES + 2 * STEP_BYTES + 1, false, 0),
            (FREE_BYTES + 2 * STEP_BYTES, true, 2 * STEP_BYTES),
            (FREE_BYTES + 1, true, STEP_BYTES),
        ] {
            assert_eq!(first.pay(bytes, &budget), is_paid, "{bytes}");
            assert_eq!(budget.held(), held, "{bytes}");
        }
        assert!(second.pay(FREE_BYTES + STEP_BYTES, &budget));
        assert!(!first.pay(FREE_BYTES + 2 * STEP_BYTES, &budget));
        second.close();
        assert!(first.pay(FREE_BYTES, &budget));
        assert_eq!(budget.held(), 0);
    }
}
