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
