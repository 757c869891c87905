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
    /// When each of those was written that no answer comes to and that may be returned, in
    /// that order.
    returnable: VecDeque<(Timestamp, HopId)>,
    open_max: usize,
    age_max: Duration,
}

impl OpenSent {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            open: HashMap::default(),
            order: VecDeque::new(),
            returnable: VecDeque::new(),
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
        self.order.len().max(self.returnable.len()) <= 2 * self.open.len() + ORDER_SLACK
    }

    pub(super) fn open(&mut self, publication: Arc<Publication>, ended: &mut Vec<Leg>) {
        let at = publication.at;
        self.order.push_back(publication.hop);
        self.open.insert(publication.hop, publication);
        while self.open.len() > self.open_max {
            self.end_oldest(at, ended);
        }
    }

    /// A publication was answered. Without an answer, one that may be returned stays open for
    /// as long as that takes.
    pub(super) fn answer(
        &mut self,
        hop: HopId,
        at: Timestamp,
        answer: Answer,
        ended: &mut Vec<Leg>,
    ) {
        if answer == Answer::Unanswered && self.open.get(&hop).is_some_and(|sent| sent.mandatory) {
            self.returnable.push_back((at, hop));
        } else {
            self.end(hop, at, answer, ended);
        }
    }

    fn end(&mut self, hop: HopId, at: Timestamp, answer: Answer, ended: &mut Vec<Leg>) {
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
        if self.returnable.len() > 2 * self.open.len() + ORDER_SLACK {
            self.returnable
                .retain(|(_, hop)| self.open.contains_key(hop));
        }
    }

    /// Ends those that were not returned, where they were written before that moment.
    fn end_unreturned(&mut self, before: Timestamp, ended: &mut Vec<Leg>) {
        while let Some((at, hop)) = self.returnable.pop_front_if(|(at, _)| *at < before) {
            self.end(hop, at, Answer::Unanswered, ended);
        }
    }

    pub(super) fn expire(&mut self, now: Timestamp, ended: &mut Vec<Leg>) {
        self.end_unreturned(now.before(RETURN_TIME), ended);
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
        self.end_unreturned(now, ended);
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

/// How long a broker may take to return a message.
const RETURN_TIME: Duration = Duration::from_secs(5);
/// Below this it is not worth looking for hops that have ended.
const ORDER_SLACK: usize = 1024;
