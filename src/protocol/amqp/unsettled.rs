//! Deliveries of task messages that the client has yet to settle.

use std::collections::BTreeMap;

use crate::hop::Settlement;
use crate::protocol::amqp::method::Tags;

/// What has become of deliveries, and how many of a connection still wait for that.
#[derive(Debug, Default)]
pub(super) struct Settlements {
    told: Vec<(u64, Settlement)>,
    waiting: usize,
}

/// The deliveries that wait on one channel: the number of each, by its delivery tag.
#[derive(Debug, Default)]
pub(super) struct Unsettled(BTreeMap<u64, u64>);

impl Settlements {
    /// What has become of deliveries since this was asked last.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (u64, Settlement)> + '_ {
        self.told.drain(..)
    }

    pub(super) const fn waiting_count(&self) -> usize {
        self.waiting
    }

    fn leave(&mut self, count: usize) {
        self.waiting = self.waiting.saturating_sub(count);
    }
}

impl Unsettled {
    pub(super) fn delivered(&mut self, tag: u64, number: u64, settlements: &mut Settlements) {
        let before = self.0.insert(tag, number);
        settlements.waiting += usize::from(before.is_none());
    }

    /// The client has settled some. Inside a transaction that counts from when it is said,
    /// not from the commit.
    pub(super) fn settle(
        &mut self,
        tags: Tags,
        settlement: Settlement,
        settlements: &mut Settlements,
    ) {
        for (_, number) in tags.take_from(&mut self.0) {
            settlements.leave(1);
            settlements.told.push((number, settlement));
        }
    }

    /// This is what is told of all that wait.
    pub(super) fn settle_all(&mut self, settlement: Settlement, settlements: &mut Settlements) {
        let all = Tags {
            tag: 0,
            multiple: true,
        };
        self.settle(all, settlement, settlements);
    }

    /// The number of the one that waits longest.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.0.values().next().copied()
    }

    pub(super) fn forget_oldest(&mut self, settlements: &mut Settlements) {
        settlements.leave(usize::from(self.0.pop_first().is_some()));
    }

    /// Nothing will be known of those that wait.
    pub(super) fn forget(&mut self, settlements: &mut Settlements) {
        settlements.leave(self.0.len());
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_TO: fn(u64) -> Tags = |tag| Tags {
        tag,
        multiple: true,
    };

    /// The deliveries 10 to 15, with the tags 1 to 6, and what is told of them.
    fn told(act: impl FnOnce(&mut Unsettled, &mut Settlements)) -> Vec<(u64, Settlement)> {
        let (mut unsettled, mut settlements) = (Unsettled::default(), Settlements::default());
        for tag in 1..=6 {
            unsettled.delivered(tag, 9 + tag, &mut settlements);
        }
        act(&mut unsettled, &mut settlements);
        assert_eq!(settlements.waiting_count(), unsettled.0.len());
        settlements.take().collect()
    }

    #[test]
    fn one_delivery_is_settled_or_all_up_to_it() {
        use Settlement::Acknowledged;
        use Settlement::Rejected;
        use Settlement::Requeued;
        let told = told(|unsettled, settlements| {
            unsettled.settle(Tags::one(2), Acknowledged, settlements);
            unsettled.settle(ALL_TO(3), Rejected, settlements);
            unsettled.settle(Tags::one(3), Acknowledged, settlements);
            // Alone, it stands for nothing.
            unsettled.settle(Tags::one(0), Acknowledged, settlements);
            unsettled.settle(Tags::one(5), Requeued, settlements);
            unsettled.settle(ALL_TO(0), Acknowledged, settlements);
        });
        let expected = [
            (11, Acknowledged),
            (10, Rejected),
            (12, Rejected),
            (14, Requeued),
            (13, Acknowledged),
            (15, Acknowledged),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_forgotten_is_not_told_of() {
        let told = told(|unsettled, settlements| {
            assert_eq!(unsettled.oldest(), Some(10));
            unsettled.forget_oldest(settlements);
            assert_eq!(unsettled.oldest(), Some(11));
            // A tag that comes again, though it may not.
            unsettled.delivered(2, 20, settlements);
            unsettled.settle(ALL_TO(2), Settlement::Acknowledged, settlements);
            unsettled.forget(settlements);
            unsettled.settle_all(Settlement::Abandoned, settlements);
        });
        assert_eq!(told, [(20, Settlement::Acknowledged)]);
    }
}
