//! The book of open hops.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

use crate::hop::Answer;
use crate::hop::HopId;
use crate::hop::Publication;
use crate::hop::Sighting;
use crate::trace::Timestamp;

/// A hop that has come to its end.
#[derive(Debug, PartialEq)]
pub struct Hop {
    pub publication: Box<Publication>,
    pub answer: Answer,
    pub ended: Timestamp,
}

/// The open hops, bounded in count and in time. Every hop that was opened ends once.
#[derive(Debug)]
pub struct Ledger {
    open: HashMap<HopId, Box<Publication>>,
    /// The hops in the order in which they were opened; those that have ended are dropped
    /// from it when they come to its front, or when they are most of it.
    order: VecDeque<HopId>,
    open_max: usize,
    age_max: Duration,
}

impl Ledger {
    /// Keeps at most `open_max` hops open, none longer than `age_max`.
    #[must_use]
    pub fn new(open_max: usize, age_max: Duration) -> Self {
        Self {
            open: HashMap::new(),
            order: VecDeque::new(),
            open_max,
            age_max,
        }
    }

    /// Books one sighting; hops that end by it are added to `ended`.
    pub fn book(&mut self, sighting: Sighting, ended: &mut Vec<Hop>) {
        match sighting {
            Sighting::Published(publication) => self.open(publication, ended),
            Sighting::Answered { hop, at, answer } => {
                if let Some(publication) = self.open.remove(&hop) {
                    ended.push(Hop {
                        publication,
                        answer,
                        ended: at,
                    });
                }
            }
            Sighting::Redelivered { .. }
            | Sighting::LeftAlone { .. }
            | Sighting::LostSight { .. } => {}
        }
        self.tidy();
    }

    /// Ends the hops that have been open for too long.
    pub fn expire(&mut self, now: Timestamp, ended: &mut Vec<Hop>) {
        while let Some(oldest) = self.order.front() {
            if let Some(publication) = self.open.get(oldest)
                && now.since(publication.at) <= self.age_max
            {
                return;
            }
            self.end_oldest(now, ended);
        }
    }

    /// How many hops are open.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    fn open(&mut self, publication: Box<Publication>, ended: &mut Vec<Hop>) {
        let at = publication.at;
        self.order.push_back(publication.hop);
        self.open.insert(publication.hop, publication);
        while self.open.len() > self.open_max {
            self.end_oldest(at, ended);
        }
    }

    fn end_oldest(&mut self, now: Timestamp, ended: &mut Vec<Hop>) {
        if let Some(publication) = self
            .order
            .pop_front()
            .and_then(|oldest| self.open.remove(&oldest))
        {
            ended.push(Hop {
                publication,
                answer: Answer::Expired,
                ended: now,
            });
        }
    }

    fn tidy(&mut self) {
        while self
            .order
            .front()
            .is_some_and(|oldest| !self.open.contains_key(oldest))
        {
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.open.len() + ORDER_SLACK {
            self.order.retain(|hop| self.open.contains_key(hop));
        }
    }
}

/// Below this it is not worth looking for hops that have ended behind one that has not.
const ORDER_SLACK: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hop::fixture::publication;

    fn answered(number: u64) -> Sighting {
        Sighting::Answered {
            hop: HopId { session: 1, number },
            at: Timestamp::from_nanos(9),
            answer: Answer::Confirmed,
        }
    }

    #[test]
    fn a_hop_ends_with_its_answer() {
        let mut ledger = Ledger::new(10, Duration::from_secs(1));
        let mut ended = Vec::new();
        ledger.book(Sighting::Published(publication(1, 5)), &mut ended);
        assert_eq!((ledger.open_count(), ended.len()), (1, 0));
        ledger.book(answered(1), &mut ended);
        ledger.book(answered(1), &mut ended);
        assert_eq!((ledger.open_count(), ended.len()), (0, 1));
        assert_eq!(ended[0].answer, Answer::Confirmed);
        assert_eq!(ended[0].ended, Timestamp::from_nanos(9));
    }

    #[test]
    fn a_hop_without_an_answer_ends_when_its_time_is_over() {
        let mut ledger = Ledger::new(10, Duration::from_nanos(3));
        let mut ended = Vec::new();
        ledger.book(Sighting::Published(publication(1, 5)), &mut ended);
        ledger.book(Sighting::Published(publication(2, 6)), &mut ended);
        ledger.expire(Timestamp::from_nanos(8), &mut ended);
        assert_eq!(ended.len(), 0);
        ledger.expire(Timestamp::from_nanos(9), &mut ended);
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].publication.hop.number, 1);
        assert_eq!(ended[0].answer, Answer::Expired);
    }

    proptest! {
        #[test]
        fn every_hop_ends_once_and_memory_is_bounded(
            sightings in prop::collection::vec((any::<bool>(), 0_u64..40), 0..400)
        ) {
            let mut ledger = Ledger::new(8, Duration::from_secs(1));
            let mut ended = Vec::new();
            let mut opened = std::collections::HashSet::new();
            for (is_publication, number) in sightings {
                if is_publication && opened.insert(number) {
                    ledger.book(Sighting::Published(publication(number, number)), &mut ended);
                } else if !is_publication {
                    ledger.book(answered(number), &mut ended);
                }
                prop_assert!(ledger.open_count() <= 8);
                prop_assert!(ledger.order.len() <= 2 * ledger.open.len() + ORDER_SLACK);
            }
            ledger.expire(Timestamp::from_nanos(u64::MAX), &mut ended);
            prop_assert_eq!(ledger.open_count(), 0);
            let mut numbers: Vec<u64> =
                ended.iter().map(|hop| hop.publication.hop.number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            prop_assert_eq!(numbers.len(), ended.len());
            prop_assert_eq!(numbers.len(), opened.len());
        }
    }
}
