//! The way in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;

use crate::config::Limits;
use crate::hop::Answer;
use crate::hop::HopId;
use crate::hop::Leg;
use crate::hop::Publication;
use crate::trace::Timestamp;

/// The way in: a publication, and what became of it.
#[derive(Debug, PartialEq)]
pub struct Sent {
    pub publication: Arc<Publication>,
    pub answer: Answer,
    pub ended: Timestamp,
}

/// The publications that wait for their answer.
#[derive(Debug)]
pub(super) struct OpenSent {
    open: HashMap<HopId, Arc<Publication>>,
    /// In the order in which they were opened; those that have ended are dropped from it
    /// when one is looked for that has not, or when they are most of it.
    order: VecDeque<HopId>,
    open_max: usize,
    age_max: Duration,
}

impl OpenSent {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            open: HashMap::default(),
            order: VecDeque::new(),
            open_max: limits.open_hops_max,
            age_max: limits.open_hop_age_max,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// Whether the order does not outgrow what is open.
    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        self.order.len() <= 2 * self.open.len() + ORDER_SLACK
    }

    pub(super) fn open(&mut self, publication: Arc<Publication>, ended: &mut Vec<Leg>) {
        let at = publication.at;
        self.order.push_back(publication.hop);
        self.open.insert(publication.hop, publication);
        while self.open.len() > self.open_max {
            self.end_oldest(at, ended);
        }
    }

    pub(super) fn end(&mut self, hop: HopId, at: Timestamp, answer: Answer, ended: &mut Vec<Leg>) {
        if let Some(publication) = self.open.remove(&hop) {
            ended.push(Leg::Sent(Sent {
                publication,
                answer,
                ended: at,
            }));
        }
        if self.order.len() > 2 * self.open.len() + ORDER_SLACK {
            self.order.retain(|hop| self.open.contains_key(hop));
        }
    }

    pub(super) fn expire(&mut self, now: Timestamp, ended: &mut Vec<Leg>) {
        while let Some(oldest) = self.order.front() {
            if let Some(publication) = self.open.get(oldest)
                && now.since(publication.at) <= self.age_max
            {
                return;
            }
            self.end_oldest(now, ended);
        }
    }

    pub(super) fn close(&mut self, now: Timestamp, ended: &mut Vec<Leg>) {
        while !self.open.is_empty() {
            self.end_oldest(now, ended);
        }
    }

    fn end_oldest(&mut self, now: Timestamp, ended: &mut Vec<Leg>) {
        if let Some(publication) = self
            .order
            .pop_front()
            .and_then(|oldest| self.open.remove(&oldest))
        {
            ended.push(Leg::Sent(Sent {
                publication,
                answer: Answer::Expired,
                ended: now,
            }));
        }
    }
}

/// Below this it is not worth looking for hops that have ended.
const ORDER_SLACK: usize = 1024;
